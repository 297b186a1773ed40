//! Registers of AArch64.

use std::arch::aarch64::*;

use super::code_isa::{CodeIsa, code_isa};
use super::dot_isa::{DotIsa, dot_isa};

dot_isa! {
    /// One f32, NEON.
    BaselineF32: 4 words, float32x4_t => float32x4_t, true {
        zero: vdupq_n_f32(0.0),
        sums: vld1q_f32,
        words: vld1q_f32,
        splat: |word| vdupq_n_f32(f32::from_bits(word)),
        add: |sums, left, right| vfmaq_f32(sums, left, right),
        store: |sums, to| vst1q_f32(to, sums),
        store_scaled: |sums, scale, add_to, to| store_scaled_4(sums, scale, add_to, to),
    }
}

dot_isa! {
    /// Two i16, NEON.
    BaselineI16: 4 words, int16x8_t => int32x4_t, false {
        zero: vdupq_n_s32(0),
        sums: vld1q_s32,
        words: vld1q_s16,
        splat: |word: u32| vreinterpretq_s16_s32(vdupq_n_s32(word as i32)),
        add: |sums, left: int16x8_t, right: int16x8_t| {
            let low = vmull_s16(vget_low_s16(left), vget_low_s16(right));
            let high = vmull_high_s16(left, right);
            vaddq_s32(sums, vpaddq_s32(low, high))
        },
        store: |sums, to| vst1q_f32(to, vcvtq_f32_s32(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_4(vcvtq_f32_s32(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Four i8, NEON with dotprod.
    NeonI8: 4 words, int8x16_t => int32x4_t, false {
        zero: vdupq_n_s32(0),
        sums: vld1q_s32,
        words: vld1q_s8,
        splat: |word: u32| vreinterpretq_s8_u32(vdupq_n_u32(word)),
        add: |mut sums: int32x4_t, left: int8x16_t, right: int8x16_t| {
            // The intrinsic is younger than the oldest Rust that builds this crate.
            std::arch::asm!(
                ".arch_extension dotprod",
                "sdot {sums:v}.4s, {left:v}.16b, {right:v}.16b",
                sums = inout(vreg) sums,
                left = in(vreg) left,
                right = in(vreg) right,
                options(pure, nomem, nostack, preserves_flags),
            );
            sums
        },
        store: |sums, to| vst1q_f32(to, vcvtq_f32_s32(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_4(vcvtq_f32_s32(sums), scale, add_to, to),
    }
}

code_isa! {
    BaselineI16: pairs true {
        field: |words, shift: u32, mask: u32| {
            let words = vshlq_u32(vreinterpretq_u32_s16(words), vdupq_n_s32(-(shift as i32)));
            vreinterpretq_s16_u32(vandq_u32(words, vdupq_n_u32(mask)))
        },
        bytes: |words| words,
        save: |sums, to: *mut i32| vst1q_s32(to, sums),
    }
}

code_isa! {
    NeonI8: pairs false {
        field: |words, shift: u32, mask: u32| {
            let words = vshlq_u32(vreinterpretq_u32_s8(words), vdupq_n_s32(-(shift as i32)));
            vreinterpretq_s8_u32(vandq_u32(words, vdupq_n_u32(mask)))
        },
        bytes: |words| veorq_s8(words, vdupq_n_s8(-128)),
        save: |sums, to: *mut i32| vst1q_s32(to, sums),
    }
}

/// See [`DotIsa::store_scaled`].
#[inline(always)]
unsafe fn store_scaled_4(sums: float32x4_t, scale: *const f32, add_to: bool, to: *mut f32) {
    // SAFETY: as the caller's.
    unsafe {
        let scaled = vmulq_f32(sums, vld1q_f32(scale));
        let before = if add_to { vld1q_f32(to) } else { vdupq_n_f32(0.0) };
        vst1q_f32(to, vaddq_f32(scaled, before));
    }
}
