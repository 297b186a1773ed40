//! What to run, and where every value lies, for one set of input shapes.

use std::collections::BTreeMap;
use std::sync::Arc;

use lumina_kernels::{DType, Data, DynOp, Error as KernelError, Fact, Layout, View};

use crate::bind::bind;
use crate::bytes::AlignedBytes;
use crate::control::Control;
use crate::infer::{Action, Inference, infer};
use crate::ir::{Node, Region, in_region};
use crate::kept::Kept;
use crate::memory::{Access, Assignment, assign};
use crate::tensor::{byte_size, length_error};
use crate::{Error, Model};

/// A graph that is ready to run on inputs of certain shapes.
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Fact>,
    pub(crate) block: Block,
    /// The copies of constants that its places name.
    pub(crate) copies: Vec<Arc<AlignedBytes>>,
}

/// The nodes of a graph or of a region, ready to run.
pub(crate) struct Block {
    /// By value; the copies that the planner added come after the values of the file.
    pub(crate) places: Vec<Place>,
    pub(crate) steps: Vec<Step>,
    /// The values that are results.
    pub(crate) outputs: Vec<usize>,
    /// Bytes of each buffer.
    pub(crate) buffers: Vec<usize>,
}

/// Where a value lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) root: Root,
    /// What lies at the root.
    pub(crate) stored: Fact,
    /// Which elements of it are the value, in which order.
    pub(crate) layout: Layout,
}

/// What tells one constant from others: its root, what lies there, and its layout.
pub(crate) type ConstantKey = (Root, u32, Vec<usize>, Vec<usize>, Vec<isize>, usize);

/// What holds elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Root {
    /// An argument of the run, or a value that a region is given.
    Given(usize),
    /// The WEIGHTS section, from this byte on.
    Weights(usize),
    /// A copy of a constant, which the session keeps.
    Copy(usize),
    /// A buffer, from its start on.
    Buffer(usize),
}

/// One thing to do.
pub(crate) struct Step {
    /// The node that asks for it.
    pub(crate) node: usize,
    pub(crate) work: Work,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

/// What to do.
pub(crate) enum Work {
    Op(Arc<dyn DynOp>),
    /// The result is written over the input of this number, which dies.
    InPlace(Arc<dyn DynOp>, usize),
    /// The input, row-major.
    Copy,
    Control(Box<dyn Control>, ControlPlan),
}

/// What a node with regions needs beside its inputs and outputs.
pub(crate) struct ControlPlan {
    /// In the order of the node's regions, with the values of the scope that each captures.
    pub(crate) regions: Vec<(Vec<usize>, Block)>,
    /// Buffers of each region, as buffers of the scope.
    pub(crate) buffers: Vec<Vec<usize>>,
    /// The op's own tensors, and their buffers.
    pub(crate) scratch: Vec<(Fact, usize)>,
}

impl Plan {
    /// A plan for inputs of these facts. Its buffers and what is kept take no more than `limit` bytes.
    pub(crate) fn new(
        model: &Model,
        inputs: &[Fact],
        limit: u64,
        kept: &mut Kept,
    ) -> Result<Self, Error> {
        let graph = model.graph();
        let symbols = bind(graph, inputs)?;
        let inference = infer(graph, &symbols, inputs)?;
        let mut given = BTreeMap::new();
        for (index, port) in graph.inputs.iter().enumerate() {
            given.insert(port.id as usize, Place::whole(Root::Given(index), &inputs[index]));
        }
        for tensor in &graph.tensors {
            let root = Root::Weights(tensor.stored.offset as usize);
            given.insert(tensor.id as usize, Place::whole(root, &tensor.stored.fact));
        }
        let outputs = graph.outputs.iter().map(|port| port.id as usize).collect();
        let mut planner =
            Planner { largest_view: 0, constants: Vec::new(), numbers: BTreeMap::new() };
        let mut block =
            planner.block(&graph.nodes, inference, given, outputs, Results::RowMajor)?;
        let buffers: u128 = block.buffers.iter().map(|&size| size as u128).sum();
        if buffers <= limit.into() && planner.largest_view as u64 > limit {
            // It would take no memory, but whoever reads it would hardly come to an end.
            return Err(Error::Memory { needed: planner.largest_view as u128, limit });
        }
        let constants = planner.constants;
        let copies = kept.prepare(model, &mut block, constants, buffers, limit)?;
        Ok(Self { inputs: inputs.to_vec(), block, copies })
    }
}

impl Place {
    fn whole(root: Root, fact: &Fact) -> Self {
        Self { root, stored: fact.clone(), layout: Layout::row_major(&fact.shape) }
    }

