//! `lumina report`: a page about a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lumina_runtime::{ReportOptions, report};

use crate::destination::Destination;
use crate::files::Identity;
use crate::model_file::ModelFile;
use crate::symbol::symbol;
use crate::{Failure, Resources};

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina report net.lmn --output report.html
  lumina report lm.lmn --entry decode --symbol batch=8 --output report.html
  lumina bench net.lmn --nodes --json > bench.json
  lumina report net.lmn --bench bench.json --output report.html";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
    /// The HTML file that is written
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Show the entry point of that name alone
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Value of a symbolic extent, for shapes and memory; else that of the first test vector, or 1
    #[arg(long, value_name = "NAME=N", value_parser = symbol)]
    symbol: Vec<(String, u64)>,
    /// What `lumina bench --nodes --json` printed of the model, for the time of each node
    #[arg(long, value_name = "JSON")]
    bench: Option<PathBuf>,
    #[command(flatten)]
    resources: Resources,
}

impl Arguments {
    pub(crate) fn execute(self) -> Result<ExitCode, Failure> {
        let model = self.model.load()?;
        let destination = Destination::new(&self.output).map_err(Failure::Usage)?;
        if destination.identity().is_some_and(|to| Some(to) == Identity::of(&self.model.path)) {
            let path = self.output.display();
            return Err(Failure::Usage(format!("--output {path} leads to the file of the model")));
        }
        let name = self.model.path.file_name().unwrap_or(self.model.path.as_os_str());
        let entry = self.entry.as_deref().map(|name| model.entry(Some(name))).transpose();
        let bench = self.bench.as_deref().map(text_of).transpose()?;
        let options = ReportOptions {
            title: name.to_string_lossy().into_owned(),
            entry: entry.map_err(Failure::of(&self.model.path))?,
            symbols: self.symbol,
            bench,
            options: self.resources.options(),
        };
        let page = report(&model, &options).map_err(Failure::of(&self.model.path))?;
        let mut writer = destination.open().map_err(Failure::Usage)?;
        writer.write(|sink| sink.write_all(page.as_bytes())).map_err(Failure::Usage)?;
        writer.sync().and_then(|()| writer.commit()).map_err(Failure::Usage)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The text of a file.
fn text_of(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read `{}`: {error}", path.display())))
}
