//! Registers of codes and of their levels, of AArch64.

use std::arch::aarch64::*;

use super::BaselineF32;
use super::level_isa::{ENTRIES, LevelIsa};

// SAFETY: the intrinsics need what the trait asks of its callers.
unsafe impl LevelIsa for BaselineF32 {
    type Codes = uint32x4_t;
    type Table = uint8x16x4_t;

    #[inline(always)]
    unsafe fn codes(from: *const u32) -> uint32x4_t {
        // SAFETY: the caller vouches for the words.
        unsafe { vld1q_u32(from) }
    }

    #[inline(always)]
    unsafe fn numbers(words: uint32x4_t, shift: u32, mask: u32) -> float32x4_t {
        // SAFETY: every CPU of AArch64 has NEON.
        unsafe {
            let shifted = vshlq_u32(words, vdupq_n_s32(-(shift as i32)));
            vcvtq_f32_u32(vandq_u32(shifted, vdupq_n_u32(mask)))
        }
    }

    #[inline(always)]
    unsafe fn table(entries: &[f32; ENTRIES]) -> uint8x16x4_t {
        // SAFETY: as above; there are as many bytes.
        unsafe { vld1q_u8_x4(entries.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn entries(table: uint8x16x4_t, words: uint32x4_t, shift: u32) -> float32x4_t {
        // SAFETY: as above. The bytes of entry `index` are those from `4 · index` on.
        unsafe {
            let shifted = vshlq_u32(words, vdupq_n_s32(-(shift as i32)));
            let index = vandq_u32(shifted, vdupq_n_u32(ENTRIES as u32 - 1));
            let bytes = vmlaq_u32(vdupq_n_u32(0x0302_0100), index, vdupq_n_u32(0x0404_0404));
            vreinterpretq_f32_u8(vqtbl4q_u8(table, vreinterpretq_u8_u32(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn scaled(
        level: float32x4_t,
        zero_point: float32x4_t,
        scale: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vmulq_f32(vsubq_f32(level, zero_point), scale) }
    }

    #[inline(always)]
    unsafe fn save(sums: float32x4_t, to: *mut f32) {
        // SAFETY: the caller vouches for the room.
        unsafe { vst1q_f32(to, sums) }
    }
}
