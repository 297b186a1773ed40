//! How fast a model runs on this machine, where its time goes, and how far that is from what the
//! machine could do: `lumina bench`.
//!
//! ```no_run
//! use std::sync::Arc;
//! use lumina_runtime::{Model, bench};
//!
//! let model = Arc::new(Model::load("m.lmn")?);
//! let request = bench::Request { batch: Some(32), nodes: true, ..bench::Request::default() };
//! let found = bench::bench(&model, &request, &mut |_| true)?;
//! println!("{}", found.describe());
//! # Ok::<(), lumina_runtime::Error>(())
//! ```

mod bandwidth;
mod inputs;
mod limits;
mod nodes;
mod report;
mod text;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lumina_kernels::{Fact, View};

use crate::profile::Profile;
use crate::{Error, Model, Options, Session};
pub use bandwidth::Bandwidth;
use inputs::Inputs;
use limits::Limits;
pub use nodes::{NodeCost, Numbers};
pub use report::{Benchmark, InputUsed, Latency, Limit, Memory, Start};

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of the entry point; None is the first one.
    pub entry: Option<String>,
    /// Value of the symbol that is axis 0 of the first input that has one there.
    pub batch: Option<u64>,
    /// Values of symbols by name; the others are those of the first test vector, or 1.
    pub symbols: Vec<(String, u64)>,
    /// For how long runs are measured, in seconds; there are at least ten of them.
    pub seconds: f64,
    /// Whether nodes are timed, for half as long again.
    pub nodes: bool,
    /// Threads and limits of the session.
    pub options: Options,
}

impl Default for Request {
    /// The first entry point at the shapes of its first test vector, for two seconds.
    fn default() -> Self {
        Self {
            entry: None,
            batch: None,
            symbols: Vec::new(),
            seconds: 2.0,
            nodes: false,
            options: Options::default(),
        }
    }
}

/// Runs that are measured at least.
const MIN_RUNS: usize = 10;
/// Runs that are measured at most, so that their times take little memory.
const MAX_RUNS: usize = 1 << 20;
/// Longest time for which runs can be measured, in seconds: a day.
const MAX_SECONDS: f64 = 86_400.0;
/// Runs before anything is measured, and the part of the time and the seconds at most that they take:
/// caches fill, and clocks rise.
const WARM_UP_RUNS: usize = 2;
const WARM_UP_SHARE: f64 = 0.1;
const WARM_UP_SECONDS: f64 = 1.0;
/// Part of the time for which nodes are measured.
const NODES_SHARE: f64 = 0.5;
/// Runs after which states begin anew, so that neither the longest measurement meets a position that
/// the model never meets.
pub const ROUND: usize = 64;
/// Time between two calls of whoever watches.
const PAUSE: Duration = Duration::from_millis(50);

