//! Which memory each value of a scope takes.

use std::sync::Arc;

use lumina_kernels::Fact;

use super::planner::{Draft, UNASSIGNED};
use super::states::States;
use super::{Block, Root, Work};
use crate::memory::{Assignment, assign};

/// Lets results take the place of operands that die, and assigns buffers. The first ones are those of
/// the states.
pub(super) fn finish(mut draft: Draft, outputs: Vec<usize>, states: &States) -> Block {
    let mut last_use = vec![0; draft.places.len()];
    for (time, access) in draft.accesses.iter().enumerate() {
        for &holder in access.reads.iter().chain(&access.writes) {
            last_use[holder] = time;
        }
    }
    let results: Vec<usize> =
        outputs.iter().copied().chain(states.changes.iter().map(|change| change.after)).collect();
    for &id in &results {
        last_use[draft.holders[id]] = usize::MAX;
    }
    // The holder whose memory each holder takes over.
    let mut heirs: Vec<usize> = (0..draft.places.len()).collect();
    for time in 0..draft.steps.len() {
        let Some(operand) = dying_operand(&draft, time, &last_use, &heirs, states) else {
            continue;
        };
        let step = &mut draft.steps[time];
        let (from, to) = (heirs[draft.holders[step.inputs[operand]]], step.outputs[0]);
        if let Work::Op(op) = &step.work {
            step.work = Work::InPlace(Arc::clone(op), operand);
        }
        heirs[to] = from;
        last_use[from] = last_use[to];
    }
    states.commit(&mut draft, &heirs);
    let is_state: Vec<bool> =
        (0..heirs.len()).map(|holder| states.held_by(&draft, holder).is_some()).collect();
    for access in &mut draft.accesses {
        for holders in [&mut access.reads, &mut access.writes] {
            holders.iter_mut().for_each(|holder| *holder = heirs[*holder]);
            holders.retain(|&holder| !is_state[holder]);
        }
    }
    let kept: Vec<usize> = results.iter().map(|&id| heirs[draft.holders[id]]).collect();
    let Assignment { buffers, sizes } = assign(&draft.accesses, &draft.bytes, &kept);
    let number = |holder: usize| match draft.places[heirs[holder]].root {
        UNASSIGNED => buffers[heirs[holder]].map_or(usize::MAX, |own| states.bytes.len() + own),
        Root::Buffer(state) => state,
        _ => usize::MAX,
    };
    let numbers: Vec<usize> = (0..heirs.len()).map(number).collect();
    for (place, &holder) in draft.places.iter_mut().zip(&draft.holders) {
        if place.root == UNASSIGNED {
            place.root = Root::Buffer(numbers[holder]);
        }
    }
    for step in &mut draft.steps {
        if let Work::Control(_, plan) = &mut step.work {
            for id in plan.buffers.iter_mut().flatten() {
                *id = numbers[*id];
            }
            for (_, id) in &mut plan.scratch {
                *id = numbers[*id];
            }
        }
    }
    let is_empty = |id: &usize| draft.places[*id].layout.is_empty();
    // Nothing to compute, however large the other extents claim to be.
    draft.steps.retain(|step| !step.outputs.iter().all(is_empty));
    let buffers = [&*states.bytes, &sizes].concat();
    Block { places: draft.places, steps: draft.steps, outputs, buffers }
}

/// The operand of the step at `time` that its only result may be written over: it fills the memory
/// that holds it, and nothing reads that memory later, or as another operand.
fn dying_operand(
    draft: &Draft,
    time: usize,
    last_use: &[usize],
    heirs: &[usize],
    states: &States,
) -> Option<usize> {
    let step = &draft.steps[time];
    let (Work::Op(op), &[result]) = (&step.work, &*step.outputs) else { return None };
    if draft.places[result].root != UNASSIGNED {
        // It is written where a caller wants it.
        return None;
    }
    let facts: Vec<Fact> = step.inputs.iter().map(|&id| draft.places[id].fact()).collect();
    let fact = draft.places[result].fact();
    (0..step.inputs.len()).find(|&operand| {
        let id = step.inputs[operand];
        let (place, holder) = (&draft.places[id], draft.holders[id]);
        let reads = || draft.accesses[time].reads.iter().filter(|&&read| read == holder).count();
        let may_be_written = match states.held_by(draft, heirs[holder]) {
            Some(state) => states.successors.get(&result) == Some(&state),
            None => place.root == UNASSIGNED,
        };
        may_be_written
            && place.layout.is_row_major()
            && facts[operand] == fact
            && draft.bytes[holder] == draft.bytes[result]
            && last_use[heirs[holder]] == time
            && op.in_place(&facts, operand)
            && reads() == 1
    })
}
