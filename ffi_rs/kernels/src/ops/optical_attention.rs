//! Attention whose two products run the whole signal chain.
//!
//! ```text
//! for each head, t in queries:
//!     s[n]   = ADC(q_q[t] · k_q[n] + σ·ε)                         for n in 0..seen[t]
//!     p[n]   = exp(z[n] - max z) / Σ exp(z - max z)               z = scale · s
//!     out[t] = ADC(p_q · v_q + σ·ε)                               0 where seen[t] = 0
//! ```
//!
//! with `q_q` and so on what a DAC makes of it, and σ and ε as in
//! [`optical_matmul`](super::optical_matmul): ε of the row `rows + t` and of the column, from the
//! seed for the scores, and from the seed plus [`SEED_STEP`](crate::noise::SEED_STEP) for the outputs.
//!
//! What is done otherwise:
//!
//! - Scores and probabilities exist for a block of queries at a time, and for the keys alone that
//!   one of them sees.
//! - Keys are converted and packed once for a head.
//! - Without converters and noise the products are plain ones.
//!
//! [`attention`](super::attention) holds the parts.

use super::attention::{Call, Request, work};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `out = ADC(p_q · v_q + σ·ε)` with `p = softmax(scale · ADC(q_q · k_qᵀ + σ·ε))` over the keys
/// before `seen` of the query.
///
/// An output is NaN where the query, or a key or value that it sees, is not finite, whatever another
/// query sees. A key that no query of a head sees is never looked at.
///
/// Inputs: q f32\[M,T,H,D\], k f32\[M,S,H,D\], v f32\[M,S,H,E\], seen i32\[1|M,1|H,T\] (cut to 0 … S),
/// scale f32\[1|M\], q_full_scale, k_full_scale f32\[0|1|M,1|H\] (none: the largest finite magnitude
/// of the head), p_full_scale f32\[1|M,1|H\], v_full_scale f32\[0|1|M,1|H\], scores_full_scale,
/// out_full_scale f32\[1|M,1|H\], noise f32\[1|M,1|H,2,4\] (of scores and outputs: thermal, shot,
/// relative, weight), seed u32\[1|M,2\] (high word first), rows u32\[1|M,1|H\] (the id of the first
/// query of each head; the others follow).
/// Outputs: out f32\[M,T,H,E\] and, `with_peaks`, peaks f32\[M,H,2\]: of what a query sees, the
/// largest finite magnitude of the scores and of the outputs, each before noise and ADC, 0 where
/// there is none.
#[derive(Debug)]
pub struct OpticalAttention {
    request: Request,
    with_peaks: bool,
}

impl Op for OpticalAttention {
    const NAME: &'static str = "optical_attention";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            request: Request::from_attrs(Self::NAME, attrs)?,
            with_peaks: attrs.bool(Self::NAME, "with_peaks")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let sizes = self.request.sizes(inputs)?;
        let out = [sizes.batch, sizes.queries, sizes.heads, sizes.width];
        let mut facts = vec![Fact::new(DType::F32, out)];
        if self.with_peaks {
            facts.push(Fact::new(DType::F32, [sizes.batch, sizes.heads, 2]));
        }
        Ok(facts)
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (out, peaks) = outputs.split_at_mut(1);
        let peaks = peaks.first_mut().map(ViewMut::data_mut).transpose()?;
        Call::new(&self.request, inputs)?.run(out[0].data_mut()?, peaks, pool)
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        Ok(work(1, self.request.sizes(inputs)?, inputs, &outputs))
    }
}
