//! `lumina inspect`: what is in a file.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use lumina_runtime::Model;

use crate::Failure;

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
        // A reader that has seen enough may close the pipe.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}
