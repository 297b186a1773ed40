//! Files of every format version that was ever released still load and compute the same numbers.

use std::path::Path;
use std::sync::Arc;

use lumina_runtime::{Model, Options, verify};

#[test]
fn old_files_still_verify() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let model = Model::load(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let comparisons = verify(&Arc::new(model), Options::default()).unwrap();
        assert!(comparisons.iter().all(|c| c.passed), "{path:?}: {comparisons:?}");
        count += 1;
    }
    assert!(count >= 4);
}
