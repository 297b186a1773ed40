//! From the nodes of a scope to steps, and the places of values before they have buffers.

use std::collections::BTreeMap;
use std::sync::Arc;

use lumina_kernels::{DType, DynOp, Fact, View};

use super::buffers::finish;
use super::constants::Constants;
use super::states::{Change, States};
use super::{Block, ControlPlan, Place, Root, Step, Work};
use crate::Error;
use crate::control::Control;
use crate::infer::{Action, Inference};
use crate::ir::{Node, Region, in_region};
use crate::memory::Access;
use crate::tensor::byte_size;

pub(super) struct Planner<'a> {
    /// The constants of the file.
    pub(super) weights: &'a [u8],
    /// Bytes of the largest view that repeats elements, if it were none.
    pub(super) largest_view: usize,
    pub(super) constants: Constants<'a>,
}

/// A block in the making. What holds elements is a value that no other one looks at; scratch
/// buffers count as values.
pub(super) struct Draft {
    /// Of each value, with a buffer that is none yet.
    pub(super) places: Vec<Place>,
    /// The value whose memory each value lies in.
    pub(super) holders: Vec<usize>,
    /// Bytes of each value.
    pub(super) bytes: Vec<usize>,
    pub(super) steps: Vec<Step>,
    /// What each step reads and writes, as holders.
    pub(super) accesses: Vec<Access>,
    /// The row-major copy of a value, once there is one.
    copies: BTreeMap<usize, usize>,
    /// Weights that lie in the file as codes, and of which no reader has asked for numbers so far.
    coded: BTreeMap<usize, Coded>,
}

/// What makes weights of codes that lie in the file.
#[derive(Clone)]
struct Coded {
    op: Arc<dyn DynOp>,
    operands: Vec<Place>,
    /// The node, and its number in its scope.
    node: Node,
    index: usize,
}

/// The buffer of a value before buffers are assigned.
pub(super) const UNASSIGNED: Root = Root::Buffer(usize::MAX);

impl Draft {
    pub(super) fn new(facts: &[Fact], mut given: BTreeMap<usize, Place>) -> Self {
        let place =
            |(id, fact)| given.remove(&id).unwrap_or_else(|| Place::whole(UNASSIGNED, fact));
        Self {
            places: facts.iter().enumerate().map(place).collect(),
            holders: (0..facts.len()).collect(),
            bytes: facts.iter().map(|fact| byte_size(fact).unwrap_or(usize::MAX)).collect(),
            steps: Vec::new(),
            accesses: Vec::new(),
            copies: BTreeMap::new(),
            coded: BTreeMap::new(),
        }
    }

    /// A further value, computed by a step.
    pub(super) fn add(&mut self, place: Place, bytes: usize) -> usize {
        let id = self.places.len();
        self.places.push(place);
        self.holders.push(id);
        self.bytes.push(bytes);
        id
    }

    /// A further value, which is a constant.
    fn constant(&mut self, place: Place) -> usize {
        let bytes = byte_size(&place.fact()).unwrap_or(usize::MAX);
        self.add(place, bytes)
    }

    pub(super) fn push(&mut self, step: Step, scratch: &[usize]) {
        let captures = match &step.work {
            Work::Control(_, plan) => {
                plan.regions.iter().flat_map(|(ids, _)| ids).copied().collect()
            }
            _ => Vec::new(),
        };
        let reads = step.inputs.iter().copied().chain(captures).map(|id| self.holders[id]);
        let writes = step.outputs.iter().chain(scratch).copied();
        self.accesses.push(Access { reads: reads.collect(), writes: writes.collect() });
        self.steps.push(step);
    }
}

