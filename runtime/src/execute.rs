//! Runs the steps of a plan.

use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lumina_kernels::{Fact, ParFor, View, ViewMut};
use smallvec::SmallVec;

use crate::Error;
use crate::bytes::AlignedBytes;
use crate::control::Regions;
use crate::ir::{Node, Region, in_region};
use crate::ops::copy;
use crate::plan::{Block, Place, Root, Step, Work};
use crate::profile::Profile;
use crate::tensor::{byte_size, view_mut};

/// Memory of a buffer: the session's, or a part of what a caller lends.
pub(crate) trait Buffer: DerefMut<Target = [u8]> + Default {}

impl<B: DerefMut<Target = [u8]> + Default> Buffer for B {}

/// What every block of a run has in common.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    pub(crate) weights: &'a [u8],
    pub(crate) copies: &'a [Arc<AlignedBytes>],
    pub(crate) pool: &'a dyn ParFor,
    pub(crate) trips: &'a Trips,
    /// Whether the caller wants no more of the run.
    pub(crate) cancelled: &'a AtomicBool,
}

/// How often the regions of a run may still run, so that a file cannot keep a machine busy forever.
pub(crate) struct Trips {
    left: AtomicU64,
    limit: u64,
}

impl Trips {
    pub(crate) fn at_most(limit: u64) -> Self {
        Self { left: AtomicU64::new(limit), limit }
    }

    /// Counts from here on.
    pub(crate) fn begin(&self) {
        self.left.store(self.limit, Ordering::Relaxed);
    }

    fn count(&self) -> Result<(), Error> {
        // One thread runs the steps of all regions.
        let left = self.left.load(Ordering::Relaxed);
        let Some(less) = left.checked_sub(1) else {
            return Err(Error::Trips { limit: self.limit });
        };
        self.left.store(less, Ordering::Relaxed);
        Ok(())
    }
}

