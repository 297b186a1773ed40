//! Activations of many numbers at once.

use crate::isa::{Isa, for_each_isa};

/// A function of each number by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// The larger of x and 0; NaN of NaN.
    Relu,
    /// x·Φ(x), with the distribution function of the normal distribution.
    Gelu,
    /// x·½(1 + tanh(√(2/π)·(x + 0.044715·x³))), which is near it.
    GeluTanh,
    /// x / (1 + e^-βx)
    Silu {
        /// The slope.
        beta: f64,
    },
    /// 1 / (1 + e^-x)
    Logistic,
}

impl Activation {
    /// Replaces every number by its activation.
    ///
    /// The arithmetic is that of f64 without fused multiply-add: every CPU gives the same bits.
    pub fn apply(self, values: &mut [f32]) {
        activate(Isa::detect(), values, self);
    }
}

for_each_isa! {
    fn activate(values: &mut [f32], activation: Activation) = activate_body
}

#[inline(always)]
fn activate_body(values: &mut [f32], activation: Activation) {
    // A loop for each, without a decision in it.
    match activation {
        Activation::Relu => values.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x }),
        Activation::Gelu => each(values, gelu),
        Activation::GeluTanh => each(values, gelu_tanh),
        Activation::Silu { beta } => each(values, |x| gated(x, beta * x)),
        Activation::Logistic => each(values, |x| 1.0 / (1.0 + exp(-x))),
    }
}

/// In f64, so that little but the last rounding is left: in f32 an exponent of 80 would lose as many
/// units of the last place of its power.
#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f64) -> f64) {
    for value in values {
        *value = f(f64::from(*value)) as f32;
    }
}

/// `1 - Φ(|x|) = t·P(t)·e^(-x²/2)` with `t = 1/(1 + 0.3·|x|)`, which is Φ(x) of negative x: so it is
/// accurate where that is small.
#[inline(always)]
fn gelu(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.3 * x.abs());
    let mut p = TAIL[0];
    for &coefficient in &TAIL[1..] {
        p = p * t + coefficient;
    }
    let tail = p * t * exp(-0.5 * (x * x));
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Minimax of e^(x²/2)·(1 - Φ(x))/t to 3e-10 for x from 0 to 14.6, highest power first.
const TAIL: [f64; 12] = [
    0.012_265_548_066_081_83,
    -0.076_334_765_638_474_95,
    0.189_375_239_039_096_92,
    -0.223_899_836_880_387_73,
    0.119_414_267_489_905_05,
    -0.051_071_916_658_272_35,
    0.037_296_222_678_459_5,
    0.057_662_155_962_394_81,
    0.086_907_023_589_675_61,
    0.109_033_859_348_877_47,
    0.119_668_914_485_632_24,
    0.119_683_288_642_880_33,
];

/// By ½(1 + tanh u) = 1/(1 + e^-2u).
#[inline(always)]
fn gelu_tanh(x: f64) -> f64 {
    const TWICE: f64 = 1.595_769_121_605_730_8; // 2·√(2/π)
    gated(x, TWICE * (x + 0.044_715 * (x * x * x)))
}

/// `x / (1 + e^-z)`, accurate where that is small, and where it is nearly x.
#[inline(always)]
fn gated(x: f64, z: f64) -> f64 {
    let e = exp(-z.abs());
    let tail = e / (1.0 + e);
    x * if z < 0.0 { tail } else { 1.0 - tail }
}

/// `e^x` to 1e-10 of it; 0 far below every f32, and a number above all of them for a large x.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // NaN is within the limits.
    let limited = if x < LEAST { LEAST } else { x };
    let limited = if limited > -LEAST { -LEAST } else { limited };
    // x = power · ln 2 + rest, |rest| ≤ ½ ln 2; the sum with MAGIC has `power` in its low bits.
    let shifted = limited * std::f64::consts::LOG2_E + MAGIC;
    let rest = limited - (shifted - MAGIC) * std::f64::consts::LN_2;
    let mut p = 1.0 / 362_880.0;
    for factorial in [40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        p = p * rest + 1.0 / factorial;
    }
    let two_to_power = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1.0f64.to_bits()));
    if x < LEAST { 0.0 } else { p * two_to_power }
}

