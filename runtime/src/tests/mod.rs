//! What no op of the product does yet, by ops that only these tests have: regions, and constants that
//! are computed or prepared once.

#[path = "../../tests/it/build.rs"]
#[allow(dead_code, unused_imports)]
pub(crate) mod build;
pub(crate) mod choose;
pub(crate) mod constants;
pub(crate) mod prepared;
#[path = "../../tests/it/proto.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
pub(crate) mod proto;
mod regions;
pub(crate) mod repeat;
mod states;
