//! How far the numbers of two tensors are from each other.

use lumina_kernels::DType;
use serde_json::{Value, json};

use crate::ops::{Convert, Number, element_arms, with_element};

/// Distances of numbers; the parts of complex ones count as numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numeric {
    pub(crate) count: u64,
    /// How many differ.
    pub(crate) differ: u64,
    /// How many are finite in one of them alone, or other numbers that are not finite.
    pub(crate) nonfinite: u64,
    /// Largest |a - b|, of those that are finite in both.
    pub(crate) max_abs: f64,
    /// √(mean (a - b)²)
    pub(crate) rms: f64,
    /// 10·log10(Σ a² / Σ (a - b)²)
    pub(crate) sqnr_db: f64,
}

impl Numeric {
    /// Of two tensors of equal shapes, as types and little-endian bytes; None where all numbers are
    /// equal.
    pub(crate) fn between(
        (a, bytes_a): (DType, &[u8]),
        (b, bytes_b): (DType, &[u8]),
    ) -> Option<Self> {
        if a == b && bytes_a == bytes_b {
            return None;
        }
        let mut sums = Sums::default();
        numbers(a, bytes_a).zip(numbers(b, bytes_b)).for_each(|(a, b)| sums.add(a, b));
        sums.finish()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "count": self.count,
            "differ": self.differ,
            "nonfinite": self.nonfinite,
            "max_abs_diff": self.max_abs,
            "rms_diff": self.rms,
            // JSON has no infinity; it becomes null.
            "sqnr_db": self.sqnr_db,
        })
    }
}

/// The elements of this type. Not a type of its own for each, as pairs of them would be many.
fn numbers(dtype: DType, bytes: &[u8]) -> Box<dyn Iterator<Item = Number> + '_> {
    with_element!(dtype, T => {
        Box::new(bytemuck::cast_slice::<u8, T>(bytes).iter().map(|x| x.number()))
    })
}

#[derive(Default)]
struct Sums {
    count: u64,
    differ: u64,
    nonfinite: u64,
    finite: u64,
    max_abs: f64,
    signal: f64,
    noise: f64,
}

impl Sums {
    fn add(&mut self, a: Number, b: Number) {
        let parts = |number: Number| match number {
            Number::Float(x) => [Some(x), None],
            Number::Integer(x) => [Some(x as f64), None],
            Number::Complex(x) => [Some(x.re), Some(x.im)],
        };
        let ([re, im], [other_re, other_im]) = (parts(a), parts(b));
        self.part(re.unwrap_or(0.0), other_re.unwrap_or(0.0));
        if im.is_some() || other_im.is_some() {
            self.part(im.unwrap_or(0.0), other_im.unwrap_or(0.0));
        }
    }

    fn part(&mut self, a: f64, b: f64) {
        self.count += 1;
        if a.is_finite() && b.is_finite() {
            let difference = (a - b).abs();
            self.finite += 1;
            self.differ += u64::from(a != b);
            self.max_abs = self.max_abs.max(difference);
            self.signal += a * a;
            self.noise += difference * difference;
        } else if a != b && !(a.is_nan() && b.is_nan()) {
            self.differ += 1;
            self.nonfinite += 1;
        }
    }

    fn finish(self) -> Option<Numeric> {
        let Self { count, differ, nonfinite, finite, max_abs, signal, noise } = self;
        let rms = (noise / finite.max(1) as f64).sqrt();
        let sqnr_db = 10.0 * (signal / noise).log10();
        (differ > 0).then_some(Numeric { count, differ, nonfinite, max_abs, rms, sqnr_db })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between<T: Convert, U: Convert>(a: &[T], b: &[U]) -> Option<Numeric> {
        let bytes = |elements| bytemuck::cast_slice::<_, u8>(elements);
        Numeric::between((T::DTYPE, bytes(a)), (U::DTYPE, bytemuck::cast_slice(b)))
    }

    #[test]
    fn distances_are_counted() {
        let got = between(&[3.0f32, 4.0, 0.0], &[3.0f32, 3.0, 2.0]).unwrap();
        assert_eq!((got.count, got.differ, got.nonfinite), (3, 2, 0));
        assert_eq!((got.max_abs, got.rms), (2.0, (5.0f64 / 3.0).sqrt()));
        assert_eq!(got.sqnr_db, 10.0 * (25.0f64 / 5.0).log10());
    }

    #[test]
    fn types_may_differ_and_numbers_not() {
        assert_eq!(between(&[1.0f32, -2.0], &[1i8, -2]), None);
        assert_eq!(between(&[0.0f32], &[-0.0f32]), None);
        assert_eq!(between(&[0.1f32], &[0.1f64]).unwrap().differ, 1);
    }

    #[test]
    fn what_is_not_finite_is_told_apart() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(between(&[nan, inf, 1.0], &[-nan, inf, 1.0]), None);
        let got = between(&[nan, inf, 1.0, inf], &[1.0, -inf, nan, inf]).unwrap();
        assert_eq!((got.differ, got.nonfinite, got.max_abs, got.rms), (3, 3, 0.0, 0.0));
    }
}
