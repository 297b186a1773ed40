//! Weights from their codes.
//!
//! ```text
//! for k in depth, n in columns:
//!     level   = code[k, n], or table[n, code[k, n]]
//!     w[k, n] = (level - zero_point[k div group, n]) · scale[k div group, n]
//! ```
//!
//! The difference and the product are rounded to f32 one after the other. Ops that multiply by the
//! result may read the codes instead, see [`Op::with_codes`].

use super::chain::extents;
use crate::codes::{ByGroup, Coded, Codes, Levels, rows_of_words};
use crate::disjoint::DisjointMut;
use crate::isa::Isa;
use crate::par::parallel_if;
use crate::scratch::Scratch;
use crate::tuning::{CODED_PER_NANOSECOND, DEQUANTIZED_COLUMNS, DEQUANTIZED_ROWS};
use crate::vector::{TRANSPOSED, transpose};
use crate::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut};

/// Weights from codes of `bits` bits, which are packed as [`codes`](crate::codes) says.
///
/// Inputs: codes u32\[W,N\] of a matrix with N columns, scale f32\[1|G,1|N\] and zero_point
/// f32\[1|G,1|N\], where each of the G rows is that of `group` rows of the matrix, and table
/// f32\[0|1|N,2^bits\] (none: the levels are the codes).
/// Output: f32 of `shape`, whose elements are the rows of the matrix, or its columns with `transpose`.
#[derive(Clone, Debug)]
pub struct Dequantize {
    bits: usize,
    shape: Vec<usize>,
    transpose: bool,
    group: usize,
}

impl Dequantize {
    /// Depth and columns of the matrix, of these operands.
    fn sizes(&self, inputs: &[Fact]) -> Result<[usize; 2], Error> {
        let refuse = |message: String| Err(Error::invalid(Self::NAME, message));
        let [codes, scale, zero_point, table] = inputs else {
            return refuse(format!("expected 4 operands, got {}", inputs.len()));
        };
        let [_, columns] = *codes.shape else {
            return refuse(format!("`codes` must be u32[words, columns], got {codes}"));
        };
        let count = self.shape.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent));
        let Some(depth) = count.and_then(|count| match columns {
            0 => (count == 0).then_some(0),
            _ => count.is_multiple_of(columns).then(|| count / columns),
        }) else {
            let shape = Fact::new(DType::F32, &*self.shape);
            return refuse(format!("{shape} does not consist of {columns} columns of `codes`"));
        };
        let (words, groups) = (rows_of_words(self.bits, depth), depth.div_ceil(self.group));
        extents(Self::NAME, "codes", codes, DType::U32, &[&[words], &[columns]])?;
        for (name, fact) in [("scale", scale), ("zero_point", zero_point)] {
            extents(Self::NAME, name, fact, DType::F32, &[&[1, groups], &[1, columns]])?;
        }
        let levels = 1 << self.bits;
        extents(Self::NAME, "table", table, DType::F32, &[&[0, 1, columns], &[levels]])?;
        Ok([depth, columns])
    }

    /// The matrix that the operands of the op stand for, which are checked.
    pub fn coded<'a>(&self, inputs: &[View<'a>]) -> Result<Coded<'a>, Error> {
        let facts: Vec<Fact> = inputs.iter().map(View::fact).collect();
        let [depth, columns] = self.sizes(&facts)?;
        let codes = Codes { words: inputs[0].data()?, bits: self.bits, depth, columns };
        let table = (inputs[3].shape()[0] > 0).then(|| ByGroup::of(&inputs[3])).transpose()?;
        let [scale, zero_point] = [ByGroup::of(&inputs[1])?, ByGroup::of(&inputs[2])?];
        let levels = Levels { scale, zero_point, table, group: self.group };
        Ok(Coded { codes, levels })
    }

    /// The shape of the result.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The same with a result of another shape, whose elements are as many.
    pub(crate) fn reshaped(&self, shape: [usize; 2]) -> Self {
        Self { shape: shape.to_vec(), ..self.clone() }
    }

    /// Whether the elements of the result are the columns of the matrix rather than its rows.
    pub fn is_transposed(&self) -> bool {
        self.transpose
    }
}

impl Op for Dequantize {
    const NAME: &'static str = "dequantize";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let refuse = |message: String| Err(Error::invalid(Self::NAME, message));
        let bits = match attrs.int(Self::NAME, "bits")? {
            bits @ 1..=8 => bits as usize,
            bits => return refuse(format!("`bits` must be in 1..=8, got {bits}")),
        };
        let mut shape = Vec::new();
        for &extent in attrs.ints(Self::NAME, "shape")? {
            match usize::try_from(extent) {
                Ok(extent) => shape.push(extent),
                Err(_) => return refuse(format!("`shape` must not be negative, got {extent}")),
            }
        }
        let group = match attrs.int(Self::NAME, "group")? {
            group @ 1.. => group as usize,
            group => return refuse(format!("`group` must be positive, got {group}")),
        };
        let transpose = attrs.bool(Self::NAME, "transpose")?;
        Ok(Self { bits, shape, transpose, group })
    }

    fn as_dequantize(&self) -> Option<&Self> {
        Some(self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        self.sizes(inputs)?;
        Ok(vec![Fact::new(DType::F32, &*self.shape)])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let coded = self.coded(inputs)?;
        let [depth, columns] = coded.extents();
        let isa = Isa::detect();
        let pool = parallel_if(pool, depth * columns / CODED_PER_NANOSECOND);
        let out = DisjointMut::new(outputs[0].data_mut::<f32>()?);
        if !self.transpose {
            pool.run(depth.div_ceil(DEQUANTIZED_ROWS), &|chunk, _| {
                let rows = chunk * DEQUANTIZED_ROWS..depth.min((chunk + 1) * DEQUANTIZED_ROWS);
                let mut out = out.write(rows.start * columns..rows.end * columns);
                coded.write(isa, rows, 0..columns, &mut out, columns);
            });
            return Ok(());
        }
        pool.run(columns.div_ceil(DEQUANTIZED_COLUMNS), &|chunk, _| {
            let range = chunk * DEQUANTIZED_COLUMNS..columns.min((chunk + 1) * DEQUANTIZED_COLUMNS);
            let mut out = out.write(range.start * depth..range.end * depth);
            let out: &mut [u32] = bytemuck::cast_slice_mut(&mut out);
            let mut panel = Scratch::<f32>::new(DEQUANTIZED_ROWS * range.len());
            for first in (0..depth).step_by(DEQUANTIZED_ROWS) {
                let rows = first..depth.min(first + DEQUANTIZED_ROWS);
                let panel = &mut panel[..rows.len() * range.len()];
                coded.write(isa, rows.clone(), range.clone(), panel, range.len());
                let panel: &[u32] = bytemuck::cast_slice(panel);
                for (row, panel) in
                    rows.step_by(TRANSPOSED).zip(panel.chunks(TRANSPOSED * range.len()))
                {
                    let mut lines: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
                    for (line, values) in lines.iter_mut().zip(panel.chunks_exact(range.len())) {
                        *line = values;
                    }
                    let lines = &lines[..panel.len() / range.len()];
                    transpose(isa, &mut out[row..], depth, lines, range.len());
                }
            }
        });
        Ok(())
    }
}
