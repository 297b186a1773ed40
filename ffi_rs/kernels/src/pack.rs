//! Words of neighbors along the depth: how the operands of [`gemm`](crate::gemm) are packed.

use crate::isa::for_each_isa;
use crate::packing::{OFFSET, Packing};
use crate::quantizer::{
    Codes, Converted, Converter, PIECE, Target, code_of_bits, convert_rows_to, convert_to, integer,
};

/// Which operand of the product is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The nearest bfloat16, half to even, as the upper half of an f32.
#[inline(always)]
pub(crate) fn bf16_bits(value: f32) -> u32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000;
    // Rounding could carry the mantissa of a NaN into the sign.
    if value.is_nan() { bits & 0xFFFF_0000 | 0x40_0000 } else { rounded }
}

#[inline(always)]
fn round_to_bf16_body(values: &mut [f32]) {
    for value in values {
        *value = f32::from_bits(bf16_bits(*value));
    }
}

for_each_isa! {
    /// Rounds each of `values` to the nearest bfloat16.
    pub(crate) fn round_to_bf16(values: &mut [f32]) = round_to_bf16_body
}

#[inline(always)]
fn pack_floats_body(packed: &mut [u32], values: &[f32], packing: Packing) {
    match packing {
        Packing::F32 => packed.copy_from_slice(bytemuck::cast_slice(values)),
        Packing::Bf16 => {
            // What is behind the last value must not be looked at: 0 times anything finite.
            packed[values.len() / 2..values.len().div_ceil(2)].fill(0);
            let halves: &mut [u16] = bytemuck::cast_slice_mut(packed);
            for (half, value) in halves.iter_mut().zip(values) {
                *half = (bf16_bits(*value) >> 16) as u16;
            }
        }
        Packing::I16 | Packing::I8 => unreachable!("integers are packed as soon as they are codes"),
    }
}

for_each_isa! {
    /// Writes `values` that follow each other along the depth as words of floats.
    pub(crate) fn pack_floats(packed: &mut [u32], values: &[f32], packing: Packing) = pack_floats_body
}

/// Codes as integers of a byte, to which `ADDED` is added.
struct Bytes<const ADDED: i32>;
/// Codes as integers of two bytes.
struct Pairs;
/// Codes as bfloat16, which holds those of 8 bits.
struct Bf16s;

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

