//! The steps of the backward op, each over one row or a piece of it.

use super::operands::{Coefficients, Weights};
use crate::noise;
use crate::quantizer::{Columns, Quantizer};
use crate::simd::{for_each_level, lane_sum};

/// Sums over the columns of one row, of p = h·ε/σ.
#[derive(Clone, Copy, Default)]
pub(crate) struct RowSums {
    /// Σ p
    pub(crate) plain: f32,
    /// Σ p·|y|
    pub(crate) magnitude: f32,
    /// Σ p·y²
    pub(crate) square: f32,
    /// ‖x_q‖² of the row
    pub(super) energy: f32,
}

/// A piece of one row: what comes from above, and what it went through.
pub(super) struct Upstream<'a> {
    pub(super) g: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) adc: Option<Columns<'a>>,
}

impl Upstream<'_> {
    /// Writes `h`, and adds `g · ∂out/∂y_full_scale`, where the ADC saw `seen`.
    #[inline(always)]
    fn through_adc(&self, h: &mut [f32], seen: &[f32], dy_full_scale: Option<&mut [f32]>) {
        let count = h.len();
        let (g, seen) = (&self.g[..count], &seen[..count]);
        let Some(adc) = self.adc else {
            for ((h, g), seen) in h.iter_mut().zip(g).zip(seen) {
                *h = if seen.is_finite() { *g } else { f32::NAN };
            }
            return;
        };
        for index in 0..count {
            h[index] = g[index] * adc.at(index).gradient(seen[index]).0;
        }
        if let Some(sum) = dy_full_scale {
            let sum = &mut sum[..count];
            for index in 0..count {
                sum[index] += g[index] * adc.at(index).gradient(seen[index]).1;
            }
        }
    }
}

pub(super) struct Noise<'a> {
    pub(super) coefficients: Coefficients,
    pub(super) epsilon: &'a [f32],
    pub(super) energy: f32,
}

#[inline(always)]
fn quiet_piece_body(dz: &mut [f32], upstream: &Upstream<'_>, dy_full_scale: Option<&mut [f32]>) {
    upstream.through_adc(dz, upstream.y, dy_full_scale);
}

for_each_level! {
    /// dz of a piece without noise.
    pub(super) fn quiet_piece(
        dz: &mut [f32],
        upstream: &Upstream<'_>,
        dy_full_scale: Option<&mut [f32]>,
    ) = quiet_piece_body
}

#[inline(always)]
fn noisy_piece_body(
    dz: &mut [f32],
    upstream: &Upstream<'_>,
    noise: &Noise<'_>,
    sums: Option<&mut RowSums>,
    dy_full_scale: Option<&mut [f32]>,
) {
    let Noise { coefficients, energy, .. } = *noise;
    let count = dz.len();
    let (y, epsilon) = (&upstream.y[..count], &noise.epsilon[..count]);
    // Short loops over arrays of this frame: the compiler sees that nothing overlaps.
    let (mut sigma, mut seen) = ([0.0; noise::BLOCK], [0.0; noise::BLOCK]);
    let (sigma, seen) = (&mut sigma[..count], &mut seen[..count]);
    for index in 0..count {
        sigma[index] = coefficients.sigma(y[index], energy);
        seen[index] = y[index] + sigma[index] * epsilon[index];
    }
    upstream.through_adc(dz, seen, dy_full_scale);
    let mut by_sigma = [0.0; noise::BLOCK];
    let by_sigma = &mut by_sigma[..count];
    for index in 0..count {
        let h = dz[index];
        by_sigma[index] = if sigma[index] == 0.0 { 0.0 } else { h * epsilon[index] / sigma[index] };
        dz[index] = h + by_sigma[index] * coefficients.sigma_by_y(y[index]);
    }
    if let Some(sums) = sums {
        let (by_sigma, y) = (&by_sigma[..count], &y[..count]);
        sums.plain += lane_sum(count, |index| by_sigma[index]);
        sums.magnitude += lane_sum(count, |index| by_sigma[index] * y[index].abs());
        sums.square += lane_sum(count, |index| by_sigma[index] * (y[index] * y[index]));
    }
}

for_each_level! {
    /// dz of a piece with noise, and the sums along the row.
    pub(super) fn noisy_piece(
        dz: &mut [f32],
        upstream: &Upstream<'_>,
        noise: &Noise<'_>,
        sums: Option<&mut RowSums>,
        dy_full_scale: Option<&mut [f32]>,
    ) = noisy_piece_body
}

#[inline(always)]
fn through_body(dx: &mut [f32], x: &[f32], quantizer: &Quantizer, dx_full_scale: &mut f32) {
    let x = &x[..dx.len()];
    *dx_full_scale = lane_sum(x.len(), |index| dx[index] * quantizer.gradient(x[index]).1);
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx *= quantizer.gradient(x).0;
    }
}

for_each_level! {
    /// Applies the clip mask of x to `dx`, and sets the gradient of its full scale.
    pub(super) fn through(
        dx: &mut [f32],
        x: &[f32],
        quantizer: &Quantizer,
        dx_full_scale: &mut f32,
    ) = through_body
}

#[inline(always)]
fn through_row_body(
    dw: &mut [f32],
    row: usize,
    first: usize,
    weights: &Weights<'_>,
    quantizers: &Columns<'_>,
    dw_full_scale: &mut [f32],
) {
    for (column, (dw, sum)) in dw.iter_mut().zip(dw_full_scale).enumerate() {
        let quantizer = quantizers.at(column);
        let (pass, by_full_scale) = quantizer.gradient(weights.get(row, first + column));
        *sum += *dw * by_full_scale;
        *dw *= pass;
    }
}

for_each_level! {
    /// The same for row `row` of `dw`, columns `first …`, each by the quantizer of its column.
    pub(super) fn through_row(
        dw: &mut [f32],
        row: usize,
        first: usize,
        weights: &Weights<'_>,
        quantizers: &Columns<'_>,
        dw_full_scale: &mut [f32],
    ) = through_row_body
}

#[inline(always)]
fn add_scaled_body(sum: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value * factor;
    }
}

for_each_level! {
    /// `sum = sum + values · factor`
    pub(super) fn add_scaled(sum: &mut [f32], values: &[f32], factor: f32) = add_scaled_body
}

#[inline(always)]
fn accumulate_body(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

for_each_level! {
    /// `sum = sum + values`
    pub(super) fn accumulate(sum: &mut [f32], values: &[f32]) = accumulate_body
}

#[inline(always)]
fn scale_body(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

for_each_level! {
    /// `values = values · factor`
    pub(super) fn scale(values: &mut [f32], factor: f32) = scale_body
}
