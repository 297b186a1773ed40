//! The exponential function, many at a time.

/// `e^x` of `x ≤ 0` to one unit in the last place, exactly 1 at 0, and NaN of NaN; 0 below
/// [`LEAST`].
///
/// It is evaluated in f32 without fused multiply-add, so that every CPU gives the same bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let (exp, shifted) = parts(x);
    let two_to_power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < LEAST { 0.0 } else { exp * two_to_power }
}

/// `e^x` of any x to one unit in the last place, as [`exp`]; infinite where no number is as large,
/// and 0 where the result would be denormal.
#[inline(always)]
pub fn exp_of_any(x: f32) -> f32 {
    // Beyond these limits the result stays the same. NaN is within.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (exp, shifted) = parts(x);
    // 2^power in two factors: it may be no number where the result is one.
    let power = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let half = power >> 1;
    let two_to = |power: i32| f32::from_bits((power.wrapping_add(127) as u32) << 23);
    exp * two_to(half) * two_to(power.wrapping_sub(half))
}

/// `e^rest` and a number with `power` in its low bits, where `x = power · ln 2 + rest`.
#[inline(always)]
fn parts(x: f32) -> (f32, f32) {
    // |rest| ≤ ½ ln 2. The sum with MAGIC has `power` in its low bits.
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let power = shifted - MAGIC;
    let rest = (x - power * LN_2_HIGH) - power * LN_2_LOW;
    // e^rest = 1 + rest + rest² · p(rest)
    let mut p = EXP[0];
    for &coefficient in &EXP[1..] {
        p = p * rest + coefficient;
    }
    (p * (rest * rest) + rest + 1.0, shifted)
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

    /// Every 97th float for which the result is a normal number.
    #[test]
    fn exp_of_any_is_accurate_to_two_units_in_the_last_place() {
        let positive = (0..=88.72f32.to_bits()).step_by(97);
        let negative = ((-0.0f32).to_bits()..=(-87.3f32).to_bits()).step_by(97);
        for x in positive.chain(negative).map(f32::from_bits) {
            let want = f64::from(x).exp();
            let unit = f32::from_bits((want as f32).to_bits() + 1) - want as f32;
            let error = (f64::from(exp_of_any(x)) - want).abs() / f64::from(unit);
            assert!(error < 1.2, "exp({x}) is {error} units off");
        }
        assert_eq!(exp_of_any(88.73), f32::INFINITY);
        assert_eq!(exp_of_any(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp_of_any(f32::NEG_INFINITY), 0.0);
        assert!(exp_of_any(f32::NAN).is_nan());
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
