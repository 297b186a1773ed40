//! Small networks whose test vectors were computed on an x86-64 CPU: other CPUs compute the same, of
//! integers and of the optical ops to the bit.

use std::path::Path;
use std::sync::Arc;

use lumina_runtime::{Model, Options, verify};

#[test]
fn networks_compute_the_same_on_every_cpu() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let model = Model::load(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let model = Arc::new(model);
        for threads in [1, 3] {
            let options = Options { threads, ..Options::default() };
            let comparisons = verify(&model, options).unwrap();
            assert!(!comparisons.is_empty(), "{path:?}");
            assert!(comparisons.iter().all(|c| c.passed), "{path:?}: {comparisons:?}");
        }
        names.push(path.file_stem().unwrap().to_str().unwrap().to_string());
    }
    names.sort();
    assert_eq!(names, ["cnn", "cnn_fused", "gpt", "gpt_fused", "optical_cnn"]);
}
