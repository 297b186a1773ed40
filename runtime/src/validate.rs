//! Every check of a file that does not depend on the shapes of a run, once.

use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::{DType, Fact};

use crate::Error;
use crate::bind::check_symbols_are_bound;
use crate::codes::check_codes;
use crate::container::Contents;
use crate::infer::{check_size, find, make};
use crate::ir::dim::{MAX_FACTORS, MAX_POWER, MAX_SYMBOLS, MAX_TERMS};
use crate::ir::{Attribute, Dim, Graph, Module, Node, Port, Region, Role, State, in_region};
use crate::schedule;
use crate::stored::check_tensors;
use crate::tensor::MAX_RANK;
use crate::upgrade::OPSET;
use crate::vectors::check_vectors;

/// Bytes of the name of a symbol, which is in the text of every extent that has it.
const MAX_SYMBOL_NAME: usize = 64;
const MAX_ENTRIES: usize = 64;
/// Terms and factors in the shapes of the inputs and outputs, which every test vector is compared to.
const MAX_BOUNDARY: usize = 1 << 16;
/// Inputs of a node, its outputs, and what is in an attribute of it.
const MAX_OPERANDS: usize = 1 << 16;

/// Checks the graphs of a file against themselves and against the sections they refer to.
pub(crate) fn validate(module: &Module, contents: Contents<'_>) -> Result<(), Error> {
    if module.opset == 0 || module.opset > OPSET {
        let message = format!("must be from 1 to {OPSET}, got {}", module.opset);
        return Err(Error::graph("`opset`", message));
    }
    check_entries(&module.entries)?;
    check_tensors(&module.entries[0].tensors, contents)?;
    for graph in &module.entries {
        check_entry(graph).map_err(|error| of_entry(module, graph, error))?;
    }
    check_codes(module, contents)?;
    schedule::check::check(module)?;
    check_vectors(module, contents)
}

/// The error with the entry point, where a file has several.
pub(crate) fn of_entry(module: &Module, graph: &Graph, error: Error) -> Error {
    match module.entries.len() {
        1 => error,
        _ => error.within(&format!("entry point `{}`", graph.name)),
    }
}

/// Checks the names of entry points, and that the states which they share are alike.
fn check_entries(entries: &[Graph]) -> Result<(), Error> {
    if entries.len() > MAX_ENTRIES {
        let message = format!("at most {MAX_ENTRIES}, got {}", entries.len());
        return Err(Error::graph("entry points", message));
    }
    let mut names = BTreeSet::new();
    let mut states: BTreeMap<&str, &State> = BTreeMap::new();
    for graph in entries {
        if !names.insert(graph.name.as_str()) || graph.name.is_empty() && entries.len() > 1 {
            let message = format!("the name `{}` is empty or appears twice", graph.name);
            return Err(Error::graph("entry points", message));
        }
        let mut own = BTreeSet::new();
        for state in &graph.states {
            let other = states.entry(&state.name).or_insert(state);
            if !own.insert(&state.name) {
                return Err(Error::graph(state.place(), "the name appears twice"));
            }
            if (&other.fact, other.initial) != (&state.fact, state.initial) {
                let message = "entry points give it different types or initial values";
                return Err(Error::graph(state.place(), message));
            }
        }
    }
    Ok(())
}

/// Checks an entry point by itself.
fn check_entry(graph: &Graph) -> Result<(), Error> {
    check_symbols(graph)?;
    for (what, values) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        check_values(what, values, graph)?;
    }
    let boundary = graph.inputs.iter().chain(&graph.outputs).flat_map(|port| &port.shape);
    let size: usize = boundary.map(Dim::size).sum();
    if size > MAX_BOUNDARY {
        let message = format!("at most {MAX_BOUNDARY} terms and factors, got {size}");
        return Err(Error::graph("shapes of inputs and outputs", message));
    }
    check_seed(graph)?;
    check_states(graph)?;
    check_scopes(graph)?;
    check_symbols_are_bound(graph)
}

/// Checks the types of states and their initial values.
fn check_states(graph: &Graph) -> Result<(), Error> {
    if graph.states.is_empty() {
        return Ok(());
    }
    let tensors = graph.tensors_by_id();
    for state in &graph.states {
        let fault = |message| Error::graph(state.place(), message);
        check_size(&state.fact).map_err(fault)?;
        let Some(id) = state.initial else { continue };
        let Some(tensor) = tensors.get(&id) else {
            return Err(fault(format!("its initial value {id} is no tensor")));
        };
        let Fact { dtype, shape } = &tensor.stored.fact;
        if *dtype != state.fact.dtype || !shape.is_empty() && *shape != state.fact.shape {
            let (got, want) = (&tensor.stored.fact, &state.fact);
            return Err(fault(format!("is {want}, but its initial value is {got}")));
        }
    }
    Ok(())
}

