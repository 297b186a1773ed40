//! Every check of a file that does not depend on the shapes of a run, once.

use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::{DType, Fact};

use crate::Error;
use crate::attrs::is_symbolic;
use crate::container::Container;
use crate::dim::MAX_POWER;
use crate::infer::{bind, check_size, describe_value, dtype, find_op, infer, make_op, node_place};
use crate::proto::{Crosstalk, Dim, Graph, Role, Value, Wdm};
use crate::stored::{check_tensor, check_test};
use crate::tensor::MAX_RANK;

/// The newest op set that this runtime has.
const OPSET: u32 = 1;
const MAX_SYMBOLS: usize = 64;
const MAX_TESTS: usize = 64;
/// Inputs of a node, and outputs.
const MAX_OPERANDS: usize = 1 << 16;
const COMPENSATIONS: [&str; 5] = ["none", "fold", "readout", "wiener", "feedback"];

/// Checks a graph against itself and against the sections it refers to.
pub(crate) fn validate(graph: &Graph, container: &Container) -> Result<(), Error> {
    if graph.opset == 0 || graph.opset > OPSET {
        let message = format!("must be from 1 to {OPSET}, got {}", graph.opset);
        return Err(Error::graph("`opset`", message));
    }
    check_symbols(graph)?;
    for (what, values) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        check_values(what, values, graph)?;
    }
    check_seed(graph)?;
    for tensor in &graph.tensors {
        check_tensor(tensor, container)?;
    }
    check_ids(graph)?;
    check_nodes(graph)?;
    check_symbols_are_bound(graph)?;
    if graph.tests.len() > MAX_TESTS {
        let message = format!("at most {MAX_TESTS}, got {}", graph.tests.len());
        return Err(Error::graph("`tests`", message));
    }
    for (index, test) in graph.tests.iter().enumerate() {
        let inputs = check_test(graph, "input", index, container)?;
        check_test(graph, "output", index, container)?;
        for (name, tolerance) in [
            ("absolute_tolerance", test.absolute_tolerance),
            ("relative_tolerance", test.relative_tolerance),
        ] {
            if !(tolerance.is_finite() && tolerance >= 0.0) {
                let message = format!("`{name}` must be finite and not negative, got {tolerance}");
                return Err(Error::graph(format!("test vector {index}"), message));
            }
        }
        check_test_shapes(graph, index, &inputs)?;
    }
    // A graph of fixed shapes can be inferred without a test vector too.
    if graph.symbols.is_empty() && graph.tests.is_empty() {
        let facts: Option<Vec<Fact>> = graph.inputs.iter().map(fixed_fact).collect();
        if let Some(facts) = facts {
            infer(graph, &[], &facts)?;
        }
    }
    graph.wdm.as_ref().map_or(Ok(()), check_wdm)?;
    graph.crosstalk.as_ref().map_or(Ok(()), check_crosstalk)
}

fn check_symbols(graph: &Graph) -> Result<(), Error> {
    if graph.symbols.len() > MAX_SYMBOLS {
        let message = format!("at most {MAX_SYMBOLS}, got {}", graph.symbols.len());
        return Err(Error::graph("`symbols`", message));
    }
    let mut seen = BTreeSet::new();
    for name in &graph.symbols {
        if name.is_empty() || !seen.insert(name) {
            let message = format!("`{name}` is empty or appears twice");
            return Err(Error::graph("`symbols`", message));
        }
    }
    Ok(())
}

/// Checks inputs or outputs, apart from their ids.
fn check_values(what: &str, values: &[Value], graph: &Graph) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for value in values {
        let place = || format!("{what} `{}`", value.name);
        if !names.insert(value.name.as_str()) {
            return Err(Error::graph(place(), "the name appears twice"));
        }
        if dtype(value.dtype).is_none() {
            return Err(Error::graph(place(), format!("unknown dtype {}", value.dtype)));
        }
        if value.shape.len() > MAX_RANK {
            let message = format!("rank {} is above the limit of {MAX_RANK}", value.shape.len());
            return Err(Error::graph(place(), message));
        }
        check_dims(&value.shape, graph).map_err(|message| Error::graph(place(), message))?;
        if let Some(fact) = fixed_fact(value) {
            check_size(&fact).map_err(|message| Error::graph(place(), message))?;
        }
        if Role::try_from(value.role).is_err() {
            return Err(Error::graph(place(), format!("unknown role {}", value.role)));
        }
    }
    Ok(())
}

