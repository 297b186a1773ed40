//! Which memory each value of a scope takes.

use std::sync::Arc;

use lumina_kernels::Fact;

use super::planner::{Draft, UNASSIGNED};
use super::{Block, Root, Work};
use crate::memory::{Assignment, assign};

/// Lets results take the place of operands that die, and assigns buffers.
pub(super) fn finish(mut draft: Draft, outputs: Vec<usize>) -> Block {
    let mut last_use = vec![0; draft.places.len()];
    for (time, access) in draft.accesses.iter().enumerate() {
        for &holder in access.reads.iter().chain(&access.writes) {
            last_use[holder] = time;
        }
    }
    for &id in &outputs {
        last_use[draft.holders[id]] = usize::MAX;
    }
    // The holder whose memory each holder takes over.
    let mut heirs: Vec<usize> = (0..draft.places.len()).collect();
    for time in 0..draft.steps.len() {
        let Some(operand) = dying_operand(&draft, time, &last_use, &heirs) else { continue };
        let step = &mut draft.steps[time];
        let (from, to) = (heirs[draft.holders[step.inputs[operand]]], step.outputs[0]);
        if let Work::Op(op) = &step.work {
            step.work = Work::InPlace(Arc::clone(op), operand);
        }
        heirs[to] = from;
        last_use[from] = last_use[to];
    }
    for access in &mut draft.accesses {
        for holder in access.reads.iter_mut().chain(&mut access.writes) {
            *holder = heirs[*holder];
        }
    }
    let kept: Vec<usize> = outputs.iter().map(|&id| heirs[draft.holders[id]]).collect();
    let Assignment { buffers, sizes } = assign(&draft.accesses, &draft.bytes, &kept);
    let buffer_of = |holder: usize| buffers[heirs[holder]].unwrap_or(usize::MAX);
    for (place, &holder) in draft.places.iter_mut().zip(&draft.holders) {
        if place.root == UNASSIGNED {
            place.root = Root::Buffer(buffer_of(holder));
        }
    }
    for step in &mut draft.steps {
        if let Work::Control(_, plan) = &mut step.work {
            for id in plan.buffers.iter_mut().flatten() {
                *id = buffer_of(*id);
            }
            for (_, id) in &mut plan.scratch {
                *id = buffer_of(*id);
            }
        }
    }
    let is_empty = |id: &usize| draft.places[*id].layout.is_empty();
    // Nothing to compute, however large the other extents claim to be.
    draft.steps.retain(|step| !step.outputs.iter().all(is_empty));
    Block { places: draft.places, steps: draft.steps, outputs, buffers: sizes }
}

/// The operand of the step at `time` that its only result may be written over: it fills the memory
/// that holds it, and nothing reads that memory later, or as another operand.
fn dying_operand(draft: &Draft, time: usize, last_use: &[usize], heirs: &[usize]) -> Option<usize> {
    let step = &draft.steps[time];
    let (Work::Op(op), &[result]) = (&step.work, &*step.outputs) else { return None };
    let facts: Vec<Fact> = step.inputs.iter().map(|&id| draft.places[id].fact()).collect();
    let fact = draft.places[result].fact();
    (0..step.inputs.len()).find(|&operand| {
        let id = step.inputs[operand];
        let (place, holder) = (&draft.places[id], draft.holders[id]);
        let reads = || draft.accesses[time].reads.iter().filter(|&&read| read == holder).count();
        place.root == UNASSIGNED
            && place.layout.is_row_major()
            && facts[operand] == fact
            && draft.bytes[holder] == draft.bytes[result]
            && last_use[heirs[holder]] == time
            && op.in_place(&facts, operand)
            && reads() == 1
    })
}
