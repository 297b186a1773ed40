//! The ops of Lumina-JAX, as plain Rust: no Python, no XLA, no protobuf.
//!
//! Every front end (the XLA handlers, the NumPy entry, the edge runtime) is generated from
//! [`for_each_op!`].

mod activation;
mod codes;
mod disjoint;
mod dtype;
mod error;
mod exp;
mod gemm;
mod halves;
mod isa;
mod layout;
pub mod machine;
mod noise;
mod op;
pub mod ops;
mod pack;
mod packing;
mod par;
mod quantizer;
mod rows;
mod scratch;
mod tensor;
mod tuning;
mod vector;

pub use activation::Activation;
pub use codes::{Coded, coded_matmul};
pub use dtype::*;
pub use error::Error;
pub use exp::exp_of_any;
pub use gemm::{Columns, Matrix, matmul, multiply_columnwise};
pub use halves::Half;
pub use layout::Layout;
pub use op::{Attr, Attrs, DynOp, Entry, Make, Op, Work};
pub use par::{Job, ParFor, Serial, ThreadPool};
pub use rows::{normalize_rows, softmax_rows};
pub use tensor::{
    Fact, Strided, Strides, View, ViewMut, is_nested, is_row_major, reach, row_major_strides,
};
pub use vector::FlushDenormals;

/// Calls `$callback!` with the type of every op: the one list of ops.
#[macro_export]
macro_rules! for_each_op {
    ($callback:ident) => {
        $callback! {
            $crate::ops::CausalSoftmax,
            $crate::ops::CausalSoftmaxGrad,
            $crate::ops::OpticalAttention,
            $crate::ops::OpticalAttentionGrad,
            $crate::ops::OpticalConv,
            $crate::ops::OpticalConvFwd,
            $crate::ops::OpticalConvGrad,
            $crate::ops::ComplexMatmul,
            $crate::ops::ComplexOpticalMatmul,
            $crate::ops::ComplexOpticalMatmulFwd,
            $crate::ops::ComplexOpticalMatmulGrad,
            $crate::ops::Dequantize,
            $crate::ops::OpticalMatmul,
            $crate::ops::OpticalMatmulFwd,
            $crate::ops::OpticalMatmulGrad,
            $crate::ops::OpticalNoise,
            $crate::ops::Quantize,
        }
    };
}

macro_rules! entries {
    ($($op:ty),* $(,)?) => {
        /// The ops of this crate by name.
        pub static OPS: &[Entry] = &[$(Entry::of::<$op>()),*];
    };
}

for_each_op!(entries);
