//! The whole signal chain in one pass: convert, multiply, add bias and noise, convert back.
//!
//! ```text
//! x_q = DAC(x)                 w_q = DAC(w)                y = x_q · w_q + bias
//! σ²  = thermal² + shot²·|y| + relative²·y² + weight²·‖x_q‖²         out = ADC(y + σ·ε)
//! ```
//!
//! As one would write it down:
//!
//! ```text
//! for m in rows:
//!     x_q = [DAC(x[m, k], dac_bits, x_full_scale[m]) for k in depth]
//!     for n in columns:
//!         y = bias[n]
//!         for k in depth:
//!             y += x_q[k] · DAC(w[k, n], weight_bits, w_full_scale[n])
//!         σ = √(thermal² + shot²·|y| + relative²·y² + weight²·Σ x_q²)
//!         out[m, n] = ADC(y + σ · ε(seed, rows[m], columns[n]), adc_bits, y_full_scale[n])
//! ```
//!
//! What is done otherwise, to the same bits whatever the tiles and threads:
//!
//! - w is converted once, column by column, and packed so that a register holds neighboring columns
//!   and a word the neighbors along the depth that one instruction multiplies.
//! - Codes of at most 8 bits are multiplied and summed as integers, as far as i32 holds the sum; their
//!   steps scale it.
//! - A code is found with the reciprocal of the step, and by division only near a tie.
//! - The output is cut into tiles, each computed by one thread from product to ADC while it is in
//!   the cache. ε is drawn a block of 256 columns at a time.
//!
//! [`forward`](super::forward) says who computes what when; docs/kernels.md explains the whole.

use std::marker::PhantomData;

use super::Dequantize;
use super::chain::{Number, floats_mut};
use super::forward::{self, Outputs, Request};
use super::sizes::Sizes;
use crate::{Attrs, Complex32, DynOp, Error, Fact, Op, ParFor, View, ViewMut, Work};

/// `out = ADC(x_q · w_q + bias + σ·ε)`
///
/// Inputs: x f32\[M,K\], w f32\[K,N\] (or \[N,K\] with `transpose_weight`), bias f32\[1|N\],
/// x_full_scale f32\[0|1|M\] (none: the largest finite |x|), w_full_scale f32\[0|1|N\] (none: the
/// largest finite |w| of each column), y_full_scale f32\[1|N\],
/// noise f32\[1|M,4\] (thermal, shot, relative, weight), seed u32\[1|M,2\] (high word first),
/// rows u32\[1|M\], columns u32\[1|N\] (global ids, consecutive from the first).
/// Output: out f32\[M,N\].
pub type OpticalMatmul = Matmul<f32>;

/// The same of complex numbers, each of whose parts has converters of its own with one full scale for
/// both, and circular noise: `σ²` is that of |y|, and `ε = (ε_re + i·ε_im)/√2` those of the columns 2n
/// and 2n + 1.
///
/// Inputs: those of [`OpticalMatmul`], of which x, w and bias are c64. Output: out c64\[M,N\].
pub type ComplexOpticalMatmul = Matmul<Complex32>;

/// The op on numbers of a type.
#[derive(Debug)]
pub struct Matmul<N> {
    request: Request,
    numbers: PhantomData<N>,
}

impl<N: Number> Op for Matmul<N> {
    const NAME: &'static str = N::MATMUL;

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let request = Request::from_attrs(Self::NAME, N::COMPLEX, attrs)?;
        Ok(Self { request, numbers: PhantomData })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Sizes { rows, columns, .. } = self.request.sizes(inputs)?;
        Ok(vec![Fact::new(N::DTYPE, [rows, columns])])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let out = floats_mut(&mut outputs[0])?;
        forward::run(&self.request, inputs, Outputs::of(out), pool)
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        let prepared = self.request.prepared(constants)?;
        Ok(prepared
            .map(|request| Box::new(Self { request, numbers: PhantomData }) as Box<dyn DynOp>))
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
        let request = self.request.with_codes(codes, full_scale, coded);
        Ok(request
            .map(|request| Box::new(Self { request, numbers: PhantomData }) as Box<dyn DynOp>))
    }

    fn held_bytes(&self) -> usize {
        self.request.held_bytes()
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        self.request.work(inputs, &Op::output_shapes(self, inputs)?)
    }
}
