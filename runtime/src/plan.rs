//! What to run, and where every value lies, for one set of input shapes.

use lumina_kernels::{DynOp, Fact};

use crate::infer::{Inference, bind, infer};
use crate::memory::{Access, Assignment, assign};
use crate::tensor::byte_size;
use crate::{Error, proto::Graph};

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In an argument of the run.
    Input(usize),
    /// In the WEIGHTS section, from this byte on.
    Weight(usize),
    /// At the start of a buffer.
    Buffer(usize),
}

/// A graph that is ready to run on inputs of certain shapes.
pub(crate) struct Plan {
    pub(crate) inputs: Vec<Fact>,
    /// The fact of each value, by id.
    pub(crate) facts: Vec<Fact>,
    /// The place of each value, by id.
    pub(crate) places: Vec<Place>,
    /// The op of each node.
    pub(crate) ops: Vec<Box<dyn DynOp>>,
    /// Bytes of each buffer.
    pub(crate) buffers: Vec<usize>,
}

impl Plan {
    pub(crate) fn new(graph: &Graph, inputs: &[Fact], limit: u64) -> Result<Self, Error> {
        let symbols = bind(graph, inputs)?;
        let Inference { facts, ops } = infer(graph, &symbols, inputs)?;
        let bytes: Vec<usize> =
            facts.iter().map(|fact| byte_size(fact).unwrap_or(usize::MAX)).collect();
        let nodes: Vec<Access<'_>> = graph
            .nodes
            .iter()
            .map(|node| Access { inputs: &node.inputs, outputs: &node.outputs })
            .collect();
        let kept: Vec<u32> = graph.outputs.iter().map(|value| value.id).collect();
        let Assignment { buffers, sizes } = assign(&nodes, &bytes, &kept);
        let needed: u128 = sizes.iter().map(|&size| size as u128).sum();
        if needed > limit.into() {
            return Err(Error::Memory { needed, limit });
        }
        let mut places: Vec<Place> =
            buffers.iter().map(|buffer| Place::Buffer(buffer.unwrap_or(0))).collect();
        for (index, value) in graph.inputs.iter().enumerate() {
            places[value.id as usize] = Place::Input(index);
        }
        for tensor in &graph.tensors {
            places[tensor.id as usize] = Place::Weight(tensor.offset as usize);
        }
        Ok(Self { inputs: inputs.to_vec(), facts, places, ops, buffers: sizes })
    }
}
