//! `lumina run`: from arrays to arrays.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lumina_runtime::{Batch, Error, Fact, Model, Port, Session, View};
use serde_json::json;

use crate::console::{note, print};
use crate::inputs::{self, Opened, Source};
use crate::joined::Joined;
use crate::model_file::ModelFile;
use crate::npz::Archive;
use crate::pieces::{Cut, Pieces};
use crate::progress::Progress;
use crate::rows::Unread;
use crate::top::{self, Tops};
use crate::{Failure, Resources, outputs};

/// Bytes of inputs from which on it is said that they need not be there at once.
const LARGE: u64 = 256 << 20;

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina run net.lmn --input x.npy --output y.npy
  lumina run net.lmn --input x.npy --top 3
  lumina run net.lmn --input image=a.npy --input mask=b.npy --output logits=y.npy
  lumina run net.lmn --input data.npz --output results.npz
  lumina run net.lmn --input float64.npy --cast --output y.npy
  lumina run net.lmn --input x.npy --output y.npy --batch 64
  lumina run lm.lmn --entry prefill --input prompt.npy --top 1 --save-state s.npz
  lumina run lm.lmn --entry decode --input tokens.npy --steps --top 1 --state s.npz
  produce | lumina run net.lmn --input - --output - | consume

A path that begins with NAME= is written with ./ before it, and so is a file that is called -.";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
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
        required_unless_present_any = ["top", "save_state"]
    )]
    output: Vec<OsString>,
    /// Run the entry point of that name instead of the first one of the file
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Begin with the states in a .npz file, which --save-state wrote
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    state: Option<PathBuf>,
    /// Write the states that the model keeps from run to run to a .npz file at the end
    ///
    /// Another run that takes them by --state goes on where this one ends, with the same entry
    /// point or another. Both may name the same file.
    #[arg(long, value_name = "PATH", allow_hyphen_values = true)]
    save_state: Option<PathBuf>,
    /// Run N rows at a time, so that inputs and outputs may be larger than memory
    ///
    /// Rows are what axis 0 of the inputs counts, where it is a symbol of the model. They are read
    /// as they are needed, also from a pipe, and those of the outputs are written as they come. A
    /// model that looks from row to row gives something else than for all rows at once; piece P of
    /// a model with noise draws it from jax.random.fold_in(key, P).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Run the model once for each step along axis 0, which each input has beside its own axes
    ///
    /// So a file for an input f32[64] is f32[steps,64]. Outputs get the axis, too. What the model
    /// keeps goes from each step to the next; step P of a model with noise draws it from
    /// jax.random.fold_in(key, P).
    #[arg(long, conflicts_with = "batch")]
    steps: bool,
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
    /// Print nothing on standard error but errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    resources: Resources,
}

/// What is run.
struct Entry<'a> {
    number: usize,
    inputs: &'a [Port],
    outputs: &'a [Port],
    batch: Result<Batch, Error>,
}

