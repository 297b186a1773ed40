//! What the backward op makes of each row before it multiplies: dz, and x once more.

use std::ops::Range;

use super::context::{Context, Matrix};
use super::rounding::{self, Rounded, round_by_row};
use super::steps::{Upstream, by_signs, by_slope, multiply_each, scale, upstream};
use crate::disjoint::StageBuffer;
use crate::noise::SEEDED;
use crate::ops::chain::{
    InputRow, NoiseSums, OperandFormat, RowNoise, Saved, accumulate, code_row, code_rows,
    convert_row, x_norm_sq_of_row,
};
use crate::ops::sizes::Sizes;
use crate::pack::{Side, pack_floats, pack_rows, round_to_bf16};
use crate::packing::{Arithmetic, Packing};
use crate::quantizer::Converter;
use crate::scratch::Scratch;
use crate::vector::prefetch_all;

/// Rows that one chunk computes, whatever the number of threads: sums over them come first.
pub(super) const GROUP: usize = 8;
// Their random words are drawn together.
const _: () = assert!(GROUP <= SEEDED);

/// Some rows of dz, and of x as the product of dw needs them, in groups of [`GROUP`] rows.
pub(super) struct Block {
    /// f32\[rows, columns\]
    pub(super) dz: StageBuffer<f32>,
    /// dz as the lhs of dx, words\[rows, words of columns\]; empty where that is `dz`.
    pub(super) dz_packed: StageBuffer<u32>,
    /// What one code of a row of `dz_packed` stands for.
    pub(super) dz_scale: StageBuffer<f32>,
    /// Random bits that round dz for dw, \[rows, columns\].
    pub(super) bits: StageBuffer<u16>,
    /// x as the lhs of dw, words\[words of rows, depth\]; empty where that is x itself.
    pub(super) x_packed: StageBuffer<u32>,
    /// Of each row, what came of x.
    pub(super) inputs: StageBuffer<InputRow>,
    /// Of each row, Σ h·ε/σ.
    pub(super) noise_cotangent: StageBuffer<f32>,
    /// By group of rows and column: Σ dz, Σ g·∂out/∂y_full_scale, and the largest |dz · step of x|.
    pub(super) bias: StageBuffer<f32>,
    pub(super) y_full_scale: StageBuffer<f32>,
    pub(super) peaks: StageBuffer<u32>,
}

impl Block {
    /// Room for `rows` rows.
    pub(super) fn new(context: &Context<'_>, rows: usize) -> Self {
        let Context { isa, sizes: Sizes { depth, columns, .. }, dx, dw, .. } = *context;
        let groups = Self::groups(rows);
        let when = |needed: bool, count: usize| if needed { count } else { 0 };
        let rounds = context.rounds();
        let dz_packed = rows * dx.packing(isa).packed_len(columns);
        let x_packed = dw.packing(isa).packed_len(rows) * depth;
        Self {
            dz: StageBuffer::scratch(rows * columns),
            dz_packed: StageBuffer::scratch(when(
                dx.arithmetic != Arithmetic::F32 || rounds,
                dz_packed,
            )),
            dz_scale: StageBuffer::scratch(rows),
            bits: StageBuffer::scratch(when(rounds, rows * columns)),
            x_packed: StageBuffer::scratch(when(!dw.is_in_place(), x_packed)),
            inputs: StageBuffer::new(InputRow::default(), rows),
            noise_cotangent: StageBuffer::scratch(rows),
            bias: StageBuffer::scratch(groups * columns),
            y_full_scale: StageBuffer::scratch(when(context.request.with_ranges, groups * columns)),
            peaks: StageBuffer::scratch(when(rounds, groups * columns)),
        }
    }

    /// Groups of `rows` rows.
    pub(super) fn groups(rows: usize) -> usize {
        rows.div_ceil(GROUP)
    }

