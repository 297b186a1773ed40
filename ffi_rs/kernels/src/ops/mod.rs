//! One file per op.

mod epilogue;
mod grad_panels;
mod grad_partial_sums;
mod grad_products;
mod grad_rows;
mod grad_steps;
pub(crate) mod operands;
mod optical_matmul;
mod optical_matmul_grad;
mod optical_noise;
mod packed_weights;
mod prepare;
mod quantize;
mod rounding;

pub use optical_matmul::OpticalMatmul;
pub use optical_matmul_grad::OpticalMatmulGrad;
pub use optical_noise::OpticalNoise;
pub use quantize::Quantize;
