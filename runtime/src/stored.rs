//! Checks of the tensors that lie in a section: weights, tables and test vectors.

use lumina_kernels::{DType, Fact};

use crate::Error;
use crate::bytes::ALIGN;
use crate::container::{Contents, SectionKind};
use crate::infer::check_size;
use crate::ir::{Module, Port, Quantization, Stored, Tensor};
use crate::tensor::byte_size;

/// Checks the constants of a file.
pub(crate) fn check_tensors(tensors: &[Tensor], contents: Contents<'_>) -> Result<(), Error> {
    for tensor in tensors {
        let fault = |message| Error::graph(tensor.place(), message);
        check_range(&tensor.stored, contents, SectionKind::Weights).map_err(fault)?;
        if let Some(quantization) = &tensor.quantization {
            check_quantization(quantization, &tensor.stored.fact, contents).map_err(fault)?;
        }
    }
    let tensors = tensors.iter().map(|tensor| (&tensor.stored, tensor));
    check_bytes(tensors.collect(), contents.section(SectionKind::Weights), |tensor| tensor.place())
}

/// Checks what lies in a section for the test vectors, whose entry points there are.
pub(crate) fn check_tests(module: &Module, contents: Contents<'_>) -> Result<(), Error> {
    let place = |&(index, what, port): &(usize, &str, &Port)| {
        format!("test vector {index}, {what} `{}`", port.name)
    };
    let mut all = Vec::new();
    for (index, test) in module.tests.iter().enumerate() {
        let graph = &module.entries[test.entry];
        for (what, tensors, ports) in
            [("input", &test.inputs, &graph.inputs), ("output", &test.outputs, &graph.outputs)]
        {
            if tensors.len() != ports.len() {
                let message = format!("expected {} {what}s, got {}", ports.len(), tensors.len());
                return Err(Error::graph(format!("test vector {index}"), message));
            }
            for (stored, port) in tensors.iter().zip(ports) {
                let got = stored.fact.dtype;
                let result = if got == port.dtype {
                    check_range(stored, contents, SectionKind::Meta)
                } else {
                    Err(format!("expected {}, got {got}", port.describe(&graph.symbols)))
                };
                result.map_err(|message| Error::graph(place(&(index, what, port)), message))?;
                all.push((stored, (index, what, port)));
            }
        }
    }
    check_bytes(all, contents.section(SectionKind::Meta), place)
}

/// Checks that a tensor lies in its section.
fn check_range(stored: &Stored, contents: Contents<'_>, kind: SectionKind) -> Result<(), String> {
    let Stored { fact, offset } = stored;
    check_size(fact)?;
    let bytes = contents.section(kind);
    if !offset.is_multiple_of(ALIGN as u64) {
        return Err(format!("`offset` must be a multiple of {ALIGN}, got {offset}"));
    }
    let size = byte_size(fact).unwrap_or(usize::MAX) as u64;
    match offset.checked_add(size) {
        Some(end) if end <= bytes.len() as u64 => Ok(()),
        _ => Err(format!(
            "{fact} at offset {offset} reaches beyond section {kind} of {} bytes",
            bytes.len()
        )),
    }
}

/// Checks that no two of the tensors in `section` share bytes, so that what is done with each of them
/// takes no longer than reading the section, and that truth values are 0 or 1. `place` says where a
/// fault is.
fn check_bytes<T>(
    mut tensors: Vec<(&Stored, T)>,
    section: &[u8],
    place: impl Fn(&T) -> String,
) -> Result<(), Error> {
    tensors.retain(|(stored, _)| !stored.range().is_empty());
    tensors.sort_by_key(|(stored, _)| stored.offset);
    let overlap = tensors.windows(2).find(|pair| pair[1].0.range().start < pair[0].0.range().end);
    if let Some([(_, first), (_, second)]) = overlap {
        let message = format!("its bytes are also those of {}", place(first));
        return Err(Error::graph(place(second), message));
    }
    let is_wrong = |stored: &Stored| {
        stored.fact.dtype == DType::Bool && section[stored.range()].iter().any(|&byte| byte > 1)
    };
    match tensors.iter().find(|(stored, _)| is_wrong(stored)) {
        None => Ok(()),
        Some((_, wrong)) => Err(Error::graph(place(wrong), "a truth value must be 0 or 1")),
    }
}

fn check_quantization(q: &Quantization, fact: &Fact, contents: Contents<'_>) -> Result<(), String> {
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
    check_range(&table, contents, SectionKind::Luts)
        .map_err(|message| format!("quantization: {message}"))
}