fn check_symbols(graph: &Graph) -> Result<(), Error> {
    let named = &graph.symbols[..graph.bound()];
    if named.len() > MAX_SYMBOLS {
        let message = format!("at most {MAX_SYMBOLS}, got {}", named.len());
        return Err(Error::graph("`symbols`", message));
    }
    let mut seen = BTreeSet::new();
    for name in named {
        if name.is_empty() || !seen.insert(name) {
            let message = format!("`{name}` is empty or appears twice");
            return Err(Error::graph("`symbols`", message));
        }
        if name.len() > MAX_SYMBOL_NAME {
            let message =
                format!("a name has {} bytes, the limit is {MAX_SYMBOL_NAME}", name.len());
            return Err(Error::graph("`symbols`", message));
        }
    }
    for (index, derived) in graph.derived.iter().enumerate() {
        for dim in [&derived.left, &derived.right] {
            let known = graph.bound() + index;
            check_dim(dim, known)
                .map_err(|message| Error::graph(format!("derived symbol {index}"), message))?;
        }
    }
    let of_inputs =
        graph.inputs.iter().flat_map(|port| port.shape.iter().map(move |dim| (port, dim)));
    for (port, dim) in of_inputs {
        let mut factors = dim.terms.iter().flat_map(|term| &term.factors);
        let is_derived = |symbol: usize| (graph.bound()..graph.symbols.len()).contains(&symbol);
        if let Some(factor) = factors.find(|factor| is_derived(factor.symbol as usize)) {
            let message = format!("symbol {} in its shape follows from others", factor.symbol);
            return Err(Error::graph(format!("input `{}`", port.name), message));
        }
    }
    Ok(())
}

/// Checks inputs or outputs, apart from their ids.
fn check_values(what: &str, values: &[Port], graph: &Graph) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for value in values {
        let place = || format!("{what} `{}`", value.name);
        if !names.insert(value.name.as_str()) {
            return Err(Error::graph(place(), "the name appears twice"));
        }
        if value.shape.len() > MAX_RANK {
            let message = format!("rank {} is above the limit of {MAX_RANK}", value.shape.len());
            return Err(Error::graph(place(), message));
        }
        check_dims(&value.shape, graph).map_err(|message| Error::graph(place(), message))?;
        if let Some(fact) = value.fact(&[]) {
            check_size(&fact).map_err(|message| Error::graph(place(), message))?;
        }
    }
    Ok(())
}

/// Checks that the polynomials are short and use known symbols; extents without symbols are not
/// negative.
pub(crate) fn check_dims(dims: &[Dim], graph: &Graph) -> Result<(), String> {
    for dim in dims {
        check_dim(dim, graph.symbols.len())?;
        if !dim.is_symbolic() && dim.eval(&[]).is_none() {
            return Err(format!("{} is no extent", dim.display(&graph.symbols)));
        }
    }
    Ok(())
}

/// Checks that a polynomial is short and uses the first `known` symbols.
fn check_dim(dim: &Dim, known: usize) -> Result<(), String> {
    let factors = dim.terms.iter().map(|term| term.factors.len()).max().unwrap_or(0);
    for (what, most, got) in
        [("terms", MAX_TERMS, dim.terms.len()), ("factors in a term", MAX_FACTORS, factors)]
    {
        if got > most {
            return Err(format!("an extent has at most {most} {what}, got {got}"));
        }
    }
    for factor in dim.terms.iter().flat_map(|term| &term.factors) {
        if factor.symbol as usize >= known {
            let got = factor.symbol;
            return Err(format!("symbol {got} in a shape is not one of the {known}"));
        }
        if !(1..=MAX_POWER).contains(&factor.power) {
            let got = factor.power;
            return Err(format!("a power in a shape must be from 1 to {MAX_POWER}, got {got}"));
        }
    }
    Ok(())
}

