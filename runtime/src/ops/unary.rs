//! Ops that map each element of one operand.

use lumina_kernels::{
    Attrs, Bool, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, exp_of_any,
};

use super::common::{CHUNK, chunked, operands, unsupported};
use super::strided::Walk;
use super::{complex, float, special};

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

/// A function of f64 as one of f32, exact but for the last rounding.
pub(super) fn wide(f: impl Fn(f64) -> f64) -> impl Fn(f32) -> f32 {
    move |x| f(x.into()) as f32
}

unary! {
    "exp" Exp { f32 => f32: exp_of_any; Complex32 => Complex32: complex::exp; }
    "exp2" Exp2 { f32 => f32: libm::exp2f; Complex32 => Complex32: complex::exp2; }
    "log" Log { f32 => f32: float::log; Complex32 => Complex32: complex::log; }
    "log1p" Log1p { f32 => f32: libm::log1pf; Complex32 => Complex32: complex::log1p; }
    "expm1" Expm1 { f32 => f32: libm::expm1f; Complex32 => Complex32: complex::expm1; }
    /// 1 / (1 + e^-x)
    "logistic" Logistic {
        f32 => f32: |x: f32| 1.0 / (1.0 + exp_of_any(-x));
        f64 => f64: |x: f64| 1.0 / (1.0 + libm::exp(-x));
        Complex32 => Complex32: complex::logistic;
    }
    "erf" Erf { f32 => f32: float::erf; }
    "erfc" Erfc { f32 => f32: libm::erfcf; }
    "erf_inv" ErfInv { f32 => f32: special::erf_inv; }
    "lgamma" Lgamma { f32 => f32: special::lgamma; }
    "digamma" Digamma { f32 => f32: special::digamma; }
    "bessel_i0e" BesselI0e { f32 => f32: special::bessel_i0e; }
    "bessel_i1e" BesselI1e { f32 => f32: special::bessel_i1e; }
    "sin" Sin { f32 => f32: libm::sinf; Complex32 => Complex32: complex::sin; }
    "cos" Cos { f32 => f32: libm::cosf; Complex32 => Complex32: complex::cos; }
    "tan" Tan { f32 => f32: libm::tanf; Complex32 => Complex32: complex::tan; }
    "asin" Asin { f32 => f32: wide(libm::asin); Complex32 => Complex32: complex::asin; }
    "acos" Acos { f32 => f32: wide(libm::acos); Complex32 => Complex32: complex::acos; }
    "atan" Atan { f32 => f32: wide(libm::atan); Complex32 => Complex32: complex::atan; }
    "sinh" Sinh { f32 => f32: wide(libm::sinh); Complex32 => Complex32: complex::sinh; }
    "cosh" Cosh { f32 => f32: wide(libm::cosh); Complex32 => Complex32: complex::cosh; }
    "tanh" Tanh {
        f32 => f32: float::tanh;
        f64 => f64: libm::tanh;
        Complex32 => Complex32: complex::tanh;
    }
    "asinh" Asinh { f32 => f32: wide(libm::asinh); Complex32 => Complex32: complex::asinh; }
    "acosh" Acosh { f32 => f32: wide(libm::acosh); Complex32 => Complex32: complex::acosh; }
    "atanh" Atanh { f32 => f32: wide(libm::atanh); Complex32 => Complex32: complex::atanh; }
    "sqrt" Sqrt { f32 => f32: f32::sqrt; Complex32 => Complex32: complex::sqrt; }
    "rsqrt" Rsqrt {
        f32 => f32: |x: f32| 1.0 / x.sqrt();
        Complex32 => Complex32: complex::rsqrt;
    }
    "cbrt" Cbrt { f32 => f32: libm::cbrtf; }
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
        Complex32 => f32: complex::abs;
        i32 => i32: i32::wrapping_abs;
        i8 => i8: i8::wrapping_abs;
    }
    "real" Real { Complex32 => f32: |x: Complex32| x.re; }
    "imag" Imag { Complex32 => f32: |x: Complex32| x.im; }
    "conj" Conj { Complex32 => Complex32: |x: Complex32| x.conj(); }
    /// -1, 0 or 1; a zero keeps its sign, NaN stays. Of a complex number, what is as long as 1.
    "sign" Sign {
        Complex32 => Complex32: complex::sign;
        f32 => f32: |x: f32| if x == 0.0 || x.is_nan() { x } else { 1f32.copysign(x) };
        u32 => u32: |x: u32| x.min(1);
        i32 => i32: i32::signum;
        i8 => i8: i8::signum;
    }
    "square" Square {
        f32 => f32: |x: f32| x * x;
        Complex32 => Complex32: |x: Complex32| x * x;
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
    /// How many bits of an integer are 1.
    "population_count" PopulationCount {
        u32 => u32: u32::count_ones;
        i32 => i32: |x: i32| x.count_ones() as i32;
        i64 => i64: |x: i64| i64::from(x.count_ones());
        i16 => i16: |x: i16| x.count_ones() as i16;
        i8 => i8: |x: i8| x.count_ones() as i8;
        u8 => u8: |x: u8| x.count_ones() as u8;
    }
    /// How many bits of an integer are 0 before the first 1.
    "clz" Clz {
        u32 => u32: u32::leading_zeros;
        i32 => i32: |x: i32| x.leading_zeros() as i32;
        i64 => i64: |x: i64| i64::from(x.leading_zeros());
        i16 => i16: |x: i16| x.leading_zeros() as i16;
        i8 => i8: |x: i8| x.leading_zeros() as i8;
        u8 => u8: |x: u8| x.leading_zeros() as u8;
    }
}