    /// Computes a group of the block, which holds the rows `rows` of the call. Writes the gradients
    /// of the noise of these rows to `dnoise`, four for each.
    pub(super) fn fill(
        &self,
        context: &Context<'_>,
        rows: &Range<usize>,
        group: usize,
        dnoise: &mut [f32],
    ) {
        let columns = context.sizes.columns;
        let local = group * GROUP..rows.len().min((group + 1) * GROUP);
        let part = Group { context, rows: rows.start + local.start..rows.start + local.end };
        context.prefetch(part.rows.start);

        let norms = part.x_norms();
        let mut inputs = self.inputs.write(local.clone());
        if !context.dw.is_in_place() {
            let packing = context.dw.packing(context.isa);
            let depth = context.sizes.depth;
            let at = packing.packed_len(local.start) * depth..packing.packed_len(local.end) * depth;
            part.pack_inputs(&mut self.x_packed.write(at), &mut inputs);
        }

        let of_group = group * columns..(group + 1) * columns;
        let with_ranges = context.request.with_ranges;
        let mut dz = self.dz.write(local.start * columns..local.end * columns);
        let mut bias = self.bias.write(of_group.clone());
        let ranges = if with_ranges { of_group.clone() } else { 0..0 };
        let mut y_full_scale = self.y_full_scale.write(ranges);
        let mut sums = [NoiseSums::default(); GROUP];
        let by_column = ColumnSums { bias: &mut bias, y_full_scale: &mut y_full_scale };
        part.fill_dz(&mut dz, by_column, &mut sums[..local.len()], &norms);
        let mut cotangents = self.noise_cotangent.write(local.clone());
        for (out, sums) in cotangents.iter_mut().zip(&sums) {
            *out = sums.cotangent();
        }
        for ((row, dnoise), (sums, norm)) in
            part.rows.clone().zip(dnoise.chunks_exact_mut(4)).zip(sums.iter().zip(norms))
        {
            let noise = context.operands.noise.coefficients(row).filter(|_| with_ranges);
            let gradient = noise.map_or([0.0; 4], |noise| noise.gradient(sums, norm));
            dnoise.copy_from_slice(&gradient);
        }

        if !(context.rounds()
            || context.dx.arithmetic == Arithmetic::Bf16 && context.needs_inputs())
        {
            return;
        }
        let packed_len = context.dx.packing(context.isa).packed_len(columns);
        let mut packed = self.dz_packed.write(local.start * packed_len..local.end * packed_len);
        if context.rounds() {
            let out = Rounded {
                packed: &mut packed,
                scales: &mut self.dz_scale.write(local.clone()),
                rest: &mut self.bits.write(local.start * columns..local.end * columns),
                peaks: &mut self.peaks.write(of_group),
            };
            part.round_dz(out, &dz, &inputs);
        } else {
            part.narrow_dz(&mut packed, &dz);
        }
    }
}

/// Sums over the rows of a group, by column.
struct ColumnSums<'a> {
    bias: &'a mut [f32],
    y_full_scale: &'a mut [f32],
}

/// The rows of a group, as the call numbers them.
struct Group<'c, 'a> {
    context: &'c Context<'a>,
    rows: Range<usize>,
}

impl Group<'_, '_> {
    /// ‖x_q‖² of the rows whose noise depends on it.
    fn x_norms(&self) -> [f64; GROUP] {
        let Context { isa, x, operands, is_integer, .. } = self.context;
        let mut norms = [0.0; GROUP];
        for (norm, row) in norms.iter_mut().zip(self.rows.clone()) {
            if operands.noise.needs_x_norm(row) {
                *norm = x_norm_sq_of_row(*isa, x.row(row), operands, row, *is_integer);
            }
        }
        norms
    }

