//! The gradient of [`optical_matmul`](super::optical_matmul), straight through the converters and
//! through the noise.
//!
//! With `y' = y + σ·ε`, where ε is drawn again from the seed:
//!
//! ```text
//! h     = g · [|y'| ≤ y_full_scale]
//! dz    = h · (1 + ε · (shot²·sign(y)/2 + relative²·y)/σ) = g · slope
//! dx    = (dz · w_qᵀ + x_q · weight² · Σ_n h·ε/σ) · [|x| ≤ x_full_scale]
//! dw    = (x_qᵀ · dz) · [|w| ≤ w_full_scale]               dbias = Σ_m dz
//! ```
//!
//! A full scale takes the upstream gradient times `(code - v/step)/Q` within the range and
//! `sign v` beyond it; a noise coefficient takes `Σ_n h·ε·∂σ/∂coefficient`.
//!
//! As one would write it down:
//!
//! ```text
//! for m in rows, n in columns:
//!     dz[m, n] = g[m, n] · slope(y[m, n], ε(seed, rows[m], columns[n]))
//! for m in rows, k in depth:
//!     dx[m, k] = Σ_n dz[m, n] · w_q[k, n], then through the DAC of x
//! for k in depth, n in columns:
//!     dw[k, n] = Σ_m x_q[m, k] · dz[m, n], then through the DAC of w
//! ```
//!
//! What is done otherwise:
//!
//! - dz exists for a block of 256 rows only: each block is added to dw before the next one is made.
//! - w is transposed and packed as the right operand of dx in panels of 96 rows, x as the left one
//!   of dw; both are converted again, as nothing but the residual is kept from the forward pass.
//! - Where there are many blocks, several dw are added up side by side, and summed at the end. How
//!   many depends on the sizes alone, so the bits do not depend on the threads.
//! - With `grad_precision` below float32, dz is rounded and packed twice, once for each product.
//!
//! [`backward`](super::backward) holds the parts; docs/kernels.md explains the whole.

use std::marker::PhantomData;

