//! Convolutions.

mod numbers;
mod patches;
mod phases;
mod product;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use lumina_kernels::{
    Attrs, Complex32, DType, DynOp, Element, Entry, Error, Fact, Op, ParFor, Serial, Strided, View,
    ViewMut, Work, row_major_strides,
};

use self::numbers::{Factor, Number};
use self::patches::{MOST_SPATIAL, Spatial, Step};
use self::phases::{Phase, kernel_of, phases, put};
use self::product::{Axes as ProductAxes, Groups, Product};
use super::common::{check_axes, naturals, operands, refuse, unsupported};
use super::strided::{Walk, copy_layout};
use super::window_axis::WindowAxis;

pub(super) static OPS: &[Entry] = &[Entry::of::<Convolution>()];

/// `out[n, o, p] = sum over taps t and channels c of x[n, c, p·stride + t·dilation - low]·kernel[o, c, t]`
/// with zeros beyond x and between its elements, the axes in any order. Each of the groups of channels,
/// or of images, has outputs of its own.
#[derive(Clone)]
pub(super) struct Convolution {
    geometry: Vec<WindowAxis>,
    x: Axes,
    kernel: Axes,
    out: Axes,
    channel_groups: usize,
    image_groups: usize,
    /// The kernel, where it is constant and to be read in another order.
    packed: Option<Arc<Vec<f32>>>,
}

/// Which axis of a tensor is which.
#[derive(Clone)]
struct Axes {
    /// The images; of the kernel, the outputs.
    batch: usize,
    /// The channels: of the result, the outputs.
    channel: usize,
    spatial: Vec<usize>,
}

impl Axes {
    fn from_attrs(attrs: &dyn Attrs, name: &str, spatial: usize) -> Result<Self, Error> {
        let op = Convolution::NAME;
        let axes = naturals(op, name, attrs.ints(op, name)?)?;
        check_axes(op, name, &axes, spatial + 2)?;
        match *axes {
            [batch, channel, ref rest @ ..] if rest.len() == spatial => {
                Ok(Self { batch, channel, spatial: rest.to_vec() })
            }
            _ => {
                let rank = spatial + 2;
                refuse(op, format!("attribute `{name}` must name all {rank} axes, got {axes:?}"))
            }
        }
    }

    fn check(&self, name: &str, fact: &Fact) -> Result<(), Error> {
        let rank = self.spatial.len() + 2;
        match fact.shape.len() == rank {
            true => Ok(()),
            false => refuse(
                Convolution::NAME,
                format!("`{name}` must have {rank} axes, as the attributes have it, got {fact}"),
            ),
        }
    }
}

