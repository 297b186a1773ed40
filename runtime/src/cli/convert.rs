//! `lumina convert`: a model in the format of other runtimes.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lumina_runtime::onnx;

use crate::Failure;
use crate::destination::Destination;
use crate::files::Identity;
use crate::model_file::ModelFile;

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina convert net.lmn -o net.onnx
  lumina convert lm.lmn --entry decode -o decode.onnx";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
    /// The .onnx file, or - for standard output; a file is replaced whole or not at all
    #[arg(short, long, value_name = "PATH", allow_hyphen_values = true)]
    output: PathBuf,
    /// Convert the entry point of that name instead of the first one of the file
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let destination = self.destination().map_err(Failure::Usage)?;
        let model = self.model.load()?;
        let bytes =
            onnx::convert(&model, self.entry.as_deref()).map_err(Failure::of(&self.model.path))?;
        let write = || {
            let mut writer = destination.open()?;
            writer.write(|sink| sink.write_all(&bytes))?;
            writer.sync()?;
            writer.commit()
        };
        write().map_err(Failure::Usage)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Where the file goes, which is known to work before the model is read.
    fn destination(&self) -> Result<Destination, String> {
        let path = self.output.as_path();
        let is_onnx = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("onnx"));
        let destination = Destination::new(path)?;
        if !is_onnx && destination.folder().is_some() {
            let path = path.display();
            return Err(format!("--output {path} must end with .onnx, the format that is written"));
        }
        if destination.identity().is_some_and(|it| Some(it) == Identity::of(&self.model.path)) {
            let path = Path::display(path);
            return Err(format!("--output {path} is the model itself: give it a path of its own"));
        }
        Ok(destination)
    }
}
