//! Runs a model: threads, buffers, and plans for the shapes seen so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use lumina_kernels::{DType, Fact, FlushDenormals, ThreadPool, View};

use crate::bytes::AlignedBytes;
use crate::error::quoted;
use crate::execute::{Machine, Trips};
use crate::ir::State;
use crate::kept::Kept;
use crate::plan::Plan;
use crate::profile::Profile;
use crate::tensor::{byte_size, view};
use crate::{Error, Model};

/// Plans that are kept, the latest last: a batch size for training data, one for its last batch.
const MAX_PLANS: usize = 4;

/// Most threads of a session: more would take memory and help nobody.
pub const MAX_THREADS: usize = 1024;

/// How a session runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads, at most [`MAX_THREADS`]; 0 is one per core.
    pub threads: usize,
    /// Most bytes that the buffers may take, and what is kept of the weights beside the file: copies
    /// in another order, and what ops prepare once.
    pub memory_limit: u64,
    /// Most trips that all loops of a run may make together.
    pub trip_limit: u64,
}

impl Default for Options {
    /// One thread per core, 4 GiB, 2^32 trips.
    fn default() -> Self {
        Self { threads: 0, memory_limit: 4 << 30, trip_limit: 1 << 32 }
    }
}

impl Options {
    /// As many threads as these options ask for.
    pub(crate) fn pool(&self) -> Result<ThreadPool, Error> {
        let threads = self.threads;
        if threads > MAX_THREADS {
            return Err(Error::Input(format!("`threads` is {threads}, at most {MAX_THREADS}")));
        }
        ThreadPool::new(threads)
            .map_err(|error| Error::Threads { threads, message: error.to_string() })
    }
}

/// A model that runs. Sessions of one model share its weights; each has its own buffers and states.
///
/// States begin as the file says and change with each run. A run that fails while it computes leaves
/// them half written: the next one is refused until [`Session::reset`].
pub struct Session {
    model: Arc<Model>,
    pool: ThreadPool,
    memory_limit: u64,
    trips: Trips,
    plans: Vec<Plan>,
    kept: Kept,
    /// Those of the states first.
    buffers: Vec<AlignedBytes>,
    states: Condition,
    cancelled: Arc<AtomicBool>,
}

/// Ends runs of a session from another thread.
#[derive(Clone, Debug)]
pub struct CancelHandle(Arc<AtomicBool>);

impl CancelHandle {
    /// Ends the run that is going on, or else the next one, with [`Error::Cancelled`]. A run looks
    /// between its steps, so one that is in its last step ends as if nobody had asked.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Bytes that a session takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) states: usize,
    /// Those of all other buffers.
    pub(crate) buffers: usize,
    /// Constants in another order, and what ops have prepared.
    pub(crate) kept: usize,
}

/// What is in the buffers of the states.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Not yet what the file says.
    Unset,
    Valid,
    /// What a run that failed has left.
    Lost,
}

impl Session {
    /// A session of `model` with its own threads.
    pub fn new(model: Arc<Model>, options: Options) -> Result<Self, Error> {
        Ok(Self {
            model,
            pool: options.pool()?,
            memory_limit: options.memory_limit,
            trips: Trips::at_most(options.trip_limit),
            plans: Vec::new(),
            kept: Kept::default(),
            buffers: Vec::new(),
            states: Condition::Unset,
            cancelled: Arc::default(),
        })
    }

