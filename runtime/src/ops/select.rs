//! Choosing and limiting elements.

use lumina_kernels::{Attrs, Bool, DType, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::binary;
use super::common::{CHUNK, chunked, element_arms, operands, unsupported, with_element};

pub(super) static OPS: &[Entry] = &[Entry::of::<SelectN>(), Entry::of::<Clamp>()];

/// `out[i] = cases[which[i]][i]`; `which` is bool for two cases, else i32 and limited to the
/// number of cases; its shape is that of the cases, or rank 0.
struct SelectN;

impl Op for SelectN {
    const NAME: &'static str = "select_n";

    fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let refuse = |message| Err(Error::invalid(Self::NAME, message));
        let [which, first, rest @ ..] = inputs else {
            return refuse(format!("expected `which` and cases, got {} operands", inputs.len()));
        };
        if let Some(other) = rest.iter().find(|&case| case != first) {
            return refuse(format!("cases must be alike, got {first} and {other}"));
        }
        match which.dtype {
            DType::I32 => {}
            DType::Bool if rest.len() == 1 => {}
            _ => {
                let expected = "`which` must be bool for 2 cases, else i32";
                return refuse(format!("{expected}, got {which} for {}", rest.len() + 1));
            }
        }
        if which.shape != first.shape && !which.shape.is_empty() {
            let expected = "`which` must have the shape of the cases or rank 0";
            return refuse(format!("{expected}, got {which} for {first}"));
        }
        Ok(vec![first.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (which, cases) = (&inputs[0], &inputs[1..]);
        let stride = usize::from(!which.shape().is_empty());
        let last = cases.len() - 1;
        if which.dtype() == DType::Bool {
            let which = which.data::<Bool>()?;
            let choose = |index: usize| usize::from(which[index * stride].get());
            with_element!(cases[0].dtype(), T => select::<T>(cases, &mut outputs[0], pool, choose))
        } else {
            let which = which.data::<i32>()?;
            let choose = |index: usize| (which[index * stride].max(0) as usize).min(last);
            with_element!(cases[0].dtype(), T => select::<T>(cases, &mut outputs[0], pool, choose))
        }
    }
}

fn select<T: Element>(
    cases: &[View<'_>],
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    choose: impl Fn(usize) -> usize + Sync,
) -> Result<(), Error> {
    let cases = cases.iter().map(View::data::<T>).collect::<Result<Vec<_>, _>>()?;
    chunked(pool, out.data_mut::<T>()?, CHUNK, |start, out| {
        for (index, out) in (start..).zip(out) {
            *out = cases[choose(index)][index];
        }
    });
    Ok(())
}

/// `min(max(low, x), high)` of (low, x, high); NaN where any is. The limits have the shape of x,
/// or rank 0.
struct Clamp;

impl Op for Clamp {
    const NAME: &'static str = "clamp";

    fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [low, x, high] = operands(Self::NAME, inputs)?;
        if !matches!(x.dtype, DType::F32 | DType::U32 | DType::I32 | DType::I8) {
            return Err(unsupported(Self::NAME, "operand", x.dtype));
        }
        for limit in [low, high] {
            let fits = limit.shape == x.shape || limit.shape.is_empty();
            if !fits || limit.dtype != x.dtype {
                let expected = "a limit must have the dtype of x, and its shape or rank 0";
                return Err(Error::invalid(Self::NAME, format!("{expected}, got {limit} for {x}")));
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
        let out = &mut outputs[0];
        match inputs[1].dtype() {
            DType::F32 => clamp::<f32>(inputs, out, pool, binary::max, binary::min),
            DType::U32 => clamp::<u32>(inputs, out, pool, Ord::max, Ord::min),
            DType::I32 => clamp::<i32>(inputs, out, pool, Ord::max, Ord::min),
            DType::I8 => clamp::<i8>(inputs, out, pool, Ord::max, Ord::min),
            other => Err(unsupported(Self::NAME, "operand", other)),
        }
    }
}

fn clamp<T: Element>(
    inputs: &[View<'_>],
    out: &mut ViewMut<'_>,
    pool: &dyn ParFor,
    max: fn(T, T) -> T,
    min: fn(T, T) -> T,
) -> Result<(), Error> {
    let stride = |view: &View<'_>| usize::from(!view.shape().is_empty());
    let (low_stride, high_stride) = (stride(&inputs[0]), stride(&inputs[2]));
    let low = inputs[0].data::<T>()?;
    let x = inputs[1].data::<T>()?;
    let high = inputs[2].data::<T>()?;
    chunked(pool, out.data_mut::<T>()?, CHUNK, |start, out| {
        for (index, out) in (start..).zip(out) {
            *out = min(max(x[index], low[index * low_stride]), high[index * high_stride]);
        }
    });
    Ok(())
}
