//! Attention of which no matrix of all scores exists.

use std::sync::{Mutex, PoisonError};

use lumina_kernels::{
    Attrs, Bool, Columns, DType, Entry, Error, Fact, Matrix, Op, ParFor, Serial, Strided, View,
    ViewMut, Work, matmul, softmax_rows,
};

use super::common::{refuse, unsupported};
use super::strided::Walk;

pub(super) static OPS: &[Entry] = &[Entry::of::<Attention>()];

/// Queries whose scores exist at a time. Fewer read keys and values more often.
const QUERIES: usize = 64;
/// A score that is at most this adds nothing beside any score of an unmasked key.
const NOTHING: f32 = -1e30;

/// Attention of queries q\[batch…, time…, D\], keys k\[batch…, S, D\] and values v\[batch…, S, E\].
///
/// ```text
/// score[t, s] = scale·Σ_d q[t, d]·k[s, d]     + bias[t, s]; `fill` where not mask[t, s]
/// out[t] = Σ_s softmax_s(score[t, s])·v[s]
/// ```
///
/// An f32 operand after the values is the bias, a bool one the mask, both \[batch…, time…, S\].
///
/// Departures from that: some queries at a time; keys behind the last one that any of them sees are
/// left out, where they would add 0.
struct Attention {
    scale: f32,
    fill: f32,
}