const LEAST: f64 = -700.0;
/// 1.5 · 2⁵²: the sum with a small number has that number, rounded to an integer, in its low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error in units of the last place of the result, where that is a normal number.
    fn error(activation: Activation, exact: impl Fn(f64) -> f64) -> f64 {
        let positive = (1e-30f32.to_bits()..90f32.to_bits()).step_by(97).map(f32::from_bits);
        let mut values: Vec<f32> = positive.flat_map(|x| [x, -x]).collect();
        let arguments = values.clone();
        activation.apply(&mut values);
        let off = |(&x, got): (&f32, f32)| {
            let want = exact(x.into());
            let size = (want as f32).abs();
            let is_normal = size >= f32::MIN_POSITIVE;
            assert!(is_normal || got.abs() <= f32::MIN_POSITIVE, "{activation:?} of {x}: {got}");
            let unit = f64::from(size.next_up()) - f64::from(size);
            if is_normal { (f64::from(got) - want).abs() / unit } else { 0.0 }
        };
        arguments.iter().zip(values).map(off).fold(0.0, f64::max)
    }

    #[test]
    fn activations_are_accurate_to_one_unit_in_the_last_place() {
        // 1 - Φ(x) by its series, Σ x^(2k+1)/(1·3·5⋯(2k+1)) times the density, and, where that would
        // cancel, by its continued fraction.
        fn tail(x: f64) -> f64 {
            let density = (-0.5 * x * x).exp() * 0.398_942_280_401_432_7;
            if x > 2.5 {
                return density / (1..=200).rev().fold(x, |below, k| x + f64::from(k) / below);
            }
            let (mut term, mut sum, mut odd) = (x, x, 1.0);
            while term > 1e-18 * sum {
                odd += 2.0;
                term *= x * x / odd;
                sum += term;
            }
            0.5 - sum * density
        }
        let phi = |x: f64| if x < 0.0 { tail(-x) } else { 1.0 - tail(x) };
        let gated = |x: f64, z: f64| x / (1.0 + (-z).exp());
        let tanh = |x: f64| gated(x, 1.595_769_121_605_730_8 * (x + 0.044715 * x.powi(3)));
        assert!(error(Activation::Gelu, |x| x * phi(x)) < 1.0);
        assert!(error(Activation::GeluTanh, tanh) < 1.0);
        assert!(error(Activation::Silu { beta: 1.0 }, |x| gated(x, x)) < 1.0);
        assert!(error(Activation::Silu { beta: 1.5 }, |x| gated(x, 1.5 * x)) < 1.0);
        assert!(error(Activation::Logistic, |x| 1.0 / (1.0 + (-x).exp())) < 1.0);
        assert_eq!(error(Activation::Relu, |x| x.max(0.0)), 0.0);
    }

    #[test]
    fn activations_at_their_ends() {
        use Activation::*;
        for activation in [Relu, Gelu, GeluTanh, Silu { beta: 1.0 }, Logistic] {
            let mut values = [f32::INFINITY, f32::NAN, 0.0, f32::MAX, f32::MIN];
            activation.apply(&mut values);
            let [infinite, nan, zero, most, least] = values;
            assert_eq!(infinite, if activation == Logistic { 1.0 } else { f32::INFINITY });
            assert!(nan.is_nan());
            assert_eq!(zero, if activation == Logistic { 0.5 } else { 0.0 });
            assert_eq!(most, if activation == Logistic { 1.0 } else { f32::MAX });
            assert_eq!(least, 0.0, "{activation:?}");
        }
    }
}
