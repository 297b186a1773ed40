//! The steps of the backward op, each over one row or a piece of it.

use super::operands::Coefficients;
use crate::quantizer::{Converter, PIECE, slopes};
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
    pub(crate) energy: f32,
}

/// At most [`PIECE`] elements of one row: what comes from above, and what it went through.
pub(super) struct Upstream<'a> {
    pub(super) g: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) adc: Option<Converter<'a>>,
    pub(super) noise: Option<Noise<'a>>,
}

pub(super) struct Noise<'a> {
    pub(super) coefficients: Coefficients,
    pub(super) epsilon: &'a [f32],
    pub(super) energy: f32,
}

impl Upstream<'_> {
    /// Writes `h`, and adds `g · ∂out/∂y_full_scale`, where the ADC saw `seen`.
    #[inline(always)]
    fn through_adc(&self, h: &mut [f32], seen: &[f32], dy_full_scale: &mut [f32]) {
        let count = h.len();
        let (g, seen) = (&self.g[..count], &seen[..count]);
        let Some(adc) = &self.adc else {
            for index in 0..count {
                h[index] = if seen[index].is_finite() { g[index] } else { f32::NAN };
            }
            return;
        };
        let (mut passes, mut by_full_scale) = ([0.0; PIECE], [0.0; PIECE]);
        slopes(&mut passes, &mut by_full_scale, seen, adc);
        let (passes, by_full_scale) = (&passes[..count], &by_full_scale[..count]);
        let sum = &mut dy_full_scale[..count];
        for index in 0..count {
            h[index] = g[index] * passes[index];
            sum[index] += g[index] * by_full_scale[index];
        }
    }
}

#[inline(always)]
fn upstream_body(
    dz: &mut [f32],
    upstream: &Upstream<'_>,
    sums: &mut RowSums,
    dy_full_scale: &mut [f32],
) {
    let count = dz.len();
    let y = &upstream.y[..count];
    let Some(Noise { coefficients, epsilon, energy }) = &upstream.noise else {
        upstream.through_adc(dz, y, dy_full_scale);
        return;
    };
    let epsilon = &epsilon[..count];
    // Short loops over arrays of this frame: the compiler sees that nothing overlaps.
    let (mut sigma, mut seen) = ([0.0; PIECE], [0.0; PIECE]);
    let (sigma, seen) = (&mut sigma[..count], &mut seen[..count]);
    for index in 0..count {
        sigma[index] = coefficients.sigma(y[index], *energy);
        seen[index] = y[index] + sigma[index] * epsilon[index];
    }
    upstream.through_adc(dz, seen, dy_full_scale);
    let mut by_sigma = [0.0; PIECE];
    let by_sigma = &mut by_sigma[..count];
    for index in 0..count {
        let h = dz[index];
        by_sigma[index] = if sigma[index] == 0.0 { 0.0 } else { h * epsilon[index] / sigma[index] };
        dz[index] = h + by_sigma[index] * coefficients.sigma_by_y(y[index]);
    }
    sums.plain += lane_sum(count, |index| by_sigma[index]);
    sums.magnitude += lane_sum(count, |index| by_sigma[index] * y[index].abs());
    sums.square += lane_sum(count, |index| by_sigma[index] * (y[index] * y[index]));
}

for_each_level! {
    /// Writes a piece of dz, and adds to the sums along the row and the columns.
    pub(super) fn upstream(
        dz: &mut [f32],
        upstream: &Upstream<'_>,
        sums: &mut RowSums,
        dy_full_scale: &mut [f32],
    ) = upstream_body
}

#[inline(always)]
fn through_body(
    gradient: &mut [f32],
    values: &[f32],
    converter: &Converter<'_>,
    mut by_full_scale: impl FnMut(usize, &[f32]),
) {
    for (piece, (gradient, values)) in
        gradient.chunks_mut(PIECE).zip(values.chunks(PIECE)).enumerate()
    {
        let count = gradient.len();
        let (mut passes, mut slope) = ([0.0; PIECE], [0.0; PIECE]);
        slopes(&mut passes, &mut slope, values, &converter.part(piece * PIECE, count));
        for index in 0..count {
            slope[index] *= gradient[index];
            gradient[index] *= passes[index];
        }
        by_full_scale(piece * PIECE, &slope[..count]);
    }
}

#[inline(always)]
fn through_inputs_body(
    dx: &mut [f32],
    x: &[f32],
    converter: &Converter<'_>,
    dx_full_scale: &mut f32,
) {
    through_body(dx, x, converter, |_, slope| {
        *dx_full_scale += lane_sum(slope.len(), |index| slope[index]);
    });
}

for_each_level! {
    /// Applies the clip mask of x to `dx`, and adds to the gradient of its full scale.
    pub(super) fn through_inputs(
        dx: &mut [f32],
        x: &[f32],
        converter: &Converter<'_>,
        dx_full_scale: &mut f32,
    ) = through_inputs_body
}

#[inline(always)]
fn through_weights_body(
    dw: &mut [f32],
    w: &[f32],
    converter: &Converter<'_>,
    dw_full_scale: &mut [f32],
) {
    through_body(dw, w, converter, |first, slope| {
        let sums = &mut dw_full_scale[first..first + slope.len()];
        for (sum, slope) in sums.iter_mut().zip(slope) {
            *sum += slope;
        }
    });
}

for_each_level! {
    /// The same for a row of `dw` and the full scales of its columns.
    pub(super) fn through_weights(
        dw: &mut [f32],
        w: &[f32],
        converter: &Converter<'_>,
        dw_full_scale: &mut [f32],
    ) = through_weights_body
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
