//! Products and what is done with their results at once.

use std::marker::PhantomData;

use lumina_kernels::ops::Dequantize;
use lumina_kernels::{
    Activation, Attrs, DType, DynOp, Entry, Error, Fact, Op, ParFor, Strided, View, ViewMut, Work,
};

use super::common::{CHUNK, chunked, refuse, unsupported};
use super::contraction::DotGeneral;
use super::convolution::Convolution;
use super::rows::combine;

pub(super) static OPS: &[Entry] =
    &[Entry::of::<Fused<DotGeneral>>(), Entry::of::<Fused<Convolution>>()];

/// A product of two operands.
trait Product: Op {
    const FUSED: &'static str;
}

impl Product for DotGeneral {
    const FUSED: &'static str = "fused_dot_general";
}

impl Product for Convolution {
    const FUSED: &'static str = "fused_conv_general_dilated";
}

/// `activation(product + added₀ + added₁ + …)`, where all that is added has the shape of the product: a
/// bias is a view that repeats it.
struct Fused<P> {
    product: Box<dyn DynOp>,
    /// Operands of the product.
    factors: usize,
    activation: Option<Activation>,
    of: PhantomData<P>,
}

impl<P: Product> Fused<P> {
    /// The same with another op for the product, which has so many operands.
    fn with_product(&self, product: Box<dyn DynOp>, factors: usize) -> Box<dyn DynOp> {
        Box::new(Self { product, factors, activation: self.activation, of: PhantomData })
    }

    fn split<'i, T>(&self, inputs: &'i [T]) -> Result<(&'i [T], &'i [T]), Error> {
        inputs.split_at_checked(self.factors).ok_or_else(|| {
            let factors = self.factors;
            let message = format!("expected at least {factors} operands, got {}", inputs.len());
            Error::invalid(P::FUSED, message)
        })
    }
}

impl<P: Product> Op for Fused<P> {
    const NAME: &'static str = P::FUSED;

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let activation = match attrs.str(Self::NAME, "activation")? {
            "none" => None,
            "relu" => Some(Activation::Relu),
            "gelu" => Some(Activation::Gelu),
            "gelu_tanh" => Some(Activation::GeluTanh),
            "silu" => Some(Activation::Silu { beta: 1.0 }),
            "logistic" => Some(Activation::Logistic),
            other => {
                let message = format!(
                    "attribute `activation` must be none, relu, gelu, gelu_tanh, silu or logistic, \
                     got `{other}`"
                );
                return refuse(Self::NAME, message);
            }
        };
        Ok(Self {
            product: Box::new(P::from_attrs(attrs)?),
            factors: 2,
            activation,
            of: PhantomData,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let (factors, added) = self.split(inputs)?;
        let outputs = self.product.output_shapes(factors)?;
        if factors[0].dtype != DType::F32 {
            return Err(unsupported(Self::NAME, "operand", factors[0].dtype));
        }
        match added.iter().find(|other| **other != outputs[0]) {
            Some(other) => refuse(
                Self::NAME,
                format!("what is added must be {} as the product is, got {other}", outputs[0]),
            ),
            None => Ok(outputs),
        }
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (factors, added) = self.split(inputs)?;
        self.product.run(factors, outputs, pool)?;
        let added: Vec<Strided<'_, f32>> =
            added.iter().map(|view| view.strided_data()).collect::<Result<_, _>>()?;
        chunked(pool, outputs[0].data_mut::<f32>()?, CHUNK, |start, out| {
            for other in &added {
                combine(other, start, out, |x, other| x + other);
            }
            if let Some(activation) = self.activation {
                activation.apply(out);
            }
        });
        Ok(())
    }

    fn accepts_strides(&self) -> bool {
        true
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        let (factors, _) = self.split(constants)?;
        let prepared = self.product.prepare(factors)?;
        Ok(prepared.map(|product| self.with_product(product, self.factors)))
    }

    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        constants: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error> {
        let (factors, _) = self.split(constants)?;
        if operand >= factors.len() {
            return Ok(None);
        }
        let product = self.product.with_codes(operand, codes, factors, coded)?;
        Ok(product.map(|product| self.with_product(product, self.factors - 1 + coded.len())))
    }

    fn held_bytes(&self) -> usize {
        self.product.held_bytes()
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let (factors, added) = self.split(inputs)?;
        let Work { flops, bytes } = self.product.work(factors)?;
        let each =
            Op::output_shapes(self, inputs)?.iter().map(|fact| fact.len() as u64).sum::<u64>();
        Ok(Work {
            flops: flops.saturating_add(each.saturating_mul(added.len() as u64 + 1)),
            bytes: bytes.saturating_add(Work::bytes_of(added)),
        })
    }
}
