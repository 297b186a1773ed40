//! What stays from one run to the next: the first buffers of an entry point are the states of the model,
//! which are written in place where nothing needs the value before.

use std::collections::BTreeMap;

use lumina_kernels::Fact;

use super::planner::Draft;
use super::{Root, Step, Work};
use crate::memory::Access;
use crate::tensor::byte_size;

/// The states of a model, and what an entry point makes of them.
#[derive(Default)]
pub(super) struct States {
    /// Bytes of each.
    pub(super) bytes: Vec<usize>,
    pub(super) changes: Vec<Change>,
    /// The values that may be written over a state, by their holders, with the number of the state:
    /// those on a way, by ops that work in place, from its value before the run to the one after it.
    /// Any other value there would be lost when the state is written at last.
    pub(super) successors: BTreeMap<usize, usize>,
}

/// A state that a run changes: its number, and its values before and after.
pub(super) struct Change {
    pub(super) number: usize,
    pub(super) before: usize,
    pub(super) after: usize,
}

impl States {
    pub(super) fn new<'a>(facts: impl Iterator<Item = &'a Fact>) -> Self {
        let bytes = facts.map(|fact| byte_size(fact).unwrap_or(usize::MAX)).collect();
        Self { bytes, changes: Vec::new(), successors: BTreeMap::new() }
    }

    /// The number of the state in whose memory `holder` lies from the start.
    pub(super) fn held_by(&self, draft: &Draft, holder: usize) -> Option<usize> {
        match draft.places[holder].root {
            Root::Buffer(number) if number < self.bytes.len() => Some(number),
            _ => None,
        }
    }

    /// The number of the state in whose memory the value lies, or may come to lie.
    pub(super) fn owner(&self, draft: &Draft, id: usize) -> Option<usize> {
        let holder = draft.holders[id];
        self.held_by(draft, holder).or_else(|| self.successors.get(&holder).copied())
    }

    pub(super) fn find_successors(&mut self, draft: &Draft) {
        let mut makers = vec![None; draft.places.len()];
        for (time, step) in draft.steps.iter().enumerate() {
            for &output in &step.outputs {
                makers[output] = Some(time);
            }
        }
        for &Change { number, before, after } in &self.changes {
            let (mut way, mut value) = (Vec::new(), draft.holders[after]);
            while let Some(operand) = makers[value].and_then(|time| overwritten(draft, time)) {
                way.push((value, number));
                value = draft.holders[operand];
            }
            if value == before && way.iter().all(|(id, _)| !self.successors.contains_key(id)) {
                self.successors.extend(way);
            }
        }
    }

    /// The last steps: copies to the states that were not written in place.
    pub(super) fn commit(&self, draft: &mut Draft, heirs: &[usize]) {
        let node = draft.steps.last().map_or(0, |step| step.node);
        for &Change { before, after, .. } in &self.changes {
            let source = heirs[draft.holders[after]];
            if source != before {
                draft.accesses.push(Access { reads: vec![source], writes: vec![before] });
                let (inputs, outputs) = (vec![after], vec![before]);
                draft.steps.push(Step { node, work: Work::Copy, inputs, outputs });
            }
        }
    }
}

/// The first operand that the step can write its only result over.
fn overwritten(draft: &Draft, time: usize) -> Option<usize> {
    let step = &draft.steps[time];
    let (Work::Op(op), [_]) = (&step.work, &*step.outputs) else { return None };
    let facts: Vec<Fact> = step.inputs.iter().map(|&id| draft.places[id].fact()).collect();
    let operand = (0..facts.len()).find(|&operand| op.in_place(&facts, operand))?;
    Some(step.inputs[operand])
}
