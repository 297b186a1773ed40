//! `.lmn` files as ONNX files: `lumina convert`.
//!
//! A graph is written for one entry point, in standard ops alone. Optical ops become what a device
//! without noise computes: converters are division, rounding, clipping and multiplication. Each node
//! of the file has a rule that emits ONNX nodes, in one file for each family of ops:
//!
//! ```text
//! for node in nodes that results need:
//!     values of its outputs = rule(values of its inputs), or why there is none
//! ```
//!
//! All refusals are told together.

mod builder;
mod call;
mod constants;
mod control;
mod convolution;
mod dims;
mod elementwise;
mod indexing;
mod names;
mod optical;
mod optical_attention;
mod products;
mod proto;
mod rows;
mod shapes;

use std::collections::BTreeSet;

use lumina_kernels::Fact;
use prost::Message;
use serde_json::json;

use crate::bind::bind;
use crate::infer::infer;
use crate::ir::dim::Symbols;
use crate::ir::{Dim, Graph, Node, Role};
use crate::tensor::byte_size;
use crate::{Error, Model};
use builder::{Builder, element_of};
use call::Value;
use proto::{Entry, Extent, ValueInfo};

/// Version of ONNX's ops that files are written for.
pub const OPSET: i64 = 20;
/// Version of the file format that belongs to it.
const IR_VERSION: i64 = 9;
/// Bytes that a protobuf message can have, a few less for what is beside the constants.
const MAX_BYTES: u128 = (1 << 31) - (1 << 24);

/// The ONNX file of an entry point, the first one where no name is given.
///
/// Inputs, outputs and weights keep their names. A state becomes an input of its name and an output
/// `NAME.next`; the property `lumina.states` says how they begin. The seed of the noise is left out,
/// as there is no noise.
///
/// # Errors
///
/// There is no such entry point, nodes have no counterpart (all of them are named), or the constants are
/// too large for a protobuf message.
pub fn convert(model: &Model, entry: Option<&str>) -> Result<Vec<u8>, Error> {
    let entry = model.entry(entry)?;
    let graph = model.graph(entry)?;
    let needed = needed(graph);
    let tensors = graph.tensors.iter().filter(|tensor| needed.contains(&tensor.id));
    let bytes = tensors.map(|tensor| byte_size(&tensor.stored.fact).unwrap_or(0) as u128);
    let bytes: u128 = bytes.sum();
    if bytes > MAX_BYTES {
        return Err(Error::Input(format!(
            "the constants take {bytes} bytes, an ONNX file can hold {MAX_BYTES}"
        )));
    }
    let (symbols, inputs) = example(model, entry, graph)?;
    let inference = infer(graph, &symbols, &inputs)?;
    let mut builder = Builder::new(model, graph);
    let mut values: Vec<Value> = vec![Value::default(); inference.facts.len()];
    for port in &graph.inputs {
        if port.role == Role::NoiseSeed && !needed.contains(&port.id) {
            continue;
        }
        let is_exact = !port.shape.iter().any(Dim::is_symbolic);
        let fact = inference.facts[port.id as usize].clone();
        let name = builder.take(&port.name);
        builder.declare_input(&name, port.dtype, extents(&port.shape, graph));
        builder.inputs_by_port.push((port.id, name.clone()));
        values[port.id as usize] = Value::new(name, fact, is_exact);
    }
    let mut states = Vec::new();
    for state in
        graph.states.iter().filter(|state| state.next.is_some() || needed.contains(&state.id))
    {
        let name = builder.take(&state.name);
        let shape = state.fact.shape.iter().map(|&extent| Some(Extent::Number(extent as i64)));
        builder.declare_input(&name, state.fact.dtype, shape.collect());
        values[state.id as usize] = Value::new(name, state.fact.clone(), true);
    }
    for tensor in graph.tensors.iter().filter(|tensor| needed.contains(&tensor.id)) {
        let value = builder.constant_of(tensor);
        values[tensor.id as usize] = value;
    }
    builder.nodes(&graph.nodes, &inference, &mut values, &needed);
    for port in &graph.outputs {
        let value = values[port.id as usize].clone();
        builder.declare_output(&port.name, &value, port.dtype, extents(&port.shape, graph));
    }
    for state in &graph.states {
        let before = values[state.id as usize].name.clone();
        let mut next = None;
        if let Some(id) = state.next {
            let value = values[id as usize].clone();
            let shape = state.fact.shape.iter().map(|&extent| Some(Extent::Number(extent as i64)));
            let name = format!("{}.next", state.name);
            next = Some(builder.declare_output(&name, &value, state.fact.dtype, shape.collect()));
        }
        if !before.is_empty() {
            let initial = state.initial.map(|id| match values[id as usize].name.as_str() {
                "" => builder.tensor(id).map(|(tensor, _)| builder.keep(tensor)),
                name => Some(name.to_owned()),
            });
            states.push(json!({ "input": before, "output": next, "initial": initial }));
        }
    }
    if !builder.refusals.is_empty() {
        return Err(Error::Input(format!(
            "{} of {} nodes cannot be written as ONNX: {}",
            builder.refusals.len(),
            count(&graph.nodes),
            builder.refusals.join("; ")
        )));
    }
    let mut metadata = vec![Entry { key: "lumina.entry".into(), value: graph.name.clone() }];
    if !states.is_empty() {
        let value = serde_json::Value::Array(states).to_string();
        metadata.push(Entry { key: "lumina.states".into(), value });
    }
    let file = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "lumina".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(builder.finish(&graph.name)),
        opset_import: vec![proto::OpSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata,
    };
    if file.encoded_len() as u128 >= 1 << 31 {
        return Err(Error::Input("the ONNX file would be larger than 2 GiB".into()));
    }
    Ok(file.encode_to_vec())
}

