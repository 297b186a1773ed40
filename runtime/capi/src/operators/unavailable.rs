//! Operators that others have under these names. They are there, because whoever loads the library looks
//! for them, and say that they are not.

use crate::Status;
use crate::status::{Failure, answer};

fn unavailable(name: &str) -> Status {
    answer(|| Err(Failure::new(Status::NotImplemented, format!("there is no operator {name}"))))
}

macro_rules! unavailable {
    ($($name:ident),* $(,)?) => {$(
        #[allow(non_snake_case)]
        mod $name {
            use super::*;

            #[unsafe(export_name = concat!("infiniopCreate", stringify!($name), "Descriptor"))]
            extern "C" fn create() -> Status {
                unavailable(stringify!($name))
            }

            #[unsafe(export_name = concat!("infiniopGet", stringify!($name), "WorkspaceSize"))]
            extern "C" fn workspace_size() -> Status {
                unavailable(stringify!($name))
            }

            #[unsafe(export_name = concat!("infiniop", stringify!($name)))]
            extern "C" fn run() -> Status {
                unavailable(stringify!($name))
            }

            #[unsafe(export_name = concat!("infiniopDestroy", stringify!($name), "Descriptor"))]
            extern "C" fn destroy() -> Status {
                unavailable(stringify!($name))
            }
        }
    )*};
}

#[unsafe(no_mangle)]
extern "C" fn infiniopDeepseekMoeWithDevicePtrs() -> Status {
    unavailable("DeepseekMoeWithDevicePtrs")
}

unavailable! {
    Addcmul, Asum, Atanh, Attention, AvgPool1d, AvgPool3d, AwqMarlinGemm, AwqMarlinRepack, Axpy,
    BCEWithLogits, BlasAmax, BlasAmin, BlasCopy, BlasDot, Cdist, ChunkGatedDeltaRule,
    CrossEntropy, DeepseekMoe, DequantizeAWQ, DequantizeGPTQ, Dot, Equal, Erf, Erfc, Erfinv,
    FusedFFN, FusedGatedDeltaNetGating, FusedMoe, GptqMarlinGemm, GptqMarlinRepack,
    GptqQyblasGemm, HardSwish, HardTanh, Histc, I8Gemm, KVCaching, LPNorm, Log10, Log1p, MRoPE,
    MatrixPower, Mxfp4Dequantize, Nrm2, NsaCompressPagedCache, NsaPagedAttention, PagedAttention,
    PagedAttentionPrefill, PagedCaching, PerChannelQuantI8, PerTensorDequantI8, PerTensorQuantI8,
    PixelShuffle, RandomSample, Reciprocal, RecurrentGatedDeltaRule, Rot, Rotg, Rotm, Rotmg, Scal,
    SiluAndMul, Swap, Topkrouter, Topksoftmax,
}