fn check_seed(graph: &Graph) -> Result<(), Error> {
    let is_seed = |port: &&Port| port.role == Role::NoiseSeed;
    if let Some(value) = graph.outputs.iter().find(is_seed) {
        let place = format!("output `{}`", value.name);
        return Err(Error::graph(place, "only an input can be a noise seed"));
    }
    let mut seeds = graph.inputs.iter().filter(is_seed);
    let Some(seed) = seeds.next() else { return Ok(()) };
    if seed.fact(&[]) != Some(Fact::new(DType::U32, [2])) {
        let message = format!("a noise seed must be u32[2], got {}", seed.describe(&graph.symbols));
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

/// Checks the ids and the nodes of the graph and of every region in it.
fn check_scopes(graph: &Graph) -> Result<(), Error> {
    let mut unknown = BTreeSet::new();
    collect_unknown_ops(&graph.nodes, &mut unknown);
    if !unknown.is_empty() {
        return Err(Error::UnknownOps(unknown.into_iter().map(|op| format!("`{op}`")).collect()));
    }
    let mut scope = Scope::new("graph", graph.given(), &graph.nodes);
    for port in &graph.inputs {
        let place = || format!("input `{}`", port.name);
        scope.define(port.id).map_err(|message| Error::graph(place(), message))?;
    }
    for state in &graph.states {
        scope.define(state.id).map_err(|message| Error::graph(state.place(), message))?;
    }
    for tensor in graph.tensors.iter() {
        scope.define(tensor.id).map_err(|message| Error::graph(tensor.place(), message))?;
    }
    check_nodes(&mut scope, &graph.nodes, graph)?;
    let values = scope.defined.len();
    for state in &graph.states {
        if let Some(id) = state.next.filter(|&id| id as usize >= values) {
            let message = format!("becomes value {id}, but the graph has {values} values");
            return Err(Error::graph(state.place(), message));
        }
    }
    match graph.outputs.iter().find(|port| port.id as usize >= values) {
        None => Ok(()),
        Some(port) => {
            let message = format!("is value {}, but the graph has {values} values", port.id);
            Err(Error::graph(format!("output `{}`", port.name), message))
        }
    }
}

fn collect_unknown_ops<'a>(nodes: &'a [Node], unknown: &mut BTreeSet<&'a str>) {
    for node in nodes {
        if find(&node.op).is_none() {
            unknown.insert(&node.op);
        }
        for (_, region) in node.regions() {
            collect_unknown_ops(&region.nodes, unknown);
        }
    }
}

/// Which values of a graph or of a region are defined so far; their ids are 0..n.
struct Scope {
    name: &'static str,
    defined: Vec<bool>,
}

impl Scope {
    fn new(name: &'static str, given: usize, nodes: &[Node]) -> Self {
        let outputs: usize = nodes.iter().map(|node| node.outputs.len()).sum();
        Self { name, defined: vec![false; given + outputs] }
    }

    fn define(&mut self, id: u32) -> Result<(), String> {
        let (name, values) = (self.name, self.defined.len());
        match self.defined.get_mut(id as usize) {
            None => Err(format!("defines value {id}, but the {name} has {values} values")),
            Some(true) => Err(format!("defines value {id}, which is defined already")),
            Some(defined) => {
                *defined = true;
                Ok(())
            }
        }
    }

    fn read(&self, id: u32) -> Result<(), String> {
        match self.defined.get(id as usize) {
            None => {
                let (name, values) = (self.name, self.defined.len());
                Err(format!("reads value {id}, but the {name} has {values} values"))
            }
            Some(false) => Err(format!("reads value {id}, which is not defined before it")),
            Some(true) => Ok(()),
        }
    }
}

/// Checks that each node defines new values, reads what is defined before it, and that its op
/// accepts its attributes.
fn check_nodes(scope: &mut Scope, nodes: &[Node], graph: &Graph) -> Result<(), Error> {
    for (index, node) in nodes.iter().enumerate() {
        let fault = |message| Error::graph(node.place(index), message);
        if node.inputs.len().max(node.outputs.len()) > MAX_OPERANDS {
            return Err(fault(format!("more than {MAX_OPERANDS} inputs or outputs")));
        }
        for &id in &node.inputs {
            scope.read(id).map_err(fault)?;
        }
        for (name, attribute) in node.attributes.iter() {
            let length = match attribute {
                Attribute::Ints(list) => list.len(),
                Attribute::Shape(dims) => dims.len(),
                _ => 0,
            };
            if length > MAX_OPERANDS {
                let message = format!("at most {MAX_OPERANDS} integers, got {length}");
                return Err(fault(format!("attribute `{name}`: {message}")));
            }
            match attribute {
                Attribute::Shape(dims) => check_dims(dims, graph)
                    .map_err(|message| fault(format!("attribute `{name}`: {message}")))?,
                Attribute::Region(region) => {
                    for &id in &region.captures {
                        scope.read(id).map_err(|text| fault(format!("region `{name}` {text}")))?;
                    }
                    check_region(node, region, graph)
                        .map_err(|error| in_region(node, index, name, error))?;
                }
                _ => {}
            }
        }
        if !node.attributes.are_symbolic() {
            make(node, index, &[], &graph.symbols)?;
        }
        for &id in &node.outputs {
            scope.define(id).map_err(fault)?;
        }
    }
    Ok(())
}

fn check_region(node: &Node, region: &Region, graph: &Graph) -> Result<(), Error> {
    let fault = |message| Err(Error::graph("interface", message));
    if region.captures.len().max(region.outputs.len()) > MAX_OPERANDS {
        return fault(format!("more than {MAX_OPERANDS} captures or outputs"));
    }
    // What a number in the file claims must not cost more than the file is long.
    let most = node.inputs.len() + 1;
    if region.inputs > most {
        let got = region.inputs;
        return fault(format!("at most {most} inputs, one more than the node has, got {got}"));
    }
    let mut scope = Scope::new("region", region.given(), &region.nodes);
    scope.defined[..region.given()].fill(true);
    check_nodes(&mut scope, &region.nodes, graph)?;
    let values = scope.defined.len();
    match region.outputs.iter().find(|&&id| id as usize >= values) {
        None => Ok(()),
        Some(id) => fault(format!("value {id} is an output, but the region has {values} values")),
    }
}
