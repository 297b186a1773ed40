//! The steps of the backward op, each over one row or a piece of it.

use crate::isa::{Aligned, for_each_isa, lane_sum};
use crate::ops::chain::{NO_SIGN, NO_SLOPE, NoiseSums, RowNoise};
use crate::quantizer::{Converter, PIECE, mask, mask_invalid, through};
use crate::vector::prefetch_all;

/// At most [`PIECE`] elements of one row: what comes from above, and what it went through.
pub(super) struct Upstream<'a> {
    pub(super) g: &'a [f32],
    pub(super) y: &'a [f32],
    pub(super) adc: Option<Converter<'a>>,
    pub(super) noise: Option<RowNoise>,
    pub(super) epsilon: &'a [f32],
    /// Whether these are parts of complex numbers, whose noise is circular.
    pub(super) complex: bool,
}

const LANES: usize = 16;

#[inline(always)]
fn upstream_body(
    dz: &mut [f32],
    upstream: &Upstream<'_>,
    sums: Option<&mut NoiseSums>,
    dy_full_scale: Option<&mut [f32]>,
) {
    let count = dz.len();
    let (g, y) = (&upstream.g[..count], &upstream.y[..count]);
    let mut buffer = Aligned([0.0; PIECE]);
    let complex = upstream.complex;
    let is_narrow = complex || upstream.noise.is_none_or(|noise| noise.is_narrow(y));
    let seen = match &upstream.noise {
        Some(noise) => {
            let seen = &mut buffer.0[..count];
            if complex {
                seen.copy_from_slice(&upstream.epsilon[..count]);
                noise.scale_circular(y, seen);
                for (seen, y) in seen.iter_mut().zip(y) {
                    *seen += y;
                }
            } else if is_narrow {
                for ((seen, y), epsilon) in seen.iter_mut().zip(y).zip(upstream.epsilon) {
                    *seen = noise.add(*y, *epsilon);
                }
            } else {
                add_any_noise(seen, y, noise, upstream.epsilon);
            }
            &*seen
        }
        None => y,
    };
    dz.copy_from_slice(g);
    match (&upstream.adc, dy_full_scale) {
        (Some(adc), Some(sums)) => through(dz, sums, seen, adc),
        (Some(adc), None) => mask(dz, seen, adc),
        (None, _) => mask_invalid(dz, seen),
    }
    match &upstream.noise {
        None => {}
        Some(noise) if complex => noise.through_circular(dz, y, upstream.epsilon, sums),
        Some(noise) if is_narrow => through_noise(dz, y, noise, upstream.epsilon, sums),
        Some(noise) => through_any_noise(dz, y, noise, upstream.epsilon, sums),
    }
}

/// Makes dz of h, and adds to the sums of the noise cotangent along the row, in 16 lanes.
#[inline(always)]
fn through_noise(
    dz: &mut [f32],
    y: &[f32],
    noise: &RowNoise,
    epsilon: &[f32],
    sums: Option<&mut NoiseSums>,
) {
    let step = |h: f32, y: f32, epsilon: f32| through_one(h, y, noise, epsilon);
    let mut lanes = [[0.0; LANES]; 3];
    let (chunks, rest) = dz.as_chunks_mut::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    let (epsilon, epsilon_rest) = epsilon.as_chunks::<LANES>();
    for ((dz, y), epsilon) in chunks.iter_mut().zip(y).zip(epsilon) {
        let mut cotangent = [0.0; LANES];
        for lane in 0..LANES {
            (dz[lane], cotangent[lane]) = step(dz[lane], y[lane], epsilon[lane]);
        }
        for lane in 0..LANES {
            lanes[0][lane] += cotangent[lane];
            lanes[1][lane] += cotangent[lane] * y[lane].abs();
            lanes[2][lane] += cotangent[lane] * (y[lane] * y[lane]);
        }
    }
    for (lane, dz) in rest.iter_mut().enumerate() {
        let (y, cotangent);
        (y, (*dz, cotangent)) = (y_rest[lane], step(*dz, y_rest[lane], epsilon_rest[lane]));
        lanes[0][lane] += cotangent;
        lanes[1][lane] += cotangent * y.abs();
        lanes[2][lane] += cotangent * (y * y);
    }
    if let Some(sums) = sums {
        sums.add(&lanes);
    }
}

