//! One file per op, and what they share.

mod attention;
mod backward;
mod causal_softmax;
mod causal_softmax_grad;
mod chain;
mod complex_matmul;
mod conv;
mod dequantize;
mod forward;
mod optical_attention;
mod optical_attention_grad;
mod optical_conv;
mod optical_conv_fwd;
mod optical_conv_grad;
mod optical_matmul;
mod optical_matmul_fwd;
mod optical_matmul_grad;
mod optical_noise;
mod quantize;
mod seen;
mod sizes;

pub use causal_softmax::CausalSoftmax;
pub use causal_softmax_grad::CausalSoftmaxGrad;
pub use chain::Number;
pub use complex_matmul::ComplexMatmul;
pub use dequantize::Dequantize;
pub use optical_attention::OpticalAttention;
pub use optical_attention_grad::OpticalAttentionGrad;
pub use optical_conv::OpticalConv;
pub use optical_conv_fwd::OpticalConvFwd;
pub use optical_conv_grad::OpticalConvGrad;
pub use optical_matmul::{ComplexOpticalMatmul, OpticalMatmul};
pub use optical_matmul_fwd::{ComplexOpticalMatmulFwd, OpticalMatmulFwd};
pub use optical_matmul_grad::{ComplexOpticalMatmulGrad, OpticalMatmulGrad};
pub use optical_noise::OpticalNoise;
pub use quantize::Quantize;
