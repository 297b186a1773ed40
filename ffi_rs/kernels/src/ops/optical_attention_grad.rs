//! The gradient of [`optical_attention`](super::optical_attention), straight through the converters
//! and through the noise.
//!
//! ```text
//! dp, dv = the gradient of the chain p · v for g         as optical_matmul_grad has it
//! ds     = scale · p · (dp - Σ dp·p)
//! dq, dk = the gradient of the chain q · kᵀ for ds
//! ```
//!
//! What is done otherwise: scores, probabilities and outputs are computed again from the operands,
//! and ε is drawn again, a block of queries at a time. dk and dv are added up in the order of the
//! blocks, in as many sums as the number of queries says.

use super::attention::{Call, Gradients, PER_HEAD, Request, work};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// The gradient with respect to every float operand of the forward op.
///
/// `with_ranges` asks for the gradients of the scale, of the full scales and of the noise; where it
/// does not they are zero.
///
/// A query is bad where its output, or its g, is not finite. Its dq is NaN, and so are dk and dv of
/// the keys that it sees and all that a head has one of; nothing else is.
///
/// Inputs: g f32\[M,T,H,E\], then those of the forward op.
/// Outputs: dq, dk and dv as q, k and v, dscale f32\[M,H\], the six of the full scales f32\[M,H\] in
/// their order, dnoise f32\[M,H,2,4\].
#[derive(Debug)]
pub struct OpticalAttentionGrad {
    request: Request,
    with_ranges: bool,
}

impl Op for OpticalAttentionGrad {
    const NAME: &'static str = "optical_attention_grad";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            request: Request::from_attrs(Self::NAME, attrs)?,
            with_ranges: attrs.bool(Self::NAME, "with_ranges")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Some((g, inputs)) = inputs.split_first() else {
            return Err(Error::invalid(Self::NAME, "expected 15 operands, got 0"));
        };
        let sizes = self.request.sizes(inputs)?;
        let out = Fact::new(DType::F32, [sizes.batch, sizes.queries, sizes.heads, sizes.width]);
        if *g != out {
            return Err(Error::invalid(Self::NAME, format!("`g` must be {out}, got {g}")));
        }
        let by_head = Fact::new(DType::F32, [sizes.batch, sizes.heads]);
        let noise = Fact::new(DType::F32, [sizes.batch, sizes.heads, 2, 4]);
        let mut facts = inputs[..3].to_vec();
        facts.extend(std::iter::repeat_n(by_head, 7));
        facts.push(noise);
        Ok(facts)
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let call = Call::new(&self.request, &inputs[1..])?;
        let [q, k, v, others @ ..] = outputs else {
            let message = format!("expected 11 results, got {}", outputs.len());
            return Err(Error::invalid(Self::NAME, message));
        };
        let heads = others.first().map_or(0, |scale| scale.shape().iter().product());
        let mut per_head = vec![0.0; heads * PER_HEAD];
        let gradients = Gradients {
            q: q.data_mut()?,
            k: k.data_mut()?,
            v: v.data_mut()?,
            per_head: &mut per_head,
        };
        call.run_gradient(inputs[0].data()?, self.with_ranges, gradients, pool)?;
        let mut first = 0;
        for output in others {
            let output: &mut [f32] = output.data_mut()?;
            let width = output.len().checked_div(heads).unwrap_or(0);
            if width == 0 {
                continue;
            }
            for (out, head) in output.chunks_exact_mut(width).zip(per_head.chunks_exact(PER_HEAD)) {
                out.copy_from_slice(&head[first..first + width]);
            }
            first += width;
        }
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        Ok(work(3, self.request.sizes(&inputs[1..])?, inputs, &outputs))
    }
}
