//! One part of the outputs: product, bias, noise and ADC, tile after tile of the inputs.

use std::ops::Range;

use super::{Forward, Shared};
use crate::disjoint::{DisjointMut, TileMut};
use crate::gemm::{Accumulate, Lhs, Rhs, multiply};
use crate::noise::{self, SEEDED};
use crate::ops::chain::{Common, InputRow, Row, RowNoise, Saved, accumulate, finish};
use crate::scratch::Scratch;

/// Rows and columns of the outputs that one chunk computes.
pub(super) struct Part {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

/// Converted rows of x: words along the depth, tile after tile, and what is known of each row and
/// tile.
pub(super) struct Inputs<'a> {
    pub(super) packed: &'a [u32],
    pub(super) rows: &'a [InputRow],
}

/// Where the products of a tile go and become its outputs.
#[derive(Clone, Copy)]
struct Products<'a> {
    data: &'a DisjointMut<'a, f32>,
    stride: usize,
    /// The row and the column of the outputs that come first.
    first: (usize, usize),
}

impl Products<'_> {
    fn at(&self, rows: &Range<usize>, columns: &Range<usize>) -> TileMut<'_, f32> {
        let (row, column) = self.first;
        let rows = rows.start - row..rows.end - row;
        self.data.tile(self.stride, rows, columns.start - column..columns.end - column)
    }
}

/// What the tiles after the first have for a bias, which it alone adds.
const NO_BIAS: [f32; noise::BLOCK] = [0.0; noise::BLOCK];

