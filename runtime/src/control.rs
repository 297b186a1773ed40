//! Ops that run regions: loops and branches.

use lumina_kernels::{Attrs, Error, Fact, View, ViewMut};

/// An op that runs regions.
pub(crate) trait Control: Send + Sync {
    /// What the regions are given as inputs, one list for each, where the operands have these facts.
    fn region_inputs(&self, operands: &[Fact]) -> Result<Vec<Vec<Fact>>, Error>;

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
#[cfg_attr(not(test), expect(dead_code, reason = "no op of the product has regions yet"))]
pub(crate) trait Regions {
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
    /// The attributes that are its regions, sorted; a node has all of them.
    pub(crate) regions: &'static [&'static str],
    pub(crate) make: Make,
}

/// The one list of these ops.
pub(crate) static CONTROL: &[ControlEntry] = &[
    #[cfg(test)]
    crate::tests::choose::ENTRY,
    #[cfg(test)]
    crate::tests::repeat::ENTRY,
];
