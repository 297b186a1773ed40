//! One head: its keys and values as far as some query sees them, and its ranges.

use std::ops::Range;

use super::call::Call;
use crate::isa::for_each_isa;
use crate::ops::chain::peak_of;
use crate::ops::forward;
use crate::scratch::Scratch;
use crate::vector::{TRANSPOSED, transpose};
use crate::{Data, Error, View};

/// Full scales of the converters of a head.
#[derive(Clone, Copy)]
pub(super) struct Ranges {
    pub(super) q: f32,
    pub(super) k: f32,
    pub(super) p: f32,
    pub(super) v: f32,
    pub(super) scores: f32,
    pub(super) out: f32,
}

/// One head of a call.
///
/// A query is bad where a number of it, or of a key or value that it sees, is not finite. All that
/// comes of it is NaN, and nothing of it is computed: to the products it is a query that sees
/// nothing.
pub(super) struct Head<'c, 'a> {
    pub(super) call: &'c Call<'a>,
    /// Example, and head of it.
    pub(super) place: [usize; 2],
    /// How many keys each query is computed with.
    pub(super) seen: Vec<i32>,
    /// How many a bad query sees; 0 of the others.
    pub(super) bad: Vec<usize>,
    pub(super) ranges: Ranges,
    /// The keys that are computed with: \[count, depth\].
    pub(super) keys: Scratch<f32>,
    /// The same as columns, \[depth, count\]; empty unless the products are plain ones.
    pub(super) keys_across: Scratch<f32>,
    /// \[count, width\]
    pub(super) values: Scratch<f32>,
    pub(super) count: usize,
    /// Whether a plain product of a query and a key may be beyond f32.
    pub(super) may_overflow: bool,
    /// q · kᵀ, with the keys packed.
    pub(super) scores: forward::Request,
}

impl<'c, 'a> Head<'c, 'a> {
    /// Gathers what the head `index` of all is computed of.
    pub(super) fn new(call: &'c Call<'a>, index: usize) -> Result<Self, Error> {
        let (isa, sizes, place) = (call.isa, call.sizes, call.place(index));
        let query = |row: usize| &call.q[sizes.q_at(place, row)];
        let key = |row: usize| &call.k[sizes.k_at(place, row)];
        let value = |row: usize| &call.v[sizes.v_at(place, row)];
        let given = call.seen.at(place);
        let seen_of = |row: usize| usize::try_from(given[row]).unwrap_or(0).min(sizes.keys);
        let most = (0..sizes.queries).map(seen_of).max().unwrap_or(0);
        let infinity = f32::INFINITY.to_bits();
        let is_finite = |values: &[f32]| largest(isa, values) < infinity;
        let first_bad = (0..most).find(|&row| !is_finite(key(row)) || !is_finite(value(row)));
        let count = first_bad.unwrap_or(most);
        let (mut seen, mut bad) = (vec![0; sizes.queries], vec![0; sizes.queries]);
        let mut largest_query = 0;
        for row in 0..sizes.queries {
            let (sees, of_query) = (seen_of(row), largest(isa, query(row)));
            if sees > count || sees > 0 && of_query >= infinity {
                bad[row] = sees;
            } else {
                seen[row] = sees as i32;
                largest_query = largest_query.max(if sees > 0 { of_query } else { 0 });
            }
        }
        let largest_key = (0..count).map(|row| largest(isa, key(row))).max().unwrap_or(0);
        let [of_queries, of_keys] = [largest_query, largest_key].map(f32::from_bits);
        let bound = f64::from(of_queries) * f64::from(of_keys) * sizes.depth as f64;
        let may_overflow = bound > f64::from(f32::MAX) / 2.0;
        let count = seen.iter().copied().max().unwrap_or(0) as usize;
        let is_dac_off = call.request.chain.dac.is_off();
        let range = |index: usize, peak: &dyn Fn() -> f32| match call.ranges[index].at(place) {
            [given, ..] => *given,
            [] if is_dac_off => 1.0,
            [] => peak(),
        };
        let peak = |rows: usize, row: &dyn Fn(usize) -> &'a [f32]| {
            (0..rows).map(|index| peak_of(isa, row(index))).fold(0.0, f32::max)
        };
        let ranges = Ranges {
            q: range(0, &|| peak(sizes.queries, &query)),
            k: range(1, &|| peak(most, &key)),
            p: range(2, &|| 1.0),
            v: range(3, &|| peak(most, &value)),
            scores: range(4, &|| 1.0),
            out: range(5, &|| 1.0),
        };
        let gather = |width: usize, row: &dyn Fn(usize) -> &'a [f32]| {
            let mut all = Scratch::new(count * width);
            for (index, out) in all.chunks_exact_mut(width.max(1)).enumerate() {
                out.copy_from_slice(row(index));
            }
            all
        };
        let (keys, values) = (gather(sizes.depth, &key), gather(sizes.width, &value));
        let is_exact = call.request.is_exact();
        let mut keys_across = Scratch::new(if is_exact { keys.len() } else { 0 });
        if is_exact {
            across(call, &mut keys_across, &keys, count, sizes.depth);
        }
        let scores = &call.request.scores;
        let prepared = if is_exact || count == 0 {
            None
        } else {
            let (shape, full_scale) = ([count, sizes.depth], [ranges.k]);
            let w = View::new(&shape, Data::F32(&keys))?;
            let full_scale = View::new(&[1], Data::F32(&full_scale))?;
            scores.prepared(&[None, Some(w), None, None, Some(full_scale)])?
        };
        let scores = prepared.unwrap_or_else(|| scores.clone());
        Ok(Self {
            call,
            place,
            seen,
            bad,
            ranges,
            keys,
            keys_across,
            values,
            count,
            may_overflow,
            scores,
        })
    }

    /// How many keys some of these queries are computed with.
    pub(super) fn count_of(&self, rows: &Range<usize>) -> usize {
        self.seen[rows.clone()].iter().copied().max().unwrap_or(0) as usize
    }

    /// Queries, those of bad ones as 0.
    pub(super) fn queries(&self, rows: &Range<usize>) -> Scratch<f32> {
        let (sizes, depth) = (self.call.sizes, self.call.sizes.depth);
        let mut queries = Scratch::new(rows.len() * depth);
        for (out, row) in queries.chunks_exact_mut(depth.max(1)).zip(rows.clone()) {
            if self.bad[row] > 0 || self.seen[row] == 0 {
                out.fill(0.0);
            } else {
                out.copy_from_slice(&self.call.q[sizes.q_at(self.place, row)]);
            }
        }
        queries
    }
}

