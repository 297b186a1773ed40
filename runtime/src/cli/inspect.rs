//! `lumina inspect`: what is in a file.

use std::path::PathBuf;
use std::process::ExitCode;

use lumina_runtime::Model;

use crate::Failure;
use crate::console::print;

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina inspect net.lmn
  lumina inspect net.lmn --json";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The .lmn file
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let model = Model::load(&self.model).map_err(Failure::of(&self.model))?;
        let text = if self.json { model.to_json() + "\n" } else { model.describe() };
        print(&text).map_err(Failure::Usage)?;
        Ok(ExitCode::SUCCESS)
    }
}
