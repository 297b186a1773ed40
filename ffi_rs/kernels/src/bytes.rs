//! Products of 8-bit codes, summed exactly as integers, where the CPU has instructions for them.
//!
//! The instructions multiply u8 by i8, so x is stored as `code + 128`, and a sum starts from
//! `-128 · Σ w` of its column. Intermediate sums wrap; the result is a sum that i32 holds.

use std::ops::Range;

use crate::ParFor;
use crate::gemm::Product;
use crate::ops::operands::{Sizes, Weights};
use crate::quantizer::{Quantizer, Quantizers};
use crate::shared::SharedMut;
use crate::simd::{Level, MAX_COLUMNS, for_each_level, lane_sum, panel_width};

/// Codes that one instruction sums.
pub(crate) const GROUP: usize = 4;
const OFFSET: i32 = 128;

/// Whether `level` has such instructions.
pub(crate) fn has_byte_products(level: Level) -> bool {
    level == Level::Avx512Vnni
}

/// Bytes of a row of `depth` codes.
pub(crate) fn row_bytes(depth: usize) -> usize {
    depth.next_multiple_of(GROUP)
}

#[inline(always)]
fn convert_row_body(out: &mut [u8], values: &[f32], quantizer: &Quantizer, poison: &mut f32) {
    for (out, value) in out.iter_mut().zip(values) {
        *out = (quantizer.small_code(*value) + OFFSET) as u8;
    }
    *poison = lane_sum(values.len(), |index| values[index] * 0.0);
}

for_each_level! {
    /// Converts a row to codes plus 128; `poison` becomes 0, or NaN if a value is not finite.
    pub(crate) fn convert_row(
        out: &mut [u8],
        values: &[f32],
        quantizer: &Quantizer,
        poison: &mut f32,
    ) = convert_row_body
}

#[inline(always)]
fn sum_of_squares_body(codes: &[u8], sum: &mut f32) {
    *sum = lane_sum(codes.len(), |index| {
        let code = (i32::from(codes[index]) - OFFSET) as f32;
        code * code
    });
}

for_each_level! {
    /// Sets `sum` to Σ code², summed in 16 lanes.
    pub(crate) fn sum_of_squares(codes: &[u8], sum: &mut f32) = sum_of_squares_body
}

/// Codes of the weights: panels of columns, in each of them groups of four along the depth.
pub(crate) struct BytePanels {
    codes: Vec<u32>,
    /// Where the sum of each column starts, padded to whole panels.
    start: Vec<i32>,
    /// By column: 0, or NaN if a weight is not finite.
    pub(crate) poison: Vec<f32>,
    groups: usize,
    width: usize,
}

impl BytePanels {
    /// Packs the codes of `weights`.
    pub(crate) fn new(
        level: Level,
        weights: &Weights<'_>,
        quantizers: &Quantizers,
        pool: &dyn ParFor,
    ) -> Self {
        let Sizes { depth, columns, .. } = weights.sizes;
        let width = panel_width(level);
        let (panels, groups) = (columns.div_ceil(width), depth.div_ceil(GROUP));
        let mut codes = vec![0; panels * groups * width];
        let mut start = vec![0; panels * width];
        let mut poison = vec![0.0; panels * width];
        {
            let (codes, start, poison) = (
                SharedMut::new(&mut codes),
                SharedMut::new(&mut start),
                SharedMut::new(&mut poison),
            );
            pool.run(panels, &|panel, _| {
                let first = panel * width;
                // SAFETY: panels do not overlap, and each is packed by one chunk.
                let mut out = unsafe {
                    Panel {
                        codes: codes.slice(first * groups, width * groups),
                        start: start.slice(first, width),
                        poison: poison.slice(first, width),
                    }
                };
                let range = first..columns.min(first + width);
                pack(level, &mut out, range, weights, quantizers);
            });
        }
        Self { codes, start, poison, groups, width }
    }
}

struct Panel<'a> {
    codes: &'a mut [u32],
    start: &'a mut [i32],
    poison: &'a mut [f32],
}

