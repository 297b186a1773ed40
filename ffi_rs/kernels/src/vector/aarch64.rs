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

dot_isa! {
    /// Four bytes, u8 on the left and i8 on the right, NEON with i8mm.
    NeonU8: 4 words, uint8x16_t => int32x4_t, false {
        zero: vdupq_n_s32(0),
        sums: vld1q_s32,
        words: vld1q_u8,
        splat: |word: u32| vreinterpretq_u8_u32(vdupq_n_u32(word)),
        add: |mut sums: int32x4_t, left: uint8x16_t, right: uint8x16_t| {
            // Rust has no stable intrinsic.
            std::arch::asm!(
                ".arch_extension i8mm",
                "usdot {sums:v}.4s, {left:v}.16b, {right:v}.16b",
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

// SAFETY: the intrinsics need what the trait asks of its callers.
unsafe impl CodeIsa for NeonU8 {
    const PAIRS: bool = false;
    const ALTERNATES: bool = true;

    #[inline(always)]
    unsafe fn field(words: uint8x16_t, shift: u32, mask: u32) -> uint8x16_t {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let words = vshlq_u32(vreinterpretq_u32_u8(words), vdupq_n_s32(-(shift as i32)));
            vreinterpretq_u8_u32(vandq_u32(words, vdupq_n_u32(mask)))
        }
    }

    #[inline(always)]
    unsafe fn bytes(words: uint8x16_t) -> uint8x16_t {
        words
    }

    #[inline(always)]
    unsafe fn add_two<const ROWS: usize>(
        sums: &mut [int32x4_t; ROWS],
        words: [uint8x16_t; 2],
        x: &[[u32; 2]; ROWS],
    ) {
        // SAFETY: as above; a pair of rows has as many words of x as a register.
        unsafe {
            if ROWS == 1 {
                for (words, x) in words.into_iter().zip(x[0]) {
                    sums[0] = Self::add(sums[0], words, Self::splat(x));
                }
                return;
            }
            // Each two of the columns, with eight bytes along the depth.
            let [a, b] = words.map(|words| vreinterpretq_u32_u8(words));
            let columns = [vzip1q_u32(a, b), vzip2q_u32(a, b)];
            for (sums, x) in sums.as_chunks_mut::<2>().0.iter_mut().zip(x.as_chunks::<2>().0) {
                let x = vld1q_u32(x.as_ptr().cast());
                for (sums, columns) in sums.iter_mut().zip(columns) {
                    // Rust has no stable intrinsic.
                    std::arch::asm!(
                        ".arch_extension i8mm",
                        "usmmla {sums:v}.4s, {columns:v}.16b, {x:v}.16b",
                        sums = inout(vreg) *sums,
                        columns = in(vreg) columns,
                        x = in(vreg) x,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn by_row([first, second]: [int32x4_t; 2]) -> [int32x4_t; 2] {
        // SAFETY: as above.
        unsafe { [vuzp1q_s32(first, second), vuzp2q_s32(first, second)] }
    }

    #[inline(always)]
    unsafe fn save(sums: int32x4_t, to: *mut u32) {
        // SAFETY: as above, and for the room.
        unsafe { vst1q_s32(to.cast(), sums) }
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
