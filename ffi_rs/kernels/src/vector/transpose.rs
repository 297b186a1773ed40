//! Transposes of packed words, in registers where the CPU has wide ones.

use crate::isa::Isa;

/// Rows that [`transpose`] takes at a time.
pub(crate) const TRANSPOSED: usize = 16;

/// Writes word `d` of row `r` of `rows` to `out[d · stride + r]`, for `d < depth`.
pub(crate) fn transpose(isa: Isa, out: &mut [u32], stride: usize, rows: &[&[u32]], depth: usize) {
    assert!(rows.len() <= TRANSPOSED && rows.iter().all(|row| row.len() >= depth));
    assert!(depth == 0 || (depth - 1) * stride + rows.len() <= out.len());
    let mut done = 0;
    if let (true, Ok(rows)) = (isa >= Isa::Avx512, <&[&[u32]; 16]>::try_from(rows)) {
        done = depth - depth % 16;
        for d in (0..done).step_by(16) {
            // SAFETY: every row has as many words from `d`, and `out` as many rows of as many from
            // there; this instruction set has AVX-512.
            unsafe {
                let to = out.as_mut_ptr().add(d * stride);
                transpose_16(rows.map(|row| row.as_ptr().add(d)), to, stride);
            }
        }
    }
    for (part, rows) in rows.chunks(8).enumerate() {
        let mut done = done;
        if let (true, Ok(rows)) = (isa >= Isa::Avx2, <&[&[u32]; 8]>::try_from(rows)) {
            let end = depth - depth % 8;
            for d in (done..end).step_by(8) {
                // SAFETY: every row has as many words from `d`, and `out` as many rows of as many
                // from there; this instruction set has AVX2.
                unsafe {
                    let to = out.as_mut_ptr().add(d * stride + part * 8);
                    transpose_8(rows.map(|row| row.as_ptr().add(d)), to, stride);
                }
            }
            done = end;
        }
        for (r, row) in rows.iter().enumerate() {
            for d in done..depth {
                out[d * stride + part * 8 + r] = row[d];
            }
        }
    }
}

/// Writes word `d` of row `r` to `to[d · stride + r]`, for eight rows of eight words.
///
/// # Safety
///
/// The words exist, at both ends; the CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn transpose_8(rows: [*const u32; 8], to: *mut u32, stride: usize) {
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
unsafe fn transpose_16(rows: [*const u32; 16], to: *mut u32, stride: usize) {
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
unsafe fn transpose_8(_: [*const u32; 8], _: *mut u32, _: usize) {
    unreachable!("only instruction sets with AVX2 transpose in registers");
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn transpose_16(_: [*const u32; 16], _: *mut u32, _: usize) {
    unreachable!("only instruction sets with AVX-512 transpose in registers");
}
