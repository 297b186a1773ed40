//! The converters of a layer, and their full scales where these are constants of the file.

use std::collections::BTreeMap;

use crate::Model;
use crate::ir::Tensor;

/// Resolution and range of the converters on one side of a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Converter {
    /// Bits; 0 is no converter.
    pub bits: u32,
    /// Full scale.
    pub full_scale: FullScale,
}

/// The full scale of converters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FullScale {
    /// Constants of the file, of which these are the least and the largest.
    Constant {
        /// The least.
        least: f32,
        /// The largest.
        largest: f32,
    },
    /// Each run finds it in its operands.
    Found,
    /// The graph computes it.
    Computed,
}

/// Reads full scales, each constant once.
pub(super) struct Ranges<'a> {
    model: &'a Model,
    known: BTreeMap<u32, FullScale>,
}

impl<'a> Ranges<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { model, known: BTreeMap::new() }
    }

    /// The full scale in a tensor of f32.
    pub(super) fn of(&mut self, tensor: &Tensor) -> FullScale {
        let model = self.model;
        *self.known.entry(tensor.id).or_insert_with(|| {
            // A table of codes is no list of floats.
            let bytes = match &tensor.quantization {
                None => &model.weights()[tensor.stored.range()],
                Some(_) => return FullScale::Computed,
            };
            let (floats, _) = bytes.as_chunks::<4>();
            let floats = floats.iter().map(|&bytes| f32::from_le_bytes(bytes));
            let ends = floats.fold(None, |ends, x| match ends {
                None => Some((x, x)),
                Some((least, largest)) => Some((x.min(least), x.max(largest))),
            });
            ends.map_or(FullScale::Found, |(least, largest)| FullScale::Constant { least, largest })
        })
    }
}
