//! The weights as the right factor of x·w.

use std::ops::Range;

use super::operands::{Chain, Sizes, Weights};
use super::prepare::{Form, line_of_words, poisoned, start_of, step_of};
use crate::gemm::{Kind, Number, Right};
use crate::quantizer::{
    self, Converted, Converter, PIECE, Quantizers, bits_of_code, code_and_distance, convert,
    integer_of_bits_sum, padded, within,
};
use crate::scratch::Scratch;
use crate::shared::Staged;
use crate::simd::{Level, for_each_level};
use crate::words::{TRANSPOSED, join, transpose};

/// The right factor of x·w: converted weights, or the weights as they lie in memory.
pub(crate) struct Factor<'a> {
    level: Level,
    weights: Weights<'a>,
    quantizers: Quantizers,
    chain: &'a Chain,
    kind: Kind,
    number: Number,
    /// Columns that one chunk converts.
    width: usize,
    /// Empty where the weights are multiplied as they are.
    words: Staged<u32>,
    /// Integers only: where the sum of each column starts.
    start: Staged<i32>,
    /// Integers only: what one unit of each column stands for; NaN if a weight is not finite.
    steps: Staged<f32>,
}

impl<'a> Factor<'a> {
    /// Room for the factor, which [`convert`](Self::convert) fills.
    pub(crate) fn new(
        level: Level,
        weights: Weights<'a>,
        quantizers: Quantizers,
        chain: &'a Chain,
        kind: Kind,
    ) -> Self {
        let Sizes { depth, columns, .. } = weights.sizes;
        let number = kind.number(level);
        let in_place = kind == Kind::Float && chain.weight.is_off() && !chain.transpose_weight;
        let words = if in_place { 0 } else { number.words(depth) * columns };
        let integers = if kind == Kind::Integer { columns } else { 0 };
        let steps = Staged::scratch(integers);
        // SAFETY: nothing else uses it yet.
        for (column, step) in unsafe { steps.write(0, integers) }.iter_mut().enumerate() {
            *step = quantizers.at(column).step();
        }
        // Without depth there is nothing to convert, and the sums are where they start.
        let (words, start) = (Staged::scratch(words), Staged::new(0, integers));
        let width = columns.div_ceil(4).next_multiple_of(STRIP).min(MOST_COLUMNS);
        Self { level, weights, quantizers, chain, kind, number, width, words, start, steps }
    }

    /// Chunks of columns to convert.
    pub(crate) fn chunks(&self) -> usize {
        if self.words.is_empty() { 0 } else { self.weights.sizes.columns.div_ceil(self.width) }
    }

    /// Converts the columns of a chunk.
    ///
    /// # Safety
    ///
    /// Nothing else uses the chunk meanwhile.
    pub(crate) unsafe fn convert(&self, chunk: usize) {
        let columns = self.weights.sizes.columns;
        let range = chunk * self.width..columns.min((chunk + 1) * self.width);
        let integers = if self.kind == Kind::Integer { range.clone() } else { 0..0 };
        // SAFETY: chunks do not overlap; nothing else uses this one.
        let (start, steps) = unsafe {
            (
                self.start.write(integers.start, integers.len()),
                self.steps.write(integers.start, integers.len()),
            )
        };
        let into = Columns { words: &self.words, stride: columns, range, start, steps };
        if self.chain.transpose_weight {
            self.along(into);
        } else if self.kind == Kind::Integer {
            code_columns(self.level, into, self);
        } else {
            self.values(into);
        }
    }

