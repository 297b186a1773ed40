//! How codes of 1 to 8 bits are packed into 32-bit words.
//!
//! The codes are those of a matrix, depth × columns, and unsigned. They are cut into planes of 8, 4, 2
//! and 1 bits, the widest first, as the binary digits of their bits say: 7 bits are a plane of the four
//! low bits, one of the next two, and one of the last. Row by row, a word of a plane holds neighbors
//! along the depth, as many as fit, of one column:
//!
//! ```text
//! value j of a word      byte j mod 4, from bit width · (j div 4) of it on
//! ```
//!
//! So a register of words holds neighboring columns, and a shift and a mask make each of its words four
//! bytes that are neighbors along the depth: what instructions for products of bytes take. Values
//! beyond the last row are 0. The planes follow each other as rows of words.

mod coded;
mod integers;
mod matmul;

pub use coded::Coded;
pub(crate) use coded::{ByGroup, Levels};
pub(crate) use integers::{Finish, Frame, multiply_codes, taken_off};
pub use matmul::coded_matmul;
pub(crate) use matmul::multiply_coded;

use crate::scratch::Scratch;

/// Bits of the words that hold codes.
const WORD: usize = u32::BITS as usize;

/// What holds some bits of all codes of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Bits of a value: 8, 4, 2 or 1.
    pub(crate) width: usize,
    /// Where they are in the code.
    pub(crate) shift: usize,
    /// The first of its rows of words.
    pub(crate) first: usize,
}

impl Plane {
    /// Values of a word.
    pub(crate) fn values_per_word(self) -> usize {
        WORD / self.width
    }

    /// The row of words with the values of `row`, and where in its words they begin.
    pub(crate) fn place(self, row: usize) -> (usize, usize) {
        let (word, value) = (row / self.values_per_word(), row % self.values_per_word());
        (self.first + word, value % 4 * 8 + value / 4 * self.width)
    }
}

/// The planes of codes of so many bits, of a matrix of that depth.
pub(crate) fn planes(bits: usize, depth: usize) -> impl Iterator<Item = Plane> {
    let widths = [8, 4, 2, 1].into_iter().filter(move |width| bits & width != 0);
    widths.scan((0, 0), move |(shift, first), width| {
        let plane = Plane { width, shift: *shift, first: *first };
        *shift += width;
        *first += depth.div_ceil(plane.values_per_word());
        Some(plane)
    })
}

/// Rows of words of codes of so many bits, of a matrix of that depth.
pub(crate) fn rows_of_words(bits: usize, depth: usize) -> usize {
    planes(bits, depth).map(|plane| depth.div_ceil(plane.values_per_word())).sum()
}

/// A matrix of codes, packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) bits: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl Codes<'_> {
    /// Whether one of the codes has all bits.
    pub(crate) fn has_largest(&self) -> bool {
        let largest = u8::MAX >> (8 - self.bits);
        let mut codes = Scratch::<u8>::new(self.columns);
        (0..self.depth).any(|row| {
            self.unpack_row(row, 0, &mut codes);
            codes.iter().fold(0, |most, code| most.max(*code)) == largest
        })
    }

    /// Writes the codes of a row, of the columns from `first` on.
    pub(crate) fn unpack_row(&self, row: usize, first: usize, codes: &mut [u8]) {
        codes.fill(0);
        for plane in planes(self.bits, self.depth) {
            let (word, start) = plane.place(row);
            let mask = ((1u32 << plane.width) - 1) as u8;
            let words = &self.words[word * self.columns + first..][..codes.len()];
            for (code, word) in codes.iter_mut().zip(words) {
                *code |= ((word >> start) as u8 & mask) << plane.shift;
            }
        }
    }
}

#[cfg(test)]
mod tests;
