//! Runs an op of the list on owned tensors.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod coded;
pub mod oracle;

use std::collections::HashMap;

use lumina_kernels::{
    Attr, Attrs, Complex32, DType, Data, DataMut, DynOp, Error, Fact, OPS, ParFor, Serial, View,
    ViewMut,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Tensor {
    F32(Vec<usize>, Vec<f32>),
    U32(Vec<usize>, Vec<u32>),
    I32(Vec<usize>, Vec<i32>),
    I8(Vec<usize>, Vec<i8>),
    C64(Vec<usize>, Vec<Complex32>),
}

impl Tensor {
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::F32(shape, _)
            | Self::U32(shape, _)
            | Self::I32(shape, _)
            | Self::I8(shape, _)
            | Self::C64(shape, _) => shape,
        }
    }

    pub fn f32(&self) -> &[f32] {
        match self {
            Self::F32(_, data) => data,
            // Real and imaginary parts in turns.
            Self::C64(_, data) => bytemuck::cast_slice(data),
            Self::U32(..) | Self::I32(..) | Self::I8(..) => panic!("not f32"),
        }
    }

    pub fn bits(&self) -> Vec<u32> {
        match self {
            Self::F32(..) | Self::C64(..) => self.f32().iter().map(|v| v.to_bits()).collect(),
            Self::U32(_, data) => data.clone(),
            Self::I32(_, data) => data.iter().map(|v| *v as u32).collect(),
            Self::I8(_, data) => data.iter().map(|v| *v as u32).collect(),
        }
    }

    pub fn fact(&self) -> Fact {
        match self {
            Self::F32(shape, _) => Fact::new(DType::F32, shape.as_slice()),
            Self::U32(shape, _) => Fact::new(DType::U32, shape.as_slice()),
            Self::I32(shape, _) => Fact::new(DType::I32, shape.as_slice()),
            Self::I8(shape, _) => Fact::new(DType::I8, shape.as_slice()),
            Self::C64(shape, _) => Fact::new(DType::C64, shape.as_slice()),
        }
    }

    pub fn view(&self) -> View<'_> {
        match self {
            Self::F32(shape, data) => View::new(shape, Data::F32(data)),
            Self::U32(shape, data) => View::new(shape, Data::U32(data)),
            Self::I32(shape, data) => View::new(shape, Data::I32(data)),
            Self::I8(shape, data) => View::new(shape, Data::I8(data)),
            Self::C64(shape, data) => View::new(shape, Data::C64(data)),
        }
        .expect("a consistent tensor")
    }

    fn view_mut(&mut self) -> ViewMut<'_> {
        match self {
            Self::F32(shape, data) => ViewMut::new(shape, DataMut::F32(data)),
            Self::U32(shape, data) => ViewMut::new(shape, DataMut::U32(data)),
            Self::I32(shape, data) => ViewMut::new(shape, DataMut::I32(data)),
            Self::I8(shape, data) => ViewMut::new(shape, DataMut::I8(data)),
            Self::C64(shape, data) => ViewMut::new(shape, DataMut::C64(data)),
        }
        .expect("a consistent tensor")
    }

    /// A tensor that no op has written.
    fn unwritten(fact: Fact) -> Self {
        let count = fact.shape.iter().product();
        match fact.dtype {
            DType::F32 => Self::F32(fact.shape, vec![UNWRITTEN; count]),
            DType::I8 => Self::I8(fact.shape, vec![UNWRITTEN_BYTE; count]),
            DType::C64 => Self::C64(fact.shape, vec![Complex32::new(UNWRITTEN, UNWRITTEN); count]),
            other => panic!("no op has results of {other}"),
        }
    }

    fn is_written(&self) -> bool {
        match self {
            Self::F32(..) | Self::C64(..) => self.f32().iter().all(|v| *v != UNWRITTEN),
            Self::U32(..) | Self::I32(..) => true,
            Self::I8(_, data) => data.iter().all(|v| *v != UNWRITTEN_BYTE),
        }
    }
}

const UNWRITTEN: f32 = -1.234_567_9e33;
const UNWRITTEN_BYTE: i8 = 99;

pub struct Map(pub HashMap<&'static str, Attr<'static>>);

impl Attrs for Map {
    fn get(&self, name: &str) -> Option<Attr<'_>> {
        self.0.get(name).copied()
    }
}

pub type Named = &'static [(&'static str, Attr<'static>)];