    /// The factor from `column` on.
    ///
    /// # Safety
    ///
    /// All chunks are converted.
    pub(crate) unsafe fn starting_at(&self, column: usize) -> Right<'_> {
        // SAFETY: as this function's.
        let words = match unsafe { self.words.all() } {
            [] => bytemuck::cast_slice(self.weights.data),
            words => words,
        };
        let stride = self.weights.sizes.columns;
        Right { words: words.get(column..).unwrap_or(&[]), stride }
    }

    /// Integers only: where the sums of `columns` start, and what their units stand for.
    ///
    /// # Safety
    ///
    /// All chunks are converted.
    pub(crate) unsafe fn sums(&self, columns: Range<usize>) -> (&[i32], &[f32]) {
        // SAFETY: as this function's.
        unsafe { (self.start.read(columns.clone()), self.steps.read(columns)) }
    }

    /// Floats, from weights whose rows are along the columns.
    fn values(&self, into: Columns<'_>) {
        let count = into.range.len();
        let converter = Converter::Each(self.quantizers.columns(into.range.start, count));
        for depth in 0..self.weights.sizes.depth {
            let at = depth * into.stride + into.range.start;
            // SAFETY: this chunk alone has these columns.
            let out = bytemuck::cast_slice_mut(unsafe { into.words.write(at, count) });
            convert(self.level, out, &self.weights.data[at..][..count], &converter, &mut false);
        }
    }

    /// Floats or integers, from weights whose rows are along the depth.
    fn along(&self, into: Columns<'_>) {
        let level = self.level;
        let depth = self.weights.sizes.depth;
        let words = self.number.words(depth);
        let mut lines = Scratch::new(TRANSPOSED * words);
        for first in into.range.clone().step_by(TRANSPOSED) {
            let columns = first..into.range.end.min(first + TRANSPOSED);
            for (line, column) in lines.chunks_exact_mut(words.max(1)).zip(columns.clone()) {
                let values = &self.weights.data[column * depth..][..depth];
                let form = if self.kind == Kind::Integer {
                    Form::Code
                } else if self.chain.weight.is_off() {
                    Form::Exact
                } else {
                    Form::Value
                };
                let scale = self.quantizers.full_scale(column);
                let converter = Converter::one(self.chain.weight, scale);
                let Converted { sum, clipped } =
                    line_of_words(level, line, values, &converter, form, self.kind);
                if self.kind == Kind::Integer {
                    let index = column - into.range.start;
                    into.start[index] = start_of(self.number, sum);
                    into.steps[index] = step_of(level, into.steps[index], values, clipped);
                }
            }
            transpose_into(level, &into, first, &lines, words, columns.len());
        }
    }
}

/// Columns that one chunk converts at most.
const MOST_COLUMNS: usize = 256;

/// Where some columns of the factor go.
struct Columns<'a> {
    words: &'a Staged<u32>,
    stride: usize,
    range: Range<usize>,
    start: &'a mut [i32],
    steps: &'a mut [f32],
}

/// Writes `count` lines of words as columns `first …`.
fn transpose_into(
    level: Level,
    into: &Columns<'_>,
    first: usize,
    lines: &[u32],
    words: usize,
    count: usize,
) {
    if words == 0 {
        return;
    }
    let mut rows: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
    for (row, line) in rows.iter_mut().zip(lines.chunks_exact(words)) {
        *row = line;
    }
    let mut block = [0; TRANSPOSED * PIECE];
    for piece in (0..words).step_by(PIECE) {
        let length = PIECE.min(words - piece);
        let rows = rows.map(|row| &row[piece..piece + length]);
        transpose(level, &mut block, TRANSPOSED, &rows[..count], length);
        for (d, row) in block.chunks_exact(TRANSPOSED).take(length).enumerate() {
            // SAFETY: this chunk alone has these columns.
            let out = unsafe { into.words.write((piece + d) * into.stride + first, count) };
            out.copy_from_slice(&row[..count]);
        }
    }
}

#[inline(always)]
fn code_columns_body(into: Columns<'_>, factor: &Factor<'_>) {
    match factor.number.group() {
        4 => code_columns_by::<4>(into, factor),
        _ => code_columns_by::<2>(into, factor),
    }
}

/// The same, with `GROUP` codes to a word.
#[inline(always)]
fn code_columns_by<const GROUP: usize>(into: Columns<'_>, factor: &Factor<'_>) {
    let Factor { weights, quantizers, number, .. } = factor;
    let Sizes { depth, columns, .. } = weights.sizes;
    let (first, count) = (into.range.start, into.range.len());
    let quantizers = quantizers.columns(first, count);
    let zeros = [0.0; MOST_COLUMNS];
    let mut totals = [Totals::default(); MOST_COLUMNS / STRIP];
    for word in 0..depth.div_ceil(GROUP) {
        let mut rows: [&[f32]; GROUP] = [&zeros[..count]; GROUP];
        for (values, row) in rows.iter_mut().zip(word * GROUP..depth) {
            *values = &weights.data[row * columns + first..][..count];
        }
        let present = GROUP.min(depth - word * GROUP);
        // SAFETY: this chunk alone has these columns.
        let out = unsafe { into.words.write(word * into.stride + first, count) };
        for (strip, out) in out.chunks_mut(STRIP).enumerate() {
            let range = strip * STRIP..strip * STRIP + out.len();
            let quantizers = quantizers.part(range.clone());
            let rows = rows.map(|row| &row[range.clone()]);
            totals[strip].code::<GROUP>(out, rows, &quantizers, present);
        }
    }
    let numbers = depth.next_multiple_of(GROUP);
    let sums = totals.iter().flat_map(|totals| totals.sums.iter().zip(&totals.peaks));
    for ((sum, peak), (start, step)) in sums.zip(into.start.iter_mut().zip(into.steps)) {
        *start = start_of(*number, integer_of_bits_sum(*sum, numbers));
        *step = poisoned(*step, f32::from_bits(*peak) * 0.0);
    }
}

