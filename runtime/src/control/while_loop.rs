//! `while`: a loop that ends when a region says so.

use lumina_kernels::{Attrs, Bool, DType, Error, Fact, View, ViewMut};

use super::{
    Control, ControlEntry, MAX_TRIPS, RegionNames, Regions, copy_all, lent, unlike, views,
};

const NAME: &str = "while";

/// `while cond(carry): carry = body(carry)`; the carry are the operands, then the results. More than
/// `limit` trips are an error.
struct While {
    limit: i64,
}

pub(super) const ENTRY: ControlEntry = ControlEntry {
    name: NAME,
    regions: RegionNames::Fixed(&["body", "cond"]),
    make: |attrs: &dyn Attrs| {
        let limit = attrs.int(NAME, "limit")?;
        if !(0..=MAX_TRIPS).contains(&limit) {
            let message = format!("attribute `limit` must be from 0 to {MAX_TRIPS}, got {limit}");
            return Err(Error::invalid(NAME, message));
        }
        Ok(Box::new(While { limit }))
    },
};

const BODY: usize = 0;
const COND: usize = 1;

impl Control for While {
    fn region_inputs(&self, operands: &[Fact], _: usize) -> Result<Vec<Vec<Fact>>, Error> {
        Ok(vec![operands.to_vec(); 2])
    }

    fn output_shapes(&self, operands: &[Fact], results: &[Vec<Fact>]) -> Result<Vec<Fact>, Error> {
        let goes_on = [Fact::new(DType::Bool, [])];
        if results[COND] != goes_on {
            return unlike(NAME, "cond", &goes_on, &results[COND]);
        }
        if results[BODY] != operands {
            return unlike(NAME, "body", operands, &results[BODY]);
        }
        Ok(operands.to_vec())
    }

    fn scratch(&self, operands: &[Fact]) -> Vec<Fact> {
        [operands, &[Fact::new(DType::Bool, [])]].concat()
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        scratch: &mut [ViewMut<'_>],
        regions: &mut dyn Regions,
    ) -> Result<(), crate::Error> {
        let facts: Vec<Fact> = inputs.iter().map(View::fact).collect();
        copy_all(inputs, outputs)?;
        let (scratch, goes_on) = scratch.split_at_mut(inputs.len());
        let (mut now, mut next) = (lent(&facts, outputs)?, lent(&facts, scratch)?);
        let mut trips = 0;
        loop {
            regions.run(COND, &views(&now), goes_on)?;
            if !goes_on[0].data_mut::<Bool>()?[0].get() {
                break;
            }
            if trips == self.limit {
                let message = format!(
                    "the loop has not ended after {trips} trips, its `limit`; export it with a \
                     larger `while_limit`"
                );
                return Err(Error::invalid(NAME, message).into());
            }
            regions.run(BODY, &views(&now), &mut next)?;
            std::mem::swap(&mut now, &mut next);
            trips += 1;
        }
        // The places alternate, and the first of them is the result.
        if trips % 2 == 1 {
            copy_all(&views(&now), &mut next)?;
        }
        Ok(())
    }
}