/// How long it took until something was done.
#[derive(Default)]
struct Times {
    load: Duration,
    start: Duration,
    run: Duration,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let fault = Failure::of(&self.model.path);
        let begin = Instant::now();
        let model = Arc::new(self.model.load()?);
        let load = begin.elapsed();
        let mut times = Times { load, start: load, ..Times::default() };
        let entry = self.entry(&model).map_err(Failure::Usage)?;
        let cut = self.cut(&entry).map_err(Failure::Usage)?;
        let outputs = self.outputs(&entry).map_err(Failure::Usage)?;
        let mut opened =
            Opened::new(entry.inputs, &self.input, self.noise_seed, self.state.as_deref())
                .map_err(Failure::Usage)?;
        let states = opened.states.take();
        let sources = opened.sources().map_err(Failure::Usage)?;
        self.advise(&entry, &sources);
        let mut pieces = Pieces::new(sources, &cut, self.cast).map_err(Failure::Usage)?;
        let begin = Instant::now();
        let mut session =
            Session::new(Arc::clone(&model), self.resources.options()).map_err(&fault)?;
        times.start += begin.elapsed();
        take_states(&model, states, &mut session).map_err(Failure::Usage)?;
        let mut joined = Joined::new(&outputs, entry.outputs, pieces.whole(), pieces.is_one());
        let mut tops = self.top.map(|k| Tops::new(k as usize, entry.outputs, pieces.whole()));
        let mut progress = Progress::on_terminal(pieces.whole(), !self.json && !self.quiet);
        while let Some(piece) = pieces.read().map_err(Failure::Usage)? {
            let views = pieces.views();
            let begin = Instant::now();
            if piece.first == 0 {
                let facts: Vec<Fact> = views.iter().map(View::fact).collect();
                session
                    .prepare_entry(entry.number, &facts)
                    .map_err(|error| self.too_large(&entry, error))?;
                times.start += begin.elapsed();
            }
            let begin = Instant::now();
            let results = session.run_entry(entry.number, &views).map_err(&fault)?;
            times.run += begin.elapsed();
            joined.append(piece, &results).map_err(Failure::Usage)?;
            let mut is_read = joined.is_read();
            if let Some(tops) = &mut tops {
                tops.add(piece.first, &results).map_err(Failure::Usage)?;
                // What is kept for the end is read.
                let mut is_printed = true;
                if !self.json && !pieces.is_one() {
                    progress.clear();
                    is_printed = print(&tops.take_text(false)).map_err(Failure::Usage)?;
                }
                is_read |= is_printed;
            }
            if !is_read {
                break;
            }
            progress.at(piece.first + piece.rows);
        }
        drop(progress);
        let states: Vec<&str> = model.state_facts().map(|(name, _)| name).collect();
        joined.finish(&mut session, &states).map_err(Failure::Usage)?;
        self.report(tops, &times).map_err(Failure::Usage)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The entry point that is run.
    fn entry<'a>(&self, model: &'a Model) -> Result<Entry<'a>, String> {
        let text = |error: Error| error.to_string();
        let number = model.entry(self.entry.as_deref()).map_err(text)?;
        let options = [("state", &self.state), ("save-state", &self.save_state)];
        if model.state_facts().len() == 0
            && let Some((option, _)) = options.into_iter().find(|(_, path)| path.is_some())
        {
            return Err(format!("the model keeps no state from run to run: leave --{option} out"));
        }
        Ok(Entry {
            number,
            inputs: model.inputs_of(number).map_err(text)?,
            outputs: model.outputs_of(number).map_err(text)?,
            batch: model.batch_of(number),
        })
    }

    fn cut(&self, entry: &Entry<'_>) -> Result<Cut, String> {
        if self.steps {
            return Ok(Cut::Steps);
        }
        let Some(rows) = self.batch.and_then(|rows| NonZero::new(rows as usize)) else {
            return Ok(Cut::Whole);
        };
        match &entry.batch {
            Ok(batch) => Ok(Cut::Rows(rows, batch.clone())),
            Err(error) => Err(format!("--batch {rows}: {error}")),
        }
    }

    /// Where the outputs go, which is known to work before anything is computed.
    fn outputs(&self, entry: &Entry<'_>) -> Result<Vec<outputs::Output>, String> {
        if self.top.is_some() {
            top::check(entry.outputs)?;
        }
        let states = self.save_state.as_deref();
        let outputs = outputs::plan(&self.model.path, entry.outputs, &self.output, states)?;
        if outputs.iter().any(outputs::Output::is_stdout) && (self.json || self.top.is_some()) {
            let option = if self.json { "--json" } else { "--top" };
            return Err(format!(
                "standard output takes an output or what {option} prints: write the output to a \
                 file or leave {option} out"
            ));
        }
        Ok(outputs)
    }

    /// Tells of --batch where inputs are large. It is not for the program to choose it: of some
    /// models, the outputs would be others.
    fn advise(&self, entry: &Entry<'_>, sources: &[Source<'_>]) {
        let size = sources.iter().fold(0u64, |sum, source| sum.saturating_add(source.known_size()));
        if size >= LARGE
            && self.batch.is_none()
            && !self.steps
            && !self.json
            && !self.quiet
            && entry.batch.is_ok()
        {
            let size = size >> 20;
            note(&format!(
                "the inputs take {size} MiB of memory at once: --batch N runs N rows at a time"
            ));
        }
    }

    /// A run that cannot be had, and what may help.
    fn too_large(&self, entry: &Entry<'_>, error: Error) -> Failure {
        let is_help = self.batch.is_none() && !self.steps && entry.batch.is_ok();
        match error {
            Error::Memory { .. } if is_help => Failure::Usage(format!(
                "{}: {error}; --batch N runs N rows at a time",
                self.model.path.display()
            )),
            error => Failure::of(&self.model.path)(error),
        }
    }

    fn report(&self, tops: Option<Tops<'_>>, times: &Times) -> Result<(), String> {
        let [load, start, run] =
            [times.load, times.start, times.run].map(|time| time.as_secs_f64() * 1e3);
        if self.json {
            let mut report = json!({ "load_ms": load, "start_ms": start, "run_ms": run });
            if let Some(tops) = tops {
                report["top"] = tops.as_json();
            }
            return print(&format!("{report}\n")).map(drop);
        }
        if let Some(mut tops) = tops {
            print(&tops.take_text(true))?;
        }
        if !self.quiet {
            note(&format!("loaded in {load:.2} ms, ready after {start:.2} ms, ran in {run:.2} ms"));
        }
        Ok(())
    }
}

/// Gives a session the states of an archive.
fn take_states(
    model: &Model,
    archive: Option<(&Path, Archive)>,
    session: &mut Session,
) -> Result<(), String> {
    let Some((path, archive)) = archive else { return Ok(()) };
    for (name, fact) in model.state_facts() {
        let fault = |message| inputs::cannot_read(path, message);
        let array = archive.array(name).and_then(Unread::whole).map_err(fault)?;
        let value = array.tensor(fact.dtype, false);
        let value = value.map_err(|message| fault(format!("array `{name}`: {message}")))?;
        let set = session.set_state(name, &value.view());
        set.map_err(|error| fault(error.to_string()))?;
    }
    Ok(())
}
