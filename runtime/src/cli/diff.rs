//! `lumina diff`: what differs between two files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lumina_runtime::{Model, diff};

use crate::Failure;
use crate::console::print;

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina diff old.lmn new.lmn
  lumina diff old.lmn new.lmn --json

Exit codes: 0 where the files hold the same, 1 where they differ, 2 for an error";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first .lmn file
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The second .lmn file
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let load = |path: &Path| Model::load(path).map_err(Failure::of(path));
        let (a, b) = (load(&self.a)?, load(&self.b)?);
        let found = diff(&a, &b).map_err(Failure::of(&self.b))?;
        let text = match self.json {
            true => format!("{:#}\n", found.to_json()),
            false => format!("{found}\n"),
        };
        print(&text).map_err(Failure::Usage)?;
        Ok(ExitCode::from(u8::from(!found.is_empty())))
    }
}