/// Checks that the polynomials use known symbols; extents without symbols are not negative.
fn check_dims(dims: &[Dim], graph: &Graph) -> Result<(), String> {
    for dim in dims {
        for factor in dim.terms.iter().flat_map(|term| &term.factors) {
            if factor.symbol as usize >= graph.symbols.len() {
                let (got, known) = (factor.symbol, graph.symbols.len());
                return Err(format!("symbol {got} in a shape is not one of the {known}"));
            }
            if !(1..=MAX_POWER).contains(&factor.power) {
                let got = factor.power;
                return Err(format!("a power in a shape must be from 1 to {MAX_POWER}, got {got}"));
            }
        }
        if dim.terms.iter().all(|term| term.factors.is_empty()) && dim.eval(&[]).is_none() {
            return Err(format!("{} is no extent", dim.display(&graph.symbols)));
        }
    }
    Ok(())
}

fn check_seed(graph: &Graph) -> Result<(), Error> {
    let is_seed = |value: &&Value| value.role == Role::NoiseSeed as i32;
    if let Some(value) = graph.outputs.iter().find(is_seed) {
        let place = format!("output `{}`", value.name);
        return Err(Error::graph(place, "only an input can be a noise seed"));
    }
    let mut seeds = graph.inputs.iter().filter(is_seed);
    let Some(seed) = seeds.next() else { return Ok(()) };
    if fixed_fact(seed) != Some(Fact::new(DType::U32, [2])) {
        let message =
            format!("a noise seed must be u32[2], got {}", describe_value(seed, &graph.symbols));
        return Err(Error::graph(format!("input `{}`", seed.name), message));
    }
    match seeds.next() {
        None => Ok(()),
        Some(second) => {
            let message = format!("a second noise seed beside `{}`", seed.name);
            Err(Error::graph(format!("input `{}`", second.name), message))
        }
    }
}

/// Checks that the ids are 0..n, each defined once.
fn check_ids(graph: &Graph) -> Result<(), Error> {
    let inputs = graph.inputs.iter().map(|value| (value.id, format!("input `{}`", value.name)));
    let tensors = graph.tensors.iter().map(|t| (t.id, format!("tensor {} `{}`", t.id, t.name)));
    let nodes = graph.nodes.iter().enumerate().flat_map(|(index, node)| {
        node.outputs.iter().map(move |&id| (id, node_place(index, node)))
    });
    let outputs: usize = graph.nodes.iter().map(|node| node.outputs.len()).sum();
    let count = graph.inputs.len() + graph.tensors.len() + outputs;
    let mut defined = vec![false; count];
    for (id, place) in inputs.chain(tensors).chain(nodes) {
        match defined.get_mut(id as usize) {
            None => {
                let message = format!("defines value {id}, but the graph has {count} values");
                return Err(Error::graph(place, message));
            }
            Some(true) => {
                let message = format!("defines value {id}, which is defined already");
                return Err(Error::graph(place, message));
            }
            Some(defined) => *defined = true,
        }
    }
    Ok(())
}

