//! The signal chain as training runs it: with what the backward pass needs.
//!
//! Computed as [`optical_matmul`](super::optical_matmul) is. In addition, for each output:
//!
//! ```text
//! for m in rows, n in columns:
//!     slope[m, n] = [|y + σ·ε| ≤ y_full_scale] · (1 + ε · (shot²·sign(y)/2 + relative²·y)/σ)
//!     peak[m]     = max(peak[m], |y|)        where y is finite
//! for k in depth:
//!     x_peak[m]   = max(x_peak[m], |x[m, k]|)         where that is finite
//!     w_peak[n]   = max(w_peak[n], |w[k, n]|)         where that is finite
//! ```
//!
//! What is done otherwise: tiles of one row raise its peak atomically, as a maximum takes its
//! numbers in any order.

use std::marker::PhantomData;

use super::chain::{Number, Residual, Saved, floats_mut};
use super::forward::{self, Outputs, Request};
use super::sizes::Sizes;
use crate::{Attrs, Complex32, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// [`OpticalMatmul`](super::OpticalMatmul), and on request what its gradient and a calibration of
/// ranges need.
///
/// Inputs: those of [`OpticalMatmul`](super::OpticalMatmul).
/// Outputs: out f32\[M,N\] and, with `residual` "pre_noise" or "slope", y or slope f32\[M,N\], or
/// with "signs" i8\[M,N\], and, `with_peak`, peak f32\[M\], 0 where no y of a row is finite,
/// `with_x_peak` the same of x, f32\[M\], and `with_w_peak` of the columns of w, f32\[N\].
///
/// `signs` tell the slope where no noise but the relative one depends on y: they are 0 where the ADC
/// clips, -128 where the slope is NaN, and else sign(y), with 2 for y = 0.
pub type OpticalMatmulFwd = MatmulFwd<f32>;

/// [`ComplexOpticalMatmul`](super::ComplexOpticalMatmul) in the same way: y is c64\[M,N\], and peaks
/// are those of parts. `residual` is "none" or "pre_noise", as a part alone has no slope.
pub type ComplexOpticalMatmulFwd = MatmulFwd<Complex32>;

/// The op on numbers of a type.
#[derive(Debug)]
pub struct MatmulFwd<N> {
    request: Request,
    numbers: PhantomData<N>,
    residual: Option<Residual>,
    with_peak: bool,
    with_x_peak: bool,
    with_w_peak: bool,
}

impl<N: Number> Op for MatmulFwd<N> {
    const NAME: &'static str = N::MATMUL_FWD;

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let residual = Residual::from_attrs(Self::NAME, attrs)?;
        if let Some(kind) = residual.filter(|kind| N::COMPLEX && *kind != Residual::PreNoise) {
            let message = format!("`residual` must be none or pre_noise, got {}", kind.name());
            return Err(Error::invalid(Self::NAME, message));
        }
        Ok(Self {
            request: Request::from_attrs(Self::NAME, N::COMPLEX, attrs)?,
            numbers: PhantomData,
            residual,
            with_peak: attrs.bool(Self::NAME, "with_peak")?,
            with_x_peak: attrs.bool(Self::NAME, "with_x_peak")?,
            with_w_peak: attrs.bool(Self::NAME, "with_w_peak")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Sizes { rows, columns, .. } = self.request.sizes(inputs)?;
        let out = Fact::new(N::DTYPE, [rows, columns]);
        let residual = self.residual.map(|kind| self.request.residual(kind, inputs)).transpose()?;
        let peak = |wanted: bool, extent| wanted.then(|| Fact::new(DType::F32, [extent]));
        let of_rows = [peak(self.with_peak, rows), peak(self.with_x_peak, rows)];
        let of_columns = peak(self.with_w_peak, columns);
        let results = [Some(out), residual].into_iter().chain(of_rows).chain([of_columns]);
        Ok(results.flatten().collect())
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
            (Some(Residual::PreNoise), Some(y)) => Some(Saved::PreNoise(floats_mut(y)?)),
            (Some(Residual::Slope), Some(slope)) => Some(Saved::Slope(slope.data_mut()?)),
            (Some(Residual::Signs), Some(signs)) => Some(Saved::Signs(signs.data_mut()?)),
            _ => None,
        };
        let mut peak = |wanted| next(wanted).map(ViewMut::data_mut).transpose();
        let (peak, x_peak, w_peak) =
            (peak(self.with_peak)?, peak(self.with_x_peak)?, peak(self.with_w_peak)?);
        let out = floats_mut(out)?;
        if !N::COMPLEX {
            let outputs = Outputs { out, saved, peak, x_peak, w_peak };
            return forward::run(&self.request, inputs, outputs, pool);
        }
        // The columns of both parts of a number have one peak.
        let mut by_part = vec![0.0; w_peak.as_ref().map_or(0, |peak| 2 * peak.len())];
        let of_parts = w_peak.is_some().then_some(&mut by_part[..]);
        let outputs = Outputs { out, saved, peak, x_peak, w_peak: of_parts };
        forward::run(&self.request, inputs, outputs, pool)?;
        for (peak, pair) in w_peak.into_iter().flatten().zip(by_part.as_chunks::<2>().0) {
            *peak = pair[0];
        }
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        self.request.work(inputs, &self.output_shapes(inputs)?)
    }
}
