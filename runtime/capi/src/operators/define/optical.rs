//! Products through the signal chain of a photonic processor: converters, noise, full scales.

use std::ffi::c_int;

use lumina_kernels::{Attr, DType};
use lumina_runtime::operator::Value;

use super::{Builder, Definition, Tensors, integers, windows};
use crate::Status;
use crate::status::Failure;

/// Bits of the converters, 0 to leave one out, and inputs of an array, 0 for as many as there are.
struct Chain {
    bits: [c_int; 3],
    array_rows: usize,
    noisy: bool,
}

impl Chain {
    fn attributes(&self) -> [(&'static str, Attr<'static>); 5] {
        let [dac, weight, adc] = self.bits;
        [
            ("dac_bits", Attr::Int(dac.into())),
            ("weight_bits", Attr::Int(weight.into())),
            ("adc_bits", Attr::Int(adc.into())),
            ("noisy", Attr::Bool(self.noisy)),
            ("array_rows", Attr::Int(self.array_rows as i64)),
        ]
    }

    /// Checks the bits, and that noise has a seed; tensors are f32, and the seed u32.
    fn check(&self, tensors: &Tensors<'_>, floats: &[usize], seed: usize) -> Result<(), Failure> {
        for (name, bits) in ["dac_bits", "weight_bits", "adc_bits"].iter().zip(self.bits) {
            check_bits(tensors, name, bits)?;
        }
        if i64::try_from(self.array_rows).is_err() {
            let message = format!("`array_rows` is too large: {}", self.array_rows);
            return Err(tensors.bad_parameter(message));
        }
        check_types(tensors, floats, seed)
    }
}

pub(super) fn check_bits(tensors: &Tensors<'_>, name: &str, bits: c_int) -> Result<(), Failure> {
    match bits {
        0..=32 => Ok(()),
        _ => Err(tensors.bad_parameter(format!("`{name}` must be from 0 to 32, got {bits}"))),
    }
}

/// Checks that the tensors that are there are f32, and the seed u32.
pub(super) fn check_types(
    tensors: &Tensors<'_>,
    floats: &[usize],
    seed: usize,
) -> Result<(), Failure> {
    for &index in floats {
        if tensors.optional(index).is_some() {
            tensors.check_type(index, &[DType::F32])?;
        }
    }
    match tensors.optional(seed) {
        Some(_) => tensors.check_type(seed, &[DType::U32]),
        None => Ok(()),
    }
}

/// Tensor `index` if it is there, else what stands for none.
pub(super) fn or_else(
    builder: &mut Builder,
    tensors: &Tensors<'_>,
    index: usize,
    other: impl FnOnce(&mut Builder) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    match tensors.optional(index) {
        Some(_) => builder.tensor(tensors, index),
        None => other(builder),
    }
}

/// The tensor of that number, which only a converter that is left out does without.
pub(super) fn range(
    builder: &mut Builder,
    tensors: &Tensors<'_>,
    index: usize,
    is_needed: bool,
    shape: &[usize],
) -> Result<Value, Failure> {
    if tensors.optional(index).is_none() && is_needed {
        let name = tensors.name(index);
        let message = format!("`{name}` is null, which `adc_bits` needs");
        return Err(Failure::new(Status::NullPointer, message));
    }
    or_else(builder, tensors, index, |builder| Ok(builder.constant(shape, &[1f32])))
}

/// The seed as a matrix of one row, or of several.
pub(super) fn seed(
    builder: &mut Builder,
    tensors: &Tensors<'_>,
    index: usize,
    noisy: bool,
) -> Result<Value, Failure> {
    if noisy && tensors.optional(index).is_none() {
        let name = tensors.name(index);
        let message = format!("`{name}` is null, which `noise` needs");
        return Err(Failure::new(Status::NullPointer, message));
    }
    let seed =
        or_else(builder, tensors, index, |builder| Ok(builder.constant(&[1, 2], &[0u32; 2])))?;
    match *builder.shape(seed) {
        [2] => builder.reshape(seed, &[1, 2]),
        _ => Ok(seed),
    }
}

/// The noise levels as a matrix of one row, or of several.
fn levels(builder: &mut Builder, tensors: &Tensors<'_>, index: usize) -> Result<Value, Failure> {
    let noise =
        or_else(builder, tensors, index, |builder| Ok(builder.constant(&[1, 4], &[0f32; 4])))?;
    match *builder.shape(noise) {
        [4] => builder.reshape(noise, &[1, 4]),
        _ => Ok(noise),
    }
}

/// The numbers from 0 on, `apart` from each other, u32.
fn ids(builder: &mut Builder, count: usize, apart: usize) -> Result<Value, Failure> {
    let ids = builder.op(
        "iota",
        &[],
        &[
            ("dtype", Attr::Str("u32")),
            ("shape", Attr::Ints(&integers(&[count]))),
            ("dimension", Attr::Int(0)),
        ],
    )?;
    let apart = builder.constant(&[], &[apart as u32]);
    builder.op("mul", &[ids, apart], &[])
}

