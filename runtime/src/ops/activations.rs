//! Activations that are several operations of JAX.

use lumina_kernels::{
    Activation, Attrs, DType, Entry, Error, Fact, Op, ParFor, Strided, View, ViewMut,
};

use super::common::{CHUNK, chunked, operands, unsupported};
use super::strided::Walk;

pub(super) static OPS: &[Entry] = &[Entry::of::<Gelu>(), Entry::of::<Silu>()];

/// Copies the elements of `x` from the `start`-th on, in row-major order, to `out`.
pub(super) fn copy_from(x: &Strided<'_, f32>, start: usize, out: &mut [f32]) {
    let walk = Walk::over(x.shape, [(x.start, &x.strides)]);
    walk.runs(start, out.len(), |done, [from], [step], count| {
        let out = &mut out[done..done + count];
        match step {
            1 => out.copy_from_slice(&x.data[from..from + count]),
            0 => out.fill(x.data[from]),
            _ => {
                for (index, out) in out.iter_mut().enumerate() {
                    *out = x.data[from.wrapping_add_signed(step * index as isize)];
                }
            }
        }
    });
}

macro_rules! activations {
    ($($(#[$doc:meta])* $name:literal $op:ident($attrs:ident) = $activation:expr;)+) => {$(
        $(#[$doc])*
        struct $op(Activation);

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs($attrs: &dyn Attrs) -> Result<Self, Error> {
                Ok(Self($activation))
            }

            fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
                let [x] = operands(Self::NAME, inputs)?;
                match x.dtype {
                    DType::F32 => Ok(vec![x.clone()]),
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let x = inputs[0].strided_data::<f32>()?;
                chunked(pool, outputs[0].data_mut::<f32>()?, CHUNK, |start, out| {
                    copy_from(&x, start, out);
                    self.0.apply(out);
                });
                Ok(())
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
                chunked(pool, x.data_mut::<f32>()?, CHUNK, |_, x| self.0.apply(x));
                Ok(())
            }
        }
    )+};
}

activations! {
    /// x·Φ(x), or with `approximate` the form of it with tanh.
    "gelu" Gelu(attrs) = match attrs.bool(Self::NAME, "approximate")? {
        true => Activation::GeluTanh,
        false => Activation::Gelu,
    };
    /// x / (1 + e^-βx)
    "silu" Silu(attrs) = Activation::Silu { beta: attrs.float(Self::NAME, "beta")? as f32 };
}
