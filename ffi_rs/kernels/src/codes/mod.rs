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

use std::ops::Range;

mod coded;
mod integers;
mod lines;
mod matmul;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod streams;

pub use coded::Coded;
pub(crate) use coded::{ByGroup, Levels};
pub(crate) use integers::{Finish, Frame, multiply_codes};
pub use matmul::coded_matmul;
pub(crate) use matmul::multiply_coded;

use crate::isa::Isa;
use lines::{raise, write_words};

/// Rows of x that are multiplied together at most.
const MOST_ROWS: usize = 4;

/// How many rows of x are multiplied together, of so many that are left: what is beyond the last one is
/// computed, and not looked at.
fn rows_together(left: usize) -> usize {
    match left {
        0 | 1 => 1,
        2 => 2,
        _ => MOST_ROWS,
    }
}

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

/// A one in each byte of a word.
const BYTES: u32 = u32::MAX / 255;
/// The most planes of a code: those of seven bits.
pub(crate) const MOST_PLANES: usize = 3;

/// The words that hold the codes of a row, plane by plane.
pub(crate) struct Fields<'a> {
    pub(crate) planes: usize,
    pub(crate) of_plane: [Field<'a>; MOST_PLANES],
}

/// `words >> start & mask`, shifted to its place in the code.
#[derive(Clone, Copy, Default)]
pub(crate) struct Field<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) start: u32,
    pub(crate) mask: u32,
    pub(crate) shift: u32,
}

impl Field<'_> {
    /// What it has of the code of a column.
    #[inline(always)]
    pub(crate) fn part(&self, column: usize) -> u32 {
        (self.words[column] >> self.start & self.mask) << self.shift
    }
}

impl Fields<'_> {
    /// The code of a column.
    pub(crate) fn code(&self, column: usize) -> usize {
        let planes = &self.of_plane[..self.planes];
        planes.iter().fold(0, |code, field| code | field.part(column)) as usize
    }
}

/// A matrix of codes, packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes<'a> {
    pub(crate) words: &'a [u32],
    pub(crate) bits: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl<'a> Codes<'a> {
    /// Where the codes of some columns of a row are.
    pub(crate) fn fields(&self, row: usize, columns: &Range<usize>) -> Fields<'a> {
        self.fields_of(row, columns, 1)
    }

    /// Where the codes of some columns of a row, which is one of four, and of the next three are: each
    /// in a byte of its own.
    fn fields_of_four(&self, row: usize, columns: &Range<usize>) -> Fields<'a> {
        self.fields_of(row, columns, BYTES)
    }

    fn fields_of(&self, row: usize, columns: &Range<usize>, bytes: u32) -> Fields<'a> {
        let mut fields = Fields { planes: 0, of_plane: [Field::default(); MOST_PLANES] };
        for (plane, field) in planes(self.bits, self.depth).zip(&mut fields.of_plane) {
            let (word, start) = plane.place(row);
            let words = &self.words[word * self.columns..][columns.clone()];
            let mask = ((1 << plane.width) - 1) * bytes;
            *field = Field { words, start: start as u32, mask, shift: plane.shift as u32 };
            fields.planes += 1;
        }
        fields
    }

    /// Whether the codes have more planes than one.
    pub(crate) fn has_planes(&self) -> bool {
        !self.bits.is_power_of_two()
    }

    /// Writes codes of some rows, the first of which is one of four, and columns as words of bytes, as
    /// codes of 8 bits are packed.
    pub(crate) fn write_bytes(
        &self,
        isa: Isa,
        rows: Range<usize>,
        columns: &Range<usize>,
        out: &mut [u32],
        stride: usize,
    ) {
        for (row, out) in rows.step_by(4).zip(out.chunks_mut(stride)) {
            write_words(isa, &mut out[..columns.len()], &self.fields_of_four(row, columns));
        }
    }

    /// Whether one of the codes has all bits.
    pub(crate) fn has_largest(&self) -> bool {
        let largest = (1 << self.bits) - 1;
        let mut most = 0;
        for row in 0..self.depth {
            raise(Isa::detect(), &mut most, &self.fields(row, &(0..self.columns)));
        }
        most == largest
    }
}

#[cfg(test)]
mod tests;
