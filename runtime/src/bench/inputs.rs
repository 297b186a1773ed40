//! What a model is run on.

use std::collections::BTreeMap;

use lumina_kernels::{Fact, View};
use num_complex::Complex64;

use super::Request;
use super::report::InputUsed;
use crate::bind::bind;
use crate::bytes::AlignedBytes;
use crate::error::quoted;
use crate::infer::check_size;
use crate::ir::{Graph, TestVector};
use crate::ops::{Convert, Number, element_arms, with_element};
use crate::tensor::{Tensor, byte_size};
use crate::verify::stored;
use crate::{Error, Model};

/// Inputs of one entry point.
pub(super) struct Inputs {
    tensors: Vec<Tensor>,
    /// Name and value of each symbol.
    pub(super) symbols: Vec<(String, usize)>,
    /// Name and value of that which is the batch, if one is.
    pub(super) batch: Option<(String, usize)>,
    pub(super) used: Vec<InputUsed>,
}

impl Inputs {
    pub(super) fn new(model: &Model, entry: usize, request: &Request) -> Result<Self, Error> {
        let graph = model.graph(entry)?;
        let names = &graph.symbols[..graph.bound()];
        let mut values: BTreeMap<&str, usize> = BTreeMap::new();
        let mut vectors = model.module().tests.iter().enumerate();
        let vector = vectors.find(|(_, test)| test.entry == entry);
        if let Some((_, test)) = vector {
            let facts: Vec<Fact> = test.inputs.iter().map(|stored| stored.fact.clone()).collect();
            let known = bind(graph, &facts)?;
            for (name, value) in names.iter().zip(known) {
                values.extend(value.and_then(|v| usize::try_from(v).ok()).map(|v| (&**name, v)));
            }
        }
        let batch = batch(graph);
        if let Some(rows) = request.batch {
            let name = batch.ok_or_else(|| {
                Error::Input(format!(
                    "there is no batch to set: no input has a symbol as axis 0; the symbols are {}",
                    quoted(names.iter().map(String::as_str))
                ))
            })?;
            values.insert(name, rows);
        }
        for (name, value) in &request.symbols {
            let Some(known) = names.iter().find(|known| *known == name) else {
                let known = quoted(names.iter().map(String::as_str));
                return Err(Error::Input(format!(
                    "there is no symbol `{name}`; the inputs have {known}"
                )));
            };
            let is_other = |rows: &usize| batch == Some(known) && rows != value;
            if request.batch.as_ref().is_some_and(is_other) {
                return Err(Error::Input(format!(
                    "symbol `{name}` is the batch, which is given another value"
                )));
            }
            values.insert(known, *value);
        }
        let symbols: Vec<(String, usize)> = names
            .iter()
            .map(|name| match values.get(&**name) {
                Some(&value) => Ok((name.clone(), value)),
                None => Err(Error::Input(format!(
                    "symbol `{name}` has no value, as the file has no test vector that tells one: \
                     give it one"
                ))),
            })
            .collect::<Result<_, _>>()?;
        let known: Vec<Option<i128>> =
            symbols.iter().map(|(_, value)| Some(*value as i128)).collect();
        let mut tensors = Vec::new();
        let mut used = Vec::new();
        let mut sizes = 0u128;
        for (index, port) in graph.inputs.iter().enumerate() {
            let place = |message| Error::Input(format!("input `{}`: {message}", port.name));
            let fact = port.fact(&known).ok_or_else(|| {
                let words = port.describe(&graph.symbols);
                place(format!("{words} is no shape where the symbols have these values"))
            })?;
            check_size(&fact).map_err(place)?;
            // Inputs count as buffers do: a symbol that is too large is told, and not allocated.
            sizes += byte_size(&fact).unwrap_or(usize::MAX) as u128;
            let limit = request.options.memory_limit;
            if sizes > limit.into() {
                return Err(Error::Memory { needed: sizes, limit });
            }
            let (tensor, from) = input(model, &fact, index, vector)?;
            let bytes = byte_size(&fact).unwrap_or(0);
            used.push(InputUsed { name: port.name.clone(), fact: fact.to_string(), bytes, from });
            tensors.push(tensor);
        }
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
