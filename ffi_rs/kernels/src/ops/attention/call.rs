//! The operands of one call.

use crate::isa::Isa;
use crate::ops::chain::{Chain, extents};
use crate::ops::{backward, forward};
use crate::quantizer::Bits;
use crate::{Attrs, DType, Element, Error, Fact, View, Work};

/// Queries of a block. More read packed keys and values less often, fewer leave less of what
/// nobody sees to be computed.
const BLOCK: usize = 128;
/// The same where nothing is packed.
const EXACT_BLOCK: usize = 64;

/// The attributes, as the chains of the two products.
#[derive(Debug)]
pub(crate) struct Request {
    pub(super) chain: Chain,
    /// q · kᵀ
    pub(super) scores: forward::Request,
    /// p · v
    pub(super) outputs: forward::Request,
}

impl Request {
    /// From `dac_bits`, `adc_bits` and `noisy`.
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error> {
        let chain = Chain::of_signals(op, attrs)?;
        if chain.dac == Bits::ONE {
            let message = "`dac_bits` must not be 1, which has no level for a probability of 0";
            return Err(chain.refuse(message.into()));
        }
        Ok(Self {
            chain,
            scores: forward::Request::of(chain, true),
            outputs: forward::Request::of(chain, false),
        })
    }

    /// What the backward op of one of the products is asked for.
    pub(super) fn backward(&self, transpose_weight: bool, with_ranges: bool) -> backward::Request {
        backward::Request {
            chain: self.chain,
            transpose_weight,
            precision: backward::Precision::Float32,
            residual: crate::ops::chain::Residual::PreNoise,
            with_inputs: true,
            with_ranges,
        }
    }

    /// Whether both products are plain ones.
    pub(super) fn is_exact(&self) -> bool {
        self.chain.dac.is_off() && self.chain.adc.is_off() && !self.chain.noisy
    }

    /// The sizes that the operands give, all of which are checked: from q to rows.
    pub(crate) fn sizes(&self, inputs: &[Fact]) -> Result<Sizes, Error> {
        let op = self.chain.op;
        let [q, k, v, seen, scale, ranges @ .., noise, seed, rows] = inputs else {
            return Err(self.chain.refuse(format!("expected 14 operands, got {}", inputs.len())));
        };
        if ranges.len() != RANGES.len() {
            return Err(self.chain.refuse(format!("expected 14 operands, got {}", inputs.len())));
        }
        let four = |name: &str, fact: &Fact| match <[usize; 4]>::try_from(fact.shape.as_slice()) {
            Ok(shape) if fact.dtype == DType::F32 => Ok(shape),
            _ => Err(self.chain.refuse(format!("`{name}` must be f32[m,t,h,d], got {fact}"))),
        };
        let [batch, queries, heads, depth] = four("q", q)?;
        let [_, keys, _, _] = four("k", k)?;
        let [_, _, _, width] = four("v", v)?;
        let by_head = [&[batch][..], &[keys], &[heads]];
        extents(op, "k", k, DType::F32, &[by_head[0], by_head[1], by_head[2], &[depth]])?;
        extents(op, "v", v, DType::F32, &[by_head[0], by_head[1], by_head[2], &[width]])?;
        let (some, many) = ([1, batch], [1, heads]);
        extents(op, "seen", seen, DType::I32, &[&some, &many, &[queries]])?;
        extents(op, "scale", scale, DType::F32, &[&some])?;
        for ((name, is_found), fact) in RANGES.iter().zip(ranges) {
            let least = usize::from(!is_found);
            extents(op, name, fact, DType::F32, &[&[least, 1, batch], &many])?;
        }
        extents(op, "noise", noise, DType::F32, &[&some, &many, &[2], &[4]])?;
        extents(op, "seed", seed, DType::U32, &[&some, &[2]])?;
        // Rows that share an id would share their noise.
        let least = |extent| if self.chain.noisy { [extent, extent] } else { [1, extent] };
        extents(op, "rows", rows, DType::U32, &[&least(batch), &least(heads)])?;
        let block = if self.is_exact() { EXACT_BLOCK } else { BLOCK };
        Ok(Sizes { batch, queries, heads, depth, keys, width, block })
    }
}

/// The full scales by operand, and whether each may be left to the op.
const RANGES: [(&str, bool); 6] = [
    ("q_full_scale", true),
    ("k_full_scale", true),
    ("p_full_scale", false),
    ("v_full_scale", true),
    ("scores_full_scale", false),
    ("out_full_scale", false),
];

