//! Ops that combine the elements along some axes.

use lumina_kernels::{
    Attrs, Bool, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut,
    row_major_strides,
};

use super::binary::{max, min};
use super::common::{check_axes, chunked, naturals, operands, unsupported};
use super::strided::Walk;

/// Elements read per chunk.
const WORK: usize = 1 << 14;
/// Partial results of a contiguous run, so that it can use vector instructions.
const LANES: usize = 16;

/// The walks over the kept and over the reduced axes.
struct Partition {
    kept: Walk<1>,
    reduced: Walk<1>,
    reduced_count: usize,
}

impl Partition {
    fn new(shape: &[usize], axes: &[usize]) -> Self {
        let strides = row_major_strides(shape);
        let side = |reduced: bool| {
            let axes = (0..shape.len()).filter(move |axis| axes.contains(axis) == reduced);
            axes.map(|axis| (shape[axis], [strides[axis]]))
        };
        Self {
            kept: Walk::new([0], side(false)),
            reduced: Walk::new([0], side(true)),
            reduced_count: side(true).map(|(extent, _)| extent).product(),
        }
    }
}

/// The shape without `axes`.
fn kept_shape(shape: &[usize], axes: &[usize]) -> Vec<usize> {
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
    kept.map(|axis| shape[axis]).collect()
}

/// `out[kept] = combine over reduced of x[kept, reduced]`, from `initial`.
fn reduce<T: Element>(
    axes: &[usize],
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    initial: T,
    combine: impl Fn(T, T) -> T + Sync,
) -> Result<(), Error> {
    let parts = Partition::new(x.shape(), axes);
    let x = x.data::<T>()?;
    let length = (WORK / parts.reduced_count.max(1)).max(1);
    chunked(pool, out.data_mut::<T>()?, length, |start, out| {
        for (index, out) in (start..).zip(out) {
            if parts.reduced_count == 0 {
                *out = initial;
                continue;
            }
            let [base] = parts.kept.position(index);
            let mut result = initial;
            parts.reduced.runs(0, parts.reduced_count, |_, [from], [step], count| {
                let from = base + from;
                if step == 1 {
                    let run = fold_contiguous(&x[from..from + count], initial, &combine);
                    result = combine(result, run);
                } else {
                    let strided = x[from..].iter().step_by(step.unsigned_abs().max(1));
                    result = strided.take(count).fold(result, |a, &b| combine(a, b));
                }
            });
            *out = result;
        }
    });
    Ok(())
}

fn fold_contiguous<T: Copy>(run: &[T], initial: T, combine: &impl Fn(T, T) -> T) -> T {
    let (blocks, rest) = run.as_chunks::<LANES>();
    let mut lanes = [initial; LANES];
    for block in blocks {
        for (lane, &element) in lanes.iter_mut().zip(block) {
            *lane = combine(*lane, element);
        }
    }
    let tail = rest.iter().fold(initial, |a, &b| combine(a, b));
    lanes.into_iter().fold(tail, combine)
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:literal $op:ident {
        $($ty:ty: $initial:expr, $combine:expr;)+
    })+) => {$(
        $(#[$doc])*
        struct $op {
            axes: Vec<usize>,
        }

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
                let axes = attrs.ints(Self::NAME, "axes")?;
                Ok(Self { axes: naturals(Self::NAME, "axes", axes)? })
            }

            fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
                let [x] = operands(Self::NAME, inputs)?;
                check_axes(Self::NAME, "axes", &self.axes, x.shape.len())?;
                match x.dtype {
                    $(<$ty as Element>::DTYPE => {})+
                    other => return Err(unsupported(Self::NAME, "operand", other)),
                }
                Ok(vec![Fact::new(x.dtype, kept_shape(&x.shape, &self.axes))])
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let (x, out) = (&inputs[0], &mut outputs[0]);
                match x.dtype() {
                    $(<$ty as Element>::DTYPE => {
                        reduce::<$ty>(&self.axes, x, out, pool, $initial, $combine)
                    })+
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }
        }
    )+

    pub(super) static OPS: &[Entry] = &[$(Entry::of::<$op>()),+];
    };
}

reductions! {
    "reduce_sum" ReduceSum {
        f32: 0.0, |a, b| a + b;
        Complex32: Complex32::ZERO, |a, b| a + b;
        u32: 0, u32::wrapping_add;
        i32: 0, i32::wrapping_add;
        i8: 0, i8::wrapping_add;
    }
    "reduce_prod" ReduceProd {
        f32: 1.0, |a, b| a * b;
        Complex32: Complex32::ONE, |a, b| a * b;
        u32: 1, u32::wrapping_mul;
        i32: 1, i32::wrapping_mul;
        i8: 1, i8::wrapping_mul;
    }
    /// NaN where any is.
    "reduce_max" ReduceMax {
        f32: f32::NEG_INFINITY, max;
        u32: u32::MIN, Ord::max;
        i32: i32::MIN, Ord::max;
        i8: i8::MIN, Ord::max;
        Bool: Bool::from(false), Ord::max;
    }
    /// NaN where any is.
    "reduce_min" ReduceMin {
        f32: f32::INFINITY, min;
        u32: u32::MAX, Ord::min;
        i32: i32::MAX, Ord::min;
        i8: i8::MAX, Ord::min;
        Bool: Bool::from(true), Ord::min;
    }
    "reduce_and" ReduceAnd {
        Bool: Bool::from(true), |a, b| a & b;
        u32: u32::MAX, |a, b| a & b;
        i32: -1, |a, b| a & b;
        i8: -1, |a, b| a & b;
    }
    "reduce_or" ReduceOr {
        Bool: Bool::from(false), |a, b| a | b;
        u32: 0, |a, b| a | b;
        i32: 0, |a, b| a | b;
        i8: 0, |a, b| a | b;
    }
    "reduce_xor" ReduceXor {
        Bool: Bool::from(false), |a, b| a ^ b;
        u32: 0, |a, b| a ^ b;
        i32: 0, |a, b| a ^ b;
        i8: 0, |a, b| a ^ b;
    }
}
