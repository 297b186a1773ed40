//! The types of numbers that a chain is of.

use crate::Complex32;
use crate::dtype::Element;

/// A number of a chain, real or complex.
pub trait Number: Element + std::fmt::Debug {
    /// Whether it is complex.
    const COMPLEX: bool;
    /// Names of the ops: that of inference, that of training, and their gradient.
    const MATMUL: &'static str;
    #[doc(hidden)]
    const MATMUL_FWD: &'static str;
    #[doc(hidden)]
    const MATMUL_GRAD: &'static str;
}

impl Number for f32 {
    const COMPLEX: bool = false;
    const MATMUL: &'static str = "optical_matmul";
    const MATMUL_FWD: &'static str = "optical_matmul_fwd";
    const MATMUL_GRAD: &'static str = "optical_matmul_grad";
}

impl Number for Complex32 {
    const COMPLEX: bool = true;
    const MATMUL: &'static str = "complex_optical_matmul";
    const MATMUL_FWD: &'static str = "complex_optical_matmul_fwd";
    const MATMUL_GRAD: &'static str = "complex_optical_matmul_grad";
}
