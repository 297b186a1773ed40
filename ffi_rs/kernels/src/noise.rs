//! Standard normal numbers that depend only on (seed, row id, column id).
//!
//! # The definition
//!
//! Write `mix(z)` for the first output of SplitMix64 with state `z`. A *block* is one row and the
//! 256 columns `256·block … 256·block + 255`:
//!
//! ```text
//! base    = mix(mix(mix(seed) ^ row) ^ seed ^ block)                          u64
//! lane l  = Xoshiro256PlusPlus::seed_from_u64(base + 4·l·0x9E3779B97F4A7C15)   l = 0 … 7
//! ```
//!
//! so the 32 state words are 32 consecutive outputs of SplitMix64. Columns are drawn in groups of
//! 32, from two outputs of each lane; `u` is output `j / 8` of lane `j % 8`, for `j = 0 … 15`:
//!
//! ```text
//! h      = u >> 33                     31 bits
//! u1     = (h + ½) / 2³¹               in (0, 1], so ln(0) cannot occur; |ε| ≤ 6.66
//! angle  = 2π · (u mod 2³²) / 2³²
//! ε[32·g + j]      = √(-2 ln u1) · cos(angle)
//! ε[32·g + 16 + j] = √(-2 ln u1) · sin(angle)
//! ```
//!
//! Logarithm, sine and cosine are the polynomials below, evaluated in f32 without fused
//! multiply-add, so that every CPU gives the same bits.

use crate::isa::{Aligned, Isa, for_each_isa};
use crate::vector;

/// Columns of a noise block.
pub(crate) const BLOCK: usize = 256;
const LANES: usize = 8;
/// Columns that one draw of two outputs per lane gives.
const GROUP: usize = 4 * LANES;
const PAIRS: usize = GROUP / 2;
/// What the seed of a part of an op is ahead of that of the part before, where parts draw on their
/// own: an odd number, unrelated to what the generators add.
pub(crate) const SEED_STEP: u64 = 0xD134_2543_DE82_EF95;
const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The first output of SplitMix64 with state `state`.
#[inline(always)]
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(GOLDEN_GAMMA);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Rows that are seeded at a time.
pub(crate) const SEEDED: usize = 8;

/// What the noise of a row is drawn from.
#[derive(Clone, Copy, Default)]
pub(crate) struct Source {
    pub(crate) seed: u64,
    pub(crate) row: u32,
}

impl Source {
    /// From a seed of two words, the high one first.
    #[inline(always)]
    pub(crate) fn new([high, low]: [u32; 2], row: u32) -> Self {
        Self { seed: u64::from(high) << 32 | u64::from(low), row }
    }

    /// What the words that round are drawn from: they are independent of ε.
    pub(crate) fn rounding(self) -> Self {
        Self { seed: self.seed ^ 0xD1B5_4A32_D192_ED03, ..self }
    }
}

/// By row, what the bases of all its blocks have in common.
#[inline(always)]
fn row_bases(sources: &[Source]) -> [u64; SEEDED] {
    let mut padded = [Source::default(); SEEDED];
    padded[..sources.len()].copy_from_slice(sources);
    padded.map(|Source { seed, row }| mix(mix(seed) ^ u64::from(row)) ^ seed)
}

/// The generators of one block, side by side.
struct Lanes {
    state: [[u64; LANES]; 4],
}

impl Lanes {
    #[inline(always)]
    fn new(base: u64) -> Self {
        Self { state: STATES.map(|lanes| lanes.map(|state| mix(base.wrapping_add(state)))) }
    }

    /// One output of each Xoshiro256++ generator.
    #[inline(always)]
    fn next(&mut self) -> [u64; LANES] {
        let [a, b, c, d] = &mut self.state;
        let mut output = [0; LANES];
        for lane in 0..LANES {
            output[lane] = a[lane].wrapping_add(d[lane]).rotate_left(23).wrapping_add(a[lane]);
            let t = b[lane] << 17;
            c[lane] ^= a[lane];
            d[lane] ^= b[lane];
            b[lane] ^= c[lane];
            a[lane] ^= d[lane];
            c[lane] ^= t;
            d[lane] = d[lane].rotate_left(45);
        }
        output
    }
}

