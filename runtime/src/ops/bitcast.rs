//! The same bits as elements of another type.

use lumina_kernels::{Attrs, DType, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{
    CHUNK, chunked, dtype, element_arms, operands, refuse, unsupported, with_element,
};

pub(super) static OPS: &[Entry] = &[Entry::of::<BitcastConvertType>()];

/// The bytes of the operand as elements of type `new_dtype`. A smaller type adds a last axis, of as
/// many elements as one was; a larger one takes the last axis, which has as many as make one.
struct BitcastConvertType {
    to: DType,
}

impl Op for BitcastConvertType {
    const NAME: &'static str = "bitcast_convert_type";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let to = dtype(Self::NAME, "new_dtype", attrs.str(Self::NAME, "new_dtype")?)?;
        Ok(Self { to })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        // Not every byte is a truth value.
        if x.dtype != self.to && (x.dtype == DType::Bool || self.to == DType::Bool) {
            return Err(unsupported(Self::NAME, "operand or result", DType::Bool));
        }
        let (from, to) = (x.dtype.size(), self.to.size());
        let mut shape = x.shape.clone();
        if from > to {
            shape.push(from / to);
        } else if from < to && shape.pop() != Some(to / from) {
            let message = format!(
                "the last axis must have {} elements, which make one {}, got {x}",
                to / from,
                self.to
            );
            return refuse(Self::NAME, message);
        }
        Ok(vec![Fact::new(self.to, shape)])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let x = inputs[0].bytes()?;
        with_element!(self.to, T => {
            chunked(pool, outputs[0].data_mut::<T>()?, CHUNK, |start, out| {
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(out);
                bytes.copy_from_slice(&x[start * size_of::<T>()..][..bytes.len()]);
            });
            Ok(())
        })
    }
}
