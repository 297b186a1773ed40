//! What the outputs of the forward op go through after the product, a piece of a row at a time.

use super::noise::{RowNoise, sign};
use super::residual::{NO_SIGN, NO_SLOPE, Saved};
use crate::isa::{Aligned, for_each_isa};
use crate::quantizer::{
    Columns, Converter, PIECE, code_and_distance, code_of_bits, convert_body, mask, mask_invalid,
    within,
};

/// What some outputs of a row go through, and where they are.
#[derive(Default)]
pub(crate) struct Row<'a> {
    /// The product, which the results replace.
    pub(crate) out: &'a mut [f32],
    pub(crate) saved: Option<Saved<&'a mut [f32], &'a mut [i8]>>,
    /// What a unit of the products stands for, before the step of the column.
    pub(crate) x_step: f32,
    pub(crate) noise: Option<RowNoise>,
    /// The largest finite magnitude of y, once it is known and if it is wanted.
    pub(crate) peak: f32,
}

/// What all rows have in common.
pub(crate) struct Common<'a> {
    /// What a unit of the products stands for, by column.
    pub(crate) steps: Option<&'a [f32]>,
    pub(crate) bias: &'a [f32],
    pub(crate) adc: Option<Columns<'a>>,
    pub(crate) with_peak: bool,
    /// Whether outputs are parts of complex numbers, whose noise is circular.
    pub(crate) complex: bool,
}

