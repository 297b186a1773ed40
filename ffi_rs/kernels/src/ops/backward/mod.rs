//! The gradient of the chain with one matrix product.
//!
//! - `context`: one call. `product_plan`: in which numbers its products are computed.
//! - `stored_weights`: w as it lies in memory. `transposed_weights`: w as an operand of dx. `dz`: rows of dz, and of x as an operand of dw.
//! - `dx`, `dw`: the two products, and what comes after them.
//! - `schedule`: who computes which part when.
//! - `steps`, `rounding`: loops over pieces of a row.

mod context;
mod dw;
mod dx;
mod dz;
mod product_plan;
mod rounding;
mod schedule;
mod steps;
mod stored_weights;
mod transposed_weights;

pub(super) use context::Request;
pub(super) use product_plan::Precision;
pub(super) use schedule::{Gradients, run};
