//! What to run, and where every value lies, for one set of input shapes.

mod buffers;
pub(crate) mod constants;
mod operator;
mod planner;
mod states;

use std::collections::BTreeMap;
use std::sync::Arc;

use lumina_kernels::{
    Data, DataMut, DynOp, Error as KernelError, Fact, Layout, ParFor, View, ViewMut,
};

use crate::bind::bind;
use crate::bytes::AlignedBytes;
use crate::control::Control;
use crate::infer::infer;
use crate::kept::Kept;
use crate::tensor::{byte_size, length_error};
use crate::{Error, Model};
use constants::Constants;
pub(crate) use operator::Target;
use planner::Planner;
use states::{Change, States};

/// An entry point that is ready to run on inputs of certain shapes.
pub(crate) struct Plan {
    pub(crate) entry: usize,
    pub(crate) inputs: Vec<Fact>,
    pub(crate) block: Block,
    /// The constants that its places name.
    pub(crate) copies: Vec<Arc<AlignedBytes>>,
}

/// The nodes of a graph or of a region, ready to run.
pub(crate) struct Block {
    /// By value; the copies that the planner added come after the values of the file.
    pub(crate) places: Vec<Place>,
    pub(crate) steps: Vec<Step>,
    /// The values that are results.
    pub(crate) outputs: Vec<usize>,
    /// Bytes of each buffer, the states of the model first where it is an entry point.
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
    /// A constant that the session has made of others, and keeps.
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
    /// A plan of an entry point for inputs of these facts. Its buffers, the states of the model, and
    /// what is kept take no more than `limit` bytes.
    pub(crate) fn new(
        model: &Model,
        entry: usize,
        inputs: &[Fact],
        limit: u64,
        kept: &mut Kept,
        pool: &dyn ParFor,
    ) -> Result<Self, Error> {
        let mut plan =
            |computes| Self::planned(model, (entry, inputs), limit, kept, pool, computes);
        match plan(true) {
            // Results of ops of constants are kept where there is room.
            Err(Error::Memory { .. }) => plan(false),
            other => other,
        }
    }

    fn planned(
        model: &Model,
        (entry, inputs): (usize, &[Fact]),
        limit: u64,
        kept: &mut Kept,
        pool: &dyn ParFor,
        computes: bool,
    ) -> Result<Self, Error> {
        kept.forget_unused();
        let graph = model.graph(entry)?;
        let symbols = bind(graph, inputs)?;
        let inference = infer(graph, &symbols, inputs)?;
        let mut given = BTreeMap::new();
        for (index, port) in graph.inputs.iter().enumerate() {
            given.insert(port.id as usize, Place::whole(Root::Given(index), &inputs[index]));
        }
        let numbers: BTreeMap<&str, usize> =
            model.states().iter().map(|state| state.name.as_str()).zip(0..).collect();
        let mut states = States::new(model.states().iter().map(|state| &state.fact));
        for state in &graph.states {
            let Some(&number) = numbers.get(state.name.as_str()) else { continue };
            given.insert(state.id as usize, Place::whole(Root::Buffer(number), &state.fact));
            if let Some(next) = state.next {
                states.changes.push(Change {
                    number,
                    before: state.id as usize,
                    after: next as usize,
                });
            }
        }
        for tensor in graph.tensors.iter() {
            let root = Root::Weights(tensor.stored.offset as usize);
            given.insert(tensor.id as usize, Place::whole(root, &tensor.stored.fact));
        }
        let outputs = graph.outputs.iter().map(|port| port.id as usize).collect();
        let constants = Constants::new(&mut kept.identities, computes);
        let mut planner = Planner { weights: model.weights(), largest_view: 0, constants };
        let mut block = planner.graph(&graph.nodes, inference, given, outputs, states)?;
        let buffers: u128 = block.buffers.iter().map(|&size| size as u128).sum();
        if buffers <= limit.into() && planner.largest_view as u64 > limit {
            // It would take no memory, but whoever reads it would hardly come to an end.
            return Err(Error::Memory { needed: planner.largest_view as u128, limit });
        }
        let made = planner.constants.made;
        let nodes = (entry, graph.nodes.as_slice());
        let copies =
            kept.prepare(model.weights(), nodes, &mut block, made, (buffers, limit), pool)?;
        Ok(Self { entry, inputs: inputs.to_vec(), block, copies })
    }
}

impl Place {
    pub(super) fn whole(root: Root, fact: &Fact) -> Self {
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

    /// The value, which is row-major, to be written to the start of `bytes`.
    pub(crate) fn view_mut<'a>(&'a self, bytes: &'a mut [u8]) -> Result<ViewMut<'a>, KernelError> {
        let (dtype, shape) = (self.stored.dtype, self.layout.shape());
        let count = if self.layout.is_empty() { 0 } else { shape.iter().product::<usize>() };
        let size = count * dtype.size();
        let data = DataMut::from_bytes(dtype, &mut bytes[..size]);
        ViewMut::new(shape, data.ok_or_else(|| length_error(&self.stored, size))?)
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