    /// Converts the rows of x, as words of the lhs of dw.
    fn pack_inputs(&self, packed: &mut [u32], inputs: &mut [InputRow]) {
        let Context { isa, sizes, dw, .. } = *self.context;
        let depth = sizes.depth;
        let packing = dw.packing(isa);
        let group = packing.values_per_word();
        if dw.format == OperandFormat::Code {
            for (word, inputs) in inputs.chunks_mut(group).enumerate() {
                let row = self.rows.start + word * group;
                let (packed, rows) =
                    (&mut packed[word * depth..][..depth], row..row + inputs.len());
                let Context { x, ref operands, .. } = *self.context;
                let coded = code_rows(isa, packed, |row| x.row(row), operands, rows, packing);
                inputs.copy_from_slice(&coded[..inputs.len()]);
            }
        } else if packing == Packing::F32 {
            // Words are the numbers.
            let numbers = bytemuck::cast_slice_mut(packed);
            self.convert_inputs(numbers, inputs);
            if dw.arithmetic == Arithmetic::Bf16 {
                round_to_bf16(isa, numbers);
            }
        } else {
            let mut numbers = Scratch::new(GROUP * depth);
            self.convert_inputs(&mut numbers, inputs);
            // Rows beyond the last.
            numbers[inputs.len() * depth..].fill(0.0);
            for (word, out) in packed.chunks_exact_mut(depth.max(1)).enumerate() {
                let rows = std::array::from_fn(|g| {
                    let at = (word * group + g).min(GROUP - 1);
                    &numbers[at * depth..][..depth]
                });
                pack_rows(isa, out, rows, packing);
            }
        }
    }

    /// Writes the rows of x as they are, or their levels.
    fn convert_inputs(&self, numbers: &mut [f32], inputs: &mut [InputRow]) {
        let Context { isa, sizes, dw, ref operands, is_integer, .. } = *self.context;
        let depth = sizes.depth;
        for (index, (row, input)) in self.rows.clone().zip(inputs).enumerate() {
            let out = &mut numbers[index * depth..][..depth];
            let x = self.context.x.row(row);
            if dw.format == OperandFormat::Exact {
                out.copy_from_slice(x);
            } else if is_integer {
                let codes = bytemuck::cast_slice_mut(out);
                *input = code_row(isa, codes, x, operands, row, (Packing::F32, Side::Left));
                scale(isa, out, input.step);
            } else {
                *input = convert_row(isa, out, x, operands, row);
            }
        }
    }

    /// Writes dz, and adds to the sums along the rows and the columns.
    fn fill_dz(
        &self,
        dz: &mut [f32],
        by_column: ColumnSums<'_>,
        by_row: &mut [NoiseSums],
        norms: &[f64; GROUP],
    ) {
        let context = self.context;
        let columns = context.sizes.columns;
        let at = self.rows.start * columns..self.rows.end * columns;
        let ColumnSums { bias, y_full_scale } = by_column;
        bias.fill(0.0);
        y_full_scale.fill(0.0);
        let mut epsilon = Scratch::default();
        match context.saved {
            Saved::Slope(slope) => {
                let slope = (slope.from(self.rows.start), slope.stride);
                by_slope(context.isa, dz, bias, &context.g[at], slope);
            }
            Saved::Signs(signs) => self.fill_by_signs(dz, bias, signs, &mut epsilon),
            Saved::PreNoise(y) => {
                let dz = dz.chunks_exact_mut(columns.max(1));
                let rows = self.rows.clone().zip(by_row).zip(norms);
                for (((row, sums), x_norm_sq), dz) in rows.zip(dz) {
                    if row + 1 < self.rows.end {
                        context.prefetch(row + 1);
                    }
                    let coefficients = context.operands.noise.coefficients(row);
                    let noise = coefficients
                        .map(|coefficients| RowNoise { coefficients, x_norm_sq: *x_norm_sq });
                    self.fill_by_pre_noise(dz, (row, y), noise, sums, y_full_scale, &mut epsilon);
                    accumulate(context.isa, bias, dz);
                }
            }
        }
    }

    /// Writes dz from the signs, and adds it to `bias`.
    fn fill_by_signs(
        &self,
        dz: &mut [f32],
        bias: &mut [f32],
        signs: Matrix<'_, i8>,
        epsilon: &mut Scratch<f32>,
    ) {
        let Context { isa, sizes, g, ref operands, .. } = *self.context;
        let (columns, first, last) = (sizes.columns, self.rows.start, self.rows.end);
        let piece = |rows: Range<usize>, range: Range<usize>, epsilon: &mut [f32]| {
            for (row, epsilon) in rows.zip(epsilon.chunks_exact(range.len())) {
                if range.start == 0 && row + 1 < last {
                    self.context.prefetch(row + 1);
                }
                let of = |row: usize| row * columns + range.start..row * columns + range.end;
                let noise = operands.noise.coefficients(row);
                let noise = noise.map(|noise| (noise.relative(), epsilon));
                let dz = &mut dz[of(row - first)];
                let signs = &signs.row(row)[range.clone()];
                by_signs(isa, dz, &mut bias[range.clone()], &g[of(row)], signs, noise);
            }
        };
        operands.noise.for_each_piece(isa, self.rows.clone(), 0..columns, epsilon, piece);
    }