/// q is (batch, queries, heads, depth), k (batch, keys, heads, depth), v (batch, keys, heads, width).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) heads: usize,
    pub(crate) depth: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    /// Queries that are computed together.
    pub(super) block: usize,
}

impl Sizes {
    /// Heads of all examples.
    pub(super) fn all_heads(&self) -> usize {
        self.batch * self.heads
    }

    /// Blocks of the queries of a head.
    pub(super) fn blocks(&self) -> usize {
        self.queries.div_ceil(self.block)
    }

    /// About what one thread takes for so many times the two products.
    pub(super) fn nanoseconds(&self, times: usize) -> usize {
        let scores = self.all_heads() * self.queries * self.keys;
        times * scores * (1 + (self.depth + self.width) / PRODUCTS_PER_NANOSECOND)
    }
}

/// Products of two numbers that one thread does in a nanosecond.
const PRODUCTS_PER_NANOSECOND: usize = 30;

/// An operand by example and by head, of which one may stand for all.
#[derive(Clone, Copy)]
pub(super) struct ByHead<'a, T> {
    data: &'a [T],
    /// Numbers of one, and from one to the next example and head; 0 where one stands for all.
    width: usize,
    strides: [usize; 2],
}

impl<'a, T: Element> ByHead<'a, T> {
    /// Of a view whose axes from the third on, or from the second on without heads, are one.
    fn new(view: &View<'a>, has_heads: bool) -> Result<Self, Error> {
        let (data, shape) = (view.data()?, view.shape());
        let heads = if has_heads { shape[1] } else { 1 };
        let width = shape[1 + usize::from(has_heads)..].iter().product();
        let step = |extent: usize, stride: usize| if extent == 1 { 0 } else { stride };
        let strides = [step(shape[0], heads * width), step(heads, width)];
        Ok(Self { data, width, strides })
    }

    /// The numbers of a head; none where there are none of any.
    pub(super) fn at(&self, [example, head]: [usize; 2]) -> &'a [T] {
        let start = example * self.strides[0] + head * self.strides[1];
        self.data.get(start..start + self.width).unwrap_or(&[])
    }
}

/// One call: its operands, and what is the same for all heads.
pub(crate) struct Call<'a> {
    pub(super) isa: Isa,
    pub(super) request: &'a Request,
    pub(super) sizes: Sizes,
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) seen: ByHead<'a, i32>,
    pub(super) scale: ByHead<'a, f32>,
    /// As in [`RANGES`].
    pub(super) ranges: [ByHead<'a, f32>; 6],
    pub(super) noise: ByHead<'a, f32>,
    pub(super) seed: ByHead<'a, u32>,
    pub(super) rows: ByHead<'a, u32>,
    /// 0, 1, 2 …, as many as there are columns of either product.
    pub(super) columns: Vec<u32>,
}

impl<'a> Call<'a> {
    /// Of operands that [`Request::sizes`] has passed.
    pub(crate) fn new(request: &'a Request, inputs: &[View<'a>]) -> Result<Self, Error> {
        let facts: Vec<Fact> = inputs.iter().map(View::fact).collect();
        let sizes = request.sizes(&facts)?;
        let range = |index: usize| ByHead::new(&inputs[5 + index], true);
        Ok(Self {
            isa: Isa::detect(),
            request,
            sizes,
            q: inputs[0].data()?,
            k: inputs[1].data()?,
            v: inputs[2].data()?,
            seen: ByHead::new(&inputs[3], true)?,
            scale: ByHead::new(&inputs[4], false)?,
            ranges: [range(0)?, range(1)?, range(2)?, range(3)?, range(4)?, range(5)?],
            noise: ByHead::new(&inputs[11], true)?,
            seed: ByHead::new(&inputs[12], false)?,
            rows: ByHead::new(&inputs[13], true)?,
            columns: (0..sizes.keys.max(sizes.width) as u32).collect(),
        })
    }

    /// Example and head of a head in the order of all.
    pub(super) fn place(&self, head: usize) -> [usize; 2] {
        [head / self.sizes.heads, head % self.sizes.heads]
    }
}

/// What a run of `times` the two products takes.
pub(crate) fn work(times: u64, sizes: Sizes, inputs: &[Fact], outputs: &[Fact]) -> Work {
    let extents = [sizes.all_heads() * sizes.queries, sizes.keys, sizes.depth + sizes.width];
    Work::of_matmuls(times, extents, inputs, outputs)
}