/// Measures a model.
///
/// Inputs are those of the first test vector of the entry point where its shapes are asked for; else
/// its elements, repeated; or, where there is no vector, normal deviates for floats and zeros for
/// everything else. States go from run to run, and begin anew after [`ROUND`] runs.
///
/// `watch` is told now and then which part of the work is done, from 0 to 1, and returns whether to go
/// on. Where it says no, what was measured until then is returned.
///
/// # Errors
///
/// There is no such entry point or symbol, a symbol has two values or one that fits no shape,
/// `seconds` is no time, or a run fails.
pub fn bench(
    model: &Arc<Model>,
    request: &Request,
    watch: &mut dyn FnMut(f64) -> bool,
) -> Result<Benchmark, Error> {
    let seconds = request.seconds;
    if !(0.0..=MAX_SECONDS).contains(&seconds) {
        return Err(Error::Input(format!(
            "the time to measure must be 0 to {MAX_SECONDS} seconds, got {seconds}"
        )));
    }
    let entry = model.entry(request.entry.as_deref())?;
    let inputs = Inputs::new(model, entry, request)?;
    let views = inputs.views()?;
    let begin = Instant::now();
    let mut session = Session::new(Arc::clone(model), request.options)?;
    let opened = begin.elapsed();
    let facts: Vec<Fact> = views.iter().map(View::fact).collect();
    session.prepare_entry(entry, &facts)?;
    let planned = begin.elapsed();
    session.run_entry(entry, &views)?;
    let first_run = begin.elapsed().saturating_sub(planned);
    let times = model.load_times();
    let start = Start {
        read: times.read,
        check: times.check,
        session: opened,
        plan: planned.saturating_sub(opened),
        first_run,
    };
    let nodes_seconds = if request.nodes { seconds * NODES_SHARE } else { 0.0 };
    let warm_up = (seconds * WARM_UP_SHARE).min(WARM_UP_SECONDS);
    let mut runs = Runs {
        session: &mut session,
        entry,
        inputs: &views,
        watch: Watch {
            function: watch,
            begin: Instant::now(),
            next: Duration::ZERO,
            total: warm_up + seconds + nodes_seconds,
            stopped: false,
        },
    };
    let warm_up_runs = runs.measure(warm_up, WARM_UP_RUNS, None)?.len();
    let mut latencies = runs.measure(seconds, MIN_RUNS, None)?;
    let profile = runs.profile(nodes_seconds, if request.nodes { MIN_RUNS } else { 1 })?;
    let interrupted = runs.watch.stopped;
    let memory = Memory::of(model, &session);
    let steady = Latency::of(&mut latencies, warm_up_runs);
    let Profiled { profile, runs: profiled_runs, time: profiled } = profile;
    let mut nodes = nodes::costs(model, entry, &facts, &session, &profile)?;
    // No more than what is moved, of tables of which some rows are read.
    let moved = nodes.iter().map(|node| node.bytes.saturating_mul(node.calls));
    let moved = moved.fold(0, u64::saturating_add) / profiled_runs as u64;
    let working_set = nodes::working_set(&session, &facts)?.min(moved as usize);
    // Of a run that was cut short, the rest is wanted at once.
    let each = if interrupted { 0.0 } else { (seconds * 0.1).min(0.2) };
    let limits = Limits::measure(session.pool(), working_set, Duration::from_secs_f64(each));
    limits.apply(&mut nodes);
    let limit = Limit::of(&limits, &nodes, profiled_runs, steady.as_ref());
    Ok(Benchmark {
        entry: model.entries().nth(entry).unwrap_or_default().to_owned(),
        symbols: inputs.symbols,
        batch: inputs.batch,
        inputs: inputs.used,
        states: model.states().len(),
        start,
        steady,
        memory,
        limit,
        idle_nodes: nodes::idle(model, entry, &nodes)?,
        nodes: if request.nodes { nodes } else { Vec::new() },
        profiled_runs,
        profiled,
        interrupted,
    })
}

/// Runs of one entry point on the same inputs.
struct Runs<'a> {
    session: &'a mut Session,
    entry: usize,
    inputs: &'a [View<'a>],
    watch: Watch<'a>,
}

/// Steps that were timed over some runs, which took so long together.
struct Profiled {
    profile: Profile,
    runs: usize,
    time: Duration,
}

impl Runs<'_> {
    /// How long each run takes, for so many seconds and as many runs at least.
    fn measure(
        &mut self,
        seconds: f64,
        at_least: usize,
        profile: Option<&Profile>,
    ) -> Result<Vec<Duration>, Error> {
        let begin = Instant::now();
        let mut times = Vec::new();
        while self.watch.goes_on()
            && times.len() < MAX_RUNS
            && (times.len() < at_least || begin.elapsed().as_secs_f64() < seconds)
        {
            if times.len().is_multiple_of(ROUND) {
                self.begin()?;
            }
            let begin = Instant::now();
            self.session.run_profiled(self.entry, self.inputs, profile)?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// The steps. There is a run even where whoever watches has had
    /// enough, as it tells how often the steps of loops run.
    fn profile(&mut self, seconds: f64, at_least: usize) -> Result<Profiled, Error> {
        let profile = Profile::of(&self.session.plan_in_use()?.block);
        let mut times = self.measure(seconds, at_least, Some(&profile))?;
        if times.is_empty() {
            self.begin()?;
            let begin = Instant::now();
            self.session.run_profiled(self.entry, self.inputs, Some(&profile))?;
            times.push(begin.elapsed());
        }
        Ok(Profiled { profile, runs: times.len(), time: times.iter().sum() })
    }

    /// Gives the states their initial values, which counts for no run.
    fn begin(&mut self) -> Result<(), Error> {
        self.session.reset();
        let facts: Vec<Fact> = self.inputs.iter().map(View::fact).collect();
        self.session.prepare_entry(self.entry, &facts)
    }
}

/// Whoever watches.
struct Watch<'a> {
    function: &'a mut dyn FnMut(f64) -> bool,
    begin: Instant,
    /// When it is told again.
    next: Duration,
    /// Seconds that all takes.
    total: f64,
    stopped: bool,
}

impl Watch<'_> {
    fn goes_on(&mut self) -> bool {
        let time = self.begin.elapsed();
        if !self.stopped && time >= self.next {
            self.next = time + PAUSE;
            let share = if self.total > 0.0 { time.as_secs_f64() / self.total } else { 0.0 };
            self.stopped = !(self.function)(share.min(1.0));
        }
        !self.stopped
    }
}
