//! Largest finite magnitudes: the full scales of converters that are given none.

use crate::isa::{Isa, for_each_isa};

/// What is added to the bits of a magnitude so that, as an integer with sign, it is negative for
/// infinity and NaN and else in the order of magnitudes. A comparison with the largest number would
/// become a masked store, which some CPUs take one number at a time.
const ONE_EXPONENT: u32 = f32::MIN_POSITIVE.to_bits();

#[inline(always)]
fn key(value: f32) -> i32 {
    (value.to_bits() & (u32::MAX >> 1)).wrapping_add(ONE_EXPONENT) as i32
}

/// The key of 0, which every peak is at least.
const NONE: i32 = ONE_EXPONENT as i32;

/// The magnitude with this key, 0 for what is below the least normal number, as to the kernels.
fn magnitude(key: i32) -> f32 {
    let bits = key as u32 - ONE_EXPONENT;
    f32::from_bits(if bits < ONE_EXPONENT { 0 } else { bits })
}

/// The largest finite magnitude in `values`; 0 where there is none.
pub(crate) fn peak_of(isa: Isa, values: &[f32]) -> f32 {
    let mut peak = NONE;
    raise_key(isa, &mut peak, values);
    magnitude(peak)
}

/// Writes the largest finite magnitude of each column in `rows`; 0 where there is none.
pub(super) fn peaks_of_columns<'a>(
    isa: Isa,
    peaks: &mut [f32],
    rows: impl Iterator<Item = &'a [f32]>,
) {
    let keys: &mut [i32] = bytemuck::cast_slice_mut(&mut *peaks);
    keys.fill(NONE);
    rows.for_each(|row| raise_keys(isa, keys, row));
    for peak in peaks {
        *peak = magnitude(peak.to_bits() as i32);
    }
}

#[inline(always)]
fn raise_key_body(peak: &mut i32, values: &[f32]) {
    *peak = values.iter().fold(*peak, |peak, value| peak.max(key(*value)));
}

#[inline(always)]
fn raise_keys_body(peaks: &mut [i32], values: &[f32]) {
    for (peak, value) in peaks.iter_mut().zip(values) {
        *peak = (*peak).max(key(*value));
    }
}

for_each_isa! {
    fn raise_key(peak: &mut i32, values: &[f32]) = raise_key_body
}

for_each_isa! {
    fn raise_keys(peaks: &mut [i32], values: &[f32]) = raise_keys_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_no_peak() {
        let isa = Isa::detect();
        for count in [0, 1, 63, 64, 65, 200] {
            let mut values: Vec<f32> = (0..count).map(|n| n as f32 - 150.0).collect();
            let expected = values.iter().fold(0.0, |peak: f32, v| peak.max(v.abs()));
            assert_eq!(peak_of(isa, &values), expected);
            for (index, bad) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().enumerate()
            {
                values.insert(index * count / 3, bad);
            }
            assert_eq!(peak_of(isa, &values), expected);
            let mut peaks = vec![f32::NAN; values.len()];
            peaks_of_columns(isa, &mut peaks, [&values[..]].into_iter());
            assert!(
                peaks
                    .iter()
                    .zip(&values)
                    .all(|(peak, v)| { *peak == if v.is_finite() { v.abs() } else { 0.0 } })
            );
        }
        assert_eq!(peak_of(isa, &[f32::MAX, f32::NAN]), f32::MAX);
        assert_eq!(peak_of(isa, &[-f32::MIN_POSITIVE]), f32::MIN_POSITIVE);
        assert_eq!(peak_of(isa, &[f32::MIN_POSITIVE / 2.0]), 0.0);
    }
}
