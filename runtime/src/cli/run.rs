//! `lumina run`: from arrays to arrays.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lumina_runtime::{Model, Session, Tensor, View};
use serde_json::{Value, json};

use crate::console::{note, print};
use crate::{Failure, Resources, inputs, outputs, top};

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina run net.lmn --input x.npy --output y.npy
  lumina run net.lmn --input x.npy --top 3
  lumina run net.lmn --input image=a.npy --input mask=b.npy --output logits=y.npy
  lumina run net.lmn --input data.npz --output results.npz
  lumina run net.lmn --input float64.npy --cast --output y.npy
  produce | lumina run net.lmn --input - --output - | consume

A path that begins with NAME= is written with ./ before it, and so is a file that is called -.";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The .lmn file
    model: PathBuf,
    /// An input: a .npy file, a .npz file, or - for standard input
    ///
    /// A model with several inputs takes NAME=PATH for each, or a .npz file that holds them by
    /// their names. Of a .npz file, an input takes the array of its name, or the only one. Integers
    /// and bools are converted where they keep their values; floats of another precision need
    /// --cast.
    #[arg(long, value_name = "[NAME=]PATH", allow_hyphen_values = true)]
    input: Vec<OsString>,
    /// Take floats of another precision than that of the input, and round them to it
    #[arg(long)]
    cast: bool,
    /// Where an output goes: a .npy file, a .npz file, or - for standard output
    ///
    /// A model with several outputs takes NAME=PATH for each that is wanted, or a .npz file, which
    /// gets all of them by their names. A file is replaced whole or not at all; links are followed,
    /// and devices and pipes are written to.
    #[arg(
        long,
        value_name = "[NAME=]PATH",
        allow_hyphen_values = true,
        required_unless_present = "top"
    )]
    output: Vec<OsString>,
    /// Print the K largest values of each row of the outputs with their indices, the largest first;
    /// a row lies along the last axis
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Seed of the analog noise; the same as jax.random.key(N)
    #[arg(long, value_name = "N")]
    noise_seed: Option<u64>,
    /// Print the times, and what --top finds, as JSON on standard output
    ///
    /// `load_ms` is the time to read and check the file, `start_ms` that from the same moment until
    /// threads, plan and buffers are ready, and `run_ms` that of the computation.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    resources: Resources,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let fault = Failure::of(&self.model);
        let begin = Instant::now();
        let model = Arc::new(Model::load(&self.model).map_err(&fault)?);
        let load = begin.elapsed();
        // Reading the inputs is no part of starting.
        let reading = Instant::now();
        let outputs = self.outputs(&model).map_err(Failure::Usage)?;
        let inputs = inputs::read(&model, &self.input, self.cast, self.noise_seed)
            .map_err(Failure::Usage)?;
        let reading = reading.elapsed();
        let mut session =
            Session::new(Arc::clone(&model), self.resources.options()).map_err(&fault)?;
        let facts: Vec<_> = inputs.iter().map(|input| input.view().fact()).collect();
        session.prepare(&facts).map_err(&fault)?;
        let start = begin.elapsed() - reading;
        let begin = Instant::now();
        let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
        let results = session.run(&views).map_err(&fault)?;
        let run = begin.elapsed();
        outputs::write(&outputs, model.outputs(), &results).map_err(Failure::Usage)?;
        self.report(&model, &results, [load, start, run]).map_err(Failure::Usage)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Where the outputs go, which is known to work before anything is computed.
    fn outputs(&self, model: &Model) -> Result<Vec<outputs::Output>, String> {
        if self.top.is_some() {
            top::check(model.outputs())?;
        }
        let outputs = outputs::plan(&self.model, model.outputs(), &self.output)?;
        if outputs.iter().any(outputs::Output::is_stdout) && (self.json || self.top.is_some()) {
            let option = if self.json { "--json" } else { "--top" };
            return Err(format!(
                "standard output takes an output or what {option} prints: write the output to a \
                 file or leave {option} out"
            ));
        }
        Ok(outputs)
    }

    fn report(
        &self,
        model: &Model,
        results: &[View<'_>],
        times: [Duration; 3],
    ) -> Result<(), String> {
        let [load, start, run] = times.map(|time| time.as_secs_f64() * 1e3);
        let mut rows = Vec::new();
        for (port, result) in model.outputs().iter().zip(results) {
            if let Some(k) = self.top {
                rows.push((port, top::rows(result, k as usize)?));
            }
        }
        if self.json {
            let mut report = json!({ "load_ms": load, "start_ms": start, "run_ms": run });
            if self.top.is_some() {
                report["top"] = rows
                    .iter()
                    .map(|(port, rows)| (port.name.clone(), top::as_json(port, rows)))
                    .collect::<Value>();
            }
            return print(&format!("{report}\n"));
        }
        print(&rows.iter().map(|(port, rows)| top::as_text(port, rows)).collect::<String>())?;
        note(&format!("loaded in {load:.2} ms, ready after {start:.2} ms, ran in {run:.2} ms"));
        Ok(())
    }
}
