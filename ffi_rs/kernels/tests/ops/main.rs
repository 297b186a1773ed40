//! What is the same whatever the instruction set: which results there are, which zeros, which refusals.
#![allow(missing_docs)]

mod causal_softmax;
mod conv;
mod forward;
mod gradient;
mod ranges;
#[path = "../support/mod.rs"]
mod support;
