//! The signed mid-tread quantizer of every DAC and ADC.
//!
//! ```text
//! Q = 2^(bits-1) - 1,  step = full_scale / Q,  code = clamp(rint(v / step), -Q, Q),  value = code · step
//! ```
//!
//! `rint` rounds half to even. One bit has the two levels ±full_scale, the upper for v ≥ 0.
//! A value that is not finite gives NaN; a full scale that is negative or NaN gives NaN; a full
//! scale of 0 gives 0.

mod code;
mod columns;
mod converter;

pub(crate) use code::{
    Bits, beyond, code_and_distance, code_of_bits, fixed_code, fixed_integer, fixed_sum, integer,
    within,
};
pub(crate) use columns::{Columns, Quantizers};
pub(crate) use converter::{
    Codes, Converted, Converter, PIECE, Target, convert, convert_body, convert_rows_to, convert_to,
    mask, mask_invalid, padded, through,
};
