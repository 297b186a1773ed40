//! Floats of 16 bits as those of 32, and back, many at a time.

use crate::isa::{Isa, for_each_isa};
use crate::pack::bf16_bits;
use crate::vector::{narrow_f16, widen_f16};
use crate::{bf16, f16};

/// A float of 16 bits.
pub trait Half: Sized {
    /// `out[i] = x[i]`
    fn widen(x: &[Self], out: &mut [f32]);

    /// `out[i] = x[i]`, rounded to the nearest one, half to even.
    fn narrow(x: &[f32], out: &mut [Self]);
}

impl Half for f16 {
    fn widen(x: &[Self], out: &mut [f32]) {
        widen_f16(Isa::detect(), x, out);
    }

    fn narrow(x: &[f32], out: &mut [Self]) {
        narrow_f16(Isa::detect(), x, out);
    }
}

impl Half for bf16 {
    fn widen(x: &[Self], out: &mut [f32]) {
        widen_bf16(Isa::detect(), x, out);
    }

    fn narrow(x: &[f32], out: &mut [Self]) {
        narrow_bf16(Isa::detect(), x, out);
    }
}

for_each_isa! {
    fn widen_bf16(x: &[bf16], out: &mut [f32]) = widen_bf16_body
}

#[inline(always)]
fn widen_bf16_body(x: &[bf16], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        let bits = u32::from(x.to_bits()) << 16;
        // A signaling NaN becomes a quiet one, as arithmetic makes it.
        let is_nan = bits & 0x7FFF_FFFF > f32::INFINITY.to_bits();
        *out = f32::from_bits(if is_nan { bits | 0x40_0000 } else { bits });
    }
}

for_each_isa! {
    fn narrow_bf16(x: &[f32], out: &mut [bf16]) = narrow_bf16_body
}

#[inline(always)]
fn narrow_bf16_body(x: &[f32], out: &mut [bf16]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = bf16::from_bits((bf16_bits(x) >> 16) as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_are_as_one_by_one() {
        // Numbers that are no whole registers, so that some are left.
        let bits: Vec<u16> = (0..=u16::MAX).chain(0..5).collect();
        let mut wide = vec![0.0f32; bits.len()];
        let x: Vec<f16> = bits.iter().map(|&bits| f16::from_bits(bits)).collect();
        f16::widen(&x, &mut wide);
        assert!(x.iter().zip(&wide).all(|(x, wide)| x.to_f32().to_bits() == wide.to_bits()));
        let x: Vec<bf16> = bits.iter().map(|&bits| bf16::from_bits(bits)).collect();
        bf16::widen(&x, &mut wide);
        assert!(x.iter().zip(&wide).all(|(x, wide)| x.to_f32().to_bits() == wide.to_bits()));

        let x: Vec<f32> = (0..=u32::MAX).step_by(9973).map(f32::from_bits).collect();
        let mut out = vec![f16::ZERO; x.len()];
        f16::narrow(&x, &mut out);
        for (x, out) in x.iter().zip(out) {
            assert_eq!(out.to_bits(), f16::from_f32(*x).to_bits(), "{x}");
        }
        let mut out = vec![bf16::ZERO; x.len()];
        bf16::narrow(&x, &mut out);
        for (x, out) in x.iter().zip(out) {
            assert_eq!(out.to_bits(), bf16::from_f32(*x).to_bits(), "{x}");
        }
    }
}
