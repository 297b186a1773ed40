//! Registers of x86-64.

use std::arch::x86_64::*;

use super::code_isa::{CodeIsa, code_isa};
use super::dot_isa::{DotIsa, dot_isa};

dot_isa! {
    /// One f32, SSE2.
    BaselineF32: 4 words, __m128 => __m128, true {
        zero: _mm_setzero_ps(),
        sums: _mm_loadu_ps,
        words: _mm_loadu_ps,
        splat: |word| _mm_set1_ps(f32::from_bits(word)),
        add: |sums, left, right| _mm_add_ps(_mm_mul_ps(left, right), sums),
        store: |sums, to| _mm_storeu_ps(to, sums),
        store_scaled: |sums, scale, add_to, to| store_scaled_4(sums, scale, add_to, to),
    }
}

dot_isa! {
    /// One f32, AVX2 and FMA.
    Avx2F32: 8 words, __m256 => __m256, true {
        zero: _mm256_setzero_ps(),
        sums: _mm256_loadu_ps,
        words: _mm256_loadu_ps,
        splat: |word| _mm256_set1_ps(f32::from_bits(word)),
        add: |sums, left, right| _mm256_fmadd_ps(left, right, sums),
        store: |sums, to| _mm256_storeu_ps(to, sums),
        store_scaled: |sums, scale, add_to, to| store_scaled_8(sums, scale, add_to, to),
    }
}

dot_isa! {
    /// One f32, AVX-512.
    Avx512F32: 16 words, __m512 => __m512, true {
        zero: _mm512_setzero_ps(),
        sums: _mm512_loadu_ps,
        words: _mm512_loadu_ps,
        splat: |word| _mm512_set1_ps(f32::from_bits(word)),
        add: |sums, left, right| _mm512_fmadd_ps(left, right, sums),
        store: |sums, to| _mm512_storeu_ps(to, sums),
        store_scaled: |sums, scale, add_to, to| store_scaled_16(sums, scale, add_to, to),
    }
}

