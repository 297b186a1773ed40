//! The gradient of [`optical_conv`](super::optical_conv), straight through the converters and through
//! the noise.
//!
//! As one would write it down:
//!
//! ```text
//! for each group:
//!     dpatches, dw, … = optical_matmul_grad(g, saved, patches(x), w of the group)
//!     for each number of each patch that is one of x:
//!         dx[that number] += dpatches[the number of the patch]
//! ```
//!
//! What is done otherwise: patches and their gradients exist for some rows at a time. With `int8`
//! these rows, an image or a part of one or several small ones, are cut into the blocks of 256 that
//! share scales.

use super::conv::{Backward, Gradients};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// The gradient with respect to every float operand of the forward op.
///
/// Inputs: g f32\[B,OH,OW,N\], saved f32 or, of signs, i8 of that shape (the residual of the forward
/// op), then x, kernel and the operands from x_full_scale to columns as the forward op has them, with
/// the full scales given. Attributes: those of
/// [`OpticalMatmulGrad`](super::OpticalMatmulGrad) with the geometry.
/// Outputs: dx as x, dkernel as the kernel, dbias f32\[N\], dx_full_scale f32\[B\],
/// dw_full_scale f32\[N\], dy_full_scale f32\[N\], dnoise f32\[B,4\].
#[derive(Debug)]
pub struct OpticalConvGrad(Backward);

impl Op for OpticalConvGrad {
    const NAME: &'static str = "optical_conv_grad";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Backward::from_attrs(Self::NAME, attrs).map(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let shape = self.0.shape(inputs)?;
        let vector = |extent: usize| Fact::new(DType::F32, [extent]);
        Ok(vec![
            inputs[2].clone(),
            inputs[3].clone(),
            vector(shape.columns),
            vector(shape.images),
            vector(shape.columns),
            vector(shape.columns),
            Fact::new(DType::F32, [shape.images, 4]),
        ])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [x, kernel, bias, x_full_scale, w_full_scale, y_full_scale, noise] = outputs else {
            let message = format!("expected 7 results, got {}", outputs.len());
            return Err(Error::invalid(Self::NAME, message));
        };
        let gradients = Gradients {
            x: x.data_mut()?,
            kernel: kernel.data_mut()?,
            bias: bias.data_mut()?,
            x_full_scale: x_full_scale.data_mut()?,
            w_full_scale: w_full_scale.data_mut()?,
            y_full_scale: y_full_scale.data_mut()?,
            noise: noise.data_mut()?,
        };
        self.0.run(inputs, gradients, pool)
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        self.0.work(inputs, &self.output_shapes(inputs)?)
    }
}