/// Runs op `name`; checks that every result is written in full.
pub fn run(
    name: &str,
    attrs: &[(&'static str, Attr<'static>)],
    inputs: &[Tensor],
    pool: &dyn ParFor,
) -> Result<Vec<Tensor>, Error> {
    run_op(&*make(name, attrs)?, inputs, pool)
}

/// The same after the op is prepared for these inputs, if it has anything to prepare. Operand
/// `unread` is NaN in the run itself: what was made of it is what counts.
pub fn run_prepared(
    name: &str,
    attrs: &[(&'static str, Attr<'static>)],
    inputs: &[Tensor],
    constants: &[usize],
    unread: usize,
) -> Option<Vec<Tensor>> {
    let views: Vec<Option<View<'_>>> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| constants.contains(&index).then(|| input.view()))
        .collect();
    let prepared = make(name, attrs).unwrap().prepare(&views).unwrap()?;
    let mut inputs = inputs.to_vec();
    if let Tensor::F32(_, data) = &mut inputs[unread] {
        data.fill(f32::NAN);
    }
    Some(run_op(&*prepared, &inputs, &Serial).unwrap())
}

pub fn make(name: &str, attrs: &[(&'static str, Attr<'static>)]) -> Result<Box<dyn DynOp>, Error> {
    let entry = OPS.iter().find(|entry| entry.name == name).expect("a known op");
    (entry.make)(&Map(attrs.iter().copied().collect()))
}

pub fn run_op(op: &dyn DynOp, inputs: &[Tensor], pool: &dyn ParFor) -> Result<Vec<Tensor>, Error> {
    let facts: Vec<Fact> = inputs.iter().map(Tensor::fact).collect();
    let mut results: Vec<Tensor> =
        op.output_shapes(&facts)?.into_iter().map(Tensor::unwritten).collect();
    let mut outputs: Vec<ViewMut<'_>> = results.iter_mut().map(Tensor::view_mut).collect();
    let views: Vec<View<'_>> = inputs.iter().map(Tensor::view).collect();
    op.run(&views, &mut outputs, pool)?;
    drop(outputs);
    assert!(results.iter().all(Tensor::is_written), "a result is left unwritten");
    Ok(results)
}

pub fn attrs(
    bits: [i64; 3],
    transpose_weight: bool,
    noisy: bool,
    residual: &'static str,
) -> Vec<(&'static str, Attr<'static>)> {
    vec![
        ("dac_bits", Attr::Int(bits[0])),
        ("weight_bits", Attr::Int(bits[1])),
        ("adc_bits", Attr::Int(bits[2])),
        ("array_rows", Attr::Int(0)),
        ("transpose_weight", Attr::Bool(transpose_weight)),
        ("noisy", Attr::Bool(noisy)),
        ("residual", Attr::Str(residual)),
        ("with_peak", Attr::Bool(false)),
        ("with_x_peak", Attr::Bool(false)),
        ("with_w_peak", Attr::Bool(false)),
        ("grad_precision", Attr::Str("float32")),
        ("with_inputs", Attr::Bool(true)),
        ("with_ranges", Attr::Bool(true)),
    ]
}

