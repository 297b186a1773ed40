//! Weights as packed codes, and ops that take these.

use lumina_kernels::ops::Dequantize;
use lumina_kernels::{Attr, DynOp, Op, ParFor, View};

use super::{Map, Tensor, make, run};

/// A matrix of weights by its codes.
#[derive(Clone, Debug)]
pub struct Coded {
    pub bits: usize,
    /// Of the result of `dequantize`.
    pub shape: Vec<usize>,
    pub transposed: bool,
    pub group: usize,
    /// The operands of `dequantize`.
    pub operands: Vec<Tensor>,
}

/// Codes depth × columns, of which there are some, as words, value by value. What is behind
/// the last row nobody is to look at.
pub fn packed(bits: usize, [depth, columns]: [usize; 2], codes: &[u32]) -> Tensor {
    let (mut words, mut shift) = (vec![], 0);
    for width in [8, 4, 2, 1].into_iter().filter(|width| bits & width != 0) {
        let (first, per_word) = (words.len(), 32 / width);
        words.resize(first + depth.div_ceil(per_word) * columns, 0);
        for index in 0..depth.next_multiple_of(per_word) * columns {
            let (row, column) = (index / columns, index % columns);
            let value = row % per_word;
            let code = codes.get(index).copied().unwrap_or(u32::MAX);
            let field = code >> shift & ((1 << width) - 1);
            words[first + row / per_word * columns + column] |=
                field << (value % 4 * 8 + value / 4 * width);
        }
        shift += width;
    }
    Tensor::U32(vec![words.len() / columns, columns], words)
}

impl Coded {
    /// Weights that a DAC of so many bits with these full scales leaves as they are, of random codes.
    pub fn of_dac(bits: usize, extents: [usize; 2], transposed: bool, full_scale: &[f32]) -> Self {
        let [depth, columns] = extents;
        let most = if bits == 1 { 1 } else { (1u32 << bits) - 2 };
        let codes: Vec<u32> = (0..(depth * columns) as u32)
            .map(|index| index.wrapping_mul(2_654_435_761) >> 7)
            .map(|random| random % (most + 1))
            .collect();
        let step = |full_scale: &f32| match bits {
            1 => 2.0 * full_scale,
            _ => full_scale / ((1 << (bits - 1)) - 1) as f32,
        };
        let zero_point = if bits == 1 { 0.5 } else { ((1 << (bits - 1)) - 1) as f32 };
        Self {
            bits,
            shape: if transposed { vec![columns, depth] } else { vec![depth, columns] },
            transposed,
            group: depth.max(1),
            operands: vec![
                packed(bits, extents, &codes),
                Tensor::F32(vec![1, full_scale.len()], full_scale.iter().map(step).collect()),
                Tensor::F32(vec![1, 1], vec![zero_point]),
                Tensor::F32(vec![0, 1 << bits], vec![]),
            ],
        }
    }

    /// The op that makes numbers of them.
    fn dequantize(&self) -> (Vec<(&'static str, Attr<'static>)>, Dequantize) {
        let shape: Vec<i64> = self.shape.iter().map(|extent| *extent as i64).collect();
        let attrs = vec![
            ("bits", Attr::Int(self.bits as i64)),
            // Attributes of tests live for good.
            ("shape", Attr::Ints(shape.leak())),
            ("transpose", Attr::Bool(self.transposed)),
            ("group", Attr::Int(self.group as i64)),
        ];
        let op = Dequantize::from_attrs(&Map(attrs.iter().copied().collect())).unwrap();
        (attrs, op)
    }

    /// The numbers.
    pub fn numbers(&self, pool: &dyn ParFor) -> Tensor {
        run("dequantize", &self.dequantize().0, &self.operands, pool).unwrap().remove(0)
    }

    /// The op with these codes in place of operand 1, and its operands, where it takes them;
    /// `constants` are the operands that never change.
    pub fn replace(
        &self,
        name: &str,
        attrs: &[(&'static str, Attr<'static>)],
        inputs: &[Tensor],
        constants: &[usize],
    ) -> Option<(Box<dyn DynOp>, Vec<Tensor>)> {
        let of_constant = |(index, input): (usize, &'_ Tensor)| -> Option<_> {
            constants.contains(&index).then(|| input.clone())
        };
        let owned: Vec<Option<Tensor>> = inputs.iter().enumerate().map(of_constant).collect();
        let views: Vec<Option<View<'_>>> =
            owned.iter().map(|tensor| tensor.as_ref().map(Tensor::view)).collect();
        let coded: Vec<View<'_>> = self.operands.iter().map(Tensor::view).collect();
        let op = make(name, attrs).unwrap();
        let op = op.with_codes(1, &self.dequantize().1, &views, &coded).unwrap()?;
        let mut operands = inputs.to_vec();
        operands.splice(1..2, self.operands.clone());
        Some((op, operands))
    }
}
