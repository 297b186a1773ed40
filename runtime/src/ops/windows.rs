//! Windows of a tensor that indices place: what `gather` reads and `scatter` writes.
//!
//! ```text
//! for b in lines of the indices:
//!     for o in a window:  result[b, o]  belongs to  operand[start(b) + o]
//! ```
//!
//! `start(b)` has the numbers `indices[b, :]` on the axes that `map` names, the position of b on
//! axes that are batched, and 0 on all others.

use lumina_kernels::{Attrs, DType, Error, Fact, View, row_major_strides};

use super::common::{check_axes, naturals, refuse, unsupported};
use super::strided::Walk;

/// What an index does whose window does not lie in the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    /// It moves to the next one whose window does.
    Clip,
    /// It has no window.
    Skip,
}

/// Which axes of operand, indices and result belong together.
#[derive(Clone)]
pub(super) struct Windows {
    op: &'static str,
    /// Axes of the result that are those of a window.
    offsets: Vec<usize>,
    /// Axes of the operand, of extent 1 in a window, that the result does not have.
    collapsed: Vec<usize>,
    /// Axes of the operand that are batched with `index_batching` of the indices.
    batching: Vec<usize>,
    index_batching: Vec<usize>,
    /// The axis of the operand that each number of an index is of.
    map: Vec<usize>,
    outside: Outside,
}

impl Windows {
    pub(super) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let axes = |name| naturals(op, name, attrs.ints(op, name)?);
        let outside = match attrs.str(op, "mode")? {
            "clip" => Outside::Clip,
            "fill_or_drop" => Outside::Skip,
            other => {
                let message =
                    format!("attribute `mode` must be `clip` or `fill_or_drop`, got `{other}`");
                return refuse(op, message);
            }
        };
        Ok(Self {
            op,
            offsets: axes("offset_dims")?,
            collapsed: axes("collapsed_slice_dims")?,
            batching: axes("operand_batching_dims")?,
            index_batching: axes("start_indices_batching_dims")?,
            map: axes("start_index_map")?,
            outside,
        })
    }

    /// Checks the axes, and that windows of `sizes` fit the operand.
    pub(super) fn check(
        &self,
        operand: &Fact,
        indices: &Fact,
        sizes: &[usize],
    ) -> Result<(), Error> {
        if !matches!(indices.dtype, DType::I32 | DType::U32 | DType::I64) {
            return Err(unsupported(self.op, "indices", indices.dtype));
        }
        let rank = operand.shape.len();
        let Some((&numbers, lines)) = indices.shape.split_last() else {
            return refuse(self.op, format!("indices must have an axis of numbers, got {indices}"));
        };
        check_axes(
            self.op,
            "collapsed_slice_dims` and `operand_batching_dims",
            &self.dropped(),
            rank,
        )?;
        check_axes(self.op, "start_index_map` and `operand_batching_dims", &self.placed(), rank)?;
        let name = "start_indices_batching_dims";
        check_axes(self.op, name, &self.index_batching, lines.len())?;
        let kept = rank - self.dropped().len();
        check_axes(self.op, "offset_dims", &self.offsets, lines.len() + self.offsets.len())?;
        let sorted = self.offsets.is_sorted();
        if sizes.len() != rank || self.offsets.len() != kept || !sorted || numbers != self.map.len()
        {
            let message = format!(
                "windows {sizes:?}, {} offset axes in order and {numbers} numbers of an index do not \
                 fit {operand}",
                self.offsets.len()
            );
            return refuse(self.op, message);
        }
        if let Some(axis) = (0..rank).find(|&axis| sizes[axis] > operand.shape[axis]) {
            let message =
                format!("a window of {} on axis {axis} does not fit {operand}", sizes[axis]);
            return refuse(self.op, message);
        }
        if let Some(&axis) = self.dropped().iter().find(|&&axis| sizes[axis] > 1) {
            let message = format!("a window of {} on axis {axis}, which is dropped", sizes[axis]);
            return refuse(self.op, message);
        }
        let fits = self.batching.len() == self.index_batching.len()
            && (self.batching.iter().zip(&self.index_batching))
                .all(|(&axis, &line)| operand.shape[axis] == lines[line]);
        if !fits {
            let message = format!("batched axes of {operand} and {indices} must be alike");
            return refuse(self.op, message);
        }
        Ok(())
    }

    /// Whether windows of `sizes` are lines of so many elements of an operand of this shape, one for each
    /// place of its first axis, and lie together in the result.
    pub(super) fn are_lines(&self, sizes: &[usize], shape: &[usize], line: usize) -> bool {
        let [first, rest @ ..] = shape else { return false };
        self.map == [0]
            && self.collapsed == [0]
            && self.batching.is_empty()
            && sizes.first() == Some(&1)
            && sizes[1..] == *rest
            && line > 0
            && rest.iter().product::<usize>() == line
            && *first > 0
    }

    /// The shape of the result.
    pub(super) fn result(&self, indices: &Fact, sizes: &[usize]) -> Vec<usize> {
        let lines = &indices.shape[..indices.shape.len() - 1];
        let (mut lines, mut windows) = (lines.iter(), self.kept(sizes.len()).into_iter());
        let count = lines.len() + self.offsets.len();
        let extent = |axis: usize| match self.offsets.contains(&axis) {
            true => windows.next().map(|axis| sizes[axis]),
            false => lines.next().copied(),
        };
        (0..count).filter_map(extent).collect()
    }

    /// The extents of windows in an operand of this rank that give this result; those of axes that
    /// it does not have are 1.
    pub(super) fn sizes(&self, rank: usize, result: &[usize]) -> Option<Vec<usize>> {
        let mut sizes = vec![1; rank];
        for (axis, &offset) in self.kept(rank).into_iter().zip(&self.offsets) {
            sizes[axis] = *result.get(offset)?;
        }
        Some(sizes)
    }

    /// The loops for these operands, which are checked; `result` is its shape.
    pub(super) fn loops<'a>(
        &'a self,
        operand: &[usize],
        indices: &View<'a>,
        sizes: &[usize],
        result: &[usize],
    ) -> Result<Loops<'a>, Error> {
        let lines = &indices.shape()[..indices.shape().len() - 1];
        let strides = row_major_strides(operand);
        let in_result = row_major_strides(result);
        let windows = self.kept(sizes.len()).into_iter().zip(&self.offsets);
        let window = windows
            .map(|(axis, &to)| (sizes[axis], [in_result[to], strides[axis]]))
            .collect::<Vec<_>>();
        let line_axes = (0..result.len()).filter(|axis| !self.offsets.contains(axis));
        let line_strides = row_major_strides(lines);
        let batched =
            self.batching.iter().zip(&self.index_batching).map(|(&axis, &line)| Batched {
                extent: lines[line],
                stride: line_strides[line] as usize,
                step: strides[axis] as usize,
            });
        let placed = self.map.iter().map(|&axis| {
            let last = operand[axis] - sizes[axis];
            (i64::try_from(last).unwrap_or(i64::MAX), strides[axis] as usize)
        });
        Ok(Loops {
            lines: Walk::new([0], line_axes.map(|axis| (result[axis], [in_result[axis]]))),
            window: Walk::new([0, 0], window),
            is_last: self
                .offsets
                .iter()
                .rev()
                .enumerate()
                .all(|(i, &axis)| axis + i + 1 == result.len()),
            placed: placed.collect(),
            batched: batched.collect(),
            indices: Indices::of(indices)?,
            outside: self.outside,
        })
    }

    /// Axes of the operand that the result does not have.
    fn dropped(&self) -> Vec<usize> {
        [self.collapsed.as_slice(), &self.batching].concat()
    }

    /// Axes of the operand on which a window has a place.
    fn placed(&self) -> Vec<usize> {
        [self.map.as_slice(), &self.batching].concat()
    }

    /// Axes of the operand that are axes of a window in the result.
    fn kept(&self, rank: usize) -> Vec<usize> {
        let dropped = self.dropped();
        (0..rank).filter(|axis| !dropped.contains(axis)).collect()
    }
}

