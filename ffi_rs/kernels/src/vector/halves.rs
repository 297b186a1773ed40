//! f16 as f32 and back, by the instructions that the CPU has for it.

use half::slice::HalfFloatSliceExt;

use crate::f16;
use crate::isa::Isa;

/// `out[i] = x[i]`
pub(crate) fn widen_f16(isa: Isa, x: &[f16], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: these values exist only where `detect` saw the features.
        return unsafe { f16c::widen(x, out) };
    }
    let _ = isa;
    x.convert_to_f32_slice(out);
}

/// `out[i] = x[i]`, rounded to the nearest one, half to even.
pub(crate) fn narrow_f16(isa: Isa, x: &[f32], out: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        // SAFETY: these values exist only where `detect` saw the features.
        return unsafe { f16c::narrow(x, out) };
    }
    let _ = isa;
    out.convert_from_f32_slice(x);
}

/// In loops that the instructions are part of, which those of `half` are not.
#[cfg(target_arch = "x86_64")]
mod f16c {
    use std::arch::x86_64::*;

    use crate::f16;

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen(x: &[f16], out: &mut [f32]) {
        let ((x, rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
        for (x, out) in x.iter().zip(out) {
            // SAFETY: eight numbers are read, and eight are written.
            unsafe {
                let halves = _mm_loadu_si128(x.as_ptr().cast());
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves));
            }
        }
        for (x, out) in rest.iter().zip(out_rest) {
            *out = x.to_f32();
        }
    }

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn narrow(x: &[f32], out: &mut [f16]) {
        let ((x, rest), (out, out_rest)) = (x.as_chunks::<8>(), out.as_chunks_mut::<8>());
        for (x, out) in x.iter().zip(out) {
            // SAFETY: eight numbers are read, and eight are written.
            unsafe {
                let words = _mm256_loadu_ps(x.as_ptr());
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(words);
                _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
            }
        }
        for (x, out) in rest.iter().zip(out_rest) {
            *out = f16::from_f32(*x);
        }
    }
}
