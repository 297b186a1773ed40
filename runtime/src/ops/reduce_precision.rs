//! Numbers as a narrower format would hold them.

use lumina_kernels::{Attrs, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{operands, refuse, unsupported};
use super::unary::{map, map_in_place, mapped};

pub(super) static OPS: &[Entry] = &[Entry::of::<ReducePrecision>()];

/// Bits of an f32.
const EXPONENT: i64 = 8;
const MANTISSA: i64 = 23;

/// To the nearest number, halves to even, of `exponent_bits` and `mantissa_bits`, those of IEEE 754:
/// what is too large becomes infinite, what is too small a zero. NaN stays.
struct ReducePrecision {
    exponent_bits: u32,
    mantissa_bits: u32,
}

impl Op for ReducePrecision {
    const NAME: &'static str = "reduce_precision";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let bits = |name: &str, least: i64, most: i64| match attrs.int(Self::NAME, name)? {
            bits if (least..=most).contains(&bits) => Ok(bits as u32),
            bits => refuse(
                Self::NAME,
                format!("attribute `{name}` must lie in {least}..={most}, got {bits}"),
            ),
        };
        Ok(Self {
            exponent_bits: bits("exponent_bits", 1, EXPONENT)?,
            mantissa_bits: bits("mantissa_bits", 0, MANTISSA)?,
        })
    }

    mapped! {
        f32 => f32: |op: &Self| {
            let (exponent_bits, mantissa_bits) = (op.exponent_bits, op.mantissa_bits);
            move |x: f32| reduced(x, exponent_bits, mantissa_bits)
        };
    }
}

fn reduced(x: f32, exponent_bits: u32, mantissa_bits: u32) -> f32 {
    const SIGN: u32 = 1 << 31;
    const INFINITY: u32 = 0xff << MANTISSA;
    const BIAS: u32 = 127;
    if x.is_nan() {
        return x;
    }
    let sign = x.to_bits() & SIGN;
    let dropped = MANTISSA as u32 - mantissa_bits;
    let mut bits = x.to_bits() & !SIGN;
    if dropped > 0 && bits < INFINITY {
        // Half of the last bit that stays, or a little less where that bit is even. What it carries
        // over raises the exponent.
        let is_odd = bits >> dropped & 1;
        bits = (bits + (1 << (dropped - 1)) - 1 + is_odd) >> dropped << dropped;
    }
    let bias = (1 << (exponent_bits - 1)) - 1;
    let exponent = bits >> MANTISSA;
    if exponent > BIAS + bias {
        bits = INFINITY;
    } else if i64::from(exponent_bits) < EXPONENT && exponent <= BIAS - bias {
        bits = 0;
    }
    f32::from_bits(sign | bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_met() {
        // As f16 and bfloat16, whose denormals are zeros in the first.
        for (x, half, brain) in [
            (1.0, 1.0, 1.0),
            (-0.0, -0.0, -0.0),
            (1.0 + 3.0 / 2048.0, 1.0 + 2.0 / 1024.0, 1.0),
            (1.0 + 1.0 / 2048.0, 1.0, 1.0),
            (-1.0 - 3.0 / 256.0, -1.0 - 3.0 / 256.0, -1.0 - 2.0 / 128.0),
            (65504.0, 65504.0, 65536.0),
            (65520.0, f32::INFINITY, 65536.0),
            (-1e5, f32::NEG_INFINITY, -99840.0),
            (6.1e-5, 0.0, 6.1035156e-5),
            (f32::MAX, f32::INFINITY, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY),
            (f32::from_bits(0x0001_8000), 0.0, f32::from_bits(0x0002_0000)),
        ] {
            assert_eq!(reduced(x, 5, 10).to_bits(), f32::to_bits(half), "{x:e}");
            assert_eq!(reduced(x, 8, 7).to_bits(), f32::to_bits(brain), "{x:e}");
            assert_eq!(reduced(x, 8, 23).to_bits(), x.to_bits());
        }
        assert!(reduced(f32::NAN, 5, 10).is_nan());
    }
}
