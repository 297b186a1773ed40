//! Element types of NumPy, and how arrays of one become tensors of another.

use std::cmp::Ordering;
use std::fmt;

use bytemuck::pod_read_unaligned as read;
use lumina_kernels::{Complex64, for_each_dtype};
use lumina_runtime::{Convert, DType, Number as Converted};

/// An element type of NumPy that is read.
pub(crate) struct Element {
    /// How NumPy calls it.
    pub(crate) name: &'static str,
    /// Bytes of an element.
    pub(crate) size: usize,
    /// The value of one element, in the byte order of this machine.
    pub(crate) number: fn(&[u8]) -> Number,
}

macro_rules! elements {
    ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $c:literal,
       $numpy:literal, $doc:literal;)*) => {
        /// Every element type that is read: those of tensors, and what else NumPy counts with.
        pub(crate) static ELEMENTS: &[Element] = &[
            $(Element {
                name: $numpy,
                size: size_of::<$ty>(),
                number: |bytes| read::<$ty>(bytes).number().into(),
            },)*
            Element {
                name: "uint16",
                size: size_of::<u16>(),
                number: |bytes| Number::Integer(read::<u16>(bytes).into()),
            },
            Element {
                name: "uint64",
                size: size_of::<u64>(),
                number: |bytes| Number::Integer(read::<u64>(bytes).into()),
            },
        ];
    };
}

for_each_dtype!(elements);

impl Element {
    /// The type of that code.
    pub(crate) fn of_code(code: &str) -> Option<&'static Self> {
        ELEMENTS.iter().find(|element| element.code() == code)
    }

    /// Whether it is a real number of some precision.
    pub(crate) fn is_float(&self) -> bool {
        self.name.contains("float")
    }

    /// The type of a tensor's elements.
    pub(crate) fn of(dtype: DType) -> Option<&'static Self> {
        ELEMENTS.iter().find(|element| element.name == dtype.numpy_name())
    }

    /// How .npy files call it, without the byte order: kind and size. Of a type of the package
    /// ml_dtypes a file keeps the size alone.
    pub(crate) fn code(&self) -> String {
        let kind = match self.name.trim_end_matches(|end: char| end.is_ascii_digit()) {
            "bool" => 'b',
            "int" => 'i',
            "uint" => 'u',
            "float" => 'f',
            "complex" => 'c',
            _ => 'V',
        };
        format!("{kind}{}", self.size)
    }

    /// Bytes of a number in it, whose order may be either.
    pub(crate) fn word(&self) -> usize {
        if self.name.starts_with("complex") { self.size / 2 } else { self.size }
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
        ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $c:literal,
           $numpy:literal, $doc:literal;)*) => {
            match to {
                $(DType::$variant => convert_to::<$ty>(element, bytes),)*
            }
        };
    }
    for_each_dtype!(convert_to)
}

fn convert_to<T: Convert>(element: &Element, bytes: &[u8]) -> Result<Vec<u8>, usize> {
    let mut result = Vec::with_capacity(bytes.len() / element.size * size_of::<T>());
    for (position, x) in bytes.chunks_exact(element.size).enumerate() {
        let x: T = from_number((element.number)(x)).ok_or(position)?;
        result.extend_from_slice(bytemuck::bytes_of(&x));
    }
    Ok(result)
}

/// The element of that value; None where there is none.
fn from_number<T: Convert>(number: Number) -> Option<T> {
    let result = T::from_number(match number {
        // Integers beyond those of tensors are at most floats there.
        Number::Integer(x) => match x.try_into() {
            Ok(x) => Converted::Integer(x),
            Err(_) => Converted::Float(x as f64),
        },
        Number::Float(x) => Converted::Float(x),
        Number::Complex(re, im) => Converted::Complex(Complex64::new(re, im)),
    });
    stays(number, result.number().into()).then_some(result)
}

/// Whether `x` has become `y` by no more than the rounding of a float.
fn stays(x: Number, y: Number) -> bool {
    match (x, y) {
        (Number::Float(x), Number::Float(y)) => y.is_finite() || x == y || x.is_nan() && y.is_nan(),
        (x, Number::Complex(re, im)) => {
            let (x_re, x_im) = parts(x);
            stays(x_re, Number::Float(re)) && stays(x_im, Number::Float(im))
        }
        (Number::Complex(re, im), y) => im == 0.0 && stays(Number::Float(re), y),
        (x, y) => x.integer().is_some() && x.integer() == y.integer(),
    }
}

impl From<Converted> for Number {
    fn from(number: Converted) -> Self {
        match number {
            Converted::Integer(x) => Self::Integer(x.into()),
            Converted::Float(x) => Self::Float(x),
            Converted::Complex(x) => Self::Complex(x.re, x.im),
        }
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
    use lumina_kernels::{Bool, Complex32, bf16, f16};

    use super::*;

    #[test]
    fn every_type_of_tensors_is_one_of_numpy() {
        for &dtype in DType::ALL {
            let element = Element::of(dtype).unwrap();
            assert_eq!((element.name, element.size), (dtype.numpy_name(), dtype.size()));
            assert!(std::ptr::eq(Element::of_code(&element.code()).unwrap(), element));
        }
    }

    #[test]
    fn values_stay_what_they_are_but_for_the_rounding_of_floats() {
        use Number::{Complex, Float, Integer};
        assert_eq!(from_number::<f32>(Float(0.1)), Some(0.1));
        assert_eq!(from_number::<f32>(Float(1e-50)), Some(0.0));
        assert_eq!(from_number::<f32>(Float(1e39)), None);
        assert_eq!(from_number::<f32>(Float(f64::INFINITY)), Some(f32::INFINITY));
        assert!(from_number::<f32>(Float(f64::NAN)).unwrap().is_nan());
        assert_eq!(from_number::<f32>(Integer(1 << 24)), Some(16_777_216.0));
        assert_eq!(from_number::<f32>(Integer((1 << 24) + 1)), None);
        assert_eq!(from_number::<f64>(Integer((1 << 53) + 1)), None);
        assert_eq!(from_number::<f64>(Integer(i128::from(u64::MAX))), None);
        assert_eq!(from_number::<f64>(Integer(i128::from(i64::MIN))), Some(i64::MIN as f64));
        assert_eq!(from_number::<f16>(Integer(2049)), None);
        assert_eq!(from_number::<f16>(Integer(70_000)), None);
        assert_eq!(from_number::<bf16>(Float(1.01)), Some(bf16::from_f32(1.01)));
        assert_eq!(from_number::<f32>(Complex(2.5, 0.0)), Some(2.5));
        assert_eq!(from_number::<f32>(Complex(2.5, f64::NAN)), None);
        assert_eq!(from_number::<i32>(Float(-3.0)), Some(-3));
        assert_eq!(from_number::<i32>(Float(0.5)), None);
        assert_eq!(from_number::<i32>(Float(f64::NAN)), None);
        assert_eq!(from_number::<i64>(Float(1e300)), None);
        assert_eq!(from_number::<i64>(Float(f64::INFINITY)), None);
        assert_eq!(from_number::<u8>(Integer(256)), None);
        assert_eq!(from_number::<u32>(Integer(-1)), None);
        assert_eq!(from_number::<u32>(Complex(7.0, 0.0)), Some(7));
        assert_eq!(from_number::<Bool>(Float(1.0)), Some(true.into()));
        assert_eq!(from_number::<Bool>(Integer(2)), None);
        assert_eq!(from_number::<Complex32>(Integer(3)), Some(Complex32::new(3.0, 0.0)));
        assert_eq!(from_number::<Complex32>(Complex(0.0, 1e300)), None);
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