impl Target for Bf16s {
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
fn pack_codes_body(
    packed: &mut [u32],
    values: &[f32],
    converter: &Converter<'_>,
    (packing, side): (Packing, Side),
    converted: &mut Converted,
) {
    let count = values.len();
    // What is behind the last value must not be looked at: 0 times anything finite.
    if let Some(last) = packed.last_mut() {
        *last = 0;
    }
    *converted = match packing {
        Packing::F32 => convert_to::<Codes>(bytemuck::cast_slice_mut(packed), values, converter),
        Packing::Bf16 => {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(packed);
            convert_to::<Bf16s>(&mut halves[..count], values, converter)
        }
        Packing::I16 => {
            let halves: &mut [u16] = bytemuck::cast_slice_mut(packed);
            convert_to::<Pairs>(&mut halves[..count], values, converter)
        }
        Packing::I8 => {
            let bytes = &mut bytemuck::cast_slice_mut(packed)[..count];
            match side {
                Side::Left => convert_to::<Bytes<OFFSET>>(bytes, values, converter),
                Side::Right => convert_to::<Bytes<0>>(bytes, values, converter),
            }
        }
    };
}

for_each_isa! {
    /// Writes the codes, of at most 8 bits, of `values` that follow each other along the depth as
    /// words of an operand.
    pub(crate) fn pack_codes(
        packed: &mut [u32],
        values: &[f32],
        converter: &Converter<'_>,
        format: (Packing, Side),
        converted: &mut Converted,
    ) = pack_codes_body
}

#[inline(always)]
fn pack_code_rows_body(
    packed: &mut [u32],
    rows: [&[f32]; MAX_VALUES_PER_WORD],
    converters: &[Converter<'_>; MAX_VALUES_PER_WORD],
    packing: Packing,
    clipped: &mut bool,
) {
    match packing {
        Packing::F32 => {
            let packed = bytemuck::cast_slice_mut(packed);
            *clipped = convert_to::<Codes>(packed, rows[0], &converters[0]).clipped;
        }
        Packing::Bf16 => join_codes::<Bf16s, 2>(packed, rows, converters, clipped),
        Packing::I16 => join_codes::<Pairs, 2>(packed, rows, converters, clipped),
        Packing::I8 => join_codes::<Bytes<OFFSET>, 4>(packed, rows, converters, clipped),
    }
}

#[inline(always)]
fn join_codes<T: Target, const GROUP: usize>(
    packed: &mut [u32],
    rows: [&[f32]; MAX_VALUES_PER_WORD],
    converters: &[Converter<'_>; MAX_VALUES_PER_WORD],
    clipped: &mut bool,
) where
    T::Number: Default + Into<u32>,
{
    let joined = |codes: [T::Number; GROUP]| join(codes.map(Into::into));
    let mut done;
    (done, *clipped) =
        convert_rows_to::<T, GROUP>(packed, std::array::from_fn(|g| rows[g]), converters, joined);
    while done < packed.len() {
        let count = PIECE.min(packed.len() - done);
        let mut codes = [[T::Number::default(); PIECE]; GROUP];
        for (g, codes) in codes.iter_mut().enumerate() {
            let values = &rows[g][done..][..count];
            let converter = converters[g].part(done, count);
            *clipped |= convert_to::<T>(&mut codes[..count], values, &converter).clipped;
        }
        for (index, word) in packed[done..][..count].iter_mut().enumerate() {
            *word = joined(codes.each_ref().map(|codes| codes[index]));
        }
        done += count;
    }
}

for_each_isa! {
    /// Writes the codes, of at most 8 bits, of `rows` that follow each other along the depth as a
    /// row of words of the lhs; sets `clipped` if a value may be beyond its full scale, or
    /// not finite. Only the first of them that fit in a word are looked at.
    pub(crate) fn pack_code_rows(
        packed: &mut [u32],
        rows: [&[f32]; MAX_VALUES_PER_WORD],
        converters: &[Converter<'_>; MAX_VALUES_PER_WORD],
        packing: Packing,
        clipped: &mut bool,
    ) = pack_code_rows_body
}

/// The most numbers of a word.
pub(crate) const MAX_VALUES_PER_WORD: usize = 4;

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
fn pack_rows_body(packed: &mut [u32], rows: [&[f32]; MAX_VALUES_PER_WORD], packing: Packing) {
    let count = packed.len();
    match packing {
        Packing::F32 => packed.copy_from_slice(bytemuck::cast_slice(rows[0])),
        Packing::Bf16 => {
            let rows = [&rows[0][..count], &rows[1][..count]];
            for index in 0..count {
                packed[index] = join(rows.map(|row| bf16_bits(row[index]) >> 16));
            }
        }
        Packing::I16 | Packing::I8 => unreachable!("integers are packed as soon as they are codes"),
    }
}

for_each_isa! {
    /// Writes `rows` that follow each other along the depth as a row of words of floats; only the
    /// first of them that fit in a word are looked at.
    pub(crate) fn pack_rows(
        packed: &mut [u32],
        rows: [&[f32]; MAX_VALUES_PER_WORD],
        packing: Packing,
    ) = pack_rows_body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::vector::transpose;

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
            assert_eq!(f32::from_bits(bf16_bits(value)), expected, "of {value}");
        }
        assert!(f32::from_bits(bf16_bits(f32::from_bits(0x7FFF_FFFF))).is_nan());
    }

    #[test]
    fn interleaved_and_transposed_words_are_the_same() {
        let isa = Isa::detect();
        for packing in [Packing::F32, Packing::Bf16] {
            for (depth, columns) in [(1, 1), (3, 8), (4, 7), (21, 8), (40, 5), (37, 16), (33, 13)] {
                let at = |d: usize, c: usize| ((7 * d + 3 * c) % 255) as f32 - 127.0;
                let packed = packing.packed_len(depth);
                let mut across = vec![0; packed * columns];
                for (word, out) in across.chunks_exact_mut(columns).enumerate() {
                    let row = |g: usize| -> Vec<f32> {
                        let d = word * packing.values_per_word() + g;
                        let of = |c| if d < depth { at(d, c) } else { 0.0 };
                        (0..columns).map(of).collect()
                    };
                    let rows = [row(0), row(1), row(2), row(3)];
                    let rows = rows.each_ref().map(Vec::as_slice);
                    pack_rows(isa, out, rows, packing);
                }
                let narrowed: Vec<Vec<u32>> = (0..columns)
                    .map(|c| {
                        let values: Vec<f32> = (0..depth).map(|d| at(d, c)).collect();
                        let mut out = vec![u32::MAX; packed];
                        pack_floats(isa, &mut out, &values, packing);
                        out
                    })
                    .collect();
                let rows: Vec<&[u32]> = narrowed.iter().map(Vec::as_slice).collect();
                let mut along = vec![0; packed * columns];
                transpose(isa, &mut along, columns, &rows, packed);
                assert_eq!(across, along, "{packing:?} {depth} {columns}");
            }
        }
    }
}