impl Op for Convolution {
    const NAME: &'static str = "conv_general_dilated";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let geometry = WindowAxis::from_attrs(Self::NAME, attrs, ["lhs_dilation", "rhs_dilation"])?;
        let spatial = geometry.len();
        if spatial > MOST_SPATIAL {
            let message = format!(
                "attribute `window_strides` must have at most {MOST_SPATIAL} integers, got {spatial}"
            );
            return refuse(Self::NAME, message);
        }
        let groups = |name: &str| match attrs.int(Self::NAME, name)? {
            count @ 1.. => Ok(count as usize),
            other => {
                refuse(Self::NAME, format!("attribute `{name}` must be at least 1, got {other}"))
            }
        };
        Ok(Self {
            x: Axes::from_attrs(attrs, "lhs_spec", spatial)?,
            kernel: Axes::from_attrs(attrs, "rhs_spec", spatial)?,
            out: Axes::from_attrs(attrs, "out_spec", spatial)?,
            channel_groups: groups("feature_group_count")?,
            image_groups: groups("batch_group_count")?,
            geometry,
            packed: None,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x, kernel] = operands(Self::NAME, inputs)?;
        self.x.check("lhs", x)?;
        self.kernel.check("rhs", kernel)?;
        if x.dtype != kernel.dtype {
            let message = format!("operands must have equal dtypes, got {x} and {kernel}");
            return refuse(Self::NAME, message);
        }
        if !matches!(x.dtype, DType::F32 | DType::I32 | DType::U32 | DType::I8 | DType::C64) {
            return Err(unsupported(Self::NAME, "operand", x.dtype));
        }
        let Self { channel_groups, image_groups, .. } = *self;
        let (images, channels) = (x.shape[self.x.batch], x.shape[self.x.channel]);
        let (outputs, depth) = (kernel.shape[self.kernel.batch], kernel.shape[self.kernel.channel]);
        if Some(channels) != depth.checked_mul(channel_groups) {
            let message = format!(
                "`rhs` must have {channels} / {channel_groups} channels, those of `lhs` over \
                 `feature_group_count`, got {depth}"
            );
            return refuse(Self::NAME, message);
        }
        for (name, groups, what, extent) in [
            ("feature_group_count", channel_groups, "outputs of `rhs`", outputs),
            ("batch_group_count", image_groups, "outputs of `rhs`", outputs),
            ("batch_group_count", image_groups, "images of `lhs`", images),
        ] {
            if !extent.is_multiple_of(groups) {
                let message = format!("`{name}` {groups} must divide the {extent} {what}");
                return refuse(Self::NAME, message);
            }
        }
        if channel_groups > 1 && image_groups > 1 {
            let message = format!(
                "one of `feature_group_count` {channel_groups} and `batch_group_count` \
                 {image_groups} must be 1"
            );
            return refuse(Self::NAME, message);
        }
        let mut shape = vec![0; x.shape.len()];
        shape[self.out.batch] = images / image_groups;
        shape[self.out.channel] = outputs;
        for (index, axis) in self.geometry.iter().enumerate() {
            let extent = x.shape[self.x.spatial[index]];
            let taps = kernel.shape[self.kernel.spatial[index]];
            shape[self.out.spatial[index]] = axis.places(Self::NAME, extent, taps)?;
        }
        Ok(vec![Fact::new(x.dtype, shape)])
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
        let [x, kernel] = inputs else {
            return refuse(Self::NAME, format!("expected 2 operands, got {}", inputs.len()));
        };
        let out = &mut outputs[0];
        match x.dtype() {
            DType::F32 => self.convolve::<f32>(x, kernel, self.packed.as_deref(), out, pool),
            DType::I32 => self.convolve::<i32>(x, kernel, None, out, pool),
            DType::U32 => self.convolve::<u32>(x, kernel, None, out, pool),
            DType::I8 => self.convolve::<i8>(x, kernel, None, out, pool),
            DType::C64 => self.convolve::<Complex32>(x, kernel, None, out, pool),
            other => Err(unsupported(Self::NAME, "operand", other)),
        }
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        let Some(Some(view)) = constants.get(1) else { return Ok(None) };
        if view.dtype() != DType::F32 {
            return Ok(None);
        }
        let kernel = view.strided_data::<f32>()?;
        let as_it_lies = self.matrix(&kernel);
        // As a right operand, its columns are to lie together.
        let is_right = |steps: [usize; 2]| !self.is_channels_last() || steps[1] == 1;
        if as_it_lies.is_some_and(|matrix| is_right(matrix.strides)) {
            return Ok(None);
        }
        let packed = Some(Arc::new(self.packed_kernel(&kernel)?));
        Ok(Some(Box::new(Self { packed, ..self.clone() })))
    }

    fn held_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |packed| size_of_val(packed.as_slice()))
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = Op::output_shapes(self, inputs)?;
        let kernel = &inputs[1].shape;
        let taps = self.kernel.spatial.iter().map(|&axis| kernel[axis]);
        let depth = taps.fold(kernel[self.kernel.channel], usize::saturating_mul);
        Ok(Work::of_matmuls(1, [outputs[0].len(), depth, 1], inputs, &outputs))
    }
}

impl Convolution {
    /// Whether the outputs of a place lie together in the result.
    fn is_channels_last(&self) -> bool {
        self.out.channel == self.out.spatial.len() + 1
    }

    /// The axes of the kernel that are summed over, in order: as channels lie in the result, so that
    /// kernels in the usual order need not be packed.
    fn depth_axes(&self) -> Vec<usize> {
        let Axes { channel, spatial, .. } = &self.kernel;
        match self.is_channels_last() {
            true => [spatial.as_slice(), &[*channel]].concat(),
            false => [&[*channel], spatial.as_slice()].concat(),
        }
    }

