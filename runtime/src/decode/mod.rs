//! From the bytes of a GRAPH section to a [`Module`]: the only place that knows protobuf.
//!
//! It is decoded here rather than by a library because a library allocates what a message asks for
//! before anything can be said about it. Fields that are not known are skipped.

mod decoder;
mod hardware;
mod node;
mod wire;

use std::sync::Arc;

use lumina_kernels::{DType, Fact};

use crate::Error;
use crate::ir::dim::{Kind, MAX_DERIVED, MAX_DERIVED_SIZE};
use crate::ir::{
    Derived, Graph, Module, Port, Quantization, Role, State, Stored, Tensor, TestVector,
};
use decoder::{ALLOCATION, Decoder};
use hardware::{crosstalk, device, wdm};
use node::{VALUE, dim, node};
use wire::{Fields, fault};

/// Bytes of a GRAPH section.
const MAX_BYTES: usize = 64 << 20;

/// Decodes the graphs of a file of that length. What numbers mean is checked here, what they say to
/// each other is not.
pub(crate) fn decode(message: &[u8], file_len: usize) -> Result<Module, Error> {
    if message.len() > MAX_BYTES {
        return fault(format!("{} bytes, the limit is {MAX_BYTES}", message.len()));
    }
    let decoder = &mut Decoder::new(file_len);
    let tensors: Arc<[Tensor]> = decoder.messages(message, 5, tensor)?.into();
    // The first entry point is the message itself.
    let mut entries = vec![graph(decoder, &tensors, message)?];
    entries.extend(decoder.messages(message, 14, |decoder, index, message| {
        // When it is checked, each value of it has a type, and the tensors again.
        decoder.charge(tensors.len().saturating_mul(VALUE))?;
        graph(decoder, &tensors, message)
            .map_err(|error| error.within(&format!("entry point {}", index + 1)))
    })?);
    let mut module = Module {
        producer: String::new(),
        opset: 0,
        entries,
        tests: decoder.messages(message, 8, test_vector)?,
        device: None,
        wdm: None,
        crosstalk: None,
    };
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => module.producer = decoder.text(field)?,
            2 => module.opset = field.varint()? as u32,
            9 => module.wdm = Some(wdm(decoder, field.only(module.wdm)?)?),
            10 => module.crosstalk = Some(crosstalk(decoder, field.only(module.crosstalk)?)?),
            15 => module.device = Some(device(decoder, field.only(module.device)?)?),
            _ => {}
        }
    }
    Ok(module)
}

/// An entry point, in a message with the fields of one.
fn graph(decoder: &mut Decoder, tensors: &Arc<[Tensor]>, message: &[u8]) -> Result<Graph, Error> {
    let mut graph = Graph {
        name: String::new(),
        symbols: decoder.messages(message, 3, |decoder, _, text| decoder.text_of(text))?,
        derived: decoder.messages(message, 11, derived)?,
        inputs: decoder.messages(message, 4, |decoder, _, value| port(decoder, "input", value))?,
        states: decoder.messages(message, 13, state)?,
        tensors: Arc::clone(tensors),
        nodes: decoder
            .messages(message, 6, |decoder, index, message| node(decoder, 0, index, message))?,
        outputs: decoder
            .messages(message, 7, |decoder, _, value| port(decoder, "output", value))?,
    };
    for field in Fields(message) {
        let field = field?;
        if field.number == 12 {
            graph.name = decoder.text(field)?;
        }
    }
    name_derived(&mut graph)?;
    Ok(graph)
}

/// Names the symbols that follow from others. What they are made of is checked here, as a name has
/// the names of others in it.
fn name_derived(graph: &mut Graph) -> Result<(), Error> {
    let given = graph.symbols.len();
    let place = |index: usize| format!("derived symbol {index}");
    if graph.derived.len() > MAX_DERIVED {
        let message = format!("at most {MAX_DERIVED}, got {}", graph.derived.len());
        return Err(Error::graph("`derived`", message));
    }
    let (mut sizes, mut total) = (vec![1; given], 0usize);
    for (index, derived) in graph.derived.iter().enumerate() {
        let factors = [&derived.left, &derived.right].map(|dim| &dim.terms);
        let factors = factors.into_iter().flatten().flat_map(|term| &term.factors);
        let mut size = derived.left.size() + derived.right.size();
        for factor in factors {
            let Some(of_symbol) = sizes.get(factor.symbol as usize) else {
                let message =
                    format!("is made of symbol {}, which is not before it", factor.symbol);
                return Err(Error::graph(place(index), message));
            };
            size += of_symbol;
        }
        total += size;
        if total > MAX_DERIVED_SIZE {
            let message = format!("all have more than {MAX_DERIVED_SIZE} terms and factors");
            return Err(Error::graph(place(index), message));
        }
        sizes.push(size);
        graph.symbols.push(derived.describe(&graph.symbols));
    }
    Ok(())
}

fn derived(decoder: &mut Decoder, index: usize, message: &[u8]) -> Result<Derived, Error> {
    let (mut kind, mut left, mut right) = (0, None, None);
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => kind = field.varint()? as i32,
            2 => left = Some(field.only(left)?),
            3 => right = Some(field.only(right)?),
            _ => {}
        }
    }
    let kind = match kind {
        0 => Kind::FloorDivision,
        1 => Kind::Maximum,
        _ => {
            let message = format!("unknown kind {kind}");
            return Err(Error::graph(format!("derived symbol {index}"), message));
        }
    };
    let mut side = |message: Option<&[u8]>| dim(decoder, 0, message.unwrap_or_default());
    Ok(Derived { kind, left: side(left)?, right: side(right)? })
}

