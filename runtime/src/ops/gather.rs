//! Windows of a tensor that indices place, read.

use lumina_kernels::ops::Dequantize;
use lumina_kernels::{Attrs, DynOp, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut, Work};

use super::common::{chunked, element_arms, naturals, operands, refuse, with_element};
use super::windows::Windows;

pub(super) static OPS: &[Entry] = &[Entry::of::<Gather>()];

/// Elements of the result per chunk.
const WORK: usize = 1 << 14;

/// `out[b, o] = operand[start(b) + o]`, of (operand, indices, fill): see [`Windows`]. What a window
/// would read outside of the operand is `fill`, a scalar, or with `mode` "clip" nothing.
#[derive(Clone)]
struct Gather {
    windows: Windows,
    sizes: Vec<usize>,
    /// What makes the operand of the four that stand for it; None where it is there itself.
    codes: Option<Dequantize>,
}

impl Op for Gather {
    const NAME: &'static str = "gather";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let sizes = attrs.ints(Self::NAME, "slice_sizes")?;
        Ok(Self {
            windows: Windows::from_attrs(Self::NAME, attrs)?,
            sizes: naturals(Self::NAME, "slice_sizes", sizes)?,
            codes: None,
        })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [operand, indices, fill] = operands(Self::NAME, inputs)?;
        self.windows.check(operand, indices, &self.sizes)?;
        if fill.dtype != operand.dtype || !fill.shape.is_empty() {
            let message = format!("`fill` must be {}[], got {fill}", operand.dtype);
            return refuse(Self::NAME, message);
        }
        Ok(vec![Fact::new(operand.dtype, self.windows.result(indices, &self.sizes))])
    }

    /// Of the operand, only what goes into the result is read.
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        Ok(Work::of_parts(&inputs[1..2], &Op::output_shapes(self, inputs)?))
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        match &self.codes {
            Some(codes) => self.read_lines(codes, inputs, &mut outputs[0], pool),
            None => {
                with_element!(inputs[0].dtype(), T => self.read::<T>(inputs, &mut outputs[0], pool))
            }
        }
    }

    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        _: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error> {
        let [depth, columns] = codes.coded(coded)?.extents();
        let line = if codes.is_transposed() { depth } else { columns };
        let is_of_lines = self.windows.are_lines(&self.sizes, codes.shape(), line);
        Ok((operand == 0 && is_of_lines).then(|| {
            Box::new(Self { codes: Some(codes.clone()), ..self.clone() }) as Box<dyn DynOp>
        }))
    }
}

impl Gather {
    /// Of codes, whose windows are lines.
    fn read_lines(
        &self,
        codes: &Dequantize,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [codes_of, scale, zero_point, table, indices, fill] = inputs else {
            return refuse(Self::NAME, format!("expected 6 operands, got {}", inputs.len()));
        };
        let coded = codes.coded(&[*codes_of, *scale, *zero_point, *table])?;
        let result = out.shape().to_vec();
        let loops = self.windows.loops(codes.shape(), indices, &self.sizes, &result)?;
        let fill = fill.data::<f32>()?[0];
        let size = loops.window.count();
        let one = |line: usize, out: &mut [f32]| match loops.start(line) {
            Some(start) if codes.is_transposed() => {
                coded.write_column(start / size, 0..size, out);
            }
            Some(start) => coded.write_row(start / size, 0..size, out),
            None => out.fill(fill),
        };
        let out = out.data_mut::<f32>()?;
        if loops.is_last {
            chunked(pool, out, size, |start, out| one(start / size, out));
            return Ok(());
        }
        let mut room = vec![0.0; size];
        loops.lines.for_each(|line, [at]| {
            one(line, &mut room);
            loops.window.runs(0, size, |done, [to, _], [step, _], count| {
                for (index, value) in room[done..done + count].iter().enumerate() {
                    out[(at + to).wrapping_add_signed(step * index as isize)] = *value;
                }
            });
        });
        Ok(())
    }

    fn read<T: Element>(
        &self,
        inputs: &[View<'_>],
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let [operand, indices, fill] = [&inputs[0], &inputs[1], &inputs[2]];
        if out.shape().contains(&0) {
            return Ok(());
        }
        let loops = self.windows.loops(operand.shape(), indices, &self.sizes, out.shape())?;
        let (operand, fill) = (operand.data::<T>()?, fill.data::<T>()?[0]);
        let size = loops.window.count();
        let one = |line: usize, out: &mut [T], at: usize| {
            let start = loops.start(line);
            loops.window.runs(0, size, |_, [to, from], [to_step, from_step], count| {
                // Extents and strides of a row-major tensor are never negative.
                let [to_step, from_step] = [to_step, from_step].map(isize::unsigned_abs);
                let Some(from) = start.map(|start| start + from) else {
                    let out = out[at + to..].iter_mut().step_by(to_step.max(1));
                    return out.take(count).for_each(|out| *out = fill);
                };
                if to_step == 1 && from_step == 1 {
                    out[at + to..][..count].copy_from_slice(&operand[from..][..count]);
                } else {
                    for index in 0..count {
                        out[at + to + index * to_step] = operand[from + index * from_step];
                    }
                }
            });
        };
        let out = out.data_mut::<T>()?;
        if loops.is_last {
            let lines = (WORK / size).max(1);
            chunked(pool, out, lines * size, |start, out| {
                for (index, out) in out.chunks_exact_mut(size).enumerate() {
                    one(start / size + index, out, 0);
                }
            });
        } else {
            loops.lines.for_each(|line, [at]| one(line, out, at));
        }
        Ok(())
    }
}
