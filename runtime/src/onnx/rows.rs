//! Reductions, and functions of rows.

use lumina_kernels::DType;

use super::builder::Builder;
use super::call::{Call, Compact, Value, named, one};
use super::proto::{Attribute, element};

const REDUCTIONS: &[(&str, &str)] = &[
    ("reduce_max", "ReduceMax"),
    ("reduce_min", "ReduceMin"),
    ("reduce_prod", "ReduceProd"),
    ("reduce_sum", "ReduceSum"),
    // Of truth values, as numbers.
    ("reduce_and", "ReduceMin"),
    ("reduce_or", "ReduceMax"),
];

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let op = call.node.op.as_str();
    let x = call.inputs.first().map_or("", |value| &value.name);
    if let Some((_, onnx)) = REDUCTIONS.iter().find(|(name, _)| *name == op) {
        let axes = call.ints("axes")?;
        if axes.is_empty() {
            return one(x.to_owned());
        }
        let dtype = call.inputs[0].dtype();
        if dtype == DType::Bool {
            let number = b.cast(x, element::INT32);
            let reduced = b.reduce(onnx, &number, &axes, false);
            return one(b.cast(&reduced, element::BOOL));
        }
        if matches!(op, "reduce_and" | "reduce_or") {
            return Err(format!("no op of ONNX combines the bits of {dtype}"));
        }
        return one(b.reduce(onnx, x, &axes, false));
    }
    match op {
        "argmax" | "argmin" => {
            let onnx = if op == "argmax" { "ArgMax" } else { "ArgMin" };
            let [axis] = call.ints("axes")?[..] else { return Err("it must have one axis".into()) };
            let attributes = vec![Attribute::int("axis", axis), Attribute::int("keepdims", 0)];
            let index = b.op(onnx, &[x], attributes);
            let element = call.element()?;
            one(b.cast(&index, element))
        }
        "cumsum" => {
            let axis = b.i64(call.int("axis")?);
            let reverse = Attribute::int("reverse", call.bool("reverse")?.into());
            one(b.op("CumSum", &[x, &axis], vec![reverse]))
        }
        "softmax" => {
            let axis = call.int("axis")?;
            one(b.op("Softmax", &[x], vec![Attribute::int("axis", axis)]))
        }
        "top_k" => {
            let (k, axis) = (b.i64s(&[call.int("k")?]), call.int("axis")?);
            let mut both = b.ops("TopK", &[x, &k], vec![Attribute::int("axis", axis)], 2);
            let indices = b.cast(&both.remove(1), element::INT32);
            Ok(Some(vec![named(both.remove(0)), named(indices)]))
        }
        "sort" => sort(b, call),
        "normalization" => normalization(b, call),
        "causal_softmax" => causal_softmax(b, call),
        _ => Ok(None),
    }
}

/// One operand, or several by the first, which is its own key.
fn sort(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    if call.int("num_keys")? != 1 {
        return Err("ONNX sorts by one key".into());
    }
    let axis = call.int("dimension")?;
    let k = b.extent_of(&call.inputs[0], axis as usize);
    let attributes = vec![Attribute::int("axis", axis), Attribute::int("largest", 0)];
    let sorted = b.ops("TopK", &[call.input(0), &k], attributes, 2);
    let mut results = vec![named(sorted[0].clone())];
    for other in &call.inputs[1..] {
        let attributes = vec![Attribute::int("axis", axis)];
        results.push(named(b.op("GatherElements", &[&other.name, &sorted[1]], attributes)));
    }
    Ok(Some(results))
}