    /// What ends runs of this session from another thread.
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(Arc::clone(&self.cancelled))
    }

    /// Plans the first entry point for inputs of these facts and allocates the buffers, so that the
    /// next `run` of such inputs only computes.
    pub fn prepare(&mut self, inputs: &[Fact]) -> Result<(), Error> {
        self.prepare_entry(0, inputs)
    }

    /// As [`Session::prepare`], of the entry point of that number.
    pub fn prepare_entry(&mut self, entry: usize, inputs: &[Fact]) -> Result<(), Error> {
        let is_known = |plan: &Plan| plan.entry == entry && plan.inputs == inputs;
        match self.plans.iter().position(is_known) {
            Some(position) => self.plans[position..].rotate_left(1),
            None => {
                let begin = Instant::now();
                let plan = self.plan(entry, inputs)?;
                log::debug!(
                    "planned {} steps of entry point {entry} in {:?}",
                    plan.block.steps.len(),
                    begin.elapsed()
                );
                if self.plans.len() == MAX_PLANS {
                    self.plans.remove(0);
                }
                self.plans.push(plan);
                self.kept.forget_unused();
            }
        }
        self.begin()?;
        self.grow_buffers()
    }

    fn plan(&mut self, entry: usize, inputs: &[Fact]) -> Result<Plan, Error> {
        let Self { model, memory_limit, pool, .. } = self;
        let plan_of = |kept: &mut Kept| Plan::new(model, entry, inputs, *memory_limit, kept, pool);
        let mut plan = plan_of(&mut self.kept);
        if matches!(plan, Err(Error::Memory { .. })) && self.kept.bytes() > 0 {
            // What other plans keep must not stand against this one.
            self.plans.clear();
            self.kept = Kept::default();
            plan = plan_of(&mut self.kept);
        }
        if plan.is_err() {
            self.kept.forget_unused();
        }
        plan
    }

    /// Makes the buffers large enough for the last plan.
    fn grow_buffers(&mut self) -> Result<(), Error> {
        let Some(plan) = self.plans.last() else { return Ok(()) };
        let needed = &plan.block.buffers;
        if self.buffers.len() < needed.len() {
            self.buffers.resize_with(needed.len(), AlignedBytes::default);
        }
        // Buffers may be larger than this plan needs; all together still keeps to the limit.
        let needs = needed.iter().chain(std::iter::repeat(&0));
        let sizes = self.buffers.iter().zip(needs).map(|(buffer, &need)| buffer.len().max(need));
        let sum = self.kept.bytes() + sizes.map(|size| size as u128).sum::<u128>();
        if sum > self.memory_limit.into() {
            let states = self.model.states().len();
            self.buffers[states..].fill_with(AlignedBytes::default);
        }
        let grows = self.buffers.iter().zip(needed).any(|(buffer, &size)| buffer.len() < size);
        for (buffer, &size) in self.buffers.iter_mut().zip(needed) {
            if buffer.len() < size {
                // The old one is freed before the new one is there.
                *buffer = AlignedBytes::default();
                *buffer = AlignedBytes::zeroed(size)?;
            }
        }
        if grows {
            let Memory { states, buffers, kept } = self.memory();
            log::debug!(
                "the session takes {states} bytes for states, {buffers} for buffers, and {kept} for \
                 what it keeps of the weights"
            );
        }
        Ok(())
    }

    /// Gives the states their initial values, unless they have values.
    fn begin(&mut self) -> Result<(), Error> {
        let states = self.model.states();
        if self.states != Condition::Unset || states.is_empty() {
            return Ok(());
        }
        if self.buffers.len() < states.len() {
            self.buffers.resize_with(states.len(), AlignedBytes::default);
        }
        let size = |state: &State| byte_size(&state.fact).unwrap_or(usize::MAX);
        let needed: u128 = states.iter().map(|state| size(state) as u128).sum();
        if needed > self.memory_limit.into() {
            return Err(Error::Memory { needed, limit: self.memory_limit });
        }
        let tensors = self.model.graph(0)?.tensors_by_id();
        for (state, buffer) in states.iter().zip(&mut self.buffers) {
            let is_new = buffer.len() != size(state);
            if is_new {
                *buffer = AlignedBytes::zeroed(size(state))?;
            }
            match state.initial.and_then(|id| tensors.get(&id)) {
                // New memory is zero without being written, which takes as long as a run does.
                None if is_new => {}
                None => buffer.fill(0),
                Some(tensor) => {
                    let value = &self.model.weights()[tensor.stored.range()];
                    buffer
                        .chunks_mut(value.len().max(1))
                        .for_each(|part| part.copy_from_slice(value));
                }
            }
        }
        self.states = Condition::Valid;
        Ok(())
    }

    /// Gives the states the values again that they have in a new session.
    pub fn reset(&mut self) {
        self.states = Condition::Unset;
    }

    /// The state of that name as it is now, row-major.
    pub fn state(&mut self, name: &str) -> Result<View<'_>, Error> {
        let number = self.state_number(name)?;
        self.begin()?;
        if self.states == Condition::Lost {
            return Err(lost());
        }
        Ok(view(&self.model.states()[number].fact, &self.buffers[number])?)
    }

    /// Gives the state of that name another value, row-major.
    pub fn set_state(&mut self, name: &str, value: &View<'_>) -> Result<(), Error> {
        let number = self.state_number(name)?;
        self.begin()?;
        let fact = &self.model.states()[number].fact;
        if value.fact() != *fact {
            let got = value.fact();
            return Err(Error::Input(format!("state `{name}` must be {fact}, got {got}")));
        }
        if !value.is_row_major() {
            return Err(Error::Input(format!("state `{name}` must be row-major")));
        }
        self.buffers[number].copy_from_slice(value.bytes()?);
        Ok(())
    }

    /// Element types and shapes of the outputs of what was prepared or run last.
    pub fn output_facts(&self) -> Result<impl ExactSizeIterator<Item = (DType, &[usize])>, Error> {
        let block = &self.plan_in_use()?.block;
        let fact = |&id: &usize| (block.places[id].stored.dtype, block.places[id].layout.shape());
        Ok(block.outputs.iter().map(fact))
    }

    /// The plan of the last run, or what was prepared after it.
    pub(crate) fn plan_in_use(&self) -> Result<&Plan, Error> {
        let none = || Error::Input("the session has no plan yet: prepare or run it first".into());
        self.plans.last().ok_or_else(none)
    }

    pub(crate) fn pool(&self) -> &ThreadPool {
        &self.pool
    }

    /// Bytes that the session takes beside the file.
    pub(crate) fn memory(&self) -> Memory {
        let states = self.model.states().len();
        let bytes = |buffers: &[AlignedBytes]| buffers.iter().map(|buffer| buffer.len()).sum();
        let (states, buffers) = self.buffers.split_at(states.min(self.buffers.len()));
        Memory { states: bytes(states), buffers: bytes(buffers), kept: self.kept.bytes() as usize }
    }

    fn state_number(&self, name: &str) -> Result<usize, Error> {
        let states = self.model.states();
        states.iter().position(|state| state.name == name).ok_or_else(|| {
            let known = quoted(states.iter().map(|state| state.name.as_str()));
            Error::Input(format!("there is no state `{name}`; the model has {known}"))
        })
    }

    /// Computes the outputs of the first entry point for `inputs`, both row-major and in the order of
    /// the graph.
    pub fn run<'a>(&'a mut self, inputs: &[View<'a>]) -> Result<Vec<View<'a>>, Error> {
        self.run_entry(0, inputs)
    }

    /// As [`Session::run`], of the entry point of that number.
    pub fn run_entry<'a>(
        &'a mut self,
        entry: usize,
        inputs: &[View<'a>],
    ) -> Result<Vec<View<'a>>, Error> {
        self.run_profiled(entry, inputs, None)
    }

    /// As [`Session::run_entry`], which adds to `profile`, that of the plan for these inputs, how long
    /// each step takes.
    pub(crate) fn run_profiled<'a>(
        &'a mut self,
        entry: usize,
        inputs: &[View<'a>],
        profile: Option<&Profile>,
    ) -> Result<Vec<View<'a>>, Error> {
        let facts: Vec<Fact> = inputs.iter().map(View::fact).collect();
        self.prepare_entry(entry, &facts)?;
        self.run_plan(inputs, profile)
    }

    /// Runs the entry point that was prepared or run last, for inputs of the facts that it was planned
    /// for, so that nothing is looked for.
    pub fn run_prepared<'a>(&'a mut self, inputs: &[View<'a>]) -> Result<Vec<View<'a>>, Error> {
        let facts = &self.plan_in_use()?.inputs;
        let is_planned = |(fact, input): (&Fact, &View<'_>)| {
            fact.dtype == input.dtype() && fact.shape == input.shape()
        };
        if facts.len() != inputs.len() || !facts.iter().zip(inputs).all(is_planned) {
            let message = "the inputs are not of the types and shapes that were prepared last";
            return Err(Error::Input(message.into()));
        }
        self.begin()?;
        self.run_plan(inputs, None)
    }

    /// Runs the last plan, which is for inputs of these facts.
    fn run_plan<'a>(
        &'a mut self,
        inputs: &[View<'a>],
        profile: Option<&Profile>,
    ) -> Result<Vec<View<'a>>, Error> {
        let Self { model, pool, plans, buffers, states, trips, cancelled, .. } = self;
        let Some(Plan { entry, block, copies, .. }) = plans.last() else { return Ok(Vec::new()) };
        let graph = model.graph(*entry)?;
        if let Some(index) = inputs.iter().position(|input| !input.is_row_major()) {
            let name = &graph.inputs[index].name;
            return Err(Error::Input(format!("input `{name}` must be row-major")));
        }
        if *states == Condition::Lost {
            return Err(lost());
        }
        // Nothing is computed yet, so the states stay as they are.
        if cancelled.swap(false, Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        trips.begin();
        let machine = Machine { weights: model.weights(), copies, pool, trips, cancelled };
        // Until all of it is done.
        if graph.states.iter().any(|state| state.next.is_some()) {
            *states = Condition::Lost;
        }
        let done = FlushDenormals::during(|| {
            machine.execute(block, &graph.nodes, inputs, buffers, profile)
        });
        // Whoever cancels means this run, also where it was over before it looked.
        cancelled.store(false, Ordering::Relaxed);
        done?;
        *states = Condition::Valid;
        let locate = |&id: &usize| machine.locate(&block.places[id], inputs, buffers);
        block.outputs.iter().map(locate).collect()
    }
}

fn lost() -> Error {
    let message =
        "the states were lost in a run that failed; reset the session, or begin a new one";
    Error::Input(message.into())
}
