//! Ops of two operands, element by element. Shapes are equal, or one operand has rank 0.

use std::ops;

use lumina_kernels::{
    Attrs, Bool, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut,
};

use super::common::{CHUNK, chunked, operands, unsupported};
use super::strided::Walk;
use super::{complex, special};

/// The shape of the result.
fn joint_shape<'a>(op: &'static str, a: &'a Fact, b: &'a Fact) -> Result<&'a [usize], Error> {
    if a.shape == b.shape || b.shape.is_empty() {
        Ok(&a.shape)
    } else if a.shape.is_empty() {
        Ok(&b.shape)
    } else {
        let message = format!("operands must have equal shapes or rank 0, got {a} and {b}");
        Err(Error::invalid(op, message))
    }
}

/// `out[i] = f(a[i], b[i])`
fn zip<A: Element, B: Element, U: Element>(
    inputs: &[View<'_>],
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    f: impl Fn(A, B) -> U + Sync,
) -> Result<(), Error> {
    let (a, b) = (inputs[0].strided_data::<A>()?, inputs[1].strided_data::<B>()?);
    let walk = Walk::over(out.shape(), [(a.start, &a.strides), (b.start, &b.strides)]);
    chunked(pool, out.data_mut::<U>()?, CHUNK, |start, out| {
        walk.runs(start, out.len(), |done, [i, j], steps, count| {
            let out = out[done..done + count].iter_mut();
            match steps {
                [1, 1] => {
                    for ((out, &a), &b) in out.zip(&a.data[i..i + count]).zip(&b.data[j..]) {
                        *out = f(a, b);
                    }
                }
                [1, 0] => {
                    let b = b.data[j];
                    for (out, &a) in out.zip(&a.data[i..i + count]) {
                        *out = f(a, b);
                    }
                }
                [0, 1] => {
                    let a = a.data[i];
                    for (out, &b) in out.zip(&b.data[j..j + count]) {
                        *out = f(a, b);
                    }
                }
                _ => {
                    let mut at = [i as isize, j as isize];
                    for out in out {
                        *out = f(a.data[at[0] as usize], b.data[at[1] as usize]);
                        at = [at[0] + steps[0], at[1] + steps[1]];
                    }
                }
            }
        });
    });
    Ok(())
}

/// `x[i] = f(x[i], other[i])`
fn update<T: Element, V: Element>(
    x: &mut ViewMut<'_>,
    other: &View<'_>,
    pool: &dyn ParFor,
    f: impl Fn(T, V) -> T + Sync,
) -> Result<(), Error> {
    let other = other.strided_data::<V>()?;
    let walk = Walk::over(x.shape(), [(other.start, &other.strides)]);
    chunked(pool, x.data_mut::<T>()?, CHUNK, |start, x| {
        walk.runs(start, x.len(), |done, [from], [step], count| {
            let x = x[done..done + count].iter_mut();
            match step {
                0 => {
                    let other = other.data[from];
                    for x in x {
                        *x = f(*x, other);
                    }
                }
                1 => {
                    for (x, &other) in x.zip(&other.data[from..from + count]) {
                        *x = f(*x, other);
                    }
                }
                _ => {
                    let mut position = from as isize;
                    for x in x {
                        *x = f(*x, other.data[position as usize]);
                        position += step;
                    }
                }
            }
        });
    });
    Ok(())
}

/// `zip` over operand `operand`, where U is its type.
fn zip_in_place<A: Element, B: Element, U: Element>(
    operand: usize,
    other: &View<'_>,
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    f: impl Fn(A, B) -> U + Sync,
) -> Result<(), Error> {
    match operand {
        0 => update(out, other, pool, |a: A, b: B| bytemuck::cast(f(a, b))),
        _ => update(out, other, pool, |b: B, a: A| bytemuck::cast(f(a, b))),
    }
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:literal $op:ident {
        $($a:ty, $b:ty => $to:ty: $f:expr;)+
    })+) => {$(
        $(#[$doc])*
        struct $op;

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
                Ok(Self)
            }

            fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
                let [a, b] = operands(Self::NAME, inputs)?;
                let dtype = match (a.dtype, b.dtype) {
                    $((<$a as Element>::DTYPE, <$b as Element>::DTYPE) => <$to as Element>::DTYPE,)+
                    (left, right) if left == right => {
                        return Err(unsupported(Self::NAME, "operand", left));
                    }
                    _ => {
                        let message = format!("operands must have equal dtypes, got {a} and {b}");
                        return Err(Error::invalid(Self::NAME, message));
                    }
                };
                Ok(vec![Fact::new(dtype, joint_shape(Self::NAME, a, b)?)])
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let out = &mut outputs[0];
                match (inputs[0].dtype(), inputs[1].dtype()) {
                    $((<$a as Element>::DTYPE, <$b as Element>::DTYPE) => {
                        zip::<$a, $b, $to>(inputs, out, pool, $f)
                    })+
                    (other, _) => Err(unsupported(Self::NAME, "operand", other)),
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
                operand: usize,
                others: &[View<'_>],
                out: &mut ViewMut<'_>,
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let other = &others[0];
                let dtypes = [out.dtype(), other.dtype()];
                match (dtypes[operand], dtypes[1 - operand]) {
                    $((<$a as Element>::DTYPE, <$b as Element>::DTYPE) => {
                        zip_in_place::<$a, $b, $to>(operand, other, out, pool, $f)
                    })+
                    (other, _) => Err(unsupported(Self::NAME, "operand", other)),
                }
            }
        }
    )+

    pub(super) static OPS: &[Entry] = &[$(Entry::of::<$op>()),+];
    };
}

