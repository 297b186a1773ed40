//! A part of a tensor whose place is a number of the run.

use lumina_kernels::{
    Attrs, DType, Element, Entry, Error, Fact, Layout, Op, ParFor, View, ViewMut, Work,
};

use super::common::{element_arms, naturals, refuse, unsupported, with_element};
use super::strided::{Walk, copy, copy_layout};

pub(super) static OPS: &[Entry] = &[Entry::of::<DynamicSlice>(), Entry::of::<DynamicUpdateSlice>()];

/// The part of the first operand with extents `slice_sizes` that starts at the others, a scalar for
/// each axis. It is moved to lie in the operand where it would not.
struct DynamicSlice {
    sizes: Vec<usize>,
}

impl Op for DynamicSlice {
    const NAME: &'static str = "dynamic_slice";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let sizes = attrs.ints(Self::NAME, "slice_sizes")?;
        Ok(Self { sizes: naturals(Self::NAME, "slice_sizes", sizes)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let Some((x, starts)) = inputs.split_first() else {
            return refuse(Self::NAME, "expected an operand, got none".into());
        };
        check_part(Self::NAME, x, &self.sizes, starts)?;
        Ok(vec![Fact::new(x.dtype, self.sizes.as_slice())])
    }

    fn accepts_strides(&self) -> bool {
        true
    }

    /// Of the operand, only what goes into the result is read.
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = Op::output_shapes(self, inputs)?;
        Ok(Work::of_parts(&inputs[1..], &outputs))
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let starts = starts(inputs[0].shape(), &self.sizes, &inputs[1..])?;
        with_element!(inputs[0].dtype(), T => {
            let x = inputs[0].strided_data::<T>()?;
            let limits: Vec<usize> = starts.iter().zip(&self.sizes).map(|(a, b)| a + b).collect();
            let part = x.layout().sliced(&starts, &limits, &vec![1; starts.len()]);
            copy_layout(x.data, &part, &mut outputs[0], pool)
        })
    }
}

/// The first operand with the second one, `update`, written over the part that starts at the others,
/// a scalar for each axis. It is moved to lie in the operand where it would not.
struct DynamicUpdateSlice;

impl Op for DynamicUpdateSlice {
    const NAME: &'static str = "dynamic_update_slice";

    fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x, update, starts @ ..] = inputs else {
            return refuse(
                Self::NAME,
                format!("expected an update, got {} operands", inputs.len()),
            );
        };
        if x.dtype != update.dtype {
            return refuse(Self::NAME, format!("`update` must be {}, got {update}", x.dtype));
        }
        check_part(Self::NAME, x, &update.shape, starts)?;
        Ok(vec![x.clone()])
    }

    /// As if the operand dies, so that it stays where it is.
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        Op::output_shapes(self, inputs)?;
        Ok(Work::of_parts(&inputs[2..], &inputs[1..2]))
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        copy(&inputs[0], &mut outputs[0], pool)?;
        self.run_in_place(0, &inputs[1..], &mut outputs[0], pool)
    }

    fn in_place(&self, _: &[Fact], operand: usize) -> bool {
        operand == 0
    }

    fn run_in_place(
        &self,
        _: usize,
        others: &[View<'_>],
        output: &mut ViewMut<'_>,
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        with_element!(output.dtype(), T => write::<T>(others, output))
    }
}

fn write<T: Element>(others: &[View<'_>], out: &mut ViewMut<'_>) -> Result<(), Error> {
    let update = &others[0];
    if update.shape().contains(&0) {
        return Ok(());
    }
    let starts = starts(out.shape(), update.shape(), &others[1..])?;
    let whole = Layout::row_major(out.shape());
    let limits: Vec<usize> = starts.iter().zip(update.shape()).map(|(a, b)| a + b).collect();
    let part = whole.sliced(&starts, &limits, &vec![1; starts.len()]);
    let walk = Walk::over(update.shape(), [(part.start(), part.strides())]);
    let (update, out) = (update.data::<T>()?, out.data_mut::<T>()?);
    walk.runs(0, update.len(), |done, [to], [step], count| {
        let update = &update[done..done + count];
        if step == 1 {
            out[to..to + count].copy_from_slice(update);
        } else {
            let out = out[to..].iter_mut().step_by(step.unsigned_abs().max(1));
            out.zip(update).for_each(|(out, &update)| *out = update);
        }
    });
    Ok(())
}

/// Checks that a part of these extents fits, and that there is an integer for each axis.
fn check_part(op: &'static str, x: &Fact, sizes: &[usize], starts: &[Fact]) -> Result<(), Error> {
    let rank = x.shape.len();
    let fits =
        sizes.len() == rank && sizes.iter().zip(&x.shape).all(|(size, extent)| size <= extent);
    if !fits {
        return refuse(op, format!("a part of {sizes:?} does not fit {x}"));
    }
    if starts.len() != rank {
        return refuse(op, format!("expected a start for each axis of {x}, got {}", starts.len()));
    }
    for start in starts {
        if !matches!(start.dtype, DType::I32 | DType::U32 | DType::I64) {
            return Err(unsupported(op, "start", start.dtype));
        }
        if !start.shape.is_empty() {
            return refuse(op, format!("a start must be a scalar, got {start}"));
        }
    }
    Ok(())
}

/// Where a part of these extents starts in a tensor of this shape.
fn starts(shape: &[usize], sizes: &[usize], starts: &[View<'_>]) -> Result<Vec<usize>, Error> {
    let place = |((start, extent), size): ((&View<'_>, &usize), &usize)| {
        let number: i64 = match start.dtype() {
            DType::I64 => start.data::<i64>()?[0],
            DType::U32 => start.data::<u32>()?[0].into(),
            _ => start.data::<i32>()?[0].into(),
        };
        Ok(usize::try_from(number.max(0)).unwrap_or(usize::MAX).min(extent - size))
    };
    starts.iter().zip(shape).zip(sizes).map(place).collect()
}