/// Numbers in [-1, 1] that look random and are always the same.
pub fn numbers(count: usize, salt: u64) -> Vec<f32> {
    (0..count as u64)
        .map(|i| {
            let mut z = (i + salt.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Operands of `optical_matmul` for (rows, depth, columns).
pub fn operands(
    [rows, depth, columns]: [usize; 3],
    transpose_weight: bool,
    noise: [f32; 4],
) -> Vec<Tensor> {
    let w_shape = if transpose_weight { vec![columns, depth] } else { vec![depth, columns] };
    vec![
        Tensor::F32(vec![rows, depth], numbers(rows * depth, 1)),
        Tensor::F32(w_shape, numbers(depth * columns, 2)),
        Tensor::F32(vec![columns], numbers(columns, 3)),
        Tensor::F32(vec![rows], (0..rows).map(|row| 0.8 + 0.01 * (row % 8) as f32).collect()),
        Tensor::F32(vec![columns], (0..columns).map(|c| 0.7 + 0.02 * (c % 8) as f32).collect()),
        Tensor::F32(vec![columns], (0..columns).map(|c| 2.0 + 0.05 * (c % 8) as f32).collect()),
        Tensor::F32(vec![1, 4], noise.to_vec()),
        Tensor::U32(vec![1, 2], vec![3, 17]),
        Tensor::U32(vec![rows], (0..rows as u32).collect()),
        Tensor::U32(vec![columns], (0..columns as u32).collect()),
    ]
}

/// Coefficients of every noise.
pub const NOISE: [f32; 4] = [0.05, 0.1, 0.2, 0.03];

/// (rows, depth, columns) at and around the borders of tiles.
pub const SIZES: [[usize; 3]; 9] = [
    [0, 3, 5],
    [1, 1, 1],
    [3, 0, 4],
    [2, 5, 0],
    [1, 17, 300],
    [5, 63, 31],
    [7, 65, 33],
    [70, 12, 257],
    [3, 3000, 2],
];

/// The code of a finite `v`, and what one code stands for; `v` and 1 where the converter is off.
pub fn code(v: f32, bits: i64, full_scale: f32) -> (f32, f32) {
    if bits == 0 || bits >= 24 {
        return (v, 1.0);
    }
    if bits == 1 {
        return (if v < 0.0 { -1.0 } else { 1.0 }, full_scale);
    }
    let largest = ((1 << (bits - 1)) - 1) as f32;
    let step = full_scale / largest;
    ((v / step).round_ties_even().clamp(-largest, largest), step)
}

/// The level nearest to a finite `v`.
pub fn quantize(v: f32, bits: i64, full_scale: f32) -> f32 {
    let (code, step) = code(v, bits, full_scale);
    code * step
}

/// Operands of `optical_matmul_grad` for those of `optical_matmul`, whose `pre_noise` this is.
pub fn grad_operands(forward: &[Tensor], pre_noise: Tensor) -> Vec<Tensor> {
    let shape = pre_noise.shape().to_vec();
    let values = numbers(pre_noise.f32().len(), 9);
    let g = match pre_noise {
        Tensor::C64(..) => Tensor::C64(shape, bytemuck::cast_slice(&values).to_vec()),
        _ => Tensor::F32(shape, values),
    };
    let mut inputs = vec![g, pre_noise];
    inputs.extend(
        forward.iter().enumerate().filter(|(index, _)| *index != 2).map(|(_, t)| t.clone()),
    );
    inputs
}

/// The op that gives the output, and on request what its gradient needs.
pub const FORWARD: &str = "optical_matmul_fwd";
/// The op of files: the output alone.
pub const DEPLOYED: &str = "optical_matmul";
/// The op of its gradient.
pub const GRADIENT: &str = "optical_matmul_grad";
pub const PRECISIONS: [&str; 3] = ["float32", "bfloat16", "int8"];
/// Coefficients of no noise.
pub const QUIET: [f32; 4] = [0.0; 4];

pub type Attributes = Vec<(&'static str, Attr<'static>)>;

/// `attrs` with other values for some of them.
pub fn with(mut attrs: Attributes, changes: &[(&'static str, Attr<'static>)]) -> Attributes {
    for (name, value) in changes {
        attrs.retain(|(other, _)| other != name);
        attrs.push((name, *value));
    }
    attrs
}

pub fn precise(attrs: Attributes, precision: &'static str) -> Attributes {
    with(attrs, &[("grad_precision", Attr::Str(precision))])
}

/// Operands of the gradient op, at the outputs of the forward op.
pub fn gradient_operands(
    size: [usize; 3],
    bits: [i64; 3],
    transposed: bool,
    noise: [f32; 4],
) -> (Attributes, Vec<Tensor>) {
    let attrs = attrs(bits, transposed, noise != QUIET, "pre_noise");
    let inputs = operands(size, transposed, noise);
    let pre_noise = run(FORWARD, &attrs, &inputs, &Serial).unwrap().remove(1);
    (attrs, grad_operands(&inputs, pre_noise))
}

/// `attrs` that ask for dx or not, and for the gradients of full scales and noise or not.
pub fn asking(attrs: Attributes, [inputs, ranges]: [bool; 2]) -> Attributes {
    with(attrs, &[("with_inputs", Attr::Bool(inputs)), ("with_ranges", Attr::Bool(ranges))])
}

pub const DX: usize = 0;
pub const DW: usize = 1;
pub const DBIAS: usize = 2;

pub fn with_peak(mut attrs: Attributes) -> Attributes {
    attrs.push(("with_peak", Attr::Bool(true)));
    attrs
}

pub fn bits_of(results: &[Tensor]) -> Vec<Vec<u32>> {
    results.iter().map(Tensor::bits).collect()
}