impl<'a> Machine<'a> {
    /// Runs the steps of `block`, whose nodes these are, on the values that it is given, and adds to
    /// `profile`, that of the block, how long each takes.
    pub(crate) fn execute<B: Buffer>(
        &self,
        block: &Block,
        nodes: &[Node],
        given: &[View<'_>],
        buffers: &mut [B],
        profile: Option<&Profile>,
    ) -> Result<(), Error> {
        for (index, step) in block.steps.iter().enumerate() {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            match profile.map(|profile| &profile.steps[index]) {
                None => self.step(block, step, nodes, given, buffers, &[])?,
                Some(record) => {
                    let begin = Instant::now();
                    self.step(block, step, nodes, given, buffers, &record.regions)?;
                    record.add(begin.elapsed());
                }
            }
        }
        Ok(())
    }

    /// The value at `place`.
    pub(crate) fn locate<'b, B: Buffer>(
        &self,
        place: &'b Place,
        given: &[View<'b>],
        buffers: &'b [B],
    ) -> Result<View<'b>, Error>
    where
        'a: 'b,
    {
        let size = byte_size(&place.stored).unwrap_or(0);
        Ok(match place.root {
            Root::Given(index) => place.view(given[index].bytes()?)?,
            Root::Weights(_) | Root::Copy(_) => place.constant(self.weights, self.copies)?,
            Root::Buffer(buffer) => place.view(&buffers[buffer][..size])?,
        })
    }

    fn step<B: Buffer>(
        &self,
        block: &Block,
        step: &Step,
        nodes: &[Node],
        given: &[View<'_>],
        buffers: &mut [B],
        profiles: &[Profile],
    ) -> Result<(), Error> {
        let places: SmallVec<[&Place; 2]> =
            step.outputs.iter().map(|&id| &block.places[id]).collect();
        let mut written: SmallVec<[usize; 4]> =
            places.iter().filter_map(|place| place.buffer()).collect();
        if let Work::Control(_, plan) = &step.work {
            written.extend(plan.scratch.iter().map(|&(_, buffer)| buffer));
            written.extend(plan.buffers.iter().flatten().copied());
        }
        take(buffers, &written, |written, rest| {
            let (outputs, written) = written.split_at_mut(places.len());
            let mut outputs = places
                .iter()
                .zip(outputs)
                .map(|(place, bytes)| place.view_mut(bytes))
                .collect::<Result<SmallVec<[ViewMut<'_>; 2]>, _>>()?;
            let locate = |&id: &usize| self.locate(&block.places[id], given, rest);
            let refused = |source| Error::Op { place: nodes[step.node].place(step.node), source };
            let mut inputs: SmallVec<[View<'_>; 8]> = SmallVec::new();
            for (index, id) in step.inputs.iter().enumerate() {
                if !matches!(step.work, Work::InPlace(_, operand) if operand == index) {
                    inputs.push(locate(id)?);
                }
            }
            match &step.work {
                Work::Op(op) => op.run(&inputs, &mut outputs, self.pool).map_err(refused),
                Work::InPlace(op, operand) => {
                    op.run_in_place(*operand, &inputs, &mut outputs[0], self.pool).map_err(refused)
                }
                Work::Copy => Ok(copy(&inputs[0], &mut outputs[0], self.pool)?),
                Work::Control(op, plan) => {
                    let node = &nodes[step.node];
                    let (scratch, mut written) = written.split_at_mut(plan.scratch.len());
                    let scratch_facts: Vec<Fact> =
                        plan.scratch.iter().map(|(fact, _)| fact.clone()).collect();
                    let mut scratch = views_mut(&scratch_facts, scratch)?;
                    let mut regions = Vec::with_capacity(plan.regions.len());
                    for (number, ((captures, block), (name, region))) in
                        plan.regions.iter().zip(node.regions()).enumerate()
                    {
                        let profile = profiles.get(number);
                        let (buffers, rest) =
                            std::mem::take(&mut written).split_at_mut(block.buffers.len());
                        written = rest;
                        let captures = captures.iter().map(locate).collect::<Result<_, _>>()?;
                        regions.push(Scope { name, region, block, captures, buffers, profile });
                    }
                    let mut regions = Running { machine: *self, node, index: step.node, regions };
                    op.run(&inputs, &mut outputs, &mut scratch, &mut regions)
                }
            }
        })
    }
}

/// The regions of a node that runs.
struct Running<'a, B> {
    machine: Machine<'a>,
    node: &'a Node,
    /// Of the node in its scope.
    index: usize,
    regions: Vec<Scope<'a, B>>,
}

/// One region, what it captured, and its buffers.
struct Scope<'a, B> {
    name: &'a str,
    region: &'a Region,
    block: &'a Block,
    captures: Vec<View<'a>>,
    buffers: &'a mut [B],
    profile: Option<&'a Profile>,
}

impl<B: Buffer> Regions for Running<'_, B> {
    fn count(&self) -> usize {
        self.regions.len()
    }

    fn run(
        &mut self,
        index: usize,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
    ) -> Result<(), Error> {
        self.machine.trips.count()?;
        let Scope { name, region, block, captures, buffers, profile } = &mut self.regions[index];
        let given: Vec<View<'_>> = captures.iter().chain(inputs).copied().collect();
        self.machine
            .execute(block, &region.nodes, &given, buffers, *profile)
            .map_err(|error| in_region(self.node, self.index, name, error))?;
        for (&id, output) in block.outputs.iter().zip(outputs) {
            let result = self.machine.locate(&block.places[id], &given, buffers)?;
            copy(&result, output, self.machine.pool)?;
        }
        Ok(())
    }
}

/// Calls `task` with the buffers of these numbers, and with all others in their places.
fn take<B: Buffer, T>(
    buffers: &mut [B],
    numbers: &[usize],
    task: impl FnOnce(&mut [B], &[B]) -> T,
) -> T {
    let mut taken: SmallVec<[B; 4]> =
        numbers.iter().map(|&number| std::mem::take(&mut buffers[number])).collect();
    let result = task(&mut taken, buffers);
    for (&number, bytes) in numbers.iter().zip(taken) {
        buffers[number] = bytes;
    }
    result
}

/// Views of these facts, at the start of a buffer each.
fn views_mut<'a, B: Buffer>(
    facts: &'a [Fact],
    buffers: &'a mut [B],
) -> Result<Vec<ViewMut<'a>>, Error> {
    let view = |(fact, bytes): (&'a Fact, &'a mut B)| {
        Ok(view_mut(fact, &mut bytes[..byte_size(fact).unwrap_or(0)])?)
    };
    facts.iter().zip(buffers).map(view).collect()
}
