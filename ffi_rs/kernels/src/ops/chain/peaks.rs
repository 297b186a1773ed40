//! Largest finite magnitudes: the full scales of converters that are given none.

use crate::isa::{Isa, for_each_isa};

/// The larger of a peak and a magnitude, if that is finite.
#[inline(always)]
fn raised(peak: f32, value: f32) -> f32 {
    let magnitude = value.abs();
    // Without a branch, and no NaN is larger.
    if (magnitude > peak) & (magnitude <= f32::MAX) { magnitude } else { peak }
}

/// The largest finite magnitude in `values`; 0 where there is none.
pub(crate) fn peak_of(isa: Isa, values: &[f32]) -> f32 {
    let mut peak = 0.0;
    raise_peak(isa, values, &mut peak);
    peak
}

#[inline(always)]
fn raise_peak_body(values: &[f32], peak: &mut f32) {
    // Four registers, so that no maximum waits for the one before it.
    const LANES: usize = 64;
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [*peak; LANES];
    for values in whole {
        for (lane, value) in lanes.iter_mut().zip(values) {
            *lane = raised(*lane, *value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = raised(*lane, *value);
    }
    *peak = lanes.into_iter().fold(*peak, raised);
}

#[inline(always)]
fn raise_peaks_body(peaks: &mut [f32], values: &[f32]) {
    for (peak, value) in peaks.iter_mut().zip(values) {
        *peak = raised(*peak, *value);
    }
}

for_each_isa! {
    fn raise_peak(values: &[f32], peak: &mut f32) = raise_peak_body
}

for_each_isa! {
    /// Raises the peak of each column to the magnitude in a row.
    pub(super) fn raise_peaks(peaks: &mut [f32], values: &[f32]) = raise_peaks_body
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
            let mut peaks = vec![0.0; values.len()];
            raise_peaks(isa, &mut peaks, &values);
            assert!(
                peaks
                    .iter()
                    .zip(&values)
                    .all(|(peak, v)| { *peak == if v.is_finite() { v.abs() } else { 0.0 } })
            );
        }
        assert_eq!(peak_of(isa, &[f32::MAX, f32::NAN]), f32::MAX);
    }
}
