//! What this machine reaches at most: the yardstick of benchmarks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::gemm::{LINE, MicroKernel, run, step};
use crate::isa::{Aligned, Isa, for_each_isa};
use crate::packing::{Arithmetic, Packing};
use crate::vector::DotIsa;

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
    let arithmetic = match numbers {
        "float32" => Arithmetic::F32,
        "bfloat16" => Arithmetic::Bf16,
        "int8" => Arithmetic::Int8,
        _ => return None,
    };
    let isa = Isa::detect();
    let packing = arithmetic.packing(isa);
    if arithmetic == Arithmetic::Bf16 && packing != Packing::Bf16 {
        return None;
    }
    Some(best_rate(duration, || {
        let start = Instant::now();
        let sums = run(isa, arithmetic, AddProducts);
        ((2 * sums * packing.values_per_word()) as f64, start.elapsed())
    }))
}

/// Times that a product is added to each sum.
const ROUNDS: usize = 20_000;
/// Lines of factors: at most eight rows of a tile, and three registers of columns.
const LINES: usize = 8 + 3;

/// Tiles whose sums registers hold at once: AArch64 has twice as many as a tile takes, and pipes for
/// more sums than those of one.
const TILES: usize = if cfg!(target_arch = "aarch64") { 2 } else { 1 };

/// Adds products to the sums of tiles, and returns how often a word was multiplied.
struct AddProducts;

impl MicroKernel for AddProducts {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<D: DotIsa, const R: usize, const N: usize>(self) -> usize {
        const { assert!(R + N <= LINES) };
        // Zeros, whichever numbers these are: no sum leaves its range.
        let words = Aligned([0u32; LINES * LINE]);
        let mut out = [0.0; LINE];
        // SAFETY: as this function's; a register has no more words than a line, of which there is one
        // for each row and for each register of columns.
        unsafe {
            let mut tiles = [[[D::zero(); N]; R]; TILES];
            for _ in 0..ROUNDS {
                for sums in &mut tiles {
                    // Read again each time, as products that stay the same would be multiplied only
                    // once.
                    let words = black_box(words.0.as_ptr());
                    let line = |index: usize| words.add(index * LINE);
                    let right = std::array::from_fn(|n| D::words(line(R + n)));
                    step::<D, R, N>(sums, std::array::from_fn(line), 0, right);
                }
            }
            for sum in tiles.into_iter().flatten().flatten() {
                D::store(sum, out.as_mut_ptr());
                black_box(&out);
            }
        }
        ROUNDS * TILES * R * N * D::LEN
    }
}

/// Bytes per second that one thread reads from a buffer of `bytes` bytes, over and over.
pub fn read_bandwidth(bytes: usize, duration: Duration) -> f64 {
    let words = vec![1u64; (bytes / size_of::<u64>()).max(1)];
    let repeats = (1 << 20) / words.len() + 1;
    best_rate(duration, || {
        let start = Instant::now();
        for _ in 0..repeats {
            let mut sum = 0;
            add_up(Isa::detect(), black_box(&words), &mut sum);
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

for_each_isa! {
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
