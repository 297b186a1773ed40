//! Any bytes: an error or a model, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lumina_runtime::Model;

fuzz_target!(|bytes: &[u8]| {
    let _ = Model::from_bytes(bytes);
});
