//! Ops that combine the elements under each place of a window.

use lumina_kernels::{
    Attrs, Bool, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, Work, row_major_strides,
};

use super::binary::{max, min};
use super::common::{chunked, operands, refuse, unsupported};
use super::reductions::{Over, reduction_ops, reductions};
use super::strided::Walk;
use super::window_axis::{Met, WindowAxis, positive};

/// Elements read per chunk.
const WORK: usize = if cfg!(test) { 16 } else { 1 << 14 };

/// The window: its extent along each axis, and where it lies.
struct Window {
    axes: Vec<(usize, WindowAxis)>,
}

impl Over for Window {
    fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let axes = WindowAxis::from_attrs(op, attrs, ["base_dilation", "window_dilation"])?;
        let extents = positive(op, attrs, "window_dimensions", Some(axes.len()))?;
        Ok(Self { axes: extents.iter().map(|&extent| extent as usize).zip(axes).collect() })
    }

    fn shape(&self, op: &'static str, x: &Fact) -> Result<Vec<usize>, Error> {
        if self.axes.len() != x.shape.len() {
            let message = format!(
                "attribute `window_dimensions` must have an integer for each axis of the operand, \
                 got {} for {x}",
                self.axes.len()
            );
            return refuse(op, message);
        }
        let axes = self.axes.iter().zip(&x.shape);
        axes.map(|((taps, axis), &extent)| axis.places(op, extent, *taps)).collect()
    }

    /// Elements under the window at most.
    fn operations(&self, x_shape: &[usize]) -> usize {
        let taps = self.axes.iter().zip(x_shape).map(|(&(taps, _), &extent)| taps.min(extent));
        taps.fold(1, usize::saturating_mul)
    }

    /// `out[place] = combine over the elements of x under the window there`, in order, from `initial`,
    /// which changes no element. Padding is left out.
    fn reduce<T: Element>(
        &self,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        initial: T,
        combine: impl Fn(T, T) -> T + Sync,
    ) -> Result<(), Error> {
        let (x_shape, out_shape) = (x.shape(), out.shape());
        let strides = row_major_strides(x_shape);
        let x = x.data::<T>()?;
        // A line of the result: the last axis along which the window is more than an element, with the
        // axes behind it, whose elements lie together.
        let is_trivial = |&(taps, axis): &(usize, WindowAxis)| taps == 1 && axis.is_trivial();
        let last = self.axes.iter().rposition(|axis| !is_trivial(axis)).unwrap_or(0);
        let (outer, along) = self.axes.split_at(last);
        let inner: usize = x_shape.iter().skip(last + 1).product();
        let extent = x_shape.get(last).copied().unwrap_or(1);
        let line: usize = out_shape[outer.len()..].iter().product();
        let work = line.saturating_mul(self.operations(x_shape)).max(1);
        let lines = (WORK / work).max(1);
        chunked(pool, out.data_mut::<T>()?, lines * line, |start, out| {
            for (index, out) in (start / line..).zip(out.chunks_mut(line)) {
                // Where the lines of x begin that the window is over.
                let mut rest = index;
                let mut start = 0;
                let mut runs = Vec::with_capacity(outer.len());
                for (axis, (taps, geometry)) in outer.iter().enumerate().rev() {
                    let place = rest % out_shape[axis];
                    rest /= out_shape[axis];
                    let met = geometry.met(place, *taps, x_shape[axis]);
                    start += met.first * strides[axis] as usize;
                    runs.push((met.count, [met.step as isize * strides[axis]]));
                }
                let mut starts = Vec::new();
                Walk::new([start], runs.into_iter().rev()).for_each(|_, [at]| starts.push(at));
                for (place, out) in out.chunks_mut(inner).enumerate() {
                    let met = match along.first() {
                        Some((taps, geometry)) => geometry.met(place, *taps, extent),
                        None => Met { first: 0, step: 1, count: 1 },
                    };
                    let elements = |start: usize| {
                        let first = start + met.first * inner;
                        (0..met.count).map(move |index| first + index * met.step * inner)
                    };
                    let from = starts.iter().flat_map(|&start| elements(start));
                    if let [out] = out {
                        *out = from.fold(initial, |result, from| combine(result, x[from]));
                        continue;
                    }
                    out.fill(initial);
                    for from in from {
                        for (out, x) in out.iter_mut().zip(&x[from..from + inner]) {
                            *out = combine(*out, *x);
                        }
                    }
                }
            }
        });
        Ok(())
    }
}

