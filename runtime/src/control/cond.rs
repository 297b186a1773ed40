//! `cond`: one of several regions.

use lumina_kernels::{Attrs, DType, Error, Fact, View, ViewMut};

use super::{Control, ControlEntry, RegionNames, Regions, unlike};

const NAME: &str = "cond";

/// What the region gives whose number the operand is, i32[], limited to the regions that there are.
/// All regions give the same, and read what they need as captures.
struct Cond;

pub(super) const ENTRY: ControlEntry = ControlEntry {
    name: NAME,
    regions: RegionNames::Numbered("branch"),
    make: |_: &dyn Attrs| Ok(Box::new(Cond)),
};

impl Control for Cond {
    fn region_inputs(&self, operands: &[Fact], regions: usize) -> Result<Vec<Vec<Fact>>, Error> {
        match operands {
            [which] if *which == Fact::new(DType::I32, []) => Ok(vec![vec![]; regions]),
            _ => Err(Error::invalid(NAME, "expected one operand, i32[]")),
        }
    }

    fn output_shapes(&self, _: &[Fact], results: &[Vec<Fact>]) -> Result<Vec<Fact>, Error> {
        match results.iter().position(|other| *other != results[0]) {
            Some(index) => {
                unlike(NAME, &format!("branch_{index:03}"), &results[0], &results[index])
            }
            None => Ok(results[0].clone()),
        }
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
        let last = regions.count() - 1;
        let which = inputs[0].data::<i32>()?[0];
        regions.run(usize::try_from(which.max(0)).unwrap_or(0).min(last), &[], outputs)
    }
}
