//! Elements as integers of the same order.

use lumina_kernels::{Bool, Complex32, Complex64, Element, bf16, f16};

/// An element type that can be sorted.
pub(super) trait Ordered: Element {
    /// Integers, or pairs of them, in the order of the elements.
    type Key: Copy + Ord + Send;

    /// Its place in the order of `jax.lax.sort`: -0 and 0 are equal, NaN comes last whatever its
    /// sign, truth follows falsehood, and complex numbers are in the order of their real parts and
    /// then of their imaginary parts.
    fn key(self) -> Self::Key;

    /// Its place in the order of `jax.lax.top_k`: -0 is below 0, NaN above all and with a sign
    /// below all.
    fn total_key(self) -> Self::Key;
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl Ordered for $ty {
            type Key = $ty;

            fn key(self) -> $ty {
                self
            }

            fn total_key(self) -> $ty {
                self
            }
        }
    )*};
}

integers! { i8 u8 i16 i32 i64 u32 }

macro_rules! floats {
    ($($ty:ty, $signed:ty;)*) => {$(
        impl Ordered for $ty {
            type Key = $signed;

            fn key(self) -> $signed {
                let plain = if self.is_nan() {
                    <$ty>::NAN
                } else if self == 0.0 {
                    0.0
                } else {
                    self
                };
                plain.total_key()
            }

            fn total_key(self) -> $signed {
                let bits = self.to_bits() as $signed;
                // Of negative numbers the larger has the smaller magnitude.
                if bits < 0 { bits ^ <$signed>::MAX } else { bits }
            }
        }
    )*};
}

floats! { f32, i32; f64, i64; }

macro_rules! narrow_floats {
    ($($ty:ty)*) => {$(
        impl Ordered for $ty {
            type Key = i32;

            fn key(self) -> i32 {
                f32::from(self).key()
            }

            fn total_key(self) -> i32 {
                f32::from(self).total_key()
            }
        }
    )*};
}

narrow_floats! { f16 bf16 }

macro_rules! complex {
    ($($ty:ty, $key:ty;)*) => {$(
        impl Ordered for $ty {
            type Key = ($key, $key);

            fn key(self) -> Self::Key {
                (self.re.key(), self.im.key())
            }

            fn total_key(self) -> Self::Key {
                (self.re.total_key(), self.im.total_key())
            }
        }
    )*};
}

complex! { Complex32, i32; Complex64, i64; }

impl Ordered for Bool {
    type Key = bool;

    fn key(self) -> bool {
        self.get()
    }

    fn total_key(self) -> bool {
        self.get()
    }
}
