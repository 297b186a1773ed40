//! Constants that are computed when the file is written.

use lumina_kernels::Serial;

use super::MAX_BYTES;
use super::builder::Builder;
use super::call::{Call, Value};
use crate::bytes::AlignedBytes;
use crate::tensor::{byte_size, view, view_mut};

/// Weights of packed codes, as the numbers that they stand for.
pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let (Some(op), "dequantize") = (call.op, call.node.op.as_str()) else { return Ok(None) };
    let tensors = call.inputs.iter().map(|value| b.tensor(value.tensor?));
    let tensors: Vec<_> =
        tensors.collect::<Option<_>>().ok_or("its codes must be constants of the file")?;
    let text = |error: lumina_kernels::Error| error.to_string();
    let views = tensors.iter().map(|(tensor, bytes)| view(&tensor.stored.fact, bytes));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(text)?;
    let fact = &call.outputs[0];
    let size = byte_size(fact).filter(|&size| size as u128 <= MAX_BYTES);
    let size = size.ok_or_else(|| format!("{fact} is more than an ONNX file can hold"))?;
    let mut bytes = AlignedBytes::zeroed(size).map_err(|error| error.to_string())?;
    let mut out = [view_mut(fact, &mut bytes).map_err(text)?];
    op.run(&views, &mut out, &Serial).map_err(text)?;
    let name = tensors[0].0.name.clone();
    b.add_constant(&name, fact, bytes.to_vec()).map(Some)
}
