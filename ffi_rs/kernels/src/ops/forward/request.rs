//! What is asked of the forward pass, and what is prepared for it.

use std::sync::Arc;

use crate::isa::Isa;
use crate::ops::Dequantize;
use crate::ops::chain::{
    Chain, PackedWeights, ProductPlan, Residual, Weights, by_column, check_ranges_and_noise,
    extents, floats, is_through_dac, is_wide, matrix_of,
};
use crate::ops::sizes::Sizes;
use crate::{Attrs, Error, Fact, Op, View, Work};

/// The attributes of the forward pass, and what is prepared.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) chain: Chain,
    /// Whether w is (N, K) rather than (K, N).
    pub(super) transpose_weight: bool,
    /// Weights that never change.
    pub(super) packed: Option<Arc<PackedWeights>>,
    /// Where the operands of this op are there in place of w, which is what they give.
    pub(super) codes: Option<Dequantize>,
}

impl Request {
    /// Of real or of complex numbers.
    pub(crate) fn from_attrs(
        op: &'static str,
        complex: bool,
        attrs: &dyn Attrs,
    ) -> Result<Self, Error> {
        let chain = Chain { finds_ranges: true, complex, ..Chain::from_attrs(op, attrs)? };
        Ok(Self::of(chain, attrs.bool(op, "transpose_weight")?))
    }

    /// Of a chain, with weights that are (N, K) rather than (K, N) if `transpose_weight`.
    pub(crate) fn of(chain: Chain, transpose_weight: bool) -> Self {
        Self { chain, transpose_weight, packed: None, codes: None }
    }

    /// The same with packed weights, where the weights and their ranges are constant; None where
    /// they are not, or are multiplied as they lie in memory.
    pub(crate) fn prepared(&self, constants: &[Option<View<'_>>]) -> Result<Option<Self>, Error> {
        let (Some(Some(w)), Some(Some(full_scale)), None) =
            (constants.get(1), constants.get(4), &self.codes)
        else {
            return Ok(None);
        };
        let isa = Isa::detect();
        let &[first, second] = matrix_of(self.chain.op, "w", self.chain.dtype(), &w.fact())?;
        let (depth, columns) =
            if self.transpose_weight { (second, first) } else { (first, second) };
        let Sizes { depth, columns, .. } = Sizes { rows: 0, depth, columns }.in_floats(&self.chain);
        let weights = self.weights(w, full_scale, depth, columns)?;
        if weights.is_in_place() || columns == 0 {
            return Ok(None);
        }
        let packed = PackedWeights::new(isa, &weights, 1);
        (0..packed.chunks()).for_each(|chunk| packed.pack(&weights, chunk, None));
        Ok(Some(Self { packed: Some(Arc::new(packed)), ..self.clone() }))
    }

    /// The same with the operands of `codes` in place of w, where a product takes them as they are:
    /// w has no DAC, or one that leaves them as they are with a constant full scale.
    pub(crate) fn with_codes(
        &self,
        codes: &Dequantize,
        full_scale: Option<View<'_>>,
        coded: &[View<'_>],
    ) -> Option<Self> {
        // Views that are no rows of a file are not read by their codes.
        let matrix = codes.coded(coded).ok()?;
        let [depth, columns] = matrix.extents();
        let shape = if self.transpose_weight { [columns, depth] } else { [depth, columns] };
        let lies_alike = codes.is_transposed() == self.transpose_weight && *codes.shape() == shape;
        let through_dac = || {
            let full_scale = full_scale.and_then(|full_scale| full_scale.data().ok());
            full_scale.is_some_and(|full_scale| is_through_dac(&self.chain, &matrix, full_scale))
        };
        let takes = !self.chain.complex
            && lies_alike
            && is_wide(&self.chain, depth)
            && (self.chain.weight.is_off() || through_dac());
        takes.then(|| Self { packed: None, codes: Some(codes.clone()), ..self.clone() })
    }

    /// x, what gives w, and the operands after it.
    pub(crate) fn split<'i, T>(&self, inputs: &'i [T]) -> Option<(&'i T, &'i [T], &'i [T])> {
        let (x, others) = inputs.split_first()?;
        let (of_w, others) = others.split_at_checked(if self.codes.is_some() { 4 } else { 1 })?;
        Some((x, of_w, others))
    }

    /// Bytes of the packed weights, where there are some.
    pub(crate) fn held_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |packed| packed.bytes())
    }

    /// The weights that `w` holds, unless codes do, and what `full_scale` says of their ranges.
    pub(super) fn weights<'a>(
        &self,
        w: &View<'a>,
        full_scale: &View<'a>,
        depth: usize,
        columns: usize,
    ) -> Result<Weights<'a>, Error> {
        Ok(Weights {
            data: if self.codes.is_some() { &[] } else { floats(w)? },
            depth,
            columns,
            transposed: self.transpose_weight,
            complex: self.chain.complex,
            dac: self.chain.weight,
            full_scale: by_column(&self.chain, full_scale.data()?),
            tiles: self.chain.tiles(depth),
            plan: ProductPlan::forward(&self.chain, depth),
        })
    }

    /// The sizes that the operands give, all of which are checked: from x to columns.
    pub(crate) fn sizes(&self, inputs: &[Fact]) -> Result<Sizes, Error> {
        let Self { chain, transpose_weight, .. } = self;
        let Some((x, of_w, [bias, others @ ..])) = self.split(inputs) else {
            let expected = if self.codes.is_some() { 13 } else { 10 };
            let message = format!("expected {expected} operands, got {}", inputs.len());
            return Err(chain.refuse(message));
        };
        let sizes =
            Sizes::of(chain, x, &fact_of_weights(self.codes.as_ref(), of_w)?, *transpose_weight)?;
        let Sizes { rows, columns, .. } = sizes;
        extents(chain.op, "bias", bias, chain.dtype(), &[&[1, columns]])?;
        check_ranges_and_noise(chain, others, rows, columns)?;
        Ok(sizes)
    }

    /// What the op saves: of each tile on its own, where there may be several.
    pub(crate) fn residual(&self, kind: Residual, inputs: &[Fact]) -> Result<Fact, Error> {
        let dtype = kind.dtype(self.chain.dtype());
        Ok(Fact::new(dtype, self.chain.residual_shape(&self.sizes(inputs)?)))
    }

    /// What a run takes.
    pub(crate) fn work(&self, inputs: &[Fact], outputs: &[Fact]) -> Result<Work, Error> {
        let sizes = self.sizes(inputs)?.in_floats(&self.chain);
        Ok(Work::of_matmuls(1, sizes.extents(), inputs, outputs))
    }
}

/// What is known of weights, which these operands give: by codes, or as they are.
pub(crate) fn fact_of_weights(
    codes: Option<&Dequantize>,
    operands: &[Fact],
) -> Result<Fact, Error> {
    match codes {
        Some(codes) => codes.output_shapes(operands).map(|mut facts| facts.remove(0)),
        None => Ok(operands[0].clone()),
    }
}
