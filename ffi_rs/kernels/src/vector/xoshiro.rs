//! Xoshiro256++ side by side: of its rotations, compilers make scalar code for AVX2.

use crate::isa::Isa;

/// Draws from eight generators, as [`draw_avx2`] does, and returns true, if `isa` is best served by
/// it.
#[inline(always)]
pub(crate) fn xoshiro_8(
    isa: Isa,
    state: &mut [[u64; 8]; 4],
    out: &mut [[[u32; 16]; 2]],
    shift: u32,
) -> bool {
    let drawn = matches!(isa, Isa::Avx2 | Isa::Avx2Vnni);
    if drawn {
        // SAFETY: these values exist only where `detect` saw AVX2.
        unsafe { draw_avx2(state, out, shift) };
    }
    drawn
}

/// Draws from eight Xoshiro256++ generators, word `w` of whose states is `state[w]`. Each of `out`
/// takes two outputs of all of them: their upper halves, shifted by so many bits more, then the
/// lower ones.
///
/// # Safety
///
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn draw_avx2(state: &mut [[u64; 8]; 4], out: &mut [[[u32; 16]; 2]], shift: u32) {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(words: __m256i) -> __m256i {
        _mm256_or_si256(_mm256_slli_epi64::<LEFT>(words), _mm256_srli_epi64::<RIGHT>(words))
    }

    let shift = _mm_cvtsi32_si128(shift as i32);
    // Word by word, four generators in a register.
    let mut halves: [[__m256i; 4]; 2] = std::array::from_fn(|half| {
        // SAFETY: there are eight of each word.
        std::array::from_fn(|w| unsafe { _mm256_loadu_si256(state[w][4 * half..].as_ptr().cast()) })
    });
    for [high, low] in out {
        for (high, low) in high.as_chunks_mut::<8>().0.iter_mut().zip(low.as_chunks_mut::<8>().0) {
            let mut outputs = [_mm256_setzero_ps(); 2];
            for (output, [a, b, c, d]) in outputs.iter_mut().zip(&mut halves) {
                let sum = rotate::<23, 41>(_mm256_add_epi64(*a, *d));
                *output = _mm256_castsi256_ps(_mm256_add_epi64(sum, *a));
                let t = _mm256_slli_epi64::<17>(*b);
                *c = _mm256_xor_si256(*c, *a);
                *d = _mm256_xor_si256(*d, *b);
                *b = _mm256_xor_si256(*b, *c);
                *a = _mm256_xor_si256(*a, *d);
                *c = _mm256_xor_si256(*c, t);
                *d = rotate::<45, 19>(*d);
            }
            let [first, second] = outputs;
            // Pairs of each half of a register, which a permutation brings into order.
            let upper = _mm256_castps_si256(_mm256_shuffle_ps::<0xDD>(first, second));
            let lower = _mm256_castps_si256(_mm256_shuffle_ps::<0x88>(first, second));
            let upper = _mm256_srl_epi32(_mm256_permute4x64_epi64::<0xD8>(upper), shift);
            let lower = _mm256_permute4x64_epi64::<0xD8>(lower);
            // SAFETY: both have room for eight.
            unsafe {
                _mm256_storeu_si256(high.as_mut_ptr().cast(), upper);
                _mm256_storeu_si256(low.as_mut_ptr().cast(), lower);
            }
        }
    }
    for (half, words) in halves.into_iter().enumerate() {
        for (state, word) in state.iter_mut().zip(words) {
            // SAFETY: there are eight of each word.
            unsafe { _mm256_storeu_si256(state[4 * half..].as_mut_ptr().cast(), word) };
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn draw_avx2(_: &mut [[u64; 8]; 4], _: &mut [[[u32; 16]; 2]], _: u32) {
    unreachable!("only instruction sets with AVX2 draw in its registers");
}
