//! C ← A·B, C ← C + A·B or C ← C + (A·B)·scale, on register tiles of 32-bit words.
//!
//! What a word holds is said by [`Packing`](crate::packing::Packing). Every element of C is one chain of
//! sums over the depth, in order, whatever tile it falls in: results do not depend on how rows and
//! columns are split.

mod columnwise;
mod matmul;
mod micro_kernel;
mod multiply;
mod operands;
mod peak;
mod real;
mod tile;

pub use columnwise::multiply_columnwise;
pub use matmul::{Columns, Matrix, matmul};
pub(crate) use multiply::multiply;
pub(crate) use operands::{Accumulate, Lhs, Rhs};
pub(crate) use peak::add_products;
pub(crate) use real::{Part, Real, Rows, WHOLE_COLUMNS};
