//! Softmax of scaled scores, of which each row sees its first columns.

use std::ops::Range;

use super::chain::matrix;
use super::seen::{self, SeenRows};
use crate::exp::exp;
use crate::isa::{Isa, LANES, for_each_isa};
use crate::{Attrs, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `p = exp(z - max z) / Σ exp(z - max z)` with `z = scale · scores`, over the first `seen` columns
/// of a row; 0 in the others, which are never read.
///
/// ```text
/// for m in rows:
///     z = [scale[m] · scores[m, n] for n in 0..seen[m]]      -inf for -inf, NaN for inf and NaN
///     e = [exp(z[n] - max(z)) for n in 0..seen[m]]           0 where z[n] is -inf
///     p[m, n] = e[n] / Σ e for n in 0..seen[m], else 0       0 where Σ e = 0
/// ```
///
/// Inputs: scores f32\[M,N\], seen i32\[M\] (cut to 0 … N), scale f32\[1|M\]. Output: f32\[M,N\].
#[derive(Debug)]
pub struct CausalSoftmax;

impl Op for CausalSoftmax {
    const NAME: &'static str = "causal_softmax";

    fn from_attrs(_attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [scores, seen, scale] = inputs else {
            let message = format!("expected 3 operands, got {}", inputs.len());
            return Err(Error::invalid(Self::NAME, message));
        };
        let &[rows, _] = matrix(Self::NAME, "scores", scores)?;
        seen::check(Self::NAME, seen, scale, rows)?;
        Ok(vec![scores.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let isa = Isa::detect();
        let rows = SeenRows::new(inputs[0].shape()[1], &inputs[1], &inputs[2])?;
        let scores: &[f32] = inputs[0].data()?;
        rows.run(outputs[0].data_mut()?, pool, |range, out| softmax(isa, out, scores, rows, range));
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        // Scaled, compared, subtracted, the exponential, added up, divided.
        let flops = (outputs[0].len() as u64).saturating_mul(6);
        let bytes = Work::bytes_of(inputs).saturating_add(Work::bytes_of(&outputs));
        Ok(Work { flops, bytes })
    }
}

for_each_isa! {
    /// Writes the rows of that range to `out`.
    pub(super) fn softmax(out: &mut [f32], scores: &[f32], rows: SeenRows<'_>, range: Range<usize>) = rows_body
}

#[inline(always)]
fn rows_body(out: &mut [f32], scores: &[f32], rows: SeenRows<'_>, range: Range<usize>) {
    for (out, row) in out.chunks_exact_mut(rows.columns()).zip(range) {
        let scores = &scores[rows.range(row)];
        let (seen, unseen) = out.split_at_mut(scores.len());
        row_body(seen, scores, rows.scale(row));
        unseen.fill(0.0);
    }
}

/// Three passes over a row that a cache holds. What is no whole group of lanes stays in one that is
/// filled up with scores of -inf, which add nothing.
#[inline(always)]
fn row_body(out: &mut [f32], scores: &[f32], scale: f32) {
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    let (scores, scores_rest) = scores.as_chunks::<LANES>();
    let mut last = [f32::NEG_INFINITY; LANES];
    last[..scores_rest.len()].copy_from_slice(scores_rest);

    let mut peaks = [f32::NEG_INFINITY; LANES];
    for (out, scores) in out.iter_mut().zip(scores) {
        write_scaled(out, scores, scale, &mut peaks);
    }
    let scores = last;
    write_scaled(&mut last, &scores, scale, &mut peaks);
    let peak = peaks.into_iter().fold(f32::NEG_INFINITY, larger);
    // Where all is -inf, so that it is 0 and not NaN.
    let peak = if peak == f32::NEG_INFINITY { 0.0 } else { peak };

    let mut sums = [0.0; LANES];
    for out in out.iter_mut() {
        replace_by_exp(out, peak, &mut sums);
    }
    replace_by_exp(&mut last, peak, &mut sums);
    let sum: f32 = sums.iter().sum();

    let factor = if sum == 0.0 { 0.0 } else { 1.0 / sum };
    for value in out.as_flattened_mut() {
        *value *= factor;
    }
    last = last.map(|value| value * factor);
    out_rest.copy_from_slice(&last[..out_rest.len()]);
}

/// Writes `z`, and to `peaks` the largest ones that are no NaN.
#[inline(always)]
fn write_scaled(
    out: &mut [f32; LANES],
    scores: &[f32; LANES],
    scale: f32,
    peaks: &mut [f32; LANES],
) {
    for lane in 0..LANES {
        out[lane] = scaled(scores[lane], scale);
        peaks[lane] = larger(peaks[lane], out[lane]);
    }
}

/// Replaces each `z` by `exp(z - peak)`, and adds these to `sums`.
#[inline(always)]
fn replace_by_exp(z: &mut [f32; LANES], peak: f32, sums: &mut [f32; LANES]) {
    for lane in 0..LANES {
        z[lane] = exp(z[lane] - peak);
        sums[lane] += z[lane];
    }
}

/// `scale · score`. Whatever the scale, nothing is seen of a score of -inf, and one of inf is NaN.
#[inline(always)]
fn scaled(score: f32, scale: f32) -> f32 {
    let z = score * scale;
    let z = if score < f32::INFINITY { z } else { f32::NAN };
    if score == f32::NEG_INFINITY { f32::NEG_INFINITY } else { z }
}

/// The larger one; `peak` where `z` is NaN.
#[inline(always)]
fn larger(peak: f32, z: f32) -> f32 {
    if z > peak { z } else { peak }
}
