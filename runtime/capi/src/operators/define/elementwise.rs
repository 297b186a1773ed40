//! Operators of each element by itself. Tensors have one shape, in which strides of 0 repeat, and one
//! type.

use lumina_kernels::{Attr, DType};
use lumina_runtime::operator::Value;

use super::{Builder, Definition, REALS, Tensors};
use crate::status::Failure;

/// What sums and products are there for.
const NUMBERS: &[DType] = &[
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::F64,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U32,
    DType::C64,
];

/// `y = f(inputs)` for tensors of these types.
fn map<const N: usize>(
    tensors: &Tensors<'_>,
    types: &[DType],
    f: impl FnOnce(&mut Builder, [Value; N]) -> Result<Value, Failure>,
) -> Result<Definition, Failure> {
    let shape = &tensors.get(0)?.fact().shape;
    tensors.check_type(0, types)?;
    let mut builder = Builder::new();
    let mut inputs = Vec::with_capacity(N);
    for index in 1..=N {
        tensors.get(index)?;
        tensors.check_types_of(0, &[index])?;
        tensors.check_shape(index, shape)?;
        inputs.push(builder.float(tensors, index)?);
    }
    let value = f(&mut builder, std::array::from_fn(|index| inputs[index]))?;
    builder.finish(tensors, value)
}

fn op<const N: usize>(
    tensors: &Tensors<'_>,
    types: &[DType],
    name: &str,
    attributes: &[(&str, Attr<'_>)],
) -> Result<Definition, Failure> {
    map::<N>(tensors, types, |builder, inputs| builder.op(name, &inputs, attributes))
}

/// `c = a + b`
pub(in super::super) fn add(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<2>(tensors, NUMBERS, "add", &[])
}

/// `c = a - b`
pub(in super::super) fn sub(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<2>(tensors, NUMBERS, "sub", &[])
}

/// `c = a · b`
pub(in super::super) fn mul(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<2>(tensors, NUMBERS, "mul", &[])
}

/// `y = max(x, 0)`, NaN of NaN
pub(in super::super) fn relu(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    map(tensors, REALS, |builder, [x]| {
        let zero = builder.zero(builder.dtype(x))?;
        builder.op("max", &[x, zero], &[])
    })
}

/// `y = x·Φ(x)`
pub(in super::super) fn gelu(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<1>(tensors, REALS, "gelu", &[("approximate", Attr::Bool(false))])
}

/// `y = x·½(1 + tanh(√(2/π)·(x + 0.044715·x³)))`
pub(in super::super) fn gelu_tanh(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<1>(tensors, REALS, "gelu", &[("approximate", Attr::Bool(true))])
}

/// `y = x·σ(1.702·x)`
pub(in super::super) fn quick_gelu(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<1>(tensors, REALS, "silu", &[("beta", Attr::Float(1.702))])
}

/// `y = x·σ(x)`
pub(in super::super) fn silu(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<1>(tensors, REALS, "silu", &[("beta", Attr::Float(1.0))])
}

/// `y = 1 / (1 + e^-x)`
pub(in super::super) fn sigmoid(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<1>(tensors, REALS, "logistic", &[])
}

/// `y = tanh(x)`
pub(in super::super) fn tanh(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    op::<1>(tensors, REALS, "tanh", &[])
}

/// `y = log(1 + e^(beta·x)) / beta`, and x where `beta·x > threshold`
pub(in super::super) fn softplus(
    tensors: &Tensors<'_>,
    beta: f32,
    threshold: f32,
) -> Result<Definition, Failure> {
    if !(beta.is_finite() && beta != 0.0) || threshold.is_nan() {
        let message = format!("`beta` must be a number but 0, got {beta}, threshold {threshold}");
        return Err(tensors.bad_parameter(message));
    }
    let attributes =
        [("beta", Attr::Float(beta.into())), ("threshold", Attr::Float(threshold.into()))];
    op::<1>(tensors, REALS, "softplus", &attributes)
}

/// `y = min(max(x, min), max)`, NaN where any is
pub(in super::super) fn clip(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    map(tensors, REALS, |builder, [x, low, high]| {
        let raised = builder.op("max", &[x, low], &[])?;
        builder.op("min", &[raised, high], &[])
    })
}

/// `c = a · b·σ(b)`
pub(in super::super) fn swiglu(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    map(tensors, REALS, |builder, [a, b]| {
        let gate = builder.op("silu", &[b], &[("beta", Attr::Float(1.0))])?;
        builder.op("mul", &[a, gate], &[])
    })
}