    /// The fact of the value.
    pub(crate) fn fact(&self) -> Fact {
        Fact::new(self.stored.dtype, self.layout.shape())
    }

    pub(crate) fn key(&self) -> ConstantKey {
        let Self { root, stored, layout } = self;
        let (shape, strides) = (layout.shape().to_vec(), layout.strides().to_vec());
        let dtype = stored.dtype.file_number();
        (*root, dtype, stored.shape.clone(), shape, strides, layout.start())
    }

    /// The buffer that holds it, if one does.
    pub(crate) fn buffer(&self) -> Option<usize> {
        match self.root {
            Root::Buffer(buffer) => Some(buffer),
            _ => None,
        }
    }

    /// The value, where `bytes` are what lies at the root.
    pub(crate) fn view<'a>(&'a self, bytes: &'a [u8]) -> Result<View<'a>, KernelError> {
        let data = Data::from_bytes(self.stored.dtype, bytes)
            .ok_or_else(|| length_error(&self.stored, bytes.len()))?;
        View::strided(self.layout.shape(), self.layout.strides(), self.layout.start(), data)
    }

    /// Whether the value is the same in every run.
    pub(crate) fn is_constant(&self) -> bool {
        matches!(self.root, Root::Weights(_) | Root::Copy(_))
    }

    /// The value, which is a constant.
    pub(crate) fn constant<'a>(
        &'a self,
        weights: &'a [u8],
        copies: &'a [Arc<AlignedBytes>],
    ) -> Result<View<'a>, KernelError> {
        match self.root {
            Root::Weights(offset) => {
                self.view(&weights[offset..offset + byte_size(&self.stored).unwrap_or(0)])
            }
            Root::Copy(number) => self.view(&copies[number]),
            _ => self.view(&[]),
        }
    }
}

/// In which order the results of a block must lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Results {
    RowMajor,
    Any,
}

struct Planner {
    /// Bytes of the largest view that repeats elements, if it were none.
    largest_view: usize,
    /// The constants of which there will be a row-major copy, as the weights hold them.
    constants: Vec<Place>,
    /// Their numbers.
    numbers: BTreeMap<ConstantKey, usize>,
}

/// A block in the making. What holds elements is a value that no other one looks at; scratch
/// buffers count as values.
struct Draft {
    /// Of each value, with a buffer that is none yet.
    places: Vec<Place>,
    /// The value whose memory each value lies in.
    holders: Vec<usize>,
    /// Bytes of each value.
    bytes: Vec<usize>,
    steps: Vec<Step>,
    /// What each step reads and writes, as holders.
    accesses: Vec<Access>,
    /// The row-major copy of a value, once there is one.
    copies: BTreeMap<usize, usize>,
}

/// The buffer of a value before buffers are assigned.
const UNASSIGNED: Root = Root::Buffer(usize::MAX);

impl Draft {
    fn new(facts: &[Fact], mut given: BTreeMap<usize, Place>) -> Self {
        let place =
            |(id, fact)| given.remove(&id).unwrap_or_else(|| Place::whole(UNASSIGNED, fact));
        Self {
            places: facts.iter().enumerate().map(place).collect(),
            holders: (0..facts.len()).collect(),
            bytes: facts.iter().map(|fact| byte_size(fact).unwrap_or(usize::MAX)).collect(),
            steps: Vec::new(),
            accesses: Vec::new(),
            copies: BTreeMap::new(),
        }
    }

