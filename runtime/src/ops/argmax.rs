//! Where the largest and the smallest element lie.

use lumina_kernels::{Attrs, Bool, DType, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{check_axes, chunked, dtype, naturals, operands, unsupported};

/// Elements read per chunk.
const WORK: usize = 1 << 14;

struct Axis {
    axis: usize,
    index: DType,
}

impl Axis {
    fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let axes = naturals(op, "axes", attrs.ints(op, "axes")?)?;
        let &[axis] = axes.as_slice() else {
            let message = format!("attribute `axes` must name one axis, got {axes:?}");
            return Err(Error::invalid(op, message));
        };
        let index = dtype(op, "index_dtype", attrs.str(op, "index_dtype")?)?;
        match index {
            DType::I32 | DType::U32 => Ok(Self { axis, index }),
            other => {
                let message = format!("attribute `index_dtype` must be i32 or u32, got `{other}`");
                Err(Error::invalid(op, message))
            }
        }
    }

    fn output_shapes(&self, op: &'static str, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(op, inputs)?;
        check_axes(op, "axes", &[self.axis], x.shape.len())?;
        if !matches!(
            x.dtype,
            DType::F32 | DType::U32 | DType::I32 | DType::I16 | DType::I8 | DType::U8 | DType::Bool
        ) {
            return Err(unsupported(op, "operand", x.dtype));
        }
        let mut shape = x.shape.clone();
        let extent = shape.remove(self.axis);
        if extent == 0 || extent > i32::MAX as usize {
            let message = format!("the axis must have 1 to 2^31-1 elements, got {x}");
            return Err(Error::invalid(op, message));
        }
        Ok(vec![Fact::new(self.index, shape)])
    }

    /// The first index along the axis that no other one beats.
    fn run<T: Element>(
        &self,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        beats: impl Fn(T, T) -> bool + Sync,
    ) -> Result<(), Error> {
        let extent = x.shape()[self.axis];
        let inner: usize = x.shape()[self.axis + 1..].iter().product();
        let x = x.data::<T>()?;
        let search = |position: usize| {
            let start = position / inner * extent * inner + position % inner;
            let mut best = 0;
            for index in 1..extent {
                if beats(x[start + index * inner], x[start + best * inner]) {
                    best = index;
                }
            }
            best
        };
        let length = (WORK / extent).max(1);
        match self.index {
            DType::I32 => chunked(pool, out.data_mut::<i32>()?, length, |start, out| {
                for (position, out) in (start..).zip(out) {
                    *out = search(position) as i32;
                }
            }),
            _ => chunked(pool, out.data_mut::<u32>()?, length, |start, out| {
                for (position, out) in (start..).zip(out) {
                    *out = search(position) as u32;
                }
            }),
        }
        Ok(())
    }
}

macro_rules! searches {
    ($($(#[$doc:meta])* $name:literal $op:ident $beats:tt)+) => {$(
        $(#[$doc])*
        struct $op(Axis);

        impl Op for $op {
            const NAME: &'static str = $name;

            fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
                Axis::from_attrs(Self::NAME, attrs).map(Self)
            }

            fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
                self.0.output_shapes(Self::NAME, inputs)
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let (x, out) = (&inputs[0], &mut outputs[0]);
                match x.dtype() {
                    DType::F32 => self.0.run(x, out, pool, |a: f32, b: f32| {
                        a $beats b || a.is_nan() && !b.is_nan()
                    }),
                    DType::U32 => self.0.run(x, out, pool, |a: u32, b: u32| a $beats b),
                    DType::I32 => self.0.run(x, out, pool, |a: i32, b: i32| a $beats b),
                    DType::I16 => self.0.run(x, out, pool, |a: i16, b: i16| a $beats b),
                    DType::I8 => self.0.run(x, out, pool, |a: i8, b: i8| a $beats b),
                    DType::U8 => self.0.run(x, out, pool, |a: u8, b: u8| a $beats b),
                    DType::Bool => self.0.run(x, out, pool, |a: Bool, b: Bool| a $beats b),
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }
        }
    )+

    pub(super) static OPS: &[Entry] = &[$(Entry::of::<$op>()),+];
    };
}

searches! {
    /// Index of the first largest element; the first NaN counts as largest.
    "argmax" Argmax >
    /// Index of the first smallest element; the first NaN counts as smallest.
    "argmin" Argmin <
}
