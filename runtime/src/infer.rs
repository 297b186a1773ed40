//! From the shapes of the inputs to the shape of every value.

use lumina_kernels::{DType, DynOp, Entry, Fact};

use crate::attrs::NodeAttrs;
use crate::control::{CONTROL, Control, ControlEntry, RegionNames};
use crate::ir::{Graph, Node, Region, in_region};
use crate::tensor::{MAX_RANK, byte_size};
use crate::{Error, ops};

/// Nodes for one set of shapes.
pub(crate) struct Inference {
    /// The fact of each value, by id.
    pub(crate) facts: Vec<Fact>,
    /// What each node does.
    pub(crate) actions: Vec<Action>,
}

/// What a node does.
pub(crate) enum Action {
    Op(Box<dyn DynOp>),
    /// With its regions, sorted by name.
    Control(Box<dyn Control>, Vec<Inference>),
}

/// How to make what a node does.
pub(crate) enum Found {
    Op(&'static Entry),
    Control(&'static ControlEntry),
}

/// An op by name: of the kernels, of this crate, or one that runs regions.
pub(crate) fn find(name: &str) -> Option<Found> {
    let mut ops = lumina_kernels::OPS.iter().chain(ops::entries());
    match ops.find(|entry| entry.name == name) {
        Some(entry) => Some(Found::Op(entry)),
        None => CONTROL.iter().find(|entry| entry.name == name).map(Found::Control),
    }
}

/// What a node does before the facts of its regions are known.
pub(crate) enum Made {
    Op(Box<dyn DynOp>),
    Control(Box<dyn Control>),
}

/// Makes what node number `index` of its scope does, where `symbols` have these values.
pub(crate) fn make(
    node: &Node,
    index: usize,
    symbols: &[Option<i128>],
    names: &[String],
) -> Result<Made, Error> {
    let fault = |message| Error::graph(node.place(index), message);
    let refused = |source| Error::Op { place: node.place(index), source };
    let attrs = NodeAttrs::resolve(node, symbols, names).map_err(fault)?;
    let found = find(&node.op).ok_or_else(|| Error::UnknownOps(vec![node.op.clone()]))?;
    let (made, regions) = match found {
        Found::Op(entry) => (Made::Op((entry.make)(&attrs).map_err(refused)?), vec![]),
        Found::Control(entry) => {
            let names: Vec<&str> = node.regions().map(|(name, _)| name).collect();
            if let Some(name) = entry.regions.missing(&names) {
                return Err(fault(format!("attribute `{name}` is missing, expected a region")));
            }
            let known = match entry.regions {
                RegionNames::Fixed(all) => all.to_vec(),
                RegionNames::Numbered(_) => names,
            };
            (Made::Control((entry.make)(&attrs).map_err(refused)?), known)
        }
    };
    match attrs.unread(&regions).as_slice() {
        [] => Ok(made),
        names => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            Err(fault(format!("unknown attributes: {}", names.join(", "))))
        }
    }
}

/// Makes every op and infers every shape for inputs of these facts, whose symbols are `symbols`.
pub(crate) fn infer(
    graph: &Graph,
    symbols: &[Option<i128>],
    inputs: &[Fact],
) -> Result<Inference, Error> {
    let mut scope = Scope::new(graph, symbols, graph.given(), &graph.nodes);
    for (port, fact) in graph.inputs.iter().zip(inputs) {
        scope.facts[port.id as usize] = fact.clone();
    }
    for state in &graph.states {
        scope.facts[state.id as usize] = state.fact.clone();
    }
    for tensor in graph.tensors.iter() {
        scope.facts[tensor.id as usize] = tensor.stored.fact.clone();
    }
    let inference = scope.infer(&graph.nodes)?;
    for port in &graph.outputs {
        let fact = &inference.facts[port.id as usize];
        if port.fact(symbols).as_ref() != Some(fact) {
            let words = port.describe(&graph.symbols);
            let message = format!("the file says {words}, but its nodes compute {fact}");
            return Err(Error::graph(format!("output `{}`", port.name), message));
        }
    }
    for state in &graph.states {
        let after = state.next.map(|id| &inference.facts[id as usize]);
        if let Some(fact) = after.filter(|fact| **fact != state.fact) {
            let message = format!("is {}, but its nodes make it {fact}", state.fact);
            return Err(Error::graph(state.place(), message));
        }
    }
    Ok(inference)
}

/// The facts so far of a graph or of a region.
struct Scope<'a> {
    graph: &'a Graph,
    symbols: &'a [Option<i128>],
    facts: Vec<Fact>,
}

impl<'a> Scope<'a> {
    fn new(graph: &'a Graph, symbols: &'a [Option<i128>], given: usize, nodes: &[Node]) -> Self {
        let outputs: usize = nodes.iter().map(|node| node.outputs.len()).sum();
        Self { graph, symbols, facts: vec![Fact::new(DType::F32, []); given + outputs] }
    }

    fn infer(mut self, nodes: &[Node]) -> Result<Inference, Error> {
        let mut actions = Vec::with_capacity(nodes.len());
        let mut operands = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            operands.clear();
            operands.extend(node.inputs.iter().map(|&id| self.facts[id as usize].clone()));
            let refused = |source| Error::Op { place: node.place(index), source };
            let (action, results) = match make(node, index, self.symbols, &self.graph.symbols)? {
                Made::Op(op) => {
                    let results = op.output_shapes(&operands).map_err(refused)?;
                    (Action::Op(op), results)
                }
                Made::Control(op) => {
                    let regions = node.regions().count();
                    let inputs = op.region_inputs(&operands, regions).map_err(refused)?;
                    let mut inferences = Vec::new();
                    let mut results = Vec::new();
                    for ((name, region), inputs) in node.regions().zip(&inputs) {
                        let inference = self
                            .region(region, inputs)
                            .map_err(|error| in_region(node, index, name, error))?;
                        let fact = |&id: &u32| inference.facts[id as usize].clone();
                        results.push(region.outputs.iter().map(fact).collect());
                        inferences.push(inference);
                    }
                    let results = op.output_shapes(&operands, &results).map_err(refused)?;
                    (Action::Control(op, inferences), results)
                }
            };
            let fault = |message| Error::graph(node.place(index), message);
            if results.len() != node.outputs.len() {
                let (expected, got) = (results.len(), node.outputs.len());
                return Err(fault(format!("the op has {expected} outputs, the node {got}")));
            }
            for (&id, fact) in node.outputs.iter().zip(results) {
                check_size(&fact).map_err(fault)?;
                self.facts[id as usize] = fact;
            }
            actions.push(action);
        }
        Ok(Inference { facts: self.facts, actions })
    }

    /// A region that is given inputs of these facts.
    fn region(&self, region: &Region, inputs: &[Fact]) -> Result<Inference, Error> {
        if region.inputs != inputs.len() {
            let (expected, got) = (inputs.len(), region.inputs);
            let message = format!("the op gives it {expected} inputs, it has {got}");
            return Err(Error::graph("interface", message));
        }
        let mut scope = Scope::new(self.graph, self.symbols, region.given(), &region.nodes);
        let captures = region.captures.iter().map(|&id| &self.facts[id as usize]);
        for (fact, given) in scope.facts.iter_mut().zip(captures.chain(inputs)) {
            fact.clone_from(given);
        }
        scope.infer(&region.nodes)
    }
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
