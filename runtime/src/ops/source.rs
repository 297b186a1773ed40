//! Ops without operands.

use lumina_kernels::{Attrs, DType, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{
    CHUNK, chunked, dtype, element_arms, natural, naturals, operands, unsupported, with_element,
};
use super::convert::{Convert, Number};

pub(super) static OPS: &[Entry] = &[Entry::of::<Iota>(), Entry::of::<DimAsValue>()];

/// The index along `dimension` of each element.
struct Iota {
    dtype: DType,
    shape: Vec<usize>,
    dimension: usize,
}

impl Op for Iota {
    const NAME: &'static str = "iota";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let op = Self::NAME;
        let dtype = dtype(op, "dtype", attrs.str(op, "dtype")?)?;
        if dtype == DType::Bool {
            return Err(unsupported(op, "result", dtype));
        }
        let shape = naturals(op, "shape", attrs.ints(op, "shape")?)?;
        let dimension = natural(op, "dimension", attrs.int(op, "dimension")?)?;
        if dimension >= shape.len() {
            let rank = shape.len();
            let message =
                format!("attribute `dimension` must be below the rank {rank}, got {dimension}");
            return Err(Error::invalid(op, message));
        }
        Ok(Self { dtype, shape, dimension })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [] = operands(Self::NAME, inputs)?;
        Ok(vec![Fact::new(self.dtype, self.shape.as_slice())])
    }

    fn run(
        &self,
        _: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        with_element!(self.dtype, T => self.fill::<T>(&mut outputs[0], pool))
    }
}

impl Iota {
    fn fill<T: Convert>(&self, out: &mut ViewMut<'_>, pool: &dyn ParFor) -> Result<(), Error> {
        let extent = self.shape[self.dimension];
        let inner: usize = self.shape[self.dimension + 1..].iter().product();
        chunked(pool, out.data_mut::<T>()?, CHUNK, |start, out| {
            for (index, out) in (start..).zip(out) {
                *out = T::from_number(Number::Integer((index / inner % extent) as i64));
            }
        });
        Ok(())
    }
}

/// An extent of the inputs, as a number.
struct DimAsValue {
    value: i32,
}

impl Op for DimAsValue {
    const NAME: &'static str = "dim_as_value";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        match attrs.ints(Self::NAME, "dim")? {
            &[value] => i32::try_from(value).map(|value| Self { value }).map_err(|_| {
                Error::invalid(Self::NAME, format!("attribute `dim` must fit i32, got {value}"))
            }),
            other => {
                let message = format!("attribute `dim` must have one extent, got {}", other.len());
                Err(Error::invalid(Self::NAME, message))
            }
        }
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [] = operands(Self::NAME, inputs)?;
        Ok(vec![Fact::new(DType::I32, [])])
    }

    fn run(
        &self,
        _: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        outputs[0].data_mut::<i32>()?.fill(self.value);
        Ok(())
    }
}
