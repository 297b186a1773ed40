//! Ops that map each element of one operand.

use lumina_kernels::{
    Attrs, Bool, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut,
};

use super::common::{CHUNK, chunked, operands, unsupported};
use super::strided::Walk;

/// `out[i] = f(x[i])`
pub(super) fn map<T: Element, U: Element>(
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    f: impl Fn(T) -> U + Sync,
) -> Result<(), Error> {
    let x = x.strided_data::<T>()?;
    let walk = Walk::over(out.shape(), [(x.start, &x.strides)]);
    chunked(pool, out.data_mut::<U>()?, CHUNK, |start, out| {
        walk.runs(start, out.len(), |done, [from], [step], count| {
            let out = &mut out[done..done + count];
            if step == 1 {
                for (out, &x) in out.iter_mut().zip(&x.data[from..from + count]) {
                    *out = f(x);
                }
            } else {
                let mut position = from as isize;
                for out in out {
                    *out = f(x.data[position as usize]);
                    position += step;
                }
            }
        });
    });
    Ok(())
}

/// `x[i] = f(x[i])`, where U is T.
pub(super) fn map_in_place<T: Element, U: Element>(
    x: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    f: impl Fn(T) -> U + Sync,
) -> Result<(), Error> {
    chunked(pool, x.data_mut::<T>()?, CHUNK, |_, x| {
        for x in x {
            *x = bytemuck::cast(f(*x));
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

        fn accepts_strides(&self) -> bool {
            true
        }

        fn in_place(&self, _: &[Fact], _: usize) -> bool {
            true
        }

        fn run_in_place(
            &self,
            _: usize,
            _: &[View<'_>],
            x: &mut ViewMut<'_>,
            pool: &dyn ParFor,
        ) -> Result<(), Error> {
            match x.dtype() {
                $(<$from as Element>::DTYPE => map_in_place::<$from, $to>(x, pool, $f(self)),)+
                #[allow(unreachable_patterns)]
                other => Err(unsupported(Self::NAME, "operand", other)),
            }
        }
    };
}
pub(super) use mapped;

macro_rules! unary {
    ($($(#[$doc:meta])* $name:literal $op:ident { $($from:ty => $to:ty: $f:expr;)+ })+) => {$(
        $(#[$doc])*
        struct $op;

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
                Ok(Self)
            }

            mapped! { $($from => $to: |_: &Self| $f;)+ }
        }
    )+

    pub(super) static OPS: &[Entry] = &[$(Entry::of::<$op>()),+];
    };
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
    "abs" Abs {
        f32 => f32: f32::abs;
        Complex32 => f32: |x: Complex32| x.norm();
        i32 => i32: i32::wrapping_abs;
        i8 => i8: i8::wrapping_abs;
    }
    "real" Real { Complex32 => f32: |x: Complex32| x.re; }
    "imag" Imag { Complex32 => f32: |x: Complex32| x.im; }
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
}
