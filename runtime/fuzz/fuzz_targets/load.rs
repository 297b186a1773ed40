//! Any bytes: an error or a model that can be shown, never a panic, nor more text than the file is
//! worth.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lumina_runtime::Model;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::from_bytes(bytes) {
        let bound = 4096 + 32 * bytes.len();
        assert!(model.describe().len() <= bound && model.to_json().len() <= bound);
    }
});
