//! The largest values of outputs.

use std::cmp::Ordering;

use lumina_runtime::{DType, Port, View, printable};
use serde_json::{Value, json};

use crate::element::{Element, Number};
use crate::npy::index_of;
use crate::pieces::Whole;

/// The largest values of one row of an output, the largest first.
struct Row {
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

/// The largest values of outputs whose rows come in pieces.
pub(crate) struct Tops<'a> {
    k: usize,
    ports: &'a [Port],
    whole: Whole,
    /// Of each output, those that were not taken.
    rows: Vec<Vec<Row>>,
}

impl<'a> Tops<'a> {
    pub(crate) fn new(k: usize, ports: &'a [Port], whole: Whole) -> Self {
        Self { k, ports, whole, rows: ports.iter().map(|_| Vec::new()).collect() }
    }

    /// Looks at what a piece gave, whose rows begin at `first` in the whole.
    pub(crate) fn add(&mut self, first: usize, results: &[View<'_>]) -> Result<(), String> {
        for (known, view) in self.rows.iter_mut().zip(results) {
            let mut new = rows(view, self.k)?;
            let has_step = matches!(self.whole, Whole::Steps(_)) && !view.shape().is_empty();
            for row in &mut new {
                match row.index.first_mut() {
                    _ if has_step => row.index.insert(0, first),
                    Some(index) => *index += first,
                    // The values themselves lie along the axis of the pieces.
                    None => row.best.iter_mut().for_each(|(position, _)| *position += first),
                }
            }
            match (&mut known[..], &mut new[..]) {
                ([known], [new]) if known.index.is_empty() => {
                    known.best.append(&mut new.best);
                    known.keep(self.k);
                }
                _ => known.append(&mut new),
            }
        }
        Ok(())
    }

    /// The lines of what is there; but for those of values along the axis of the pieces, of which
    /// more may come, unless this `is_last`.
    pub(crate) fn take_text(&mut self, is_last: bool) -> String {
        let mut text = String::new();
        for (port, rows) in self.ports.iter().zip(&mut self.rows) {
            if is_last || rows.first().is_some_and(|row| !row.index.is_empty()) {
                text += &as_text(port, rows);
                rows.clear();
            }
        }
        text
    }

    /// All that is there, by the names of the outputs.
    pub(crate) fn as_json(&self) -> Value {
        let outputs = self.ports.iter().zip(&self.rows);
        outputs.map(|(port, rows)| (port.name.clone(), as_json(port, rows))).collect()
    }
}

impl Row {
    /// Keeps the `k` largest. NaN is larger than all else, and of equal values the first comes
    /// first, as in `jax.lax.top_k`.
    fn keep(&mut self, k: usize) {
        let order = |(i, a): &(usize, Number), (j, b): &(usize, Number)| {
            b.order(*a).unwrap_or(Ordering::Equal).then(i.cmp(j))
        };
        if self.best.len() > k {
            // Of many values, most are told apart from the largest without an order of their own.
            self.best.select_nth_unstable_by(k, order);
            self.best.truncate(k);
        }
        self.best.sort_unstable_by(order);
    }
}

/// The `k` largest values of each row, or all where there are fewer.
fn rows(view: &View<'_>, k: usize) -> Result<Vec<Row>, String> {
    let element =
        Element::of(view.dtype()).ok_or_else(|| format!("no order of {}", view.dtype()))?;
    let bytes = view.bytes().map_err(|error| error.to_string())?;
    // A scalar is a row of one.
    let (&length, outer) = view.shape().split_last().unwrap_or((&1, &[]));
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let row = |(position, row): (usize, &[u8])| {
        let best = row.chunks_exact(element.size).map(element.number).enumerate().collect();
        let mut row = Row { index: index_of(position, outer), best };
        row.keep(k);
        row
    };
    Ok(bytes.chunks_exact(length * element.size).enumerate().map(row).collect())
}

/// A line for each row: `y[0]: 3 (0.91), 7 (0.05)`.
fn as_text(port: &Port, rows: &[Row]) -> String {
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
fn as_json(port: &Port, rows: &[Row]) -> Value {
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
