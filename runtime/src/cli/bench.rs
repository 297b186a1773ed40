//! `lumina bench`: how fast a model runs here, and where its time goes.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lumina_runtime::bench::{Request, bench};
use lumina_runtime::printable;

use crate::console::print;
use crate::model_file::ModelFile;
use crate::progress::Progress;
use crate::symbol::symbol;
use crate::{Failure, Resources};

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina bench net.lmn
  lumina bench net.lmn --batch 64 --threads 1
  lumina bench net.lmn --nodes --seconds 10
  lumina bench lm.lmn --entry prefill --symbol time=128 --json

Ctrl-C ends it early with what was measured until then, and exit code 130.";

/// What shells report of a program that SIGINT ends.
const INTERRUPTED: u8 = 130;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
    /// Run the entry point of that name instead of the first one of the file
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Rows of the batch: the symbol that is axis 0 of the first input that has one there
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    batch: Option<u64>,
    /// Value of a symbol of the inputs, as often as there are any
    ///
    /// Those that are not said are as in the first test vector, or 1 where it has none.
    #[arg(long, value_name = "NAME=N", value_parser = symbol)]
    symbol: Vec<(String, u64)>,
    /// Measure for so many seconds, and ten runs at least
    #[arg(
        long,
        value_name = "S",
        default_value_t = Request::default().seconds,
        allow_negative_numbers = true
    )]
    seconds: f64,
    /// Print the time of each node, which is measured for half as long again
    #[arg(long)]
    nodes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    resources: Resources,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let fault = Failure::of(&self.model.path);
        let model = Arc::new(self.model.load()?);
        let request = Request {
            entry: self.entry.clone(),
            batch: self.batch,
            symbols: self.symbol.clone(),
            seconds: self.seconds,
            nodes: self.nodes,
            options: self.resources.options(),
        };
        let stop = interruption()
            .map_err(|error| Failure::Usage(format!("cannot wait for Ctrl-C: {error}")))?;
        let mut progress = Progress::of_percent(!self.json);
        let result = bench(&model, &request, &mut |share| {
            progress.at((share * 100.0) as usize);
            !stop.load(Ordering::Relaxed)
        });
        drop(progress);
        let found = result.map_err(fault)?;
        let text = if self.json {
            let mut json = found.to_json();
            json["model"] = self.model.path.display().to_string().into();
            format!("{json}\n")
        } else {
            let path = self.model.path.display().to_string();
            format!("{}\n{}", printable(&path), found.describe())
        };
        print(&text).map_err(Failure::Usage)?;
        Ok(if found.interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
    }
}

/// What Ctrl-C sets. The second one ends the program at once.
fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    {
        use signal_hook::{consts::SIGINT, flag};
        flag::register_conditional_default(SIGINT, Arc::clone(&stop))?;
        flag::register(SIGINT, Arc::clone(&stop))?;
    }
    Ok(stop)
}
