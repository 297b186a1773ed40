//! Element types of NumPy, and how arrays of one become tensors of another.

use std::cmp::Ordering;
use std::fmt;

use bytemuck::pod_read_unaligned as read;
use lumina_kernels::{Bool, Complex32, Complex64, bf16, f16, for_each_dtype};
use lumina_runtime::{DType, Element as Pod};

/// An element type of NumPy that is read.
pub(crate) struct Element {
    /// How .npy files call it, without the byte order.
    pub(crate) code: &'static str,
    /// How NumPy calls it.
    pub(crate) name: &'static str,
    /// Bytes of an element.
    pub(crate) size: usize,
    /// Bytes of a number in it, whose order may be either.
    pub(crate) word: usize,
    /// The value of one element, in the byte order of this machine.
    pub(crate) number: fn(&[u8]) -> Number,
}

macro_rules! elements {
    ($($code:literal, $name:literal, $ty:ty, $word:ty, $number:expr;)*) => {
        /// Every element type that is read.
        pub(crate) static ELEMENTS: &[Element] = &[$(Element {
            code: $code,
            name: $name,
            size: size_of::<$ty>(),
            word: size_of::<$word>(),
            number: |bytes| $number(read::<$ty>(bytes)),
        }),*];
    };
}

elements! {
    "b1", "bool", Bool, Bool, |x: Bool| Number::Integer(x.get().into());
    "i1", "int8", i8, i8, |x| Number::Integer(i128::from(x));
    "i2", "int16", i16, i16, |x| Number::Integer(i128::from(x));
    "i4", "int32", i32, i32, |x| Number::Integer(i128::from(x));
    "i8", "int64", i64, i64, |x| Number::Integer(i128::from(x));
    "u1", "uint8", u8, u8, |x| Number::Integer(i128::from(x));
    "u2", "uint16", u16, u16, |x| Number::Integer(i128::from(x));
    "u4", "uint32", u32, u32, |x| Number::Integer(i128::from(x));
    "u8", "uint64", u64, u64, |x| Number::Integer(i128::from(x));
    "f2", "float16", f16, f16, |x| Number::Float(f64::from(x));
    // The type of the package ml_dtypes, of which a file keeps the size alone.
    "V2", "bfloat16", bf16, bf16, |x| Number::Float(f64::from(x));
    "f4", "float32", f32, f32, |x| Number::Float(f64::from(x));
    "f8", "float64", f64, f64, Number::Float;
    "c8", "complex64", Complex32, f32, |x: Complex32| Number::Complex(x.re.into(), x.im.into());
    "c16", "complex128", Complex64, f64, |x: Complex64| Number::Complex(x.re, x.im);
}

impl Element {
    /// The type of that code.
    pub(crate) fn of_code(code: &str) -> Option<&'static Self> {
        ELEMENTS.iter().find(|element| element.code == code)
    }

    /// The type of a tensor's elements.
    pub(crate) fn of(dtype: DType) -> Option<&'static Self> {
        ELEMENTS.iter().find(|element| element.name == dtype.numpy_name())
    }
}

/// The value of an element, exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Integer(i128),
    Float(f64),
    Complex(f64, f64),
}

impl Number {
    /// Which is larger; NaN is larger than all else, as for `jax.lax.top_k`. None for complex ones.
    pub(crate) fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(&b)),
            (Self::Float(a), Self::Float(b)) => {
                a.partial_cmp(&b).or(Some(a.is_nan().cmp(&b.is_nan())))
            }
            _ => None,
        }
    }

    /// As an integer; None where it is none.
    fn integer(self) -> Option<i128> {
        match self {
            Self::Integer(x) => Some(x),
            Self::Float(x) => (x.fract() == 0.0 && x.abs() < 1e38).then_some(x as i128),
            Self::Complex(re, im) => (im == 0.0).then_some(Self::Float(re))?.integer(),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(x) => write!(f, "{x}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Complex(re, im) => write!(f, "{re:?}{im:+?}j"),
        }
    }
}

/// The bytes of elements, as those of another type. A float is rounded to a narrower float; else
/// each value stays what it is, and the position of one that cannot is the error.
pub(crate) fn convert(element: &Element, bytes: &[u8], to: DType) -> Result<Vec<u8>, usize> {
    macro_rules! convert_to {
        ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $numpy:literal,
           $doc:literal;)*) => {
            match to {
                $(DType::$variant => convert_to::<$ty>(element, bytes),)*
            }
        };
    }
    for_each_dtype!(convert_to)
}

fn convert_to<T: FromNumber>(element: &Element, bytes: &[u8]) -> Result<Vec<u8>, usize> {
    let mut result = Vec::with_capacity(bytes.len() / element.size * size_of::<T>());
    for (position, x) in bytes.chunks_exact(element.size).enumerate() {
        let x = T::from_number((element.number)(x)).ok_or(position)?;
        result.extend_from_slice(bytemuck::bytes_of(&x));
    }
    Ok(result)
}

/// An element type of tensors.
trait FromNumber: Pod {
    /// The element of that value; None where there is none.
    fn from_number(number: Number) -> Option<Self>;
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl FromNumber for $ty {
            fn from_number(number: Number) -> Option<Self> {
                number.integer()?.try_into().ok()
            }
        }
    )*};
}

