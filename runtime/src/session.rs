//! Runs a model: threads, buffers, and plans for the shapes seen so far.

use std::sync::Arc;

use lumina_kernels::{Fact, RayonPool, View};

use crate::bytes::AlignedBytes;
use crate::execute::Machine;
use crate::kept::Kept;
use crate::plan::Plan;
use crate::{Error, Model};

/// Plans that are kept, the latest last: a batch size for training data, one for its last batch.
const MAX_PLANS: usize = 4;

/// How a session runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads; 0 is one per core.
    pub threads: usize,
    /// Most bytes that the buffers may take, and what is kept of the weights beside the file: copies
    /// in another order, and what ops prepare once.
    pub memory_limit: u64,
}

impl Default for Options {
    /// One thread per core, 4 GiB.
    fn default() -> Self {
        Self { threads: 0, memory_limit: 4 << 30 }
    }
}

/// A model that runs. Sessions of one model share its weights; each has its own buffers.
pub struct Session {
    model: Arc<Model>,
    pool: RayonPool,
    memory_limit: u64,
    plans: Vec<Plan>,
    kept: Kept,
    buffers: Vec<AlignedBytes>,
}

impl Session {
    /// A session of `model` with its own threads.
    pub fn new(model: Arc<Model>, options: Options) -> Result<Self, Error> {
        let Options { threads, memory_limit } = options;
        let pool = RayonPool::new(threads)
            .map_err(|error| Error::Threads { threads, message: error.to_string() })?;
        Ok(Self {
            model,
            pool,
            memory_limit,
            plans: Vec::new(),
            kept: Kept::default(),
            buffers: Vec::new(),
        })
    }

    /// Plans for inputs of these facts and allocates the buffers, so that the next `run` of such
    /// inputs only computes.
    pub fn prepare(&mut self, inputs: &[Fact]) -> Result<(), Error> {
        match self.plans.iter().position(|plan| plan.inputs == inputs) {
            Some(position) => self.plans[position..].rotate_left(1),
            None => {
                let plan = self.plan(inputs)?;
                if self.plans.len() == MAX_PLANS {
                    self.plans.remove(0);
                }
                self.plans.push(plan);
                self.kept.forget_unused();
            }
        }
        self.grow_buffers()
    }

    fn plan(&mut self, inputs: &[Fact]) -> Result<Plan, Error> {
        let mut plan = Plan::new(&self.model, inputs, self.memory_limit, &mut self.kept);
        if matches!(plan, Err(Error::Memory { .. })) && self.kept.bytes() > 0 {
            // What other plans keep must not stand against this one.
            self.plans.clear();
            self.kept = Kept::default();
            plan = Plan::new(&self.model, inputs, self.memory_limit, &mut self.kept);
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
            self.buffers.fill_with(AlignedBytes::default);
        }
        for (buffer, &size) in self.buffers.iter_mut().zip(needed) {
            if buffer.len() < size {
                // The old one is freed before the new one is there.
                *buffer = AlignedBytes::default();
                *buffer = AlignedBytes::zeroed(size)?;
            }
        }
        Ok(())
    }

    /// Computes the outputs for `inputs`, both row-major and in the order of the graph.
    pub fn run<'a>(&'a mut self, inputs: &[View<'a>]) -> Result<Vec<View<'a>>, Error> {
        let facts: Vec<Fact> = inputs.iter().map(View::fact).collect();
        self.prepare(&facts)?;
        let Self { model, pool, plans, buffers, .. } = self;
        let graph = model.graph();
        if let Some(index) = inputs.iter().position(|input| !input.is_row_major()) {
            let name = &graph.inputs[index].name;
            return Err(Error::Input(format!("input `{name}` must be row-major")));
        }
        let Some(Plan { block, copies, .. }) = plans.last() else { return Ok(Vec::new()) };
        let machine = Machine { weights: model.weights(), copies, pool };
        pool.install(|| machine.execute(block, &graph.nodes, inputs, buffers))?;
        let locate = |&id: &usize| machine.locate(&block.places[id], inputs, buffers);
        block.outputs.iter().map(locate).collect()
    }
}
