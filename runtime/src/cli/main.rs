//! `lumina`: runs, shows and verifies `.lmn` files.
//!
//! Exit codes: 0 for success, 1 where `verify` found a difference, 2 for everything else, with one
//! line on stderr that says why.

mod inspect;
mod npy;
mod run;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lumina_runtime::{Error, Options, printable};

#[derive(Parser)]
#[command(name = "lumina", version, about = "Runs, shows and verifies .lmn files")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compute a model's outputs for inputs in .npy files
    Run(run::Arguments),
    /// Show what is in a file
    Inspect(inspect::Arguments),
    /// Run the test vectors in a file and compare; exit code 1 where an output differs
    Verify(verify::Arguments),
}

#[derive(Args)]
struct Resources {
    /// Threads; 0 is one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    threads: u16,
    /// Most memory that the buffers may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096)]
    memory_limit: u32,
}

impl Resources {
    fn options(&self) -> Options {
        Options { threads: self.threads.into(), memory_limit: u64::from(self.memory_limit) << 20 }
    }
}

/// What ends a command early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}: {error}", path.display())]
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

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => arguments.execute(),
        Command::Inspect(arguments) => arguments.execute(),
        Command::Verify(arguments) => arguments.execute(),
    };
    result.unwrap_or_else(|failure| {
        eprintln!("error: {}", printable(&failure.to_string()));
        ExitCode::from(2)
    })
}
