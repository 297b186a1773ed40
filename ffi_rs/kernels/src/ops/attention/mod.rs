//! Attention, a head and a block of its queries at a time.
//!
//! - `call`: operands, their checks and sizes.
//! - `head`: keys and values of one head, its ranges, and what each of its queries sees.
//! - `block`: scores, probabilities and outputs of some queries of a head.
//! - `gradient`: the same once more, and back.

mod block;
mod call;
mod gradient;
mod head;

pub(super) use call::{Call, Request, work};
pub(super) use gradient::{Gradients, PER_HEAD};