/// The element type of a number in a file.
fn dtype(number: u32) -> Result<DType, String> {
    DType::from_file_number(number).ok_or_else(|| format!("unknown dtype {number}"))
}

fn port(decoder: &mut Decoder, what: &str, message: &[u8]) -> Result<Port, Error> {
    decoder.charge(VALUE)?;
    let (mut id, mut name, mut number, mut role) = (0, String::new(), 0, 0);
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => id = field.varint()? as u32,
            2 => name = decoder.text(field)?,
            3 => number = field.varint()? as u32,
            5 => role = field.varint()? as i32,
            _ => {}
        }
    }
    let fault = |message| Error::graph(format!("{what} `{name}`"), message);
    Ok(Port {
        dtype: dtype(number).map_err(fault)?,
        role: match role {
            0 => Role::Plain,
            1 => Role::NoiseSeed,
            _ => return Err(fault(format!("unknown role {role}"))),
        },
        id,
        shape: decoder.messages(message, 4, dim)?,
        name,
    })
}

fn state(decoder: &mut Decoder, _: usize, message: &[u8]) -> Result<State, Error> {
    decoder.charge(VALUE)?;
    let (mut id, mut name, mut number, mut shape) = (0, String::new(), 0, Vec::new());
    let (mut next, mut initial) = (None, None);
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => name = decoder.text(field)?,
            2 => id = field.varint()? as u32,
            3 => number = field.varint()? as u32,
            4 => decoder.numbers(field, &mut shape, extent)?,
            5 => next = Some(field.varint()? as u32),
            6 => initial = Some(field.varint()? as u32),
            _ => {}
        }
    }
    let dtype =
        dtype(number).map_err(|message| Error::graph(format!("state `{name}`"), message))?;
    Ok(State { name, id, fact: Fact::new(dtype, shape), next, initial })
}

fn tensor(decoder: &mut Decoder, _: usize, message: &[u8]) -> Result<Tensor, Error> {
    decoder.charge(VALUE)?;
    let (mut id, mut name, mut quantization) = (0, String::new(), None);
    let mut place = Place::default();
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => id = field.varint()? as u32,
            2 => name = decoder.text(field)?,
            3 => place.dtype = field.varint()? as u32,
            4 => decoder.numbers(field, &mut place.shape, extent)?,
            5 => place.offset = field.varint()?,
            6 => quantization = Some(self::quantization(decoder, field.only(quantization)?)?),
            _ => {}
        }
    }
    let fault = |message| Error::graph(format!("tensor {id} `{name}`"), message);
    Ok(Tensor { id, stored: place.stored().map_err(fault)?, quantization, name })
}

fn quantization(decoder: &mut Decoder, message: &[u8]) -> Result<Quantization, Error> {
    let (mut bits, mut axis, mut offset, mut length) = (0, None, None, 0);
    let (mut scales, mut zero_points) = (Vec::new(), Vec::new());
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => bits = field.varint()? as u32,
            2 => axis = Some(field.varint()? as u32),
            3 => decoder.floats(field, &mut scales)?,
            4 => decoder.floats(field, &mut zero_points)?,
            5 => offset = Some(field.varint()?),
            6 => length = field.varint()? as u32,
            _ => {}
        }
    }
    let lut = offset.map(|offset| (offset, length));
    Ok(Quantization { bits, axis, scales, zero_points, lut })
}

/// Where a tensor lies in its section, as the file says it.
#[derive(Default)]
struct Place {
    dtype: u32,
    shape: Vec<usize>,
    offset: u64,
}

impl Place {
    fn stored(self) -> Result<Stored, String> {
        Ok(Stored { fact: Fact::new(dtype(self.dtype)?, self.shape), offset: self.offset })
    }
}

/// An extent of a tensor, which is too large for a section if it is for an address.
fn extent(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn test_vector(decoder: &mut Decoder, index: usize, message: &[u8]) -> Result<TestVector, Error> {
    let mut tensors = |number, what: &str| {
        decoder.messages(message, number, |decoder, _, message| {
            test_tensor(decoder, message)?
                .stored()
                .map_err(|message| Error::graph(format!("test vector {index}, {what}"), message))
        })
    };
    let (inputs, outputs) = (tensors(1, "inputs")?, tensors(2, "outputs")?);
    let (mut absolute_tolerance, mut relative_tolerance) = (0.0, 0.0);
    let (mut entry, mut continues) = (0, false);
    for field in Fields(message) {
        let field = field?;
        match field.number {
            3 => absolute_tolerance = field.f64()?,
            4 => relative_tolerance = field.f64()?,
            5 => entry = field.varint()? as u32 as usize,
            6 => continues = field.varint()? != 0,
            _ => {}
        }
    }
    Ok(TestVector { inputs, outputs, absolute_tolerance, relative_tolerance, entry, continues })
}

fn test_tensor(decoder: &mut Decoder, message: &[u8]) -> Result<Place, Error> {
    decoder.charge(ALLOCATION)?;
    let mut place = Place::default();
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => place.dtype = field.varint()? as u32,
            2 => decoder.numbers(field, &mut place.shape, extent)?,
            3 => place.offset = field.varint()?,
            _ => {}
        }
    }
    Ok(place)
}

#[cfg(test)]
mod tests;
