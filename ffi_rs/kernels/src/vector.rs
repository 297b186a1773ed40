//! Vectors of f32, one type for each CPU level: the only intrinsics of this crate.

/// A register of f32.
///
/// # Safety
///
/// The methods may run only on a CPU that has the instruction set of the type, and are to be
/// inlined into a function compiled for it.
pub(crate) unsafe trait Vector: Copy {
    /// Elements.
    const LEN: usize;

    /// All elements zero.
    unsafe fn zero() -> Self;

    /// All elements `value`.
    unsafe fn splat(value: f32) -> Self;

    /// The first `LEN` elements of `values`, which has them.
    unsafe fn load(values: &[f32]) -> Self;

    /// Writes the first `LEN` elements of `values`, which has them.
    unsafe fn store(self, values: &mut [f32]);

    /// `self · factor + addend`, rounded once where the CPU can.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
}

macro_rules! vector {
    ($name:ident, $len:literal, $zero:expr, $splat:path, $load:path, $store:path, $mul_add:expr) => {
        // SAFETY: the intrinsics need what the trait asks of its callers; loads and stores stay
        // within slices whose length is checked.
        unsafe impl Vector for $name {
            const LEN: usize = $len;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller vouches for the instruction set.
                #[allow(unused_unsafe)]
                unsafe {
                    $zero
                }
            }

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                #[allow(unused_unsafe)]
                unsafe {
                    $splat(value)
                }
            }

            #[inline(always)]
            unsafe fn load(values: &[f32]) -> Self {
                assert!(values.len() >= $len);
                // SAFETY: the caller vouches for the instruction set; the slice is long enough.
                unsafe { $load(values.as_ptr()) }
            }

            #[inline(always)]
            unsafe fn store(self, values: &mut [f32]) {
                assert!(values.len() >= $len);
                // SAFETY: the caller vouches for the instruction set; the slice is long enough.
                unsafe { $store(values.as_mut_ptr(), self) }
            }

            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: the caller vouches for the instruction set.
                #[allow(unused_unsafe)]
                unsafe {
                    $mul_add(self, factor, addend)
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use std::arch::x86_64::*;

    use super::Vector;

    pub(crate) type Baseline = __m128;
    pub(crate) type Avx2 = __m256;
    pub(crate) type Avx512 = __m512;

    vector!(__m128, 4, _mm_setzero_ps(), _mm_set1_ps, _mm_loadu_ps, _mm_storeu_ps, |a, b, c| {
        _mm_add_ps(_mm_mul_ps(a, b), c)
    });
    vector!(
        __m256,
        8,
        _mm256_setzero_ps(),
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        |a, b, c| _mm256_fmadd_ps(a, b, c)
    );
    vector!(
        __m512,
        16,
        _mm512_setzero_ps(),
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        |a, b, c| _mm512_fmadd_ps(a, b, c)
    );
}

#[cfg(target_arch = "aarch64")]
mod registers {
    use std::arch::aarch64::*;

    use super::Vector;

    pub(crate) type Baseline = float32x4_t;

    vector!(float32x4_t, 4, vdupq_n_f32(0.0), vdupq_n_f32, vld1q_f32, vst1q_f32, |a, b, c| {
        vfmaq_f32(c, a, b)
    });
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod registers {
    use super::Vector;

    pub(crate) type Baseline = f32;

    vector!(f32, 1, 0.0, f32::from, read, write, |a: f32, b: f32, c: f32| a * b + c);

    unsafe fn read(from: *const f32) -> f32 {
        // SAFETY: the caller's slice has an element.
        unsafe { *from }
    }

    unsafe fn write(to: *mut f32, value: f32) {
        // SAFETY: the caller's slice has an element.
        unsafe { *to = value }
    }
}

pub(crate) use registers::*;