dot_isa! {
    /// Two i16, SSE2.
    BaselineI16: 4 words, __m128i => __m128i, false {
        zero: _mm_setzero_si128(),
        sums: _mm_loadu_si128,
        words: _mm_loadu_si128,
        splat: |word: u32| _mm_set1_epi32(word as i32),
        add: |sums, left, right| _mm_add_epi32(sums, _mm_madd_epi16(left, right)),
        store: |sums, to| _mm_storeu_ps(to, _mm_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_4(_mm_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Two i16, AVX2.
    Avx2I16: 8 words, __m256i => __m256i, false {
        zero: _mm256_setzero_si256(),
        sums: _mm256_loadu_si256,
        words: _mm256_loadu_si256,
        splat: |word: u32| _mm256_set1_epi32(word as i32),
        add: |sums, left, right| _mm256_add_epi32(sums, _mm256_madd_epi16(left, right)),
        store: |sums, to| _mm256_storeu_ps(to, _mm256_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_8(_mm256_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Two i16, AVX-512.
    Avx512I16: 16 words, __m512i => __m512i, false {
        zero: _mm512_setzero_si512(),
        sums: _mm512_loadu_epi32,
        words: _mm512_loadu_epi32,
        splat: |word: u32| _mm512_set1_epi32(word as i32),
        add: |sums, left, right| _mm512_add_epi32(sums, _mm512_madd_epi16(left, right)),
        store: |sums, to| _mm512_storeu_ps(to, _mm512_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_16(_mm512_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Four bytes, u8 on the left and i8 on the right, AVX-VNNI.
    Avx2I8: 8 words, __m256i => __m256i, false {
        zero: _mm256_setzero_si256(),
        sums: _mm256_loadu_si256,
        words: _mm256_loadu_si256,
        splat: |word: u32| _mm256_set1_epi32(word as i32),
        add: |sums, left, right| _mm256_dpbusd_avx_epi32(sums, left, right),
        store: |sums, to| _mm256_storeu_ps(to, _mm256_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_8(_mm256_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Four bytes, u8 on the left and i8 on the right, AVX-512 VNNI.
    Avx512I8: 16 words, __m512i => __m512i, false {
        zero: _mm512_setzero_si512(),
        sums: _mm512_loadu_epi32,
        words: _mm512_loadu_epi32,
        splat: |word: u32| _mm512_set1_epi32(word as i32),
        add: |sums, left, right| _mm512_dpbusd_epi32(sums, left, right),
        store: |sums, to| _mm512_storeu_ps(to, _mm512_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_16(_mm512_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Four bytes, u8 up to 128 on the left and i8 on the right, AVX2: no sum of two products leaves i16.
    Avx2SmallI8: 8 words, __m256i => __m256i, false {
        zero: _mm256_setzero_si256(),
        sums: _mm256_loadu_si256,
        words: _mm256_loadu_si256,
        splat: |word: u32| _mm256_set1_epi32(word as i32),
        add: |sums, left, right| {
            let pairs = _mm256_maddubs_epi16(left, right);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        },
        store: |sums, to| _mm256_storeu_ps(to, _mm256_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_8(_mm256_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// The same, AVX-512.
    Avx512SmallI8: 16 words, __m512i => __m512i, false {
        zero: _mm512_setzero_si512(),
        sums: _mm512_loadu_epi32,
        words: _mm512_loadu_epi32,
        splat: |word: u32| _mm512_set1_epi32(word as i32),
        add: |sums, left, right| {
            let pairs = _mm512_maddubs_epi16(left, right);
            _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))
        },
        store: |sums, to| _mm512_storeu_ps(to, _mm512_cvtepi32_ps(sums)),
        store_scaled: |sums, scale, add_to, to| store_scaled_16(_mm512_cvtepi32_ps(sums), scale, add_to, to),
    }
}

dot_isa! {
    /// Two bfloat16, AVX-512 BF16.
    Avx512Bf16Words: 16 words, __m512i => __m512, true {
        zero: _mm512_setzero_ps(),
        sums: _mm512_loadu_ps,
        words: _mm512_loadu_epi32,
        splat: |word: u32| _mm512_set1_epi32(word as i32),
        add: |sums, left: __m512i, right: __m512i| {
            // The types name the same register.
            let bf16s = |words| std::mem::transmute::<__m512i, __m512bh>(words);
            _mm512_dpbf16_ps(sums, bf16s(left), bf16s(right))
        },
        store: |sums, to| _mm512_storeu_ps(to, sums),
        store_scaled: |sums, scale, add_to, to| store_scaled_16(sums, scale, add_to, to),
    }
}

code_isa! {
    BaselineI16: pairs true {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm_and_si128(shifted, _mm_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut __m128i| _mm_storeu_si128(to, sums),
    }
}

code_isa! {
    Avx2I16: pairs true {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm256_and_si256(shifted, _mm256_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut __m256i| _mm256_storeu_si256(to, sums),
    }
}

code_isa! {
    Avx2SmallI8: pairs false {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm256_and_si256(shifted, _mm256_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut __m256i| _mm256_storeu_si256(to, sums),
    }
}

code_isa! {
    Avx2I8: pairs false {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm256_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm256_and_si256(shifted, _mm256_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut __m256i| _mm256_storeu_si256(to, sums),
    }
}

code_isa! {
    Avx512I16: pairs true {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut i32| _mm512_storeu_epi32(to, sums),
    }
}

code_isa! {
    Avx512SmallI8: pairs false {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut i32| _mm512_storeu_epi32(to, sums),
    }
}

code_isa! {
    Avx512I8: pairs false {
        field: |words, shift: u32, mask: u32| {
            let shifted = _mm512_srl_epi32(words, _mm_cvtsi32_si128(shift as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask as i32))
        },
        bytes: |words| words,
        save: |sums, to: *mut i32| _mm512_storeu_epi32(to, sums),
    }
}

/// See [`DotIsa::store_scaled`].
#[inline(always)]
unsafe fn store_scaled_4(sums: __m128, scale: *const f32, add_to: bool, to: *mut f32) {
    // SAFETY: as the caller's.
    unsafe {
        let scaled = _mm_mul_ps(sums, _mm_loadu_ps(scale));
        let before = if add_to { _mm_loadu_ps(to) } else { _mm_setzero_ps() };
        _mm_storeu_ps(to, _mm_add_ps(scaled, before));
    }
}

/// See [`DotIsa::store_scaled`].
#[inline(always)]
unsafe fn store_scaled_8(sums: __m256, scale: *const f32, add_to: bool, to: *mut f32) {
    // SAFETY: as the caller's.
    unsafe {
        let scaled = _mm256_mul_ps(sums, _mm256_loadu_ps(scale));
        let before = if add_to { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
        _mm256_storeu_ps(to, _mm256_add_ps(scaled, before));
    }
}

/// See [`DotIsa::store_scaled`].
#[inline(always)]
unsafe fn store_scaled_16(sums: __m512, scale: *const f32, add_to: bool, to: *mut f32) {
    // SAFETY: as the caller's.
    unsafe {
        let scaled = _mm512_mul_ps(sums, _mm512_loadu_ps(scale));
        let before = if add_to { _mm512_loadu_ps(to) } else { _mm512_setzero_ps() };
        _mm512_storeu_ps(to, _mm512_add_ps(scaled, before));
    }
}
