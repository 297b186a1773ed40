//! Running sums.

use lumina_kernels::{Attrs, DType, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{CHUNK, check_axes, chunked, natural, operands, unsupported};

pub(super) static OPS: &[Entry] = &[Entry::of::<Cumsum>()];

/// `out[..., i, ...] = x[..., 0, ...] + ... + x[..., i, ...]`; `reverse` sums from the end.
struct Cumsum {
    axis: usize,
    reverse: bool,
}

impl Op for Cumsum {
    const NAME: &'static str = "cumsum";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let axis = natural(Self::NAME, "axis", attrs.int(Self::NAME, "axis")?)?;
        Ok(Self { axis, reverse: attrs.bool(Self::NAME, "reverse")? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "axis", &[self.axis], x.shape.len())?;
        match x.dtype {
            DType::F32 | DType::I32 => Ok(vec![x.clone()]),
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
            DType::F32 => self.scan::<f32>(x, out, pool, |a, b| a + b),
            _ => self.scan::<i32>(x, out, pool, i32::wrapping_add),
        }
    }
}

impl Cumsum {
    fn scan<T: Element>(
        &self,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        add: fn(T, T) -> T,
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
                        let sum = add(out[from * inner + column], out[to * inner + column]);
                        out[to * inner + column] = sum;
                    }
                }
            }
        });
        Ok(())
    }
}
