//! Causal attention, whose two products may run through the signal chain of a photonic processor.

use std::ffi::c_int;

use lumina_kernels::Attr;
use lumina_runtime::operator::Value;

use super::optical::{check_bits, check_types, or_else, range, seed};
use super::{Builder, Definition, Tensors, integers, rows};
use crate::status::Failure;

/// `out = softmax(scale · q·kᵀ)·v`, of which query t sees the keys up to `S - T + t`, of the op
/// `optical_attention`: q \[B,T,H,D\], k \[B,S,H,D\], v \[B,S,H,E\]
pub(in super::super) fn causal(
    tensors: &Tensors<'_>,
    dac_bits: c_int,
    adc_bits: c_int,
    scale: f32,
) -> Result<Definition, Failure> {
    check_bits(tensors, "dac_bits", dac_bits)?;
    check_bits(tensors, "adc_bits", adc_bits)?;
    check_types(tensors, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 11)?;
    let [q, k] = [tensors.get(1)?.fact(), tensors.get(2)?.fact()];
    tensors.get(3)?;
    let (&[batch, queries, heads, _], &[_, keys, ..]) = (&*q.shape, &*k.shape) else {
        let message = format!("`q` and `k` must be [batch, time, heads, width], got {q} and {k}");
        return Err(tensors.bad_shape(message));
    };
    if queries > keys {
        let message =
            format!("there must be as many keys as queries or more, got {keys}, {queries}");
        return Err(tensors.bad_shape(message));
    }
    if !scale.is_finite() {
        return Err(tensors.bad_parameter(format!("`scale` must be finite, got {scale}")));
    }
    let noisy = tensors.optional(10).is_some();
    let is_converted = !matches!(adc_bits, 0 | 24..);
    let mut builder = Builder::new();
    let mut values: Vec<Value> = Vec::with_capacity(14);
    for index in 1..=3 {
        values.push(builder.tensor(tensors, index)?);
    }
    let seen = rows::seen(tensors, &mut builder, queries, keys)?;
    values.push(builder.reshape(seen, &[1, 1, queries])?);
    values.push(builder.constant(&[1], &[scale]));
    let found = |builder: &mut Builder| Ok(builder.constant::<f32>(&[0, 1], &[]));
    let whole = |builder: &mut Builder| Ok(builder.constant(&[1, 1], &[1f32]));
    values.push(or_else(&mut builder, tensors, 4, found)?);
    values.push(or_else(&mut builder, tensors, 5, found)?);
    values.push(or_else(&mut builder, tensors, 6, whole)?);
    values.push(or_else(&mut builder, tensors, 7, found)?);
    values.push(range(&mut builder, tensors, 8, is_converted, &[1, 1])?);
    values.push(range(&mut builder, tensors, 9, is_converted, &[1, 1])?);
    let noise = or_else(&mut builder, tensors, 10, |builder| {
        Ok(builder.constant(&[1, 1, 2, 4], &[0f32; 8]))
    })?;
    values.push(match *builder.shape(noise) {
        [2, 4] => builder.reshape(noise, &[1, 1, 2, 4])?,
        _ => noise,
    });
    values.push(seed(&mut builder, tensors, 11, noisy)?);
    let ids = builder.op(
        "iota",
        &[],
        &[
            ("dtype", Attr::Str("u32")),
            ("shape", Attr::Ints(&integers(&[batch.saturating_mul(heads)]))),
            ("dimension", Attr::Int(0)),
        ],
    )?;
    let apart = builder.constant(&[], &[queries as u32]);
    let ids = builder.op("mul", &[ids, apart], &[])?;
    values.push(builder.reshape(ids, &[batch, heads])?);
    let out = builder.op(
        "optical_attention",
        &values,
        &[
            ("dac_bits", Attr::Int(dac_bits.into())),
            ("adc_bits", Attr::Int(adc_bits.into())),
            ("noisy", Attr::Bool(noisy)),
            ("with_peaks", Attr::Bool(false)),
        ],
    )?;
    builder.finish(tensors, out)
}