reductions! { Window, "reduce_window_"; sum {} prod {} }

#[cfg(test)]
mod tests {
    use lumina_kernels::{Attr, Data, DataMut, Serial, ThreadPool};
    use proptest::prelude::*;

    use super::*;

    struct Given(Vec<(&'static str, Vec<i64>)>);

    impl Attrs for Given {
        fn get(&self, name: &str) -> Option<Attr<'_>> {
            let (_, list) = self.0.iter().find(|(other, _)| *other == name)?;
            Some(Attr::Ints(list))
        }
    }

    /// Window, stride, padding before and behind, both dilations, extent.
    type Axis = (i64, i64, i64, i64, i64, i64, usize);

    fn given(axes: &[Axis]) -> Given {
        let column = |pick: fn(&Axis) -> i64| axes.iter().map(pick).collect::<Vec<i64>>();
        Given(vec![
            ("window_dimensions", column(|axis| axis.0)),
            ("window_strides", column(|axis| axis.1)),
            ("low", column(|axis| axis.2)),
            ("high", column(|axis| axis.3)),
            ("base_dilation", column(|axis| axis.4)),
            ("window_dilation", column(|axis| axis.5)),
        ])
    }

    fn axis() -> impl Strategy<Value = Axis> {
        let moved = (1..4i64, 1..4i64, -2..3i64, -2..3i64, 1..4i64, 1..4i64, 0..7usize);
        let whole = (1..5usize).prop_map(|extent| (1, 1, 0, 0, 1, 1, extent));
        prop_oneof![2 => moved, 1 => whole]
    }

    /// As it is defined: the elements under the window, in a padded and dilated tensor.
    fn slow(axes: &[Axis], x: &[i32], out_shape: &[usize]) -> Vec<i32> {
        let count = |extents: &[usize]| extents.iter().product::<usize>();
        let index = |mut number: usize, extents: &[usize]| -> Vec<i64> {
            let mut index = vec![0; extents.len()];
            for (axis, extent) in extents.iter().enumerate().rev() {
                index[axis] = (number % extent) as i64;
                number /= extent;
            }
            index
        };
        let windows: Vec<usize> = axes.iter().map(|axis| axis.0 as usize).collect();
        (0..count(out_shape))
            .map(|place| {
                let place = index(place, out_shape);
                (0..count(&windows)).fold(0i32, |sum, tap| {
                    let tap = index(tap, &windows);
                    let element = axes.iter().zip(&place).zip(&tap).try_fold(
                        0,
                        |sum, ((&(_, stride, low, _, base, window, extent), place), tap)| {
                            let position = place * stride + tap * window - low;
                            let is_there = position >= 0
                                && position % base == 0
                                && position / base < extent as i64;
                            is_there.then(|| sum * extent + (position / base) as usize)
                        },
                    );
                    // Not the same in another order.
                    element.map_or(sum, |element| sum.wrapping_mul(3).wrapping_add(x[element]))
                })
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_window_is_the_slow_one(axes in proptest::collection::vec(axis(), 0..5)) {
            let window = Window::from_attrs("op", &given(&axes)).unwrap();
            let x_shape: Vec<usize> = axes.iter().map(|axis| axis.6).collect();
            let fact = Fact::new(i32::DTYPE, x_shape.clone());
            let Ok(out_shape) = window.shape("op", &fact) else { return Ok(()) };
            let x: Vec<i32> = (0..x_shape.iter().product()).map(|i: usize| (i * 7919 % 19) as i32).collect();
            let view = View::new(&x_shape, Data::I32(&x)).unwrap();
            let pool = ThreadPool::new(3).unwrap();
            let run = |pool: &dyn ParFor| {
                let mut out = vec![-1; out_shape.iter().product()];
                let mut of_out = ViewMut::new(&out_shape, DataMut::I32(&mut out)).unwrap();
                let combine = |sum: i32, x| sum.wrapping_mul(3).wrapping_add(x);
                window.reduce(&view, &mut of_out, pool, 0, combine).unwrap();
                out
            };
            let expected = slow(&axes, &x, &out_shape);
            prop_assert_eq!(&run(&Serial), &expected);
            prop_assert_eq!(&run(&pool), &expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refusal = |axes: &[Axis], shape: &[usize]| {
            let op = Max::from_attrs(&given(axes));
            let fact = [Fact::new(f32::DTYPE, shape)];
            op.and_then(|op| Op::output_shapes(&op, &fact)).unwrap_err().to_string()
        };
        assert_eq!(
            refusal(&[(0, 1, 0, 0, 1, 1, 0)], &[5]),
            "reduce_window_max: attribute `window_dimensions` must lie in 1..=1152921504606846976, \
             got 0"
        );
        assert_eq!(
            refusal(&[(1, 1, 0, 0, 1, 1, 0)], &[5, 2]),
            "reduce_window_max: attribute `window_dimensions` must have an integer for each axis of \
             the operand, got 1 for f32[5,2]"
        );
        let mut short = given(&[(1, 1, 0, 0, 1, 1, 0)]);
        short.0[0].1.push(1);
        assert_eq!(
            Window::from_attrs("op", &short).err().unwrap().to_string(),
            "op: attribute `window_dimensions` must have as many integers as `window_strides`, 1, \
             got 2"
        );
        let sum = Sum::from_attrs(&given(&[])).unwrap();
        assert_eq!(
            Op::output_shapes(&sum, &[Fact::new(Bool::DTYPE, [])]).unwrap_err().to_string(),
            "reduce_window_sum: `operand` of dtype bool is not supported"
        );
    }

    /// A window over far more padding than elements takes the time of the elements.
    #[test]
    fn padding_takes_no_time() {
        const FAR: i64 = 1 << 60;
        let x = [1.0f32, 5.0, 2.0];
        for (axis, expected) in [
            ((FAR, 1, FAR / 2, FAR / 2 - 3, 1, 1, 3), &[8.0][..]),
            ((FAR / 2, FAR / 4, FAR / 2, FAR / 2 - 3, 1, 1, 3), &[0.0, 8.0, 8.0]),
            ((3, 1, 0, 0, 1, FAR / 4, 3), &[]),
            ((FAR / 4, FAR, 3, FAR / 2, FAR / 8, 1, 3), &[6.0]),
            ((3, FAR, 0, 0, FAR / 4, FAR / 4, 3), &[8.0]),
            ((2, FAR, 0, 0, FAR / 4, FAR / 2, 3), &[3.0]),
        ] {
            let op = Sum::from_attrs(&given(&[axis])).unwrap();
            let out = Op::output_shapes(&op, &[Fact::new(f32::DTYPE, [3])]).unwrap();
            assert_eq!(out[0].shape, [expected.len()], "{axis:?}");
            let mut got = vec![f32::NAN; expected.len()];
            let mut outputs = [ViewMut::new(&out[0].shape, DataMut::F32(&mut got)).unwrap()];
            let view = View::new(&[3], Data::F32(&x)).unwrap();
            Op::run(&op, &[view], &mut outputs, &Serial).unwrap();
            assert_eq!(got, expected, "{axis:?}");
        }
    }

    #[test]
    fn the_work_is_that_of_the_window() {
        let op = Sum::from_attrs(&given(&[(2, 2, 0, 0, 1, 1, 0)])).unwrap();
        let work = Op::work(&op, &[Fact::new(f32::DTYPE, [6])]).unwrap();
        assert_eq!(work, Work { flops: 6, bytes: 4 * 9 });
    }
}
