//! Any bytes as the graph of a file whose container is right: the test vectors in it run, or
//! there is an error, never a panic.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use lumina_runtime::{Model, Options, verify};

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16 };

const HEADER: usize = 32;
const ENTRY: usize = 32;
/// Of the tensors and of the test vectors.
const SECTION: usize = 1024;

fuzz_target!(|graph: &[u8]| {
    let file = file(graph);
    if let Ok(model) = Model::from_bytes(&file) {
        let bound = 4096 + 32 * file.len();
        assert!(model.describe().len() <= bound && model.to_json().len() <= bound);
        let _ = verify(&Arc::new(model), OPTIONS);
    }
});

/// A file with this graph, and zeros in every other section.
fn file(graph: &[u8]) -> Vec<u8> {
    let zeros = [0; SECTION];
    let sections = [graph, &zeros, &zeros, &zeros];
    let header_len = HEADER + ENTRY * sections.len();
    let (mut table, mut body) = (Vec::new(), Vec::new());
    for (kind, bytes) in (1u32..).zip(sections) {
        let offset = (header_len + body.len()).next_multiple_of(64);
        body.resize(offset - header_len, 0);
        body.extend_from_slice(bytes);
        table.extend(kind.to_le_bytes());
        table.extend(0u32.to_le_bytes());
        table.extend((offset as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(64u32.to_le_bytes());
        table.extend(crc32c::crc32c(bytes).to_le_bytes());
    }
    let mut file = Vec::from(*b"LMN\x1a\x01\0\0\0");
    file.extend((header_len as u32).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    file.extend(((header_len + body.len()) as u64).to_le_bytes());
    file.extend((sections.len() as u32).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    file.extend(table);
    let crc = crc32c::crc32c(&file);
    file[28..32].copy_from_slice(&crc.to_le_bytes());
    file.extend(body);
    file
}