/// What an operand after the values is.
enum Masking<'a> {
    Bias(Strided<'a, f32>),
    Mask(Strided<'a, Bool>),
}

impl Op for Attention {
    const NAME: &'static str = "attention";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let number = |name| attrs.float(Self::NAME, name).map(|value| value as f32);
        Ok(Self { scale: number("scale")?, fill: number("fill")? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [q, k, v, masks @ ..] = inputs else {
            return refuse(Self::NAME, format!("expected 3 to 5 operands, got {}", inputs.len()));
        };
        if masks.len() > 2 {
            return refuse(Self::NAME, format!("expected 3 to 5 operands, got {}", inputs.len()));
        }
        for fact in [q, k, v] {
            if fact.dtype != DType::F32 {
                return Err(unsupported(Self::NAME, "operand", fact.dtype));
            }
        }
        let fault = || {
            format!(
                "expected q[batch.., time.., D], k[batch.., S, D] and v[batch.., S, E], got {q}, {k} \
                 and {v}"
            )
        };
        let rank = k.shape.len();
        if rank < 2 || v.shape.len() != rank || q.shape.len() < rank {
            return refuse(Self::NAME, fault());
        }
        let batch = rank - 2;
        let (length, depth) = (k.shape[batch], k.shape[batch + 1]);
        let fits = q.shape[..batch] == k.shape[..batch]
            && v.shape[..=batch] == k.shape[..=batch]
            && q.shape.last() == Some(&depth);
        if !fits {
            return refuse(Self::NAME, fault());
        }
        let mut shape = q.shape.clone();
        let last = shape.len() - 1;
        shape[last] = length;
        let mut kinds = Vec::new();
        for mask in masks {
            if !matches!(mask.dtype, DType::F32 | DType::Bool) || kinds.contains(&mask.dtype) {
                let message = format!("a mask must be one f32 or one bool, got {mask}");
                return refuse(Self::NAME, message);
            }
            if mask.shape != shape {
                let message = format!("a mask must be {shape:?} as the scores are, got {mask}");
                return refuse(Self::NAME, message);
            }
            kinds.push(mask.dtype);
        }
        shape[last] = v.shape[batch + 1];
        Ok(vec![Fact::new(DType::F32, shape)])
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
        let data = |index: usize| inputs[index].strided_data::<f32>();
        let (q, k, v) = (data(0)?, data(1)?, data(2)?);
        let masks = inputs[3..].iter().map(|mask| match mask.dtype() {
            DType::Bool => mask.strided_data().map(Masking::Mask),
            _ => mask.strided_data().map(Masking::Bias),
        });
        let mut masks: Vec<Masking<'_>> = masks.collect::<Result<_, _>>()?;
        // Whatever their order, a mask comes after the bias.
        masks.sort_by_key(|mask| matches!(mask, Masking::Mask(_)));
        let heads = Heads::new(q, k, v, masks, self);
        let out = outputs[0].data_mut::<f32>()?;
        if out.is_empty() {
            return Ok(());
        }
        let [queries, _, _, width] = heads.extents;
        // As few blocks as keep all workers busy.
        let count = out.len() / (queries * width);
        let shares = (2 * pool.width()).div_ceil(count);
        let block = queries.div_ceil(shares).min(QUERIES);
        let blocks = queries.div_ceil(block);
        let chunks: Vec<Mutex<&mut [f32]>> = out
            .chunks_mut(queries * width)
            .flat_map(|head| head.chunks_mut(block * width).map(Mutex::new))
            .collect();
        pool.run(chunks.len(), &|index, _| {
            let mut out = chunks[index].lock().unwrap_or_else(PoisonError::into_inner);
            heads.attend(index / blocks, index % blocks * block, &mut out);
        });
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        let [q, k, v, ..] = inputs else { return Ok(Work::default()) };
        let (depth, length) = (q.shape.last().copied(), k.shape.iter().rev().nth(1).copied());
        let width = depth.unwrap_or(0) + v.shape.last().copied().unwrap_or(0);
        let rows = q.shape[..q.shape.len() - 1].iter().product();
        Ok(Work::of_matmuls(1, [rows, width, length.unwrap_or(0)], inputs, &outputs))
    }
}

/// The products of attention: one for each head, of queries that lie evenly.
struct Heads<'a> {
    op: &'a Attention,
    q: Strided<'a, f32>,
    k: Strided<'a, f32>,
    v: Strided<'a, f32>,
    masks: Vec<Masking<'a>>,
    /// Starts of the heads in q, k and v.
    starts: Walk<3>,
    /// Queries, keys, and what queries and values are made of.
    extents: [usize; 4],
}

impl<'a> Heads<'a> {
    fn new(
        q: Strided<'a, f32>,
        k: Strided<'a, f32>,
        v: Strided<'a, f32>,
        masks: Vec<Masking<'a>>,
        op: &'a Attention,
    ) -> Self {
        let (batch, time) = (k.shape.len() - 2, q.shape.len() - 2);
        // Where there are several axes of time, keys are the same for all but the last.
        let strides = |x: &Strided<'_, f32>, axis| if axis < batch { x.strides[axis] } else { 0 };
        let axes = (0..time)
            .map(|axis| (q.shape[axis], [q.strides[axis], strides(&k, axis), strides(&v, axis)]));
        let starts = Walk::new([q.start, k.start, v.start], axes);
        let (length, depth) = (k.shape[batch], k.shape[batch + 1]);
        let extents = [q.shape[time], length, depth, v.shape[batch + 1]];
        Self { op, q, k, v, masks, starts, extents }
    }

    /// Writes the results of the queries from `first` on of a head.
    fn attend(&self, head: usize, first: usize, out: &mut [f32]) {
        let [queries, length, _, width] = self.extents;
        let rows = out.len() / width;
        let from = head * queries + first;
        let mut scores = vec![0.0; rows * length];
        let seen = self.seen(from, rows);
        let mut columns = seen.unwrap_or(length);
        self.scores(head, first, from, columns, &mut scores[..rows * columns]);
        // Of what is left out, none may count: every query sees a key beside which it is nothing.
        let counts =
            |row: &[f32]| row.iter().all(|&score| score <= self.op.fill.max(NOTHING) + 200.0);
        if seen.is_some() && scores[..rows * columns].chunks(columns.max(1)).any(counts) {
            columns = length;
            self.scores(head, first, from, columns, &mut scores);
        }
        let scores = &mut scores[..rows * columns];
        softmax_rows(scores, columns);
        let [_, _, v] = self.starts.position(head);
        let strides = &self.v.strides[self.v.strides.len() - 2..];
        let a = Factor { data: scores, start: 0, strides: [columns as isize, 1] };
        let b = Factor { data: self.v.data, start: v, strides: [strides[0], strides[1]] };
        multiply(out, [rows, columns, width], a, b);
    }

    /// The scores of the first `columns` keys.
    fn scores(&self, head: usize, first: usize, from: usize, columns: usize, out: &mut [f32]) {
        let [_, length, depth, _] = self.extents;
        let [q, k, _] = self.starts.position(head);
        let last = self.q.strides.len() - 2;
        let down = self.q.strides[last];
        let a = Factor {
            data: self.q.data,
            start: q.wrapping_add_signed(down * first as isize),
            strides: [down, self.q.strides[last + 1]],
        };
        let strides = &self.k.strides[self.k.strides.len() - 2..];
        let b = Factor { data: self.k.data, start: k, strides: [strides[1], strides[0]] };
        let rows = out.len() / columns.max(1);
        multiply(out, [rows, depth, columns], a, b);
        for score in &mut *out {
            *score *= self.op.scale;
        }
        for mask in &self.masks {
            for (row, out) in out.chunks_mut(columns.max(1)).enumerate() {
                let start = (from + row) * length;
                match mask {
                    Masking::Bias(bias) => over(bias, start, columns, |s, bias| out[s] += bias),
                    Masking::Mask(mask) => over(mask, start, columns, |s, is_seen| {
                        if !is_seen.get() {
                            out[s] = self.op.fill;
                        }
                    }),
                }
            }
        }
    }

    /// One more than the last key that one of so many queries sees; None where all are seen, or where
    /// nothing is masked for good.
    fn seen(&self, from: usize, rows: usize) -> Option<usize> {
        let [_, length, ..] = self.extents;
        let mut seen = length;
        for mask in &self.masks {
            let mut last = 0;
            for row in 0..rows {
                let start = (from + row) * length;
                let mut see = |s: usize, is_seen: bool| {
                    if is_seen && s >= last {
                        last = s + 1;
                    }
                };
                match mask {
                    Masking::Bias(bias) => {
                        over(bias, start, length, |s, bias| {
                            see(s, bias > NOTHING || bias.is_nan())
                        });
                    }
                    Masking::Mask(_) if self.op.fill > -1e9 => last = length,
                    Masking::Mask(mask) => {
                        over(mask, start, length, |s, mask| see(s, mask.get()));
                    }
                }
            }
            seen = seen.min(last);
        }
        (0 < seen && seen < length).then_some(seen)
    }
}

/// Calls `f(index, element)` for so many elements in row-major order, from the `start`-th on.
fn over<T: lumina_kernels::Element>(
    x: &Strided<'_, T>,
    start: usize,
    count: usize,
    mut f: impl FnMut(usize, T),
) {
    let walk = Walk::over(x.shape, [(x.start, &x.strides)]);
    walk.runs(start, count, |done, [from], [step], count| {
        for index in 0..count {
            f(done + index, x.data[from.wrapping_add_signed(step * index as isize)]);
        }
    });
}

/// A matrix whose element (i, j) is `data[start + i·strides[0] + j·strides[1]]`.
struct Factor<'a> {
    data: &'a [f32],
    start: usize,
    strides: [isize; 2],
}

