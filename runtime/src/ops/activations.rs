//! Activations that are several operations of JAX.

use lumina_kernels::{
    Activation, Attrs, DType, Element, Entry, Error, Fact, Op, ParFor, Strided, View, ViewMut,
};

use super::common::{CHUNK, chunked, operands, refuse, unsupported};
use super::strided::Walk;
use super::unary::{map, map_in_place, mapped, wide};

pub(super) static OPS: &[Entry] =
    &[Entry::of::<Gelu>(), Entry::of::<Silu>(), Entry::of::<Softplus>()];

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
    ($($(#[$doc:meta])* $name:literal $op:ident($attrs:ident) = $activation:expr
       $(, f64 by $exact:expr)?;)+) => {$(
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
                    $(DType::F64 => {
                        let _ = $exact;
                        Ok(vec![x.clone()])
                    })?
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                $(if inputs[0].dtype() == DType::F64 {
                    return map::<f64, f64>(&inputs[0], &mut outputs[0], pool, $exact(self.0));
                })?
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
                $(if x.dtype() == DType::F64 {
                    return map_in_place::<f64, f64>(x, pool, $exact(self.0));
                })?
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
    }, f64 by exact_gelu;
    /// x / (1 + e^-βx)
    "silu" Silu(attrs) = Activation::Silu { beta: attrs.float(Self::NAME, "beta")? },
        f64 by exact_silu;
}

/// To the last places of f64.
fn exact_gelu(activation: Activation) -> impl Fn(f64) -> f64 {
    move |x| match activation {
        Activation::GeluTanh => {
            // ½(1 + tanh u) = 1/(1 + e^-2u)
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * (x * x * x));
            x / (1.0 + libm::exp(-2.0 * u))
        }
        _ => 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
    }
}

/// To the last places of f64.
fn exact_silu(activation: Activation) -> impl Fn(f64) -> f64 {
    let beta = if let Activation::Silu { beta } = activation { beta } else { 1.0 };
    move |x| x / (1.0 + libm::exp(-beta * x))
}

/// `log(1 + e^(beta·x)) / beta`, and x where `beta·x > threshold`. In f64, so that little but the last
/// rounding is left.
struct Softplus {
    beta: f64,
    threshold: f64,
}

impl Softplus {
    fn of(&self) -> impl Fn(f64) -> f64 + Sync + use<> {
        let Self { beta, threshold } = *self;
        move |x| {
            let z = beta * x;
            // log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)
            if z > threshold { x } else { (z.max(0.0) + libm::log1p(libm::exp(-z.abs()))) / beta }
        }
    }
}

impl Op for Softplus {
    const NAME: &'static str = "softplus";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let beta = attrs.float(Self::NAME, "beta")?;
        if beta == 0.0 {
            return refuse(Self::NAME, "attribute `beta` must not be 0".into());
        }
        Ok(Self { beta, threshold: attrs.float(Self::NAME, "threshold")? })
    }

    mapped! {
        f32 => f32: |softplus: &Self| wide(softplus.of());
        f64 => f64: Self::of;
    }
}

#[cfg(test)]
mod tests {
    use lumina_kernels::{Attr, DynOp, Serial};

    use super::*;
    use crate::Tensor;

    struct Attributes(&'static [(&'static str, Attr<'static>)]);

    impl Attrs for Attributes {
        fn get(&self, name: &str) -> Option<Attr<'_>> {
            self.0.iter().find(|(known, _)| *known == name).map(|(_, attr)| *attr)
        }
    }

    fn run<T: lumina_kernels::Element>(op: &dyn DynOp, x: &[T]) -> Vec<T> {
        let (input, shape) = (Tensor::new(&[x.len()], x).unwrap(), [x.len()]);
        let mut out = x.to_vec();
        let bytes = bytemuck::cast_slice_mut(&mut out);
        let data = lumina_kernels::DataMut::from_bytes(T::DTYPE, bytes).unwrap();
        let mut outputs = [ViewMut::new(&shape, data).unwrap()];
        op.run(&[input.view()], &mut outputs, &Serial).unwrap();
        out
    }

    #[test]
    fn softplus_is_rounded_once() {
        let attributes = [("beta", Attr::Float(2.0)), ("threshold", Attr::Float(20.0))];
        let op = Softplus::from_attrs(&Attributes(attributes.to_vec().leak())).unwrap();
        let x: Vec<f32> = (-4000..4000).map(|i| i as f32 / 100.0).collect();
        for (&x, y) in x.iter().zip(run(&op, &x)) {
            let z = 2.0 * f64::from(x);
            let want = if z > 20.0 { x } else { (z.exp().ln_1p() / 2.0) as f32 };
            assert!((y - want).abs() <= want.abs() * f32::EPSILON, "{x}: {y} {want}");
        }
        let [nan] = run(&op, &[f32::NAN])[..] else { panic!() };
        assert!(nan.is_nan());
        assert_eq!(run(&op, &[f32::INFINITY, f32::NEG_INFINITY]), [f32::INFINITY, 0.0]);
        let none = [("beta", Attr::Float(0.0)), ("threshold", Attr::Float(20.0))];
        let error = Softplus::from_attrs(&Attributes(none.to_vec().leak())).err().unwrap();
        assert_eq!(error.to_string(), "softplus: attribute `beta` must not be 0");
    }

    #[test]
    fn gelu_of_f64_is_that_of_f64() {
        for approximate in [false, true] {
            let attributes = vec![("approximate", Attr::Bool(approximate))].leak();
            let op = Gelu::from_attrs(&Attributes(attributes)).unwrap();
            // 1·Φ(1), and ½(1 + tanh(√(2/π)·1.044715)).
            let want = if approximate { 0.841_191_990_608_276_5 } else { 0.841_344_746_068_542_9 };
            let got = run(&op, &[1.0f64, 0.0, -40.0, 40.0]);
            assert!((got[0] - want).abs() < 1e-15, "{}", got[0]);
            assert_eq!(got[1..], [0.0, got[2], 40.0]);
            assert!(got[2].abs() < 1e-300);
        }
    }
}
