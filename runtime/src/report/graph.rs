//! The nodes of an entry point with the types of all values, as JSON.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use lumina_kernels::Fact;
use serde_json::{Map, Value, json};

use super::optical;
use super::text::Text;
use crate::Model;
use crate::infer::{Action, Inference};
use crate::inspect::{attribute_json, port_json, state_json};
use crate::ir::{Attribute, Graph, Node, Port, place_of};
use crate::weights::{Weight, weights};

/// Items of an attribute that are shown.
const MAX_ITEMS: usize = 64;
/// How often all weights are looked at for optical nodes.
const LOOKS: usize = 4;

/// Writes the fields of an entry point whose values have the facts of `inference`.
pub(super) fn write(
    out: &mut Text,
    model: &Model,
    graph: &Graph,
    inference: &Inference,
) -> fmt::Result {
    out.field("name", &json!(graph.name))?;
    let ports = |ports: &[Port]| -> Vec<Value> {
        ports.iter().map(|port| port_json(port, graph)).collect()
    };
    out.field("inputs", &json!(ports(&graph.inputs)))?;
    out.field("outputs", &json!(ports(&graph.outputs)))?;
    let states: Vec<Value> = graph.states.iter().map(state_json).collect();
    out.field("states", &json!(states))?;
    let weights = weights(graph);
    let constants = weights.iter().map(|weight| (weight.id, weight)).collect();
    let budget = &Cell::new(LOOKS * model.weights().len());
    let scope = Scope { model, graph, constants, budget };
    out.list("nodes", graph.nodes.iter().zip(&inference.actions), |(node, action)| {
        scope.node(node, action, &inference.facts)
    })
}

/// What an id of a scope may be a constant of.
struct Scope<'a> {
    model: &'a Model,
    graph: &'a Graph,
    constants: BTreeMap<u32, &'a Weight<'a>>,
    /// Numbers of weights that are still looked at.
    budget: &'a Cell<usize>,
}

impl Scope<'_> {
    fn node(&self, node: &Node, action: &Action, facts: &[Fact]) -> Value {
        let types = |ids: &[u32]| -> Vec<String> {
            ids.iter().map(|&id| facts[id as usize].to_string()).collect()
        };
        let plain = |attribute: &Attribute| !matches!(attribute, Attribute::Region(_));
        let attributes: Map<String, Value> = node
            .attributes
            .iter()
            .filter(|(_, attribute)| plain(attribute))
            .map(|(name, attribute)| {
                (name.to_owned(), shortened(attribute_json(attribute, self.graph)))
            })
            .collect();
        let (file, module) = place_of(&node.source);
        let mut fields = json!({
            "op": node.op,
            "inputs": node.inputs,
            "outputs": node.outputs,
            "operand_types": types(&node.inputs),
            "types": types(&node.outputs),
            "attrs": attributes,
            "file": file,
            "module": module,
            "fused": node.fused,
        });
        let weight = |operand: usize| {
            node.inputs.get(operand).and_then(|id| self.constants.get(id)).copied()
        };
        if let Some(optical) = optical::node(self.model, node, &weight, self.budget) {
            fields["optical"] = optical;
        }
        if let Action::Control(_, inferences) = action {
            let regions = node.regions().zip(inferences);
            let regions: Vec<Value> = regions
                .map(|((name, region), inference)| {
                    let captures = region.captures.iter().zip(0..);
                    let constant =
                        |(id, inner): (&u32, u32)| Some((inner, *self.constants.get(id)?));
                    let constants = captures.filter_map(constant).collect();
                    let scope = Scope { constants, ..*self };
                    let nodes = region.nodes.iter().zip(&inference.actions);
                    let nodes: Vec<Value> = nodes
                        .map(|(node, action)| scope.node(node, action, &inference.facts))
                        .collect();
                    json!({
                        "name": name,
                        "captures": region.captures,
                        "inputs": region.inputs,
                        "outputs": region.outputs,
                        "nodes": nodes,
                    })
                })
                .collect();
            fields["regions"] = Value::Array(regions);
        }
        fields
    }
}

/// The value, of a long list the beginning and how many more there are.
fn shortened(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.len() > MAX_ITEMS => {
            let more = items.len() - MAX_ITEMS;
            items.truncate(MAX_ITEMS);
            items.push(json!(format!("… {more} more")));
            Value::Array(items)
        }
        other => other,
    }
}
