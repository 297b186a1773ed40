//! `make attack`: mutants by the million. Each is loaded, shown and verified, in bounded time and
//! memory, and none is a panic. It is no part of the tests: it takes as long as one lets it.
//!
//! ```text
//! attack [COUNT [SEED]]
//! ```
//!
//! A mutant is known by its number, which its seed is: COUNT 1 and SEED n make it again.

// Of what is shared with the tests, not all is used here.
#![allow(dead_code)]

#[path = "../it/build.rs"]
mod build;
#[path = "../it/mutants.rs"]
mod mutants;
#[path = "../it/proto.rs"]
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod proto;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mutants::Random;

/// Time that a mutant may take, even where other programs run beside this one.
const SLOW: Duration = Duration::from_secs(2);
/// Bytes that the whole process may take: the mutants are short.
const MEMORY: u64 = 256 << 20;
/// Mutants between two lines of progress.
const ROUND: u64 = 20_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| match arguments.next().map(|text| text.parse()) {
        None => Some(default),
        Some(number) => number.ok(),
    };
    let (Some(count), Some(first)) = (number(1_000_000), number(0)) else {
        eprintln!("usage: attack [COUNT [SEED]]");
        return ExitCode::from(2);
    };
    println!("{count} mutants, seeds from {first} on");
    let files = mutants::files();
    let (start, mut harmful, mut loaded) = (Instant::now(), 0, 0);
    for index in 0..count {
        let seed = first.wrapping_add(index);
        let mut random = Random(seed);
        let file = &files[random.below(files.len())];
        let mutant = match random.below(6) {
            0 => mutants::edited(&mut random, file),
            1 => mutants::graph_edited(&mut random, file),
            _ => mutants::graph_changed(&mut random, file),
        };
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| mutants::survives(&mutant)));
        let took = began.elapsed();
        match outcome {
            Ok(survived) => loaded += u64::from(survived),
            Err(_) => {
                harmful += 1;
                println!("seed {seed}: a panic, on {} bytes", mutant.len());
            }
        }
        if took > SLOW {
            harmful += 1;
            println!("seed {seed}: took {took:.1?}, with {} bytes", mutant.len());
        }
        if (index + 1) % ROUND == 0 || index + 1 == count {
            let memory = peak_memory();
            println!(
                "{:>9} of {count} after {:.0?}: {loaded} loaded, {harmful} harmful{}",
                index + 1,
                start.elapsed(),
                memory.map_or(String::new(), |peak| format!(", at most {} MiB", peak >> 20)),
            );
            if memory.is_some_and(|peak| peak > MEMORY) {
                println!(
                    "seeds from {} to {seed}: too much memory",
                    (seed + 1).saturating_sub(ROUND)
                );
                return ExitCode::FAILURE;
            }
        }
    }
    if harmful == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The most bytes of memory that this process has had at once, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
