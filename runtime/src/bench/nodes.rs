//! What each step of a plan does, and how long it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lumina_kernels::{DynOp, Fact};

use crate::bind::bind;
use crate::infer::{Action, Inference, infer};
use crate::ir::{Attribute, Node};
use crate::plan::{Block, Place, Root, Step, Work};
use crate::profile::Profile;
use crate::tensor::byte_size;
use crate::{Error, Model, Session};

/// What one step of a run costs: a node of the file, or a copy that the plan makes for one.
#[derive(Clone, Debug)]
pub struct NodeCost {
    /// Number of the node in its scope, behind those of the nodes and the names of the regions that
    /// it lies in: "3", "3.body.1".
    pub node: String,
    /// The op; "copy" is what the plan adds where an op takes its operand row-major only.
    pub op: String,
    /// Where the node comes from, as the exporter says.
    pub source: String,
    /// Types of its results: "f32\[4,64\]".
    pub outputs: String,
    /// How often it ran in the runs that were timed.
    pub calls: u64,
    /// How long all calls took, without the nodes of regions, which have costs of their own.
    pub time: Duration,
    /// Arithmetic operations of a call; a product that is added to a sum counts as two.
    pub flops: u64,
    /// Bytes of a call: operands and results, each moved once. What is prepared of a weight counts in
    /// its place, and a repeated operand as it lies in memory.
    pub bytes: u64,
    /// The numbers that are multiplied, of which the arithmetic limit is.
    pub numbers: Numbers,
    /// Seconds that a call takes at least, by the limits of the machine.
    pub limit_seconds: f64,
    /// Whether it is the plan's, and no node of the file.
    pub(super) is_added: bool,
}

/// Numbers whose products have a limit of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Floats; all that are no codes count as such.
    Float32,
    /// Codes of converters of at most 8 bits on both sides.
    Int8,
}

impl Numbers {
    /// The name, as in `grad_precision`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
        }
    }

    fn of(node: &Node) -> Self {
        let bits = |name| match node.attributes.get(name) {
            Some(Attribute::Int(bits)) => Some(*bits),
            _ => None,
        };
        // Both operands of attention are signals, whose converters are alike.
        let (x, w) = (bits("dac_bits"), bits("weight_bits").or(bits("dac_bits")));
        match [x, w].iter().all(|bits| bits.is_some_and(|bits| (1..=8).contains(&bits))) {
            true => Self::Int8,
            false => Self::Float32,
        }
    }
}

/// The steps of the plan in use, with the nodes of regions behind the node that they belong to.
pub(super) fn costs(
    model: &Model,
    entry: usize,
    inputs: &[Fact],
    session: &Session,
    profile: &Profile,
) -> Result<Vec<NodeCost>, Error> {
    let graph = model.graph(entry)?;
    // Ops that are prepared for constants, and those that work in place, need not tell their work.
    let inference = infer(graph, &bind(graph, inputs)?, inputs)?;
    let mut found = Vec::new();
    add(&session.plan_in_use()?.block, &graph.nodes, &inference, profile, "", &mut found)?;
    Ok(found)
}

fn add(
    block: &Block,
    nodes: &[Node],
    inference: &Inference,
    profile: &Profile,
    scope: &str,
    found: &mut Vec<NodeCost>,
) -> Result<(), Error> {
    for (step, record) in block.steps.iter().zip(&profile.steps) {
        // What the plan adds in a scope may be for a node of another one.
        let node = nodes.get(step.node);
        let is_its = |node: &&Node| {
            node.outputs.iter().map(|&id| id as usize).eq(step.outputs.iter().copied())
        };
        let facts: Vec<String> =
            step.outputs.iter().map(|&id| block.places[id].fact().to_string()).collect();
        let mut cost = NodeCost {
            node: format!("{scope}{}", step.node),
            op: String::new(),
            source: node.map_or_else(String::new, |node| node.source.clone()),
            outputs: facts.join(", "),
            calls: record.calls(),
            time: record.own_time(),
            flops: 0,
            bytes: 0,
            numbers: Numbers::Float32,
            limit_seconds: 0.0,
            is_added: false,
        };
        match (&step.work, node.filter(is_its), inference.actions.get(step.node)) {
            (Work::Op(run) | Work::InPlace(run, _), Some(node), Some(Action::Op(op))) => {
                cost.op.clone_from(&node.op);
                cost.numbers = Numbers::of(node);
                let facts: Vec<Fact> =
                    node.inputs.iter().map(|&id| inference.facts[id as usize].clone()).collect();
                (cost.flops, cost.bytes) = work(block, step, &**run, op.work(&facts)?, &facts);
                found.push(cost);
            }
            (Work::Control(_, plan), Some(node), Some(Action::Control(_, inferences))) => {
                cost.op.clone_from(&node.op);
                found.push(cost);
                let regions = plan.regions.iter().zip(node.regions());
                for ((((_, block), (name, region)), inference), profile) in
                    regions.zip(inferences).zip(&record.regions)
                {
                    let scope = format!("{scope}{}.{name}.", step.node);
                    add(block, &region.nodes, inference, profile, &scope, found)?;
                }
            }
            (added, ..) => {
                let moved: usize = match added {
                    Work::Copy => 2 * outputs(block, step),
                    _ => operands(block, step) + outputs(block, step),
                };
                // Numbers of codes that lie in the file, or a view in order.
                let is_copy = matches!(added, Work::Copy);
                cost.op = if is_copy { "copy" } else { "dequantize" }.into();
                (cost.bytes, cost.is_added) = (moved as u64, true);
                found.push(cost);
            }
        }
    }
    Ok(())
}

