//! `lumina`: runs, shows, verifies, measures and converts `.lmn` files.
//!
//! Exit codes: 0 for success, 1 where `verify` or `diff` found a difference, 130 where `bench` was
//! interrupted, 2 for everything else, with one line on standard error that says why. A reader that
//! closes its pipe early changes none of them.

mod assign;
mod bench;
mod console;
mod convert;
mod destination;
mod diff;
mod element;
mod files;
mod inputs;
mod inspect;
mod joined;
mod model_file;
mod npy;
mod npy_header;
mod npz;
mod outputs;
mod pieces;
mod progress;
mod report;
mod rows;
mod run;
mod schedule;
mod symbol;
mod temporary;
mod top;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lumina_runtime::{Error, MAX_THREADS, Options, printable};

#[derive(Parser)]
#[command(
    name = "lumina",
    version,
    about = "Runs, shows, verifies, measures and converts .lmn files",
    after_help = "Example:\n  lumina run net.lmn --input x.npy --output y.npy"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compute a model's outputs for inputs in .npy and .npz files
    #[command(after_help = run::EXAMPLES)]
    Run(run::Arguments),
    /// Show what is in a file
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::Arguments),
    /// Show what the photonic processor does in a call: passes, time and energy
    #[command(after_help = schedule::EXAMPLES)]
    Schedule(schedule::Arguments),
    /// Run the test vectors in a file and compare; exit code 1 where an output differs
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::Arguments),
    /// Show what differs between two files; exit code 1 where something does
    #[command(after_help = diff::EXAMPLES)]
    Diff(diff::Arguments),
    /// Write a page about a file, for a browser
    #[command(after_help = report::EXAMPLES)]
    Report(report::Arguments),
    /// Measure how fast a model runs on this machine, and what the machine could do
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::Arguments),
    /// Write a model as an ONNX file, of standard ops alone and without noise
    #[command(after_help = convert::EXAMPLES)]
    Convert(convert::Arguments),
}

#[derive(Args)]
struct Resources {
    /// Threads; 0 is one per core
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = clap::value_parser!(u16).range(0..=MAX_THREADS as i64)
    )]
    threads: u16,
    /// Most memory that the buffers may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory_limit: u32,
    /// Most trips that all loops of a run may make together
    #[arg(long, value_name = "N", default_value_t = Options::default().trip_limit)]
    trip_limit: u64,
}

impl Resources {
    fn options(&self) -> Options {
        Options {
            threads: self.threads.into(),
            memory_limit: u64::from(self.memory_limit) << 20,
            trip_limit: self.trip_limit,
        }
    }
}

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", told(path, error))]
    Model { path: PathBuf, error: Error },
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// A fault of the file at `path`, or of running it.
    fn of(path: &std::path::Path) -> impl Fn(Error) -> Self {
        move |error| Self::Model { path: path.to_owned(), error }
    }
}

/// The fault after the name of the file, unless it says that itself.
fn told(path: &std::path::Path, error: &Error) -> String {
    match error {
        Error::Read { .. } => error.to_string(),
        _ => format!("{}: {error}", path.display()),
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => arguments.execute(),
        Command::Inspect(arguments) => arguments.execute(),
        Command::Schedule(arguments) => arguments.execute(),
        Command::Verify(arguments) => arguments.execute(),
        Command::Diff(arguments) => arguments.execute(),
        Command::Report(arguments) => arguments.execute(),
        Command::Bench(arguments) => arguments.execute(),
        Command::Convert(arguments) => arguments.execute(),
    };
    result.unwrap_or_else(|failure| {
        console::note(&format!("error: {}", printable(&failure.to_string())));
        ExitCode::from(2)
    })
}
