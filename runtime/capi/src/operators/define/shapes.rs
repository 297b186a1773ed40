//! Operators that move elements, sum them up or choose among them.

use lumina_kernels::{Attr, Bool, Complex32, Complex64, DType, bf16, f16};

use super::rows::INDICES;
use super::{Builder, Definition, FLOATS, Tensors, integers};
use crate::Status;
use crate::status::Failure;

/// `y = x`, in another order in memory
pub(in super::super) fn rearrange(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    let [y, _] = tensors.all()?;
    tensors.check_types_of(0, &[1])?;
    tensors.check_shape(1, &y.fact().shape)?;
    let mut builder = Builder::new();
    let x = builder.tensor(tensors, 1)?;
    builder.finish(tensors, x)
}

/// `output[i…, :] = weight[indices[i…], :]`
pub(in super::super) fn embedding(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    let [_, indices, weight] = tensors.all()?;
    tensors.check_types_of(2, &[0])?;
    tensors.check_type(1, INDICES)?;
    let &[rows, columns] = weight.fact().shape.as_slice() else {
        let message = format!("`weight` must be a matrix, got {}", weight.fact());
        return Err(tensors.bad_shape(message));
    };
    let mut shape = indices.fact().shape.clone();
    shape.push(columns);
    tensors.check_shape(0, &shape)?;
    let mut builder = Builder::new();
    let weight = builder.tensor(tensors, 2)?;
    let indices = builder.tensor(tensors, 1)?;
    let mut definition = match rows {
        // No index is below 0, so there are none.
        0 => {
            let zero = builder.zero(tensors.get(0)?.fact().dtype)?;
            let none = builder.broadcast(zero, &shape, &[])?;
            builder.finish(tensors, none)?
        }
        _ => {
            let rows = builder.rows(weight, indices)?;
            builder.finish(tensors, rows)?
        }
    };
    definition.indices.push((1, rows));
    Ok(definition)
}

/// `y = 0`, of the shape and the type of x, which is not looked at
pub(in super::super) fn zeros(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    fill(tensors, 0)
}

/// `y = 1`, of the shape and the type of x, which is not looked at
pub(in super::super) fn ones(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    fill(tensors, 1)
}

fn fill(tensors: &Tensors<'_>, number: u8) -> Result<Definition, Failure> {
    let [y, _] = tensors.all()?;
    let fact = y.fact();
    tensors.check_types_of(0, &[1])?;
    tensors.check_shape(1, &fact.shape)?;
    let mut builder = Builder::new();
    let float = f32::from(number);
    let value = match fact.dtype {
        DType::F32 => builder.constant(&[], &[float]),
        DType::F64 => builder.constant(&[], &[f64::from(number)]),
        DType::F16 => builder.constant(&[], &[f16::from_f32(float)]),
        DType::BF16 => builder.constant(&[], &[bf16::from_f32(float)]),
        DType::C64 => builder.constant(&[], &[Complex32::new(float, 0.0)]),
        DType::C128 => builder.constant(&[], &[Complex64::new(number.into(), 0.0)]),
        DType::I8 => builder.constant(&[], &[number as i8]),
        DType::U8 => builder.constant(&[], &[number]),
        DType::I16 => builder.constant(&[], &[i16::from(number)]),
        DType::I32 => builder.constant(&[], &[i32::from(number)]),
        DType::I64 => builder.constant(&[], &[i64::from(number)]),
        DType::U32 => builder.constant(&[], &[u32::from(number)]),
        DType::Bool => builder.constant(&[], &[Bool::from(number != 0)]),
    };
    let all = builder.broadcast(value, &fact.shape, &[])?;
    builder.finish(tensors, all)
}

/// The axes of a sum, as numbers that a call repeats.
pub(in super::super) fn axes_again(
    dims: *const usize,
    count: usize,
    keepdim: bool,
) -> Result<Vec<u64>, Failure> {
    let mut again: Vec<u64> = axes(dims, count)?.into_iter().map(|axis| axis as u64).collect();
    again.push(keepdim.into());
    Ok(again)
}

