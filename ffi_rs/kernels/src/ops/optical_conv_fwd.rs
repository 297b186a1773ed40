//! The convolution as training runs it: with what the backward pass needs.
//!
//! Computed as [`optical_conv`](super::optical_conv) is. In addition, for each output, what
//! [`optical_matmul_fwd`](super::optical_matmul_fwd) has of the same patches, with its peaks by image.

use super::chain::{Residual, Saved};
use super::conv::{Forward, Outputs};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// [`OpticalConv`](super::OpticalConv), and on request what its gradient and a calibration of ranges
/// need.
///
/// Inputs: those of [`OpticalConv`](super::OpticalConv).
/// Outputs: out f32\[B,OH,OW,N\] and, with `residual` "pre_noise" or "slope", y or slope of that
/// shape, or with "signs" the signs i8, as [`OpticalMatmulFwd`](super::OpticalMatmulFwd) has them, and,
/// `with_peak`, max |y| of each image f32\[B\], 0 where none is finite, `with_x_peak` the same of the
/// patches of x, f32\[B\], and `with_w_peak` of the columns of w, f32\[N\].
#[derive(Debug)]
pub struct OpticalConvFwd {
    forward: Forward,
    residual: Option<Residual>,
    with_peak: bool,
    with_x_peak: bool,
    with_w_peak: bool,
}

impl Op for OpticalConvFwd {
    const NAME: &'static str = "optical_conv_fwd";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            forward: Forward::from_attrs(Self::NAME, attrs)?,
            residual: Residual::from_attrs(Self::NAME, attrs)?,
            with_peak: attrs.bool(Self::NAME, "with_peak")?,
            with_x_peak: attrs.bool(Self::NAME, "with_x_peak")?,
            with_w_peak: attrs.bool(Self::NAME, "with_w_peak")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let shape = self.forward.shape(inputs)?;
        let residual = self.residual.map(|kind| self.forward.residual(kind, inputs)).transpose()?;
        let peak = |wanted: bool, extent| wanted.then(|| Fact::new(DType::F32, [extent]));
        let of_images = [self.with_peak, self.with_x_peak].map(|wanted| peak(wanted, shape.images));
        let of_columns = peak(self.with_w_peak, shape.columns);
        let out = Some(Fact::new(DType::F32, shape.out()));
        Ok([out, residual].into_iter().chain(of_images).chain([of_columns]).flatten().collect())
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let mut outputs = outputs.iter_mut();
        let mut next = |wanted: bool| if wanted { outputs.next() } else { None };
        let out = next(true).expect("there is an output");
        let saved = match (self.residual, next(self.residual.is_some())) {
            (Some(Residual::PreNoise), Some(y)) => Some(Saved::PreNoise(y.data_mut()?)),
            (Some(Residual::Slope), Some(slope)) => Some(Saved::Slope(slope.data_mut()?)),
            (Some(Residual::Signs), Some(signs)) => Some(Saved::Signs(signs.data_mut()?)),
            _ => None,
        };
        let mut peak = |wanted| next(wanted).map(ViewMut::data_mut).transpose();
        let (peak, x_peak, w_peak) =
            (peak(self.with_peak)?, peak(self.with_x_peak)?, peak(self.with_w_peak)?);
        let outputs = Outputs { out: out.data_mut()?, saved, peak, x_peak, w_peak };
        self.forward.run(inputs, outputs, pool)
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        self.forward.work(inputs, &self.output_shapes(inputs)?)
    }
}
