//! What the elements of a tensor are like, in a few numbers.

use serde_json::{Value, json};

use crate::ops::{Convert, Number, element_arms, with_element};
use lumina_kernels::DType;

/// Bars of a histogram.
pub(crate) const BINS: usize = 32;

/// Of the elements that are finite; the parts of complex numbers count as elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Statistics {
    /// Elements in all.
    pub(crate) count: u64,
    /// Those that are NaN or infinite.
    pub(crate) nonfinite: u64,
    pub(crate) zeros: u64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
    /// Root of the mean square of what lies between an element and the mean.
    pub(crate) std: f64,
    /// How many lie in each part of equal width from `min` to `max`, the last part with its end. Of
    /// integers in a range of at most that many, one part is one integer.
    pub(crate) bins: Vec<u64>,
}

/// Shows each number to a function.
type Visit<'a> = dyn Fn(&mut dyn FnMut(f64)) + 'a;

impl Statistics {
    /// Of the little-endian elements of this type.
    pub(crate) fn of_bytes(dtype: DType, bytes: &[u8]) -> Self {
        with_element!(dtype, T => {
            let elements: &[T] = bytemuck::cast_slice(bytes);
            Self::of(dtype, &|each| elements.iter().for_each(|&x| each_part(x.number(), each)))
        })
    }

    /// Of the numbers that `visit` shows, the same ones each time.
    fn of(dtype: DType, visit: &Visit<'_>) -> Self {
        let (mut count, mut finite, mut zeros) = (0u64, 0u64, 0u64);
        let (mut min, mut max, mut sum) = (f64::INFINITY, f64::NEG_INFINITY, 0.0);
        visit(&mut |x| {
            count += 1;
            if x.is_finite() {
                finite += 1;
                zeros += u64::from(x == 0.0);
                (min, max) = (min.min(x), max.max(x));
                sum += x;
            }
        });
        if finite == 0 {
            let (min, max, mean, std) = (f64::NAN, f64::NAN, f64::NAN, f64::NAN);
            return Self { count, nonfinite: count, zeros, min, max, mean, std, bins: Vec::new() };
        }
        let mean = sum / finite as f64;
        let is_integer = !matches!(
            dtype,
            DType::F32 | DType::F64 | DType::F16 | DType::BF16 | DType::C64 | DType::C128
        );
        let range = max - min;
        let by_integer = is_integer && range < BINS as f64;
        let length = match by_integer {
            true => range as usize + 1,
            false if range == 0.0 => 1,
            false => BINS,
        };
        let mut bins = vec![0; length];
        let mut squares = 0.0;
        visit(&mut |x| {
            if x.is_finite() {
                squares += (x - mean) * (x - mean);
                // Halves, as the difference of two numbers may be too large for one.
                let part = match by_integer {
                    true => x - min,
                    false => (x / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0) * length as f64,
                };
                // What is no number, such as 0 / 0 where all are alike, is the first part.
                bins[(part as usize).min(length - 1)] += 1;
            }
        });
        let std = (squares / finite as f64).sqrt();
        Self { count, nonfinite: count - finite, zeros, min, max, mean, std, bins }
    }

    /// As JSON, which has no numbers that are not finite: null.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "count": self.count,
            "nonfinite": self.nonfinite,
            "zeros": self.zeros,
            "min": self.min,
            "max": self.max,
            "mean": self.mean,
            "std": self.std,
            "bins": self.bins,
        })
    }
}

/// Calls `each` with the number, or with both parts of a complex one.
fn each_part(number: Number, each: &mut dyn FnMut(f64)) {
    match number {
        Number::Float(x) => each(x),
        Number::Integer(x) => each(x as f64),
        Number::Complex(x) => {
            each(x.re);
            each(x.im);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T: Convert>(elements: &[T]) -> Statistics {
        Statistics::of_bytes(T::DTYPE, bytemuck::cast_slice(elements))
    }

    #[test]
    fn finite_elements_are_counted() {
        let got = of(&[0.0f32, -1.0, 3.0, f32::NAN, f32::INFINITY, 2.0, -0.0, 2.0]);
        assert_eq!((got.count, got.nonfinite, got.zeros), (8, 2, 2));
        assert_eq!((got.min, got.max, got.mean), (-1.0, 3.0, 1.0));
        // Distances from the mean: 1, 2, 2, 1, 1, 1.
        assert_eq!(got.std, (12.0f64 / 6.0).sqrt());
        let mut bins = vec![0; BINS];
        // Of a width of 4 / 32.
        for x in [0.0, -1.0, 0.0, 2.0, 2.0f64] {
            bins[((x + 1.0) * 8.0) as usize] += 1;
        }
        bins[BINS - 1] += 1;
        assert_eq!(got.bins, bins);
    }

    #[test]
    fn what_has_no_range_has_one_part() {
        assert_eq!(of(&[2.5f32; 3]).bins, [3]);
        assert_eq!(of(&[f64::MAX, f64::MIN]).bins[BINS - 1], 1);
        assert_eq!(of(&[f64::MAX, f64::MIN]).bins[0], 1);
        assert_eq!(of(&[f64::MIN_POSITIVE / 2.0, 0.0]).bins.iter().sum::<u64>(), 2);
    }

    #[test]
    fn what_is_empty_or_not_finite_has_none() {
        for got in [of::<f32>(&[]), of(&[f32::NAN, f32::NEG_INFINITY])] {
            assert_eq!((got.nonfinite, got.bins.len()), (got.count, 0));
            assert!(got.min.is_nan() && got.mean.is_nan());
            assert_eq!(got.to_json()["min"], Value::Null);
        }
    }

    #[test]
    fn a_part_is_an_integer_where_these_are_few() {
        assert_eq!(of(&[3i8, 5, 5, -1]).bins, [1, 0, 0, 0, 1, 0, 2]);
        let all: Vec<u8> = (0..BINS as u8).collect();
        assert_eq!(of(&all).bins, [1; BINS]);
        let more: Vec<u8> = (0..2 * BINS as u8).collect();
        assert_eq!(of(&more).bins, [2; BINS]);
        assert_eq!(of(&[i64::MIN, i64::MAX]).bins.iter().sum::<u64>(), 2);
    }

    #[test]
    fn parts_of_complex_numbers_count() {
        let got = of(&[lumina_kernels::Complex32::new(1.0, -3.0)]);
        assert_eq!((got.count, got.min, got.max, got.mean), (2, -3.0, 1.0, -1.0));
    }
}
