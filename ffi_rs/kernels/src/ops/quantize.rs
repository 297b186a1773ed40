//! The quantizer alone.

use super::chain::{Broadcast, extents, matrix};
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::quantizer::{Bits, Converter, Quantizers, convert};
use crate::tuning::QUANTIZED_ROWS;
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut};

/// `Q(v) = clamp(rint(v / s), -Q, Q) · s` with `s = full_scale / Q`, `Q = 2^(bits-1) - 1`.
///
/// Inputs: v f32\[M,N\], full_scale f32\[1|M, 1|N\]. Output: f32\[M,N\].
#[derive(Debug)]
pub struct Quantize {
    bits: Bits,
}

impl Op for Quantize {
    const NAME: &'static str = "quantize";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self { bits: Bits::from_attrs(Self::NAME, attrs, "bits")? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [v, full_scale] = inputs else {
            let message = format!("expected 2 operands, got {}", inputs.len());
            return Err(Error::invalid(Self::NAME, message));
        };
        let &[rows, columns] = matrix(Self::NAME, "v", v)?;
        let allowed: &[&[usize]] = &[&[1, rows], &[1, columns]];
        extents(Self::NAME, "full_scale", full_scale, DType::F32, allowed)?;
        Ok(vec![v.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let isa = Isa::detect();
        let &[rows, columns] = matrix(Self::NAME, "v", &inputs[0].fact())?;
        let v: &[f32] = inputs[0].data()?;
        let full_scale: &[f32] = inputs[1].data()?;
        let out = outputs[0].data_mut::<f32>()?;
        if self.bits.is_off() || out.is_empty() {
            out.copy_from_slice(v);
            return Ok(());
        }
        let scales = inputs[1].shape()[1];
        let by_row = Broadcast::new(full_scale, scales, rows);
        let shared = (scales > 1 && inputs[1].shape()[0] == 1)
            .then(|| Quantizers::new(isa, self.bits, scales, full_scale));
        let out = DisjointMut::new(out);
        pool.run(rows.div_ceil(QUANTIZED_ROWS), &|chunk, _| {
            for row in chunk * QUANTIZED_ROWS..rows.min((chunk + 1) * QUANTIZED_ROWS) {
                let out = &mut *out.write(row * columns..(row + 1) * columns);
                let v = &v[row * columns..][..columns];
                if scales == 1 {
                    convert(isa, out, v, &Converter::one(self.bits, by_row.get(row)), &mut false);
                } else if let Some(quantizers) = &shared {
                    convert(
                        isa,
                        out,
                        v,
                        &Converter::Each(quantizers.columns(0, columns)),
                        &mut false,
                    );
                } else {
                    for (column, (out, v)) in out.iter_mut().zip(v).enumerate() {
                        let full_scale = full_scale[row * columns + column];
                        *out = self.bits.quantizer(full_scale).value(*v);
                    }
                }
            }
        });
        Ok(())
    }
}