/// What is added to the base of a block for word `word` of lane `lane`: consecutive states of
/// SplitMix64, four for each lane.
const STATES: [[u64; LANES]; 4] = {
    let mut states = [[0; LANES]; 4];
    let mut index = 0;
    while index < 4 * LANES {
        states[index % 4][index / 4] = (index as u64).wrapping_mul(GOLDEN_GAMMA);
        index += 1;
    }
    states
};

/// `-2 ln((h + ½) / 2³¹)` for a 31-bit `h`, never negative.
#[inline(always)]
fn minus_two_ln(h: i32) -> f32 {
    const SQRT_HALF: i32 = 0x3F35_04F3;
    // The power of two goes from the exponent: bits are those of u = (h + ½) / 2³¹.
    const SCALE: i32 = 31 << 23;
    let u = (h as f32 + 0.5).to_bits() as i32 - SCALE;
    // u = 2^exponent · (1 + t) with √½ ≤ 1 + t < √2.
    let offset = u.wrapping_sub(SQRT_HALF);
    let exponent = (offset >> 23) as f32;
    let t = f32::from_bits(((offset & 0x007F_FFFF) + SQRT_HALF) as u32) - 1.0;
    // ln(1 + t) = t - t²/2 + t³ · p(t)
    let mut p = LN[0];
    for &coefficient in &LN[1..] {
        p = p * t + coefficient;
    }
    let ln = (p * t - 0.5) * (t * t) + t + exponent * std::f32::consts::LN_2;
    (-2.0 * ln).max(0.0)
}

/// `(cos, sin)` of `2π · turn / 2³²`.
#[inline(always)]
fn cos_sin(turn: u32) -> (f32, f32) {
    const RADIANS: f32 = (std::f64::consts::TAU / (1u64 << 32) as f64) as f32;
    // The nearest quarter turn, and what is left of the angle: |angle| ≤ π/4.
    let quarter = turn.wrapping_add(1 << 29) >> 30;
    let angle = turn.wrapping_sub(quarter << 30) as i32 as f32 * RADIANS;
    let square = angle * angle;
    let sin = angle + angle * square * ((SIN[0] * square + SIN[1]) * square + SIN[2]);
    let cos = 1.0 - 0.5 * square + square * square * ((COS[0] * square + COS[1]) * square + COS[2]);
    let (cos, sin) = if quarter & 1 == 0 { (cos, sin) } else { (sin, cos) };
    // Quarter 1 and 2 turn the cosine's sign, quarter 2 and 3 the sine's.
    let cos_sign = ((quarter + 1) & 2) << 30;
    let sin_sign = (quarter & 2) << 30;
    (f32::from_bits(cos.to_bits() ^ cos_sign), f32::from_bits(sin.to_bits() ^ sin_sign))
}

/// Minimax of (ln(1 + t) - t + t²/2) / t³ on [√½ - 1, √2 - 1], highest power first.
const LN: [f32; 6] =
    [-0.104_876_68, 0.161_541_13, -0.171_023_77, 0.199_086_43, -0.249_842_32, 0.333_346_64];
/// Minimax of (sin(a) - a) / a³ on [-π/4, π/4], in a², highest power first.
const SIN: [f32; 3] = [-1.949_623_4e-4, 8.331_984e-3, -1.666_665_1e-1];
/// Minimax of (cos(a) - 1 + a²/2) / a⁴ on [-π/4, π/4], in a², highest power first.
const COS: [f32; 3] = [2.443_948_3e-5, -1.388_737_8e-3, 4.166_664_6e-2];

/// What is drawn for a column.
trait Drawn: Copy + Default {
    /// Draws for groups that follow each other, at most those of a block; `words` is room.
    fn draw(isa: Isa, groups: &mut [Group<Self>], lanes: &mut Lanes, words: &mut Block<u32>);
}

/// What is drawn for a group of columns, and for a block.
type Group<T> = [[T; PAIRS]; 2];
type Block<T> = [Group<T>; BLOCK / GROUP];

