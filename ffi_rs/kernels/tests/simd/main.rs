//! What depends on the instruction set: the numbers. `LUMINA_MAX_SIMD` names the best one to use, so
//! that one machine runs these tests at each level.
#![allow(missing_docs)]

mod causal_softmax;
mod codes;
mod complex;
mod forward;
mod gradient;
mod optical_attention;
#[path = "../support/mod.rs"]
mod support;
mod tiles;
