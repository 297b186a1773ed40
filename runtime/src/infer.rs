//! From the shapes of the inputs to the shape of every value.

use lumina_kernels::{DType, DynOp, Entry, Fact};

use crate::attrs::NodeAttrs;
use crate::dim::{Solution, Symbols, describe_shape};
use crate::proto::{Graph, Node, Value};
use crate::tensor::{MAX_RANK, byte_size};
use crate::{Error, ops};

/// The graph for one set of input shapes.
pub(crate) struct Inference {
    /// The fact of each value, by id.
    pub(crate) facts: Vec<Fact>,
    /// The op of each node.
    pub(crate) ops: Vec<Box<dyn DynOp>>,
}

/// The ops of a graph: the kernels, and those of this crate.
pub(crate) fn find_op(name: &str) -> Option<&'static Entry> {
    lumina_kernels::OPS.iter().chain(ops::OPS).find(|entry| entry.name == name)
}

/// Where a fault is: "node 3 (`add`, model.py:12)".
pub(crate) fn node_place(index: usize, node: &Node) -> String {
    match node.source.as_str() {
        "" => format!("node {index} (`{}`)", node.op),
        source => format!("node {index} (`{}`, {source})", node.op),
    }
}

/// The element type of the schema's number.
pub(crate) fn dtype(number: i32) -> Option<DType> {
    DType::from_file_number(number.try_into().ok()?)
}

/// A value at the boundary in words: `f32[batch,64]`.
pub(crate) fn describe_value(value: &Value, symbols: &[String]) -> String {
    let dtype = dtype(value.dtype).map_or("?".into(), |dtype| dtype.to_string());
    format!("{dtype}{}", describe_shape(&value.shape, symbols))
}

/// The symbols for inputs of these facts, or which input does not fit.
pub(crate) fn bind(graph: &Graph, inputs: &[Fact]) -> Result<Symbols, Error> {
    if inputs.len() != graph.inputs.len() {
        let names: Vec<_> = graph.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
        return Err(Error::Input(format!(
            "expected {} inputs ({}), got {}",
            names.len(),
            names.join(", "),
            inputs.len()
        )));
    }
    for (value, fact) in graph.inputs.iter().zip(inputs) {
        if dtype(value.dtype) != Some(fact.dtype) || value.shape.len() != fact.shape.len() {
            return Err(Error::Input(format!(
                "input `{}` must be {}, got {fact}",
                value.name,
                describe_value(value, &graph.symbols)
            )));
        }
    }
    let axes = || {
        graph.inputs.iter().zip(inputs).flat_map(|(value, fact)| {
            value.shape.iter().zip(&fact.shape).enumerate().map(move |axis| (value, axis))
        })
    };
    let misfit = |value: &Value, axis: usize, expected: String, got: usize| {
        Error::Input(format!("input `{}`: axis {axis} must be {expected}, got {got}", value.name))
    };
    let mut symbols = vec![None; graph.symbols.len()];
    // Each round that goes on has bound a symbol, so there are few.
    loop {
        let mut progress = false;
        for (value, (axis, (dim, &got))) in axes() {
            match dim.solve(got, &symbols) {
                Solution::Symbol(symbol, bound) => {
                    symbols[symbol] = Some(bound);
                    progress = true;
                }
                Solution::Impossible => {
                    return Err(misfit(value, axis, dim.display(&graph.symbols).to_string(), got));
                }
                Solution::Known | Solution::Open => {}
            }
        }
        if !progress {
            break;
        }
    }
    for (value, (axis, (dim, &got))) in axes() {
        let expected = dim.eval(&symbols);
        if expected != Some(got) {
            let words = dim.display(&graph.symbols).to_string();
            let expected = match expected {
                Some(extent) if extent.to_string() == words => words,
                Some(extent) => format!("{words} = {extent} as the other axes have it"),
                None => format!("{words}, which the other axes leave without a value"),
            };
            return Err(misfit(value, axis, expected, got));
        }
    }
    Ok(symbols)
}

/// The op of a node where `symbols` have these values.
pub(crate) fn make_op(
    graph: &Graph,
    index: usize,
    symbols: &[Option<usize>],
) -> Result<Box<dyn DynOp>, Error> {
    let node = &graph.nodes[index];
    let place = || node_place(index, node);
    let entry = find_op(&node.op).ok_or_else(|| Error::UnknownOps(vec![node.op.clone()]))?;
    let attrs = NodeAttrs::resolve(&node.attrs, symbols, &graph.symbols)
        .map_err(|message| Error::graph(place(), message))?;
    let op = (entry.make)(&attrs).map_err(|source| Error::Op { place: place(), source })?;
    match attrs.unread().as_slice() {
        [] => Ok(op),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            Err(Error::graph(place(), format!("unknown attributes: {}", names.join(", "))))
        }
    }
}

/// Makes every op and infers every shape for inputs of these facts, whose symbols are `symbols`.
pub(crate) fn infer(
    graph: &Graph,
    symbols: &[Option<usize>],
    inputs: &[Fact],
) -> Result<Inference, Error> {
    let outputs: usize = graph.nodes.iter().map(|node| node.outputs.len()).sum();
    let count = inputs.len() + graph.tensors.len() + outputs;
    let mut facts = vec![Fact::new(DType::F32, []); count];
    for (value, fact) in graph.inputs.iter().zip(inputs) {
        facts[value.id as usize] = fact.clone();
    }
    for tensor in &graph.tensors {
        let dtype = dtype(tensor.dtype).unwrap_or(DType::F32);
        let shape: Vec<usize> = tensor.shape.iter().map(|&extent| extent as usize).collect();
        facts[tensor.id as usize] = Fact::new(dtype, shape);
    }
    let mut ops = Vec::with_capacity(graph.nodes.len());
    let mut operands = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let op = make_op(graph, index, symbols)?;
        operands.clear();
        operands.extend(node.inputs.iter().map(|&id| facts[id as usize].clone()));
        let results = op
            .output_shapes(&operands)
            .map_err(|source| Error::Op { place: node_place(index, node), source })?;
        if results.len() != node.outputs.len() {
            let (expected, got) = (results.len(), node.outputs.len());
            let message = format!("the op has {expected} outputs, the node {got}");
            return Err(Error::graph(node_place(index, node), message));
        }
        for (&id, fact) in node.outputs.iter().zip(results) {
            check_size(&fact).map_err(|message| Error::graph(node_place(index, node), message))?;
            facts[id as usize] = fact;
        }
        ops.push(op);
    }
    for value in &graph.outputs {
        let fact = &facts[value.id as usize];
        let shape: Option<Vec<usize>> = value.shape.iter().map(|dim| dim.eval(symbols)).collect();
        if dtype(value.dtype) != Some(fact.dtype) || shape.as_ref() != Some(&fact.shape) {
            let words = describe_value(value, &graph.symbols);
            let message = format!("the file says {words}, but its nodes compute {fact}");
            return Err(Error::graph(format!("output `{}`", value.name), message));
        }
    }
    Ok(Inference { facts, ops })
}

/// Checks that arithmetic on the shape cannot overflow.
pub(crate) fn check_size(fact: &Fact) -> Result<(), String> {
    if fact.shape.len() > MAX_RANK {
        return Err(format!("rank {} is above the limit of {MAX_RANK}", fact.shape.len()));
    }
    match byte_size(fact) {
        Some(_) => Ok(()),
        None => Err(format!("a tensor of {fact} is too large")),
    }
}
