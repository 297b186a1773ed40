//! Registers of numbers and their products, for each CPU level: the only intrinsics of this crate.

/// A register of 32-bit words of one or more numbers, and how products of words are added to a
/// register of sums.
///
/// # Safety
///
/// The methods may run only on a CPU that has the instruction set of the type, and are to be
/// inlined into a function compiled for it.
pub(crate) unsafe trait Dot {
    /// Words of a register, and sums of one.
    const LEN: usize;
    /// Whether stored sums can be loaded and gone on with: those of floats.
    const CAN_GO_ON: bool;

    /// A register of words.
    type Words: Copy;
    /// A register of sums.
    type Sums: Copy;

    /// Sums that are zero.
    unsafe fn zero() -> Self::Sums;

    /// The sums at `from`, which has `LEN` of them.
    unsafe fn sums(from: *const u32) -> Self::Sums;

    /// The words at `from`, which has `LEN` of them.
    unsafe fn words(from: *const u32) -> Self::Words;

    /// `LEN` times `word`.
    unsafe fn splat(word: u32) -> Self::Words;

    /// Adds the products of the numbers of `left` and `right`.
    unsafe fn add(sums: Self::Sums, left: Self::Words, right: Self::Words) -> Self::Sums;

    /// Writes the sums as f32 to `to`, which has room for `LEN`.
    unsafe fn store(sums: Self::Sums, to: *mut f32);

    /// The same, each sum times its `scale`, of which there are `LEN`; adds to what is there if
    /// `onto`.
    unsafe fn store_scaled(sums: Self::Sums, scale: *const f32, onto: bool, to: *mut f32);
}

