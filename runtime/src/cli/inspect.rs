//! `lumina inspect`: what is in a file.

use std::process::ExitCode;

use crate::Failure;
use crate::console::print;
use crate::model_file::ModelFile;

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina inspect net.lmn
  lumina inspect net.lmn --json";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let model = self.model.load()?;
        model.check_condition_number().map_err(Failure::of(&self.model.path))?;
        let text = if self.json { model.to_json() + "\n" } else { model.describe() };
        print(&text).map_err(Failure::Usage)?;
        Ok(ExitCode::SUCCESS)
    }
}
