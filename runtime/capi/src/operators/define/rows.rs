//! Operators of rows: softmax, normalization, rotary embedding.

use std::ffi::c_int;

use lumina_kernels::{Attr, DType};
use lumina_runtime::operator::Value;

use super::{Builder, Definition, FLOATS, REALS, Tensors, integers};
use crate::status::Failure;

/// Types of positions and indices.
pub(super) const INDICES: &[DType] =
    &[DType::I32, DType::I64, DType::U32, DType::I8, DType::U8, DType::I16];

/// Checks that y and x are floats of one shape, and returns it.
fn alike<'a>(tensors: &Tensors<'a>) -> Result<&'a [usize], Failure> {
    let [y, x] = tensors.all()?;
    tensors.check_type(0, FLOATS)?;
    tensors.check_type(1, FLOATS)?;
    tensors.check_shape(1, &y.fact().shape)?;
    Ok(&x.fact().shape)
}

/// `y = e^(x - max x) / Σ e^(x - max x)` along an axis
pub(in super::super) fn softmax(tensors: &Tensors<'_>, axis: c_int) -> Result<Definition, Failure> {
    let axis = tensors.axis("axis", axis.into(), alike(tensors)?.len())?;
    let mut builder = Builder::new();
    let x = builder.float(tensors, 1)?;
    let y = builder.op("softmax", &[x], &[("axis", Attr::Int(axis as i64))])?;
    builder.finish(tensors, y)
}

/// `y = x - max x - log Σ e^(x - max x)` along an axis
pub(in super::super) fn log_softmax(
    tensors: &Tensors<'_>,
    dim: c_int,
) -> Result<Definition, Failure> {
    let shape = alike(tensors)?;
    let axis = tensors.axis("dim", dim.into(), shape.len())?;
    let mut builder = Builder::new();
    let x = builder.float(tensors, 1)?;
    let peak = builder.reduce("reduce_max", x, &[axis])?;
    let peak = builder.expand(peak, shape)?;
    let z = builder.op("sub", &[x, peak], &[])?;
    let e = builder.op("exp", &[z], &[])?;
    let sum = builder.reduce("reduce_sum", e, &[axis])?;
    let log = builder.op("log", &[sum], &[])?;
    let log = builder.expand(log, shape)?;
    let y = builder.op("sub", &[z, log], &[])?;
    builder.finish(tensors, y)
}

/// Softmax of rows of \[…, T, S\], of which row t sees the columns up to `S - T + t`
pub(in super::super) fn causal_softmax(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    let shape = alike(tensors)?;
    let &[.., queries, keys] = shape else {
        return Err(tensors.bad_shape(format!("`x` must have two axes or more, got {shape:?}")));
    };
    if queries > keys {
        let message = format!("`x` must have as many columns as rows or more, got {shape:?}");
        return Err(tensors.bad_shape(message));
    }
    let rows = shape[..shape.len() - 1].iter().product::<usize>();
    let mut builder = Builder::new();
    let x = builder.float(tensors, 1)?;
    let scores = builder.reshape(x, &[rows, keys])?;
    let one = seen(tensors, &mut builder, queries, keys)?;
    let all = builder.broadcast(one, &[rows / queries.max(1), queries], &[1])?;
    let seen = builder.reshape(all, &[rows])?;
    let scale = builder.constant(&[1], &[1f32]);
    let y = builder.op("causal_softmax", &[scores, seen, scale], &[])?;
    let y = builder.reshape(y, shape)?;
    builder.finish(tensors, y)
}

/// How many keys each query sees, i32\[queries\].
pub(super) fn seen(
    tensors: &Tensors<'_>,
    builder: &mut Builder,
    queries: usize,
    keys: usize,
) -> Result<Value, Failure> {
    let count = |query: usize| i32::try_from(keys - queries + query + 1);
    let seen: Result<Vec<i32>, _> = (0..queries).map(count).collect();
    let seen = seen.map_err(|_| tensors.bad_shape(format!("{keys} columns are too many")))?;
    Ok(builder.constant(&[queries], &seen))
}

/// The mean along the last axis, which stays with an extent of 1.
fn mean(builder: &mut Builder, x: Value) -> Result<Value, Failure> {
    let shape = builder.shape(x);
    let last = shape.len() - 1;
    let sum = builder.reduce("reduce_sum", x, &[last])?;
    let factor = builder.number(1.0 / shape[last] as f32);
    builder.op("mul", &[sum, factor], &[])
}

