//! Bounds what decoding a graph can allocate, before it starts.
//!
//! A message of two bytes on the wire takes over a hundred in memory, so the length of the section
//! alone is no bound. This walks the wire format without decoding and counts the messages.

use crate::Error;

/// Bytes of a GRAPH section.
const MAX_BYTES: usize = 64 << 20;
/// Messages of a graph, itself included: some 100,000 nodes.
const MAX_MESSAGES: usize = 1 << 20;

/// Regions in regions, at most.
const MAX_DEPTH: usize = 8;

/// A message of the schema, by the fields of it that are messages.
struct Message {
    children: &'static [(u32, &'static Message)],
}

static LEAF: Message = Message { children: &[] };
static TERM: Message = Message { children: &[(2, &LEAF)] };
static DIM: Message = Message { children: &[(1, &TERM)] };
static VALUE: Message = Message { children: &[(4, &DIM)] };
static TENSOR: Message = Message { children: &[(6, &LEAF)] };
static SHAPE: Message = Message { children: &[(1, &DIM)] };
static REGION: Message = Message { children: &[(3, &NODE)] };
static ATTR: Message = Message { children: &[(5, &LEAF), (6, &SHAPE), (7, &REGION)] };
static ATTR_ENTRY: Message = Message { children: &[(2, &ATTR)] };
static NODE: Message = Message { children: &[(4, &ATTR_ENTRY)] };
static TEST: Message = Message { children: &[(1, &LEAF), (2, &LEAF)] };
static GRAPH: Message = Message {
    children: &[
        (3, &LEAF),
        (4, &VALUE),
        (5, &TENSOR),
        (6, &NODE),
        (7, &VALUE),
        (8, &TEST),
        (9, &LEAF),
        (10, &LEAF),
    ],
};

/// Checks the bounds of an encoded graph. Faults of the encoding are left to the decoder.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Error> {
    if bytes.len() > MAX_BYTES {
        let message = format!("{} bytes, the limit is {MAX_BYTES}", bytes.len());
        return Err(Error::Decode(message));
    }
    let mut left = MAX_MESSAGES;
    match count(bytes, &GRAPH, &mut left, MAX_DEPTH) {
        Ok(()) => Ok(()),
        Err(Excess::Messages) => Err(Error::Decode(format!("more than {MAX_MESSAGES} messages"))),
        Err(Excess::Depth) => {
            Err(Error::Decode(format!("regions are nested more than {MAX_DEPTH} deep")))
        }
    }
}

enum Excess {
    Messages,
    Depth,
}

fn count(
    mut bytes: &[u8],
    message: &'static Message,
    left: &mut usize,
    depth: usize,
) -> Result<(), Excess> {
    *left = left.checked_sub(1).ok_or(Excess::Messages)?;
    let depth = if std::ptr::eq(message, &REGION) {
        depth.checked_sub(1).ok_or(Excess::Depth)?
    } else {
        depth
    };
    while let Some((field, payload)) = next_field(&mut bytes) {
        let child = message.children.iter().find(|(number, _)| *number == field);
        if let (Some((_, child)), Some(payload)) = (child, payload) {
            count(payload, child, left, depth)?;
        }
    }
    Ok(())
}

/// Number and, where it has a length, payload of the next field.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Option<&'a [u8]>)> {
    let key = varint(bytes)?;
    let field = u32::try_from(key >> 3).ok()?;
    let length = match key & 7 {
        0 => {
            varint(bytes)?;
            return Some((field, None));
        }
        1 => 8,
        2 => usize::try_from(varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (payload, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some((field, (key & 7 == 2).then_some(payload)))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_schema_is_counted() {
        let schema = include_str!("proto.rs");
        let fields =
            schema.matches("prost(message,").count() + schema.matches("prost(btree_map").count();
        let messages = [
            &TERM,
            &DIM,
            &VALUE,
            &TENSOR,
            &SHAPE,
            &REGION,
            &ATTR,
            &ATTR_ENTRY,
            &NODE,
            &TEST,
            &GRAPH,
        ];
        let counted: usize = messages.iter().map(|message| message.children.len()).sum();
        // Beside them count the value of a map entry and the strings of `symbols`.
        assert_eq!(counted, fields + 2);
    }

    #[test]
    fn many_empty_messages_are_refused() {
        // Field 6 (nodes), length 0.
        let nodes = [0x32, 0x00].repeat(MAX_MESSAGES - 1);
        assert!(check(&nodes).is_ok());
        let nodes = [0x32, 0x00].repeat(MAX_MESSAGES);
        assert_eq!(
            check(&nodes).unwrap_err().to_string(),
            "section GRAPH cannot be decoded: more than 1048576 messages"
        );
    }

    #[test]
    fn nested_messages_count() {
        // Field 4 (inputs) with field 4 (shape) of empty dims.
        let dims = [0x22, 0x00].repeat(MAX_MESSAGES);
        let mut input = vec![0x22];
        prost::encoding::encode_varint(dims.len() as u64, &mut input);
        input.extend(dims);
        assert!(check(&input).is_err());
    }

    #[test]
    fn long_graphs_are_refused() {
        assert_eq!(
            check(&vec![0; MAX_BYTES + 1]).unwrap_err().to_string(),
            "section GRAPH cannot be decoded: 67108865 bytes, the limit is 67108864"
        );
    }
}
