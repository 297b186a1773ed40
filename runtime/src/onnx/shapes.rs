//! Ops that place elements elsewhere.

use lumina_kernels::DType;

use super::builder::Builder;
use super::call::{Call, Compact, Value, named, one};
use super::proto::{Attribute, element};
use crate::ir::Dim;

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    match call.node.op.as_str() {
        "broadcast_in_dim" => broadcast(b, call),
        "reshape" => {
            let sizes = call.shape("new_sizes")?;
            let sizes = b.dims(&sizes)?;
            one(b.op("Reshape", &[call.input(0), &sizes], vec![Attribute::int("allowzero", 1)]))
        }
        "squeeze" => {
            let axes = call.ints("dimensions")?;
            if axes.is_empty() {
                return one(call.input(0).to_owned());
            }
            let axes = b.i64s(&axes);
            one(b.op("Squeeze", &[call.input(0), &axes], vec![]))
        }
        "transpose" => one(b.transpose(call.input(0), &call.ints("permutation")?)),
        "slice" => {
            let starts = call.shape("start_indices")?;
            let ends = call.shape("limit_indices")?;
            if starts.is_empty() {
                return one(call.input(0).to_owned());
            }
            let axes: Vec<i64> = (0..starts.len() as i64).collect();
            let (starts, ends) = (b.dims(&starts)?, b.dims(&ends)?);
            let (axes, steps) = (b.i64s(&axes), b.i64s(&call.ints("strides")?));
            one(b.op("Slice", &[call.input(0), &starts, &ends, &axes, &steps], vec![]))
        }
        "rev" => {
            let axes = call.ints("dimensions")?;
            if axes.is_empty() {
                return one(call.input(0).to_owned());
            }
            one(b.reverse(call.input(0), &axes))
        }
        "concatenate" => {
            let parts: Vec<&str> = call.inputs.iter().map(|value| value.name.as_str()).collect();
            let axis = call.int("dimension")?;
            one(b.op("Concat", &parts, vec![Attribute::int("axis", axis)]))
        }
        "split" => {
            let sizes = call.shape("sizes")?;
            let (axis, sizes) = (call.int("axis")?, b.dims(&sizes)?);
            let attributes = vec![Attribute::int("axis", axis)];
            let parts = b.ops("Split", &[call.input(0), &sizes], attributes, call.outputs.len());
            Ok(Some(parts.into_iter().map(named).collect()))
        }
        "pad" => pad(b, call),
        "iota" => iota(b, call),
        "dim_as_value" => {
            let dim = call.shape("dim")?.into_iter().next().ok_or("`dim` is empty")?;
            let value = b.dim(&dim)?;
            let axis = b.i64s(&[0]);
            let scalar = b.op("Squeeze", &[&value, &axis], vec![]);
            let element = call.element()?;
            one(b.cast(&scalar, element))
        }
        _ => Ok(None),
    }
}

/// Axes of extent 1, and then the extents, where they are others.
fn broadcast(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let shape = call.shape("shape")?;
    let x = &call.inputs[0];
    let (mut source, mut axes) = (x.name.clone(), call.ints("broadcast_dimensions")?);
    let mut extents = x.is_exact.then(|| x.fact.shape.clone());
    if let Some(inner) = &x.compact {
        // What repeats a value that repeats another one repeats that.
        axes = inner.axes.iter().map(|&axis| axes[axis as usize]).collect();
        source.clone_from(&inner.source);
        extents.clone_from(&inner.extents);
    }
    let new: Vec<i64> = (0..shape.len() as i64).filter(|axis| !axes.contains(axis)).collect();
    let name = b.unsqueeze(&source, &new);
    if shape.is_empty() {
        return one(name);
    }
    let target = b.dims(&shape)?;
    let wide = b.op("Expand", &[&name, &target], vec![]);
    let compact = Some(Compact { name, source, axes, extents });
    Ok(Some(vec![Value { compact, ..named(wide) }]))
}

fn pad(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    if call.numbers("interior")?.iter().any(|&count| count != 0) {
        return Err("ONNX pads around elements, not between them".into());
    }
    let (low, high) = (call.shape("low")?, call.shape("high")?);
    if low.is_empty() {
        return one(call.input(0).to_owned());
    }
    let both: Vec<Dim> = low.into_iter().chain(high).collect();
    let pads = b.dims(&both)?;
    one(b.pad(call.input(0), &pads, call.input(1), call.outputs[0].dtype))
}

fn iota(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let (shape, dimension) = (call.shape("shape")?, call.int("dimension")?);
    let extent = shape.get(dimension as usize).ok_or("`dimension` is no axis")?;
    let (extent, axis) = (b.dim(extent)?, b.i64s(&[0]));
    let end = b.op("Squeeze", &[&extent, &axis], vec![]);
    let (zero, step) = (b.i64(0), b.i64(1));
    let range = b.op("Range", &[&zero, &end, &step], vec![]);
    let element = call.element()?;
    let mut name = b.cast(&range, element);
    if shape.len() > 1 {
        let others: Vec<i64> = (0..shape.len() as i64).filter(|&axis| axis != dimension).collect();
        name = b.unsqueeze(&name, &others);
        let shape = b.dims(&shape)?;
        name = b.op("Expand", &[&name, &shape], vec![]);
    }
    one(name)
}

impl Builder<'_> {
    /// The axes backwards.
    pub(super) fn reverse(&mut self, name: &str, axes: &[i64]) -> String {
        let all = |number: i64| vec![number; axes.len()];
        let (starts, ends) = (self.i64s(&all(-1)), self.i64s(&all(i64::MIN)));
        let (axes, steps) = (self.i64s(axes), self.i64s(&all(-1)));
        self.op("Slice", &[name, &starts, &ends, &axes, &steps], vec![])
    }

    /// `pads` around, or where they are negative cut off.
    pub(super) fn pad(&mut self, name: &str, pads: &str, value: &str, dtype: DType) -> String {
        if dtype != DType::Bool {
            return self.op("Pad", &[name, pads, value], vec![]);
        }
        let (name, value) = (self.cast(name, element::UINT8), self.cast(value, element::UINT8));
        let padded = self.op("Pad", &[&name, pads, &value], vec![]);
        self.cast(&padded, element::BOOL)
    }
}
