//! Runs a model: threads, buffers, and plans for the shapes seen so far.

use std::sync::Arc;

use lumina_kernels::{Fact, RayonPool, View};

use crate::bytes::AlignedBytes;
use crate::container::SectionKind;
use crate::infer::node_place;
use crate::plan::{Place, Plan};
use crate::tensor::{byte_size, view, view_mut};
use crate::{Error, Model};

/// Plans that are kept, the latest last: a batch size for training data, one for its last batch.
const MAX_PLANS: usize = 4;

/// How a session runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Threads; 0 is one per core.
    pub threads: usize,
    /// Most bytes that the buffers may take.
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
    buffers: Vec<AlignedBytes>,
}

impl Session {
    /// A session of `model` with its own threads.
    pub fn new(model: Arc<Model>, options: Options) -> Result<Self, Error> {
        let Options { threads, memory_limit } = options;
        let pool = RayonPool::new(threads)
            .map_err(|error| Error::Threads { threads, message: error.to_string() })?;
        Ok(Self { model, pool, memory_limit, plans: Vec::new(), buffers: Vec::new() })
    }

    /// Plans for inputs of these facts and allocates the buffers, so that the next `run` of such
    /// inputs only computes.
    pub fn prepare(&mut self, inputs: &[Fact]) -> Result<(), Error> {
        match self.plans.iter().position(|plan| plan.inputs == inputs) {
            Some(position) => self.plans[position..].rotate_left(1),
            None => {
                let plan = Plan::new(self.model.graph(), inputs, self.memory_limit)?;
                if self.plans.len() == MAX_PLANS {
                    self.plans.remove(0);
                }
                self.plans.push(plan);
            }
        }
        self.grow_buffers();
        Ok(())
    }

    /// Makes the buffers large enough for the last plan.
    fn grow_buffers(&mut self) {
        let Some(plan) = self.plans.last() else { return };
        if self.buffers.len() < plan.buffers.len() {
            self.buffers.resize_with(plan.buffers.len(), AlignedBytes::default);
        }
        // Buffers may be larger than this plan needs; together they still keep to the limit.
        let needs = plan.buffers.iter().chain(std::iter::repeat(&0));
        let sizes = self.buffers.iter().zip(needs).map(|(buffer, &need)| buffer.len().max(need));
        if sizes.map(|size| size as u128).sum::<u128>() > self.memory_limit.into() {
            self.buffers.fill_with(AlignedBytes::default);
        }
        for (buffer, &size) in self.buffers.iter_mut().zip(&plan.buffers) {
            if buffer.len() < size {
                // The old one is freed before the new one is there.
                *buffer = AlignedBytes::default();
                *buffer = AlignedBytes::zeroed(size);
            }
        }
    }

    /// Computes the outputs for `inputs`, both in the order of the graph.
    pub fn run<'a>(&'a mut self, inputs: &[View<'a>]) -> Result<Vec<View<'a>>, Error> {
        let facts: Vec<Fact> = inputs.iter().map(View::fact).collect();
        self.prepare(&facts)?;
        let Self { model, pool, plans, buffers, .. } = self;
        let Some(plan) = plans.last() else { return Ok(Vec::new()) };
        let weights = model.section(SectionKind::Weights);
        pool.install(|| compute(model, plan, weights, inputs, buffers, pool))?;
        let outputs = &model.graph().outputs;
        outputs.iter().map(|value| locate(plan, value.id, weights, inputs, buffers)).collect()
    }
}

fn compute(
    model: &Model,
    plan: &Plan,
    weights: &[u8],
    inputs: &[View<'_>],
    buffers: &mut [AlignedBytes],
    pool: &RayonPool,
) -> Result<(), Error> {
    for (index, (node, op)) in model.graph().nodes.iter().zip(&plan.ops).enumerate() {
        // Nothing to compute, however large the other extents claim to be.
        if node.outputs.iter().all(|&id| byte_size(&plan.facts[id as usize]) == Some(0)) {
            continue;
        }
        // The outputs are written while the inputs are read, so they leave the list meanwhile.
        let mut taken: Vec<(usize, AlignedBytes)> = Vec::with_capacity(node.outputs.len());
        for &id in &node.outputs {
            if let Place::Buffer(buffer) = plan.places[id as usize] {
                taken.push((buffer, std::mem::take(&mut buffers[buffer])));
            }
        }
        let result = (|| {
            let operands = node
                .inputs
                .iter()
                .map(|&id| locate(plan, id, weights, inputs, buffers))
                .collect::<Result<Vec<_>, _>>()?;
            let mut results = node
                .outputs
                .iter()
                .zip(&mut taken)
                .map(|(&id, (_, bytes))| {
                    let fact = &plan.facts[id as usize];
                    view_mut(fact, &mut bytes[..byte_size(fact).unwrap_or(0)])
                })
                .collect::<Result<Vec<_>, _>>()?;
            op.run(&operands, &mut results, pool)
                .map_err(|source| Error::Op { place: node_place(index, node), source })
        })();
        for (buffer, bytes) in taken {
            buffers[buffer] = bytes;
        }
        result?;
    }
    Ok(())
}

/// The value `id`.
fn locate<'a>(
    plan: &'a Plan,
    id: u32,
    weights: &'a [u8],
    inputs: &[View<'a>],
    buffers: &'a [AlignedBytes],
) -> Result<View<'a>, Error> {
    let fact = &plan.facts[id as usize];
    let size = byte_size(fact).unwrap_or(0);
    Ok(match plan.places[id as usize] {
        Place::Input(index) => inputs[index],
        Place::Weight(offset) => view(fact, &weights[offset..offset + size])?,
        Place::Buffer(buffer) => view(fact, &buffers[buffer][..size])?,
    })
}
