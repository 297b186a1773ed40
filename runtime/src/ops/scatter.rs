//! Windows of a tensor that indices place, written.

use lumina_kernels::{
    Attrs, Complex32, DType, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, Work,
};

use super::binary::{max, min};
use super::common::{element_arms, operands, refuse, unsupported, with_element};
use super::strided::copy;
use super::windows::Windows;

pub(super) static OPS: &[Entry] = &[Entry::of::<Scatter>()];

/// The operand with `operand[start(b) + o] = combine(operand[start(b) + o], updates[b, o])`, for all
/// b in order, of (operand, indices, updates): see [`Windows`]. A window that does not lie in the
/// operand is not written, or with `mode` "clip" moved.
struct Scatter {
    windows: Windows,
    combine: Combine,
}

#[derive(Clone, Copy)]
enum Combine {
    Set,
    Add,
    Sub,
    Mul,
    Min,
    Max,
}

impl Scatter {
    /// The extents of a window, which those of the updates are.
    fn sizes(&self, operand: &Fact, updates: &Fact) -> Result<Vec<usize>, Error> {
        self.windows.sizes(operand.shape.len(), &updates.shape).ok_or_else(|| {
            Error::invalid(Self::NAME, format!("`updates` of {updates} have no such windows"))
        })
    }

    fn write(&self, inputs: &[View<'_>], out: &mut ViewMut<'_>) -> Result<(), Error> {
        macro_rules! arithmetic {
            ($($variant:ident: $ty:ty, $add:expr, $sub:expr, $mul:expr, $min:expr, $max:expr;)+) => {
                match (out.dtype(), self.combine) {
                    (_, Combine::Set) => {
                        with_element!(out.dtype(), T => self.combined::<T>(inputs, out, |_, new| new))
                    }
                    (DType::C64, Combine::Add) => self.combined::<Complex32>(inputs, out, |a, b| a + b),
                    (DType::C64, Combine::Sub) => self.combined::<Complex32>(inputs, out, |a, b| a - b),
                    (DType::C64, Combine::Mul) => self.combined::<Complex32>(inputs, out, |a, b| a * b),
                    $(
                        (DType::$variant, Combine::Add) => self.combined::<$ty>(inputs, out, $add),
                        (DType::$variant, Combine::Sub) => self.combined::<$ty>(inputs, out, $sub),
                        (DType::$variant, Combine::Mul) => self.combined::<$ty>(inputs, out, $mul),
                        (DType::$variant, Combine::Min) => self.combined::<$ty>(inputs, out, $min),
                        (DType::$variant, Combine::Max) => self.combined::<$ty>(inputs, out, $max),
                    )+
                    (other, _) => Err(unsupported(Self::NAME, "operand", other)),
                }
            };
        }
        arithmetic! {
            F32: f32, |a, b| a + b, |a, b| a - b, |a, b| a * b, min, max;
            I32: i32, i32::wrapping_add, i32::wrapping_sub, i32::wrapping_mul, Ord::min, Ord::max;
            U32: u32, u32::wrapping_add, u32::wrapping_sub, u32::wrapping_mul, Ord::min, Ord::max;
            I8: i8, i8::wrapping_add, i8::wrapping_sub, i8::wrapping_mul, Ord::min, Ord::max;
        }
    }

    fn combined<T: Element>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        combine: impl Fn(T, T) -> T,
    ) -> Result<(), Error> {
        let (indices, updates) = (&inputs[0], &inputs[1]);
        if updates.shape().contains(&0) {
            return Ok(());
        }
        let sizes = self.sizes(&out.fact(), &updates.fact())?;
        let loops = self.windows.loops(out.shape(), indices, &sizes, updates.shape())?;
        let (updates, out) = (updates.data::<T>()?, out.data_mut::<T>()?);
        let size = loops.window.count();
        loops.lines.for_each(|line, [at]| {
            let Some(start) = loops.start(line) else { return };
            loops.window.runs(0, size, |_, [from, to], [from_step, to_step], count| {
                let [from_step, to_step] = [from_step, to_step].map(isize::unsigned_abs);
                for index in 0..count {
                    let out = &mut out[start + to + index * to_step];
                    *out = combine(*out, updates[at + from + index * from_step]);
                }
            });
        });
        Ok(())
    }
}

impl Op for Scatter {
    const NAME: &'static str = "scatter";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let combine = match attrs.str(Self::NAME, "combine")? {
            "set" => Combine::Set,
            "add" => Combine::Add,
            "sub" => Combine::Sub,
            "mul" => Combine::Mul,
            "min" => Combine::Min,
            "max" => Combine::Max,
            other => {
                let known = "set, add, sub, mul, min or max";
                let message = format!("attribute `combine` must be {known}, got `{other}`");
                return refuse(Self::NAME, message);
            }
        };
        Ok(Self { windows: Windows::from_attrs(Self::NAME, attrs)?, combine })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [operand, indices, updates] = operands(Self::NAME, inputs)?;
        let arithmetic = matches!(operand.dtype, DType::F32 | DType::I32 | DType::U32 | DType::I8);
        let complex = operand.dtype == DType::C64
            && matches!(self.combine, Combine::Add | Combine::Sub | Combine::Mul);
        if !(arithmetic || complex || matches!(self.combine, Combine::Set)) {
            return Err(unsupported(Self::NAME, "operand", operand.dtype));
        }
        let sizes = self.sizes(operand, updates)?;
        self.windows.check(operand, indices, &sizes)?;
        let expected = Fact::new(operand.dtype, self.windows.result(indices, &sizes));
        if *updates != expected {
            return refuse(Self::NAME, format!("`updates` must be {expected}, got {updates}"));
        }
        Ok(vec![operand.clone()])
    }

    /// As if the operand dies, so that it stays where it is.
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        Op::output_shapes(self, inputs)?;
        Ok(Work::of_parts(&inputs[1..2], &inputs[2..]))
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        copy(&inputs[0], &mut outputs[0], pool)?;
        self.write(&inputs[1..], &mut outputs[0])
    }

    fn in_place(&self, _: &[Fact], operand: usize) -> bool {
        operand == 0
    }

    fn run_in_place(
        &self,
        _: usize,
        others: &[View<'_>],
        output: &mut ViewMut<'_>,
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        self.write(others, output)
    }
}
