//! The C ABI, called as C calls it.

#[path = "../../../tests/it/build.rs"]
#[allow(dead_code)]
mod build;
#[path = "../../../tests/it/proto.rs"]
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod proto;

mod call;
mod files;
mod layouts;
mod models;
mod programs;
mod random;
mod sessions;
mod states;
mod threads;