fn axes(dims: *const usize, count: usize) -> Result<Vec<usize>, Failure> {
    if count > 8 {
        let message = format!("`count` must be at most 8, the axes that there may be, got {count}");
        return Err(Failure::new(Status::BadParam, message));
    }
    // SAFETY: the creation and the call say that there are so many.
    unsafe { super::super::descriptor::list(dims, count, "dims") }.map(<[usize]>::to_vec)
}

/// `output = Σ input` along these axes, which `keepdim` leaves with an extent of 1
pub(in super::super) fn sum(
    tensors: &Tensors<'_>,
    dims: *const usize,
    count: usize,
    keepdim: bool,
) -> Result<Definition, Failure> {
    let [_, input] = tensors.all()?;
    tensors.check_type(1, FLOATS)?;
    tensors.check_types_of(1, &[0])?;
    let (axes, shape) = (axes(dims, count)?, &input.fact().shape);
    for (place, &axis) in axes.iter().enumerate() {
        if axis >= shape.len() || axes[..place].contains(&axis) {
            let rank = shape.len();
            let message = format!("`dims` must be different axes of rank {rank}, got {axes:?}");
            return Err(tensors.bad_parameter(message));
        }
    }
    let mut builder = Builder::new();
    let x = builder.float(tensors, 1)?;
    let y = match keepdim {
        true => builder.reduce("reduce_sum", x, &axes)?,
        false => builder.op("reduce_sum", &[x], &[("axes", Attr::Ints(&integers(&axes)))])?,
    };
    builder.finish(tensors, y)
}

/// What a call of TopK repeats.
pub(in super::super) fn top_k_again(
    k: usize,
    dim: usize,
    largest: bool,
    sorted: bool,
) -> Result<Vec<u64>, Failure> {
    Ok(vec![k as u64, dim as u64, largest.into(), sorted.into()])
}

/// The k largest or smallest elements along an axis, in order, and their indices; of equal ones the first
/// one first, and NaN is larger than all else
pub(in super::super) fn top_k(
    tensors: &Tensors<'_>,
    k: usize,
    dim: usize,
    largest: bool,
    _sorted: bool,
) -> Result<Definition, Failure> {
    let [_, _, input] = tensors.all()?;
    let fact = input.fact();
    tensors.check_types_of(2, &[0])?;
    tensors.check_type(1, &[DType::I32, DType::I64])?;
    if matches!(fact.dtype, DType::C64 | DType::C128) {
        let message = format!("`input` must have an order, got {fact}");
        return Err(tensors.refuse(Status::BadTensorDtype, message));
    }
    let axis = tensors.axis("dim", i64::try_from(dim).unwrap_or(i64::MAX), fact.shape.len())?;
    if k > fact.shape[axis] {
        let message = format!("`k` must be at most {}, got {k}", fact.shape[axis]);
        return Err(tensors.bad_parameter(message));
    }
    let mut builder = Builder::new();
    let x = builder.tensor(tensors, 2)?;
    let number = axis as i64;
    let (values, order) = match largest {
        true => {
            let attributes = [("axis", Attr::Int(number)), ("k", Attr::Int(k as i64))];
            let found = builder.ops("top_k", &[x], &attributes)?;
            (found[0], found[1])
        }
        false => {
            let places = builder.op(
                "iota",
                &[],
                &[
                    ("dtype", Attr::Str("i32")),
                    ("shape", Attr::Ints(&integers(&fact.shape))),
                    ("dimension", Attr::Int(number)),
                ],
            )?;
            let attributes = [("dimension", Attr::Int(number)), ("num_keys", Attr::Int(1))];
            let sorted = builder.ops("sort", &[x, places], &attributes)?;
            (builder.slice(sorted[0], axis, 0, k)?, builder.slice(sorted[1], axis, 0, k)?)
        }
    };
    builder.output(tensors, 0, values)?;
    builder.output(tensors, 1, order)?;
    Ok(builder.into())
}
