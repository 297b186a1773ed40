//! What the forward and the backward op do before they multiply: convert x and w.

use super::operands::{Chain, Ranges, Sizes, Weights};
use crate::ParFor;
use crate::gemm::Right;
use crate::quantizer::{Form, Quantizers, convert};
use crate::shared::SharedMut;
use crate::simd::{Level, for_each_level, panel_width};

/// One input row as the converters hand it on.
pub(crate) struct Row {
    /// What one unit of the converted values stands for.
    pub(crate) step: f32,
    /// ‖x_q‖²
    pub(crate) energy: f32,
}

/// Converts row `row` of x into `out`, which is not touched where the form is exact.
pub(crate) fn convert_row(
    level: Level,
    out: &mut [f32],
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
    form: Form,
) -> Row {
    let quantizer = chain.dac.quantizer(ranges.x_full_scale.get(row));
    let step = if form == Form::Code { quantizer.step() } else { 1.0 };
    let converted = if form == Form::Exact {
        x
    } else {
        convert(level, out, x, &quantizer, form);
        out
    };
    let mut energy = 0.0;
    if ranges.coefficients(row).is_some_and(|noise| noise.weight != 0.0) {
        sum_of_squares(level, converted, &mut energy);
        energy *= step * step;
    }
    Row { step, energy }
}

#[inline(always)]
fn sum_of_squares_body(values: &[f32], sum: &mut f32) {
    const LANES: usize = 16;
    let mut lanes = [0.0; LANES];
    let chunks = values.chunks_exact(LANES);
    for (lane, value) in chunks.remainder().iter().enumerate() {
        lanes[lane] = value * value;
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    *sum = lanes.iter().sum();
}

for_each_level! {
    /// Sets `sum` to Σ v², summed in 16 lanes.
    fn sum_of_squares(values: &[f32], sum: &mut f32) = sum_of_squares_body
}

/// The form in which the chain multiplies x and w.
pub(crate) fn forms(chain: &Chain, integer: bool) -> (Form, Form) {
    let form = |off: bool| match (integer, off) {
        (true, _) => Form::Code,
        (false, true) => Form::Exact,
        (false, false) => Form::Value,
    };
    (form(chain.dac.is_off()), form(chain.weight.is_off()))
}

/// Converted weights in panels.
pub(crate) struct Panels {
    data: Vec<f32>,
    depth: usize,
    width: usize,
}

impl Panels {
    /// Column panels, for the product x·w.
    pub(crate) fn by_column(
        level: Level,
        weights: &Weights<'_>,
        quantizers: &Quantizers,
        form: Form,
        sizes: Sizes,
        pool: &dyn ParFor,
    ) -> Self {
        let Sizes { depth, columns, .. } = sizes;
        Self::pack(level, depth, columns, pool, |panel, first, width| {
            pack_by_column(level, panel, weights, quantizers, form, first, width);
        })
    }

    /// Depth panels, for the product dz·wᵀ: element (column, depth).
    pub(crate) fn by_depth(
        level: Level,
        weights: &Weights<'_>,
        quantizers: &Quantizers,
        form: Form,
        sizes: Sizes,
        pool: &dyn ParFor,
    ) -> Self {
        let Sizes { depth, columns, .. } = sizes;
        Self::pack(level, columns, depth, pool, |panel, first, width| {
            pack_by_depth(level, panel, weights, quantizers, form, first, width);
        })
    }

    fn pack(
        level: Level,
        depth: usize,
        columns: usize,
        pool: &dyn ParFor,
        pack_panel: impl Fn(&mut [f32], usize, usize) + Sync,
    ) -> Self {
        let width = panel_width(level);
        let panels = columns.div_ceil(width);
        let mut data = vec![0.0; panels * depth * width];
        let shared = SharedMut::new(&mut data);
        pool.run(panels, &|panel, _| {
            let first = panel * width;
            // SAFETY: panels do not overlap, and each is packed by one chunk.
            let out = unsafe { shared.slice(first * depth, depth * width) };
            pack_panel(out, first, width.min(columns - first));
        });
        Self { data, depth, width }
    }

    /// The panels from the one that starts at `column`, a multiple of the panel width.
    pub(crate) fn starting_at(&self, column: usize) -> Right<'_> {
        Right {
            data: &self.data[column * self.depth..],
            depth_stride: self.width,
            panel_stride: self.depth * self.width,
        }
    }
}

