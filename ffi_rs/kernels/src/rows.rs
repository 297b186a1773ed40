//! Functions of rows of numbers.

use crate::exp::exp;
use crate::isa::{Isa, LANES, for_each_isa, lane_sum};

/// Replaces each row of so many numbers by `e^(x - max) / Σ e^(x - max)`; a row with NaN or infinity in
/// it, and one of -infinity alone, is NaN.
pub fn softmax_rows(values: &mut [f32], columns: usize) {
    if columns > 0 {
        softmax(Isa::detect(), values, columns);
    }
}

for_each_isa! {
    fn softmax(values: &mut [f32], columns: usize) = softmax_body
}

#[inline(always)]
fn softmax_body(values: &mut [f32], columns: usize) {
    for row in values.chunks_exact_mut(columns) {
        softmax_row(row);
    }
}

/// What is no whole group of lanes stays in one that is filled up with -infinity, which adds nothing.
#[inline(always)]
fn softmax_row(row: &mut [f32]) {
    let (row, rest) = row.as_chunks_mut::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut peaks = last;
    for group in row.iter() {
        for lane in 0..LANES {
            peaks[lane] = if group[lane] > peaks[lane] { group[lane] } else { peaks[lane] };
        }
    }
    // A peak of NaN is passed over; the sum is NaN then.
    let larger = |peak: f32, x: f32| if x > peak { x } else { peak };
    let peak = peaks.into_iter().fold(f32::NEG_INFINITY, larger);
    let mut sums = [0.0; LANES];
    for group in row.iter_mut() {
        replace_by_exp(group, peak, &mut sums);
    }
    replace_by_exp(&mut last, peak, &mut sums);
    let sum: f32 = sums.iter().sum();
    let factor = 1.0 / sum;
    for value in row.as_flattened_mut() {
        *value *= factor;
    }
    for (rest, value) in rest.iter_mut().zip(last) {
        *rest = value * factor;
    }
}

#[inline(always)]
fn replace_by_exp(values: &mut [f32; LANES], peak: f32, sums: &mut [f32; LANES]) {
    for lane in 0..LANES {
        values[lane] = exp(values[lane] - peak);
        sums[lane] += values[lane];
    }
}

/// Replaces each row of so many numbers by `(x - mean) / √(Σ (x - mean)²/columns + epsilon)`, where the
/// mean is 0 unless `center`.
pub fn normalize_rows(values: &mut [f32], columns: usize, epsilon: f32, center: bool) {
    if columns > 0 {
        normalize(Isa::detect(), values, columns, epsilon, center);
    }
}

for_each_isa! {
    fn normalize(values: &mut [f32], columns: usize, epsilon: f32, center: bool) = normalize_body
}

#[inline(always)]
fn normalize_body(values: &mut [f32], columns: usize, epsilon: f32, center: bool) {
    for row in values.chunks_exact_mut(columns) {
        let mean = if center { mean_of(row, |x| x) } else { 0.0 };
        let variance = mean_of(row, |x| (x - mean) * (x - mean));
        let factor = 1.0 / (variance + epsilon).sqrt();
        for x in row {
            *x = (*x - mean) * factor;
        }
    }
}

/// The mean of `term(x)`: sums of a part of the row each, which are added up in f64.
#[inline(always)]
fn mean_of(row: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    const PART: usize = 4096;
    let mut sum = 0.0;
    // A loop, as what an iterator calls is not compiled for the instruction set.
    for part in row.chunks(PART) {
        sum += f64::from(lane_sum([part], |[x]| term(x)));
    }
    (sum / row.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect()
    }

    fn check(got: &[f32], want: impl Iterator<Item = f64>) {
        for (got, want) in got.iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < 1e-6 * want.abs().max(0.1), "{got} {want}");
        }
    }

    #[test]
    fn softmax_is_that_of_f64() {
        for columns in [1, 5, 16, 17, 100] {
            let before = numbers(3 * columns);
            let mut got = before.clone();
            softmax_rows(&mut got, columns);
            for (got, x) in got.chunks(columns).zip(before.chunks(columns)) {
                let sum: f64 = x.iter().map(|&x| f64::from(x).exp()).sum();
                check(got, x.iter().map(|&x| f64::from(x).exp() / sum));
            }
        }
    }

    #[test]
    fn softmax_at_its_ends() {
        let (infinity, nan) = (f32::INFINITY, f32::NAN);
        let mut values = [-infinity, 0.0, infinity, 0.0, nan, 0.0, -infinity, -infinity];
        softmax_rows(&mut values, 2);
        assert_eq!(values[..2], [0.0, 1.0]);
        assert!(values[2..].iter().all(|value| value.is_nan()), "{values:?}");
        softmax_rows(&mut [], 0);
    }

    #[test]
    fn normalization_is_that_of_f64() {
        for (columns, center) in [(1, true), (7, true), (64, false), (9000, true)] {
            let before = numbers(2 * columns);
            let mut got = before.clone();
            normalize_rows(&mut got, columns, 0.5, center);
            for (got, x) in got.chunks(columns).zip(before.chunks(columns)) {
                let count = columns as f64;
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
                let mean = if center { mean } else { 0.0 };
                let squares = x.iter().map(|&x| (f64::from(x) - mean).powi(2));
                let deviation = (squares.sum::<f64>() / count + 0.5).sqrt();
                check(got, x.iter().map(|&x| (f64::from(x) - mean) / deviation));
            }
        }
        normalize_rows(&mut [], 0, 0.5, true);
    }
}