macro_rules! floats {
    ($($ty:ty: $from:expr;)*) => {$(
        impl FromNumber for $ty {
            fn from_number(number: Number) -> Option<Self> {
                match number {
                    Number::Integer(x) => {
                        let result: Self = $from(x as f64);
                        (f64::from(result) as i128 == x).then_some(result)
                    }
                    Number::Float(x) => {
                        let result: Self = $from(x);
                        (f64::from(result).is_finite() || !x.is_finite()).then_some(result)
                    }
                    Number::Complex(re, im) => {
                        (im == 0.0).then_some(Number::Float(re)).and_then(Self::from_number)
                    }
                }
            }
        }
    )*};
}

integers! { i8 u8 i16 i32 i64 u32 }

floats! {
    f32: |x| x as f32;
    f64: |x| x;
    f16: f16::from_f64;
    bf16: bf16::from_f64;
}

impl FromNumber for Bool {
    fn from_number(number: Number) -> Option<Self> {
        match number.integer()? {
            x @ (0 | 1) => Some((x == 1).into()),
            _ => None,
        }
    }
}

impl FromNumber for Complex32 {
    fn from_number(number: Number) -> Option<Self> {
        let (re, im) = parts(number);
        Some(Self::new(f32::from_number(re)?, f32::from_number(im)?))
    }
}

impl FromNumber for Complex64 {
    fn from_number(number: Number) -> Option<Self> {
        let (re, im) = parts(number);
        Some(Self::new(f64::from_number(re)?, f64::from_number(im)?))
    }
}

fn parts(number: Number) -> (Number, Number) {
    match number {
        Number::Complex(re, im) => (Number::Float(re), Number::Float(im)),
        real => (real, Number::Integer(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_tensors_is_one_of_numpy() {
        for &dtype in DType::ALL {
            let element = Element::of(dtype).unwrap();
            assert_eq!((element.name, element.size), (dtype.numpy_name(), dtype.size()));
            assert!(std::ptr::eq(Element::of_code(element.code).unwrap(), element));
        }
    }

    #[test]
    fn values_stay_what_they_are_but_for_the_rounding_of_floats() {
        use Number::{Complex, Float, Integer};
        assert_eq!(f32::from_number(Float(0.1)), Some(0.1));
        assert_eq!(f32::from_number(Float(1e-50)), Some(0.0));
        assert_eq!(f32::from_number(Float(1e39)), None);
        assert_eq!(f32::from_number(Float(f64::INFINITY)), Some(f32::INFINITY));
        assert!(f32::from_number(Float(f64::NAN)).unwrap().is_nan());
        assert_eq!(f32::from_number(Integer(1 << 24)), Some(16_777_216.0));
        assert_eq!(f32::from_number(Integer((1 << 24) + 1)), None);
        assert_eq!(f64::from_number(Integer((1 << 53) + 1)), None);
        assert_eq!(f64::from_number(Integer(i128::from(u64::MAX))), None);
        assert_eq!(f64::from_number(Integer(i128::from(i64::MIN))), Some(i64::MIN as f64));
        assert_eq!(f16::from_number(Integer(2049)), None);
        assert_eq!(f16::from_number(Integer(70_000)), None);
        assert_eq!(bf16::from_number(Float(1.01)), Some(bf16::from_f32(1.01)));
        assert_eq!(f32::from_number(Complex(2.5, 0.0)), Some(2.5));
        assert_eq!(f32::from_number(Complex(2.5, f64::NAN)), None);
        assert_eq!(i32::from_number(Float(-3.0)), Some(-3));
        assert_eq!(i32::from_number(Float(0.5)), None);
        assert_eq!(i32::from_number(Float(f64::NAN)), None);
        assert_eq!(i64::from_number(Float(1e300)), None);
        assert_eq!(i64::from_number(Float(f64::INFINITY)), None);
        assert_eq!(u8::from_number(Integer(256)), None);
        assert_eq!(u32::from_number(Integer(-1)), None);
        assert_eq!(u32::from_number(Complex(7.0, 0.0)), Some(7));
        assert_eq!(Bool::from_number(Float(1.0)), Some(true.into()));
        assert_eq!(Bool::from_number(Integer(2)), None);
        assert_eq!(Complex32::from_number(Integer(3)), Some(Complex32::new(3.0, 0.0)));
        assert_eq!(Complex32::from_number(Complex(0.0, 1e300)), None);
    }

    #[test]
    fn nan_is_the_largest() {
        use Number::{Complex, Float, Integer};
        assert_eq!(Float(f64::NAN).order(Float(f64::INFINITY)), Some(Ordering::Greater));
        assert_eq!(Float(f64::NAN).order(Float(f64::NAN)), Some(Ordering::Equal));
        assert_eq!(Float(-0.0).order(Float(0.0)), Some(Ordering::Equal));
        assert_eq!(Integer(i128::MAX).order(Integer(i128::MAX - 1)), Some(Ordering::Greater));
        assert_eq!(Complex(1.0, 0.0).order(Complex(1.0, 0.0)), None);
    }

    #[test]
    fn numbers_read_as_they_are_written_in_numpy() {
        assert_eq!(Number::Integer(-3).to_string(), "-3");
        assert_eq!(Number::Float(0.5).to_string(), "0.5");
        assert_eq!(Number::Complex(1.0, -2.5).to_string(), "1.0-2.5j");
    }
}