/// Columns whose weights are coded at a time.
const STRIP: usize = 64;

/// What is known of each column of a strip.
#[derive(Clone, Copy)]
struct Totals {
    /// The sum of the bits of the codes.
    sums: [u32; STRIP],
    /// The bits of the largest magnitude.
    peaks: [u32; STRIP],
}

impl Default for Totals {
    fn default() -> Self {
        Self { sums: [0; STRIP], peaks: [0; STRIP] }
    }
}

impl Totals {
    /// Writes words of the codes of `rows`, of which `present` are not beyond the last row.
    #[inline(always)]
    fn code<const GROUP: usize>(
        &mut self,
        out: &mut [u32],
        rows: [&[f32]; GROUP],
        quantizers: &quantizer::Columns<'_>,
        present: usize,
    ) {
        let ([divisor, inverse], largest, tie) = quantizers.divisors();
        if tie < 0.0 {
            return self.code_each(out, rows, quantizers, present);
        }
        if let (Ok(out), Ok(divisor), Ok(inverse)) =
            (<&mut [u32; STRIP]>::try_from(&mut *out), divisor.try_into(), inverse.try_into())
        {
            let rows = rows.map(|row| row.try_into().expect("all rows are as long"));
            return self.code_whole(out, rows, [divisor, inverse], largest, tie);
        }
        let mut whole = [0; STRIP];
        let rows = rows.map(|row| padded(row, 0.0));
        let scales = [&padded(divisor, 1.0), &padded(inverse, 1.0)];
        self.code_whole(&mut whole, rows.each_ref(), scales, largest, tie);
        out.copy_from_slice(&whole[..out.len()]);
    }

    #[inline(always)]
    fn code_whole<const GROUP: usize>(
        &mut self,
        out: &mut [u32; STRIP],
        rows: [&[f32; STRIP]; GROUP],
        [divisor, inverse]: [&[f32; STRIP]; 2],
        largest: f32,
        tie: f32,
    ) {
        let (mut sums, distance) = find_codes(out, rows, largest, |v, index| v * inverse[index]);
        if distance >= tie {
            sums = find_codes(out, rows, largest, |v, index| v / divisor[index]).0;
        }
        for index in 0..STRIP {
            self.sums[index] = self.sums[index].wrapping_add(sums[index]);
            for row in rows {
                self.peaks[index] = self.peaks[index].max(row[index].abs().to_bits());
            }
        }
    }

    /// The same, one by one.
    fn code_each<const GROUP: usize>(
        &mut self,
        out: &mut [u32],
        rows: [&[f32]; GROUP],
        quantizers: &quantizer::Columns<'_>,
        present: usize,
    ) {
        for (index, word) in out.iter_mut().enumerate() {
            // Of what is beyond the last row, the code is 0 also of one bit.
            let mut codes = [bits_of_code(0.0); GROUP];
            for (code, row) in codes.iter_mut().zip(rows).take(present) {
                *code = bits_of_code(quantizers.at(index).code(row[index]));
                self.peaks[index] = self.peaks[index].max(row[index].abs().to_bits());
            }
            self.sums[index] = codes.into_iter().fold(self.sums[index], u32::wrapping_add);
            *word = join(codes);
        }
    }
}

/// Writes words of the codes of values whose ratios to their steps `ratio` gives, and returns the
/// sums of their bits by column, and the largest distance of a ratio from its code.
#[inline(always)]
fn find_codes<const GROUP: usize>(
    words: &mut [u32; STRIP],
    rows: [&[f32; STRIP]; GROUP],
    largest: f32,
    ratio: impl Fn(f32, usize) -> f32,
) -> ([u32; STRIP], f32) {
    let (mut sums, mut farthest) = ([0; STRIP], 0);
    for index in 0..STRIP {
        let mut codes = [0; GROUP];
        for (code, row) in codes.iter_mut().zip(rows) {
            let distance;
            (*code, distance) = code_and_distance(within(ratio(row[index], index), largest));
            farthest = farthest.max(distance);
        }
        sums[index] = codes.into_iter().fold(0, u32::wrapping_add);
        words[index] = join(codes);
    }
    (sums, f32::from_bits(farthest))
}

for_each_level! {
    /// Integers, from weights whose rows are along the columns.
    fn code_columns(into: Columns<'_>, factor: &Factor<'_>) = code_columns_body
}
