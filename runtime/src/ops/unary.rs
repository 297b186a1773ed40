//! Ops that map each element of one operand.

use lumina_kernels::{Attrs, Bool, Complex32, Element, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{CHUNK, chunked, operands, unsupported};

/// `out[i] = f(x[i])`
fn map<T: Element, U: Element>(
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    f: impl Fn(T) -> U + Sync,
) -> Result<(), Error> {
    let x = x.data::<T>()?;
    chunked(pool, out.data_mut::<U>()?, CHUNK, |start, out| {
        for (out, &x) in out.iter_mut().zip(&x[start..]) {
            *out = f(x);
        }
    });
    Ok(())
}

/// The methods of an [`Op`] that maps elements, for each element type by a function of it.
macro_rules! mapped {
    ($($from:ty => $to:ty: $f:expr;)+) => {
        fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
            let [x] = operands(Self::NAME, inputs)?;
            let dtype = match x.dtype {
                $(<$from as Element>::DTYPE => <$to as Element>::DTYPE,)+
                #[allow(unreachable_patterns)]
                other => return Err(unsupported(Self::NAME, "operand", other)),
            };
            Ok(vec![Fact::new(dtype, x.shape.as_slice())])
        }

        fn run(
            &self,
            inputs: &[View<'_>],
            outputs: &mut [ViewMut<'_>],
            pool: &dyn ParFor,
        ) -> Result<(), Error> {
            let (x, out) = (&inputs[0], &mut outputs[0]);
            match x.dtype() {
                $(<$from as Element>::DTYPE => map::<$from, $to>(x, out, pool, $f(self)),)+
                #[allow(unreachable_patterns)]
                other => Err(unsupported(Self::NAME, "operand", other)),
            }
        }
    };
}

macro_rules! unary {
    ($($(#[$doc:meta])* $name:literal $op:ident { $($from:ty => $to:ty: $f:expr;)+ })+) => {$(
        $(#[$doc])*
        pub(super) struct $op;

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
                Ok(Self)
            }

            mapped! { $($from => $to: |_: &Self| $f;)+ }
        }
    )+};
}

unary! {
    "exp" Exp { f32 => f32: f32::exp; }
    "exp2" Exp2 { f32 => f32: f32::exp2; }
    "log" Log { f32 => f32: f32::ln; }
    "log1p" Log1p { f32 => f32: f32::ln_1p; }
    "expm1" Expm1 { f32 => f32: f32::exp_m1; }
    "tanh" Tanh { f32 => f32: f32::tanh; }
    /// 1 / (1 + e^-x)
    "logistic" Logistic { f32 => f32: |x: f32| 1.0 / (1.0 + (-x).exp()); }
    "erf" Erf { f32 => f32: libm::erff; }
    "erfc" Erfc { f32 => f32: libm::erfcf; }
    "sin" Sin { f32 => f32: f32::sin; }
    "cos" Cos { f32 => f32: f32::cos; }
    "tan" Tan { f32 => f32: f32::tan; }
    "sqrt" Sqrt { f32 => f32: f32::sqrt; }
    "rsqrt" Rsqrt { f32 => f32: |x: f32| 1.0 / x.sqrt(); }
    "cbrt" Cbrt { f32 => f32: f32::cbrt; }
    "floor" Floor { f32 => f32: f32::floor; }
    "ceil" Ceil { f32 => f32: f32::ceil; }
    "neg" Neg {
        f32 => f32: |x: f32| -x;
        Complex32 => Complex32: |x: Complex32| -x;
        u32 => u32: u32::wrapping_neg;
        i32 => i32: i32::wrapping_neg;
        i8 => i8: i8::wrapping_neg;
    }
    "abs" Abs { f32 => f32: f32::abs; i32 => i32: i32::wrapping_abs; i8 => i8: i8::wrapping_abs; }
    /// -1, 0 or 1; a zero keeps its sign, NaN stays.
    "sign" Sign {
        f32 => f32: |x: f32| if x == 0.0 || x.is_nan() { x } else { 1f32.copysign(x) };
        u32 => u32: |x: u32| x.min(1);
        i32 => i32: i32::signum;
        i8 => i8: i8::signum;
    }
    "square" Square {
        f32 => f32: |x: f32| x * x;
        u32 => u32: |x: u32| x.wrapping_mul(x);
        i32 => i32: |x: i32| x.wrapping_mul(x);
        i8 => i8: |x: i8| x.wrapping_mul(x);
    }
    "is_finite" IsFinite { f32 => Bool: |x: f32| x.is_finite().into(); }
    /// The complement of a truth value, or of each bit of an integer.
    "not" Not {
        Bool => Bool: |x: Bool| !x;
        u32 => u32: |x: u32| !x;
        i32 => i32: |x: i32| !x;
        i8 => i8: |x: i8| !x;
    }
    "copy" Copy {
        f32 => f32: |x| x;
        Complex32 => Complex32: |x| x;
        u32 => u32: |x| x;
        i32 => i32: |x| x;
        i8 => i8: |x| x;
        Bool => Bool: |x| x;
    }
}

/// To the nearest integer; `rounding_method` says where halves go: 0 away from zero, 1 to even.
pub(super) struct Round {
    to_even: bool,
}

impl Op for Round {
    const NAME: &'static str = "round";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        match attrs.int(Self::NAME, "rounding_method")? {
            0 => Ok(Self { to_even: false }),
            1 => Ok(Self { to_even: true }),
            other => Err(Error::invalid(
                Self::NAME,
                format!("attribute `rounding_method` must be 0 or 1, got {other}"),
            )),
        }
    }

    mapped! {
        f32 => f32: |op: &Self| {
            let to_even = op.to_even;
            move |x: f32| if to_even { x.round_ties_even() } else { x.round() }
        };
    }
}

/// x^y for a fixed integer y, by repeated multiplication as in JAX.
pub(super) struct IntegerPow {
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
            f32::DTYPE => {}
            u32::DTYPE | i32::DTYPE | i8::DTYPE if self.y >= 0 => {}
            u32::DTYPE | i32::DTYPE | i8::DTYPE => {
                let message = format!("attribute `y` must not be negative for {x}, got {}", self.y);
                return Err(Error::invalid(Self::NAME, message));
            }
            other => return Err(unsupported(Self::NAME, "operand", other)),
        }
        Ok(vec![x.clone()])
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
            f32::DTYPE => map(x, out, pool, |x: f32| raise(x, power, 1.0, |a, b| a * b)),
            u32::DTYPE => map(x, out, pool, |x: u32| raise(x, power, 1, u32::wrapping_mul)),
            i32::DTYPE => map(x, out, pool, |x: i32| raise(x, power, 1, i32::wrapping_mul)),
            _ => map(x, out, pool, |x: i8| raise(x, power, 1, i8::wrapping_mul)),
        }
    }
}

/// Squares for each bit of the power, and multiplies those that it has.
fn raise<T: std::marker::Copy>(x: T, mut power: u32, one: T, multiply: impl Fn(T, T) -> T) -> T {
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