impl Forward<'_> {
    /// Computes a part of the outputs from its rows of x; its columns of the weights are packed.
    pub(super) fn compute(&self, part: &Part, inputs: &Inputs<'_>, outputs: &Shared<'_>) {
        let tiles = self.weights.tiles.count();
        let first = Products { data: &outputs.out, stride: self.sizes.columns, first: (0, 0) };
        self.compute_tile(part, 0, inputs, first, outputs);
        let stride = part.columns.len();
        let mut memory = Scratch::new(if tiles > 1 { part.rows.len() * stride } else { 0 });
        let data = &DisjointMut::new(&mut memory);
        let others = Products { data, stride, first: (part.rows.start, part.columns.start) };
        for tile in 1..tiles {
            self.compute_tile(part, tile, inputs, others, outputs);
        }
    }

    /// Computes what a tile gives into `products`, and adds it to the outputs if it is not the first.
    fn compute_tile(
        &self,
        part: &Part,
        tile: usize,
        inputs: &Inputs<'_>,
        products: Products<'_>,
        outputs: &Shared<'_>,
    ) {
        self.multiply(part, tile, inputs, products);
        let (columns, tiles) = (self.sizes.columns, self.weights.tiles.count());
        let packed = self.packed.as_ref().and_then(|packed| packed.steps(tile, &part.columns));
        let coded = self.coded.as_ref().and_then(|coded| coded.steps(&part.columns));
        let steps = packed.as_deref().or(coded);
        let piece = |rows: Range<usize>, range: Range<usize>, epsilon: &mut [f32]| {
            let mut states: [Row<'_>; SEEDED] = Default::default();
            let mut out = products.at(&rows, &range);
            for ((state, row), out) in states.iter_mut().zip(rows.clone()).zip(out.rows_mut()) {
                let input = inputs.rows[(row - part.rows.start) * tiles + tile];
                let coefficients = self.operands.noise.coefficients(row);
                state.out = out;
                state.x_step = input.step;
                state.noise = coefficients
                    .map(|coefficients| RowNoise { coefficients, x_norm_sq: input.x_norm_sq });
            }
            let (rows, range) = (&rows, &range);
            let stride = tiles * columns;
            let of_tile = tile * columns + range.start..tile * columns + range.end;
            let mut saved = outputs.saved.as_ref().map(|saved| {
                saved.as_ref().map(
                    |floats| floats.tile(stride, rows.clone(), of_tile.clone()),
                    |bytes| bytes.tile(stride, rows.clone(), of_tile.clone()),
                )
            });
            match &mut saved {
                None => {}
                Some(Saved::PreNoise(y)) => {
                    for (state, y) in states.iter_mut().zip(y.rows_mut()) {
                        state.saved = Some(Saved::PreNoise(y));
                    }
                }
                Some(Saved::Slope(slope)) => {
                    for (state, slope) in states.iter_mut().zip(slope.rows_mut()) {
                        state.saved = Some(Saved::Slope(slope));
                    }
                }
                Some(Saved::Signs(signs)) => {
                    for (state, signs) in states.iter_mut().zip(signs.rows_mut()) {
                        state.saved = Some(Saved::Signs(signs));
                    }
                }
            }
            let local = range.start - part.columns.start..range.end - part.columns.start;
            let common = Common {
                steps: steps.map(|steps| &steps[local]),
                bias: if tile == 0 { &self.bias[range.clone()] } else { &NO_BIAS[..range.len()] },
                adc: (!self.chain.adc.is_off())
                    .then(|| self.adcs.columns(range.start, range.len())),
                with_peak: outputs.peak.is_some(),
                complex: self.chain.complex,
            };
            finish(self.isa, &mut states[..rows.len()], epsilon, &common);
            if let Some(peaks) = &outputs.peak {
                for (row, state) in rows.clone().zip(&states) {
                    peaks.raise(row, state.peak);
                }
            }
            if tile > 0 {
                let mut sums = outputs.out.tile(columns, rows.clone(), range.clone());
                for (sum, state) in sums.rows_mut().zip(&states) {
                    accumulate(self.isa, sum, state.out);
                }
            }
        };
        let noise = self.operands.noise.of_tile(tile);
        let (rows, columns) = (part.rows.clone(), part.columns.clone());
        noise.for_each_piece(self.isa, rows, columns, &mut Scratch::default(), piece);
    }

    /// x_q · w_q of a part and a tile, in units of the steps.
    fn multiply(&self, part: &Part, tile: usize, of_rows: &Inputs<'_>, products: Products<'_>) {
        let (tiles, depth) = (self.weights.tiles, self.sizes.depth);
        let (words, inputs) = (self.words(tile), tiles.inputs(tile));
        let (packed, row_stride) = if self.packed_len() == 0 {
            let first = part.rows.start * depth + inputs.start;
            (bytemuck::cast_slice(self.x).get(first..).unwrap_or(&[]), depth)
        } else {
            (of_rows.packed.get(words.start..).unwrap_or(&[]), self.packed_len())
        };
        let lhs = Lhs { packed, row_stride, depth_stride: 1 };
        if let Some(coded) = &self.coded {
            let (mut out, columns) = (products.at(&part.rows, &part.columns), part.columns.clone());
            if coded.is_integer() {
                let rows = of_rows.rows[tile..].iter().step_by(tiles.count());
                return coded.multiply_codes(&mut out, (packed, row_stride), rows, inputs, columns);
            }
            return coded.multiply_numbers(&mut out, lhs, inputs, columns);
        }
        let product = |range: Range<usize>, rhs: Rhs<'_>, accumulate: Accumulate<'_>| {
            let mut out = products.at(&part.rows, &range);
            let arithmetic = self.plan.arithmetic;
            multiply(self.isa, arithmetic, &mut out, lhs, rhs, words.len(), accumulate);
        };
        let Some(weights) = &self.packed else {
            let packed = bytemuck::cast_slice(self.weights.rows(&inputs));
            let packed = packed.get(part.columns.start..).unwrap_or(&[]);
            let rhs = Rhs { packed, stride: self.sizes.columns };
            return product(part.columns.clone(), rhs, Accumulate::Overwrite);
        };
        weights.for_each_part(tile, &part.columns, |range, rhs, corrections| {
            let accumulate = if corrections.is_empty() {
                Accumulate::Overwrite
            } else {
                Accumulate::Init(corrections)
            };
            product(range, rhs, accumulate);
        });
    }
}
