//! Checks of the tensors that lie in a section: weights, tables and test vectors.

use lumina_kernels::{DType, Fact};

use crate::Error;
use crate::bytes::ALIGN;
use crate::container::{Container, SectionKind};
use crate::infer::{check_size, describe_value, dtype};
use crate::proto::{Graph, Quantization, Tensor, TestTensor, Value};
use crate::tensor::byte_size;

/// Checks a constant of the graph.
pub(crate) fn check_tensor(tensor: &Tensor, container: &Container) -> Result<(), Error> {
    let fault = |message| Error::graph(format!("tensor {} `{}`", tensor.id, tensor.name), message);
    let dtype =
        dtype(tensor.dtype).ok_or_else(|| fault(format!("unknown dtype {}", tensor.dtype)))?;
    let fact = stored_fact(dtype, &tensor.shape).map_err(fault)?;
    let weights = container.section(SectionKind::Weights);
    check_stored(&fact, tensor.offset, weights, SectionKind::Weights).map_err(fault)?;
    let Some(quantization) = &tensor.quantization else { return Ok(()) };
    let luts = container.section(SectionKind::Luts);
    check_quantization(quantization, &fact, luts).map_err(fault)
}

/// Checks the inputs or the outputs of a test vector, whose facts it returns.
pub(crate) fn check_test(
    graph: &Graph,
    what: &str,
    index: usize,
    container: &Container,
) -> Result<Vec<Fact>, Error> {
    let test = &graph.tests[index];
    let (tensors, values) = match what {
        "input" => (&test.inputs, &graph.inputs),
        _ => (&test.outputs, &graph.outputs),
    };
    let vector = format!("test vector {index}");
    if tensors.len() != values.len() {
        let message = format!("expected {} {what}s, got {}", values.len(), tensors.len());
        return Err(Error::graph(vector, message));
    }
    let meta = container.section(SectionKind::Meta);
    let check = |tensor: &TestTensor, value: &Value| {
        let dtype = dtype(tensor.dtype).ok_or_else(|| format!("unknown dtype {}", tensor.dtype))?;
        let fact = stored_fact(dtype, &tensor.shape)?;
        if tensor.dtype != value.dtype {
            return Err(format!("expected {}, got {dtype}", describe_value(value, &graph.symbols)));
        }
        check_stored(&fact, tensor.offset, meta, SectionKind::Meta)?;
        Ok(fact)
    };
    tensors
        .iter()
        .zip(values)
        .map(|(tensor, value)| {
            check(tensor, value).map_err(|message| {
                Error::graph(format!("{vector}, {what} `{}`", value.name), message)
            })
        })
        .collect()
}

/// The fact of a tensor in a section.
fn stored_fact(dtype: DType, shape: &[u64]) -> Result<Fact, String> {
    let extents =
        shape.iter().map(|&extent| usize::try_from(extent)).collect::<Result<Vec<_>, _>>();
    let extents = extents.map_err(|_| format!("shape {shape:?} is too large"))?;
    let fact = Fact::new(dtype, extents);
    check_size(&fact).map(|()| fact)
}

/// Checks that a tensor lies in its section, and that its truth values are 0 or 1.
fn check_stored(fact: &Fact, offset: u64, bytes: &[u8], kind: SectionKind) -> Result<(), String> {
    if !offset.is_multiple_of(ALIGN as u64) {
        return Err(format!("`offset` must be a multiple of {ALIGN}, got {offset}"));
    }
    let size = byte_size(fact).unwrap_or(usize::MAX) as u64;
    let end = offset.checked_add(size).filter(|&end| end <= bytes.len() as u64);
    let Some(end) = end else {
        return Err(format!(
            "{fact} at offset {offset} reaches beyond section {kind} of {} bytes",
            bytes.len()
        ));
    };
    let stored = &bytes[offset as usize..end as usize];
    if fact.dtype == DType::Bool && stored.iter().any(|&byte| byte > 1) {
        return Err("a truth value must be 0 or 1".into());
    }
    Ok(())
}

fn check_quantization(q: &Quantization, fact: &Fact, luts: &[u8]) -> Result<(), String> {
    if !(1..=32).contains(&q.bits) {
        return Err(format!("quantization: `bits` must be from 1 to 32, got {}", q.bits));
    }
    let channels = match q.axis {
        None => 1,
        Some(axis) => *fact
            .shape
            .get(axis as usize)
            .ok_or_else(|| format!("quantization: `axis` {axis} is not an axis of {fact}"))?,
    };
    let (scales, zero_points) = (q.scales.len(), q.zero_points.len());
    if scales != channels && !(scales == 0 && q.lut_offset.is_some()) {
        return Err(format!("quantization: expected {channels} `scales`, got {scales}"));
    }
    if zero_points != 0 && zero_points != channels {
        return Err(format!(
            "quantization: expected 0 or {channels} `zero_points`, got {zero_points}"
        ));
    }
    let Some(offset) = q.lut_offset else { return Ok(()) };
    let table = Fact::new(DType::F32, [q.lut_length as usize]);
    check_stored(&table, offset, luts, SectionKind::Luts)
        .map_err(|message| format!("quantization: {message}"))
}