/// An axis of the operand on which a window stands where its line does on an axis of the indices.
struct Batched {
    /// Of the axis of the indices.
    extent: usize,
    /// Lines from one index of it to the next.
    stride: usize,
    /// Elements of the operand from one index of its axis to the next.
    step: usize,
}

/// How to go over lines and windows.
pub(super) struct Loops<'a> {
    /// The place of each line in the result.
    pub(super) lines: Walk<1>,
    /// A window, in the result and in the operand.
    pub(super) window: Walk<2>,
    /// Whether windows are the last axes of the result, and so lie together in it.
    pub(super) is_last: bool,
    /// The last place of a window, and the elements between places, for each number of an index.
    placed: Vec<(i64, usize)>,
    batched: Vec<Batched>,
    indices: Indices<'a>,
    outside: Outside,
}

impl Loops<'_> {
    /// Where the window of a line starts in the operand, if it lies in it.
    pub(super) fn start(&self, line: usize) -> Option<usize> {
        let mut start = 0;
        for (number, &(last, step)) in self.placed.iter().enumerate() {
            let mut index = self.indices.get(line * self.placed.len() + number);
            match self.outside {
                Outside::Clip => index = index.clamp(0, last),
                Outside::Skip if !(0..=last).contains(&index) => return None,
                Outside::Skip => {}
            }
            start += index as usize * step;
        }
        for batched in &self.batched {
            start += line / batched.stride.max(1) % batched.extent.max(1) * batched.step;
        }
        Some(start)
    }
}

enum Indices<'a> {
    I32(&'a [i32]),
    U32(&'a [u32]),
    I64(&'a [i64]),
}

impl<'a> Indices<'a> {
    fn of(view: &View<'a>) -> Result<Self, Error> {
        Ok(match view.dtype() {
            DType::I64 => Self::I64(view.data()?),
            DType::U32 => Self::U32(view.data()?),
            _ => Self::I32(view.data()?),
        })
    }

    fn get(&self, index: usize) -> i64 {
        match self {
            Self::I32(data) => data[index].into(),
            Self::U32(data) => data[index].into(),
            Self::I64(data) => data[index],
        }
    }
}