/// LayerNormalization where it is one, else the formula.
fn normalization(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let x = &call.inputs[0];
    let (axes, epsilon) = (call.ints("axes")?, call.float("epsilon")? as f32);
    let center = call.bool("center")?;
    let first = x.rank() as i64 - axes.len() as i64;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    let is_last = sorted.iter().copied().eq(first..x.rank() as i64);
    let is_layer = center && is_last && call.inputs.len() > 1;
    let others: Option<Vec<String>> =
        call.inputs[1..].iter().map(|value| of_row(b, value, first).filter(|_| is_layer)).collect();
    if let Some(others) = others.filter(|_| is_layer) {
        let inputs: Vec<&str> =
            std::iter::once(x.name.as_str()).chain(others.iter().map(String::as_str)).collect();
        let attributes = vec![Attribute::int("axis", first), Attribute::float("epsilon", epsilon)];
        return one(b.op("LayerNormalization", &inputs, attributes));
    }
    let mut centered = x.name.clone();
    if center {
        let mean = b.reduce("ReduceMean", &centered, &axes, true);
        centered = b.op("Sub", &[&centered, &mean], vec![]);
    }
    let squares = b.op("Mul", &[&centered, &centered], vec![]);
    let mean = b.reduce("ReduceMean", &squares, &axes, true);
    let epsilon = b.f32(epsilon);
    let sum = b.op("Add", &[&mean, &epsilon], vec![]);
    let deviation = b.op("Sqrt", &[&sum], vec![]);
    let mut result = b.op("Div", &[&centered, &deviation], vec![]);
    for (other, op) in call.inputs[1..].iter().zip(["Mul", "Add"]) {
        let name = other.compact.as_ref().map_or(&other.name, |compact| &compact.name).clone();
        result = b.op(op, &[&result, &name], vec![]);
    }
    one(result)
}

/// A scale or a bias that is repeated along all axes before `first`, as it is for the axes from there on.
fn of_row(b: &mut Builder<'_>, value: &Value, first: i64) -> Option<String> {
    let Compact { source, axes, extents, .. } = value.compact.as_ref()?;
    if !axes.iter().copied().filter(|&axis| axis >= first).eq(first..value.rank() as i64) {
        return None;
    }
    // Axes before them are there with an extent of 1.
    let repeated: Vec<i64> =
        (0..axes.len() as i64).filter(|&index| axes[index as usize] < first).collect();
    if repeated.is_empty() {
        return Some(source.clone());
    }
    let extents = extents.as_ref()?;
    if repeated.iter().any(|&index| extents[index as usize] != 1) {
        return None;
    }
    let repeated = b.i64s(&repeated);
    Some(b.op("Squeeze", &[source, &repeated], vec![]))
}

/// `softmax(scale·scores)` over the first columns of each row, 0 in the others.
fn causal_softmax(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let (scores, seen) = (&call.inputs[0], &call.inputs[1]);
    let seen = b.unsqueeze(&seen.name, &[1]);
    let scale = b.unsqueeze(call.input(2), &[1]);
    let columns = b.extent_of(scores, 1);
    let scaled = b.op("Mul", &[&scores.name, &scale], vec![]);
    one(b.softmax_of_first(&scaled, &seen, &columns))
}

impl Builder<'_> {
    pub(super) fn reduce(&mut self, op: &str, x: &str, axes: &[i64], keeps: bool) -> String {
        let axes = self.i64s(axes);
        self.op(op, &[x, &axes], vec![Attribute::int("keepdims", keeps.into())])
    }

    /// The softmax along the last axis, whose extent i64\[1\] is `columns`, over as many of its elements
    /// as `seen` says, an i32 for each row; 0 in the others.
    pub(super) fn softmax_of_first(&mut self, scores: &str, seen: &str, columns: &str) -> String {
        let is_seen = self.is_before(seen, columns);
        let hidden = self.f32(f32::NEG_INFINITY);
        let scores = self.op("Where", &[&is_seen, scores, &hidden], vec![]);
        let weights = self.op("Softmax", &[&scores], vec![Attribute::int("axis", -1)]);
        // A row that sees nothing has no sum.
        let zero = self.f32(0.0);
        self.op("Where", &[&is_seen, &weights, &zero], vec![])
    }

    /// Whether an index along a last axis of that extent, i64\[1\], is below an i32 of each row.
    pub(super) fn is_before(&mut self, rows: &str, extent: &str) -> String {
        let (axis, zero, step) = (self.i64s(&[0]), self.i64(0), self.i64(1));
        let end = self.op("Squeeze", &[extent, &axis], vec![]);
        let indices = self.op("Range", &[&zero, &end, &step], vec![]);
        let rows = self.cast(rows, element::INT64);
        self.op("Less", &[&indices, &rows], vec![])
    }
}
