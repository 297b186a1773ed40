//! Ops that run regions: loops and branches.

mod cond;
mod scan;
mod while_loop;

use lumina_kernels::{Attrs, Error, Fact, Serial, View, ViewMut};

use crate::ops::{element_arms, with_element};
use crate::tensor::view_mut;

/// An op that runs regions.
pub(crate) trait Control: Send + Sync {
    /// What the regions, so many, are given as inputs, one list for each, where the operands have
    /// these facts.
    fn region_inputs(&self, operands: &[Fact], regions: usize) -> Result<Vec<Vec<Fact>>, Error>;

    /// What `run` writes, where the regions give `results`; or why it will not.
    fn output_shapes(&self, operands: &[Fact], results: &[Vec<Fact>]) -> Result<Vec<Fact>, Error>;

    /// Tensors that `run` needs for itself.
    fn scratch(&self, operands: &[Fact]) -> Vec<Fact>;

    /// Computes `outputs`.
    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        scratch: &mut [ViewMut<'_>],
        regions: &mut dyn Regions,
    ) -> Result<(), crate::Error>;
}

/// The regions of a node that runs.
pub(crate) trait Regions {
    /// How many there are.
    fn count(&self) -> usize;

    /// Runs region number `index` on `inputs` and copies its results to `outputs`.
    fn run(
        &mut self,
        index: usize,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
    ) -> Result<(), crate::Error>;
}

/// Makes such an op from its attributes.
pub(crate) type Make = fn(&dyn Attrs) -> Result<Box<dyn Control>, Error>;

/// How to make one such op.
pub(crate) struct ControlEntry {
    /// The name in a graph.
    pub(crate) name: &'static str,
    pub(crate) regions: RegionNames,
    pub(crate) make: Make,
}

/// The attributes of an op that are its regions; a node has all of them.
#[derive(Clone, Copy)]
pub(crate) enum RegionNames {
    /// These, sorted.
    Fixed(&'static [&'static str]),
    /// This name with `_000`, `_001` and so on, of which there is at least one.
    Numbered(&'static str),
}

impl RegionNames {
    /// The name that is missing where a node has regions of these names, sorted.
    pub(crate) fn missing(&self, names: &[&str]) -> Option<String> {
        match self {
            Self::Fixed(all) => {
                all.iter().find(|name| !names.contains(name)).map(|name| name.to_string())
            }
            Self::Numbered(prefix) => {
                let mut expected = (0..names.len().max(1)).map(|i| format!("{prefix}_{i:03}"));
                expected.find(|name| !names.contains(&name.as_str()))
            }
        }
    }
}

/// The one list of these ops.
pub(crate) static CONTROL: &[ControlEntry] = &[
    cond::ENTRY,
    scan::ENTRY,
    while_loop::ENTRY,
    #[cfg(test)]
    crate::tests::choose::ENTRY,
    #[cfg(test)]
    crate::tests::repeat::ENTRY,
];

/// Trips of a loop at most.
const MAX_TRIPS: i64 = 1 << 31;

/// Facts in words: `(f32[2], i32[])`.
fn words(facts: &[Fact]) -> String {
    let words: Vec<String> = facts.iter().map(Fact::to_string).collect();
    format!("({})", words.join(", "))
}

/// The refusal of what a region gives.
fn unlike<T>(op: &'static str, region: &str, expected: &[Fact], got: &[Fact]) -> Result<T, Error> {
    let message = format!("region `{region}` must give {}, got {}", words(expected), words(got));
    Err(Error::invalid(op, message))
}

fn copy_all(from: &[View<'_>], to: &mut [ViewMut<'_>]) -> Result<(), Error> {
    from.iter().zip(to).try_for_each(|(from, to)| crate::ops::copy(from, to, &Serial))
}

/// The bytes of a tensor.
fn bytes_of<'a>(tensor: &'a mut ViewMut<'_>) -> Result<&'a mut [u8], Error> {
    with_element!(tensor.dtype(), T => Ok(bytemuck::cast_slice_mut(tensor.data_mut::<T>()?)))
}

/// The same tensors, of these facts, for a while.
fn lent<'a>(facts: &'a [Fact], tensors: &'a mut [ViewMut<'_>]) -> Result<Vec<ViewMut<'a>>, Error> {
    facts.iter().zip(tensors).map(|(fact, tensor)| view_mut(fact, bytes_of(tensor)?)).collect()
}

/// Views of all of these.
fn views<'a>(tensors: &'a [ViewMut<'_>]) -> Vec<View<'a>> {
    tensors.iter().map(ViewMut::view).collect()
}
