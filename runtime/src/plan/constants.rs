//! Constants that a session makes of those of the file, once for all runs: row-major copies, and the
//! results of ops all of whose operands are constants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lumina_kernels::{DynOp, Fact};

use super::{ConstantKey, Place, Root};
use crate::ir::Node;
use crate::tensor::byte_size;

/// Bytes up to which a result is kept, whatever it is made of.
const LITTLE: usize = 1 << 16;

/// A constant that is to be made.
pub(crate) struct Made {
    /// What tells it from others, of all plans of a session.
    pub(crate) identity: usize,
    pub(crate) fact: Fact,
    pub(crate) recipe: Recipe,
}

/// What a constant is made of.
pub(crate) enum Recipe {
    /// The constant, row-major.
    Copy(Place),
    /// The result of the op, and where its node is.
    Result { op: Arc<dyn DynOp>, operands: Vec<Place>, node: String },
}

impl Recipe {
    /// The constants that it needs.
    pub(crate) fn operands(&self) -> &[Place] {
        match self {
            Self::Copy(place) => std::slice::from_ref(place),
            Self::Result { operands, .. } => operands,
        }
    }
}

/// Numbers of constants by what they are made of: an op with its attributes, and its operands.
#[derive(Default)]
pub(crate) struct Identities {
    numbers: BTreeMap<(String, Vec<ConstantKey>), usize>,
    next: usize,
}

impl Identities {
    fn of(&mut self, op: String, operands: Vec<ConstantKey>) -> usize {
        *self.numbers.entry((op, operands)).or_insert_with(|| {
            self.next += 1;
            self.next
        })
    }

    /// Forgets those that are neither kept nor what others that are kept are made of. A number is never
    /// another constant's.
    pub(crate) fn retain(&mut self, is_kept: impl Fn(usize) -> bool) {
        let of_keys = self.numbers.iter().map(|((_, operands), identity)| (*identity, operands));
        let of_keys: BTreeMap<usize, &Vec<ConstantKey>> = of_keys.collect();
        let mut needed = BTreeSet::new();
        // An operand has the lower number.
        for (&identity, operands) in of_keys.iter().rev() {
            if is_kept(identity) || needed.contains(&identity) {
                needed.insert(identity);
                needed.extend(operands.iter().filter_map(|&(root, ..)| match root {
                    Root::Copy(operand) => Some(operand),
                    _ => None,
                }));
            }
        }
        self.numbers.retain(|_, identity| needed.contains(identity));
    }
}

/// The constants of a plan in the making. A place names them by their number in it.
pub(super) struct Constants<'a> {
    identities: &'a mut Identities,
    /// Whether results are made, too.
    pub(super) computes: bool,
    /// Each after those that it needs.
    pub(super) made: Vec<Made>,
    /// By identity.
    numbers: BTreeMap<usize, usize>,
}

impl<'a> Constants<'a> {
    pub(super) fn new(identities: &'a mut Identities, computes: bool) -> Self {
        Self { identities, computes, made: Vec::new(), numbers: BTreeMap::new() }
    }

    /// The number of the row-major copy of a constant.
    pub(super) fn copy(&mut self, place: &Place) -> usize {
        let identity = self.identities.of(String::new(), vec![self.key(place)]);
        self.number(identity, place.fact(), || Recipe::Copy(place.clone()))
    }

    /// The number of what a node gives for these operands, if they are constants and it is worth its
    /// memory: it takes at most twice that of one of them, as a weight of wider numbers does, or little,
    /// or it `is_wanted`. A broadcast or a mask that is larger is made in each run, by which memory and
    /// caches gain.
    pub(super) fn result(
        &mut self,
        (node, index): (&Node, usize),
        op: &Arc<dyn DynOp>,
        operands: &[&Place],
        fact: &Fact,
        is_wanted: bool,
    ) -> Option<usize> {
        let is_constant = operands.iter().all(|place| place.is_constant());
        // What depends on the inputs is another constant for each plan.
        if !self.computes || !is_constant || node.attributes.are_symbolic() {
            return None;
        }
        let bytes_of = |place: &&Place| {
            let (own, stored) = (byte_size(&place.fact()), byte_size(&place.stored));
            own.zip(stored).map_or(0, |(own, stored)| own.min(stored))
        };
        let largest = operands.iter().map(bytes_of).max().unwrap_or(0);
        let bytes = byte_size(fact)?;
        let is_large = bytes > LITTLE.max(largest.saturating_mul(2));
        if bytes == 0 || is_large && !is_wanted {
            return None;
        }
        let keys = operands.iter().map(|place| self.key(place)).collect();
        let identity = self.identities.of(format!("{} {:?}", node.op, node.attributes), keys);
        Some(self.number(identity, fact.clone(), || Recipe::Result {
            op: Arc::clone(op),
            operands: operands.iter().map(|&place| place.clone()).collect(),
            node: node.place(index),
        }))
    }

    fn number(&mut self, identity: usize, fact: Fact, recipe: impl FnOnce() -> Recipe) -> usize {
        *self.numbers.entry(identity).or_insert_with(|| {
            self.made.push(Made { identity, fact, recipe: recipe() });
            self.made.len() - 1
        })
    }

    /// What tells the constant from those of all plans.
    fn key(&self, place: &Place) -> ConstantKey {
        identified(place, &self.made).key()
    }
}

/// The place, which names a made constant by its identity instead of its number in a plan.
pub(crate) fn identified(place: &Place, made: &[Made]) -> Place {
    match place.root {
        Root::Copy(number) => Place { root: Root::Copy(made[number].identity), ..place.clone() },
        _ => place.clone(),
    }
}
