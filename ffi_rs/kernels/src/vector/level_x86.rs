//! Registers of codes and of their levels, of x86-64.

use std::arch::x86_64::*;

use super::level_isa::{ENTRIES, LevelIsa};
use super::{Avx2F32, Avx512F32, BaselineF32};

// SAFETY: the intrinsics need what the trait asks of its callers.
unsafe impl LevelIsa for Avx512F32 {
    type Codes = __m512i;
    type Table = __m512;

    #[inline(always)]
    unsafe fn codes(from: *const u32) -> __m512i {
        // SAFETY: the caller vouches for the instruction set and the words.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn numbers(words: __m512i, shift: u32, mask: u32) -> __m512 {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            let mask = _mm512_set1_epi32(mask as i32);
            _mm512_cvtepi32_ps(_mm512_and_si512(shifted, mask))
        }
    }

    #[inline(always)]
    unsafe fn table(entries: &[f32; ENTRIES]) -> __m512 {
        // SAFETY: as above; there are as many entries.
        unsafe { _mm512_loadu_ps(entries.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn entries(table: __m512, words: __m512i, shift: u32) -> __m512 {
        // SAFETY: as above. Of an index, the low four bits count.
        unsafe {
            let index = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm512_permutexvar_ps(index, table)
        }
    }

    #[inline(always)]
    unsafe fn scaled(level: __m512, zero_point: __m512, scale: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(_mm512_sub_ps(level, zero_point), scale) }
    }

    #[inline(always)]
    unsafe fn save(sums: __m512, to: *mut f32) {
        // SAFETY: as above, and for the room.
        unsafe { _mm512_storeu_ps(to, sums) }
    }
}

// SAFETY: the intrinsics need what the trait asks of its callers.
unsafe impl LevelIsa for Avx2F32 {
    type Codes = __m256i;
    type Table = [__m256; 2];

    #[inline(always)]
    unsafe fn codes(from: *const u32) -> __m256i {
        // SAFETY: the caller vouches for the instruction set and the words.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn numbers(words: __m256i, shift: u32, mask: u32) -> __m256 {
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            let shifted = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            let mask = _mm256_set1_epi32(mask as i32);
            _mm256_cvtepi32_ps(_mm256_and_si256(shifted, mask))
        }
    }

    #[inline(always)]
    unsafe fn table(entries: &[f32; ENTRIES]) -> [__m256; 2] {
        // SAFETY: as above; there are as many entries.
        unsafe { [_mm256_loadu_ps(entries.as_ptr()), _mm256_loadu_ps(entries[8..].as_ptr())] }
    }

    #[inline(always)]
    unsafe fn entries(table: [__m256; 2], words: __m256i, shift: u32) -> __m256 {
        // SAFETY: as above. Of an index, the low three bits count; the fourth, shifted to the sign,
        // says of which half.
        unsafe {
            let index = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            let [low, high] = table.map(|half| _mm256_permutevar8x32_ps(half, index));
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)))
        }
    }

    #[inline(always)]
    unsafe fn scaled(level: __m256, zero_point: __m256, scale: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_mul_ps(_mm256_sub_ps(level, zero_point), scale) }
    }

    #[inline(always)]
    unsafe fn save(sums: __m256, to: *mut f32) {
        // SAFETY: as above, and for the room.
        unsafe { _mm256_storeu_ps(to, sums) }
    }
}

// SAFETY: the intrinsics need what the trait asks of its callers.
unsafe impl LevelIsa for BaselineF32 {
    type Codes = __m128i;
    type Table = [f32; ENTRIES];

    #[inline(always)]
    unsafe fn codes(from: *const u32) -> __m128i {
        // SAFETY: the caller vouches for the words.
        unsafe { _mm_loadu_si128(from.cast()) }
    }

    #[inline(always)]
    unsafe fn numbers(words: __m128i, shift: u32, mask: u32) -> __m128 {
        // SAFETY: every CPU of x86-64 has SSE2.
        unsafe {
            let shifted = _mm_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm_cvtepi32_ps(_mm_and_si128(shifted, _mm_set1_epi32(mask as i32)))
        }
    }

    #[inline(always)]
    unsafe fn table(entries: &[f32; ENTRIES]) -> [f32; ENTRIES] {
        *entries
    }

    #[inline(always)]
    unsafe fn entries(table: [f32; ENTRIES], words: __m128i, shift: u32) -> __m128 {
        let words = bytemuck::cast::<__m128i, [u32; 4]>(words);
        bytemuck::cast(words.map(|word| table[(word >> shift) as usize % ENTRIES]))
    }

    #[inline(always)]
    unsafe fn scaled(level: __m128, zero_point: __m128, scale: __m128) -> __m128 {
        // SAFETY: as above.
        unsafe { _mm_mul_ps(_mm_sub_ps(level, zero_point), scale) }
    }

    #[inline(always)]
    unsafe fn save(sums: __m128, to: *mut f32) {
        // SAFETY: the caller vouches for the room.
        unsafe { _mm_storeu_ps(to, sums) }
    }
}
