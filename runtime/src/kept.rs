//! What a session keeps between runs, for all its plans: row-major copies of constants, and ops that
//! are prepared for constants.

use std::collections::BTreeMap;
use std::sync::Arc;

use lumina_kernels::{DynOp, Error as KernelError, Serial};

use crate::bytes::AlignedBytes;
use crate::ir::{Node, in_region};
use crate::ops::copy;
use crate::plan::{Block, ConstantKey, Place, Root, Step, Work};
use crate::tensor::{byte_size, view_mut};
use crate::{Error, Model};

/// Copies and ops that plans share.
#[derive(Default)]
pub(crate) struct Kept {
    copies: BTreeMap<ConstantKey, Arc<AlignedBytes>>,
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
        let copies = self.copies.values().map(|copy| copy.len());
        let ops = self.prepared.values().filter_map(|prepared| prepared.op.as_ref());
        copies.chain(ops.map(|op| op.held_bytes())).map(|bytes| bytes as u128).sum()
    }

    /// Drops what no plan uses.
    pub(crate) fn forget_unused(&mut self) {
        self.copies.retain(|_, copy| Arc::strong_count(copy) > 1);
        self.prepared
            .retain(|_, prepared| prepared.op.as_ref().is_none_or(|op| Arc::strong_count(op) > 1));
    }

    /// Prepares the ops of `block`, the nodes of the entry point, and returns the copies of `constants`.
    ///
    /// All that is kept, and the buffers of `block`, take no more than `limit` bytes.
    pub(crate) fn prepare(
        &mut self,
        model: &Model,
        entry: usize,
        block: &mut Block,
        constants: Vec<Place>,
        buffers: u128,
        limit: u64,
    ) -> Result<Vec<Arc<AlignedBytes>>, Error> {
        let new = constants.iter().filter(|place| !self.copies.contains_key(&place.key()));
        let new: u128 = new.map(|place| byte_size(&place.fact()).unwrap_or(0) as u128).sum();
        let needed = buffers + self.bytes() + new;
        if needed > limit.into() {
            return Err(Error::Memory { needed, limit });
        }
        let weights = model.weights();
        let copies = constants
            .iter()
            .map(|place| self.copy(place, weights))
            .collect::<Result<Vec<_>, Error>>()?;
        let mut pass = Pass {
            kept: self,
            weights,
            constants: &constants,
            copies: &copies,
            path: vec![entry],
            needed,
            limit,
        };
        pass.block(block, &model.graph(entry)?.nodes)?;
        match pass.needed {
            needed if needed > limit.into() => Err(Error::Memory { needed, limit }),
            _ => Ok(copies),
        }
    }

    /// The row-major copy of a constant.
    fn copy(&mut self, place: &Place, weights: &[u8]) -> Result<Arc<AlignedBytes>, Error> {
        let key = place.key();
        if let Some(known) = self.copies.get(&key) {
            return Ok(Arc::clone(known));
        }
        let fact = place.fact();
        let mut bytes = AlignedBytes::zeroed(byte_size(&fact).unwrap_or(usize::MAX))?;
        copy(&place.constant(weights, &[])?, &mut view_mut(&fact, &mut bytes)?, &Serial)?;
        let bytes = Arc::new(bytes);
        self.copies.insert(key, Arc::clone(&bytes));
        Ok(bytes)
    }
}

/// A walk over the steps of a plan.
struct Pass<'a> {
    kept: &'a mut Kept,
    weights: &'a [u8],
    constants: &'a [Place],
    copies: &'a [Arc<AlignedBytes>],
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
        // Numbers of copies are those of this plan.
        let source = |place: &Place| match place.root {
            Root::Copy(number) => self.constants[number].clone(),
            _ => place.clone(),
        };
        let sources: Vec<Option<Place>> = constants.iter().map(|place| place.map(source)).collect();
        if let Some(known) = self.kept.prepared.get(&self.path)
            && known.constants == sources
        {
            return Ok(known.op.clone());
        }
        let views = constants
            .iter()
            .map(|place| place.map(|place| place.constant(self.weights, self.copies)).transpose())
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
