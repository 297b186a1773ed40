//! What the runtime is built from.

use std::process::Command;

#[test]
fn there_is_no_python() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "lumina-runtime", "--edges", "normal", "--prefix", "none"])
        .args(["--all-features", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("lumina-kernels"), "{}", String::from_utf8_lossy(&output.stderr));
    for krate in ["pyo3", "numpy", "python3-sys"] {
        assert!(!tree.lines().any(|line| line.starts_with(krate)), "{tree}");
    }
}
