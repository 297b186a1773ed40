//! The plan of an operator: results go to memory of the caller where they can be written there.

use std::collections::BTreeMap;

use super::constants::Constants;
use super::planner::{Draft, Planner, UNASSIGNED};
use super::states::{Change, States};
use super::{Block, Place, Plan, Root, Step, Work};
use crate::Error;
use crate::infer::Inference;
use crate::ir::Node;
use crate::kept::Kept;
use crate::tensor::byte_size;

/// Where a result goes. The first buffers of a block are those of the results, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Its buffer, which is memory of the caller and holds it row-major.
    Buffer,
    /// Its buffer, which holds the value of that id before, of the same fact.
    Over(usize),
    /// Wherever it comes to lie, even in an operand; its buffer is not used.
    Anywhere,
    /// Another buffer, where it lies row-major; its own is not used.
    Workspace,
}

impl Plan {
    /// A plan of the nodes, of whose values `given` says where those lie that are not their results.
    /// `outputs` are the values that are results, with what becomes of them.
    pub(crate) fn of_operator(
        nodes: &[Node],
        inference: Inference,
        given: BTreeMap<usize, Place>,
        outputs: &[(usize, Target)],
        weights: &[u8],
        pool: &dyn lumina_kernels::ParFor,
    ) -> Result<Self, Error> {
        let mut kept = Kept::default();
        let constants = Constants::new(&mut kept.identities, true);
        let mut planner = Planner { weights, largest_view: 0, constants };
        let mut block = planner.operator(nodes, inference, given, outputs)?;
        let made = planner.constants.made;
        let copies = kept.prepare(weights, (0, nodes), &mut block, made, (0, u64::MAX), pool)?;
        Ok(Self { entry: 0, inputs: Vec::new(), block, copies })
    }
}

impl Planner<'_> {
    fn operator(
        &mut self,
        nodes: &[Node],
        inference: Inference,
        mut given: BTreeMap<usize, Place>,
        outputs: &[(usize, Target)],
    ) -> Result<Block, Error> {
        let mut states = States::new(outputs.iter().map(|&(id, _)| &inference.facts[id]));
        for (number, &(after, target)) in outputs.iter().enumerate() {
            if let Target::Over(before) = target {
                given.insert(before, Place::whole(Root::Buffer(number), &inference.facts[before]));
                states.changes.push(Change { number, before, after });
            }
        }
        let mut draft = Draft::new(&inference.facts, given);
        self.nodes(&mut draft, nodes, inference.actions)?;
        let last = nodes.len().saturating_sub(1);
        states.changes.retain(|change| change.before != change.after);
        self.separate(&mut draft, last, &mut states);
        let ids = outputs.iter().enumerate().map(|(number, &(id, target))| match target {
            Target::Over(before) => before,
            Target::Anywhere if states.owner(&draft, id).is_some() => {
                self.copied(&mut draft, last, id)
            }
            Target::Anywhere => id,
            Target::Workspace => match states.owner(&draft, id) {
                None if draft.places[draft.holders[id]].root == UNASSIGNED => {
                    self.row_major(&mut draft, last, id)
                }
                _ => self.copied(&mut draft, last, id),
            },
            Target::Buffer => placed(&mut draft, &states, last, id, Root::Buffer(number)),
        });
        let ids = ids.collect();
        Ok(super::buffers::finish(draft, ids, &states))
    }
}

/// The value, which lies at `root` from its start on, row-major: the step that computes it writes it
/// there, unless it lies elsewhere for a reason.
fn placed(draft: &mut Draft, states: &States, node: usize, id: usize, root: Root) -> usize {
    let holder = draft.holders[id];
    let fact = draft.places[id].fact();
    let layout = &draft.places[id].layout;
    let is_free = draft.places[holder].root == UNASSIGNED
        && states.owner(draft, id).is_none()
        && layout.is_row_major()
        && layout.start() == 0
        && byte_size(&fact) == Some(draft.bytes[holder]);
    if is_free {
        draft.places[holder].root = root;
        return holder;
    }
    let copy = draft.add(Place::whole(root, &fact), byte_size(&fact).unwrap_or(usize::MAX));
    draft.push(Step { node, work: Work::Copy, inputs: vec![id], outputs: vec![copy] }, &[]);
    copy
}
