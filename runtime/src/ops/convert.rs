//! Conversion of the element type.

use lumina_kernels::{
    Attrs, Bool, Complex32, Complex64, DType, Element, Entry, Error, Fact, Half, Op, ParFor, View,
    ViewMut, bf16, f16,
};

use super::common::{CHUNK, chunked, dtype, element_arms, operands, with_element};

pub(super) static OPS: &[Entry] = &[Entry::of::<ConvertElementType>()];

/// As XLA: a float that does not fit an integer saturates, NaN becomes 0, integers wrap, and
/// what is not zero is true.
struct ConvertElementType {
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
        let is_complex = |dtype| matches!(dtype, DType::C64 | DType::C128);
        if is_complex(x.dtype) && !is_complex(self.to) {
            let message = format!("a {} operand cannot become {}", x.dtype, self.to);
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
        let (from, x) = (inputs[0].dtype(), inputs[0].bytes()?);
        with_element!(self.to, U => {
            // The loop alone is compiled for each pair of types.
            let convert: fn(&[u8], &mut [U]) = with_element!(from, T => convert::<T, U>);
            chunked(pool, outputs[0].data_mut::<U>()?, CHUNK, |start, out| {
                convert(&x[start * from.size()..][..out.len() * from.size()], out);
            });
            Ok(())
        })
    }
}

/// `out[i] = x[i]`, where `x` are the bytes of elements of type T.
fn convert<T: Convert, U: Convert>(x: &[u8], out: &mut [U]) {
    use bytemuck::{cast_slice, cast_slice_mut};

    match (T::DTYPE, U::DTYPE) {
        (DType::F16, DType::F32) => f16::widen(cast_slice(x), cast_slice_mut(out)),
        (DType::BF16, DType::F32) => bf16::widen(cast_slice(x), cast_slice_mut(out)),
        (DType::F32, DType::F16) => f16::narrow(cast_slice(x), cast_slice_mut(out)),
        (DType::F32, DType::BF16) => bf16::narrow(cast_slice(x), cast_slice_mut(out)),
        _ => {
            for (out, &x) in out.iter_mut().zip(cast_slice::<u8, T>(x)) {
                *out = U::from_number(x.number());
            }
        }
    }
}

/// An element on its way from one type to another, which holds it exactly.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// Of a float.
    Float(f64),
    /// Of an integer or a truth value.
    Integer(i64),
    /// Of a complex number.
    Complex(Complex64),
}

/// Every element type.
pub trait Convert: Element {
    /// Its value.
    fn number(self) -> Number;

    /// The element of that value, or what `convert_element_type` makes of it.
    fn from_number(number: Number) -> Self;
}

macro_rules! convert {
    ($($ty:ty: $number:expr, $float:expr, $integer:expr, $complex:expr;)*) => {$(
        impl Convert for $ty {
            fn number(self) -> Number {
                ($number)(self)
            }

            fn from_number(number: Number) -> Self {
                match number {
                    Number::Float(x) => ($float)(x),
                    Number::Integer(x) => ($integer)(x),
                    Number::Complex(x) => ($complex)(x),
                }
            }
        }
    )*};
}

macro_rules! plain {
    ($($ty:ty: $kind:ident;)*) => {
        convert! {$(
            $ty: |x| Number::$kind(x as _), |x| x as $ty, |x| x as $ty, |x: Complex64| x.re as $ty;
        )*}
    };
}

plain! {
    f32: Float;
    f64: Float;
    i8: Integer;
    u8: Integer;
    i16: Integer;
    i32: Integer;
    i64: Integer;
    u32: Integer;
}

convert! {
    f16: |x: f16| Number::Float(x.into()), f16::from_f64, |x| f16::from_f64(x as f64),
        |x: Complex64| f16::from_f64(x.re);
    bf16: |x: bf16| Number::Float(x.into()), bf16::from_f64, |x| bf16::from_f64(x as f64),
        |x: Complex64| bf16::from_f64(x.re);
    Complex32: |x: Complex32| Number::Complex(Complex64::new(x.re.into(), x.im.into())),
        |x| (x as f32).into(), |x| (x as f32).into(),
        |x: Complex64| Complex32::new(x.re as f32, x.im as f32);
    Complex64: Number::Complex, Complex64::from, |x| (x as f64).into(), |x| x;
    Bool: |x: Bool| Number::Integer(x.get().into()), |x| (x != 0.0).into(), |x| (x != 0).into(),
        |x: Complex64| (x != Complex64::ZERO).into();
}
