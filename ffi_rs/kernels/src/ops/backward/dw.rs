//! dw = (x_qᵀ · dz) · [|w| ≤ w_full_scale], some columns at a time.

use std::ops::Range;

use super::context::Context;
use super::dz::Block;
use super::rounding::{Rows, raise_all, round_rows, scale_of};
use super::steps::{scale, through_weights};
use crate::disjoint::TileMut;
use crate::gemm::{Accumulate, Lhs, Rhs, multiply};
use crate::ops::chain::{OperandFormat, accumulate, zero_point_correction};
use crate::ops::sizes::Sizes;
use crate::pack::{MAX_VALUES_PER_WORD, pack_rows, round_to_bf16};
use crate::packing::{Arithmetic, Packing};
use crate::quantizer::Converter;
use crate::scratch::Scratch;

/// Some columns of what is summed over rows.
pub(super) struct Sums<'a> {
    /// All rows of dw.
    pub(super) w: TileMut<'a, f32>,
    pub(super) bias: &'a mut [f32],
    /// Empty where it is not wanted.
    pub(super) y_full_scale: &'a mut [f32],
}

impl Context<'_> {
    /// Adds what a block gives to some `columns` of dw, or replaces it if the block is the `first`.
    /// The block holds the rows `rows` of the call.
    pub(super) fn add_dw(
        &self,
        block: &Block,
        rows: &Range<usize>,
        columns: &Range<usize>,
        first: bool,
        sums: Sums<'_>,
    ) {
        let (isa, plan) = (self.isa, self.dw);
        let depth = self.sizes.depth;
        let Sums { w: mut dw, bias, y_full_scale } = sums;
        for group in 0..Block::groups(rows.len()) {
            let start = group * self.sizes.columns;
            let part = start + columns.start..start + columns.end;
            if !y_full_scale.is_empty() {
                accumulate(isa, y_full_scale, &block.y_full_scale.read(part.clone()));
            }
            accumulate(isa, bias, &block.bias.read(part));
        }
        let words = plan.packing(isa).packed_len(rows.len());
        let x_packed;
        let (x, depth_stride): (&[u32], _) = if plan.is_in_place() {
            (bytemuck::cast_slice(self.x.from(rows.start)), self.x.stride)
        } else {
            x_packed = block.x_packed.read(0..words * depth);
            (&x_packed, depth)
        };
        let (mut packed, numbers) =
            (PackedDz::default(), block.dz.read(0..rows.len() * self.sizes.columns));
        let dz = if plan.arithmetic == Arithmetic::F32 && !self.rounds() {
            let packed = bytemuck::cast_slice(&numbers).get(columns.start..).unwrap_or(&[]);
            Rhs { packed, stride: self.sizes.columns }
        } else {
            packed = self.pack_dz(block, rows.len(), columns);
            Rhs { packed: &packed.words, stride: columns.len() }
        };
        let accumulate = if self.rounds() {
            Accumulate::Scale { init: &packed.corrections, scale: &packed.scales, add: !first }
        } else if first {
            Accumulate::Overwrite
        } else {
            Accumulate::Add
        };
        let x = Lhs { packed: x, row_stride: 1, depth_stride };
        multiply(isa, plan.arithmetic, &mut dw, x, dz, words, accumulate);
    }

    /// Takes some rows of dw, from row `first` of w on, and some columns, through the DAC of the
    /// weights, and adds to the gradient of its full scales if that is wanted.
    pub(super) fn mask_dw(
        &self,
        mut dw: TileMut<'_, f32>,
        first: usize,
        columns: &Range<usize>,
        mut w_full_scale: Option<&mut [f32]>,
    ) {
        let dacs = Converter::Each(self.weight_dacs.columns(columns.start, columns.len()));
        for (row, dw) in dw.rows_mut().enumerate() {
            let w = &self.w[(first + row) * self.sizes.columns..][columns.clone()];
            through_weights(self.isa, dw, w, &dacs, w_full_scale.as_deref_mut());
        }
    }

    /// Some columns of dz as the rhs of dw.
    fn pack_dz(&self, block: &Block, rows: usize, range: &Range<usize>) -> PackedDz {
        let Self { isa, dw: plan, sizes: Sizes { columns, .. }, .. } = *self;
        let packing = plan.packing(isa);
        let width = range.len();
        let mut packed = PackedDz {
            words: Scratch::new(packing.packed_len(rows) * width),
            ..PackedDz::default()
        };
        let dz = block.dz.read(0..rows * columns);
        let inputs = block.inputs.read(0..rows);
        let of_row = |row: usize| row * columns + range.start..row * columns + range.end;
        if self.rounds() {
            let bits = block.bits.read(0..rows * columns);
            let reciprocals: Vec<f32>;
            (packed.scales, reciprocals) = self.dz_scales(block, rows, range);
            if plan.arithmetic == Arithmetic::Int8 {
                packed.corrections.resize(width, 0);
            }
            let zeros = (vec![0.0; width], vec![0; width]);
            for (word, out) in packed.words.chunks_exact_mut(width).enumerate() {
                // Zeros are rounded to zero.
                let mut group = Rows {
                    dz: [&zeros.0; MAX_VALUES_PER_WORD],
                    factors: [1.0; MAX_VALUES_PER_WORD],
                    bits: [&zeros.1; MAX_VALUES_PER_WORD],
                };
                let first = word * packing.values_per_word();
                for (g, row) in (first..rows.min(first + packing.values_per_word())).enumerate() {
                    (group.dz[g], group.bits[g]) = (&dz[of_row(row)], &bits[of_row(row)]);
                    if plan.format == OperandFormat::Code {
                        group.factors[g] = inputs[row].step;
                    }
                }
                round_rows(isa, out, &mut packed.corrections, &group, &reciprocals, packing);
            }
            for correction in &mut packed.corrections {
                *correction = zero_point_correction(packing, *correction);
            }
            return packed;
        }
        let mut values = Scratch::new(MAX_VALUES_PER_WORD * width);
        for (word, out) in packed.words.chunks_exact_mut(width).enumerate() {
            let group = values.chunks_exact_mut(width).take(packing.values_per_word());
            for (g, out) in group.enumerate() {
                let row = word * packing.values_per_word() + g;
                if row >= rows {
                    out.fill(0.0);
                    continue;
                }
                out.copy_from_slice(&dz[of_row(row)]);
                if plan.format == OperandFormat::Code {
                    scale(isa, out, inputs[row].step);
                }
                if packing == Packing::F32 {
                    round_to_bf16(isa, out);
                }
            }
            let rows = std::array::from_fn(|g| &values[g * width..][..width]);
            pack_rows(isa, out, rows, packing);
        }
        packed
    }

    /// What a code of each of some columns of dz stands for, and its reciprocal.
    fn dz_scales(&self, block: &Block, rows: usize, range: &Range<usize>) -> (Vec<f32>, Vec<f32>) {
        let columns = self.sizes.columns;
        let mut peaks = vec![0; range.len()];
        let groups = block.peaks.read(0..Block::groups(rows) * columns);
        for group in groups.chunks_exact(columns) {
            raise_all(self.isa, &mut peaks, &group[range.clone()]);
        }
        peaks.into_iter().map(scale_of).unzip()
    }
}

/// Some columns of dz, packed.
#[derive(Default)]
struct PackedDz {
    words: Scratch<u32>,
    /// Integers only: where the sums of each column start.
    corrections: Vec<i32>,
    /// Rounded only: what a code of each column stands for.
    scales: Vec<f32>,
}
