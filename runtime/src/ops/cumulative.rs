//! Running sums, products, extrema, and logarithms of sums.

use lumina_kernels::{
    Attrs, Complex32, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, exp_of_any,
};

use super::binary::{max, min};
use super::common::{CHUNK, check_axes, chunked, natural, operands, unsupported};

/// `out[..., i, ...]` combines `x[..., 0, ...]` to `x[..., i, ...]` one after the other; `reverse`
/// combines from the end.
struct Axis {
    axis: usize,
    reverse: bool,
}

impl Axis {
    fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let axis = natural(op, "axis", attrs.int(op, "axis")?)?;
        Ok(Self { axis, reverse: attrs.bool(op, "reverse")? })
    }

    fn run<T: Element>(
        &self,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        combine: impl Fn(T, T) -> T + Sync,
    ) -> Result<(), Error> {
        let extent = x.shape()[self.axis];
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let x = x.data::<T>()?;
        let (block, reverse) = (extent * inner, self.reverse);
        let blocks = (CHUNK / block.max(1)).max(1);
        chunked(pool, out.data_mut::<T>()?, blocks * block, |start, out| {
            out.copy_from_slice(&x[start..start + out.len()]);
            for out in out.chunks_mut(block) {
                for step in 1..extent {
                    let (from, to) =
                        if reverse { (extent - step, extent - step - 1) } else { (step - 1, step) };
                    for column in 0..inner {
                        let next = combine(out[from * inner + column], out[to * inner + column]);
                        out[to * inner + column] = next;
                    }
                }
            }
        });
        Ok(())
    }
}

macro_rules! cumulative {
    ($($(#[$doc:meta])* $name:literal $op:ident { $($ty:ty: $combine:expr;)+ })+) => {$(
        $(#[$doc])*
        struct $op(Axis);

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
                Axis::from_attrs(Self::NAME, attrs).map(Self)
            }

            fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
                let [x] = operands(Self::NAME, inputs)?;
                check_axes(Self::NAME, "axis", &[self.0.axis], x.shape.len())?;
                match x.dtype {
                    $(<$ty as Element>::DTYPE => Ok(vec![x.clone()]),)+
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let (x, out) = (&inputs[0], &mut outputs[0]);
                match x.dtype() {
                    $(<$ty as Element>::DTYPE => self.0.run::<$ty>(x, out, pool, $combine),)+
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }
        }
    )+

    pub(super) static OPS: &[Entry] = &[$(Entry::of::<$op>()),+];
    };
}

cumulative! {
    "cumsum" Cumsum {
        f32: |a, b| a + b;
        Complex32: |a, b| a + b;
        u32: u32::wrapping_add;
        i32: i32::wrapping_add;
        i8: i8::wrapping_add;
    }
    "cumprod" Cumprod {
        f32: |a, b| a * b;
        Complex32: |a, b| a * b;
        u32: u32::wrapping_mul;
        i32: i32::wrapping_mul;
        i8: i8::wrapping_mul;
    }
    /// NaN from the first one on.
    "cummax" Cummax { f32: max; u32: Ord::max; i32: Ord::max; i8: Ord::max; }
    /// NaN from the first one on.
    "cummin" Cummin { f32: min; u32: Ord::min; i32: Ord::min; i8: Ord::min; }
    /// ln(e^x_0 + ... + e^x_i), without overflow.
    "cumlogsumexp" Cumlogsumexp { f32: log_add_exp; }
}

/// ln(e^a + e^b)
fn log_add_exp(a: f32, b: f32) -> f32 {
    let larger = max(a, b);
    if larger.is_infinite() {
        // Of infinities the difference is no number.
        larger
    } else {
        larger + libm::log1pf(exp_of_any(-(a - b).abs()))
    }
}