/// The operands from `bias` to `columns`, for tensors from number 3 on.
fn operands(
    builder: &mut Builder,
    tensors: &Tensors<'_>,
    chain: &Chain,
    rows: Value,
    columns: usize,
) -> Result<Vec<Value>, Failure> {
    let is_converted = !matches!(chain.bits[2], 0 | 24..);
    let none = |builder: &mut Builder| Ok(builder.constant::<f32>(&[0], &[]));
    Ok(vec![
        or_else(builder, tensors, 3, |builder| Ok(builder.constant(&[1], &[0f32])))?,
        or_else(builder, tensors, 4, none)?,
        or_else(builder, tensors, 5, none)?,
        range(builder, tensors, 6, is_converted, &[1])?,
        levels(builder, tensors, 7)?,
        seed(builder, tensors, 8, chain.noisy)?,
        rows,
        ids(builder, columns, 1)?,
    ])
}

const FLOATS: &[usize] = &[0, 1, 2, 3, 4, 5, 6, 7];

/// `out = ADC(DAC(x) · DAC(w) + bias + σ·ε)`, of the op `optical_matmul`
pub(in super::super) fn matmul(
    tensors: &Tensors<'_>,
    dac_bits: c_int,
    weight_bits: c_int,
    adc_bits: c_int,
    array_rows: usize,
) -> Result<Definition, Failure> {
    let noisy = tensors.optional(7).is_some();
    let chain = Chain { bits: [dac_bits, weight_bits, adc_bits], array_rows, noisy };
    chain.check(tensors, FLOATS, 8)?;
    let (x, w) = (tensors.get(1)?.fact(), tensors.get(2)?.fact());
    let (&[rows, _], &[_, columns]) = (&*x.shape, &*w.shape) else {
        return Err(tensors.bad_shape(format!("`x` and `w` must be matrices, got {x} and {w}")));
    };
    let mut builder = Builder::new();
    let mut values = vec![builder.tensor(tensors, 1)?, builder.tensor(tensors, 2)?];
    let row_ids = ids(&mut builder, rows, 1)?;
    values.extend(operands(&mut builder, tensors, &chain, row_ids, columns)?);
    let mut attributes = chain.attributes().to_vec();
    attributes.push(("transpose_weight", Attr::Bool(false)));
    let out = builder.op("optical_matmul", &values, &attributes)?;
    builder.finish(tensors, out)
}

/// The same of the patches of images, of the op `optical_conv`: x \[B,H,W,C\], kernel \[KH,KW,C / groups,N\]
#[expect(clippy::too_many_arguments, reason = "they are those of the C function")]
pub(in super::super) fn conv(
    tensors: &Tensors<'_>,
    dac_bits: c_int,
    weight_bits: c_int,
    adc_bits: c_int,
    array_rows: usize,
    pads: *const i64,
    strides: *const i64,
    dilations: *const i64,
    groups: usize,
) -> Result<Definition, Failure> {
    let noisy = tensors.optional(7).is_some();
    let chain = Chain { bits: [dac_bits, weight_bits, adc_bits], array_rows, noisy };
    chain.check(tensors, FLOATS, 8)?;
    let (out, x, kernel) = (tensors.get(0)?, tensors.get(1)?.fact(), tensors.get(2)?.fact());
    let (&[_, height, width, _], &[images, ..], &[.., columns]) =
        (&*out.fact().shape, &*x.shape, &*kernel.shape)
    else {
        let out = out.fact();
        let message = format!("images and kernels have 4 axes, got {out}, {x} and {kernel}");
        return Err(tensors.bad_shape(message));
    };
    // SAFETY: the creation says that there are two numbers of each.
    let [pads, strides, dilations] = unsafe { windows(pads, strides, dilations, 2) }?;
    let padding = [pads[0], pads[0], pads[1], pads[1]];
    let groups = i64::try_from(groups)
        .map_err(|_| tensors.bad_parameter(format!("`groups` is too large: {groups}")))?;
    let mut builder = Builder::new();
    let mut values = vec![builder.tensor(tensors, 1)?, builder.tensor(tensors, 2)?];
    let rows = ids(&mut builder, images, height.wrapping_mul(width))?;
    values.extend(operands(&mut builder, tensors, &chain, rows, columns)?);
    let mut attributes = chain.attributes().to_vec();
    attributes.extend([
        ("window_strides", Attr::Ints(&strides)),
        ("padding", Attr::Ints(&padding)),
        ("input_dilation", Attr::Ints(&[1, 1])),
        ("kernel_dilation", Attr::Ints(&dilations)),
        ("feature_group_count", Attr::Int(groups)),
    ]);
    let out = builder.op("optical_conv", &values, &attributes)?;
    builder.finish(tensors, out)
}
