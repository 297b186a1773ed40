//! What the forward and the backward op do before they multiply: convert x and w.

use std::ops::Range;

use super::operands::{Chain, Ranges, Sizes, Weights};
use crate::gemm::{Kind, Number, OFFSET, Right};
use crate::quantizer::{
    self, Converted, Converter, PIECE, Quantizers, bits_of_code, code_and_distance, convert,
    integer_of_bits_sum, padded, within,
};
use crate::shared::Staged;
use crate::simd::{Level, for_each_level, lane_sum};
use crate::words::{
    self, MAX_GROUP, Side, TRANSPOSED, code_words, join, narrow, round_to_brain, transpose,
};

/// One input row as the converters hand it on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Row {
    /// What one unit of the converted values stands for; NaN if a value is not finite.
    pub(crate) step: f32,
    /// ‖x_q‖²
    pub(crate) energy: f32,
    /// Whether a value is beyond the full scale, or not finite.
    pub(crate) clipped: bool,
}

/// Writes the codes of row `row` of x as words of the left factor.
pub(crate) fn code_row(
    level: Level,
    words: &mut [u32],
    x: &[f32],
    ranges: &Ranges<'_>,
    row: usize,
    number: Number,
) -> Row {
    let converter = ranges.input_converter(row);
    let mut converted = Converted::default();
    code_words(level, words, x, &converter, (number, Side::Left), &mut converted);
    let Converted { clipped, .. } = converted;
    let step = step_of(level, converter.at(0).step(), x, clipped);
    let energy = if ranges.has_weight_noise(row) {
        squares_of_codes(level, x, &converter) * step * step
    } else {
        0.0
    };
    Row { step, energy, clipped }
}

/// Σ code²
fn squares_of_codes(level: Level, x: &[f32], converter: &Converter<'_>) -> f32 {
    let mut squares = 0.0;
    for values in x.chunks(PIECE) {
        let mut codes = [0; PIECE];
        let codes = &mut codes[..values.len()];
        let form = (Number::F32, Side::Left);
        code_words(level, codes, values, converter, form, &mut Converted::default());
        add_squares(level, bytemuck::cast_slice(codes), &mut squares);
    }
    squares
}

/// ‖x_q‖² of row `row` of x, as the forward op has it.
pub(crate) fn energy_of_row(
    level: Level,
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
) -> f32 {
    let mut converted = vec![0.0; x.len()];
    if chain.is_integer(x.len()) {
        let words = bytemuck::cast_slice_mut(&mut converted);
        code_row(level, words, x, ranges, row, Number::F32).energy
    } else {
        convert_row(level, &mut converted, x, chain, ranges, row).energy
    }
}

/// Writes the codes of `rows` of x, which follow each other along the depth, as a row of words of
/// the left factor, and returns what became of each.
pub(crate) fn code_rows(
    level: Level,
    words: &mut [u32],
    x: &[f32],
    ranges: &Ranges<'_>,
    rows: Range<usize>,
    number: Number,
) -> [Row; MAX_GROUP] {
    let depth = words.len();
    // Of the left factor, what is beyond the last row may be any number: that of the right is 0.
    let row = |g: usize| (rows.start + g).min(rows.end - 1);
    let values = std::array::from_fn(|g| &x[row(g) * depth..][..depth]);
    let converters = std::array::from_fn(|g| ranges.input_converter(row(g)));
    let mut converted = [Converted::default(); MAX_GROUP];
    words::code_rows(level, words, values, &converters, number, &mut converted);
    std::array::from_fn(|g| {
        let clipped = converted[g].clipped;
        let step = step_of(level, converters[g].at(0).step(), values[g], clipped);
        Row { step, energy: 0.0, clipped }
    })
}

/// `step`, or NaN if one of `values` is not finite, which only clipped ones are.
fn step_of(level: Level, step: f32, values: &[f32], clipped: bool) -> f32 {
    let mut poison = 0.0;
    if clipped {
        add_poison(level, values, &mut poison);
    }
    poisoned(step, poison)
}

/// `step`, or NaN if `poison` is: the same NaN wherever it came from.
#[inline(always)]
fn poisoned(step: f32, poison: f32) -> f32 {
    if poison.is_nan() { f32::NAN } else { step }
}

#[inline(always)]
fn add_poison_body(values: &[f32], sum: &mut f32) {
    *sum += lane_sum(values.len(), |index| values[index] * 0.0);
}

