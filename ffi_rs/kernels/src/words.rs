//! Words of neighbors along the depth: how the factors of [`gemm`](crate::gemm) are laid out.

use crate::number::{Number, OFFSET};
use crate::quantizer::{
    Codes, Converted, Converter, PIECE, Target, code_of_bits, convert_rows_to, convert_to, integer,
};
use crate::simd::{Level, for_each_level};
use crate::vector;

/// Which factor words are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The nearest bfloat16, half to even, as the upper half of an f32.
#[inline(always)]
fn brain(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    // Rounding could carry the mantissa of a NaN into the sign.
    if value.is_nan() { 0x7FC0_0000 } else { rounded }
}

#[inline(always)]
fn round_to_brain_body(values: &mut [f32]) {
    for value in values {
        *value = f32::from_bits(brain(*value));
    }
}

for_each_level! {
    /// Rounds each of `values` to the nearest bfloat16.
    pub(crate) fn round_to_brain(values: &mut [f32]) = round_to_brain_body
}

#[inline(always)]
fn narrow_body(words: &mut [u32], values: &[f32], number: Number) {
    match number {
        Number::F32 => words.copy_from_slice(bytemuck::cast_slice(values)),
        Number::Bf16 => {
            // What is behind the last value must not be looked at: 0 times anything finite.
            words[values.len() / 2..values.len().div_ceil(2)].fill(0);
            let halves: &mut [u16] = bytemuck::cast_slice_mut(words);
            for (half, value) in halves.iter_mut().zip(values) {
                *half = (brain(*value) >> 16) as u16;
            }
        }
        Number::I16 | Number::Byte => unreachable!("integers are words as soon as they are codes"),
    }
}

for_each_level! {
    /// Writes `values` that follow each other along the depth as words of floats.
    pub(crate) fn narrow(words: &mut [u32], values: &[f32], number: Number) = narrow_body
}

/// Codes as integers of a byte, to which `ADDED` is added.
struct Bytes<const ADDED: i32>;
/// Codes as integers of two bytes.
struct Pairs;
/// Codes as bfloat16, which holds those of 8 bits.
struct Brains;

impl<const ADDED: i32> Target for Bytes<ADDED> {
    type Number = u8;

    #[inline(always)]
    fn of_bits(bits: u32, _: f32, _: f32) -> u8 {
        (bits as i32).wrapping_add(ADDED) as u8
    }

    #[inline(always)]
    fn of_code(code: f32, _: f32) -> u8 {
        (integer(code) + ADDED) as u8
    }
}

impl Target for Pairs {
    type Number = u16;

    #[inline(always)]
    fn of_bits(bits: u32, _: f32, _: f32) -> u16 {
        bits as u16
    }

    #[inline(always)]
    fn of_code(code: f32, _: f32) -> u16 {
        integer(code) as u16
    }
}

impl Target for Brains {
    type Number = u16;

    #[inline(always)]
    fn of_bits(bits: u32, v: f32, _: f32) -> u16 {
        (code_of_bits(bits, v).to_bits() >> 16) as u16
    }

    #[inline(always)]
    fn of_code(code: f32, _: f32) -> u16 {
        (code.to_bits() >> 16) as u16
    }
}

#[inline(always)]
fn code_words_body(
    words: &mut [u32],
    values: &[f32],
    converter: &Converter<'_>,
    (number, side): (Number, Side),
    converted: &mut Converted,
) {
    let count = values.len();
    // What is behind the last value must not be looked at: 0 times anything finite.
    if let Some(last) = words.last_mut() {
        *last = 0;
    }
    *converted = match number {
        Number::F32 => convert_to::<Codes>(bytemuck::cast_slice_mut(words), values, converter),
        Number::Bf16 => {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(words);
            convert_to::<Brains>(&mut halves[..count], values, converter)
        }
        Number::I16 => {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(words);
            convert_to::<Pairs>(&mut halves[..count], values, converter)
        }
        Number::Byte => {
            let bytes = &mut bytemuck::cast_slice_mut(words)[..count];
            match side {
                Side::Left => convert_to::<Bytes<OFFSET>>(bytes, values, converter),
                Side::Right => convert_to::<Bytes<0>>(bytes, values, converter),
            }
        }
    };
}