/// Checks that every op is known, reads what is defined before it, and accepts its attributes.
fn check_nodes(graph: &Graph) -> Result<(), Error> {
    let unknown: BTreeSet<&str> = graph
        .nodes
        .iter()
        .map(|node| node.op.as_str())
        .filter(|op| find_op(op).is_none())
        .collect();
    if !unknown.is_empty() {
        return Err(Error::UnknownOps(unknown.into_iter().map(|op| format!("`{op}`")).collect()));
    }
    let mut defined_by: BTreeMap<u32, usize> = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        defined_by.extend(node.outputs.iter().map(|&id| (id, index)));
    }
    let values = graph.inputs.len() + graph.tensors.len() + defined_by.len();
    for (index, node) in graph.nodes.iter().enumerate() {
        let fault = |message| Err(Error::graph(node_place(index, node), message));
        if node.inputs.len().max(node.outputs.len()) > MAX_OPERANDS {
            return fault(format!("more than {MAX_OPERANDS} inputs or outputs"));
        }
        for &id in &node.inputs {
            if id as usize >= values {
                return fault(format!("reads value {id}, but the graph has {values} values"));
            }
            if defined_by.get(&id).is_some_and(|&by| by >= index) {
                return fault(format!("reads value {id}, which is not defined before it"));
            }
        }
        for (name, attr) in &node.attrs {
            match &attr.value {
                None => return fault(format!("attribute `{name}` has no value")),
                Some(crate::proto::attr::Value::Shape(shape)) => {
                    if let Err(message) = check_dims(&shape.dims, graph) {
                        return fault(format!("attribute `{name}`: {message}"));
                    }
                }
                Some(_) => {}
            }
        }
        if !node.attrs.values().any(is_symbolic) {
            make_op(graph, index, &[])?;
        }
    }
    match graph.outputs.iter().find(|value| value.id as usize >= values) {
        None => Ok(()),
        Some(value) => {
            let message = format!("is value {}, but the graph has {values} values", value.id);
            Err(Error::graph(format!("output `{}`", value.name), message))
        }
    }
}

/// Checks that the input shapes will give every symbol a value.
fn check_symbols_are_bound(graph: &Graph) -> Result<(), Error> {
    let mut symbols = vec![None; graph.symbols.len()];
    let dims = || graph.inputs.iter().flat_map(|value| &value.shape);
    while let Some(symbol) = dims().find_map(|dim| dim.unknown(&symbols)) {
        symbols[symbol as usize] = Some(1);
    }
    match symbols.iter().position(Option::is_none) {
        None => Ok(()),
        Some(open) => Err(Error::graph(
            "`symbols`",
            format!("no input shape determines `{}`", graph.symbols[open]),
        )),
    }
}

/// Infers every shape for the inputs of a test vector.
fn check_test_shapes(graph: &Graph, index: usize, inputs: &[Fact]) -> Result<(), Error> {
    let vector = |error: Error| Error::graph(format!("test vector {index}"), error.to_string());
    let symbols = bind(graph, inputs).map_err(vector)?;
    let facts = infer(graph, &symbols, inputs)?.facts;
    for (value, tensor) in graph.outputs.iter().zip(&graph.tests[index].outputs) {
        let fact = &facts[value.id as usize];
        if !fact.shape.iter().map(|&extent| extent as u64).eq(tensor.shape.iter().copied()) {
            let place = format!("test vector {index}, output `{}`", value.name);
            let message = format!("expected {fact}, got shape {:?}", tensor.shape);
            return Err(Error::graph(place, message));
        }
    }
    Ok(())
}

/// The fact of a value whose shape has no symbols.
fn fixed_fact(value: &Value) -> Option<Fact> {
    let shape: Option<Vec<usize>> = value.shape.iter().map(|dim| dim.eval(&[])).collect();
    Some(Fact::new(dtype(value.dtype)?, shape?))
}

fn check_wdm(wdm: &Wdm) -> Result<(), Error> {
    if let Some(bad) = wdm.wavelengths_nm.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
        return Err(Error::graph("wdm", format!("a wavelength must be positive, got {bad} nm")));
    }
    let count = wdm.wavelengths_nm.len();
    match wdm.slot_of_stream.iter().find(|&&slot| slot as usize >= count) {
        None => Ok(()),
        Some(slot) => {
            let message = format!("`slot_of_stream` {slot} is not one of {count} wavelengths");
            Err(Error::graph("wdm", message))
        }
    }
}

fn check_crosstalk(crosstalk: &Crosstalk) -> Result<(), Error> {
    let (size, got) = (u64::from(crosstalk.size), crosstalk.matrix.len() as u64);
    if size * size != got {
        let message = format!("`matrix` must have {size} x {size} elements, got {got}");
        return Err(Error::graph("crosstalk", message));
    }
    if !COMPENSATIONS.contains(&crosstalk.compensation.as_str()) {
        let message = format!(
            "`compensation` must be one of {}, got `{}`",
            COMPENSATIONS.join(", "),
            crosstalk.compensation
        );
        return Err(Error::graph("crosstalk", message));
    }
    Ok(())
}