fn normalization(
    builder: &mut Builder,
    operands: &[Value],
    eps: f32,
    center: bool,
) -> Result<Value, Failure> {
    let last = builder.shape(operands[0]).len() - 1;
    builder.op(
        "normalization",
        operands,
        &[
            ("axes", Attr::Ints(&[last as i64])),
            ("epsilon", Attr::Float(eps.into())),
            ("center", Attr::Bool(center)),
        ],
    )
}

/// Checks eps, and that there is a last axis; returns the shape of the tensor.
fn normalized<'a>(
    tensors: &Tensors<'a>,
    index: usize,
    eps: f32,
) -> Result<(&'a [usize], usize), Failure> {
    if !(eps >= 0.0 && eps.is_finite()) {
        return Err(tensors.bad_parameter(format!("`eps` must not be negative, got {eps}")));
    }
    let shape = &tensors.get(index)?.fact().shape;
    match shape.split_last() {
        Some((&last, _)) => Ok((shape, last)),
        None => {
            let name = tensors.name(index);
            Err(tensors.bad_shape(format!("`{name}` must have an axis")))
        }
    }
}

/// A tensor along the last axis, repeated to `shape`, in f32.
fn along_rows(
    tensors: &Tensors<'_>,
    builder: &mut Builder,
    index: usize,
    shape: &[usize],
) -> Result<Value, Failure> {
    let last = shape.len() - 1;
    tensors.check_type(index, FLOATS)?;
    tensors.check_shape(index, &shape[last..])?;
    let value = builder.float(tensors, index)?;
    builder.broadcast(value, shape, &[last])
}

/// `standardized = (x - mean x) / deviation`, `deviation = √(mean (x - mean x)² + eps)` along the last axis,
/// `y = standardized · weight + bias`
pub(in super::super) fn layer_norm(tensors: &Tensors<'_>, eps: f32) -> Result<Definition, Failure> {
    let (shape, columns) = normalized(tensors, 3, eps)?;
    tensors.check_type(3, FLOATS)?;
    tensors.check_types_of(3, &[0, 1, 2])?;
    let last = shape.len() - 1;
    let mut builder = Builder::new();
    let x = builder.float(tensors, 3)?;
    let weight = along_rows(tensors, &mut builder, 4, shape)?;
    let bias = match tensors.optional(5) {
        Some(_) => Some(along_rows(tensors, &mut builder, 5, shape)?),
        None => None,
    };
    let standardized = normalization(&mut builder, &[x], eps, true)?;
    let scaled = builder.op("mul", &[standardized, weight], &[])?;
    let y = match bias {
        Some(bias) => builder.op("add", &[scaled, bias], &[])?,
        None => scaled,
    };
    let deviation = match columns {
        0 => {
            let nan = builder.number(f32::NAN);
            builder.broadcast(nan, &shape[..last], &[])?
        }
        _ => {
            let center = mean(&mut builder, x)?;
            let center = builder.expand(center, shape)?;
            let centered = builder.op("sub", &[x, center], &[])?;
            let squares = builder.op("square", &[centered], &[])?;
            let variance = mean(&mut builder, squares)?;
            let eps = builder.number(eps);
            let raised = builder.op("add", &[variance, eps], &[])?;
            let root = builder.op("sqrt", &[raised], &[])?;
            builder.reshape(root, &shape[..last])?
        }
    };
    builder.output(tensors, 0, y)?;
    builder.output(tensors, 1, standardized)?;
    builder.output(tensors, 2, deviation)?;
    Ok(builder.into())
}

/// `y = x / √(mean x² + eps) · w` along the last axis
pub(in super::super) fn rms_norm(tensors: &Tensors<'_>, eps: f32) -> Result<Definition, Failure> {
    let (shape, _) = normalized(tensors, 1, eps)?;
    tensors.check_type(1, FLOATS)?;
    tensors.check_types_of(1, &[0])?;
    let mut builder = Builder::new();
    let x = builder.float(tensors, 1)?;
    let w = along_rows(tensors, &mut builder, 2, shape)?;
    let y = normalization(&mut builder, &[x, w], eps, false)?;
    builder.finish(tensors, y)
}

/// `residual_out = a + b`, `y = (a + b) / √(mean (a + b)² + eps) · weight` along the last axis
pub(in super::super) fn add_rms_norm(
    tensors: &Tensors<'_>,
    eps: f32,
) -> Result<Definition, Failure> {
    let (shape, _) = normalized(tensors, 2, eps)?;
    tensors.get(3)?;
    tensors.check_type(2, FLOATS)?;
    tensors.check_types_of(2, &[0, 1, 3])?;
    tensors.check_shape(3, shape)?;
    let mut builder = Builder::new();
    let a = builder.float(tensors, 2)?;
    let b = builder.float(tensors, 3)?;
    let weight = along_rows(tensors, &mut builder, 4, shape)?;
    let sum = builder.op("add", &[a, b], &[])?;
    let y = normalization(&mut builder, &[sum, weight], eps, false)?;
    builder.output(tensors, 0, y)?;
    builder.output(tensors, 1, sum)?;
    Ok(builder.into())
}