macro_rules! dot {
    (
        $(#[$meta:meta])*
        $name:ident: $len:literal words, $words:ty => $sums:ty, $can_go_on:literal {
            zero: $zero:expr,
            sums: $load_sums:expr,
            words: $load_words:expr,
            splat: $splat:expr,
            add: $add:expr,
            store: $store:expr,
            store_scaled: $store_scaled:expr $(,)?
        }
    ) => {
        $(#[$meta])*
        pub(crate) struct $name;

        // SAFETY: the intrinsics need what the trait asks of its callers.
        #[allow(unused_unsafe, clippy::redundant_closure_call)]
        unsafe impl Dot for $name {
            const LEN: usize = $len;
            const CAN_GO_ON: bool = $can_go_on;

            type Words = $words;
            type Sums = $sums;

            #[inline(always)]
            unsafe fn zero() -> Self::Sums {
                // SAFETY: the caller vouches for the instruction set.
                unsafe { $zero }
            }

            #[inline(always)]
            unsafe fn sums(from: *const u32) -> Self::Sums {
                // SAFETY: as above, and for the elements.
                unsafe { $load_sums(from.cast()) }
            }

            #[inline(always)]
            unsafe fn words(from: *const u32) -> Self::Words {
                // SAFETY: as above, and for the elements.
                unsafe { $load_words(from.cast()) }
            }

            #[inline(always)]
            unsafe fn splat(word: u32) -> Self::Words {
                // SAFETY: as above.
                unsafe { ($splat)(word) }
            }

            #[inline(always)]
            unsafe fn add(sums: Self::Sums, left: Self::Words, right: Self::Words) -> Self::Sums {
                // SAFETY: as above.
                unsafe { ($add)(sums, left, right) }
            }

            #[inline(always)]
            unsafe fn store(sums: Self::Sums, to: *mut f32) {
                // SAFETY: as above, and for the elements.
                unsafe { ($store)(sums, to) }
            }

            #[inline(always)]
            unsafe fn store_scaled(
                sums: Self::Sums,
                scale: *const f32,
                onto: bool,
                to: *mut f32,
            ) {
                // SAFETY: as above, and for the elements.
                unsafe { ($store_scaled)(sums, scale, onto, to) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use std::arch::x86_64::*;

    use super::Dot;

    dot! {
        /// One f32, SSE2.
        BaselineFloats: 4 words, __m128 => __m128, true {
            zero: _mm_setzero_ps(),
            sums: _mm_loadu_ps,
            words: _mm_loadu_ps,
            splat: |word| _mm_set1_ps(f32::from_bits(word)),
            add: |sums, left, right| _mm_add_ps(_mm_mul_ps(left, right), sums),
            store: |sums, to| _mm_storeu_ps(to, sums),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm_mul_ps(sums, _mm_loadu_ps(scale));
                let before = if onto { _mm_loadu_ps(to) } else { _mm_setzero_ps() };
                _mm_storeu_ps(to, _mm_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// One f32, AVX2 and FMA.
        Avx2Floats: 8 words, __m256 => __m256, true {
            zero: _mm256_setzero_ps(),
            sums: _mm256_loadu_ps,
            words: _mm256_loadu_ps,
            splat: |word| _mm256_set1_ps(f32::from_bits(word)),
            add: |sums, left, right| _mm256_fmadd_ps(left, right, sums),
            store: |sums, to| _mm256_storeu_ps(to, sums),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm256_mul_ps(sums, _mm256_loadu_ps(scale));
                let before = if onto { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
                _mm256_storeu_ps(to, _mm256_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// One f32, AVX-512.
        Avx512Floats: 16 words, __m512 => __m512, true {
            zero: _mm512_setzero_ps(),
            sums: _mm512_loadu_ps,
            words: _mm512_loadu_ps,
            splat: |word| _mm512_set1_ps(f32::from_bits(word)),
            add: |sums, left, right| _mm512_fmadd_ps(left, right, sums),
            store: |sums, to| _mm512_storeu_ps(to, sums),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm512_mul_ps(sums, _mm512_loadu_ps(scale));
                let before = if onto { _mm512_loadu_ps(to) } else { _mm512_setzero_ps() };
                _mm512_storeu_ps(to, _mm512_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// Two i16, SSE2.
        BaselinePairs: 4 words, __m128i => __m128i, false {
            zero: _mm_setzero_si128(),
            sums: _mm_loadu_si128,
            words: _mm_loadu_si128,
            splat: |word: u32| _mm_set1_epi32(word as i32),
            add: |sums, left, right| _mm_add_epi32(sums, _mm_madd_epi16(left, right)),
            store: |sums, to| _mm_storeu_ps(to, _mm_cvtepi32_ps(sums)),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm_mul_ps(_mm_cvtepi32_ps(sums), _mm_loadu_ps(scale));
                let before = if onto { _mm_loadu_ps(to) } else { _mm_setzero_ps() };
                _mm_storeu_ps(to, _mm_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// Two i16, AVX2.
        Avx2Pairs: 8 words, __m256i => __m256i, false {
            zero: _mm256_setzero_si256(),
            sums: _mm256_loadu_si256,
            words: _mm256_loadu_si256,
            splat: |word: u32| _mm256_set1_epi32(word as i32),
            add: |sums, left, right| _mm256_add_epi32(sums, _mm256_madd_epi16(left, right)),
            store: |sums, to| _mm256_storeu_ps(to, _mm256_cvtepi32_ps(sums)),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale));
                let before = if onto { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
                _mm256_storeu_ps(to, _mm256_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// Two i16, AVX-512.
        Avx512Pairs: 16 words, __m512i => __m512i, false {
            zero: _mm512_setzero_si512(),
            sums: _mm512_loadu_epi32,
            words: _mm512_loadu_epi32,
            splat: |word: u32| _mm512_set1_epi32(word as i32),
            add: |sums, left, right| _mm512_add_epi32(sums, _mm512_madd_epi16(left, right)),
            store: |sums, to| _mm512_storeu_ps(to, _mm512_cvtepi32_ps(sums)),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(scale));
                let before = if onto { _mm512_loadu_ps(to) } else { _mm512_setzero_ps() };
                _mm512_storeu_ps(to, _mm512_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// Four bytes, u8 on the left and i8 on the right, AVX-VNNI.
        Avx2Bytes: 8 words, __m256i => __m256i, false {
            zero: _mm256_setzero_si256(),
            sums: _mm256_loadu_si256,
            words: _mm256_loadu_si256,
            splat: |word: u32| _mm256_set1_epi32(word as i32),
            add: |sums, left, right| _mm256_dpbusd_avx_epi32(sums, left, right),
            store: |sums, to| _mm256_storeu_ps(to, _mm256_cvtepi32_ps(sums)),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(scale));
                let before = if onto { _mm256_loadu_ps(to) } else { _mm256_setzero_ps() };
                _mm256_storeu_ps(to, _mm256_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// Four bytes, u8 on the left and i8 on the right, AVX-512 VNNI.
        Avx512Bytes: 16 words, __m512i => __m512i, false {
            zero: _mm512_setzero_si512(),
            sums: _mm512_loadu_epi32,
            words: _mm512_loadu_epi32,
            splat: |word: u32| _mm512_set1_epi32(word as i32),
            add: |sums, left, right| _mm512_dpbusd_epi32(sums, left, right),
            store: |sums, to| _mm512_storeu_ps(to, _mm512_cvtepi32_ps(sums)),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(scale));
                let before = if onto { _mm512_loadu_ps(to) } else { _mm512_setzero_ps() };
                _mm512_storeu_ps(to, _mm512_add_ps(scaled, before));
            },
        }
    }

    dot! {
        /// Two bfloat16, AVX-512 BF16.
        Avx512Brains: 16 words, __m512i => __m512, true {
            zero: _mm512_setzero_ps(),
            sums: _mm512_loadu_ps,
            words: _mm512_loadu_epi32,
            splat: |word: u32| _mm512_set1_epi32(word as i32),
            add: |sums, left: __m512i, right: __m512i| {
                // The types name the same register.
                let brains = |words| std::mem::transmute::<__m512i, __m512bh>(words);
                _mm512_dpbf16_ps(sums, brains(left), brains(right))
            },
            store: |sums, to| _mm512_storeu_ps(to, sums),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = _mm512_mul_ps(sums, _mm512_loadu_ps(scale));
                let before = if onto { _mm512_loadu_ps(to) } else { _mm512_setzero_ps() };
                _mm512_storeu_ps(to, _mm512_add_ps(scaled, before));
            },
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod registers {
    use std::arch::aarch64::*;

    use super::Dot;

    dot! {
        /// One f32, NEON.
        BaselineFloats: 4 words, float32x4_t => float32x4_t, true {
            zero: vdupq_n_f32(0.0),
            sums: vld1q_f32,
            words: vld1q_f32,
            splat: |word| vdupq_n_f32(f32::from_bits(word)),
            add: |sums, left, right| vfmaq_f32(sums, left, right),
            store: |sums, to| vst1q_f32(to, sums),
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = vmulq_f32(sums, vld1q_f32(scale));
                let before = if onto { vld1q_f32(to) } else { vdupq_n_f32(0.0) };
                vst1q_f32(to, vaddq_f32(scaled, before));
            },
        }
    }

    dot! {
        /// Two i16, NEON.
        BaselinePairs: 4 words, int16x8_t => int32x4_t, false {
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
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(scale));
                let before = if onto { vld1q_f32(to) } else { vdupq_n_f32(0.0) };
                vst1q_f32(to, vaddq_f32(scaled, before));
            },
        }
    }

    dot! {
        /// Four i8, NEON with dotprod.
        NeonBytes: 4 words, int8x16_t => int32x4_t, false {
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
            store_scaled: |sums, scale: *const f32, onto: bool, to: *mut f32| {
                let scaled = vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(scale));
                let before = if onto { vld1q_f32(to) } else { vdupq_n_f32(0.0) };
                vst1q_f32(to, vaddq_f32(scaled, before));
            },
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod registers {
    use super::Dot;

    dot! {
        /// One f32.
        BaselineFloats: 1 words, f32 => f32, true {
            zero: 0.0,
            sums: |from: *const f32| *from,
            words: |from: *const f32| *from,
            splat: f32::from_bits,
            add: |sums: f32, left: f32, right: f32| left * right + sums,
            store: |sums, to: *mut f32| *to = sums,
            store_scaled: |sums: f32, scale: *const f32, onto: bool, to: *mut f32| {
                *to = sums * *scale + if onto { *to } else { 0.0 };
            },
        }
    }

    dot! {
        /// Two i16.
        BaselinePairs: 1 words, u32 => i32, false {
            zero: 0,
            sums: |from: *const i32| *from,
            words: |from: *const u32| *from,
            splat: |word: u32| word,
            add: |sums: i32, left: u32, right: u32| {
                let low = i32::from(left as i16) * i32::from(right as i16);
                let high = i32::from((left >> 16) as i16) * i32::from((right >> 16) as i16);
                sums.wrapping_add(low).wrapping_add(high)
            },
            store: |sums: i32, to: *mut f32| *to = sums as f32,
            store_scaled: |sums: i32, scale: *const f32, onto: bool, to: *mut f32| {
                *to = sums as f32 * *scale + if onto { *to } else { 0.0 };
            },
        }
    }
}

pub(crate) use registers::*;

/// Writes word `d` of row `r` to `to[d · stride + r]`, for eight rows of eight words.
///
/// # Safety
///
/// The words exist, at both ends; the CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn transpose_8(rows: [*const u32; 8], to: *mut u32, stride: usize) {
    use std::arch::x86_64::*;

    // SAFETY: the caller vouches for the words.
    let rows = rows.map(|row| unsafe { _mm256_loadu_ps(row.cast()) });
    let pairs: [[__m256; 2]; 4] = std::array::from_fn(|i| {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        [_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)]
    });
    let fours: [[__m256; 4]; 2] = std::array::from_fn(|i| {
        let ([a, b], [c, d]) = (pairs[2 * i], pairs[2 * i + 1]);
        [
            _mm256_shuffle_ps::<0x44>(a, c),
            _mm256_shuffle_ps::<0xEE>(a, c),
            _mm256_shuffle_ps::<0x44>(b, d),
            _mm256_shuffle_ps::<0xEE>(b, d),
        ]
    });
    for (d, (low, high)) in std::iter::zip(fours[0], fours[1]).enumerate() {
        // SAFETY: the caller vouches for the room.
        unsafe {
            let (first, second) = (to.add(d * stride), to.add((d + 4) * stride));
            _mm256_storeu_ps(first.cast(), _mm256_permute2f128_ps::<0x20>(low, high));
            _mm256_storeu_ps(second.cast(), _mm256_permute2f128_ps::<0x31>(low, high));
        }
    }
}

/// The same, for sixteen rows of sixteen words.
///
/// # Safety
///
/// As [`transpose_8`]; the CPU has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn transpose_16(rows: [*const u32; 16], to: *mut u32, stride: usize) {
    use std::arch::x86_64::*;

    // SAFETY: the caller vouches for the words.
    let rows = rows.map(|row| unsafe { _mm512_loadu_ps(row.cast()) });
    let pairs: [[__m512; 2]; 8] = std::array::from_fn(|i| {
        let (a, b) = (rows[2 * i], rows[2 * i + 1]);
        [_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)]
    });
    // Word 4·q + d of four rows in quarter q.
    let fours: [[__m512; 4]; 4] = std::array::from_fn(|i| {
        let ([a, b], [c, d]) = (pairs[2 * i], pairs[2 * i + 1]);
        [
            _mm512_shuffle_ps::<0x44>(a, c),
            _mm512_shuffle_ps::<0xEE>(a, c),
            _mm512_shuffle_ps::<0x44>(b, d),
            _mm512_shuffle_ps::<0xEE>(b, d),
        ]
    });
    for d in 0..4 {
        let [a, b, c, e] = fours.map(|four| four[d]);
        // Quarters 0 and 2, and 1 and 3, of eight rows.
        let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, e)];
        let odd = [_mm512_shuffle_f32x4::<0xDD>(a, b), _mm512_shuffle_f32x4::<0xDD>(c, e)];
        let quarters = [
            _mm512_shuffle_f32x4::<0x88>(even[0], even[1]),
            _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]),
            _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]),
            _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]),
        ];
        for (quarter, words) in quarters.into_iter().enumerate() {
            // SAFETY: the caller vouches for the room.
            unsafe { _mm512_storeu_ps(to.add((4 * quarter + d) * stride).cast(), words) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn transpose_8(_: [*const u32; 8], _: *mut u32, _: usize) {
    unreachable!("only levels with AVX2 transpose in registers");
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) unsafe fn transpose_16(_: [*const u32; 16], _: *mut u32, _: usize) {
    unreachable!("only levels with AVX-512 transpose in registers");
}