/// Bytes of what a step writes.
fn outputs(block: &Block, step: &Step) -> usize {
    step.outputs.iter().map(|&id| bytes(&block.places[id])).sum()
}

/// Bytes of what a step reads, where a view that repeats numbers lies in memory once.
fn operands(block: &Block, step: &Step) -> usize {
    let stored = |place: &Place| byte_size(&place.stored).unwrap_or(usize::MAX);
    let places = step.inputs.iter().map(|&id| &block.places[id]);
    places.map(|place| bytes(place).min(stored(place))).fold(0, usize::saturating_add)
}

/// Operations and bytes of a step that runs `run`, where `work` is that of the node on operands of these
/// facts.
fn work(
    block: &Block,
    step: &Step,
    run: &dyn DynOp,
    work: lumina_kernels::Work,
    facts: &[Fact],
) -> (u64, u64) {
    let lumina_kernels::Work { flops, bytes: mut moved } = work;
    let of_node = lumina_kernels::Work::bytes_of(facts);
    if moved < of_node {
        // It reads parts of its operands.
        return (flops, moved);
    }
    // Some operands take less than they seem to: weights that lie there as codes, and what a view repeats.
    moved = (moved - of_node).saturating_add(operands(block, step) as u64);
    let held = run.held_bytes();
    if held > 0 {
        let is_constant = |id: &&usize| block.places[**id].is_constant();
        let constants: usize =
            step.inputs.iter().filter(is_constant).map(|&id| bytes(&block.places[id])).sum();
        moved = moved.saturating_sub(constants as u64).saturating_add(held as u64);
    }
    (flops, moved)
}

fn bytes(place: &Place) -> usize {
    byte_size(&place.fact()).unwrap_or(usize::MAX)
}

/// Bytes that runs of the plan in use go over: inputs, buffers, and what of the constants is read.
pub(super) fn working_set(session: &Session, inputs: &[Fact]) -> Result<usize, Error> {
    let plan = session.plan_in_use()?;
    let mut constants = BTreeMap::new();
    read(&plan.block, &mut constants);
    let memory = session.memory();
    let inputs = inputs.iter().map(|fact| byte_size(fact).unwrap_or(0));
    let constants = constants.into_values().chain(inputs).fold(0, usize::saturating_add);
    let kept = memory.states.saturating_add(memory.buffers).saturating_add(memory.kept);
    Ok(constants.saturating_add(kept))
}

/// The tensors of the file that steps read, by where they lie. What is prepared of some is kept.
fn read(block: &Block, constants: &mut BTreeMap<usize, usize>) {
    for step in &block.steps {
        match &step.work {
            Work::Op(op) | Work::InPlace(op, _) if op.held_bytes() > 0 => continue,
            Work::Control(_, plan) => {
                plan.regions.iter().for_each(|(_, block)| read(block, constants));
            }
            _ => {}
        }
        for &id in &step.inputs {
            let place = &block.places[id];
            if let Root::Weights(offset) = place.root {
                constants.insert(offset, byte_size(&place.stored).unwrap_or(0));
            }
        }
    }
}

/// Nodes of the entry point that no step stands for: views, and what was computed once for all runs.
pub(super) fn idle(model: &Model, entry: usize, steps: &[NodeCost]) -> Result<usize, Error> {
    fn count(nodes: &[Node]) -> usize {
        let within =
            |node: &Node| node.regions().map(|(_, region)| count(&region.nodes)).sum::<usize>();
        nodes.iter().map(|node| 1 + within(node)).sum::<usize>()
    }
    let run: BTreeSet<&str> =
        steps.iter().filter(|step| !step.is_added).map(|step| step.node.as_str()).collect();
    Ok(count(&model.graph(entry)?.nodes) - run.len())
}