/// Fills `out`, of each source the columns `first_column …`, as many of each.
#[inline(always)]
fn draw_body<T: Drawn>(isa: Isa, out: &mut [T], sources: &[Source], first_column: u32) {
    if out.is_empty() {
        return;
    }
    let width = out.len() / sources.len();
    let (mut words, mut block) = (Aligned::<Block<u32>>::default(), Aligned::<Block<T>>::default());
    for (out, sources) in out.chunks_mut(SEEDED * width).zip(sources.chunks(SEEDED)) {
        let bases = row_bases(sources);
        let mut column = 0;
        while column < width {
            let id = first_column.wrapping_add(column as u32);
            let start = id as usize % BLOCK;
            let now = (BLOCK - start).min(width - column);
            let bases = bases.map(|base| mix(base ^ u64::from(id / BLOCK as u32)));
            for (out, base) in out.chunks_exact_mut(width).zip(bases) {
                let mut lanes = Lanes::new(base);
                let out = &mut out[column..column + now];
                draw_part(isa, out, start, &mut lanes, &mut words.0, &mut block.0);
            }
            column += now;
        }
    }
}

/// Fills `out`, the columns `start …` of the block of `lanes`.
#[inline(always)]
fn draw_part<T: Drawn>(
    isa: Isa,
    out: &mut [T],
    start: usize,
    lanes: &mut Lanes,
    words: &mut Block<u32>,
    block: &mut Block<T>,
) {
    for _ in 0..2 * (start / GROUP) {
        lanes.next();
    }
    let skipped = start % GROUP;
    if skipped == 0 && out.len().is_multiple_of(GROUP) {
        return T::draw(isa, out.as_chunks_mut().0.as_chunks_mut().0, lanes, words);
    }
    // There is room for a part of some group only.
    T::draw(isa, &mut block[..(skipped + out.len()).div_ceil(GROUP)], lanes, words);
    out.copy_from_slice(&block.as_flattened().as_flattened()[skipped..][..out.len()]);
}

/// The outputs of the generators: the upper halves of those of a group, then the lower ones.
impl Drawn for u32 {
    #[inline(always)]
    fn draw(isa: Isa, groups: &mut [Group<u32>], lanes: &mut Lanes, _: &mut Block<u32>) {
        draw_words::<0>(isa, groups, lanes);
    }
}

/// Writes the upper halves of the outputs, shifted by so many bits, and the lower ones.
#[inline(always)]
fn draw_words<const SHIFT: u32>(isa: Isa, groups: &mut [Group<u32>], lanes: &mut Lanes) {
    if vector::xoshiro_8(isa, &mut lanes.state, groups, SHIFT) {
        return;
    }
    for [high, low] in groups {
        for (high, low) in high.chunks_exact_mut(LANES).zip(low.chunks_exact_mut(LANES)) {
            let outputs = lanes.next();
            for lane in 0..LANES {
                high[lane] = (outputs[lane] >> (32 + SHIFT)) as u32;
                low[lane] = outputs[lane] as u32;
            }
        }
    }
}

/// ε
impl Drawn for f32 {
    #[inline(always)]
    fn draw(isa: Isa, groups: &mut [Group<f32>], lanes: &mut Lanes, words: &mut Block<u32>) {
        // All words before the first normal: together they need more registers than AVX2 has.
        let words = &mut words[..groups.len()];
        draw_words::<1>(isa, words, lanes);
        for (group, words) in groups.iter_mut().zip(words) {
            *group = normals(words);
        }
    }
}

/// ε of the columns of a group.
#[inline(always)]
fn normals([high, low]: &Group<u32>) -> Group<f32> {
    let (mut normals, mut radius) = ([[0.0; PAIRS]; 2], [0.0; PAIRS]);
    for pair in 0..PAIRS {
        radius[pair] = minus_two_ln(high[pair] as i32).sqrt();
    }
    for pair in 0..PAIRS {
        let (cos, sin) = cos_sin(low[pair]);
        (normals[0][pair], normals[1][pair]) = (radius[pair] * cos, radius[pair] * sin);
    }
    normals
}

for_each_isa! {
    /// Writes 32 random bits for the columns `first_column …` of each source, as many of each: with
    /// the names of the definition, `u >> 32` of output `j` where the column is `32·g + j`,
    /// `u mod 2³²` where it is `32·g + 16 + j`. The sources are those [`for rounding`](Source::rounding).
    pub(crate) fn rounding_words(
        isa;
        out: &mut [u32],
        sources: &[Source],
        first_column: u32,
    ) = draw_body
}

