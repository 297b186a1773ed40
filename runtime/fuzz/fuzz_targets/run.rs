//! Any bytes as the graph of a file whose container is right: the test vectors in it run, or
//! there is an error, never a panic.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lumina_runtime::{Model, Options, verify};

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16, trip_limit: 1 << 12 };

#[path = "../graph_file.rs"]
mod graph_file;

fuzz_target!(|graph: &[u8]| {
    let file = graph_file::file(graph);
    if let Ok(model) = Model::from_bytes(&file) {
        let bound = 4096 + 32 * file.len();
        assert!(model.describe().len() <= bound && model.to_json().len() <= bound);
        let _ = verify(&Arc::new(model), OPTIONS);
    }
});