#[inline(always)]
fn pack_body(
    panel: &mut Panel<'_>,
    columns: Range<usize>,
    weights: &Weights<'_>,
    quantizers: &Quantizers,
) {
    let count = columns.len();
    let width = panel.start.len();
    let quantizers = quantizers.columns(columns.start, count);
    // Arrays of this frame, and loops of a length that is not known: those become vector code.
    let (mut start, mut poison) = ([0i32; MAX_COLUMNS], [0.0f32; MAX_COLUMNS]);
    let (start, poison) = (&mut start[..count], &mut poison[..count]);
    for (group, out) in panel.codes.chunks_exact_mut(width).enumerate() {
        let mut packed = [0u32; MAX_COLUMNS];
        let packed = &mut packed[..count];
        for lane in 0..GROUP.min(weights.sizes.depth - group * GROUP) {
            let mut values = [0.0; MAX_COLUMNS];
            let values = &mut values[..count];
            weights.copy_row(values, group * GROUP + lane, columns.start);
            let mut codes = [0i32; MAX_COLUMNS];
            let codes = &mut codes[..count];
            for index in 0..count {
                codes[index] = quantizers.at(index).small_code(values[index]);
            }
            for index in 0..count {
                packed[index] |= (codes[index] as u32 & 0xFF) << (8 * lane);
                start[index] -= OFFSET * codes[index];
                poison[index] += values[index] * 0.0;
            }
        }
        out[..count].copy_from_slice(packed);
    }
    panel.start[..count].copy_from_slice(start);
    panel.poison[..count].copy_from_slice(poison);
}

for_each_level! {
    /// Packs the codes of `columns`.
    fn pack(
        panel: &mut Panel<'_>,
        columns: Range<usize>,
        weights: &Weights<'_>,
        quantizers: &Quantizers,
    ) = pack_body
}

/// Sets `c` to the sums of code products, of rows of x as `convert_row` makes them and the weights
/// from `column` on, a multiple of the panel width.
pub(crate) fn multiply(
    level: Level,
    c: &mut Product<'_>,
    x: &[u8],
    weights: &BytePanels,
    column: usize,
) {
    assert!(has_byte_products(level), "checked by the caller");
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the level exists only where `detect` saw these features.
        unsafe { vnni::multiply(c, x, weights, column) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (c, x, weights, column);
}

#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::arch::x86_64::*;

    use super::{BytePanels, GROUP, MAX_COLUMNS};
    use crate::gemm::Product;

    const LANES: usize = 16;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn multiply(c: &mut Product<'_>, x: &[u8], weights: &BytePanels, column: usize) {
        let BytePanels { codes, start, groups, width, .. } = weights;
        for first in (0..c.columns).step_by(*width) {
            let at = column + first;
            let panel = Panel {
                codes: &codes[at * groups..][..groups * width],
                start: start[at..][..*width].try_into().expect("a panel of 48 columns"),
            };
            let mut row = 0;
            while row < c.rows {
                row += match c.rows - row {
                    8.. => tile::<8>(c, x, &panel, row, first),
                    4.. => tile::<4>(c, x, &panel, row, first),
                    2.. => tile::<2>(c, x, &panel, row, first),
                    _ => tile::<1>(c, x, &panel, row, first),
                };
            }
        }
    }

    struct Panel<'a> {
        codes: &'a [u32],
        start: &'a [i32; MAX_COLUMNS],
    }

    /// Computes `R` rows of one panel's columns, and returns `R`.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn tile<const R: usize>(
        c: &mut Product<'_>,
        x: &[u8],
        panel: &Panel<'_>,
        row: usize,
        column: usize,
    ) -> usize {
        let groups = panel.codes.len() / MAX_COLUMNS;
        let rows: [&[[u8; GROUP]]; R] = std::array::from_fn(|r| {
            &x[(row + r) * groups * GROUP..].as_chunks::<GROUP>().0[..groups]
        });
        let load = |values: &[i32]| {
            assert!(values.len() >= LANES);
            // SAFETY: 16 elements are there.
            unsafe { _mm512_loadu_epi32(values.as_ptr()) }
        };
        let start: [__m512i; 3] = std::array::from_fn(|n| load(&panel.start[n * LANES..]));
        let mut sums = [start; R];
        for (group, codes) in panel.codes.as_chunks::<MAX_COLUMNS>().0.iter().enumerate() {
            // SAFETY: 48 elements are there.
            let codes: [__m512i; 3] = std::array::from_fn(|n| unsafe {
                _mm512_loadu_epi32(codes[n * LANES..].as_ptr().cast())
            });
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let x = _mm512_set1_epi32(i32::from_le_bytes(row[group]));
                for (sum, codes) in sums.iter_mut().zip(codes) {
                    *sum = _mm512_dpbusd_epi32(*sum, x, codes);
                }
            }
        }
        let width = MAX_COLUMNS.min(c.columns - column);
        for (r, sums) in sums.into_iter().enumerate() {
            let mut out = [0.0f32; MAX_COLUMNS];
            for (n, sum) in sums.into_iter().enumerate() {
                // SAFETY: 48 elements are there.
                unsafe {
                    _mm512_storeu_ps(out[n * LANES..].as_mut_ptr(), _mm512_cvtepi32_ps(sum));
                }
            }
            let at = (row + r) * c.stride + column;
            c.data[at..at + width].copy_from_slice(&out[..width]);
        }
        R
    }
}
