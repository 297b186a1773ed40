//! The exponential function, many at a time.

/// `e^x` of `x ≤ 0` to one unit in the last place, exactly 1 at 0, and NaN of NaN; 0 below
/// [`LEAST`].
///
/// It is evaluated in f32 without fused multiply-add, so that every CPU gives the same bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = power · ln 2 + rest, |rest| ≤ ½ ln 2. The sum with MAGIC has `power` in its low bits.
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let power = shifted - MAGIC;
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    // e^rest = 1 + rest + rest² · p(rest)
    let mut p = EXP[0];
    for &coefficient in &EXP[1..] {
        p = p * rest + coefficient;
    }
    let exp = p * (rest * rest) + rest + 1.0;
    let two_to_power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < LEAST { 0.0 } else { exp * two_to_power }
}

/// Below it `e^x` would soon be no normal number.
const LEAST: f32 = -87.0;
/// 1.5 · 2²³: the sum with a small number has that number, rounded to an integer, in its low bits.
const MAGIC: f32 = 12_582_912.0;
/// ln 2 in two parts; the products of the first with a power are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = (std::f64::consts::LN_2 - LN_2_HIGH as f64) as f32;
/// Minimax of (e^r - 1 - r) / r² on [-½ ln 2, ½ ln 2] for the relative error of e^r, highest power
/// first.
const EXP: [f32; 5] = [0.001_381_454, 0.008_368_745, 0.041_668_39, 0.166_665_21, 0.499_999_94];

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 97th float from -0 to LEAST.
    #[test]
    fn exp_is_accurate_to_two_units_in_the_last_place() {
        for bits in ((-0.0f32).to_bits()..=LEAST.to_bits()).step_by(97) {
            let x = f32::from_bits(bits);
            let want = f64::from(x).exp();
            let unit = f32::from_bits((want as f32).to_bits() + 1) - want as f32;
            let error = (f64::from(exp(x)) - want).abs() / f64::from(unit);
            assert!(error < 2.0, "exp({x}) is {error} units off");
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(LEAST.next_down()), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(f32::NAN).is_nan());
    }
}