for_each_level! {
    /// Writes the codes, of at most 8 bits, of `values` that follow each other along the depth as
    /// words of a factor.
    pub(crate) fn code_words(
        words: &mut [u32],
        values: &[f32],
        converter: &Converter<'_>,
        form: (Number, Side),
        converted: &mut Converted,
    ) = code_words_body
}

#[inline(always)]
fn code_rows_body(
    words: &mut [u32],
    rows: [&[f32]; MAX_GROUP],
    converters: &[Converter<'_>; MAX_GROUP],
    number: Number,
    clipped: &mut bool,
) {
    match number {
        Number::F32 => {
            let words = bytemuck::cast_slice_mut(words);
            *clipped = convert_to::<Codes>(words, rows[0], &converters[0]).clipped;
        }
        Number::Bf16 => join_codes::<Brains, 2>(words, rows, converters, clipped),
        Number::I16 => join_codes::<Pairs, 2>(words, rows, converters, clipped),
        Number::Byte => join_codes::<Bytes<OFFSET>, 4>(words, rows, converters, clipped),
    }
}

#[inline(always)]
fn join_codes<T: Target, const GROUP: usize>(
    words: &mut [u32],
    rows: [&[f32]; MAX_GROUP],
    converters: &[Converter<'_>; MAX_GROUP],
    clipped: &mut bool,
) where
    T::Number: Default + Into<u32>,
{
    let joined = |codes: [T::Number; GROUP]| join(codes.map(Into::into));
    let mut done;
    (done, *clipped) =
        convert_rows_to::<T, GROUP>(words, std::array::from_fn(|g| rows[g]), converters, joined);
    while done < words.len() {
        let count = PIECE.min(words.len() - done);
        let mut codes = [[T::Number::default(); PIECE]; GROUP];
        for (g, codes) in codes.iter_mut().enumerate() {
            let values = &rows[g][done..][..count];
            let converter = converters[g].part(done, count);
            *clipped |= convert_to::<T>(&mut codes[..count], values, &converter).clipped;
        }
        for (index, word) in words[done..][..count].iter_mut().enumerate() {
            *word = joined(codes.each_ref().map(|codes| codes[index]));
        }
        done += count;
    }
}

for_each_level! {
    /// Writes the codes, of at most 8 bits, of `rows` that follow each other along the depth as a
    /// row of words of the left factor; sets `clipped` if a value may be beyond its full scale, or
    /// not finite. Only the first of them that fit in a word are looked at.
    pub(crate) fn code_rows(
        words: &mut [u32],
        rows: [&[f32]; MAX_GROUP],
        converters: &[Converter<'_>; MAX_GROUP],
        number: Number,
        clipped: &mut bool,
    ) = code_rows_body
}

/// The most numbers of a word.
pub(crate) const MAX_GROUP: usize = 4;

/// Joins integers that follow each other along the depth to a word; of each the low bits count.
#[inline(always)]
pub(crate) fn join<const GROUP: usize>(integers: [u32; GROUP]) -> u32 {
    let width = 32 / GROUP as u32;
    let mut word = 0;
    for (g, integer) in (0..).zip(integers) {
        // The first is the first in memory.
        let place = if cfg!(target_endian = "big") { GROUP as u32 - 1 - g } else { g };
        word |= (integer & (u32::MAX >> (32 - width))) << (place * width);
    }
    word
}

#[inline(always)]
fn interleave_body(words: &mut [u32], rows: [&[f32]; MAX_GROUP], number: Number) {
    let count = words.len();
    match number {
        Number::F32 => words.copy_from_slice(bytemuck::cast_slice(rows[0])),
        Number::Bf16 => {
            let rows = [&rows[0][..count], &rows[1][..count]];
            for index in 0..count {
                words[index] = join(rows.map(|row| brain(row[index]) >> 16));
            }
        }
        Number::I16 | Number::Byte => unreachable!("integers are words as soon as they are codes"),
    }
}

for_each_level! {
    /// Writes `rows` that follow each other along the depth as a row of words of floats; only the
    /// first of them that fit in a word are looked at.
    pub(crate) fn interleave(
        words: &mut [u32],
        rows: [&[f32]; MAX_GROUP],
        number: Number,
    ) = interleave_body
}

/// Rows that [`transpose`] takes at a time.
pub(crate) const TRANSPOSED: usize = 16;

/// Writes word `d` of row `r` of `rows` to `out[d · stride + r]`, for `d < depth`.
pub(crate) fn transpose(
    level: Level,
    out: &mut [u32],
    stride: usize,
    rows: &[&[u32]],
    depth: usize,
) {
    assert!(rows.len() <= TRANSPOSED && rows.iter().all(|row| row.len() >= depth));
    assert!(depth == 0 || (depth - 1) * stride + rows.len() <= out.len());
    let mut done = 0;
    if let (true, Ok(rows)) = (level >= Level::Avx512, <&[&[u32]; 16]>::try_from(rows)) {
        done = depth - depth % 16;
        for d in (0..done).step_by(16) {
            // SAFETY: every row has as many words from `d`, and `out` as many rows of as many from
            // there; from this level on the CPU has AVX-512.
            unsafe {
                let to = out.as_mut_ptr().add(d * stride);
                vector::transpose_16(rows.map(|row| row.as_ptr().add(d)), to, stride);
            }
        }
    }
    for (part, rows) in rows.chunks(8).enumerate() {
        let mut done = done;
        if let (true, Ok(rows)) = (level >= Level::Avx2, <&[&[u32]; 8]>::try_from(rows)) {
            let end = depth - depth % 8;
            for d in (done..end).step_by(8) {
                // SAFETY: as above; from this level on the CPU has AVX2.
                unsafe {
                    let to = out.as_mut_ptr().add(d * stride + part * 8);
                    vector::transpose_8(rows.map(|row| row.as_ptr().add(d)), to, stride);
                }
            }
            done = end;
        }
        for (r, row) in rows.iter().enumerate() {
            for d in done..depth {
                out[d * stride + part * 8 + r] = row[d];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfloat16_is_the_nearest_one() {
        for (value, expected) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.01 / 256.0, 1.0 + 2.0 / 256.0),
            (-127.0, -127.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(f32::from_bits(brain(value)), expected, "of {value}");
        }
        assert!(f32::from_bits(brain(f32::from_bits(0x7FFF_FFFF))).is_nan());
    }

    #[test]
    fn interleaved_and_transposed_words_are_the_same() {
        let level = Level::detect();
        for number in [Number::F32, Number::Bf16] {
            for (depth, columns) in [(1, 1), (3, 8), (4, 7), (21, 8), (40, 5), (37, 16), (33, 13)] {
                let at = |d: usize, c: usize| ((7 * d + 3 * c) % 255) as f32 - 127.0;
                let words = number.words(depth);
                let mut across = vec![0; words * columns];
                for (word, out) in across.chunks_exact_mut(columns).enumerate() {
                    let row = |g: usize| -> Vec<f32> {
                        let d = word * number.group() + g;
                        let of = |c| if d < depth { at(d, c) } else { 0.0 };
                        (0..columns).map(of).collect()
                    };
                    let rows = [row(0), row(1), row(2), row(3)];
                    let rows = rows.each_ref().map(Vec::as_slice);
                    interleave(level, out, rows, number);
                }
                let narrowed: Vec<Vec<u32>> = (0..columns)
                    .map(|c| {
                        let values: Vec<f32> = (0..depth).map(|d| at(d, c)).collect();
                        let mut out = vec![u32::MAX; words];
                        narrow(level, &mut out, &values, number);
                        out
                    })
                    .collect();
                let rows: Vec<&[u32]> = narrowed.iter().map(Vec::as_slice).collect();
                let mut along = vec![0; words * columns];
                transpose(level, &mut along, columns, &rows, words);
                assert_eq!(across, along, "{number:?} {depth} {columns}");
            }
        }
    }
}
