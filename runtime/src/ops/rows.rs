//! Ops of all elements along some axes of a tensor: softmax and normalization.

use lumina_kernels::{
    Attrs, DType, Entry, Error, Fact, Op, ParFor, Strided, View, ViewMut, normalize_rows,
    row_major_strides, softmax_rows,
};

use super::activations::copy_from;
use super::common::{CHUNK, check_axes, chunked, naturals, refuse, unsupported};
use super::strided::Walk;

pub(super) static OPS: &[Entry] = &[Entry::of::<Softmax>(), Entry::of::<Normalization>()];

/// The axes of a tensor whose elements are a row, for each index of the others.
struct Rows {
    /// Elements from which on nothing is shared with others.
    block: usize,
    /// Starts of the rows of a block.
    starts: Walk<1>,
    /// Elements of a row.
    along: Walk<1>,
    columns: usize,
}

impl Rows {
    fn new(shape: &[usize], axes: &[usize]) -> Self {
        let first = axes.iter().copied().min().unwrap_or(shape.len());
        let strides = row_major_strides(shape);
        let side = |along: bool| {
            let axes = (first..shape.len()).filter(|axis| axes.contains(axis) == along);
            Walk::new([0], axes.map(|axis| (shape[axis], [strides[axis]])))
        };
        let (starts, along) = (side(false), side(true));
        let columns = along.count();
        Self { block: shape[first..].iter().product(), starts, along, columns }
    }

    /// Calls `f(rows, columns)` for rows of x, one behind the other, which are written to `out`
    /// then; `finish(start, elements)` for all elements from `start` on that lie together. Where
    /// there is no `x`, `out` holds it.
    fn run(
        &self,
        x: Option<&Strided<'_, f32>>,
        out: &mut [f32],
        pool: &dyn ParFor,
        f: impl Fn(&mut [f32], usize) + Sync,
        finish: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        if out.is_empty() {
            return;
        }
        let is_whole = self.block == self.columns;
        let blocks = (CHUNK / self.block).max(1);
        chunked(pool, out, blocks * self.block, |start, out| {
            if let Some(x) = x {
                copy_from(x, start, out);
            }
            if is_whole {
                f(out, self.columns);
            } else {
                let mut row = vec![0.0; self.columns];
                for block in out.chunks_exact_mut(self.block) {
                    self.starts.for_each(|_, [from]| {
                        self.along.for_each(|index, [at]| row[index] = block[from + at]);
                        f(&mut row, self.columns);
                        self.along.for_each(|index, [at]| block[from + at] = row[index]);
                    });
                }
            }
            finish(start, out);
        });
    }
}

fn check_f32(op: &'static str, inputs: &[Fact]) -> Result<(), Error> {
    match inputs.iter().find(|fact| fact.dtype != DType::F32) {
        Some(other) => Err(unsupported(op, "operand", other.dtype)),
        None => Ok(()),
    }
}

/// `e^(x - max) / Σ e^(x - max)` along an axis.
struct Softmax {
    axis: Vec<usize>,
}

impl Op for Softmax {
    const NAME: &'static str = "softmax";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let axis = attrs.int(Self::NAME, "axis")?;
        Ok(Self { axis: naturals(Self::NAME, "axis", &[axis])? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = inputs else {
            return refuse(Self::NAME, format!("expected 1 operand, got {}", inputs.len()));
        };
        check_f32(Self::NAME, inputs)?;
        check_axes(Self::NAME, "axis", &self.axis, x.shape.len())?;
        Ok(vec![x.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let x = inputs[0].strided_data::<f32>()?;
        let rows = Rows::new(x.shape, &self.axis);
        rows.run(Some(&x), outputs[0].data_mut()?, pool, softmax_rows, |_, _| ());
        Ok(())
    }

    fn accepts_strides(&self) -> bool {
        true
    }

    fn in_place(&self, _: &[Fact], _: usize) -> bool {
        true
    }

    fn run_in_place(
        &self,
        _: usize,
        _: &[View<'_>],
        x: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let rows = Rows::new(x.shape(), &self.axis);
        rows.run(None, x.data_mut()?, pool, softmax_rows, |_, _| ());
        Ok(())
    }
}

/// `(x - mean) / √(mean of (x - mean)² + epsilon)` along some axes, times `scale`, plus `bias`, where
/// these are there. Without `center` the mean is left out, as in RMS norm.
struct Normalization {
    axes: Vec<usize>,
    epsilon: f32,
    center: bool,
}

impl Normalization {
    fn compute(
        &self,
        shape: &[usize],
        x: Option<&Strided<'_, f32>>,
        others: &[View<'_>],
        out: &mut [f32],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let others: Vec<Strided<'_, f32>> =
            others.iter().map(|view| view.strided_data()).collect::<Result<_, _>>()?;
        let normalize =
            |rows: &mut [f32], columns| normalize_rows(rows, columns, self.epsilon, self.center);
        Rows::new(shape, &self.axes).run(x, out, pool, normalize, |start, out| {
            if let Some(scale) = others.first() {
                combine(scale, start, out, |x, scale| x * scale);
            }
            if let Some(bias) = others.get(1) {
                combine(bias, start, out, |x, bias| x + bias);
            }
        });
        Ok(())
    }
}

/// `out[i] = f(out[i], other[start + i])`
pub(super) fn combine(
    other: &Strided<'_, f32>,
    start: usize,
    out: &mut [f32],
    f: impl Fn(f32, f32) -> f32,
) {
    let walk = Walk::over(other.shape, [(other.start, &other.strides)]);
    walk.runs(start, out.len(), |done, [from], [step], count| {
        let out = &mut out[done..done + count];
        match step {
            1 => {
                for (out, &other) in out.iter_mut().zip(&other.data[from..from + count]) {
                    *out = f(*out, other);
                }
            }
            0 => {
                let other = other.data[from];
                for out in out {
                    *out = f(*out, other);
                }
            }
            _ => {
                for (index, out) in out.iter_mut().enumerate() {
                    let at = from.wrapping_add_signed(step * index as isize);
                    *out = f(*out, other.data[at]);
                }
            }
        }
    });
}

impl Op for Normalization {
    const NAME: &'static str = "normalization";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self {
            axes: naturals(Self::NAME, "axes", attrs.ints(Self::NAME, "axes")?)?,
            epsilon: attrs.float(Self::NAME, "epsilon")? as f32,
            center: attrs.bool(Self::NAME, "center")?,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x, others @ ..] = inputs else {
            return refuse(Self::NAME, "expected 1 to 3 operands, got 0".into());
        };
        if others.len() > 2 {
            let message = format!("expected 1 to 3 operands, got {}", inputs.len());
            return refuse(Self::NAME, message);
        }
        check_f32(Self::NAME, inputs)?;
        check_axes(Self::NAME, "axes", &self.axes, x.shape.len())?;
        for (name, other) in ["scale", "bias"].into_iter().zip(others) {
            if other.shape != x.shape {
                let message = format!("`{name}` must have the shape of {x}, got {other}");
                return refuse(Self::NAME, message);
            }
        }
        Ok(vec![x.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let x = inputs[0].strided_data::<f32>()?;
        self.compute(x.shape, Some(&x), &inputs[1..], outputs[0].data_mut()?, pool)
    }

    fn accepts_strides(&self) -> bool {
        true
    }

    fn in_place(&self, _: &[Fact], operand: usize) -> bool {
        operand == 0
    }

    fn run_in_place(
        &self,
        _: usize,
        others: &[View<'_>],
        x: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let shape = x.shape().to_vec();
        self.compute(&shape, None, others, x.data_mut()?, pool)
    }
}
