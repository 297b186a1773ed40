//! What a session keeps between runs, for all its plans: constants that it made of those of the file,
//! and ops that are prepared for constants.

use std::collections::BTreeMap;
use std::sync::Arc;

use lumina_kernels::{DynOp, Error as KernelError, FlushDenormals, ParFor};

use crate::Error;
use crate::bytes::AlignedBytes;
use crate::ir::{Node, in_region};
use crate::ops::copy;
use crate::plan::constants::{Identities, Made, Recipe, identified};
use crate::plan::{Block, Place, Root, Step, Work};
use crate::tensor::{byte_size, view_mut};

/// Constants and ops that plans share.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) identities: Identities,
    /// By identity.
    made: BTreeMap<usize, Arc<AlignedBytes>>,
    /// By the entry point and the path of node numbers, with numbers of regions between them.
    prepared: BTreeMap<Vec<usize>, Prepared>,
}

/// What came of an op whose constant operands lie there.
struct Prepared {
    constants: Vec<Option<Place>>,
    /// None where it is of no use.
    op: Option<Arc<dyn DynOp>>,
}

impl Kept {
    /// Bytes of all that is kept.
    pub(crate) fn bytes(&self) -> u128 {
        let made = self.made.values().map(|bytes| bytes.len());
        let ops = self.prepared.values().filter_map(|prepared| prepared.op.as_ref());
        made.chain(ops.map(|op| op.held_bytes())).map(|bytes| bytes as u128).sum()
    }

    /// Drops what no plan uses.
    pub(crate) fn forget_unused(&mut self) {
        self.made.retain(|_, bytes| Arc::strong_count(bytes) > 1);
        self.identities.retain(|identity| self.made.contains_key(&identity));
        self.prepared
            .retain(|_, prepared| prepared.op.as_ref().is_none_or(|op| Arc::strong_count(op) > 1));
    }

    /// Makes the constants of a plan, prepares the ops of `block`, whose nodes these are of an entry
    /// point, and returns the constants. Those that only others are made of are empty.
    ///
    /// All that is kept, and the buffers of `block`, take no more bytes than the limit.
    pub(crate) fn prepare(
        &mut self,
        weights: &[u8],
        (entry, nodes): (usize, &[Node]),
        block: &mut Block,
        made: Vec<Made>,
        (buffers, limit): (u128, u64),
        pool: &dyn ParFor,
    ) -> Result<Vec<Arc<AlignedBytes>>, Error> {
        // With the arithmetic of a run.
        let _flush = FlushDenormals::new();
        let mut is_read = vec![false; made.len()];
        mark(block, &mut is_read);
        let mut is_needed = is_read.clone();
        let mut needed = buffers + self.bytes();
        for (number, one) in made.iter().enumerate().rev() {
            if !is_needed[number] || self.made.contains_key(&one.identity) {
                continue;
            }
            needed += byte_size(&one.fact).unwrap_or(0) as u128;
            for operand in one.recipe.operands() {
                if let Root::Copy(number) = operand.root {
                    is_needed[number] = true;
                }
            }
        }
        if needed > limit.into() {
            return Err(Error::Memory { needed, limit });
        }
        let mut constants: Vec<Arc<AlignedBytes>> = Vec::with_capacity(made.len());
        for (number, one) in made.iter().enumerate() {
            constants.push(match self.made.get(&one.identity) {
                Some(known) => Arc::clone(known),
                None if is_needed[number] => Arc::new(make(one, weights, &constants, pool)?),
                None => Arc::default(),
            });
        }
        for (number, one) in made.iter().enumerate() {
            match is_read[number] {
                true => drop(self.made.insert(one.identity, Arc::clone(&constants[number]))),
                false => constants[number] = Arc::default(),
            }
        }
        let needed = buffers + self.bytes();
        let (made, constants) = (&*made, &*constants);
        let path = vec![entry];
        let mut pass = Pass { kept: self, weights, made, constants, path, needed, limit };
        pass.block(block, nodes)?;
        match pass.needed {
            needed if needed > limit.into() => Err(Error::Memory { needed, limit }),
            _ => Ok(constants.to_vec()),
        }
    }
}

