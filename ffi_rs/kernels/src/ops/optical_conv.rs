//! A convolution through the whole signal chain: of every patch of x, what
//! [`optical_matmul`](super::optical_matmul) computes of a row.
//!
//! ```text
//! x_q = DAC(x)      w_q = DAC(w)      y = patches(x_q) · w_q + bias
//! σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖patch‖²         out = ADC(y + σ·ε)
//! ```
//!
//! As one would write it down, with x between zeros and every index of it within them:
//!
//! ```text
//! for n in images, oh in height, ow in width:
//!     row = (n · height + oh) · width + ow
//!     for each group of channels and of columns:
//!         patch = [x[n, oh·stride + kh·dilation, ow·stride + kw·dilation, c]
//!                  for kh in taps, kw in taps, c in channels of the group]
//!         out[n, oh, ow, columns of the group] = optical_matmul(patch, w of the group)
//!             with ε(seed, rows[n] + oh · width + ow, columns)
//! ```
//!
//! What is done otherwise: patches exist for some rows at a time, in memory that a cache of a core
//! holds, and the weights of each group are packed once for all of them. Narrow groups are one product
//! with zeros in between, where that changes no sum. The bits are those of the product with all patches:
//! a zero around or between elements of x goes through the DAC as any other.

use super::Dequantize;
use super::conv::{Forward, Outputs};
use crate::{Attrs, DType, DynOp, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `out = ADC(conv(x_q, w_q) + bias + σ·ε)`
///
/// Inputs: x f32\[B,H,W,C\], kernel f32\[KH,KW,C / groups,N\], bias f32\[1|N\],
/// x_full_scale f32\[0|1|B\] (none: the largest finite |x| in a patch),
/// w_full_scale f32\[0|1|N\] (none: the largest finite |w| of each column), y_full_scale f32\[1|N\],
/// noise f32\[1|B,4\] (thermal, shot, relative, weight), seed u32\[1|B,2\] (high word first),
/// rows u32\[1|B\] (global id of the first place of each image), columns u32\[1|N\] (global ids,
/// consecutive from the first).
/// Output: out f32\[B,OH,OW,N\].
#[derive(Debug)]
pub struct OpticalConv(Forward);

impl Op for OpticalConv {
    const NAME: &'static str = "optical_conv";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Forward::from_attrs(Self::NAME, attrs).map(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        Ok(vec![Fact::new(DType::F32, self.0.shape(inputs)?.out())])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let out = outputs[0].data_mut()?;
        let outputs = Outputs { out, saved: None, peak: None, x_peak: None, w_peak: None };
        self.0.run(inputs, outputs, pool)
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        let prepared = self.0.prepared(constants)?;
        Ok(prepared.map(|forward| Box::new(Self(forward)) as Box<dyn DynOp>))
    }

    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        constants: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error> {
        if operand != 1 {
            return Ok(None);
        }
        let full_scale = constants.get(4).copied().flatten();
        let forward = self.0.with_codes(codes, full_scale, coded);
        Ok(forward.map(|forward| Box::new(Self(forward)) as Box<dyn DynOp>))
    }

    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        self.0.work(inputs, &Op::output_shapes(self, inputs)?)
    }
}
