//! Special functions that no library has, of f32 numbers, computed in f64 so that little but the
//! last rounding is left, by arithmetic and `libm` alone, which give the same bits on every CPU.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

/// The y with erf(y) = x; infinite at ±1, NaN beyond.
pub(super) fn erf_inv(x: f32) -> f32 {
    let (magnitude, rest) = (f64::from(x.abs()), 1.0 - f64::from(x.abs()));
    if rest.is_nan() || rest < 0.0 {
        return f32::NAN;
    }
    if rest == 0.0 {
        return f32::INFINITY.copysign(x);
    }
    // An approximation to some thousandths (S. Winitzki), ln(1 - x²) in closed form solved for x.
    let (a, log) = (0.147, libm::log(rest * (1.0 + magnitude)));
    let b = 2.0 / (PI * a) + log / 2.0;
    let mut y = (libm::sqrt(b * b - log / a) - b).max(0.0);
    y = libm::sqrt(y);
    // Each of Halley's steps leaves the third power of the error.
    for _ in 0..3 {
        let excess = if magnitude < 0.5 { libm::erf(y) - magnitude } else { rest - libm::erfc(y) };
        let step = excess / (FRAC_2_SQRT_PI * libm::exp(-y * y));
        y -= step / (1.0 + y * step);
    }
    (y as f32).copysign(x)
}

/// ln |Γ(x)|; infinite at 0, -1, -2, …
pub(super) fn lgamma(x: f32) -> f32 {
    libm::lgamma(x.into()) as f32
}

/// Γ'(x)/Γ(x); NaN at 0, -1, -2, …
pub(super) fn digamma(x: f32) -> f32 {
    let x = f64::from(x);
    if x <= 0.0 && x == libm::floor(x) {
        return f32::NAN;
    }
    if x < 0.0 {
        // ψ(x) = ψ(1 - x) - π/tan(πx), whose tangent has the period 1 in x.
        let fraction = x - libm::rint(x);
        return (digamma_of_positive(1.0 - x) - PI / libm::tan(PI * fraction)) as f32;
    }
    digamma_of_positive(x) as f32
}

fn digamma_of_positive(mut x: f64) -> f64 {
    // ψ(x) = ψ(x + 1) - 1/x up to where the series is accurate.
    let mut sum = 0.0;
    while x < 10.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    // ψ(x) ~ ln x - 1/(2x) - Σ B_2k/(2k x^2k)
    const TERMS: [f64; 6] =
        [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32_760.0];
    let square = 1.0 / (x * x);
    let series = TERMS.iter().rev().fold(0.0, |series, term| (series + term) * square);
    sum + libm::log(x) - 0.5 / x - series
}

/// e^-|x| I_0(x), with the modified Bessel function of order 0.
pub(super) fn bessel_i0e(x: f32) -> f32 {
    bessel_ie(0.0, x.abs().into()) as f32
}

/// e^-|x| I_1(x), with the modified Bessel function of order 1.
pub(super) fn bessel_i1e(x: f32) -> f32 {
    (bessel_ie(1.0, x.abs().into()) as f32).copysign(x)
}

/// e^-x I_n(x) of x ≥ 0, for n = 0 or 1.
fn bessel_ie(n: f64, x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x < 30.0 {
        // I_n(x) = (x/2)^n Σ (x²/4)^k / (k! (k + n)!), whose terms are positive.
        let quarter = x * x / 4.0;
        let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
        while term > sum * f64::EPSILON {
            term *= quarter / (k * (k + n));
            sum += term;
            k += 1.0;
        }
        let power = if n == 0.0 { 1.0 } else { x / 2.0 };
        return sum * power * libm::exp(-x);
    }
    // I_n(x) ~ e^x/√(2πx) Σ (-1)^k Π_j≤k (4n² - (2j - 1)²) / (k! (8x)^k), to a rounding after 16.
    let (mut term, mut sum) = (1.0, 1.0);
    for k in 1..=16 {
        let odd = f64::from(2 * k - 1);
        term *= (odd * odd - 4.0 * n * n) / (f64::from(k) * 8.0 * x);
        sum += term;
    }
    sum / libm::sqrt(2.0 * PI * x)
}

/// The float after x in the direction of y.
pub(super) fn next_after(x: f32, y: f32) -> f32 {
    if x.is_nan() || y.is_nan() {
        f32::NAN
    } else if x == y {
        y
    } else if x < y {
        x.next_up()
    } else {
        x.next_down()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(got: f32, expected: f64) -> f64 {
        let rounded = expected as f32;
        let spacing = f64::from(rounded.abs().next_up()) - f64::from(rounded.abs());
        (f64::from(got) - expected).abs() / spacing
    }

    /// erf is monotonous: its inverse of f32 is within a unit where erf of the neighbors encloses x.
    #[test]
    fn erf_inv_inverts_erf() {
        for n in 1..4000 {
            let x = (n as f32 / 4000.0).powi(3);
            for x in [x, 1.0 - x / 3.0, x * 1e-20] {
                let y = erf_inv(x);
                let (below, above) =
                    (libm::erf(y.next_down().into()), libm::erf(y.next_up().into()));
                assert!(below <= f64::from(x) && f64::from(x) <= above, "{x} {y}");
                assert_eq!(erf_inv(-x), -y);
            }
        }
        assert_eq!(erf_inv(1.0), f32::INFINITY);
        assert_eq!(erf_inv(-1.0), f32::NEG_INFINITY);
        assert_eq!(erf_inv(-0.0).to_bits(), (-0.0f32).to_bits());
        assert!(erf_inv(1.1).is_nan() && erf_inv(f32::NAN).is_nan());
    }

    /// ψ(1) = -γ, ψ(1/2) = -γ - 2 ln 2, ψ(x + 1) = ψ(x) + 1/x.
    #[test]
    fn digamma_at_points_that_are_known() {
        const GAMMA: f64 = 0.577_215_664_901_532_9;
        assert!(units(digamma(1.0), -GAMMA) <= 0.51);
        assert!(units(digamma(0.5), -GAMMA - 4f64.ln()) <= 0.51);
        assert!(units(digamma(-0.5), 2.0 - GAMMA - 4f64.ln()) <= 0.51);
        assert!(units(digamma(1e30), f64::from(1e30f32).ln()) <= 0.51);
        assert!(digamma(0.0).is_nan() && digamma(-3.0).is_nan());
        assert_eq!(digamma(f32::INFINITY), f32::INFINITY);
    }

    /// The recurrence of the series and the asymptotic one meet.
    #[test]
    fn bessel_functions_at_points_that_are_known() {
        assert_eq!(bessel_i0e(0.0), 1.0);
        assert_eq!(bessel_i1e(0.0), 0.0);
        assert!(units(bessel_i0e(1.0), 0.465_759_607_593_640_44) <= 0.51);
        assert!(units(bessel_i1e(-1.0), -0.207_910_415_349_708_45) <= 0.51);
        for n in [0.0, 1.0] {
            let (below, above) = (bessel_ie(n, 30f64.next_down()), bessel_ie(n, 30.0));
            assert!((below / above - 1.0).abs() < 1e-13, "{below} {above}");
        }
    }
}
