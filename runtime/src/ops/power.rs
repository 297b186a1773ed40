//! Powers with a fixed exponent.

use lumina_kernels::{Attrs, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{operands, unsupported};
use super::complex;
use super::unary::map;

pub(super) static OPS: &[Entry] = &[Entry::of::<IntegerPow>()];

/// x^y for a fixed integer y, by repeated multiplication as in JAX.
struct IntegerPow {
    y: i32,
}

impl Op for IntegerPow {
    const NAME: &'static str = "integer_pow";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let y = attrs.int(Self::NAME, "y")?;
        let range = "attribute `y` must fit 32 bits, got";
        i32::try_from(y)
            .map(|y| Self { y })
            .map_err(|_| Error::invalid(Self::NAME, format!("{range} {y}")))
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        match x.dtype {
            f32::DTYPE | Complex32::DTYPE => {}
            u32::DTYPE | i32::DTYPE | i8::DTYPE if self.y >= 0 => {}
            u32::DTYPE | i32::DTYPE | i8::DTYPE => {
                let message = format!("attribute `y` must not be negative for {x}, got {}", self.y);
                return Err(Error::invalid(Self::NAME, message));
            }
            other => return Err(unsupported(Self::NAME, "operand", other)),
        }
        Ok(vec![x.clone()])
    }

    fn accepts_strides(&self) -> bool {
        true
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (x, out) = (&inputs[0], &mut outputs[0]);
        let power = self.y.unsigned_abs();
        match x.dtype() {
            f32::DTYPE if self.y < 0 => {
                map(x, out, pool, |x: f32| 1.0 / raise(x, power, 1.0, |a, b| a * b))
            }
            // Without the loop over bits, several at a time.
            f32::DTYPE if power == 2 => map(x, out, pool, |x: f32| x * x),
            f32::DTYPE if power == 3 => map(x, out, pool, |x: f32| x * (x * x)),
            f32::DTYPE => map(x, out, pool, |x: f32| raise(x, power, 1.0, |a, b| a * b)),
            Complex32::DTYPE => map(x, out, pool, |x| complex::pow_integer(x, self.y)),
            u32::DTYPE => map(x, out, pool, |x: u32| raise(x, power, 1, u32::wrapping_mul)),
            i32::DTYPE => map(x, out, pool, |x: i32| raise(x, power, 1, i32::wrapping_mul)),
            _ => map(x, out, pool, |x: i8| raise(x, power, 1, i8::wrapping_mul)),
        }
    }
}

/// Squares for each bit of the power, and multiplies those that it has.
pub(super) fn raise<T: Copy>(x: T, mut power: u32, one: T, multiply: impl Fn(T, T) -> T) -> T {
    let (mut square, mut result) = (x, None);
    while power > 0 {
        if power & 1 == 1 {
            result = Some(result.map_or(square, |result| multiply(result, square)));
        }
        power >>= 1;
        if power > 0 {
            square = multiply(square, square);
        }
    }
    result.unwrap_or(one)
}
