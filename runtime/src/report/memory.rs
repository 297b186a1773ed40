//! Which value lies in which buffer when, for one set of shapes.

use std::collections::BTreeMap;

use lumina_kernels::{Fact, ParFor};
use serde_json::{Value, json};

use crate::ir::Graph;
use crate::kept::Kept;
use crate::plan::{Plan, Root, Step, Work};
use crate::{Error, Model};

/// A buffer from the step that writes it to the last one that needs what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    buffer: usize,
    first: usize,
    last: usize,
    bytes: usize,
    holds: Holds,
}

/// What lies in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// The value of that id.
    Value(usize),
    /// A row-major copy of the value of that id.
    Copy(usize),
    /// What the node needs beside its operands and results.
    Work,
    State,
}

/// The plan of an entry point for inputs of these facts, as JSON: buffers, spans in them, and what is
/// kept beside them. If the plan takes more than `limit` bytes, that is said in its place.
pub(super) fn memory(
    model: &Model,
    entry: usize,
    inputs: &[Fact],
    limit: u64,
    pool: &dyn ParFor,
) -> Result<Value, Error> {
    let mut kept = Kept::default();
    let plan = match Plan::new(model, entry, inputs, limit, &mut kept, pool) {
        Err(error @ (Error::Memory { .. } | Error::Allocation { .. })) => {
            return Ok(json!({ "error": error.to_string() }));
        }
        other => other?,
    };
    let graph = model.graph(entry)?;
    let spans = spans(&plan, graph, model.states().len());
    let steps = plan.block.steps.len();
    let live = live(&spans, steps);
    let peak = live.iter().copied().max().unwrap_or(0);
    let copies: usize = plan.copies.iter().map(|copy| copy.len()).sum();
    let step = |step: &Step| {
        let work = match step.work {
            Work::Op(_) => "op",
            Work::InPlace(..) => "in_place",
            Work::Copy => "copy",
            Work::Control(..) => "control",
        };
        json!([step.node, work])
    };
    let span = |span: &Span| {
        let (kind, id) = match span.holds {
            Holds::Value(id) => ("value", Some(id)),
            Holds::Copy(id) => ("copy", Some(id)),
            Holds::Work => ("work", None),
            Holds::State => ("state", None),
        };
        json!([span.buffer, span.first, span.last, span.bytes, kind, id])
    };
    Ok(json!({
        "buffers": plan.block.buffers,
        "state_buffers": model.states().len(),
        "allocated": plan.block.buffers.iter().map(|&bytes| bytes as u128).sum::<u128>() as f64,
        "peak": peak as f64,
        "peak_step": live.iter().position(|&bytes| bytes == peak),
        "copied_constants": copies,
        "kept": kept.bytes() as f64,
        "steps": plan.block.steps.iter().map(step).collect::<Vec<_>>(),
        "spans": spans.iter().map(span).collect::<Vec<_>>(),
    }))
}

/// When which buffer holds what, in the order of the steps.
fn spans(plan: &Plan, graph: &Graph, states: usize) -> Vec<Span> {
    let block = &plan.block;
    let values = graph.given() + graph.nodes.iter().map(|node| node.outputs.len()).sum::<usize>();
    // Of each buffer, what is written at which step, and the steps that read it.
    let mut writes: BTreeMap<usize, Vec<(usize, usize, Holds)>> = BTreeMap::new();
    let mut reads: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (time, step) in block.steps.iter().enumerate() {
        let captures = match &step.work {
            Work::Control(_, plan) => plan.regions.iter().flat_map(|(ids, _)| ids).collect(),
            _ => Vec::new(),
        };
        for &id in step.inputs.iter().chain(captures) {
            if let Root::Buffer(buffer) = block.places[id].root {
                reads.entry(buffer).or_default().push(time);
            }
        }
        for &id in &step.outputs {
            let Root::Buffer(buffer) = block.places[id].root else { continue };
            let holds = match &step.work {
                Work::Copy if id >= values => Holds::Copy(step.inputs[0]),
                _ => Holds::Value(id),
            };
            let bytes = crate::tensor::byte_size(&block.places[id].stored).unwrap_or(usize::MAX);
            writes.entry(buffer).or_default().push((time, bytes, holds));
        }
        if let Work::Control(_, plan) = &step.work {
            let own = plan.scratch.iter().map(|(_, buffer)| buffer);
            for &buffer in plan.buffers.iter().flatten().chain(own) {
                let bytes = block.buffers.get(buffer).copied().unwrap_or(0);
                writes.entry(buffer).or_default().push((time, bytes, Holds::Work));
            }
        }
    }
    let end = block.steps.len().saturating_sub(1);
    for &id in &block.outputs {
        if let Root::Buffer(buffer) = block.places[id].root {
            reads.entry(buffer).or_default().push(end + 1);
        }
    }
    let mut spans: Vec<Span> = (0..states.min(block.buffers.len()))
        .map(|buffer| {
            let bytes = block.buffers[buffer];
            Span { buffer, first: 0, last: end, bytes, holds: Holds::State }
        })
        .collect();
    for (&buffer, written) in writes.range(states..block.buffers.len().max(states)) {
        let read = reads.get(&buffer).map_or(&[][..], Vec::as_slice);
        for (index, &(first, bytes, holds)) in written.iter().enumerate() {
            // A step that writes over its operand counts for what it writes.
            let next = written.get(index + 1).map_or(end + 1, |(time, ..)| *time);
            let before = read.partition_point(|&time| time <= next);
            let last = read[..before].last().map_or(first, |&time| time.min(next - 1).max(first));
            spans.push(Span { buffer, first, last, bytes, holds });
        }
    }
    spans.sort_by_key(|span| (span.first, span.buffer));
    spans
}

/// Bytes that are needed at each step.
fn live(spans: &[Span], steps: usize) -> Vec<u128> {
    let mut changes = vec![0i128; steps + 1];
    for span in spans.iter().filter(|_| steps > 0) {
        changes[span.first] += span.bytes as i128;
        changes[span.last + 1] -= span.bytes as i128;
    }
    let mut now = 0;
    let sum = |change: &i128| {
        now += change;
        u128::try_from(now).unwrap_or(0)
    };
    changes[..steps].iter().map(sum).collect()
}