/// dz of h, and the noise cotangent.
#[inline(always)]
fn through_one(h: f32, y: f32, noise: &RowNoise, epsilon: f32) -> (f32, f32) {
    let sigma = noise.sigma(y);
    let cotangent = if sigma == 0.0 { 0.0 } else { h * epsilon / sigma };
    (h + cotangent * noise.coefficients.sigma_by_y(y), cotangent)
}

/// `y + σ·ε`, where f32 does not hold the squares everywhere.
#[cold]
#[inline(never)]
fn add_any_noise(seen: &mut [f32], y: &[f32], noise: &RowNoise, epsilon: &[f32]) {
    for ((seen, y), epsilon) in seen.iter_mut().zip(y).zip(epsilon) {
        *seen = noise.at_any(*y, *epsilon).0;
    }
}

/// As [`through_noise`], to the same bits wherever f32 holds the squares.
#[cold]
#[inline(never)]
fn through_any_noise(
    dz: &mut [f32],
    y: &[f32],
    noise: &RowNoise,
    epsilon: &[f32],
    sums: Option<&mut NoiseSums>,
) {
    let (mut lanes, mut wide) = ([[0.0; LANES]; 3], [0.0; 3]);
    for (index, ((dz, y), epsilon)) in dz.iter_mut().zip(y).zip(epsilon).enumerate() {
        let lane = index % LANES;
        if noise.is_narrow_at(*y) {
            let cotangent;
            (*dz, cotangent) = through_one(*dz, *y, noise, *epsilon);
            lanes[0][lane] += cotangent;
            lanes[1][lane] += cotangent * y.abs();
            lanes[2][lane] += cotangent * (y * y);
        } else {
            let (cotangent, by_y) = noise.wide_cotangent(*dz, *y, *epsilon);
            *dz += by_y;
            let size = f64::from(y.abs());
            wide[0] += cotangent;
            wide[1] += cotangent * size;
            wide[2] += cotangent * size * size;
        }
    }
    if let Some(sums) = sums {
        sums.add(&lanes);
        for (sum, part) in sums.wide.iter_mut().zip(wide) {
            *sum += part;
        }
    }
}

for_each_isa! {
    /// Writes a piece of dz, and adds to the sums along the row and the columns that are wanted.
    pub(super) fn upstream(
        dz: &mut [f32],
        upstream: &Upstream<'_>,
        sums: Option<&mut NoiseSums>,
        dy_full_scale: Option<&mut [f32]>,
    ) = upstream_body
}

#[inline(always)]
fn through_inputs_body(
    dx: &mut [f32],
    x: &[f32],
    converter: &Converter<'_>,
    dx_full_scale: Option<&mut f32>,
) {
    let Some(dx_full_scale) = dx_full_scale else {
        return mask(dx, x, converter);
    };
    for (piece, (dx, x)) in dx.chunks_mut(PIECE).zip(x.chunks(PIECE)).enumerate() {
        let mut by_full_scale = [0.0; PIECE];
        through(dx, &mut by_full_scale, x, &converter.part(piece * PIECE, x.len()));
        *dx_full_scale += lane_sum([&by_full_scale[..x.len()]], |[step]| step);
    }
}

for_each_isa! {
    /// Applies the clip mask of x to `dx`, and adds to the gradient of its full scale if wanted.
    pub(super) fn through_inputs(
        dx: &mut [f32],
        x: &[f32],
        converter: &Converter<'_>,
        dx_full_scale: Option<&mut f32>,
    ) = through_inputs_body
}

#[inline(always)]
fn through_weights_body(
    dw: &mut [f32],
    w: &[f32],
    converter: &Converter<'_>,
    dw_full_scale: Option<&mut [f32]>,
) {
    let Some(dw_full_scale) = dw_full_scale else {
        return mask(dw, w, converter);
    };
    for (piece, (dw, w)) in dw.chunks_mut(PIECE).zip(w.chunks(PIECE)).enumerate() {
        let sums = &mut dw_full_scale[piece * PIECE..];
        through(dw, sums, w, &converter.part(piece * PIECE, w.len()));
    }
}

