//! The pieces of the signal chain, each for any op that has it:
//!
//! ```text
//! x ─ DAC ─┐
//!          ├─ product ─ + bias ─ + σ·ε ─ ADC ─ out
//! w ─ DAC ─┘
//! ```
//!
//! - `attributes`: the converters, as attributes say. `checks`: of shapes.
//! - `number`: the types of numbers. `operands`: ranges and noise by row and by column.
//! - `noise`: σ, its derivatives, and ε of some rows and columns. `circular`: those of complex numbers.
//! - `peaks`: largest magnitudes, the full scales of converters that are given none.
//! - `inputs`: rows of x through their DAC. `format`: what a product takes of a number.
//! - `weights`, `weight_codes`, `packed_weights`: w through its DAC, as the rhs of a product.
//!   `coded_weights`: w that is given by codes.
//! - `tiles`: inputs by array, where one does not have them all.
//! - `epilogue`: what comes after the product. `residual`: what the backward op needs to know of it.
//!
//! None of them knows how rows of x and columns of w come about, nor who multiplies them when.

mod attributes;
mod checks;
mod circular;
mod coded_weights;
mod epilogue;
mod format;
mod inputs;
mod noise;
mod number;
mod operands;
mod packed_weights;
mod peaks;
mod residual;
mod tiles;
mod weight_codes;
mod weights;

pub(super) use attributes::Chain;
pub(super) use checks::{Broadcast, by_column, extents, floats, floats_mut, matrix, matrix_of};
pub(super) use coded_weights::{CodedWeights, is_through_dac, is_wide};
pub(super) use epilogue::{Common, Row, accumulate, finish};
pub(super) use format::{OperandFormat, ProductPlan, pack_line, zero_point_correction};
pub(super) use inputs::{InputRow, code_row, code_rows, convert_row, x_norm_sq_of_row};
pub(super) use noise::{NoiseSums, RowNoise};
pub use number::Number;
pub(super) use operands::{Operands, check_ranges_and_noise};
pub(super) use packed_weights::PackedWeights;
pub(super) use peaks::peak_of;
pub(super) use residual::{NO_SIGN, NO_SLOPE, Residual, Saved};
pub(super) use weights::{Weights, write_rotated};