    /// A further value, computed by a step.
    fn add(&mut self, place: Place, bytes: usize) -> usize {
        let id = self.places.len();
        self.places.push(place);
        self.holders.push(id);
        self.bytes.push(bytes);
        id
    }

    fn push(&mut self, step: Step, scratch: &[usize]) {
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

impl Planner {
    /// Plans the nodes of a graph or of a region. `given` says where the values lie that are not
    /// results of its nodes.
    fn block(
        &mut self,
        nodes: &[Node],
        inference: Inference,
        given: BTreeMap<usize, Place>,
        outputs: Vec<usize>,
        results: Results,
    ) -> Result<Block, Error> {
        let mut draft = Draft::new(&inference.facts, given);
        for (index, (node, action)) in nodes.iter().zip(inference.actions).enumerate() {
            match action {
                Action::Op(op) => self.op(&mut draft, index, node, op)?,
                Action::Control(op, regions) => {
                    self.control(&mut draft, index, node, op, regions)?;
                }
            }
        }
        let last = nodes.len().saturating_sub(1);
        let outputs: Vec<usize> = match results {
            Results::RowMajor => {
                outputs.iter().map(|&id| self.row_major(&mut draft, last, id)).collect()
            }
            Results::Any => outputs,
        };
        Ok(finish(draft, outputs))
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
        draft.push(Step { node: index, work: Work::Op(op.into()), inputs, outputs }, &[]);
        Ok(())
    }

    /// The value, or a copy of it that is row-major: of a constant one for all runs, unless it would
    /// be larger than the constant.
    fn row_major(&mut self, draft: &mut Draft, node: usize, id: usize) -> usize {
        let place = &draft.places[id];
        if place.layout.is_row_major() {
            return id;
        }
        if let Some(&copy) = draft.copies.get(&id) {
            return copy;
        }
        let fact = place.fact();
        let bytes = byte_size(&fact).unwrap_or(usize::MAX);
        let of_constant =
            place.is_constant() && byte_size(&place.stored).is_some_and(|stored| bytes <= stored);
        let copy = if of_constant {
            let number = self.number_of(place);
            draft.add(Place::whole(Root::Copy(number), &fact), bytes)
        } else {
            let copy = draft.add(Place::whole(UNASSIGNED, &fact), bytes);
            draft.push(Step { node, work: Work::Copy, inputs: vec![id], outputs: vec![copy] }, &[]);
            copy
        };
        draft.copies.insert(id, copy);
        copy
    }

    /// The number of the copy of a constant.
    fn number_of(&mut self, place: &Place) -> usize {
        *self.numbers.entry(place.key()).or_insert_with(|| {
            self.constants.push(place.clone());
            self.constants.len() - 1
        })
    }

    fn control(
        &mut self,
        draft: &mut Draft,
        index: usize,
        node: &Node,
        op: Box<dyn Control>,
        inferences: Vec<Inference>,
    ) -> Result<(), Error> {
        let inputs: Vec<usize> =
            node.inputs.iter().map(|&id| self.row_major(draft, index, id as usize)).collect();
        let mut capture = |&id: &u32| match id as usize {
            // A constant is one inside too, in whatever order.
            id if draft.places[id].is_constant() => id,
            id => self.row_major(draft, index, id),
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
        let mut given = BTreeMap::new();
        for (id, fact) in inference.facts[..region.given()].iter().enumerate() {
            let place = match captures.get(id).map(|&outer| &draft.places[outer]) {
                Some(place) if place.is_constant() => place.clone(),
                _ => Place::whole(Root::Given(id), fact),
            };
            given.insert(id, place);
        }
        let outputs = region.outputs.iter().map(|&id| id as usize).collect();
        self.block(&region.nodes, inference, given, outputs, Results::Any)
    }
}

/// Lets results take the place of operands that die, and assigns buffers.
fn finish(mut draft: Draft, outputs: Vec<usize>) -> Block {
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