use super::backward::{self, Gradients, Precision, Request};
use super::chain::{Chain, Number, Residual, check_ranges_and_noise, extents, floats_mut};
use super::sizes::Sizes;
use crate::{Attrs, Complex32, DType, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// The gradient with respect to every float operand of the forward op.
///
/// The two products are computed in `grad_precision`. The steps of a converter of at most 8 bits go
/// into dz before it is rounded, and codes into the product; otherwise the other operand is w_q or
/// x_q itself.
///
/// - `float32`: nothing is rounded.
/// - `bfloat16`: both operands are rounded to bfloat16, and summed in f32.
/// - `int8`: dz is rounded to 8-bit codes at random, without bias: for dx with one scale for each
///   row, for dw with one for each column of each 256 rows.
///
/// `with_inputs` asks for dx, and `with_ranges` for the gradients of the full scales and of the
/// noise; what is not asked for is zero.
///
/// `residual` says what the forward op saved. Of the slope nothing but dz is to be had: it comes
/// without `noisy`, `adc_bits` and `with_ranges`, and where there is no weight noise. Nor is more to
/// be had of the signs, of which the slope is made again:
///
/// ```text
/// slope = 0 where signs = 0, NaN where signs = -128, else 1 + ε·relative·sign(y)
/// ```
///
/// Inputs: g f32\[M,N\], saved f32\[M,N\] or, of signs, i8\[M,N\] (the residual of the forward op),
/// then x, w and the operands from x_full_scale to columns as the forward op has them; `int8` needs
/// every id.
/// Outputs: dx f32\[M,K\], dw as w, dbias f32\[N\], dx_full_scale f32\[M\],
/// dw_full_scale f32\[N\], dy_full_scale f32\[N\], dnoise f32\[M,4\].
pub type OpticalMatmulGrad = MatmulGrad<f32>;

/// The gradient of [`ComplexOpticalMatmul`](super::ComplexOpticalMatmul), from y: that of real parts.
/// g, y, x and w and their gradients, and dbias, are c64, and hold the derivatives by both parts.
/// With `p = (h_re·ε_re + h_im·ε_im)/(√2·σ)`, σ of a number and h of its parts:
///
/// ```text
/// dz = h + p · (shot²·y/(2·|y|) + relative²·y)        dx = dz · w_qᴴ + …        dw = x_qᴴ · dz
/// ```
pub type ComplexOpticalMatmulGrad = MatmulGrad<Complex32>;

/// The op on numbers of a type.
#[derive(Debug)]
pub struct MatmulGrad<N> {
    request: Request,
    numbers: PhantomData<N>,
}

impl<N: Number> Op for MatmulGrad<N> {
    const NAME: &'static str = N::MATMUL_GRAD;

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let request = Request::from_attrs(Self::NAME, N::COMPLEX, attrs)?;
        Ok(Self { request, numbers: PhantomData })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Request { chain, transpose_weight, residual, .. } = &self.request;
        let [g, saved, x, w, others @ ..] = inputs else {
            return Err(chain.refuse(format!("expected 11 operands, got {}", inputs.len())));
        };
        let sizes = Sizes::of(chain, x, w, *transpose_weight)?;
        let Sizes { rows, columns, .. } = sizes;
        extents(Self::NAME, "g", g, N::DTYPE, &[&[rows], &[columns]])?;
        let shape = chain.residual_shape(&sizes);
        let allowed: Vec<&[usize]> = shape.iter().map(std::slice::from_ref).collect();
        extents(Self::NAME, "saved", saved, residual.dtype(N::DTYPE), &allowed)?;
        check_ranges_and_noise(chain, others, rows, columns)?;
        let vector = |extent: usize| Fact::new(DType::F32, [extent]);
        Ok(vec![
            x.clone(),
            w.clone(),
            Fact::new(N::DTYPE, [columns]),
            vector(rows),
            vector(columns),
            vector(columns),
            Fact::new(DType::F32, [rows, 4]),
        ])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [x, w, bias, x_full_scale, w_full_scale, y_full_scale, noise] = outputs else {
            return Err(self
                .request
                .chain
                .refuse(format!("expected 7 results, got {}", outputs.len())));
        };
        let gradients = Gradients {
            x: floats_mut(x)?,
            w: floats_mut(w)?,
            bias: floats_mut(bias)?,
            x_full_scale: x_full_scale.data_mut()?,
            w_full_scale: w_full_scale.data_mut()?,
            y_full_scale: y_full_scale.data_mut()?,
            noise: noise.data_mut()?,
        };
        backward::run(&self.request, inputs, gradients, pool)
    }
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let Request { chain, transpose_weight, with_inputs, .. } = self.request;
        let outputs = self.output_shapes(inputs)?;
        let sizes = Sizes::of(&chain, &inputs[2], &inputs[3], transpose_weight)?.in_floats(&chain);
        Ok(Work::of_matmuls(1 + u64::from(with_inputs), sizes.extents(), inputs, &outputs))
    }
}

impl Request {
    /// Of the op of that name, of real or of complex numbers.
    pub(super) fn from_attrs(
        op: &'static str,
        complex: bool,
        attrs: &dyn Attrs,
    ) -> Result<Self, Error> {
        let precision = Precision::from_attrs(op, attrs)?;
        let mut chain = Chain { complex, ..Chain::from_attrs(op, attrs)? };
        chain.with_ids |= precision == Precision::Int8;
        let with_inputs = attrs.bool(op, "with_inputs")?;
        let with_ranges = attrs.bool(op, "with_ranges")?;
        let residual = Residual::from_attrs(op, attrs)?.ok_or_else(|| {
            chain.refuse("`residual` must be pre_noise, slope or signs, got none".into())
        })?;
        if complex && residual != Residual::PreNoise {
            let message = format!("`residual` must be pre_noise, got {}", residual.name());
            return Err(chain.refuse(message));
        }
        if residual != Residual::PreNoise {
            let kind = residual.name();
            let drawn = chain.noisy && residual == Residual::Slope;
            for (name, given) in [("noisy", drawn), ("with_ranges", with_ranges)] {
                if given {
                    let message =
                        format!("with `residual` {kind} `{name}` must be false, got true");
                    return Err(chain.refuse(message));
                }
            }
            if !chain.adc.is_off() {
                let bits = attrs.int(op, "adc_bits")?;
                let message = format!("with `residual` {kind} `adc_bits` must be 0, got {bits}");
                return Err(chain.refuse(message));
            }
        }
        let transpose_weight = attrs.bool(op, "transpose_weight")?;
        Ok(Self { chain, transpose_weight, precision, residual, with_inputs, with_ranges })
    }
}
