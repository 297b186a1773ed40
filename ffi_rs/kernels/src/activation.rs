//! Activations of many numbers at once.

use crate::exp::exp_of_any;
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
        beta: f32,
    },
    /// 1 / (1 + e^-x)
    Logistic,
}

impl Activation {
    /// Replaces every number by its activation.
    ///
    /// The arithmetic is that of f32 without fused multiply-add: every CPU gives the same bits.
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
        Activation::Relu => each(values, |x| if x <= 0.0 { 0.0 } else { x }),
        Activation::Gelu => each(values, gelu),
        Activation::GeluTanh => each(values, gelu_tanh),
        Activation::Silu { beta } => each(values, |x| gated(x, beta * x)),
        Activation::Logistic => each(values, |x| 1.0 / (1.0 + exp_of_any(-x))),
    }
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in values {
        *value = f(*value);
    }
}

/// `1 - Φ(|x|) = t·P(t)·e^(-x²/2)` with `t = 1/(1 + 0.3·|x|)`, which is Φ(x) of negative x: so it is
/// accurate where that is small.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / (1.0 + 0.3 * magnitude);
    let mut p = TAIL[0];
    for &coefficient in &TAIL[1..] {
        p = p * t + coefficient;
    }
    let tail = p * t * exp_of_any(-0.5 * (x * x));
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Minimax of e^(x²/2)·(1 - Φ(x))/t for x from 0 to 13.3, highest power first.
const TAIL: [f32; 10] = [
    -0.020_584_656,
    0.112_217_13,
    -0.227_679_6,
    0.191_042_11,
    -0.078_777_8,
    0.095_793_29,
    0.078_521_855,
    0.110_205_546,
    0.119_575_61,
    0.119_686_484,
];

/// By ½(1 + tanh u) = 1/(1 + e^-2u).
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    // 2·√(2/π), and 0.044715 of it.
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_814;
    gated(x, x * (LINEAR + CUBIC * (x * x)))
}

/// `x / (1 + e^-z)`, accurate where that is small, and where it is nearly x.
#[inline(always)]
fn gated(x: f32, z: f32) -> f32 {
    let e = exp_of_any(-z.abs());
    let tail = e / (1.0 + e);
    x * if z < 0.0 { tail } else { 1.0 - tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error in units of the last place of the result or, where that is larger, of 2⁻⁸ of x.
    fn error(activation: Activation, exact: fn(f64) -> f64) -> f64 {
        let positive = (1e-30f32.to_bits()..90f32.to_bits()).step_by(997).map(f32::from_bits);
        let mut values: Vec<f32> = positive.flat_map(|x| [x, -x]).collect();
        let arguments = values.clone();
        activation.apply(&mut values);
        let off = |(&x, got): (&f32, f32)| {
            let want = exact(x.into());
            let size = (want as f32).abs().max(x.abs() / 256.0);
            (f64::from(got) - want).abs() / f64::from(size.next_up() - size)
        };
        arguments.iter().zip(values).map(off).fold(0.0, f64::max)
    }

    #[test]
    fn activations_are_accurate() {
        // Φ from its series: Σ x^(2k+1)/(1·3·5⋯(2k+1)), times the density.
        fn phi(x: f64) -> f64 {
            let (mut term, mut sum, mut odd) = (x, x, 1.0);
            while term.abs() > 1e-18 * sum.abs() && odd < 2000.0 {
                odd += 2.0;
                term *= x * x / odd;
                sum += term;
            }
            let tail = (0.5 + sum * (-0.5 * x * x).exp() * 0.398_942_280_401_432_7).clamp(0.0, 1.0);
            if x.abs() > 8.0 { f64::from(x > 0.0) } else { tail }
        }
        let tanh =
            |x: f64| x / (1.0 + (-1.595_769_121_605_730_8 * (x + 0.044715 * x.powi(3))).exp());
        assert!(error(Activation::Gelu, |x| x * phi(x)) < 8.0);
        // Roundings of an exponent up to 10 are so many times as large in its power.
        assert!(error(Activation::GeluTanh, tanh) < 24.0);
        assert!(error(Activation::Silu { beta: 1.0 }, |x| x / (1.0 + (-x).exp())) < 8.0);
        assert!(error(Activation::Silu { beta: 1.5 }, |x| x / (1.0 + (-1.5 * x).exp())) < 8.0);
        assert!(error(Activation::Logistic, |x| 1.0 / (1.0 + (-x).exp())) < 8.0);
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
