//! What this machine reaches at most: the yardstick of benchmarks.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::gemm::add_products;
use crate::isa::{Isa, for_each_isa};
use crate::packing::{Arithmetic, Packing};
use crate::par::ParFor;

/// The best of many measurements that take `duration` together, each of them `work` per round.
fn best_rate(duration: Duration, mut measure: impl FnMut() -> (f64, Duration)) -> f64 {
    let start = Instant::now();
    let mut best = 0.0f64;
    while best == 0.0 || start.elapsed() < duration {
        let (work, time) = measure();
        best = best.max(work / time.as_secs_f64());
    }
    best
}

/// Times that a thread measures by itself before all of `pool` meet again, so that waking them does not
/// count: about a millisecond of products.
const PEAK_REPEATS: usize = 8;

/// Multiplications and additions per second of the threads of `pool`, which do nothing else, in
/// numbers that are named as `grad_precision` names them: float32, bfloat16 or int8. None where this
/// CPU has no instructions for them.
pub fn peak(pool: &dyn ParFor, numbers: &str, duration: Duration) -> Option<f64> {
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
    let sums = AtomicUsize::new(0);
    Some(best_rate(duration, || {
        sums.store(0, Ordering::Relaxed);
        let start = Instant::now();
        pool.run(pool.width(), &|_, _| {
            let own: usize = (0..PEAK_REPEATS).map(|_| add_products(isa, arithmetic)).sum();
            sums.fetch_add(own, Ordering::Relaxed);
        });
        let sums = sums.load(Ordering::Relaxed);
        ((2 * sums * packing.values_per_word()) as f64, start.elapsed())
    }))
}

/// Words that a thread reads before it asks for more: few beside what a core reads in the time for
/// which a system gives it to someone else, and many beside the asking.
const READ_AT_ONCE: usize = 1 << 17;
/// Words that all threads read at least before they meet again, so that waking them does not count.
const READ_TOGETHER: usize = 1 << 20;

/// Bytes per second that the threads of `pool` together read from these words, over and over.
///
/// What counts is the time in which all words have been read: the sum of what threads reach one by
/// one, maybe at different times, is more than memory gives to all at once. A part goes to whichever
/// thread is free, unless the words are so few that the part of a thread may lie in a cache of its own.
pub fn read_bandwidth(pool: &dyn ParFor, words: &[u64], duration: Duration) -> f64 {
    let part = match words.len().div_ceil(pool.width()) {
        own if own <= 4 * READ_AT_ONCE => own.max(1),
        _ => READ_AT_ONCE,
    };
    let parts: Vec<&[u64]> = words.chunks(part).collect();
    let repeats = (READ_TOGETHER / words.len().max(1)).max(1);
    best_rate(duration, || {
        let start = Instant::now();
        pool.run(parts.len(), &|part, _| {
            for _ in 0..repeats {
                let mut sum = 0;
                add_up(Isa::detect(), black_box(parts[part]), &mut sum);
                black_box(sum);
            }
        });
        ((repeats * size_of_val(words)) as f64, start.elapsed())
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
    use crate::par::{Serial, ThreadPool};

    #[test]
    fn rates_are_those_of_a_computer() {
        let short = Duration::from_millis(1);
        for pool in [&Serial as &dyn ParFor, &ThreadPool::new(3).unwrap()] {
            for numbers in ["float32", "int8"] {
                let rate = peak(pool, numbers, short).unwrap();
                assert!(rate > 1e6 && rate < 1e16, "{rate}");
            }
            assert!(peak(pool, "float16", short).is_none());
            for count in [1, 1 << 9, (1 << 17) + 1] {
                let rate = read_bandwidth(pool, &vec![1; count], short);
                assert!(rate > 1e6 && rate < 1e16, "{rate}");
            }
        }
    }
}
