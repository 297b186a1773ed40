//! The noise alone, as the signal chain draws it.

use super::chain::{Broadcast, extents};
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::noise::{self, SEEDED, Source};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut};

/// `ε(seed, row, column)`, standard normal.
///
/// Inputs: seed u32\[1|M,2\] (high word first), rows u32\[M\], columns u32\[N\] (global ids,
/// consecutive from the first). Output: f32\[M,N\].
#[derive(Debug)]
pub struct OpticalNoise;

impl Op for OpticalNoise {
    const NAME: &'static str = "optical_noise";

    fn from_attrs(_attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [seed, rows, columns] = inputs else {
            let message = format!("expected 3 operands, got {}", inputs.len());
            return Err(Error::invalid(Self::NAME, message));
        };
        let vector = |name: &str, fact: &Fact| match (fact.dtype, fact.shape.as_slice()) {
            (DType::U32, &[extent]) => Ok(extent),
            _ => Err(Error::invalid(
                Self::NAME,
                format!("`{name}` must be a u32 vector, got {fact}"),
            )),
        };
        let (rows, columns) = (vector("rows", rows)?, vector("columns", columns)?);
        extents(Self::NAME, "seed", seed, DType::U32, &[&[1, rows], &[2]])?;
        Ok(vec![Fact::new(DType::F32, [rows, columns])])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let isa = Isa::detect();
        let (rows, columns) = (inputs[1].data::<u32>()?, inputs[2].data::<u32>()?);
        let seed = Broadcast::new(inputs[0].data::<u32>()?, 2, rows.len());
        let Some(&first) = columns.first() else { return Ok(()) };
        let out = DisjointMut::new(outputs[0].data_mut::<f32>()?);
        pool.run(rows.len().div_ceil(ROWS), &|chunk, _| {
            let start = chunk * ROWS;
            let mut sources = [Source::default(); ROWS];
            let rows = &rows[start..rows.len().min(start + ROWS)];
            for (index, (source, row)) in sources.iter_mut().zip(rows).enumerate() {
                *source = Source::new(seed.row(start + index), *row);
            }
            let mut out = out.write(start * columns.len()..(start + rows.len()) * columns.len());
            noise::fill(isa, &mut out, &sources[..rows.len()], first);
        });
        Ok(())
    }
}

/// Rows that one chunk draws.
const ROWS: usize = 2 * SEEDED;