/// Extents as an ONNX file tells them: numbers, and names where they are symbolic.
fn extents(shape: &[Dim], graph: &Graph) -> Vec<Option<Extent>> {
    let extent = |dim: &Dim| match dim.eval(&[]) {
        Some(extent) if !dim.is_symbolic() => Extent::Number(extent as i64),
        _ => Extent::Name(dim.display(&graph.symbols).to_string()),
    };
    shape.iter().map(|dim| Some(extent(dim))).collect()
}

/// Values that results and states need. What only noise needs is not among them.
fn needed(graph: &Graph) -> BTreeSet<u32> {
    let mut needed: BTreeSet<u32> = graph.outputs.iter().map(|port| port.id).collect();
    needed.extend(graph.states.iter().filter_map(|state| state.next));
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|id| needed.contains(id)) {
            needed.extend(read(node));
            let captures = node.regions().flat_map(|(_, region)| &region.captures);
            needed.extend(captures.copied());
        }
    }
    needed
}

/// The operands of a node that it has without noise.
fn read(node: &Node) -> &[u32] {
    &node.inputs[..optical::operands_without_noise(&node.op).min(node.inputs.len())]
}

fn count(nodes: &[Node]) -> usize {
    let within = |node: &Node| node.regions().map(|(_, r)| count(&r.nodes)).sum::<usize>();
    nodes.iter().map(|node| 1 + within(node)).sum()
}

/// Values of the symbols, and inputs of these, by which ranks and types are found: they are the same
/// for all values.
fn example(model: &Model, entry: usize, graph: &Graph) -> Result<(Symbols, Vec<Fact>), Error> {
    let tests = &model.module().tests;
    if let Some(test) = tests.iter().find(|test| test.entry == entry) {
        let facts: Vec<Fact> = test.inputs.iter().map(|stored| stored.fact.clone()).collect();
        return Ok((bind(graph, &facts)?, facts));
    }
    for extent in [2, 8, 1, 4, 16, 32, 64, 128, 3, 224] {
        let symbols = vec![Some(extent); graph.bound()];
        let facts = graph.inputs.iter().map(|port| port.fact(&symbols)).collect();
        let Some(facts): Option<Vec<Fact>> = facts else { continue };
        if let Ok(symbols) = bind(graph, &facts)
            && infer(graph, &symbols, &facts).is_ok()
        {
            return Ok((symbols, facts));
        }
    }
    let message =
        "the file has no test vector of the entry point, which would tell shapes that fit";
    Err(Error::Input(message.into()))
}

/// The number of an element type, or that there is none.
fn checked_element(dtype: lumina_kernels::DType) -> Result<i32, String> {
    element_of(dtype).ok_or_else(|| format!("ONNX has no ops of {dtype}"))
}

impl ValueInfo {
    /// A value of a scope within, of which the type alone is told.
    fn of(value: &Value) -> Self {
        Self::of_any_shape(&value.name, element_of(value.fact.dtype).unwrap_or(0))
    }
}
