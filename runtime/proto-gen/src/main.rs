//! Writes `runtime/tests/it/proto.rs` from `runtime/proto/lmn.proto`:
//! `cargo run --manifest-path runtime/proto-gen/Cargo.toml`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let descriptors = protox::compile(["lmn.proto"], [runtime.join("proto")])?;
    let scratch = tempfile::tempdir()?;
    prost_build::Config::new()
        .btree_map(["."])
        .out_dir(scratch.path())
        .compile_fds(descriptors)?;
    std::fs::copy(scratch.path().join("lumina.lmn.v1.rs"), runtime.join("tests/it/proto.rs"))?;
    Ok(())
}
