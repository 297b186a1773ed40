//! The gradient of a softmax of which each row sees its first columns.

use std::ops::Range;

use super::chain::{extents, matrix};
use super::seen::{self, SeenRows};
use crate::isa::{Isa, for_each_isa, lane_sum};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `ds = scale · p · (g - Σ g·p)` over the first `seen` columns of a row; 0 in the others, which are
/// never read.
///
/// Inputs: g f32\[M,N\], p f32\[M,N\] (what `causal_softmax` gave), seen i32\[M\], scale
/// f32\[1|M\]. Output: f32\[M,N\].
#[derive(Debug)]
pub struct CausalSoftmaxGrad;

impl Op for CausalSoftmaxGrad {
    const NAME: &'static str = "causal_softmax_grad";

    fn from_attrs(_attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [g, p, seen, scale] = inputs else {
            let message = format!("expected 4 operands, got {}", inputs.len());
            return Err(Error::invalid(Self::NAME, message));
        };
        let &[rows, columns] = matrix(Self::NAME, "g", g)?;
        extents(Self::NAME, "p", p, DType::F32, &[&[rows], &[columns]])?;
        seen::check(Self::NAME, seen, scale, rows)?;
        Ok(vec![g.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let isa = Isa::detect();
        let rows = SeenRows::new(inputs[0].shape()[1], &inputs[2], &inputs[3])?;
        let (g, p): (&[f32], &[f32]) = (inputs[0].data()?, inputs[1].data()?);
        rows.run(outputs[0].data_mut()?, pool, |range, out| gradient(isa, out, g, p, rows, range));
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        // A product that is added up, a difference, two products.
        let flops = (outputs[0].len() as u64).saturating_mul(5);
        let bytes = Work::bytes_of(inputs).saturating_add(Work::bytes_of(&outputs));
        Ok(Work { flops, bytes })
    }
}

for_each_isa! {
    /// Writes the rows of that range to `out`.
    pub(super) fn gradient(
        out: &mut [f32],
        g: &[f32],
        p: &[f32],
        rows: SeenRows<'_>,
        range: Range<usize>,
    ) = rows_body
}

#[inline(always)]
fn rows_body(out: &mut [f32], g: &[f32], p: &[f32], rows: SeenRows<'_>, range: Range<usize>) {
    for (out, row) in out.chunks_exact_mut(rows.columns()).zip(range) {
        let (g, p) = (&g[rows.range(row)], &p[rows.range(row)]);
        let (seen, unseen) = out.split_at_mut(g.len());
        let scale = rows.scale(row);
        let mean = lane_sum([g, p], |[g, p]| g * p);
        for ((out, g), p) in seen.iter_mut().zip(g).zip(p) {
            *out = scale * (p * (g - mean));
        }
        unseen.fill(0.0);
    }
}
