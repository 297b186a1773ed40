//! The constants of two files, by the values that correspond.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::numbers::Numeric;
use super::{Change, Kind, fields};
use crate::chain::chain;
use crate::ir::Graph;
use crate::weights::{Weight, weights};
use crate::{Error, Model};

/// Changes of the ranges of converters, and of all other constants.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) full_scales: Vec<Change>,
    pub(super) weights: Vec<Change>,
}

/// What differs between the constants of `a` and `b`. `values` has the constant of `b` for each of `a`
/// that has one.
pub(super) fn changes(
    (a, graph_a): (&Model, &Graph),
    (b, graph_b): (&Model, &Graph),
    values: &BTreeMap<u32, u32>,
) -> Result<Changes, Error> {
    let (weights_a, weights_b) = (weights(graph_a), weights(graph_b));
    let (labels_a, labels_b) = (Labels::of(graph_a), Labels::of(graph_b));
    let of_b: BTreeMap<u32, &Weight<'_>> =
        weights_b.iter().map(|weight| (weight.id, weight)).collect();
    let mut changes = Changes::default();
    let mut seen = BTreeSet::new();
    for weight in &weights_a {
        let other = values.get(&weight.id).and_then(|id| of_b.get(id));
        let change = match other {
            None => Some(Change::one_sided(Kind::Removed, labels_a.label(weight))),
            Some(other) => {
                seen.insert(other.id);
                compared(a, weight, b, other, labels_b.label(other))?
            }
        };
        changes.list(labels_a.scales.contains(&weight.id)).extend(change);
    }
    for weight in weights_b.iter().filter(|weight| !seen.contains(&weight.id)) {
        let change = Change::one_sided(Kind::Added, labels_b.label(weight));
        changes.list(labels_b.scales.contains(&weight.id)).push(change);
    }
    Ok(changes)
}

impl Changes {
    fn list(&mut self, is_scale: bool) -> &mut Vec<Change> {
        if is_scale { &mut self.full_scales } else { &mut self.weights }
    }
}

/// The change of a constant, if it is one: how it is stored, and the numbers that it stands for.
fn compared(
    model_a: &Model,
    a: &Weight<'_>,
    model_b: &Model,
    b: &Weight<'_>,
    what: String,
) -> Result<Option<Change>, Error> {
    let shown = |weight: &Weight<'_>| -> Value {
        json!({
            "name": weight.name,
            "type": weight.fact.to_string(),
            "stored as": match &weight.codes {
                None => weight.fact.dtype.name().to_string(),
                Some(codes) => format!("codes of {} bits", codes.bits),
            },
            "bits": weight.tensor.quantization.as_ref().map(|quantization| quantization.bits),
            "bytes": weight.bytes(),
        })
    };
    let details = fields(&shown(a), &shown(b));
    let numeric = match a.fact.shape == b.fact.shape {
        true => {
            let (numbers_a, numbers_b) = (a.numbers(model_a)?, b.numbers(model_b)?);
            Numeric::between(numbers_a.bytes(), numbers_b.bytes())
        }
        false => None,
    };
    let is_change = !details.is_empty() || numeric.is_some();
    Ok(is_change.then_some(Change { kind: Kind::Changed, what, details, numeric }))
}

/// What constants are called, and which of them are full scales.
struct Labels<'a> {
    graph: &'a Graph,
    /// The first node that reads each value, and as which operand.
    users: BTreeMap<u32, (usize, usize)>,
    scales: BTreeSet<u32>,
}

impl<'a> Labels<'a> {
    fn of(graph: &'a Graph) -> Self {
        let (mut users, mut scales) = (BTreeMap::new(), BTreeSet::new());
        for (index, node) in graph.nodes.iter().enumerate() {
            for (operand, &id) in node.inputs.iter().enumerate() {
                users.entry(id).or_insert((index, operand));
            }
            let converters = chain(&node.op).map_or(&[][..], |chain| chain.converters);
            scales.extend(converters.iter().filter_map(|&(.., operand)| node.inputs.get(operand)));
        }
        Self { graph, users, scales }
    }

    /// The name; of a constant without one, what reads it.
    fn label(&self, weight: &Weight<'_>) -> String {
        match self.users.get(&weight.id) {
            _ if !weight.name.is_empty() => weight.name.to_string(),
            Some(&(index, operand)) => {
                format!("operand {operand} of {}", self.graph.nodes[index].place(index))
            }
            None => format!("constant %{}", weight.id),
        }
    }
}
