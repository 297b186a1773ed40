//! What a model is run on.

use lumina_kernels::{Fact, View};
use num_complex::Complex64;

use super::Request;
use super::report::InputUsed;
use crate::bytes::AlignedBytes;
use crate::error::quoted;
use crate::extents::{check_given, shapes};
use crate::ir::{Graph, TestVector};
use crate::ops::{Convert, Number, element_arms, with_element};
use crate::tensor::{Tensor, byte_size};
use crate::verify::stored;
use crate::{Error, Model};

/// Inputs of one entry point.
pub(super) struct Inputs {
    tensors: Vec<Tensor>,
    /// Name and value of each symbol.
    pub(super) symbols: Vec<(String, u64)>,
    /// That of them which is the batch, if one is.
    pub(super) batch: Option<(String, u64)>,
    pub(super) used: Vec<InputUsed>,
}

impl Inputs {
    pub(super) fn new(model: &Model, entry: usize, request: &Request) -> Result<Self, Error> {
        let graph = model.graph(entry)?;
        let batch = batch(graph);
        let mut given: Vec<(String, u64)> = Vec::new();
        if let Some(rows) = request.batch {
            let name = batch.ok_or_else(|| {
                let names = graph.symbols[..graph.bound()].iter().map(String::as_str);
                Error::Input(format!(
                    "there is no batch to set: no input has a symbol as axis 0; the symbols are {}",
                    quoted(names)
                ))
            })?;
            given.push((name.into(), rows));
        }
        given.extend_from_slice(&request.symbols);
        check_given(std::iter::once(graph), &given)?;
        let shapes = shapes(model, entry, &given)?;
        let mut vectors = model.module().tests.iter().enumerate();
        let vector = vectors.find(|(_, test)| test.entry == entry);
        let mut tensors = Vec::new();
        let mut used = Vec::new();
        let mut sizes = 0u128;
        for (index, (port, fact)) in graph.inputs.iter().zip(&shapes.facts).enumerate() {
            // Inputs count as buffers do: a symbol that is too large is told, and not allocated.
            sizes += byte_size(fact).unwrap_or(usize::MAX) as u128;
            let limit = request.options.memory_limit;
            if sizes > limit.into() {
                return Err(Error::Memory { needed: sizes, limit });
            }
            let (tensor, from) = input(model, fact, index, vector)?;
            let bytes = byte_size(fact).unwrap_or(0);
            used.push(InputUsed { name: port.name.clone(), fact: fact.to_string(), bytes, from });
            tensors.push(tensor);
        }
        let symbols = shapes.extents.into_iter().map(|extent| (extent.name, extent.value));
        let symbols: Vec<(String, u64)> = symbols.collect();
        let batch = batch.and_then(|name| symbols.iter().find(|(known, _)| known == name).cloned());
        Ok(Self { tensors, symbols, batch, used })
    }

    pub(super) fn views(&self) -> Result<Vec<View<'_>>, Error> {
        Ok(self.tensors.iter().map(Tensor::view).collect())
    }
}

/// The symbol that is axis 0 of the first input that has one there.
fn batch(graph: &Graph) -> Option<&str> {
    let symbol = graph.inputs.iter().find_map(|port| port.shape.first()?.symbol())?;
    graph.symbols[..graph.bound()].get(symbol).map(String::as_str)
}

/// A tensor of that fact for input number `index`, and where it comes from.
fn input(
    model: &Model,
    fact: &Fact,
    index: usize,
    vector: Option<(usize, &TestVector)>,
) -> Result<(Tensor, String), Error> {
    if let Some((number, test)) = vector {
        let view = stored(model, &test.inputs[index..=index])?[0];
        let bytes = view.bytes()?;
        if view.fact() == *fact {
            let tensor = Tensor::from_bytes(fact.clone(), bytes)?;
            return Ok((tensor, format!("test vector {number}")));
        }
        if !bytes.is_empty() {
            let mut repeated = AlignedBytes::zeroed(byte_size(fact).unwrap_or(0))?;
            for part in repeated.chunks_mut(bytes.len()) {
                part.copy_from_slice(&bytes[..part.len()]);
            }
            let tensor = Tensor::from_bytes(fact.clone(), &repeated)?;
            return Ok((tensor, format!("elements of test vector {number}, repeated")));
        }
    }
    generated(fact)
}

/// Normal deviates for floats, zeros for all else.
fn generated(fact: &Fact) -> Result<(Tensor, String), Error> {
    let mut bytes = AlignedBytes::zeroed(byte_size(fact).unwrap_or(0))?;
    let mut normal = Normal(0);
    let from = with_element!(fact.dtype, T => {
        let elements: &mut [T] = bytemuck::cast_slice_mut(&mut bytes);
        match T::from_number(Number::Integer(0)).number() {
            Number::Integer(_) => "zeros",
            Number::Float(_) => {
                elements.fill_with(|| T::from_number(Number::Float(normal.draw())));
                "normal deviates"
            }
            Number::Complex(_) => {
                let mut draw = || Complex64::new(normal.draw(), normal.draw());
                elements.fill_with(|| T::from_number(Number::Complex(draw())));
                "normal deviates"
            }
        }
    });
    Ok((Tensor::from_bytes(fact.clone(), &bytes)?, from.into()))
}

/// Normal deviates by Box and Muller, of the numbers of SplitMix64 from this state on.
struct Normal(u64);

impl Normal {
    fn draw(&mut self) -> f64 {
        let (radius, angle) = (self.uniform(), self.uniform());
        libm::sqrt(-2.0 * libm::log(radius)) * libm::cos(std::f64::consts::TAU * angle)
    }

    /// Above 0, and at most 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((word >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}
