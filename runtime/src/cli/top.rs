//! The largest values of outputs.

use std::cmp::Ordering;

use lumina_runtime::{DType, Port, View, printable};
use serde_json::{Value, json};

use crate::element::{Element, Number};
use crate::npy::index_of;

/// The largest values of one row of an output, the largest first.
pub(crate) struct Row {
    /// Index of the row: that of an element without its last axis.
    index: Vec<usize>,
    best: Vec<(usize, Number)>,
}

/// Refuses outputs whose values have no order.
pub(crate) fn check(ports: &[Port]) -> Result<(), String> {
    let is_complex = |port: &&Port| matches!(port.dtype, DType::C64 | DType::C128);
    match ports.iter().find(is_complex) {
        Some(Port { name, dtype, .. }) => Err(format!(
            "output `{name}` is {}, whose values have no order: leave --top out",
            dtype.numpy_name()
        )),
        None => Ok(()),
    }
}

/// The `k` largest values of each row, or all where there are fewer. NaN is larger than all else,
/// and of equal values the first comes first, as in `jax.lax.top_k`.
pub(crate) fn rows(view: &View<'_>, k: usize) -> Result<Vec<Row>, String> {
    let element =
        Element::of(view.dtype()).ok_or_else(|| format!("no order of {}", view.dtype()))?;
    let bytes = view.bytes().map_err(|error| error.to_string())?;
    // A scalar is a row of one.
    let (&length, outer) = view.shape().split_last().unwrap_or((&1, &[]));
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let row = |(position, row): (usize, &[u8])| {
        let values = row.chunks_exact(element.size).map(element.number);
        let mut best: Vec<(usize, Number)> = values.enumerate().collect();
        // Keeps the order of what is equal.
        best.sort_by(|(_, a), (_, b)| b.order(*a).unwrap_or(Ordering::Equal));
        best.truncate(k);
        Row { index: index_of(position, outer), best }
    };
    Ok(bytes.chunks_exact(length * element.size).enumerate().map(row).collect())
}

/// A line for each row: `y[0]: 3 (0.91), 7 (0.05)`.
pub(crate) fn as_text(port: &Port, rows: &[Row]) -> String {
    let line = |Row { index, best }: &Row| {
        let best: Vec<String> = best
            .iter()
            .map(|&(position, value)| format!("{position} ({})", shortest(port.dtype, value)))
            .collect();
        let index = if index.is_empty() { String::new() } else { format!("{index:?}") };
        format!("{}{index}: {}\n", printable(&port.name), best.join(", "))
    };
    rows.iter().map(line).collect()
}

/// `[{"row": [0], "indices": [3, 7], "values": [0.91, 0.05]}]`. JSON has no NaN and no infinities:
/// null, "inf" and "-inf".
pub(crate) fn as_json(port: &Port, rows: &[Row]) -> Value {
    let value = |&(_, value): &(usize, Number)| match value {
        Number::Float(x) if x.is_nan() => Value::Null,
        Number::Float(x) if x.is_infinite() => json!(x.to_string()),
        value => shortest(port.dtype, value).parse().unwrap_or(Value::Null),
    };
    rows.iter()
        .map(|Row { index, best }| {
            let indices: Vec<usize> = best.iter().map(|&(position, _)| position).collect();
            let values: Vec<Value> = best.iter().map(value).collect();
            json!({ "row": index, "indices": indices, "values": values })
        })
        .collect()
}

/// The shortest text that reads back as the same value of that type.
fn shortest(dtype: DType, value: Number) -> String {
    match value {
        Number::Float(x) if dtype != DType::F64 => format!("{:?}", x as f32),
        value => value.to_string(),
    }
}
