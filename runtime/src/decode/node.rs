//! Nodes, their attributes and regions, and extents.

use lumina_kernels::Fact;

use super::decoder::{ALLOCATION, Decoder, zigzag};
use super::hardware::execution;
use super::wire::{Fields, fault};
use crate::Error;
use crate::ir::dim::{Factor, Term};
use crate::ir::{Attribute, Attributes, Dim, Node, Region, in_region};
use crate::tensor::MAX_RANK;

/// Regions in regions, at most.
pub(super) const MAX_DEPTH: usize = 8;
/// Attributes of a node, each of which an error may name.
const MAX_ATTRIBUTES: usize = 256;

/// What the type of a value takes, which is inferred when the graph is checked.
pub(super) const VALUE: usize = size_of::<Fact>() + MAX_RANK * size_of::<usize>() + ALLOCATION;
/// What a node takes when the graph is checked, beside its values: its op.
const OP: usize = 64;

/// Node number `index` of its scope, which is `depth` regions deep.
pub(super) fn node(
    decoder: &mut Decoder,
    depth: usize,
    index: usize,
    message: &[u8],
) -> Result<Node, Error> {
    decoder.charge(OP)?;
    let mut node = Node {
        op: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        attributes: Attributes::default(),
        source: String::new(),
        fused: Vec::new(),
        execution: None,
    };
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => node.op = decoder.text(field)?,
            2 => decoder.numbers(field, &mut node.inputs, |id| id as u32)?,
            3 => decoder.numbers(field, &mut node.outputs, |id| id as u32)?,
            5 => node.source = decoder.text(field)?,
            7 => node.execution = Some(execution(decoder, field.only(node.execution)?)?),
            _ => {}
        }
    }
    node.fused = decoder.messages(message, 6, |decoder, _, text| decoder.text_of(text))?;
    decoder.charge(node.outputs.len() * VALUE)?;
    // Now that there is a place for a fault in one of them.
    let attributes = decoder
        .messages(message, 4, |decoder, _, message| entry(decoder, depth, &node, index, message))?;
    if attributes.len() > MAX_ATTRIBUTES {
        let message = format!("at most {MAX_ATTRIBUTES} attributes, got {}", attributes.len());
        return Err(Error::graph(node.place(index), message));
    }
    node.attributes = Attributes::new(attributes);
    Ok(node)
}

/// An entry of the map of attributes: field 1 is the name, field 2 the value.
fn entry(
    decoder: &mut Decoder,
    depth: usize,
    node: &Node,
    index: usize,
    message: &[u8],
) -> Result<(String, Attribute), Error> {
    let (mut name, mut value) = (String::new(), None);
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => name = decoder.text(field)?,
            2 => value = Some(field.only(value)?),
            _ => {}
        }
    }
    let attribute = attribute(decoder, depth, value.unwrap_or_default())
        .map_err(|error| in_region(node, index, &name, error))?
        .ok_or_else(|| {
            Error::graph(node.place(index), format!("attribute `{name}` has no value"))
        })?;
    Ok((name, attribute))
}

/// An attribute, if the message holds one.
fn attribute(
    decoder: &mut Decoder,
    depth: usize,
    message: &[u8],
) -> Result<Option<Attribute>, Error> {
    let mut attribute = None;
    for field in Fields(message) {
        let field = field?;
        if attribute.is_some() && (1..=7).contains(&field.number) {
            return fault("an attribute has more than one value");
        }
        attribute = Some(match field.number {
            1 => Attribute::Bool(field.varint()? != 0),
            2 => Attribute::Int(zigzag(field.varint()?)),
            3 => Attribute::Float(field.f64()?),
            4 => Attribute::Str(decoder.text(field)?),
            5 => Attribute::Ints(integers(decoder, field.bytes()?)?),
            6 => Attribute::Shape(decoder.messages(field.bytes()?, 1, dim)?),
            7 => Attribute::Region(Box::new(region(decoder, depth, field.bytes()?)?)),
            _ => continue,
        });
    }
    Ok(attribute)
}

fn integers(decoder: &mut Decoder, message: &[u8]) -> Result<Vec<i64>, Error> {
    let mut integers = Vec::new();
    for field in Fields(message) {
        let field = field?;
        if field.number == 1 {
            decoder.numbers(field, &mut integers, zigzag)?;
        }
    }
    Ok(integers)
}

/// A region of a node that is `depth` regions deep itself.
fn region(decoder: &mut Decoder, depth: usize, message: &[u8]) -> Result<Region, Error> {
    if depth == MAX_DEPTH {
        return fault(format!("regions are nested more than {MAX_DEPTH} deep"));
    }
    let mut region =
        Region { captures: Vec::new(), inputs: 0, nodes: Vec::new(), outputs: Vec::new() };
    decoder.charge(size_of::<Region>() + ALLOCATION)?;
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => decoder.numbers(field, &mut region.captures, |id| id as u32)?,
            2 => region.inputs = field.varint()? as u32 as usize,
            4 => decoder.numbers(field, &mut region.outputs, |id| id as u32)?,
            _ => {}
        }
    }
    decoder.charge((region.captures.len() + region.outputs.len()) * VALUE)?;
    region.nodes = decoder
        .messages(message, 3, |decoder, index, message| node(decoder, depth + 1, index, message))?;
    Ok(region)
}

/// An extent.
pub(super) fn dim(decoder: &mut Decoder, _: usize, message: &[u8]) -> Result<Dim, Error> {
    Ok(Dim { terms: decoder.messages(message, 1, term)? })
}

fn term(decoder: &mut Decoder, _: usize, message: &[u8]) -> Result<Term, Error> {
    let mut coefficient = 0;
    for field in Fields(message) {
        let field = field?;
        if field.number == 1 {
            coefficient = zigzag(field.varint()?);
        }
    }
    Ok(Term { coefficient, factors: decoder.messages(message, 2, factor)? })
}

fn factor(_: &mut Decoder, _: usize, message: &[u8]) -> Result<Factor, Error> {
    let mut factor = Factor { symbol: 0, power: 0 };
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => factor.symbol = field.varint()? as u32,
            2 => factor.power = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(factor)
}
