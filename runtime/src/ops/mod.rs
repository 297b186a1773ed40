//! The graph ops: JAX primitives by name and meaning. One list registers them.

mod argmax;
mod binary;
mod common;
mod contraction;
mod convert;
mod cumsum;
mod join;
mod reduce;
mod select;
mod shape;
mod source;
mod strided;
mod threefry;
mod unary;

pub(crate) use common::{element_arms, with_element};
pub(crate) use convert::{Convert, Number};
use lumina_kernels::Entry;

macro_rules! entries {
    ($($module:ident: $($op:ident)+;)+) => {
        /// The ops of this crate; those of the kernels are beside them in a graph.
        pub(crate) static OPS: &[Entry] = &[$($(Entry::of::<$module::$op>()),+),+];
    };
}

entries! {
    unary: Exp Exp2 Log Log1p Expm1 Tanh Logistic Erf Erfc Sin Cos Tan Sqrt Rsqrt Cbrt Floor Ceil
        Round Neg Abs Sign Square IntegerPow IsFinite Not Copy;
    binary: Add Sub Mul Div Rem Max Min Pow Atan2 And Or Xor ShiftLeft ShiftRightLogical
        ShiftRightArithmetic Eq Ne Lt Le Gt Ge;
    select: SelectN Clamp;
    convert: ConvertElementType;
    reduce: ReduceSum ReduceProd ReduceMax ReduceMin ReduceAnd ReduceOr;
    argmax: Argmax Argmin;
    cumsum: Cumsum;
    contraction: DotGeneral;
    shape: BroadcastInDim Reshape Transpose Slice Squeeze Rev;
    join: Concatenate Split Pad;
    source: Iota DimAsValue;
    threefry: FoldIn Split;
}