for_each_isa! {
    /// Writes ε of the columns `first_column …` of each source to `out`, as many of each.
    pub(crate) fn fill(isa; out: &mut [f32], sources: &[Source], first_column: u32) = draw_body
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;
    use rand_xoshiro::rand_core::{Rng, SeedableRng};
    use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

    use super::*;

    /// The definition, one column at a time, with f64 functions.
    fn oracle(seed: u64, row: u32, column: u32) -> f64 {
        let mix = |state| SplitMix64::seed_from_u64(state).next_u64();
        let block = column / 256;
        let base = mix(mix(mix(seed) ^ u64::from(row)) ^ seed ^ u64::from(block));
        let within = column % 256;
        let (group, half, pair) = (within / 32, within % 32 / 16, within % 16);
        let lane = u64::from(pair % 8);
        let first = base.wrapping_add((4 * lane).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(first);
        let output = (0..=2 * group + pair / 8).map(|_| generator.next_u64()).last().unwrap();
        // Rounded to f32 as in the product: near u1 = 1 the radius is as small as that rounding.
        let uniform = f64::from(((output >> 33) as f32 + 0.5) / (1u64 << 31) as f32);
        let angle = TAU * (output as u32) as f64 / (1u64 << 32) as f64;
        let radius = (-2.0 * uniform.ln()).sqrt();
        radius * if half == 0 { angle.cos() } else { angle.sin() }
    }

    fn draw(isa: Isa, seed: u64, row: u32, first: u32, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        fill(isa, &mut out, &[Source { seed, row }], first);
        out
    }

    #[test]
    fn known_answers_of_the_generators() {
        let mut state = 1_234_567u64;
        let mut outputs = [0; 3];
        for output in &mut outputs {
            *output = mix(state);
            state = state.wrapping_add(GOLDEN_GAMMA);
        }
        assert_eq!(
            outputs,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        let mut lanes = Lanes { state: [[1; LANES], [2; LANES], [3; LANES], [4; LANES]] };
        let outputs = [(); 4].map(|()| lanes.next()[LANES - 1]);
        assert_eq!(outputs, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn the_largest_and_the_smallest_radius_are_finite() {
        assert_eq!(minus_two_ln(i32::MAX), 0.0);
        let largest = minus_two_ln(0).sqrt();
        assert!((6.66..6.67).contains(&largest), "{largest}");
    }

    proptest! {
        #[test]
        fn follows_the_definition(seed: u64, row: u32, column in 0..100_000u32) {
            let want = oracle(seed, row, column);
            let got = f64::from(draw(Isa::Baseline, seed, row, column, 1)[0]);
            // The angle has 2⁻²⁵ of f32 rounding and the radius a few ulps: both are below 1e-6.
            prop_assert!((got - want).abs() <= 1e-6 * (1.0 + want.abs()), "{got} {want}");
        }

        #[test]
        fn every_level_and_every_cut_gives_the_same_bits(
            seed: u64,
            row: u32,
            first in 0..2000u32,
            count in 1..700usize,
            cut in 0..700usize,
        ) {
            let whole = draw(Isa::Baseline, seed, row, first, count);
            let cut = cut.min(count);
            let mut parts = draw(Isa::detect(), seed, row, first, cut);
            parts.extend(draw(Isa::detect(), seed, row, first + cut as u32, count - cut));
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&whole), bits(&parts));

            let words = |isa| {
                let mut out = vec![0; count];
                rounding_words(isa, &mut out, &[Source { seed, row }], first);
                out
            };
            prop_assert_eq!(words(Isa::Baseline), words(Isa::detect()));
        }

        #[test]
        fn many_rows_are_each_as_alone(
            sources in prop::collection::vec((any::<u64>(), any::<u32>()), 1..20),
            first in 0..600u32,
            width in 1..600usize,
        ) {
            let sources: Vec<_> =
                sources.into_iter().map(|(seed, row)| Source { seed, row }).collect();
            let mut together = vec![0.0; sources.len() * width];
            fill(Isa::detect(), &mut together, &sources, first);
            for (row, source) in together.chunks_exact(width).zip(sources) {
                let alone = draw(Isa::Baseline, source.seed, source.row, first, width);
                for (one, other) in row.iter().zip(alone) {
                    prop_assert_eq!(one.to_bits(), other.to_bits());
                }
            }
        }
    }
}