impl Factor<'_> {
    /// The matrix as it lies, where no stride is negative.
    fn matrix(&self) -> Option<Matrix<'_>> {
        let [down, across] = self.strides.map(usize::try_from);
        let strides = [down.ok()?, across.ok()?];
        Some(Matrix { data: self.data.get(self.start..)?, strides })
    }

    /// A row-major copy.
    fn copied(&self, [rows, columns]: [usize; 2]) -> Vec<f32> {
        let walk =
            Walk::new([self.start], [(rows, [self.strides[0]]), (columns, [self.strides[1]])]);
        let mut copy = vec![0.0; rows * columns];
        walk.for_each(|index, [from]| copy[index] = self.data[from]);
        copy
    }
}

/// `out ← A·B` for so many rows, products and columns.
fn multiply(out: &mut [f32], extents: [usize; 3], a: Factor<'_>, b: Factor<'_>) {
    let [rows, depth, columns] = extents;
    if rows == 0 || columns == 0 {
        return;
    }
    if depth == 0 {
        return out.fill(0.0);
    }
    let (left, right);
    let a = match a.matrix() {
        Some(matrix) => matrix,
        None => {
            left = a.copied([rows, depth]);
            Matrix { data: &left, strides: [depth, 1] }
        }
    };
    let b = match b.matrix() {
        Some(matrix) => matrix,
        None => {
            right = b.copied([depth, columns]);
            Matrix { data: &right, strides: [columns, 1] }
        }
    };
    let c = Columns { data: out, stride: columns, first: 0 };
    matmul(&Serial, c, extents, a, b, false);
}