binary! {
    "add" Add {
        f32, f32 => f32: |a, b| a + b;
        f64, f64 => f64: |a, b| a + b;
        Complex32, Complex32 => Complex32: |a, b| a + b;
        i64, i64 => i64: i64::wrapping_add;
        i16, i16 => i16: i16::wrapping_add;
        u8, u8 => u8: u8::wrapping_add;
        u32, u32 => u32: u32::wrapping_add;
        i32, i32 => i32: i32::wrapping_add;
        i8, i8 => i8: i8::wrapping_add;
    }
    /// Of real and imaginary part.
    "complex" Complex { f32, f32 => Complex32: Complex32::new; }
    "sub" Sub {
        f32, f32 => f32: |a, b| a - b;
        f64, f64 => f64: |a, b| a - b;
        Complex32, Complex32 => Complex32: |a, b| a - b;
        i64, i64 => i64: i64::wrapping_sub;
        i16, i16 => i16: i16::wrapping_sub;
        u8, u8 => u8: u8::wrapping_sub;
        u32, u32 => u32: u32::wrapping_sub;
        i32, i32 => i32: i32::wrapping_sub;
        i8, i8 => i8: i8::wrapping_sub;
    }
    "mul" Mul {
        f32, f32 => f32: |a, b| a * b;
        f64, f64 => f64: |a, b| a * b;
        Complex32, Complex32 => Complex32: |a, b| a * b;
        i64, i64 => i64: i64::wrapping_mul;
        i16, i16 => i16: i16::wrapping_mul;
        u8, u8 => u8: u8::wrapping_mul;
        u32, u32 => u32: u32::wrapping_mul;
        i32, i32 => i32: i32::wrapping_mul;
        i8, i8 => i8: i8::wrapping_mul;
    }
    /// Integers truncate; as in XLA, x / 0 = -1 (all bits) and the smallest / -1 is itself.
    "div" Div {
        f32, f32 => f32: |a, b| a / b;
        Complex32, Complex32 => Complex32: complex::div;
        u32, u32 => u32: |a, b| a.checked_div(b).unwrap_or(u32::MAX);
        i32, i32 => i32: |a, b| if b == 0 { -1 } else { a.wrapping_div(b) };
        i8, i8 => i8: |a, b| if b == 0 { -1 } else { a.wrapping_div(b) };
    }
    /// With the sign of the dividend; as in XLA, x % 0 = x for integers.
    "rem" Rem {
        f32, f32 => f32: libm::fmodf;
        u32, u32 => u32: |a, b| a.checked_rem(b).unwrap_or(a);
        i32, i32 => i32: |a, b| if b == 0 { a } else { a.wrapping_rem(b) };
        i8, i8 => i8: |a, b| if b == 0 { a } else { a.wrapping_rem(b) };
    }
    /// NaN where either is; 0 is above -0.
    "max" Max {
        f32, f32 => f32: max;
        f64, f64 => f64: max;
        u32, u32 => u32: Ord::max;
        i32, i32 => i32: Ord::max;
        i8, i8 => i8: Ord::max;
        Bool, Bool => Bool: Ord::max;
    }
    /// NaN where either is; -0 is below 0.
    "min" Min {
        f32, f32 => f32: min;
        f64, f64 => f64: min;
        u32, u32 => u32: Ord::min;
        i32, i32 => i32: Ord::min;
        i8, i8 => i8: Ord::min;
        Bool, Bool => Bool: Ord::min;
    }
    "pow" Pow {
        f32, f32 => f32: libm::powf;
        f32, i32 => f32: |a, b| libm::powf(a, b as f32);
        Complex32, Complex32 => Complex32: complex::pow;
        Complex32, i32 => Complex32: complex::pow_integer;
    }
    "atan2" Atan2 { f32, f32 => f32: |y, x| libm::atan2(f64::from(y), f64::from(x)) as f32; }
    "nextafter" Nextafter { f32, f32 => f32: special::next_after; }
    "and" And {
        Bool, Bool => Bool: |a, b| a & b;
        u32, u32 => u32: |a, b| a & b;
        i32, i32 => i32: |a, b| a & b;
        i8, i8 => i8: |a, b| a & b;
    }
    "or" Or {
        Bool, Bool => Bool: |a, b| a | b;
        u32, u32 => u32: |a, b| a | b;
        i32, i32 => i32: |a, b| a | b;
        i8, i8 => i8: |a, b| a | b;
    }
    "xor" Xor {
        Bool, Bool => Bool: |a, b| a ^ b;
        u32, u32 => u32: |a, b| a ^ b;
        i32, i32 => i32: |a, b| a ^ b;
        i8, i8 => i8: |a, b| a ^ b;
    }
    /// A shift by as many bits as there are, or more, or by a negative number of them, gives 0.
    "shift_left" ShiftLeft {
        u32, u32 => u32: |a, b| a.checked_shl(b).unwrap_or(0);
        i32, i32 => i32: |a, b| a.checked_shl(b as u32).unwrap_or(0);
        i8, i8 => i8: |a, b| a.checked_shl(b as u32).unwrap_or(0);
    }
    /// As `shift_left`.
    "shift_right_logical" ShiftRightLogical {
        u32, u32 => u32: |a, b| a.checked_shr(b).unwrap_or(0);
        i32, i32 => i32: |a, b| (a as u32).checked_shr(b as u32).unwrap_or(0) as i32;
        i8, i8 => i8: |a, b| (a as u8).checked_shr(b as u32).unwrap_or(0) as i8;
    }
    /// Fills with the sign bit, all of it where the shift is too far; unsigned: with 0.
    "shift_right_arithmetic" ShiftRightArithmetic {
        u32, u32 => u32: |a, b| ((a as i32) >> b.min(31)) as u32;
        i32, i32 => i32: |a, b| a >> (b as u32).min(31);
        i8, i8 => i8: |a, b| a >> (b as u32).min(7);
    }
    "eq" Eq {
        f32, f32 => Bool: |a, b| (a == b).into();
        Complex32, Complex32 => Bool: |a, b| (a == b).into();
        u32, u32 => Bool: |a, b| (a == b).into();
        i32, i32 => Bool: |a, b| (a == b).into();
        i8, i8 => Bool: |a, b| (a == b).into();
        Bool, Bool => Bool: |a, b| (a == b).into();
    }
    "ne" Ne {
        f32, f32 => Bool: |a, b| (a != b).into();
        Complex32, Complex32 => Bool: |a, b| (a != b).into();
        u32, u32 => Bool: |a, b| (a != b).into();
        i32, i32 => Bool: |a, b| (a != b).into();
        i8, i8 => Bool: |a, b| (a != b).into();
        Bool, Bool => Bool: |a, b| (a != b).into();
    }
    "lt" Lt {
        f32, f32 => Bool: |a, b| (a < b).into();
        u32, u32 => Bool: |a, b| (a < b).into();
        i32, i32 => Bool: |a, b| (a < b).into();
        i8, i8 => Bool: |a, b| (a < b).into();
        Bool, Bool => Bool: |a, b| (a < b).into();
    }
    "le" Le {
        f32, f32 => Bool: |a, b| (a <= b).into();
        u32, u32 => Bool: |a, b| (a <= b).into();
        i32, i32 => Bool: |a, b| (a <= b).into();
        i8, i8 => Bool: |a, b| (a <= b).into();
        Bool, Bool => Bool: |a, b| (a <= b).into();
    }
    "gt" Gt {
        f32, f32 => Bool: |a, b| (a > b).into();
        u32, u32 => Bool: |a, b| (a > b).into();
        i32, i32 => Bool: |a, b| (a > b).into();
        i8, i8 => Bool: |a, b| (a > b).into();
        Bool, Bool => Bool: |a, b| (a > b).into();
    }
    "ge" Ge {
        f32, f32 => Bool: |a, b| (a >= b).into();
        u32, u32 => Bool: |a, b| (a >= b).into();
        i32, i32 => Bool: |a, b| (a >= b).into();
        i8, i8 => Bool: |a, b| (a >= b).into();
        Bool, Bool => Bool: |a, b| (a >= b).into();
    }
}

/// f32 or f64.
pub(super) trait Float:
    Copy + PartialOrd + From<f32> + ops::Add<Output = Self> + ops::Neg<Output = Self>
{
}

impl Float for f32 {}
impl Float for f64 {}

/// The larger, or NaN where either is; 0 is above -0.
pub(super) fn max<T: Float>(a: T, b: T) -> T {
    if a.partial_cmp(&b).is_none() {
        T::from(f32::NAN)
    } else if a == b {
        // Equal numbers have equal bits, but for zeros: the sum of 0 and -0 is 0.
        if a == T::from(0.0) { a + b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// The smaller, or NaN where either is; -0 is below 0.
pub(super) fn min<T: Float>(a: T, b: T) -> T {
    -max(-a, -b)
}