for_each_level! {
    /// Adds 0, or NaN if a value is not finite.
    fn add_poison(values: &[f32], sum: &mut f32) = add_poison_body
}

/// Converts row `row` of x into `out`, which is not touched where the converter is off.
pub(crate) fn convert_row(
    level: Level,
    out: &mut [f32],
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
) -> Row {
    let mut clipped = false;
    let converted = if chain.dac.is_off() {
        x
    } else {
        convert(level, out, x, &ranges.input_converter(row), &mut clipped);
        out
    };
    let mut energy = 0.0;
    if ranges.has_weight_noise(row) {
        add_squares(level, converted, &mut energy);
    }
    Row { step: 1.0, energy, clipped }
}

#[inline(always)]
fn add_squares_body(values: &[f32], sum: &mut f32) {
    *sum += lane_sum(values.len(), |index| values[index] * values[index]);
}

for_each_level! {
    /// Adds Σ v², summed in 16 lanes.
    fn add_squares(values: &[f32], sum: &mut f32) = add_squares_body
}

/// The right factor of x·w: converted weights, or the weights as they lie in memory.
pub(crate) struct Factor<'a> {
    level: Level,
    weights: Weights<'a>,
    quantizers: Quantizers,
    chain: &'a Chain,
    kind: Kind,
    number: Number,
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
        let steps: Vec<f32> = (0..integers).map(|column| quantizers.at(column).step()).collect();
        let (words, start) = (Staged::new(0, words), Staged::new(0, integers));
        Self { level, weights, quantizers, chain, kind, number, words, start, steps: steps.into() }
    }

    /// Chunks of columns to convert.
    pub(crate) fn chunks(&self) -> usize {
        if self.words.is_empty() { 0 } else { self.weights.sizes.columns.div_ceil(CHUNK) }
    }

    /// Converts the columns of a chunk.
    ///
    /// # Safety
    ///
    /// Nothing else uses the chunk meanwhile.
    pub(crate) unsafe fn convert(&self, chunk: usize) {
        let columns = self.weights.sizes.columns;
        let range = chunk * CHUNK..columns.min((chunk + 1) * CHUNK);
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
        let mut lines = vec![0; TRANSPOSED * words];
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

/// Columns that one chunk converts.
const CHUNK: usize = 256;

/// Where some columns of the factor go.
struct Columns<'a> {
    words: &'a Staged<u32>,
    stride: usize,
    range: Range<usize>,
    start: &'a mut [i32],
    steps: &'a mut [f32],
}

/// Where sums over codes that sum to `sum` start.
pub(crate) fn start_of(number: Number, sum: i32) -> i32 {
    if number == Number::Byte { sum.wrapping_mul(-OFFSET) } else { 0 }
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

/// What becomes of a number before it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Exact,
    /// It is converted to the nearest level.
    Value,
    /// It is converted to the code of the nearest level.
    Code,
}

/// Writes `values`, which follow each other along the depth, as words of the right factor.
pub(crate) fn line_of_words(
    level: Level,
    line: &mut [u32],
    values: &[f32],
    converter: &Converter<'_>,
    form: Form,
    kind: Kind,
) -> Converted {
    let number = kind.number(level);
    let mut converted = Converted::default();
    if form == Form::Code {
        code_words(level, line, values, converter, (number, Side::Right), &mut converted);
        return converted;
    }
    for (index, values) in values.chunks(PIECE).enumerate() {
        let mut buffer = [0.0; PIECE];
        let numbers = &mut buffer[..values.len()];
        let converter = converter.part(index * PIECE, values.len());
        if form == Form::Exact {
            numbers.copy_from_slice(values);
        } else {
            convert(level, numbers, values, &converter, &mut converted.clipped);
        }
        if kind == Kind::Brain && number == Number::F32 {
            round_to_brain(level, numbers);
        }
        let start = number.words(index * PIECE);
        let words = &mut line[start..start + number.words(values.len())];
        narrow(level, words, numbers, number, Side::Right);
    }
    converted
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
    let zeros = [0.0; CHUNK];
    let mut totals = [Totals::default(); CHUNK / STRIP];
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

/// Quantizers for `columns` columns of w; of no effect where its converter is off.
pub(crate) fn weight_quantizers(chain: &Chain, ranges: &Ranges<'_>, columns: usize) -> Quantizers {
    Quantizers::new(chain.weight, (0..columns).map(|column| ranges.w_full_scale.get(column)))
}
