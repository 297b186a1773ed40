//! Checks of the tensors that lie in a section: weights, tables and test vectors.

use lumina_kernels::{DType, Fact};

use crate::Error;
use crate::bytes::ALIGN;
use crate::container::{Container, SectionKind};
use crate::infer::check_size;
use crate::ir::{Graph, Quantization, Stored, Tensor};
use crate::tensor::byte_size;

/// Checks a constant of the graph.
pub(crate) fn check_tensor(tensor: &Tensor, container: &Container) -> Result<(), Error> {
    let fault = |message| Error::graph(tensor.place(), message);
    check_stored(&tensor.stored, container, SectionKind::Weights).map_err(fault)?;
    let Some(quantization) = &tensor.quantization else { return Ok(()) };
    check_quantization(quantization, &tensor.stored.fact, container).map_err(fault)
}

/// Checks the inputs or the outputs of a test vector.
pub(crate) fn check_test(
    graph: &Graph,
    what: &str,
    index: usize,
    container: &Container,
) -> Result<(), Error> {
    let test = &graph.tests[index];
    let (tensors, ports) = match what {
        "input" => (&test.inputs, &graph.inputs),
        _ => (&test.outputs, &graph.outputs),
    };
    let vector = format!("test vector {index}");
    if tensors.len() != ports.len() {
        let message = format!("expected {} {what}s, got {}", ports.len(), tensors.len());
        return Err(Error::graph(vector, message));
    }
    for (stored, port) in tensors.iter().zip(ports) {
        let got = stored.fact.dtype;
        let result = if got == port.dtype {
            check_stored(stored, container, SectionKind::Meta)
        } else {
            Err(format!("expected {}, got {got}", port.describe(&graph.symbols)))
        };
        result.map_err(|message| {
            Error::graph(format!("{vector}, {what} `{}`", port.name), message)
        })?;
    }
    Ok(())
}

/// Checks that a tensor lies in its section, and that its truth values are 0 or 1.
fn check_stored(stored: &Stored, container: &Container, kind: SectionKind) -> Result<(), String> {
    let Stored { fact, offset } = stored;
    check_size(fact)?;
    let bytes = container.section(kind);
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
    let stored = &bytes[*offset as usize..end as usize];
    if fact.dtype == DType::Bool && stored.iter().any(|&byte| byte > 1) {
        return Err("a truth value must be 0 or 1".into());
    }
    Ok(())
}

fn check_quantization(q: &Quantization, fact: &Fact, container: &Container) -> Result<(), String> {
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
    if scales != channels && !(scales == 0 && q.lut.is_some()) {
        return Err(format!("quantization: expected {channels} `scales`, got {scales}"));
    }
    if zero_points != 0 && zero_points != channels {
        return Err(format!(
            "quantization: expected 0 or {channels} `zero_points`, got {zero_points}"
        ));
    }
    let Some((offset, length)) = q.lut else { return Ok(()) };
    let table = Stored { fact: Fact::new(DType::F32, [length as usize]), offset };
    check_stored(&table, container, SectionKind::Luts)
        .map_err(|message| format!("quantization: {message}"))
}
