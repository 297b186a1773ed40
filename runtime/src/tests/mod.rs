//! Regions, by a loop that only these tests have.

#[path = "../../tests/it/build.rs"]
#[allow(dead_code, unused_imports)]
mod build;
#[path = "../decode/proto.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod proto;
mod regions;
pub(crate) mod repeat;
