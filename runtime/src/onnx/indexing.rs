//! Parts of a tensor whose places are numbers of the run.

use lumina_kernels::DType;

use super::builder::Builder;
use super::call::{Call, Value, one};
use super::proto::{Attribute, element};
use crate::ir::Dim;

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    match call.node.op.as_str() {
        "gather" => gather(b, call),
        "dynamic_slice" => {
            let x = &call.inputs[0];
            let sizes = call.shape("slice_sizes")?;
            if sizes.is_empty() {
                return one(x.name.clone());
            }
            let sizes = b.dims(&sizes)?;
            let starts = starts(b, x, &call.inputs[1..], &sizes);
            let ends = b.op("Add", &[&starts, &sizes], vec![]);
            one(b.op("Slice", &[&x.name, &starts, &ends], vec![]))
        }
        "dynamic_update_slice" => {
            let [x, update, starts @ ..] = &call.inputs[..] else {
                return Err("it has no update".into());
            };
            if starts.is_empty() {
                return one(update.name.clone());
            }
            one(updated(b, x, update, starts)?)
        }
        _ => Ok(None),
    }
}

/// Where a part of these sizes starts, i64\[rank\]: it is moved to lie in x.
fn starts(b: &mut Builder<'_>, x: &Value, starts: &[Value], sizes: &str) -> String {
    let parts: Vec<String> = starts
        .iter()
        .map(|start| {
            let wide = b.cast(&start.name, element::INT64);
            b.unsqueeze(&wide, &[0])
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let starts = b.op("Concat", &parts, vec![Attribute::int("axis", 0)]);
    let shape = b.op("Shape", &[&x.name], vec![]);
    let last = b.op("Sub", &[&shape, sizes], vec![]);
    let zero = b.i64(0);
    let starts = b.op("Max", &[&starts, &zero], vec![]);
    b.op("Min", &[&starts, &last], vec![])
}

/// x, where the part that starts there is `update`: both are padded to the shape of x, and one of
/// them is chosen for each element.
fn updated(
    b: &mut Builder<'_>,
    x: &Value,
    update: &Value,
    starts: &[Value],
) -> Result<String, String> {
    let sizes = b.op("Shape", &[&update.name], vec![]);
    let starts = self::starts(b, x, starts, &sizes);
    let shape = b.op("Shape", &[&x.name], vec![]);
    let ends = b.op("Add", &[&starts, &sizes], vec![]);
    let after = b.op("Sub", &[&shape, &ends], vec![]);
    let pads = b.op("Concat", &[&starts, &after], vec![Attribute::int("axis", 0)]);
    let zero = b.number(0.0, update.dtype())?;
    let padded = b.pad(&update.name, &pads, &zero, update.dtype());
    let (one, nothing) = (b.i64(1), b.i64(0));
    let ones = b.op("Expand", &[&one, &sizes], vec![]);
    let mask = b.pad(&ones, &pads, &nothing, DType::I64);
    let mask = b.cast(&mask, element::BOOL);
    let padded = Value { name: padded, ..update.clone() };
    Ok(b.choose(&mask, &padded, x))
}

/// Slices along one axis, as those of an embedding: one number for each index.
fn gather(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let [x, indices, fill] = [&call.inputs[0], &call.inputs[1], &call.inputs[2]];
    let refused =
        || "ONNX gathers along one axis, in whose place it puts those of the indices".to_string();
    let [axis] = call.ints("start_index_map")?[..] else { return Err(refused()) };
    let has_batch = !call.ints("operand_batching_dims")?.is_empty();
    let is_dropped = call.ints("collapsed_slice_dims")? == [axis];
    let sizes = call.shape("slice_sizes")?;
    if has_batch || !is_dropped {
        return Err(refused());
    }
    let lines = indices.rank() as i64 - 1;
    let offsets = call.ints("offset_dims")?;
    let rest = x.rank() as i64 - 1;
    let expected = (0..lines + rest).filter(|out| !(axis..axis + lines).contains(out));
    if !expected.eq(offsets.iter().copied()) {
        return Err(refused());
    }
    let last = b.i64s(&[-1]);
    let numbers = b.op("Squeeze", &[&indices.name, &last], vec![]);
    let numbers = b.cast(&numbers, element::INT64);
    let (zero, most) = (b.i64(0), last_place(b, x, axis as usize));
    let least = b.op("Max", &[&numbers, &zero], vec![]);
    let clipped = b.op("Min", &[&least, &most], vec![]);
    let attributes = vec![Attribute::int("axis", axis)];
    let slices = beginnings(b, x, axis as usize, &sizes)?;
    let found = b.op("Gather", &[&slices, &clipped], attributes);
    if call.text("mode")? == "clip" {
        return one(found);
    }
    let is_inside = b.op("Equal", &[&numbers, &clipped], vec![]);
    let behind: Vec<i64> = (axis + lines..lines + rest).collect();
    // In front of the lines, ONNX adds axes by itself.
    let is_inside =
        b.unsqueeze(&is_inside, &behind.iter().map(|out| out - axis).collect::<Vec<_>>());
    let found = Value { name: found, ..x.clone() };
    one(b.choose(&is_inside, &found, fill))
}

/// The last number along an axis, i64\[\].
fn last_place(b: &mut Builder<'_>, x: &Value, axis: usize) -> String {
    if x.is_exact {
        return b.i64(x.fact.shape[axis] as i64 - 1);
    }
    let extent = b.extent_of(x, axis);
    let (extent, one) = (b.op("Squeeze", &[&extent], vec![]), b.i64(1));
    b.op("Sub", &[&extent, &one], vec![])
}

/// As much of x from its start on as slices have of it along all axes but one.
fn beginnings(
    b: &mut Builder<'_>,
    x: &Value,
    axis: usize,
    sizes: &[Dim],
) -> Result<String, String> {
    let is_whole =
        |&other: &usize| x.is_exact && sizes[other].eval(&[]) == Some(x.fact.shape[other]);
    let axes: Vec<usize> =
        (0..x.rank()).filter(|&other| other != axis).filter(|other| !is_whole(other)).collect();
    if axes.is_empty() {
        return Ok(x.name.clone());
    }
    let ends: Vec<Dim> = axes.iter().map(|&axis| sizes[axis].clone()).collect();
    let (starts, ends) = (b.i64s(&vec![0; axes.len()]), b.dims(&ends)?);
    let axes = b.i64s(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    Ok(b.op("Slice", &[&x.name, &starts, &ends, &axes], vec![]))
}
