//! What the forward and the backward op do before they multiply: convert x and w.

use std::ops::Range;

use super::operands::{Chain, Ranges, Sizes, Weights};
use crate::ParFor;
use crate::bytes;
use crate::gemm::Right;
use crate::quantizer::{Form, Quantizers, convert};
use crate::shared::SharedMut;
use crate::simd::{Level, for_each_level, lane_sum, panel_width};

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

/// Converts row `row` of x into codes plus 128.
pub(crate) fn convert_row_to_bytes(
    level: Level,
    out: &mut [u8],
    x: &[f32],
    chain: &Chain,
    ranges: &Ranges<'_>,
    row: usize,
) -> Row {
    let quantizer = chain.dac.quantizer(ranges.x_full_scale.get(row));
    let mut poison = 0.0;
    bytes::convert_row(level, out, x, &quantizer, &mut poison);
    let step = quantizer.step() + poison;
    let mut energy = 0.0;
    if ranges.coefficients(row).is_some_and(|noise| noise.weight != 0.0) {
        bytes::sum_of_squares(level, out, &mut energy);
        energy *= step * step;
    }
    Row { step, energy }
}

#[inline(always)]
fn sum_of_squares_body(values: &[f32], sum: &mut f32) {
    *sum = lane_sum(values.len(), |index| values[index] * values[index]);
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

/// Which axis of the weights runs across the panels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Across {
    /// Columns, for the product x·w: element (depth, column).
    Columns,
    /// Depth, for the product dz·wᵀ: element (column, depth).
    Depth,
}

impl Panels {
    /// Packs the weights as `form` says.
    pub(crate) fn new(
        level: Level,
        weights: &Weights<'_>,
        quantizers: &Quantizers,
        form: Form,
        across: Across,
        pool: &dyn ParFor,
    ) -> Self {
        let Sizes { depth, columns, .. } = weights.sizes;
        let (along, extent) = match across {
            Across::Columns => (depth, columns),
            Across::Depth => (columns, depth),
        };
        let width = panel_width(level);
        let panels = extent.div_ceil(width);
        let mut data = vec![0.0; panels * along * width];
        let shared = SharedMut::new(&mut data);
        pool.run(panels, &|panel, _| {
            let first = panel * width;
            // SAFETY: panels do not overlap, and each is packed by one chunk.
            let out = unsafe { shared.slice(first * along, along * width) };
            let source = Source { weights, quantizers, form, across };
            pack(level, out, width, first..extent.min(first + width), &source);
        });
        Self { data, depth: along, width }
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

/// What a panel is packed from.
struct Source<'a> {
    weights: &'a Weights<'a>,
    quantizers: &'a Quantizers,
    form: Form,
    across: Across,
}

#[inline(always)]
fn pack_body(panel: &mut [f32], stride: usize, range: Range<usize>, source: &Source<'_>) {
    let Source { weights, quantizers, form, across } = source;
    let (along, across_stride) = match across {
        Across::Columns => (weights.depth_stride, weights.column_stride),
        Across::Depth => (weights.column_stride, weights.depth_stride),
    };
    if across_stride == 1 {
        let panel_quantizers = match across {
            Across::Columns => quantizers.columns(range.start, range.len()),
            Across::Depth => quantizers.columns(0, 0),
        };
        for (index, out) in panel.chunks_exact_mut(stride).enumerate() {
            let values = &weights.data[index * along..][range.clone()];
            match across {
                Across::Columns => {
                    for (column, (out, value)) in out.iter_mut().zip(values).enumerate() {
                        *out = form.of(&panel_quantizers.at(column), *value);
                    }
                }
                Across::Depth => {
                    let quantizer = quantizers.at(index);
                    for (out, value) in out.iter_mut().zip(values) {
                        *out = form.of(&quantizer, *value);
                    }
                }
            }
        }
    } else {
        for (lane, index) in range.enumerate() {
            let values = weights.data.get(index * across_stride..).unwrap_or(&[]);
            for (at, (out, value)) in
                panel.iter_mut().skip(lane).step_by(stride).zip(values).enumerate()
            {
                let column = if *across == Across::Columns { index } else { at };
                *out = form.of(&quantizers.at(column), *value);
            }
        }
    }
}

for_each_level! {
    /// Packs one panel of the weights at `range`, rows of the panel `stride` apart.
    fn pack(
        panel: &mut [f32],
        stride: usize,
        range: Range<usize>,
        source: &Source<'_>,
    ) = pack_body
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
