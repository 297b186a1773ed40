//! What is asked of the forward pass, and what is prepared for it.

use std::sync::Arc;

use crate::isa::Isa;
use crate::ops::chain::{
    Chain, PackedWeights, ProductPlan, Residual, Weights, by_column, check_ranges_and_noise,
    extents, floats, matrix_of,
};
use crate::ops::sizes::Sizes;
use crate::{Attrs, Error, Fact, View, Work};

/// The attributes of the forward pass, and what is prepared.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) chain: Chain,
    /// Whether w is (N, K) rather than (K, N).
    pub(super) transpose_weight: bool,
    /// Weights that never change.
    pub(super) packed: Option<Arc<PackedWeights>>,
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
        Self { chain, transpose_weight, packed: None }
    }

    /// The same with packed weights, where the weights and their ranges are constant; None where
    /// they are not, or are multiplied as they lie in memory.
    pub(crate) fn prepared(&self, constants: &[Option<View<'_>>]) -> Result<Option<Self>, Error> {
        let (Some(Some(w)), Some(Some(full_scale))) = (constants.get(1), constants.get(4)) else {
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

    /// Bytes of the packed weights, where there are some.
    pub(crate) fn held_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, |packed| packed.bytes())
    }

    /// The weights that `w` holds, and what `full_scale` says of their ranges.
    pub(super) fn weights<'a>(
        &self,
        w: &View<'a>,
        full_scale: &View<'a>,
        depth: usize,
        columns: usize,
    ) -> Result<Weights<'a>, Error> {
        Ok(Weights {
            data: floats(w)?,
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
        let [x, w, bias, others @ ..] = inputs else {
            return Err(chain.refuse(format!("expected 10 operands, got {}", inputs.len())));
        };
        let sizes = Sizes::of(chain, x, w, *transpose_weight)?;
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
