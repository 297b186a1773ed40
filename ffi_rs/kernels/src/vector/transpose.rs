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
    use std::arch::x86_64::_mm512_storeu_ps;

    // SAFETY: the caller vouches for the words.
    let columns = unsafe { square_16(rows) };
    for (d, words) in columns.into_iter().enumerate() {
        // SAFETY: the caller vouches for the room.
        unsafe { _mm512_storeu_ps(to.add(d * stride).cast(), words) };
    }
}

/// The columns of a square of sixteen rows of sixteen words.
///
/// # Safety
///
/// The words exist; the CPU has AVX-512 F.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn square_16(rows: [*const u32; 16]) -> [std::arch::x86_64::__m512; 16] {
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
    let mut columns = [_mm512_setzero_ps(); 16];
    for d in 0..4 {
        let [a, b, c, e] = fours.map(|four| four[d]);
        // Quarters 0 and 2, and 1 and 3, of eight rows.
        let even = [_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, e)];
        let odd = [_mm512_shuffle_f32x4::<0xDD>(a, b), _mm512_shuffle_f32x4::<0xDD>(c, e)];
        columns[d] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
        columns[4 + d] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
        columns[8 + d] = _mm512_shuffle_f32x4::<0xDD>(even[0], even[1]);
        columns[12 + d] = _mm512_shuffle_f32x4::<0xDD>(odd[0], odd[1]);
    }
    columns
}

/// Adds to sum `r` the products of `x` and row `r`, whose rows are `apart` from the first of `rows`
/// on: `sum = x[d] · rows[r · apart + d] + sum`, `d` in order, rounded once a step. Returns whether the
/// instruction set has the registers for it; else nothing is done.
pub(crate) fn add_dots(
    isa: Isa,
    sums: &mut [f32; TRANSPOSED],
    x: &[f32],
    rows: &[f32],
    apart: usize,
) -> bool {
    assert!((TRANSPOSED - 1) * apart + x.len() <= rows.len(), "a row is too short");
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        // SAFETY: as many words are there; this instruction set has AVX-512 and FMA.
        unsafe { add_dots_16(sums, x, rows.as_ptr(), apart) };
        return true;
    }
    let _ = (isa, sums);
    false
}

/// # Safety
///
/// Of each of sixteen rows as many words as x has exist; the CPU has AVX-512 F and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
unsafe fn add_dots_16(sums: &mut [f32; TRANSPOSED], x: &[f32], rows: *const f32, apart: usize) {
    use std::arch::x86_64::*;

    use super::prefetch;
    use crate::tuning::PREFETCH_COLUMN;

    // SAFETY: the array has as many.
    let mut chain = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
    let (squares, rest) = x.as_chunks::<TRANSPOSED>();
    for (index, x) in squares.iter().enumerate() {
        let d = index * TRANSPOSED;
        // These are more streams than a CPU follows by itself: a square further on, or of the next rows.
        let ahead = match d + PREFETCH_COLUMN < TRANSPOSED * squares.len() {
            true => d + PREFETCH_COLUMN,
            false => TRANSPOSED * apart + (d + PREFETCH_COLUMN) % (TRANSPOSED * squares.len()),
        };
        for row in 0..TRANSPOSED {
            prefetch(rows.wrapping_add(row * apart + ahead));
        }
        // SAFETY: the caller vouches for the words.
        let columns =
            unsafe { square_16(std::array::from_fn(|row| rows.add(row * apart + d).cast())) };
        for (x, column) in x.iter().zip(columns) {
            chain = _mm512_fmadd_ps(_mm512_set1_ps(*x), column, chain);
        }
    }
    // SAFETY: the array has as many.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), chain) };
    let done = x.len() - rest.len();
    for (row, sum) in sums.iter_mut().enumerate() {
        for (d, x) in (done..).zip(rest) {
            // SAFETY: the caller vouches for the words.
            *sum = x.mul_add(unsafe { *rows.add(row * apart + d) }, *sum);
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
