//! dx = (dz · w_qᵀ + x_q · weight² · Σ_n h·ε/σ) · [|x| ≤ x_full_scale], a panel of columns at a time.

use std::ops::Range;

use super::context::Context;
use super::dz::Block;
use super::steps::{add_scaled, scale, through_inputs};
use super::transposed_weights::{PANEL, TransposedWeights};
use crate::disjoint::TileMut;
use crate::gemm::{Accumulate, Lhs, Rhs, multiply};
use crate::ops::chain::InputRow;
use crate::quantizer::convert;
use crate::scratch::Scratch;
use crate::tuning::DX_DEPTH;

/// Some rows of dx in one panel of its columns.
pub(super) struct Tile {
    /// Of the block.
    pub(super) rows: Range<usize>,
    pub(super) panel: usize,
}

impl Context<'_> {
    /// Computes a tile of dx into `out`, from the block whose first row is row `start` of the call;
    /// writes what it gives of the gradient of `x_full_scale` to `by_full_scale`, if that is wanted.
    pub(super) fn compute_dx(
        &self,
        block: &Block,
        weights: &TransposedWeights,
        start: usize,
        tile: &Tile,
        mut out: TileMut<'_, f32>,
        by_full_scale: &mut [f32],
    ) {
        let Tile { rows, panel } = tile;
        let range = panel * PANEL..self.sizes.depth.min((panel + 1) * PANEL);
        self.multiply_dx(block, weights, tile, &range, &mut out);
        let scales = block.dz_scale.read(rows.clone());
        let inputs = block.inputs.read(rows.clone());
        let cotangents = block.noise_cotangent.read(rows.clone());
        for (index, dx) in out.rows_mut().enumerate() {
            if self.rounds() {
                scale(self.isa, dx, scales[index]);
            }
            let row = start + rows.start + index;
            let by_full_scale = by_full_scale.get_mut(index);
            self.finish_dx(dx, row, &range, inputs[index], cotangents[index], by_full_scale);
        }
    }

    /// dz · w_qᵀ
    fn multiply_dx(
        &self,
        block: &Block,
        weights: &TransposedWeights,
        tile: &Tile,
        range: &Range<usize>,
        out: &mut TileMut<'_, f32>,
    ) {
        let (isa, arithmetic, columns) = (self.isa, self.dx.arithmetic, self.sizes.columns);
        let row_stride = self.dx.packing(isa).packed_len(columns);
        let words = tile.rows.start * row_stride..tile.rows.end * row_stride;
        let (numbers, codes);
        let packed: &[u32] = if block.dz_packed.is_empty() {
            numbers = block.dz.read(words);
            bytemuck::cast_slice(&numbers)
        } else {
            codes = block.dz_packed.read(words);
            &codes
        };
        let lhs = |word: usize| Lhs {
            packed: packed.get(word..).unwrap_or(&[]),
            row_stride,
            depth_stride: 1,
        };
        if let Some((packed, corrections)) = weights.get(tile.panel) {
            let rhs = Rhs { packed: &packed, stride: PANEL };
            let accumulate = if corrections.is_empty() {
                Accumulate::Overwrite
            } else {
                Accumulate::Init(&corrections)
            };
            return multiply(isa, arithmetic, out, lhs(0), rhs, row_stride, accumulate);
        }
        // Only single numbers to a word are not kept.
        let mut panel = Scratch::new(DX_DEPTH * PANEL);
        let mut clipped = false;
        for first in (0..columns.max(1)).step_by(DX_DEPTH) {
            let slice = first..columns.min(first + DX_DEPTH);
            let depth = slice.len();
            clipped |= self.pack_panel(&mut panel, &mut [], range.clone(), slice);
            let rhs = Rhs { packed: &panel, stride: PANEL };
            let accumulate = if first == 0 { Accumulate::Overwrite } else { Accumulate::Add };
            multiply(isa, arithmetic, out, lhs(first), rhs, depth, accumulate);
        }
        weights.set_clipped(tile.panel, clipped);
    }

    /// Adds to a row of dx what σ's dependence on ‖x_q‖² gives, and takes it through the DAC.
    fn finish_dx(
        &self,
        dx: &mut [f32],
        row: usize,
        range: &Range<usize>,
        input: InputRow,
        noise_cotangent: f32,
        by_full_scale: Option<&mut f32>,
    ) {
        let x = &self.x.row(row)[range.clone()];
        let noise = self.operands.noise.coefficients(row);
        let factor = noise.map_or(0.0, |noise| noise.gradient_by_x(noise_cotangent));
        // Within its full scale a converter passes the gradient as it is.
        let passes = !input.clipped && by_full_scale.is_none();
        let dac = (!self.operands.is_dac_off()).then(|| self.operands.dac(row));
        if factor != 0.0 {
            let mut converted = [0.0; PANEL];
            let values = match &dac {
                Some(dac) => {
                    convert(self.isa, &mut converted[..x.len()], x, dac, &mut false);
                    &converted[..x.len()]
                }
                None => x,
            };
            add_scaled(self.isa, dx, values, factor);
        }
        if let Some(dac) = dac.filter(|_| !passes) {
            through_inputs(self.isa, dx, x, &dac, by_full_scale);
        }
    }
}
