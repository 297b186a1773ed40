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

/// What the queries of a head see.
struct Look {
    /// How many keys one of them sees, and how many one is computed with.
    most: usize,
    count: usize,
    seen: Vec<i32>,
    bad: Vec<usize>,
    may_overflow: bool,
}

impl Look {
    fn new(call: &Call<'_>, place: [usize; 2]) -> Self {
        let (isa, sizes, infinity) = (call.isa, call.sizes, f32::INFINITY.to_bits());
        let given = call.seen.at(place);
        let seen_of = |row: usize| usize::try_from(given[row]).unwrap_or(0).min(sizes.keys);
        let most = (0..sizes.queries).map(seen_of).max().unwrap_or(0);
        // All before the first key or value that is not finite.
        let (mut usable, mut of_keys) = (0, 0);
        while usable < most {
            let of_key = largest(isa, &call.k[sizes.k_at(place, usable)]);
            let of_value = largest(isa, &call.v[sizes.v_at(place, usable)]);
            if of_key.max(of_value) >= infinity {
                break;
            }
            of_keys = of_keys.max(of_key);
            usable += 1;
        }
        let (mut seen, mut bad) = (vec![0; sizes.queries], vec![0; sizes.queries]);
        let (mut count, mut of_queries) = (0, 0);
        for row in (0..sizes.queries).filter(|row| seen_of(*row) > 0) {
            let (sees, of_query) = (seen_of(row), largest(isa, &call.q[sizes.q_at(place, row)]));
            if sees > usable || of_query >= infinity {
                bad[row] = sees;
            } else {
                seen[row] = sees as i32;
                (count, of_queries) = (count.max(sees), of_queries.max(of_query));
            }
        }
        let [of_queries, of_keys] = [of_queries, of_keys].map(f32::from_bits).map(f64::from);
        let may_overflow = of_queries * of_keys * sizes.depth as f64 > f64::from(f32::MAX) / 2.0;
        Self { most, count, seen, bad, may_overflow }
    }
}

impl Ranges {
    /// Those that are given, and those that are found, of the keys that a query sees.
    fn new(call: &Call<'_>, place: [usize; 2], most: usize) -> Self {
        let sizes = call.sizes;
        let range = |index: usize, rows: usize, row: &dyn Fn(usize) -> Range<usize>| {
            let of = [call.q, call.k, &[], call.v][index.min(3)];
            match call.ranges[index].at(place) {
                [given, ..] => *given,
                [] if call.request.chain.dac.is_off() => 1.0,
                [] => (0..rows).map(|at| peak_of(call.isa, &of[row(at)])).fold(0.0, f32::max),
            }
        };
        let given = |index: usize| range(index, 0, &|_| 0..0);
        Self {
            q: range(0, sizes.queries, &|row| sizes.q_at(place, row)),
            k: range(1, most, &|row| sizes.k_at(place, row)),
            p: given(2),
            v: range(3, most, &|row| sizes.v_at(place, row)),
            scores: given(4),
            out: given(5),
        }
    }
}

impl<'c, 'a> Head<'c, 'a> {
    /// Gathers what the head `index` of all is computed of.
    pub(super) fn new(call: &'c Call<'a>, index: usize) -> Result<Self, Error> {
        let (sizes, place) = (call.sizes, call.place(index));
        let Look { most, count, seen, bad, may_overflow } = Look::new(call, place);
        let ranges = Ranges::new(call, place, most);
        let gather = |from: &[f32], width: usize, row: &dyn Fn(usize) -> Range<usize>| {
            let mut all = Scratch::new(count * width);
            for (index, out) in all.chunks_exact_mut(width.max(1)).enumerate() {
                out.copy_from_slice(&from[row(index)]);
            }
            all
        };
        let keys = gather(call.k, sizes.depth, &|row| sizes.k_at(place, row));
        let values = gather(call.v, sizes.width, &|row| sizes.v_at(place, row));
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
