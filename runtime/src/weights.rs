//! The constants of an entry point as the numbers that they stand for: as they are stored, or as
//! `dequantize` makes them of packed codes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::{DType, Data, Fact, Serial, View};

use crate::codes;
use crate::infer::{Made, make};
use crate::ir::{Attribute, Graph, Node, Tensor};
use crate::tensor::{byte_size, view_mut};
use crate::{Error, Model};

/// A constant: a tensor of the file, or what a node makes of tensors.
#[derive(Clone, Debug)]
pub(crate) struct Weight<'a> {
    /// The value in the graph.
    pub(crate) id: u32,
    /// Path in the parameters; empty for a folded constant.
    pub(crate) name: &'a str,
    pub(crate) fact: Fact,
    /// The tensor; of codes, theirs.
    pub(crate) tensor: &'a Tensor,
    pub(crate) codes: Option<Codes<'a>>,
}

/// How the numbers follow from codes.
#[derive(Clone, Debug)]
pub(crate) struct Codes<'a> {
    pub(crate) node: &'a Node,
    pub(crate) bits: u32,
    /// The tensors that the node reads, those of the codes first.
    operands: [&'a Tensor; 4],
}

/// Numbers of a constant.
pub(crate) enum Numbers<'a> {
    Stored(DType, &'a [u8]),
    Made(Vec<f32>),
}

impl Numbers<'_> {
    /// Type of the elements, and their little-endian bytes.
    pub(crate) fn bytes(&self) -> (DType, &[u8]) {
        match self {
            Self::Stored(dtype, bytes) => (*dtype, bytes),
            Self::Made(numbers) => (DType::F32, bytemuck::cast_slice(numbers)),
        }
    }
}

/// The constants of an entry point in the order of the file, those of codes last. Of several nodes that
/// read the same codes, the first counts; what tells the scales and levels of codes is part of those.
pub(crate) fn weights(graph: &Graph) -> Vec<Weight<'_>> {
    let tensors = graph.tensors_by_id();
    let mut coded = BTreeMap::new();
    let mut parts: BTreeSet<u32> = BTreeSet::new();
    for node in graph.nodes.iter().filter(|node| node.op == codes::OP) {
        if let Some(weight) = of_codes(node, &tensors) {
            parts.extend(&node.inputs);
            coded.entry(node.inputs[0]).or_insert(weight);
        }
    }
    // A scale that something else reads too is a constant of its own.
    for node in graph.nodes.iter().filter(|node| node.op != codes::OP) {
        let captures = node.regions().flat_map(|(_, region)| &region.captures);
        for id in node.inputs.iter().chain(captures) {
            parts.remove(id);
        }
    }
    let stored = graph.tensors.iter().filter(|tensor| !parts.contains(&tensor.id));
    let stored = stored.map(|tensor| Weight {
        id: tensor.id,
        name: &tensor.name,
        fact: tensor.stored.fact.clone(),
        tensor,
        codes: None,
    });
    stored.chain(coded.into_values()).collect()
}

/// What the node makes of codes, if all its operands are constants.
fn of_codes<'a>(node: &'a Node, tensors: &BTreeMap<u32, &'a Tensor>) -> Option<Weight<'a>> {
    let operands = codes::operands(node, tensors)?;
    let (Some(&Attribute::Int(bits)), &[id]) = (node.attributes.get("bits"), &*node.outputs) else {
        return None;
    };
    let tensor = operands[0];
    let op = match make(node, 0, &[], &[]).ok()? {
        Made::Op(op) => op,
        Made::Control(_) => return None,
    };
    let facts = operands.map(|tensor| tensor.stored.fact.clone());
    let fact = op.output_shapes(&facts).ok()?.pop()?;
    let codes = Codes { node, bits: u32::try_from(bits).ok()?, operands };
    Some(Weight { id, name: &tensor.name, fact, tensor, codes: Some(codes) })
}

impl<'a> Weight<'a> {
    /// Bytes that it takes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |tensor: &Tensor| tensor.stored.range().len() as u64;
        match &self.codes {
            None => size(self.tensor),
            Some(codes) => codes.operands.iter().map(|tensor| size(tensor)).sum(),
        }
    }

    /// The numbers.
    pub(crate) fn numbers(&self, model: &'a Model) -> Result<Numbers<'a>, Error> {
        match &self.codes {
            None => Ok(Numbers::Stored(self.fact.dtype, stored(model, self.tensor))),
            Some(codes) => {
                let operands = codes.operands.iter();
                let views: Vec<View<'a>> =
                    operands.map(|tensor| view_of(model, tensor)).collect::<Result<_, _>>()?;
                Ok(Numbers::Made(self.made(codes, &views)?))
            }
        }
    }

    /// The codes as numbers, from 0 on.
    pub(crate) fn codes(&self, model: &Model) -> Result<Option<Vec<f32>>, Error> {
        let Some(codes) = &self.codes else { return Ok(None) };
        // With a scale of one, a zero point of zero and no table, each number is its code.
        let (one, zero) = ([1f32], [0f32]);
        let table = [0, 1usize.checked_shl(codes.bits).unwrap_or(0)];
        let views = [
            view_of(model, self.tensor)?,
            View::new(&[1, 1], Data::F32(&one))?,
            View::new(&[1, 1], Data::F32(&zero))?,
            View::new(&table, Data::F32(&[]))?,
        ];
        self.made(codes, &views).map(Some)
    }

    fn made(&self, codes: &Codes<'_>, operands: &[View<'_>]) -> Result<Vec<f32>, Error> {
        let bytes = byte_size(&self.fact).unwrap_or(usize::MAX);
        let mut numbers: Vec<f32> = Vec::new();
        let length = bytes / size_of::<f32>();
        if numbers.try_reserve_exact(length).is_err() {
            return Err(Error::Allocation { bytes: bytes as u64 });
        }
        numbers.resize(length, 0.0);
        let Made::Op(op) = make(codes.node, 0, &[], &[])? else { return Ok(numbers) };
        let mut out = view_mut(&self.fact, bytemuck::cast_slice_mut(&mut numbers))?;
        op.run(operands, std::slice::from_mut(&mut out), &Serial)?;
        Ok(numbers)
    }

    /// The numbers, if they are float32 or pairs of them, and how many of them an element has.
    pub(crate) fn floats(&self, model: &'a Model) -> Option<(Cow<'a, [f32]>, usize)> {
        let numbers = match self.numbers(model).ok()? {
            Numbers::Made(numbers) => Cow::Owned(numbers),
            Numbers::Stored(DType::F32 | DType::C64, bytes) => {
                Cow::Borrowed(bytemuck::try_cast_slice(bytes).ok()?)
            }
            Numbers::Stored(..) => return None,
        };
        Some((numbers, if self.fact.dtype == DType::C64 { 2 } else { 1 }))
    }
}

/// The bytes of a constant, which the loader has found to be there.
pub(crate) fn stored<'a>(model: &'a Model, tensor: &Tensor) -> &'a [u8] {
    &model.weights()[tensor.stored.range()]
}

fn view_of<'a>(model: &'a Model, tensor: &'a Tensor) -> Result<View<'a>, Error> {
    Ok(crate::tensor::view(&tensor.stored.fact, stored(model, tensor))?)
}