    /// The kernel as a matrix of depth and outputs, if strides say that.
    fn matrix<'a, T: Element>(&self, kernel: &Strided<'a, T>) -> Option<Factor<'a, T>> {
        let depth = self.depth_axes().into_iter();
        let depth = depth.map(|axis| (kernel.shape[axis], [kernel.strides[axis]]));
        let (rest, _, [down]) = Walk::new([0], depth).split();
        let across = kernel.strides[self.kernel.batch];
        let strides = [usize::try_from(down).ok()?, usize::try_from(across).ok()?];
        (rest.count() == 1).then_some(Factor { data: &kernel.data[kernel.start..], strides })
    }

    /// The kernel as a row-major matrix of depth and outputs.
    fn packed_kernel<T: Number>(&self, kernel: &Strided<'_, T>) -> Result<Vec<T>, Error> {
        let axes = [self.depth_axes().as_slice(), &[self.kernel.batch]].concat();
        let layout = kernel.layout().transposed(&axes);
        let mut packed = vec![T::zeroed(); layout.shape().iter().product()];
        let shape = layout.shape().to_vec();
        let mut out = ViewMut::new(&shape, T::data_mut(&mut packed))?;
        copy_layout(kernel.data, &layout, &mut out, &Serial)?;
        Ok(packed)
    }

    fn convolve<T: Number>(
        &self,
        x: &View<'_>,
        kernel: &View<'_>,
        packed: Option<&Vec<T>>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (x, kernel) = (x.strided_data::<T>()?, kernel.strided_data::<T>()?);
        let shape = out.shape().to_vec();
        let out = out.data_mut::<T>()?;
        let axes = (0..self.geometry.len()).map(|axis| {
            let extent = x.shape[self.x.spatial[axis]];
            let taps = kernel.shape[self.kernel.spatial[axis]];
            (self.geometry[axis], [shape[self.out.spatial[axis]], taps, extent])
        });
        let Some(all) = phases(&axes.collect::<Vec<_>>()) else {
            return self.convolve_all(&x, &kernel, packed, &shape, out, pool);
        };
        let strides = row_major_strides(&shape);
        let (mut part_shape, mut kernel_shape) = (shape.clone(), kernel.shape.to_vec());
        for of_axes in all {
            for (axis, phase) in of_axes.iter().enumerate() {
                part_shape[self.out.spatial[axis]] = phase.places();
                kernel_shape[self.kernel.spatial[axis]] = phase.taps();
            }
            let geometry = of_axes.iter().map(Phase::geometry).collect();
            let op = Self { geometry, packed: None, ..self.clone() };
            let kernel = kernel_of(&kernel, &kernel_shape, &self.kernel.spatial, &of_axes);
            let mut part = vec![T::zeroed(); part_shape.iter().product()];
            op.convolve_all(&x, &kernel, None, &part_shape, &mut part, pool)?;
            put(&part, &part_shape, out, &strides, &self.out.spatial, &of_axes);
        }
        Ok(())
    }

    /// Without a thought to zeros between the elements of x.
    fn convolve_all<T: Number>(
        &self,
        x: &Strided<'_, T>,
        kernel: &Strided<'_, T>,
        packed: Option<&Vec<T>>,
        out_shape: &[usize],
        out: &mut [T],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let depth: usize = self.depth_axes().iter().map(|&axis| kernel.shape[axis]).product();
        if depth == 0 {
            out.fill(T::zeroed());
            return Ok(());
        }
        let outputs = kernel.shape[self.kernel.batch];
        let room;
        let matrix = match (packed, self.matrix(kernel)) {
            (Some(packed), _) => Factor { data: packed, strides: [outputs, 1] },
            (None, Some(matrix)) => matrix,
            (None, None) => {
                room = self.packed_kernel(kernel)?;
                Factor { data: &room, strides: [outputs, 1] }
            }
        };
        let spatial: Vec<Spatial> = self
            .geometry
            .iter()
            .zip(&self.x.spatial)
            .map(|(&geometry, &axis)| Spatial {
                geometry,
                extent: x.shape[axis],
                stride: x.strides[axis],
            })
            .collect();
        // What each axis of the result brings, and each axis of the depth.
        let place = |axis: usize| {
            let step = match self.out.spatial.iter().position(|&other| other == axis) {
                Some(axis) => Step::Positions { axis, step: self.geometry[axis].stride },
                None => Step::Elements(x.strides[self.x.batch]),
            };
            (out_shape[axis], step)
        };
        let tap = |axis: usize| {
            let step = match self.kernel.spatial.iter().position(|&other| other == axis) {
                Some(axis) => Step::Positions { axis, step: self.geometry[axis].window_dilation },
                None => Step::Elements(x.strides[self.x.channel]),
            };
            (kernel.shape[axis], step)
        };
        let step = if self.image_groups > 1 {
            x.strides[self.x.batch] * out_shape[self.out.batch] as isize
        } else {
            x.strides[self.x.channel] * kernel.shape[self.kernel.channel] as isize
        };
        let count = self.channel_groups * self.image_groups;
        let groups = Groups {
            count,
            outputs: outputs / count,
            step,
            lone_channels: self.channel_groups > 1 && kernel.shape[self.kernel.channel] == 1,
        };
        let axes = ProductAxes {
            outer: (0..self.out.channel).map(place).collect(),
            inner: (self.out.channel + 1..out_shape.len()).map(place).collect(),
            depth: self.depth_axes().into_iter().map(tap).collect(),
        };
        Product::new(x, &spatial, axes, matrix, groups).run(out, pool);
        Ok(())
    }
}