#[inline(always)]
fn finish_body(rows: &mut [Row<'_>], room: &mut [f32], common: &Common<'_>) {
    let width = common.bias.len();
    for (row, room) in rows.iter_mut().zip(room.chunks_exact_mut(width)) {
        let Row { out, saved, x_step, noise, peak } = row;
        match common.steps {
            Some(steps) => scale(out, *x_step, steps, common.bias),
            None => add(out, common.bias),
        }
        if common.with_peak {
            *peak = largest(out);
        }
        let mut slope: &mut [f32] = &mut [];
        match saved {
            None => {}
            Some(Saved::PreNoise(y)) => y.copy_from_slice(out),
            Some(Saved::Slope(values)) => slope = values,
            Some(Saved::Signs(signs)) => write_signs(signs, out),
        }
        let clipped = convert_row(out, room, slope, *noise, common);
        if let (Some(Saved::Signs(signs)), true) = (saved, clipped) {
            mask_signs(signs, room, &common.adc);
        }
    }
}

for_each_isa! {
    /// Replaces products of rows by `ADC(y + σ·ε)` with `y = product · x_step · step + bias`, and
    /// saves y or ∂out/∂y; `room` holds ε of all rows, one after the other, where there is noise.
    pub(crate) fn finish(
        rows: &mut [Row<'_>],
        room: &mut [f32],
        common: &Common<'_>,
    ) = finish_body
}

#[inline(always)]
fn scale(out: &mut [f32], x_step: f32, steps: &[f32], bias: &[f32]) {
    let count = out.len();
    let (steps, bias) = (&steps[..count], &bias[..count]);
    for index in 0..count {
        out[index] = out[index] * (x_step * steps[index]) + bias[index];
    }
}

#[inline(always)]
fn add(out: &mut [f32], bias: &[f32]) {
    for (out, bias) in out.iter_mut().zip(bias) {
        *out += bias;
    }
}

/// The largest finite magnitude.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    // As integers, whose maximum vectorizes; the bits of such numbers are in their order.
    let mut bits = 0;
    for value in values {
        let magnitude = value.abs().to_bits();
        bits = bits.max(if magnitude < f32::INFINITY.to_bits() { magnitude } else { 0 });
    }
    f32::from_bits(bits)
}

#[inline(always)]
fn write_signs(signs: &mut [i8], y: &[f32]) {
    for (out, y) in signs.iter_mut().zip(y) {
        let sign = if *y < 0.0 { -1 } else { 1 };
        *out = if *y == 0.0 { NO_SIGN.into() } else { sign } as i8;
    }
}

/// Takes signs through the converter of what is `seen`.
#[inline(always)]
fn mask_signs(signs: &mut [i8], seen: &[f32], adc: &Option<Columns<'_>>) {
    let mut pass = Aligned([1.0; PIECE]);
    let pass = &mut pass.0[..signs.len()];
    match adc {
        Some(adc) => mask(pass, seen, &Converter::Each(*adc)),
        None => mask_invalid(pass, seen),
    }
    for (sign, pass) in signs.iter_mut().zip(pass) {
        let kept = if *pass == 0.0 { 0 } else { i32::from(*sign) };
        *sign = if pass.is_nan() { NO_SLOPE.into() } else { kept } as i8;
    }
}

/// `ADC(y + σ·ε)` of a row of y, in place; `slope` takes ∂out/∂y unless it is empty. `room` then
/// holds y + σ·ε. Returns whether one of them may be beyond its full scale, or not finite.
#[inline(always)]
fn convert_row(
    out: &mut [f32],
    room: &mut [f32],
    slope: &mut [f32],
    noise: Option<RowNoise>,
    common: &Common<'_>,
) -> bool {
    let adc = &common.adc;
    let count = out.len();
    let with_slope = !slope.is_empty();
    let codes = if let Some(noise) = noise {
        let slope = &mut slope[..if with_slope { count } else { 0 }];
        match (noise.coefficients.only_relative(), with_slope) {
            _ if common.complex => {
                noise.scale_circular(out, room);
                see(out, room, adc, |y, added, _| y + added)
            }
            _ if !noise.is_narrow(out) => see_any(out, room, slope, noise, adc),
            // σ = √(relative²·y²): terms that are zero change nothing.
            (Some(relative), false) => {
                see(out, room, adc, |y, e, _| y + (relative * relative * (y * y)).sqrt() * e)
            }
            (Some(relative), true) => see(out, room, adc, |y, epsilon, index| {
                slope[index] = 1.0 + epsilon * relative * sign(y);
                y + (relative * relative * (y * y)).sqrt() * epsilon
            }),
            (None, false) => see(out, room, adc, |y, epsilon, _| noise.add(y, epsilon)),
            (None, true) => see(out, room, adc, |y, epsilon, index| {
                let sigma = noise.sigma(y);
                slope[index] = noise.slope(y, epsilon, sigma);
                y + sigma * epsilon
            }),
        }
    } else {
        slope.fill(1.0);
        see(out, room, adc, |y, _, _| y)
    };
    let Some(adc) = adc else {
        // Infinity becomes NaN, as in a converter.
        mask_invalid(out, room);
        mask_invalid(slope, room);
        return true;
    };
    let seen = &*room;
    let converter = Converter::Each(*adc);
    let mut clipped = codes.clipped;
    if codes.unsure {
        clipped = false;
        convert_body(out, seen, &converter, &mut clipped);
    } else if clipped {
        mask_invalid(out, seen);
    }
    if with_slope && clipped {
        mask(slope, seen, &converter);
    }
    clipped
}

/// As [`see`] with `noise`, where f32 does not hold its squares everywhere; `slope` may be empty.
#[cold]
#[inline(never)]
fn see_any(
    out: &mut [f32],
    room: &mut [f32],
    slope: &mut [f32],
    noise: RowNoise,
    adc: &Option<Columns<'_>>,
) -> Codes {
    see(out, room, adc, |y, epsilon, index| {
        let (noisy, by_y) = noise.at_any(y, epsilon);
        if let Some(slope) = slope.get_mut(index) {
            *slope = by_y;
        }
        noisy
    })
}

/// What is known of some codes.
struct Codes {
    /// Whether some have to be found by division.
    unsure: bool,
    /// Whether a value is beyond its full scale, or not finite.
    clipped: bool,
}

/// Writes `noisy(y, ε, index)` to `room`, in place of ε, and the level nearest to it to `out`, in
/// place of y; without converter, itself.
#[inline(always)]
fn see(
    out: &mut [f32],
    room: &mut [f32],
    adc: &Option<Columns<'_>>,
    mut noisy: impl FnMut(f32, f32, usize) -> f32,
) -> Codes {
    let count = out.len();
    let room = &mut room[..count];
    // Where the reciprocal is of no use, all are divided later.
    let Some(adc) = adc.filter(|adc| adc.tie > 0.0) else {
        for index in 0..count {
            room[index] = noisy(out[index], room[index], index);
            out[index] = room[index];
        }
        return Codes { unsure: true, clipped: false };
    };
    let [full_scale, inverse, step] = adc.scales().map(|scale| &scale[..count]);
    // Maxima of integers are what compilers vectorize.
    let (mut farthest, mut beyond) = (0, 0);
    for index in 0..count {
        let seen = noisy(out[index], room[index], index);
        let near = within(seen, full_scale[index]);
        let (bits, distance) = code_and_distance(near * inverse[index]);
        farthest = farthest.max(distance);
        beyond |= near.to_bits() ^ seen.to_bits();
        room[index] = seen;
        out[index] = code_of_bits(bits, seen) * step[index];
    }
    Codes { unsure: f32::from_bits(farthest) >= adc.tie, clipped: beyond != 0 }
}

#[inline(always)]
fn accumulate_body(sum: &mut [f32], values: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

for_each_isa! {
    /// `sum = sum + values`
    pub(crate) fn accumulate(sum: &mut [f32], values: &[f32]) = accumulate_body
}
