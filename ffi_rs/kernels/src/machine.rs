//! What this machine reaches at most: the yardstick of benchmarks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::gemm::{LINE, step};
use crate::number::{Kind, Number};
use crate::simd::{Aligned, Level, for_each_level};
use crate::vector::{self, Dot};

/// The best of many measurements that take `duration` together, each of them `work` per round.
fn best_rate(duration: Duration, mut measure: impl FnMut() -> (f64, Duration)) -> f64 {
    let end = Instant::now() + duration;
    let mut best = 0.0f64;
    while best == 0.0 || Instant::now() < end {
        let (work, time) = measure();
        best = best.max(work / time.as_secs_f64());
    }
    best
}

/// Multiplications and additions per second of one thread that does nothing else, in numbers that
/// are named as `grad_precision` names them: float32, bfloat16 or int8. None where this CPU has no
/// instructions for them.
pub fn peak(numbers: &str, duration: Duration) -> Option<f64> {
    let kind = match numbers {
        "float32" => Kind::Float,
        "bfloat16" => Kind::Brain,
        "int8" => Kind::Integer,
        _ => return None,
    };
    let level = Level::detect();
    let number = kind.number(level);
    if kind == Kind::Brain && number != Number::Bf16 {
        return None;
    }
    Some(best_rate(duration, || {
        let start = Instant::now();
        let sums = add_products(level, kind);
        ((2 * sums * number.group()) as f64, start.elapsed())
    }))
}

/// Times that a product is added to each sum.
const ROUNDS: usize = 20_000;
/// Lines of factors: at most eight rows of a tile, and three registers of columns.
const LINES: usize = 8 + 3;

/// Adds products to the registers of sums of a tile, and returns how often a word was multiplied.
fn add_products(level: Level, kind: Kind) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a level exists only where `detect` saw its features.
    unsafe {
        match (kind.number(level), level) {
            (Number::F32, Level::Baseline) => baseline_floats(),
            (Number::F32, Level::Avx2 | Level::Avx2Vnni) => avx2_floats(),
            (Number::F32, _) => avx512_floats(),
            (Number::I16, Level::Baseline) => baseline_pairs(),
            (Number::I16, Level::Avx2) => avx2_pairs(),
            (Number::I16, _) => avx512_pairs(),
            (Number::Byte, Level::Avx2Vnni) => avx2_bytes(),
            (Number::Byte, _) => avx512_bytes(),
            (Number::Bf16, _) => avx512_brains(),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: a level exists only where `detect` saw its features.
    unsafe {
        match kind.number(level) {
            Number::F32 => baseline_floats(),
            Number::I16 => baseline_pairs(),
            #[cfg(target_arch = "aarch64")]
            Number::Byte => neon_bytes(),
            _ => unreachable!("no such level on this CPU"),
        }
    }
}

macro_rules! loops {
    ($($(#[$meta:meta])* $name:ident = $dot:ident, $rows:literal x $columns:literal;)*) => {$(
        $(#[$meta])*
        unsafe fn $name() -> usize {
            // SAFETY: the caller vouches for the instruction set.
            unsafe { add_products_body::<vector::$dot, $rows, $columns>() }
        }
    )*};
}

loops! {
    baseline_floats = BaselineFloats, 4 x 3;
    baseline_pairs = BaselinePairs, 4 x 3;
}

#[cfg(target_arch = "x86_64")]
loops! {
    #[target_feature(enable = "avx2,fma")]
    avx2_floats = Avx2Floats, 6 x 2;
    #[target_feature(enable = "avx2,fma")]
    avx2_pairs = Avx2Pairs, 6 x 2;
    #[target_feature(enable = "avx2,fma,avxvnni")]
    avx2_bytes = Avx2Bytes, 6 x 2;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_floats = Avx512Floats, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    avx512_pairs = Avx512Pairs, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    avx512_bytes = Avx512Bytes, 8 x 3;
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    avx512_brains = Avx512Brains, 8 x 3;
}

#[cfg(target_arch = "aarch64")]
loops! {
    #[target_feature(enable = "dotprod")]
    neon_bytes = NeonBytes, 8 x 3;
}

/// # Safety
///
/// The CPU has the instruction set of `D`.
#[inline(always)]
unsafe fn add_products_body<D: Dot, const R: usize, const N: usize>() -> usize {
    const { assert!(R + N <= LINES) };
    // Zeros, whichever numbers these are: no sum leaves its range.
    let words = Aligned([0u32; LINES * LINE]);
    let mut out = [0.0; LINE];
    // SAFETY: as this function's; a register has no more words than a line, of which there is one for
    // each row and for each register of columns.
    unsafe {
        let mut sums = [[D::zero(); N]; R];
        for _ in 0..ROUNDS {
            // Read again each time, as products that stay the same would be multiplied only once.
            let words = black_box(words.0.as_ptr());
            let line = |index: usize| words.add(index * LINE);
            step::<D, R, N>(
                &mut sums,
                std::array::from_fn(line),
                0,
                std::array::from_fn(|n| D::words(line(R + n))),
            );
        }
        for sum in sums.into_iter().flatten() {
            D::store(sum, out.as_mut_ptr());
            black_box(&out);
        }
    }
    ROUNDS * R * N * D::LEN
}

/// Bytes per second that one thread reads from a buffer of `bytes` bytes, over and over.
pub fn read_bandwidth(bytes: usize, duration: Duration) -> f64 {
    let words = vec![1u64; (bytes / size_of::<u64>()).max(1)];
    let repeats = (1 << 20) / words.len() + 1;
    best_rate(duration, || {
        let start = Instant::now();
        for _ in 0..repeats {
            let mut sum = 0;
            add_up(Level::detect(), black_box(&words), &mut sum);
            black_box(sum);
        }
        ((repeats * words.len() * size_of::<u64>()) as f64, start.elapsed())
    })
}

#[inline(always)]
fn add_up_body(words: &[u64], sum: &mut u64) {
    for word in words {
        *sum = sum.wrapping_add(*word);
    }
}

for_each_level! {
    /// Adds up `words`: the cheapest use of what was read.
    fn add_up(words: &[u64], sum: &mut u64) = add_up_body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_a_computer() {
        let short = Duration::from_millis(1);
        for numbers in ["float32", "int8"] {
            assert!(peak(numbers, short).is_some_and(|rate| rate > 1e6 && rate < 1e16));
        }
        assert!(peak("float16", short).is_none());
        for bytes in [0, 1 << 12, 1 << 20] {
            let rate = read_bandwidth(bytes, short);
            assert!(rate > 1e6 && rate < 1e16, "{rate}");
        }
    }
}
