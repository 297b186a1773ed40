//! What all messages are decoded with, and the bound on what that takes.

use super::wire::{Field, Fields, Wire, fault, varint};
use crate::Error;

/// Bytes of a name, or of any other text.
pub(crate) const MAX_TEXT: usize = 4096;
/// A graph may take so many bytes in memory, and `PER_BYTE` more for each byte of the file.
const BASE: usize = 32 << 20;
const PER_BYTE: usize = 2;

/// What an allocation takes beside what it holds, at most.
pub(super) const ALLOCATION: usize = 24;

/// Decodes, and counts the bytes that what it decodes takes in memory.
///
/// A message of two bytes in the file is a hundred times that in memory, so the length of the file
/// alone is no bound.
pub(super) struct Decoder {
    left: usize,
    limit: usize,
}

impl Decoder {
    /// A decoder for a graph in a file of that length.
    pub(super) fn new(file_len: usize) -> Self {
        let limit = BASE.saturating_add(file_len.saturating_mul(PER_BYTE));
        Self { left: limit, limit }
    }

    /// Counts `bytes` that are about to be allocated.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => fault(format!("it would take more than {} bytes of memory", self.limit)),
        }
    }

    /// Room for `count` values.
    pub(super) fn room<T>(&mut self, count: usize) -> Result<Vec<T>, Error> {
        if count > 0 {
            self.charge(count.saturating_mul(size_of::<T>()).saturating_add(ALLOCATION))?;
        }
        Ok(Vec::with_capacity(count))
    }

    /// The messages in the fields of that number.
    pub(super) fn messages<'a, T>(
        &mut self,
        message: &'a [u8],
        number: u32,
        mut one: impl FnMut(&mut Self, usize, &'a [u8]) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut all = self.room(count(message, number)?)?;
        for field in Fields(message) {
            let field = field?;
            if field.number == number {
                let index = all.len();
                all.push(one(self, index, field.bytes()?)?);
            }
        }
        Ok(all)
    }

    pub(super) fn text(&mut self, field: Field<'_>) -> Result<String, Error> {
        self.text_of(field.bytes()?)
    }

    pub(super) fn text_of(&mut self, bytes: &[u8]) -> Result<String, Error> {
        if bytes.len() > MAX_TEXT {
            return fault(format!("a text has {} bytes, the limit is {MAX_TEXT}", bytes.len()));
        }
        self.charge(bytes.len() + ALLOCATION)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => fault(format!("a text is not UTF-8: {error}")),
        }
    }

    /// Appends the numbers of a field, of which there is one, or many packed.
    pub(super) fn numbers<T>(
        &mut self,
        field: Field<'_>,
        into: &mut Vec<T>,
        convert: impl Fn(u64) -> T,
    ) -> Result<(), Error> {
        match field.wire {
            Wire::Varint(value) => {
                self.grow(into, 1)?;
                into.push(convert(value));
            }
            Wire::Bytes(mut packed) => {
                self.grow(into, packed.iter().filter(|&&byte| byte < 0x80).count())?;
                while !packed.is_empty() {
                    into.push(convert(varint(&mut packed)?));
                }
            }
            _ => return field.unexpected(),
        }
        Ok(())
    }

    /// Appends the floats of a field of f32.
    pub(super) fn floats(&mut self, field: Field<'_>, into: &mut Vec<f32>) -> Result<(), Error> {
        match field.wire {
            Wire::Fixed32(bytes) => self.fixed(&bytes, into, f32::from_le_bytes),
            Wire::Bytes(packed) => self.fixed(packed, into, f32::from_le_bytes),
            _ => field.unexpected(),
        }
    }

    /// Appends the floats of a field of f64.
    pub(super) fn doubles(&mut self, field: Field<'_>, into: &mut Vec<f64>) -> Result<(), Error> {
        match field.wire {
            Wire::Fixed64(bytes) => self.fixed(&bytes, into, f64::from_le_bytes),
            Wire::Bytes(packed) => self.fixed(packed, into, f64::from_le_bytes),
            _ => field.unexpected(),
        }
    }

    fn fixed<T, const N: usize>(
        &mut self,
        bytes: &[u8],
        into: &mut Vec<T>,
        convert: impl Fn([u8; N]) -> T,
    ) -> Result<(), Error> {
        let (chunks, rest) = bytes.as_chunks::<N>();
        if !rest.is_empty() {
            return fault(format!("{} bytes are no list of {N}-byte floats", bytes.len()));
        }
        self.grow(into, chunks.len())?;
        into.extend(chunks.iter().map(|&chunk| convert(chunk)));
        Ok(())
    }

    /// Makes room for `count` more values. A list in several fields grows as a `Vec` does, to at most
    /// twice of what it holds, while the old one is still there.
    fn grow<T>(&mut self, into: &mut Vec<T>, count: usize) -> Result<(), Error> {
        let bytes = count.saturating_mul(size_of::<T>());
        if into.is_empty() {
            self.charge(bytes.saturating_add(ALLOCATION))?;
            into.reserve_exact(count);
        } else {
            self.charge(bytes.saturating_mul(3))?;
            into.reserve(count);
        }
        Ok(())
    }
}

/// How many fields have that number.
fn count(message: &[u8], number: u32) -> Result<usize, Error> {
    let mut count = 0;
    for field in Fields(message) {
        count += usize::from(field?.number == number);
    }
    Ok(count)
}

/// A signed number, of which small ones are short.
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
