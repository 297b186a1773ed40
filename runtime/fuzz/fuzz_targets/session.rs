//! Any bytes as a graph, and any order in which its entry points run: sessions that were reset give
//! what new ones give, and nothing panics.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lumina_runtime::{Fact, Model, Options, Session, Tensor, View};

#[path = "../graph_file.rs"]
mod graph_file;

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16, trip_limit: 1 << 12 };

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (order, graph) = input;
    let Ok(model) = Model::from_bytes(&graph_file::file(graph)) else { return };
    let model = Arc::new(model);
    let Ok(mut session) = Session::new(Arc::clone(&model), OPTIONS) else { return };
    let first = run_all(&model, &mut session, &order);
    session.reset();
    assert_eq!(run_all(&model, &mut session, &order), first);
});

/// The bytes of all outputs, or the error, of each run.
fn run_all(model: &Model, session: &mut Session, order: &[u8]) -> Vec<Result<Vec<u8>, String>> {
    order
        .iter()
        .take(8)
        .map(|&number| {
            let entry = usize::from(number) % (model.entries().len() + 1);
            run(model, session, entry).map_err(|error| error.to_string())
        })
        .collect()
}

/// Runs an entry point on zeros; an extent that may vary is 2.
fn run(
    model: &Model,
    session: &mut Session,
    entry: usize,
) -> Result<Vec<u8>, lumina_runtime::Error> {
    let mut inputs = Vec::new();
    for port in model.inputs_of(entry)? {
        let shape: Vec<usize> = port.extents().iter().map(|extent| extent.unwrap_or(2)).collect();
        let elements = shape.iter().try_fold(1usize, |size, &extent| size.checked_mul(extent));
        let bytes = elements.and_then(|count| count.checked_mul(port.dtype.size()));
        match bytes {
            Some(bytes) if bytes <= 1 << 16 => {
                inputs.push(Tensor::from_bytes(Fact::new(port.dtype, shape), &vec![0; bytes])?);
            }
            _ => return Ok(Vec::new()),
        }
    }
    let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
    let outputs = session.run_entry(entry, &views)?;
    let mut bytes = Vec::new();
    for output in &outputs {
        bytes.extend_from_slice(output.bytes()?);
    }
    Ok(bytes)
}
