//! `repeat`: a loop of a fixed number of trips.

use lumina_kernels::{Attrs, Error, Fact, View, ViewMut};

use crate::control::{Control, ControlEntry, RegionNames, Regions};

const NAME: &str = "repeat";
const MAX_TRIPS: i64 = 1000;

/// `carry = body(carry)`, `trips` times; the carry are the operands, then the results.
struct Repeat {
    trips: i64,
}

pub(crate) const ENTRY: ControlEntry = ControlEntry {
    name: NAME,
    regions: RegionNames::Fixed(&["body"]),
    make: |attrs: &dyn Attrs| {
        let trips = attrs.int(NAME, "trips")?;
        if !(0..=MAX_TRIPS).contains(&trips) {
            let message = format!("attribute `trips` must be from 0 to {MAX_TRIPS}, got {trips}");
            return Err(Error::invalid(NAME, message));
        }
        Ok(Box::new(Repeat { trips }))
    },
};

impl Control for Repeat {
    fn region_inputs(&self, operands: &[Fact], _: usize) -> Result<Vec<Vec<Fact>>, Error> {
        Ok(vec![operands.to_vec()])
    }

    fn output_shapes(&self, operands: &[Fact], results: &[Vec<Fact>]) -> Result<Vec<Fact>, Error> {
        let words = |facts: &[Fact]| {
            let words: Vec<String> = facts.iter().map(Fact::to_string).collect();
            words.join(", ")
        };
        if results[0] != operands {
            let (got, expected) = (words(&results[0]), words(operands));
            let message = format!("region `body` must give ({expected}), got ({got})");
            return Err(Error::invalid(NAME, message));
        }
        Ok(operands.to_vec())
    }

    fn scratch(&self, operands: &[Fact]) -> Vec<Fact> {
        operands.to_vec()
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        scratch: &mut [ViewMut<'_>],
        regions: &mut dyn Regions,
    ) -> Result<(), crate::Error> {
        for (input, output) in inputs.iter().zip(&mut *outputs) {
            copy(input, output)?;
        }
        for _ in 0..self.trips {
            for (output, scratch) in outputs.iter().zip(&mut *scratch) {
                copy(&output.view(), scratch)?;
            }
            let carry: Vec<View<'_>> = scratch.iter().map(ViewMut::view).collect();
            regions.run(0, &carry, outputs)?;
        }
        Ok(())
    }
}

fn copy(from: &View<'_>, to: &mut ViewMut<'_>) -> Result<(), Error> {
    crate::ops::copy(from, to, &lumina_kernels::Serial)
}
