//! Elementary functions of f32 numbers, to two units in the last place.
//!
//! They are polynomials without branches, so that a loop over them uses vector instructions, in f32
//! arithmetic without fused multiply-add, so that every CPU gives the same bits.

use std::f32::consts::SQRT_2;

use lumina_kernels::exp_of_any;

/// The polynomial with these coefficients, highest power first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    coefficients.into_iter().skip(1).fold(coefficients[0], |sum, next| sum * x + next)
}

/// tanh x = x + x³·p(x²) of small x, and 1 - 2/(e^2x + 1) of large.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // Minimax of (tanh x - x)/x³ for the relative error of tanh, up to x = 0.64.
    const SMALL: [f32; 5] =
        [-0.005_601_551_6, 0.020_549_604, -0.053_713_463, 0.133_311_45, -0.333_332_72];
    let (magnitude, square) = (x.abs(), x * x);
    let small = magnitude + magnitude * square * polynomial(square, SMALL);
    let large = 1.0 - 2.0 / (exp_of_any(2.0 * magnitude) + 1.0);
    (if magnitude < 0.625 { small } else { large }).copysign(x)
}

/// erf x = x + x·p(x²) of small x, and 1 - e^-x²·q(1/(1 + x/2)) of large.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    // Minimax of erf x / x - 1 up to x = 0.94.
    const SMALL: [f32; 7] = [
        8.223_984e-5,
        -8.108_082e-4,
        0.005_197_992,
        -0.026_858_186,
        0.112_836_74,
        -0.376_126_32,
        0.128_379_17,
    ];
    // Minimax of e^x²·erfc x between 0.92 and 4.1.
    const LARGE: [f32; 8] = [
        0.118_916_69,
        -0.469_704_34,
        0.561_064_27,
        -0.101_816_82,
        0.346_930_3,
        0.259_941_04,
        0.284_871_82,
        -0.000_151_392_27,
    ];
    let (magnitude, square) = (x.abs(), x * x);
    let small = magnitude + magnitude * polynomial(square, SMALL);
    // Beyond 4 the result is 1. NaN is not beyond.
    let limited = if magnitude > 4.0 { 4.0 } else { magnitude };
    let rest = exp_of_any(-limited * limited) * polynomial(1.0 / (1.0 + 0.5 * limited), LARGE);
    (if magnitude < 0.93 { small } else { 1.0 - rest }).copysign(x)
}

/// ln x = power·ln 2 + ln(1 + f) with √½ ≤ 1 + f < √2.
#[inline(always)]
pub(super) fn log(x: f32) -> f32 {
    // Minimax of (ln(1 + f) - f + f²/2)/f³ for the relative error of the logarithm.
    const TAIL: [f32; 9] = [
        0.069_153_68,
        -0.117_898_08,
        0.118_729_76,
        -0.123_843_48,
        0.142_186_58,
        -0.166_692_51,
        0.200_022_27,
        -0.249_999_87,
        0.333_333_1,
    ];
    // ln 2 in two parts; the products of the first with a power are exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = (std::f64::consts::LN_2 - HIGH as f64) as f32;
    let power = (x.to_bits() as i32).wrapping_sub((SQRT_2 / 2.0).to_bits() as i32) >> 23;
    let f = f32::from_bits(x.to_bits().wrapping_sub((power as u32) << 23)) - 1.0;
    let (power, square) = (power as f32, f * f);
    let tail = square * f * polynomial(f, TAIL) + power * LOW;
    let log = power * HIGH + (f - (0.5 * square - tail));
    // A denormal number counts as 0.
    let special = if x < f32::MIN_POSITIVE {
        if x < 0.0 { f32::NAN } else { f32::NEG_INFINITY }
    } else {
        // Of infinity and NaN they are the logarithm.
        x
    };
    if (f32::MIN_POSITIVE..f32::INFINITY).contains(&x) { log } else { special }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error in units of the last place, over every 1009th float from `low` to `high`.
    fn error(f: fn(f32) -> f32, exact: fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let numbers = (low.to_bits()..high.to_bits()).step_by(1009).map(f32::from_bits);
        let off = |x: f32| {
            let want = exact(x.into());
            let spacing = f64::from((want as f32).abs().next_up()) - (want as f32).abs() as f64;
            (f64::from(f(x)) - want).abs() / spacing
        };
        numbers.map(off).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_right_to_two_units_in_the_last_place() {
        let tiny = f32::MIN_POSITIVE;
        for (name, f, exact, low, high) in [
            ("tanh", tanh as fn(f32) -> f32, libm::tanh as fn(f64) -> f64, tiny, 20.0),
            ("erf", erf, libm::erf, tiny, 6.0),
            ("log", log, libm::log, tiny, f32::MAX),
        ] {
            let off = error(f, exact, low, high);
            assert!(off < 2.0, "{name} is {off} units off");
        }
        let (off, name) = (error(|x| -tanh(-x), libm::tanh, tiny, 20.0), "tanh of negative x");
        assert!(off < 2.0, "{name} is {off} units off");
    }

    #[test]
    fn special_values() {
        let infinity = f32::INFINITY;
        assert_eq!(
            [tanh(infinity), tanh(-infinity), erf(infinity), erf(-9.0)],
            [1.0, -1.0, 1.0, -1.0]
        );
        assert_eq!([tanh(-0.0), erf(-0.0)].map(f32::to_bits), [(-0.0f32).to_bits(); 2]);
        assert_eq!([log(0.0), log(-0.0), log(infinity)], [-infinity, -infinity, infinity]);
        for x in [tanh(f32::NAN), erf(f32::NAN), log(f32::NAN), log(-1.0), log(-infinity)] {
            assert!(x.is_nan());
        }
    }
}
