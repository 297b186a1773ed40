//! The gradient of the chain in f64, term by term, and how far roundings of f32 may take it.

use rand_xoshiro::rand_core::{Rng, SeedableRng};
use rand_xoshiro::{SplitMix64, Xoshiro256PlusPlus};

use super::{Tensor, code};

/// The random bits of one element, from the seed (3, 17) of `operands`.
fn rounding_word(row: usize, column: usize) -> u32 {
    let mix = |state| SplitMix64::seed_from_u64(state).next_u64();
    let seed = (3 << 32 | 17) ^ 0xD1B5_4A32_D192_ED03;
    let base = mix(mix(mix(seed) ^ row as u64) ^ seed ^ (column / 256) as u64);
    let (group, half, pair) = (column % 256 / 32, column % 32 / 16, column % 16);
    let first = base.wrapping_add((4 * (pair as u64 % 8)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(first);
    let output = (0..=2 * group + pair / 8).map(|_| generator.next_u64()).last().unwrap();
    if half == 0 { (output >> 32) as u32 } else { output as u32 }
}

/// A number, and how far roundings of f32 may take it.
#[derive(Clone, Copy, Default)]
pub struct Bounded {
    pub value: f64,
    pub slack: f64,
}

/// f32 numbers are this far from each other, relative to them.
const EPSILON: f64 = f32::EPSILON as f64;

fn to_bfloat16(v: f64) -> f64 {
    if v == 0.0 {
        return v;
    }
    let unit = (v.abs().log2().floor() - 7.0).exp2();
    (v / unit).round_ties_even() * unit
}

/// What becomes of numbers that share a scale before they are multiplied, from `uniform` in (0, 1).
fn rounded(precision: &str, t: &[f64], uniform: impl Fn(usize) -> f64) -> Vec<Bounded> {
    let peak = t.iter().fold(0.0f64, |peak, t| peak.max(t.abs()));
    let either = |t: f64, off: f64, round: &dyn Fn(f64) -> f64| Bounded {
        value: round(t),
        slack: round(t + off) - round(t - off),
    };
    let round = |(index, t): (usize, &f64)| match precision {
        "float32" => Bounded { value: *t, slack: t.abs() * EPSILON },
        "bfloat16" => either(*t, t.abs() * EPSILON, &to_bfloat16),
        _ if peak == 0.0 => Bounded::default(),
        // t, the scale, its reciprocal, the product and the sum are rounded; none is above 128.
        _ => {
            let position = t / peak * 127.0 + uniform(index);
            let code = either(position, 3.0 * 128.0 * EPSILON, &|v| v.floor().clamp(-127.0, 127.0));
            let scale = peak / 127.0;
            Bounded {
                value: code.value * scale,
                slack: (code.slack + code.value.abs() * 3.0 * EPSILON) * scale,
            }
        }
    };
    t.iter().enumerate().map(round).collect()
}

/// The sum of the products with `factor`, and how far f32 sums in any order may be from it.
fn dot(t: &[Bounded], factor: impl Fn(usize) -> f64) -> Bounded {
    let terms = (t.len() + 4) as f64;
    t.iter().enumerate().fold(Bounded::default(), |sum, (index, t)| {
        let (value, size) = (t.value * factor(index), factor(index).abs());
        let slack = t.slack * size + value.abs() * terms * EPSILON;
        Bounded { value: sum.value + value, slack: sum.slack + slack }
    })
}

/// dx and dw, both row-major, of a chain without noise.
pub fn gradient(
    inputs: &[Tensor],
    bits: [i64; 3],
    transposed: bool,
    precision: &str,
) -> [Vec<Bounded>; 2] {
    let [rows, columns] = inputs[0].shape().try_into().unwrap();
    let depth = inputs[2].shape()[1];
    let of = |index: usize, at: usize| inputs[index].f32()[at];
    let w_at = |k: usize, n: usize| if transposed { n * depth + k } else { k * columns + n };
    let short = |bits: i64| (1..=8).contains(&bits) && precision != "float32";
    let factor = |v: f32, bits: i64, full_scale: f32| {
        let (code, step) = code(v, bits, full_scale);
        if short(bits) { (code, step) } else { (code * step, 1.0) }
    };
    // As the product takes them: bfloat16 holds codes, and rounds other numbers.
    let taken = |v: f32| {
        if precision == "bfloat16" { to_bfloat16(f64::from(v)) } else { f64::from(v) }
    };
    let x: Vec<_> =
        (0..rows * depth).map(|at| factor(of(2, at), bits[0], of(4, at / depth))).collect();
    let w: Vec<_> = (0..depth * columns)
        .map(|at| factor(of(3, w_at(at / columns, at % columns)), bits[1], of(5, at % columns)))
        .collect();
    let x_step = |m: usize| x.get(m * depth).map_or(1.0, |(_, step)| f64::from(*step));
    let w_step = |n: usize| w.get(n).map_or(1.0, |(_, step)| f64::from(*step));
    let inside = |v: f32, bits: i64, full_scale: f32| bits == 0 || v.abs() <= full_scale;
    let dz: Vec<f64> = (0..rows * columns)
        .map(|at| {
            let pass = inside(of(1, at), bits[2], of(6, at % columns));
            if pass { f64::from(of(0, at)) } else { 0.0 }
        })
        .collect();
    let uniform = |bits: u32| (f64::from(bits) + 0.5) / 65536.0;

    let mut dx = vec![Bounded::default(); rows * depth];
    for m in 0..rows {
        let t: Vec<f64> = (0..columns).map(|n| dz[m * columns + n] * w_step(n)).collect();
        let t = rounded(precision, &t, |n| uniform(rounding_word(m, n) >> 16));
        for k in 0..depth {
            if inside(of(2, m * depth + k), bits[0], of(4, m)) {
                dx[m * depth + k] = dot(&t, |n| taken(w[k * columns + n].0));
            }
        }
    }
    let mut dw = vec![Bounded::default(); depth * columns];
    for n in 0..columns {
        for first in (0..rows).step_by(256) {
            let block = first..rows.min(first + 256);
            let t: Vec<f64> = block.map(|m| dz[m * columns + n] * x_step(m)).collect();
            let t = rounded(precision, &t, |m| uniform(rounding_word(first + m, n) & 0xFFFF));
            for k in 0..depth {
                if inside(of(3, w_at(k, n)), bits[1], of(5, n)) {
                    let part = dot(&t, |m| taken(x[(first + m) * depth + k].0));
                    let sum = &mut dw[w_at(k, n)];
                    sum.value += part.value;
                    // Blocks are added to what is there.
                    sum.slack += part.slack + 3.0 * EPSILON * (part.value.abs() + sum.value.abs());
                }
            }
        }
    }
    [dx, dw]
}
