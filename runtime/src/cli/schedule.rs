//! `lumina schedule`: what the processor of a file does in a call.

use std::process::ExitCode;

use lumina_runtime::{EntrySchedule, Schedule, printable};

use crate::Failure;
use crate::console::print;
use crate::model_file::ModelFile;
use crate::symbol::symbol;

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina schedule net.lmn
  lumina schedule net.lmn --symbol batch=32
  lumina schedule net.lmn --passes
  lumina schedule net.lmn --json";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
    /// Value of a symbolic extent; else that of the first test vector, or 1
    #[arg(long = "symbol", value_name = "NAME=N", value_parser = symbol)]
    symbols: Vec<(String, u64)>,
    /// List each setting of a bank, too
    #[arg(long, conflicts_with = "json")]
    passes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let model = self.model.load()?;
        let schedule = model.schedule(&self.symbols).map_err(Failure::of(&self.model.path))?;
        let text =
            if self.json { format!("{:#}\n", schedule.to_json()) } else { schedule.describe() };
        print(&text).map_err(Failure::Usage)?;
        if self.passes {
            for entry in &schedule.entries {
                print_passes(&schedule, entry)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints the settings of one call of each product, a line for each.
fn print_passes(schedule: &Schedule, entry: &EntrySchedule) -> Result<(), Failure> {
    for (index, layer) in entry.layers.iter().enumerate() {
        let name = printable(&layer.name);
        print(&format!("\npasses of layer {index}, {name}\n")).map_err(Failure::Usage)?;
        for pass in layer.passes(schedule.device.banks) {
            let (inputs, outputs) = (pass.inputs, pass.outputs);
            let line = format!(
                "  turn {:<6} bank {:<4} inputs {} to {}, outputs {} to {}\n",
                pass.turn,
                pass.bank,
                inputs.start,
                inputs.end - 1,
                outputs.start,
                outputs.end - 1
            );
            print(&line).map_err(Failure::Usage)?;
        }
    }
    Ok(())
}
