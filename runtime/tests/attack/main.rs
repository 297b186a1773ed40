//! `make attack`: the files of `it/hostile.rs`, of ten megabytes each, and mutants by the million. Each
//! is loaded, shown, reported on, compared with what it was made from and verified, in bounded time and
//! memory, and none is a panic. It is no part of the tests: it takes as long as one lets it.
//!
//! ```text
//! attack [COUNT [SEED]]
//! ```
//!
//! The seed of a mutant is its number: COUNT 1 and SEED n make it again.

// Of what is shared with the tests, not all is used here.
#![allow(dead_code, unused_imports)]

#[path = "../it/build.rs"]
mod build;
#[path = "../it/changes.rs"]
mod changes;
#[path = "../it/device.rs"]
mod device;
#[path = "../it/hostile.rs"]
mod hostile;
#[path = "../it/looping.rs"]
mod looping;
#[path = "../it/mutants.rs"]
mod mutants;
#[path = "../it/proto.rs"]
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod proto;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lumina_runtime::Model;
use mutants::Random;

/// Time that a mutant may take, or a file of ten megabytes, even where other programs run beside this.
const SLOW: Duration = Duration::from_secs(2);
/// Bytes of each hostile file.
const LARGE: usize = 10 << 20;
/// What loading one may take beside three times its length, and 2 MiB of the program itself.
const BASE: u64 = 34 << 20;
/// Bytes that the whole process may take: the mutants are short.
const MEMORY: u64 = 256 << 20;
/// Mutants between two lines of progress.
const ROUND: u64 = 20_000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if_eq("--load").is_some() {
        load(Path::new(&arguments.next().unwrap_or_default()));
        return ExitCode::SUCCESS;
    }
    let mut number = |default: u64| match arguments.next().map(|text| text.parse()) {
        None => Some(default),
        Some(number) => number.ok(),
    };
    let (Some(count), Some(first)) = (number(1_000_000), number(0)) else {
        eprintln!("usage: attack [COUNT [SEED]]");
        return ExitCode::from(2);
    };
    println!("{count} mutants, seeds from {first} on");
    let files = mutants::files().map(|file| {
        let model = Model::from_bytes(&file).expect("a right file");
        (file, model)
    });
    let (start, mut harmful, mut loaded) = (Instant::now(), 0, 0);
    for index in 0..count {
        let seed = first.wrapping_add(index);
        let mut random = Random(seed);
        let (file, model) = &files[random.below(files.len())];
        let mutant = match random.below(6) {
            0 => mutants::edited(&mut random, file),
            1 => mutants::graph_edited(&mut random, file),
            _ => mutants::graph_changed(&mut random, file),
        };
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| mutants::survives(&mutant, model)));
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
    harmful += hostile_files();
    if harmful == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Loads the files of which each asks for more than it is worth, each in a process of its own, and says
/// how many of them get it.
fn hostile_files() -> u64 {
    let folder = tempfile::tempdir().expect("a place for files");
    let path = folder.path().join("m.lmn");
    let program = std::env::current_exe().expect("the path of this program");
    let mut harmful = 0;
    for &((what, make), expected) in hostile::FILES {
        let bytes = make(LARGE);
        std::fs::write(&path, &bytes).expect("room for a file");
        let output = Command::new(&program).arg("--load").arg(&path).output();
        let output = output.expect("a process of this program");
        let said = String::from_utf8_lossy(&output.stdout);
        let number = |index: usize| said.split(' ').nth(index)?.parse::<u64>().ok();
        // A file that may load is refused if so much of it is more than a graph may be.
        let is_loaded = number(0) == Some(1);
        let is_harmless = !(is_loaded && expected.is_some())
            && number(1).is_some_and(|time| time <= SLOW.as_millis() as u64)
            && number(2).is_some_and(|peak| peak <= BASE + 3 * bytes.len() as u64);
        harmful += u64::from(!is_harmless);
        println!(
            "{what}: {:.1} MiB, {}, {} ms, {} MiB of memory{}",
            bytes.len() as f64 / 1048576.0,
            if is_loaded { "loaded" } else { "refused" },
            number(1).unwrap_or(0),
            number(2).unwrap_or(0) >> 20,
            if is_harmless { "" } else { ": HARMFUL" },
        );
    }
    harmful
}

/// Loads a file and prints whether it loaded, the milliseconds that it took, and the bytes of memory.
fn load(path: &Path) {
    let before = peak_memory();
    let began = Instant::now();
    let loaded = Model::load(path).is_ok();
    let took = began.elapsed().as_millis();
    let peak = peak_memory().zip(before).map_or(0, |(peak, before)| peak - before);
    print!("{} {took} {peak} ", u8::from(loaded));
}

/// The most bytes of memory that this process has had at once, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}