for_each_isa! {
    /// The same for a row of `dw` and the full scales of its columns.
    pub(super) fn through_weights(
        dw: &mut [f32],
        w: &[f32],
        converter: &Converter<'_>,
        dw_full_scale: Option<&mut [f32]>,
    ) = through_weights_body
}

#[inline(always)]
fn by_slope_body(dz: &mut [f32], bias: &mut [f32], g: &[f32], (slope, stride): (&[f32], usize)) {
    let columns = bias.len().max(1);
    let slopes = slope.chunks(stride.max(1)).map(|row| &row[..columns]);
    let mut rows = g.chunks_exact(columns).zip(slopes);
    for dz in dz.chunks_exact_mut(columns) {
        let Some((g, slope)) = rows.next() else { return };
        if let Some((g, slope)) = rows.clone().next() {
            prefetch_all(g);
            prefetch_all(slope);
        }
        for (((dz, bias), g), slope) in dz.iter_mut().zip(&mut *bias).zip(g).zip(slope) {
            *dz = g * slope;
            *bias += *dz;
        }
    }
}

#[inline(always)]
fn by_signs_body(
    dz: &mut [f32],
    bias: &mut [f32],
    g: &[f32],
    signs: &[i8],
    noise: Option<(f32, &[f32])>,
) {
    match noise {
        Some((relative, epsilon)) => {
            let epsilon = &epsilon[..dz.len()];
            let by_sign = |index: usize, sign: f32| 1.0 + epsilon[index] * relative * sign;
            by_signs_with(dz, bias, g, signs, by_sign);
        }
        None => by_signs_with(dz, bias, g, signs, |_, _| 1.0),
    }
}

#[inline(always)]
fn by_signs_with(
    dz: &mut [f32],
    bias: &mut [f32],
    g: &[f32],
    signs: &[i8],
    slope: impl Fn(usize, f32) -> f32,
) {
    let count = dz.len();
    let (bias, g, signs) = (&mut bias[..count], &g[..count], &signs[..count]);
    for index in 0..count {
        let sign = i32::from(signs[index]);
        let slope = slope(index, if sign == NO_SIGN.into() { 0.0 } else { sign as f32 });
        let slope = if sign == 0 { 0.0 } else { slope };
        dz[index] = g[index] * if sign == NO_SLOPE.into() { f32::NAN } else { slope };
        bias[index] += dz[index];
    }
}

for_each_isa! {
    /// `dz = g · slope`, which is added to `bias`, with the slope that signs tell, and the relative
    /// noise and its ε.
    pub(super) fn by_signs(
        dz: &mut [f32],
        bias: &mut [f32],
        g: &[f32],
        signs: &[i8],
        noise: Option<(f32, &[f32])>,
    ) = by_signs_body
}

for_each_isa! {
    /// `dz = g · slope` for rows as long as `bias`, to which they are added; those of `slope` lie so
    /// far apart.
    pub(super) fn by_slope(
        dz: &mut [f32],
        bias: &mut [f32],
        g: &[f32],
        slope: (&[f32], usize),
    ) = by_slope_body
}

#[inline(always)]
fn multiply_each_body(out: &mut [f32], left: &[f32], right: &[f32]) {
    for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
        *out = left * right;
    }
}

for_each_isa! {
    /// `out = left · right`, element by element.
    pub(super) fn multiply_each(out: &mut [f32], left: &[f32], right: &[f32]) = multiply_each_body
}

#[inline(always)]
fn add_scaled_body(sum: &mut [f32], values: &[f32], factor: f32) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value * factor;
    }
}

for_each_isa! {
    /// `sum = sum + values · factor`
    pub(super) fn add_scaled(sum: &mut [f32], values: &[f32], factor: f32) = add_scaled_body
}

#[inline(always)]
fn scale_body(values: &mut [f32], factor: f32) {
    for value in values {
        *value *= factor;
    }
}

for_each_isa! {
    /// `values = values · factor`
    pub(super) fn scale(values: &mut [f32], factor: f32) = scale_body
}
