//! The wire format of protobuf: a message as its fields.

use crate::Error;

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
    /// A text, a message, or numbers one after the other.
    Bytes(&'a [u8]),
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) wire: Wire<'a>,
}

impl<'a> Field<'a> {
    /// The number in it.
    pub(super) fn varint(self) -> Result<u64, Error> {
        match self.wire {
            Wire::Varint(value) => Ok(value),
            _ => self.unexpected(),
        }
    }

    /// The float in it.
    pub(super) fn f64(self) -> Result<f64, Error> {
        match self.wire {
            Wire::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => self.unexpected(),
        }
    }

    /// The bytes in it.
    pub(super) fn bytes(self) -> Result<&'a [u8], Error> {
        match self.wire {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => self.unexpected(),
        }
    }

    /// The message in it, of which there is only one. Readers of protobuf join several to one, the
    /// checks of which would be none of those that each has passed.
    pub(super) fn only<T>(self, before: Option<T>) -> Result<&'a [u8], Error> {
        match before {
            None => self.bytes(),
            Some(_) => fault(format!("field {} appears twice, expected once", self.number)),
        }
    }

    /// The refusal of a field that holds something else than the schema says.
    pub(super) fn unexpected<T>(self) -> Result<T, Error> {
        fault(format!("field {} is of another type than in the schema", self.number))
    }
}

/// The fields of a message, or what is wrong with the next one.
///
/// Groups are refused: no writer makes them, and what is in one could not be told from what is after
/// it without reading all of it.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = next_field(&mut self.0);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<Field<'a>, Error> {
    let key = varint(bytes)?;
    let number = match u32::try_from(key >> 3) {
        Ok(number @ 1..0x2000_0000) => number,
        _ => return fault(format!("there is no field {}", key >> 3)),
    };
    let wire = match key & 7 {
        0 => Wire::Varint(varint(bytes)?),
        1 => Wire::Fixed64(chunk(bytes)?),
        2 => {
            let length = varint(bytes)?;
            let split = usize::try_from(length).ok().and_then(|at| bytes.split_at_checked(at));
            let Some((payload, rest)) = split else { return truncated() };
            *bytes = rest;
            Wire::Bytes(payload)
        }
        5 => Wire::Fixed32(chunk(bytes)?),
        3 | 4 => return fault(format!("field {number} is a group, which no graph has")),
        other => return fault(format!("field {number} is of the unknown wire type {other}")),
    };
    Ok(Field { number, wire })
}

/// The next number of 7 bits a byte, lowest first; the last byte is below 128.
pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { return truncated() };
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return match shift {
                63 if byte > 1 => break,
                _ => Ok(value),
            };
        }
    }
    fault("a number has more than 64 bits")
}

fn chunk<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Error> {
    let Some((chunk, rest)) = bytes.split_first_chunk() else { return truncated() };
    *bytes = rest;
    Ok(*chunk)
}

fn truncated<T>() -> Result<T, Error> {
    fault("a field ends after the message that it is in")
}

pub(super) fn fault<T>(message: impl Into<String>) -> Result<T, Error> {
    Err(Error::Decode(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, String> {
        let fields = Fields(bytes).map(|field| field.map(|field| (field.number, field.wire)));
        fields.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    fn refusal(bytes: &[u8]) -> String {
        let text = fields(bytes).expect_err("the bytes are no message");
        text.strip_prefix("section GRAPH cannot be decoded: ").unwrap().to_string()
    }

    #[test]
    fn every_wire_type_is_read() {
        let bytes = [
            &[0x08, 0x96, 0x01][..],
            &[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x1a, 2, 9, 9],
            &[0x25, 1, 2, 3, 4],
            &[0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ]
        .concat();
        let expected = vec![
            (1, Wire::Varint(150)),
            (2, Wire::Fixed64([1, 2, 3, 4, 5, 6, 7, 8])),
            (3, Wire::Bytes(&[9, 9])),
            (4, Wire::Fixed32([1, 2, 3, 4])),
            (5, Wire::Varint(u64::MAX)),
        ];
        assert_eq!(fields(&bytes), Ok(expected));
        assert_eq!(fields(&[]), Ok(vec![]));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let cut = "a field ends after the message that it is in";
        for bytes in [&[0x08][..], &[0x80], &[0x0a, 2, 0], &[0x0d, 1, 2, 3], &[0x09, 1]] {
            assert_eq!(refusal(bytes), cut);
        }
        assert_eq!(refusal(&[0x02, 0]), "there is no field 0");
        assert_eq!(refusal(&[0x82, 0x80, 0x80, 0x80, 0x10, 0]), "there is no field 536870912");
        for group in [0x7b, 0x7c] {
            assert_eq!(refusal(&[group, 0]), "field 15 is a group, which no graph has");
        }
        assert_eq!(refusal(&[0x0e]), "field 1 is of the unknown wire type 6");
        let long = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80];
        for last in [&[0x02][..], &[0x80, 0x00]] {
            assert_eq!(
                refusal(&[&[0x08], &long[..], last].concat()),
                "a number has more than 64 bits"
            );
        }
    }
}