/// Pairs of x turned by the angles whose sines and cosines the tables have at its positions:
/// `(x₁·cos - x₂·sin, x₁·sin + x₂·cos)`
pub(in super::super) fn rope(tensors: &Tensors<'_>, algo: c_int) -> Result<Definition, Failure> {
    let [y, x, positions, sin, _] = tensors.all()?;
    tensors.check_type(1, REALS)?;
    tensors.check_types_of(1, &[0])?;
    tensors.check_type(2, INDICES)?;
    tensors.check_type(3, REALS)?;
    tensors.check_type(4, REALS)?;
    if !(0..=1).contains(&algo) {
        let message = format!("`algo` must be 0 (pairs of neighbors) or 1 (halves), got {algo}");
        return Err(tensors.bad_parameter(message));
    }
    let shape = &x.fact().shape;
    tensors.check_shape(0, shape)?;
    let (rank, width) = (shape.len(), shape.last().copied().unwrap_or(0));
    if !(3..=4).contains(&rank) || !width.is_multiple_of(2) {
        let message = format!(
            "`x` must be [time, heads, 2·n] or [batch, time, heads, 2·n], got {}",
            y.fact()
        );
        return Err(tensors.bad_shape(message));
    }
    let (half, last, time) = (width / 2, rank - 1, rank - 3);
    let ids = &positions.fact().shape;
    if *ids != shape[time..=time] && *ids != shape[..=time] {
        let message = format!(
            "`pos_ids` must have shape {:?} or {:?}, got {ids:?}",
            &shape[time..=time],
            &shape[..=time]
        );
        return Err(tensors.bad_shape(message));
    }
    let &[length, columns] = sin.fact().shape.as_slice() else {
        return Err(tensors.bad_shape(format!("`sin_table` must be a matrix, got {}", sin.fact())));
    };
    tensors.check_shape(3, &[length, half])?;
    tensors.check_shape(4, &[length, columns])?;

    let mut builder = Builder::new();
    let x = builder.float(tensors, 1)?;
    let ids_value = builder.tensor(tensors, 2)?;
    let mut turned = shape.clone();
    turned[last] = half;
    let first = time + 1 - ids.len();
    let axes: Vec<usize> = (first..=time).chain([last]).collect();
    let angle = |builder: &mut Builder, index: usize| {
        let table = builder.tensor(tensors, index)?;
        let rows = builder.rows(table, ids_value)?;
        let rows = builder.convert(rows, builder.dtype(x))?;
        builder.broadcast(rows, &turned, &axes)
    };
    let (sin, cos) = (angle(&mut builder, 3)?, angle(&mut builder, 4)?);
    let mut paired = shape[..last].to_vec();
    let (pairs, axis) = match algo {
        0 => {
            paired.extend([half, 2]);
            (builder.reshape(x, &paired)?, last + 1)
        }
        _ => {
            paired.extend([2, half]);
            (builder.reshape(x, &paired)?, last)
        }
    };
    let part = |builder: &mut Builder, index: usize| {
        let part = builder.slice(pairs, axis, index, index + 1)?;
        builder.op("squeeze", &[part], &[("dimensions", Attr::Ints(&integers(&[axis])))])
    };
    let (one, two) = (part(&mut builder, 0)?, part(&mut builder, 1)?);
    let product =
        |builder: &mut Builder, x: Value, factor: Value| builder.op("mul", &[x, factor], &[]);
    let (a, b) = (product(&mut builder, one, cos)?, product(&mut builder, two, sin)?);
    let (c, d) = (product(&mut builder, one, sin)?, product(&mut builder, two, cos)?);
    let left = builder.op("sub", &[a, b], &[])?;
    let right = builder.op("add", &[c, d], &[])?;
    let mut single = paired.clone();
    single[axis] = 1;
    let (left, right) = (builder.reshape(left, &single)?, builder.reshape(right, &single)?);
    let dimension = [("dimension", Attr::Int(axis as i64))];
    let joined = builder.op("concatenate", &[left, right], &dimension)?;
    let y = builder.reshape(joined, shape)?;
    builder.output(tensors, 0, y)?;
    let mut definition = Definition::from(builder);
    definition.indices.push((2, length));
    Ok(definition)
}
