//! Ops that read one operand of any type in another order.

use lumina_kernels::{Attrs, Entry, Error, Fact, Layout, Op, ParFor, View, ViewMut};

use super::common::{check_axes, element_arms, naturals, operands, refuse, with_element};
use super::strided::copy_layout;

pub(super) static OPS: &[Entry] = &[
    Entry::of::<BroadcastInDim>(),
    Entry::of::<Reshape>(),
    Entry::of::<Transpose>(),
    Entry::of::<Slice>(),
    Entry::of::<Squeeze>(),
    Entry::of::<Rev>(),
    Entry::of::<Copy>(),
];

/// The methods of an [`Op`] whose result is its operand in another layout: a view of it, but where
/// the result must be of its own.
macro_rules! relayout {
    ($layout:expr) => {
        fn alias(&self, input: &Layout) -> Option<Layout> {
            ($layout)(self, input)
        }

        fn accepts_strides(&self) -> bool {
            true
        }

        fn run(
            &self,
            inputs: &[View<'_>],
            outputs: &mut [ViewMut<'_>],
            pool: &dyn ParFor,
        ) -> Result<(), Error> {
            copy_relaid(self, &inputs[0], &mut outputs[0], pool)
        }
    };
}

/// The operand as `op` lays it out, row-major.
fn copy_relaid(
    op: &impl Op,
    x: &View<'_>,
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
) -> Result<(), Error> {
    with_element!(x.dtype(), T => {
        let x = x.strided_data::<T>()?;
        let layout = x.layout();
        copy_layout(x.data, &op.alias(&layout).unwrap_or(layout), out, pool)
    })
}

/// Axis i of the operand becomes axis `broadcast_dimensions[i]` of `shape`; extents of 1, and axes
/// that no operand axis became, repeat.
struct BroadcastInDim {
    shape: Vec<usize>,
    dimensions: Vec<usize>,
}

impl Op for BroadcastInDim {
    const NAME: &'static str = "broadcast_in_dim";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let op = Self::NAME;
        let shape = naturals(op, "shape", attrs.ints(op, "shape")?)?;
        let name = "broadcast_dimensions";
        let dimensions = naturals(op, name, attrs.ints(op, name)?)?;
        check_axes(op, name, &dimensions, shape.len())?;
        Ok(Self { shape, dimensions })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let fits = x.shape.len() == self.dimensions.len()
            && x.shape
                .iter()
                .zip(&self.dimensions)
                .all(|(&extent, &axis)| extent == 1 || extent == self.shape[axis]);
        if !fits {
            let (dimensions, shape) = (&self.dimensions, &self.shape);
            let message = format!(
                "{x} does not fit `shape` {shape:?} with `broadcast_dimensions` {dimensions:?}"
            );
            return refuse(Self::NAME, message);
        }
        Ok(vec![Fact::new(x.dtype, self.shape.as_slice())])
    }

    relayout!(|op: &Self, x: &Layout| Some(x.broadcast(&op.shape, &op.dimensions)));
}

/// The same elements, row-major, in another shape.
struct Reshape {
    shape: Vec<usize>,
}

impl Op for Reshape {
    const NAME: &'static str = "reshape";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let sizes = attrs.ints(Self::NAME, "new_sizes")?;
        Ok(Self { shape: naturals(Self::NAME, "new_sizes", sizes)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let count = |shape: &[usize]| {
            let empty = shape.contains(&0).then_some(0);
            empty.or_else(|| shape.iter().copied().try_fold(1, usize::checked_mul))
        };
        if count(&x.shape) != count(&self.shape) {
            let message = format!("{x} has not as many elements as `new_sizes` {:?}", self.shape);
            return refuse(Self::NAME, message);
        }
        Ok(vec![Fact::new(x.dtype, self.shape.as_slice())])
    }

    relayout!(|op: &Self, x: &Layout| x.reshaped(&op.shape));
}

/// Drops axes of extent 1.
struct Squeeze {
    dimensions: Vec<usize>,
}

impl Op for Squeeze {
    const NAME: &'static str = "squeeze";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let dimensions = attrs.ints(Self::NAME, "dimensions")?;
        Ok(Self { dimensions: naturals(Self::NAME, "dimensions", dimensions)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "dimensions", &self.dimensions, x.shape.len())?;
        if self.dimensions.iter().any(|&axis| x.shape[axis] != 1) {
            let message = format!("`dimensions` {:?} of {x} must have extent 1", self.dimensions);
            return refuse(Self::NAME, message);
        }
        let kept = (0..x.shape.len()).filter(|axis| !self.dimensions.contains(axis));
        Ok(vec![Fact::new(x.dtype, kept.map(|axis| x.shape[axis]).collect::<Vec<_>>())])
    }

    relayout!(|op: &Self, x: &Layout| Some(x.squeezed(&op.dimensions)));
}

/// Axis i of the result is axis `permutation[i]` of the operand.
struct Transpose {
    permutation: Vec<usize>,
}

impl Op for Transpose {
    const NAME: &'static str = "transpose";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let permutation = attrs.ints(Self::NAME, "permutation")?;
        Ok(Self { permutation: naturals(Self::NAME, "permutation", permutation)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "permutation", &self.permutation, x.shape.len())?;
        if self.permutation.len() != x.shape.len() {
            let message =
                format!("`permutation` {:?} must name each axis of {x}", self.permutation);
            return refuse(Self::NAME, message);
        }
        let shape: Vec<usize> = self.permutation.iter().map(|&axis| x.shape[axis]).collect();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    relayout!(|op: &Self, x: &Layout| Some(x.transposed(&op.permutation)));
}

/// Every `strides[i]`-th index from `start_indices[i]` to below `limit_indices[i]`.
struct Slice {
    starts: Vec<usize>,
    limits: Vec<usize>,
    steps: Vec<usize>,
}

impl Op for Slice {
    const NAME: &'static str = "slice";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let read = |name| naturals(Self::NAME, name, attrs.ints(Self::NAME, name)?);
        let (starts, limits) = (read("start_indices")?, read("limit_indices")?);
        let steps = read("strides")?;
        if steps.contains(&0) {
            let message = format!("attribute `strides` must be positive, got {steps:?}");
            return refuse(Self::NAME, message);
        }
        Ok(Self { starts, limits, steps })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let Self { starts, limits, steps } = self;
        let fits = [starts, limits, steps].iter().all(|list| list.len() == x.shape.len())
            && (0..x.shape.len())
                .all(|axis| starts[axis] <= limits[axis] && limits[axis] <= x.shape[axis]);
        if !fits {
            let message = format!(
                "`start_indices` {starts:?} to `limit_indices` {limits:?} by `strides` {steps:?} \
                 does not lie in {x}"
            );
            return refuse(Self::NAME, message);
        }
        let extent = |axis: usize| (limits[axis] - starts[axis]).div_ceil(steps[axis]);
        let shape: Vec<usize> = (0..x.shape.len()).map(extent).collect();
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    relayout!(|op: &Self, x: &Layout| Some(x.sliced(&op.starts, &op.limits, &op.steps)));
}

/// The axes `dimensions` in reverse order.
struct Rev {
    dimensions: Vec<usize>,
}

impl Op for Rev {
    const NAME: &'static str = "rev";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let dimensions = attrs.ints(Self::NAME, "dimensions")?;
        Ok(Self { dimensions: naturals(Self::NAME, "dimensions", dimensions)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        check_axes(Self::NAME, "dimensions", &self.dimensions, x.shape.len())?;
        Ok(vec![x.clone()])
    }

    relayout!(|op: &Self, x: &Layout| Some(x.reversed(&op.dimensions)));
}

/// The operand.
struct Copy;

impl Op for Copy {
    const NAME: &'static str = "copy";

    fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        Ok(vec![x.clone()])
    }

    relayout!(|_: &Self, x: &Layout| Some(x.clone()));
}