    /// Writes a row of dz from y, and adds to its sums and to those of `y_full_scale`.
    fn fill_by_pre_noise(
        &self,
        dz: &mut [f32],
        (row, y): (usize, Matrix<'_, f32>),
        noise: Option<RowNoise>,
        sums: &mut NoiseSums,
        y_full_scale: &mut [f32],
        epsilon: &mut Scratch<f32>,
    ) {
        let Context { isa, sizes, ref operands, ref adcs, request, .. } = *self.context;
        let columns = sizes.columns;
        let (g, y) = (&self.context.g[row * columns..(row + 1) * columns], y.row(row));
        let with_ranges = request.with_ranges;
        let with_sums = with_ranges || operands.noise.needs_x_norm(row);
        let piece = |_, range: Range<usize>, epsilon: &mut [f32]| {
            let adc = (!request.chain.adc.is_off())
                .then(|| Converter::Each(adcs.columns(range.start, range.len())));
            let (g, y) = (&g[range.clone()], &y[range.clone()]);
            let complex = request.chain.complex;
            let part = Upstream { g, y, adc, noise, epsilon, complex };
            let sums = with_sums.then_some(&mut *sums);
            let y_full_scale = with_ranges.then(|| &mut y_full_scale[range.clone()]);
            upstream(isa, &mut dz[range], &part, sums, y_full_scale);
        };
        operands.noise.for_each_piece(isa, row..row + 1, 0..columns, epsilon, piece);
    }

    /// Rounds dz at random, as words of the lhs of dx; codes take the random bits of dw with theirs.
    fn round_dz(&self, out: Rounded<'_>, dz: &[f32], inputs: &[InputRow]) {
        let Context { isa, sizes, dx, dw, ref operands, .. } = *self.context;
        let mut random = Scratch::new(self.rows.len() * sizes.columns);
        operands.noise.rounding_bits(isa, self.rows.clone(), &mut random);
        let mut steps = [1.0; GROUP];
        if dw.format == OperandFormat::Code {
            for (step, input) in steps.iter_mut().zip(inputs) {
                *step = input.step;
            }
        }
        let by_row = &steps[..inputs.len()];
        let by_column = &self.context.dx_steps;
        let upstream = rounding::Upstream { dz, by_column, by_row, random: &random };
        round_by_row(isa, out, &upstream, dx.packing(isa));
    }

    /// Rounds dz to bfloat16, as words of the lhs of dx.
    fn narrow_dz(&self, packed: &mut [u32], dz: &[f32]) {
        let Context { isa, sizes, dx, ref dx_steps, .. } = *self.context;
        let packing = dx.packing(isa);
        let mut values = Scratch::new(sizes.columns);
        let rows = dz.chunks_exact(sizes.columns.max(1));
        for (out, dz) in packed.chunks_exact_mut(packing.packed_len(sizes.columns).max(1)).zip(rows)
        {
            multiply_each(isa, &mut values, dz, dx_steps);
            if packing == Packing::F32 {
                round_to_bf16(isa, &mut values);
            }
            pack_floats(isa, out, &values, packing);
        }
    }
}

impl Context<'_> {
    /// Asks for what is read of row `row`, which is used soon.
    fn prefetch(&self, row: usize) {
        prefetch_all(&self.g[row * self.sizes.columns..(row + 1) * self.sizes.columns]);
        match self.saved {
            Saved::PreNoise(values) | Saved::Slope(values) => prefetch_all(values.row(row)),
            Saved::Signs(signs) => prefetch_all(signs.row(row)),
        }
    }
}
