//! `lumina run`: from .npy files to .npy files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lumina_runtime::{Model, Port, Role, Session, Tensor, View};
use serde_json::json;

use crate::{Failure, Resources, npy};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The .lmn file
    model: PathBuf,
    /// An input; a model with several takes NAME=PATH for each
    #[arg(long, value_name = "[NAME=]PATH")]
    input: Vec<String>,
    /// Where an output goes; a model with several takes NAME=PATH
    #[arg(long, value_name = "[NAME=]PATH", required = true)]
    output: Vec<String>,
    /// Seed of the analog noise; the same as jax.random.key(N)
    #[arg(long, value_name = "N")]
    noise_seed: Option<u64>,
    /// Print the times as JSON on stdout: `load_ms` to read and check the file, `start_ms` from the
    /// same moment until threads, plan and buffers are ready, `run_ms` for the computation
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
        let inputs = self.inputs(&model)?;
        let outputs = assign("output", &self.output, model.outputs())?;
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
        for (path, result) in outputs.iter().zip(&results) {
            if let Some(path) = path {
                npy::write(path, result).map_err(Failure::Usage)?;
            }
        }
        self.report(load, start, run);
        Ok(ExitCode::SUCCESS)
    }

    /// The inputs of the graph, in its order.
    fn inputs(&self, model: &Model) -> Result<Vec<Tensor>, Failure> {
        let ports = model.inputs();
        let is_seed = |port: &&Port| port.role == Role::NoiseSeed;
        let seed = match (ports.iter().find(is_seed), self.noise_seed) {
            (Some(port), None) => {
                return Err(Failure::Usage(format!(
                    "the model draws noise from a key (input `{}`): pass --noise-seed N",
                    port.name
                )));
            }
            (None, Some(_)) => {
                let message = "the model draws no noise from a key: leave --noise-seed out";
                return Err(Failure::Usage(message.into()));
            }
            (_, seed) => seed,
        };
        let data = ports.iter().filter(|port| !is_seed(port));
        let mut paths = assign("input", &self.input, data)?.into_iter();
        ports
            .iter()
            .map(|port| {
                if let (Role::NoiseSeed, Some(seed)) = (port.role, seed) {
                    let words = [(seed >> 32) as u32, seed as u32];
                    return Tensor::new(&[2], &words)
                        .map_err(|error| Failure::Usage(error.to_string()));
                }
                match paths.next().flatten() {
                    Some(path) => npy::read(&path).map_err(Failure::Usage),
                    None => {
                        let name = &port.name;
                        let message =
                            format!("input `{name}` is missing: pass --input {name}=PATH");
                        Err(Failure::Usage(message))
                    }
                }
            })
            .collect()
    }

    fn report(&self, load: Duration, start: Duration, run: Duration) {
        let [load, start, run] = [load, start, run].map(|time| time.as_secs_f64() * 1e3);
        if self.json {
            let times = json!({ "load_ms": load, "start_ms": start, "run_ms": run });
            // A reader that has seen enough may close the pipe.
            let _ = writeln!(std::io::stdout(), "{times}");
        } else {
            eprintln!("loaded in {load:.2} ms, ready after {start:.2} ms, ran in {run:.2} ms");
        }
    }
}

/// The path that `arguments` give for each of `ports`. An argument is NAME=PATH, or the path alone
/// where there is one value.
fn assign<'a>(
    what: &str,
    arguments: &[String],
    ports: impl IntoIterator<Item = &'a Port>,
) -> Result<Vec<Option<PathBuf>>, Failure> {
    let names: Vec<&str> = ports.into_iter().map(|port| port.name.as_str()).collect();
    let mut paths = vec![None; names.len()];
    for argument in arguments {
        let named = names.iter().enumerate().find_map(|(index, name)| {
            argument.strip_prefix(name)?.strip_prefix('=').map(|path| (index, path))
        });
        let (index, path) = match named {
            Some(named) => named,
            None if names.len() == 1 => (0, argument.as_str()),
            None => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                return Err(Failure::Usage(format!(
                    "--{what} {argument} names no {what} of the model: pass NAME=PATH, where NAME \
                     is one of {}",
                    if names.is_empty() { "none".into() } else { names.join(", ") }
                )));
            }
        };
        if paths[index].replace(Path::new(path).to_owned()).is_some() {
            let message = format!("{what} `{}` is given twice", names[index]);
            return Err(Failure::Usage(message));
        }
    }
    Ok(paths)
}