/// The right factor: w as it lies in memory, or converted panels of it.
pub(crate) enum Factor<'a> {
    /// Row-major, rows so many elements apart.
    InPlace(&'a [f32], usize),
    /// Converted.
    Packed(Panels),
}

impl Factor<'_> {
    /// The factor from `column` on, a multiple of the panel width.
    pub(crate) fn starting_at(&self, level: Level, column: usize) -> Right<'_> {
        match self {
            Self::InPlace(data, stride) => Right {
                data: data.get(column..).unwrap_or(&[]),
                depth_stride: *stride,
                panel_stride: panel_width(level),
            },
            Self::Packed(panels) => panels.starting_at(column),
        }
    }
}

#[inline(always)]
fn pack_by_column_body<const ROWS: usize, const COLUMNS: usize, const FMA: bool>(
    panel: &mut [f32],
    weights: &Weights<'_>,
    quantizers: &Quantizers,
    form: Form,
    first: usize,
    width: usize,
) {
    let quantizers: [_; COLUMNS] =
        std::array::from_fn(|column| quantizers.at(first + column.min(width - 1)));
    for (depth, out) in panel.chunks_exact_mut(COLUMNS).enumerate() {
        for column in 0..width {
            let value = weights.get(depth, first + column);
            out[column] = form.of(&quantizers[column], value);
        }
    }
}

for_each_level! {
    fn pack_by_column(
        panel: &mut [f32],
        weights: &Weights<'_>,
        quantizers: &Quantizers,
        form: Form,
        first: usize,
        width: usize,
    ) = tiled pack_by_column_body
}

#[inline(always)]
fn pack_by_depth_body<const ROWS: usize, const COLUMNS: usize, const FMA: bool>(
    panel: &mut [f32],
    weights: &Weights<'_>,
    quantizers: &Quantizers,
    form: Form,
    first: usize,
    width: usize,
) {
    for (column, out) in panel.chunks_exact_mut(COLUMNS).enumerate() {
        let quantizer = quantizers.at(column);
        for (depth, out) in out[..width].iter_mut().enumerate() {
            *out = form.of(&quantizer, weights.get(first + depth, column));
        }
    }
}

for_each_level! {
    fn pack_by_depth(
        panel: &mut [f32],
        weights: &Weights<'_>,
        quantizers: &Quantizers,
        form: Form,
        first: usize,
        width: usize,
    ) = tiled pack_by_depth_body
}

/// Quantizers for `columns` columns of w; of no effect where its converter is off.
pub(crate) fn weight_quantizers(chain: &Chain, ranges: &Ranges<'_>, columns: usize) -> Quantizers {
    Quantizers::new(chain.weight, (0..columns).map(|column| ranges.w_full_scale.get(column)))
}

/// Most rows of a block.
pub(crate) const MAX_ROWS_PER_BLOCK: usize = 64;

/// Rows of a block: enough of them to reuse a panel, few enough to feed `workers` threads.
pub(crate) fn rows_per_block(rows: usize, workers: usize) -> usize {
    rows.div_ceil(4 * workers).next_multiple_of(8).clamp(8, MAX_ROWS_PER_BLOCK)
}

/// Columns of a group, so that `blocks` row blocks and the groups feed `workers` threads.
pub(crate) fn columns_per_group(level: Level, columns: usize, groups: usize) -> usize {
    columns.div_ceil(groups.max(1)).next_multiple_of(panel_width(level)).max(panel_width(level))
}