/// Marks the made constants that steps read, or that are results.
fn mark(block: &Block, is_read: &mut [bool]) {
    let inputs = block.steps.iter().flat_map(|step| &step.inputs);
    for &id in inputs.chain(&block.outputs) {
        if let Root::Copy(number) = block.places[id].root {
            is_read[number] = true;
        }
    }
    for step in &block.steps {
        if let Work::Control(_, plan) = &step.work {
            plan.regions.iter().for_each(|(_, block)| mark(block, is_read));
        }
    }
}

/// The elements of a constant, of those before it.
fn make(
    one: &Made,
    weights: &[u8],
    constants: &[Arc<AlignedBytes>],
    pool: &dyn ParFor,
) -> Result<AlignedBytes, Error> {
    let mut bytes = AlignedBytes::zeroed(byte_size(&one.fact).unwrap_or(usize::MAX))?;
    let operands = one.recipe.operands();
    let inputs: Vec<_> = operands
        .iter()
        .map(|place| place.constant(weights, constants))
        .collect::<Result<_, KernelError>>()?;
    let mut out = view_mut(&one.fact, &mut bytes)?;
    match &one.recipe {
        Recipe::Copy(_) => copy(&inputs[0], &mut out, pool)?,
        Recipe::Result { op, node, .. } => op
            .run(&inputs, std::slice::from_mut(&mut out), pool)
            .map_err(|source| Error::Op { place: node.clone(), source })?,
    }
    Ok(bytes)
}

/// A walk over the steps of a plan.
struct Pass<'a> {
    kept: &'a mut Kept,
    weights: &'a [u8],
    made: &'a [Made],
    constants: &'a [Arc<AlignedBytes>],
    /// Of the step at hand.
    path: Vec<usize>,
    /// Bytes so far. What is beyond the limit is counted, and not kept.
    needed: u128,
    limit: u64,
}

impl Pass<'_> {
    fn block(&mut self, block: &mut Block, nodes: &[Node]) -> Result<(), Error> {
        let Block { steps, places, .. } = block;
        for Step { node: index, work, inputs, .. } in steps {
            if matches!(work, Work::Copy) {
                continue;
            }
            let node = &nodes[*index];
            self.path.push(*index);
            match work {
                Work::Op(op) | Work::InPlace(op, _) => {
                    let constants: Vec<Option<&Place>> = inputs
                        .iter()
                        .map(|&id| Some(&places[id]).filter(|place| place.is_constant()))
                        .collect();
                    let prepared = self
                        .op(node, op, &constants)
                        .map_err(|source| Error::Op { place: node.place(*index), source })?;
                    if let Some(prepared) = prepared {
                        *op = prepared;
                    }
                }
                Work::Copy => {}
                Work::Control(_, plan) => {
                    for (number, ((_, block), (name, region))) in
                        plan.regions.iter_mut().zip(node.regions()).enumerate()
                    {
                        self.path.push(number);
                        self.block(block, &region.nodes)
                            .map_err(|error| in_region(node, *index, name, error))?;
                        self.path.pop();
                    }
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    /// What is to be run instead of `op`, where these of its operands are constants.
    fn op(
        &mut self,
        node: &Node,
        op: &Arc<dyn DynOp>,
        constants: &[Option<&Place>],
    ) -> Result<Option<Arc<dyn DynOp>>, KernelError> {
        // An op whose attributes depend on the inputs is another one for each plan.
        if constants.iter().all(Option::is_none) || node.attributes.are_symbolic() {
            return Ok(None);
        }
        let source = |place: &Place| identified(place, self.made);
        let sources: Vec<Option<Place>> = constants.iter().map(|place| place.map(source)).collect();
        if let Some(known) = self.kept.prepared.get(&self.path)
            && known.constants == sources
        {
            return Ok(known.op.clone());
        }
        let views = constants
            .iter()
            .map(|place| {
                place.map(|place| place.constant(self.weights, self.constants)).transpose()
            })
            .collect::<Result<Vec<_>, _>>()?;
        let prepared: Option<Arc<dyn DynOp>> = op.prepare(&views)?.map(Arc::from);
        self.needed += prepared.as_ref().map_or(0, |op| op.held_bytes() as u128);
        if self.needed > self.limit.into() {
            return Ok(None);
        }
        let known = Prepared { constants: sources, op: prepared.clone() };
        self.kept.prepared.insert(self.path.clone(), known);
        Ok(prepared)
    }
}