impl Planner<'_> {
    /// Plans the nodes of an entry point. `given` says where the values lie that are not results of
    /// its nodes.
    pub(super) fn graph(
        &mut self,
        nodes: &[Node],
        inference: Inference,
        given: BTreeMap<usize, Place>,
        outputs: Vec<usize>,
        mut states: States,
    ) -> Result<Block, Error> {
        let mut draft = Draft::new(&inference.facts, given);
        self.nodes(&mut draft, nodes, inference.actions)?;
        let last = nodes.len().saturating_sub(1);
        states.changes.retain(|change| change.before != change.after);
        self.separate(&mut draft, last, &mut states);
        let outputs = outputs.into_iter().map(|id| {
            self.settle(&mut draft, id);
            match states.owner(&draft, id) {
                Some(_) => self.copied(&mut draft, last, id),
                None => self.row_major(&mut draft, last, id),
            }
        });
        let outputs = outputs.collect();
        Ok(finish(draft, outputs, &states))
    }

    /// Finds out what may be written over a state, and has the values that states take on at last lie
    /// where no state is written meanwhile.
    pub(super) fn separate(&mut self, draft: &mut Draft, last: usize, states: &mut States) {
        for change in &mut states.changes {
            self.settle(draft, change.after);
            change.after = self.row_major(draft, last, change.after);
        }
        states.find_successors(draft);
        // What lies in the memory of a state is lost when the state is written.
        for index in 0..states.changes.len() {
            let Change { number, before, after } = states.changes[index];
            let is_own =
                draft.holders[after] != before && states.owner(draft, after) == Some(number);
            if states.owner(draft, after).is_some() && !is_own {
                states.changes[index].after = self.copied(draft, last, after);
            }
        }
    }

    /// Plans the nodes of a region, as `graph` does.
    fn scope(
        &mut self,
        nodes: &[Node],
        inference: Inference,
        given: BTreeMap<usize, Place>,
        coded: BTreeMap<usize, Coded>,
        outputs: Vec<usize>,
    ) -> Result<Block, Error> {
        let mut draft = Draft { coded, ..Draft::new(&inference.facts, given) };
        self.nodes(&mut draft, nodes, inference.actions)?;
        outputs.iter().for_each(|&id| self.settle(&mut draft, id));
        Ok(finish(draft, outputs, &States::default()))
    }

    pub(super) fn nodes(
        &mut self,
        draft: &mut Draft,
        nodes: &[Node],
        actions: Vec<Action>,
    ) -> Result<(), Error> {
        for (index, (node, action)) in nodes.iter().zip(actions).enumerate() {
            match action {
                Action::Op(op) => self.op(draft, index, node, op)?,
                Action::Control(op, regions) => self.control(draft, index, node, op, regions)?,
            }
        }
        Ok(())
    }

    fn op(
        &mut self,
        draft: &mut Draft,
        index: usize,
        node: &Node,
        op: Box<dyn DynOp>,
    ) -> Result<(), Error> {
        let inputs: Vec<usize> = node.inputs.iter().map(|&id| id as usize).collect();
        let outputs: Vec<usize> = node.outputs.iter().map(|&id| id as usize).collect();
        let (op, inputs) = self.with_codes(draft, op, inputs)?;
        inputs.iter().for_each(|&id| self.settle(draft, id));
        if let (&[x], &[y]) = (&*inputs, &*outputs)
            && let Some(layout) = op.alias(&draft.places[x].layout)
        {
            let place = Place { layout, ..draft.places[x].clone() };
            let bytes = byte_size(&place.fact()).unwrap_or(usize::MAX);
            if byte_size(&place.stored).is_some_and(|stored| bytes > stored) {
                self.largest_view = self.largest_view.max(bytes);
            }
            draft.places[y] = place;
            draft.holders[y] = draft.holders[x];
            return Ok(());
        }
        let inputs = match op.accepts_strides() {
            true => inputs,
            false => inputs.into_iter().map(|id| self.row_major(draft, index, id)).collect(),
        };
        let op: Arc<dyn DynOp> = op.into();
        if let &[y] = &*outputs {
            let places: Vec<&Place> = inputs.iter().map(|&id| &draft.places[id]).collect();
            let fact = draft.places[y].fact();
            let is_coded = op.as_dequantize().is_some()
                && !node.attributes.are_symbolic()
                && places.iter().all(|place| matches!(place.root, Root::Weights(_)));
            if is_coded && !fact.is_empty() {
                let operands = places.into_iter().cloned().collect();
                draft.coded.insert(y, Coded { op, operands, node: node.clone(), index });
                return Ok(());
            }
            if let Some(number) = self.constants.result((node, index), &op, &places, &fact, false) {
                draft.places[y] = Place::whole(Root::Copy(number), &fact);
                return Ok(());
            }
        }
        draft.push(Step { node: index, work: Work::Op(op), inputs, outputs }, &[]);
        Ok(())
    }

    /// The op that reads codes where an operand of this one is made of them, and its operands.
    fn with_codes(
        &self,
        draft: &mut Draft,
        op: Box<dyn DynOp>,
        mut inputs: Vec<usize>,
    ) -> Result<(Box<dyn DynOp>, Vec<usize>), Error> {
        for operand in 0..inputs.len() {
            let Some(coded) = draft.coded.get(&inputs[operand]) else { continue };
            let Some(codes) = coded.op.as_dequantize() else { continue };
            let operands = coded.operands.clone();
            let views: Option<Vec<View<'_>>> = operands.iter().map(|at| self.in_file(at)).collect();
            let constants: Vec<Option<View<'_>>> =
                inputs.iter().map(|&id| self.in_file(&draft.places[id])).collect();
            let Some(views) = views else { continue };
            let Some(reader) = op.with_codes(operand, codes, &constants, &views)? else { continue };
            let ids: Vec<usize> = operands.into_iter().map(|place| draft.constant(place)).collect();
            inputs.splice(operand..=operand, ids);
            return Ok((reader, inputs));
        }
        Ok((op, inputs))
    }

    /// The value at `place`, if it lies in the file.
    fn in_file<'p>(&'p self, place: &'p Place) -> Option<View<'p>> {
        match place.root {
            Root::Weights(_) => place.constant(self.weights, &[]).ok(),
            _ => None,
        }
    }

    /// Has the numbers of a value made, if it lies in the file as codes: once for all runs if they are
    /// constants, as whoever reads numbers would else wait for them in each run.
    fn settle(&mut self, draft: &mut Draft, id: usize) {
        let Some(Coded { op, operands, node, index }) = draft.coded.remove(&id) else { return };
        let places: Vec<&Place> = operands.iter().collect();
        let fact = draft.places[id].fact();
        if let Some(number) = self.constants.result((&node, index), &op, &places, &fact, true) {
            draft.places[id] = Place::whole(Root::Copy(number), &fact);
            return;
        }
        let inputs = operands.into_iter().map(|place| draft.constant(place)).collect();
        draft.push(Step { node: index, work: Work::Op(op), inputs, outputs: vec![id] }, &[]);
    }

    /// The value, or a copy of it that is row-major.
    pub(super) fn row_major(&mut self, draft: &mut Draft, node: usize, id: usize) -> usize {
        match draft.places[id].layout.is_row_major() {
            true => id,
            false => self.copied(draft, node, id),
        }
    }

    /// A copy of the value that is row-major: of a constant one for all runs, unless it would be larger
    /// than the constant.
    pub(super) fn copied(&mut self, draft: &mut Draft, node: usize, id: usize) -> usize {
        if let Some(&copy) = draft.copies.get(&id) {
            return copy;
        }
        let place = &draft.places[id];
        let fact = place.fact();
        let bytes = byte_size(&fact).unwrap_or(usize::MAX);
        let of_constant =
            place.is_constant() && byte_size(&place.stored).is_some_and(|stored| bytes <= stored);
        let copy = if of_constant {
            let number = self.constants.copy(place);
            draft.add(Place::whole(Root::Copy(number), &fact), bytes)
        } else {
            let copy = draft.add(Place::whole(UNASSIGNED, &fact), bytes);
            draft.push(Step { node, work: Work::Copy, inputs: vec![id], outputs: vec![copy] }, &[]);
            copy
        };
        draft.copies.insert(id, copy);
        copy
    }

    fn control(
        &mut self,
        draft: &mut Draft,
        index: usize,
        node: &Node,
        op: Box<dyn Control>,
        inferences: Vec<Inference>,
    ) -> Result<(), Error> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for &id in &node.inputs {
            self.settle(draft, id as usize);
            inputs.push(self.row_major(draft, index, id as usize));
        }
        let mut capture = |&id: &u32| {
            let id = id as usize;
            // Numbers that are not kept are those of a node of this scope, which a region has not.
            if !self.constants.computes {
                self.settle(draft, id);
            }
            // A constant is one inside too, in whatever order, and so are codes.
            match draft.places[id].is_constant() || draft.coded.contains_key(&id) {
                true => id,
                false => self.row_major(draft, index, id),
            }
        };
        let captures: Vec<Vec<usize>> = node
            .regions()
            .map(|(_, region)| region.captures.iter().map(&mut capture).collect())
            .collect();
        let facts: Vec<Fact> = inputs.iter().map(|&id| draft.places[id].fact()).collect();
        let (mut regions, mut buffers, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
        for (((name, region), captures), inference) in node.regions().zip(captures).zip(inferences)
        {
            let block = self
                .region(draft, region, &captures, inference)
                .map_err(|error| in_region(node, index, name, error))?;
            // A region that reads codes knows where they are; what it is given instead is not read.
            let captures = captures.into_iter().map(|id| match draft.coded.get(&id) {
                Some(codes) => draft.constant(codes.operands[0].clone()),
                None => id,
            });
            let captures = captures.collect();
            let mut own = Vec::new();
            for &bytes in &block.buffers {
                own.push(draft.add(Place::whole(UNASSIGNED, &Fact::new(DType::I8, [])), bytes));
            }
            scratch.extend(&own);
            buffers.push(own);
            regions.push((captures, block));
        }
        let mut own = Vec::new();
        for fact in op.scratch(&facts) {
            let bytes = byte_size(&fact).unwrap_or(usize::MAX);
            own.push((fact.clone(), draft.add(Place::whole(UNASSIGNED, &fact), bytes)));
        }
        scratch.extend(own.iter().map(|(_, id)| *id));
        let work = Work::Control(op, ControlPlan { regions, buffers, scratch: own });
        let outputs = node.outputs.iter().map(|&id| id as usize).collect();
        draft.push(Step { node: index, work, inputs, outputs }, &scratch);
        Ok(())
    }

    /// A region of the node that is planned, which captures these values of its scope.
    fn region(
        &mut self,
        draft: &Draft,
        region: &Region,
        captures: &[usize],
        inference: Inference,
    ) -> Result<Block, Error> {
        let (mut given, mut coded) = (BTreeMap::new(), BTreeMap::new());
        for (id, fact) in inference.facts[..region.given()].iter().enumerate() {
            let outer = captures.get(id);
            if let Some(codes) = outer.and_then(|outer| draft.coded.get(outer)) {
                coded.insert(id, codes.clone());
                continue;
            }
            let place = match outer.map(|&outer| &draft.places[outer]) {
                Some(place) if place.is_constant() => place.clone(),
                _ => Place::whole(Root::Given(id), fact),
            };
            given.insert(id, place);
        }
        let outputs = region.outputs.iter().map(|&id| id as usize).collect();
        self.scope(&region.nodes, inference, given, coded, outputs)
    }
}
