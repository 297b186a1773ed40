//! Conversion of the element type.

use lumina_kernels::{Attrs, Complex32, DType, Element, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{CHUNK, chunked, dtype, operands, with_element};

/// As XLA: a float that does not fit an integer saturates, NaN becomes 0, integers wrap, and
/// what is not zero is true.
pub(super) struct ConvertElementType {
    to: DType,
}

impl Op for ConvertElementType {
    const NAME: &'static str = "convert_element_type";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let text = attrs.str(Self::NAME, "new_dtype")?;
        Ok(Self { to: dtype(Self::NAME, "new_dtype", text)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        if x.dtype == DType::C64 && self.to != DType::C64 {
            let message = format!("a c64 operand cannot become {}", self.to);
            return Err(Error::invalid(Self::NAME, message));
        }
        Ok(vec![Fact::new(self.to, x.shape.as_slice())])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        with_element!(inputs[0].dtype(), T => with_element!(self.to, U => {
            let x = inputs[0].data::<T>()?;
            chunked(pool, outputs[0].data_mut::<U>()?, CHUNK, |start, out| {
                for (out, &x) in out.iter_mut().zip(&x[start..]) {
                    *out = U::from_number(x.number());
                }
            });
            Ok(())
        }))
    }
}

/// An element on its way from one type to another.
#[derive(Clone, Copy)]
enum Number {
    Float(f32),
    Integer(i64),
    Complex(Complex32),
}

trait Convert: Element {
    fn number(self) -> Number;
    fn from_number(number: Number) -> Self;
}

impl Convert for f32 {
    fn number(self) -> Number {
        Number::Float(self)
    }

    fn from_number(number: Number) -> Self {
        match number {
            Number::Float(x) => x,
            Number::Integer(x) => x as f32,
            Number::Complex(x) => x.re,
        }
    }
}

impl Convert for Complex32 {
    fn number(self) -> Number {
        Number::Complex(self)
    }

    fn from_number(number: Number) -> Self {
        match number {
            Number::Float(x) => x.into(),
            Number::Integer(x) => (x as f32).into(),
            Number::Complex(x) => x,
        }
    }
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Convert for $ty {
            fn number(self) -> Number {
                Number::Integer(self.into())
            }

            fn from_number(number: Number) -> Self {
                match number {
                    Number::Float(x) => x as Self,
                    Number::Integer(x) => x as Self,
                    Number::Complex(x) => x.re as Self,
                }
            }
        }
    )*};
}

integers!(u32, i32, i8);

/// A truth value.
impl Convert for u8 {
    fn number(self) -> Number {
        Number::Integer(self.into())
    }

    fn from_number(number: Number) -> Self {
        match number {
            Number::Float(x) => (x != 0.0).into(),
            Number::Integer(x) => (x != 0).into(),
            Number::Complex(x) => (x.re != 0.0 || x.im != 0.0).into(),
        }
    }
}
