//! `choose`: one of two regions.

use lumina_kernels::{Attrs, Error, Fact, View, ViewMut};

use crate::control::{Control, ControlEntry, RegionNames, Regions};

const NAME: &str = "choose";

/// The results of `yes` where the first operand, i32[], is not 0, else those of `no`; both are given
/// the other operands.
struct Choose;

pub(crate) const ENTRY: ControlEntry = ControlEntry {
    name: NAME,
    regions: RegionNames::Fixed(&["no", "yes"]),
    make: |_: &dyn Attrs| Ok(Box::new(Choose)),
};

impl Control for Choose {
    fn region_inputs(&self, operands: &[Fact], _: usize) -> Result<Vec<Vec<Fact>>, Error> {
        Ok(vec![operands[1..].to_vec(); 2])
    }

    fn output_shapes(&self, _: &[Fact], results: &[Vec<Fact>]) -> Result<Vec<Fact>, Error> {
        if results[0] != results[1] {
            return Err(Error::invalid(NAME, "regions `no` and `yes` must give the same"));
        }
        Ok(results[0].clone())
    }

    fn scratch(&self, _: &[Fact]) -> Vec<Fact> {
        Vec::new()
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &mut [ViewMut<'_>],
        regions: &mut dyn Regions,
    ) -> Result<(), crate::Error> {
        let index = usize::from(inputs[0].data::<i32>()? != [0]);
        regions.run(index, &inputs[1..], outputs)
    }
}