/// Writes the transpose of a matrix of so many rows and columns.
pub(super) fn across(
    call: &Call<'_>,
    out: &mut [f32],
    matrix: &[f32],
    rows: usize,
    columns: usize,
) {
    let words: &[u32] = bytemuck::cast_slice(matrix);
    let out: &mut [u32] = bytemuck::cast_slice_mut(out);
    if columns == 0 {
        return;
    }
    for first in (0..rows).step_by(TRANSPOSED) {
        let mut sources: [&[u32]; TRANSPOSED] = [&[]; TRANSPOSED];
        let count = TRANSPOSED.min(rows - first);
        for (source, row) in sources.iter_mut().zip(words[first * columns..].chunks_exact(columns))
        {
            *source = row;
        }
        transpose(call.isa, &mut out[first..], rows, &sources[..count], columns);
    }
}

impl super::call::Sizes {
    /// Where a query lies.
    pub(super) fn q_at(&self, place: [usize; 2], row: usize) -> Range<usize> {
        self.at(place, self.queries, self.depth, row)
    }

    /// Where a key lies.
    pub(super) fn k_at(&self, place: [usize; 2], row: usize) -> Range<usize> {
        self.at(place, self.keys, self.depth, row)
    }

    /// Where a value lies.
    pub(super) fn v_at(&self, place: [usize; 2], row: usize) -> Range<usize> {
        self.at(place, self.keys, self.width, row)
    }

    /// Where an output, or its gradient, lies.
    pub(super) fn out_at(&self, place: [usize; 2], row: usize) -> Range<usize> {
        self.at(place, self.queries, self.width, row)
    }

    fn at(
        &self,
        [example, head]: [usize; 2],
        rows: usize,
        width: usize,
        row: usize,
    ) -> Range<usize> {
        let start = ((example * rows + row) * self.heads + head) * width;
        start..start + width
    }
}

#[inline(always)]
fn raise_body(bits: &mut u32, values: &[f32]) {
    *bits = values.iter().fold(*bits, |bits, value| bits.max(value.abs().to_bits()));
}

for_each_isa! {
    fn raise(bits: &mut u32, values: &[f32]) = raise_body
}

/// The bits of the largest magnitude; those of infinity and above where one is not finite.
pub(super) fn largest(isa: crate::isa::Isa, values: &[f32]) -> u32 {
    let mut bits = 0;
    raise(isa, &mut bits, values);
    bits
}
