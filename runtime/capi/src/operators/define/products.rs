//! Products of matrices, and convolutions.

use lumina_kernels::{Attr, DType};
use lumina_runtime::operator::{Operand, Value};

use super::{Builder, Definition, FLOATS, Tensors, windows};
use crate::status::Failure;

/// `c = alpha · a·b + beta · c`, where c is not looked at if beta is 0
///
/// Matrices may have an axis in front, along which all have one extent, or 1, which repeats.
pub(in super::super) fn gemm(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    let [c, a, b] = tensors.all()?;
    tensors.check_type(0, FLOATS)?;
    tensors.check_types_of(0, &[1, 2])?;
    let shapes = [c, a, b].map(batched);
    let [Some([batch, rows, columns]), Some(of_a), Some(of_b)] = shapes else {
        let [c, a, b] = [c, a, b].map(Operand::fact);
        let message = format!("matrices have 2 or 3 axes, got `c` {c}, `a` {a} and `b` {b}");
        return Err(tensors.bad_shape(message));
    };
    let depth = of_a[2];
    let fits = |of: usize| of == batch || of == 1;
    if of_a[1] != rows || of_b[1..] != [depth, columns] || !fits(of_a[0]) || !fits(of_b[0]) {
        let [c, a, b] = [c, a, b].map(Operand::fact);
        let message = format!("`a` {a} times `b` {b} is not `c` {c}");
        return Err(tensors.bad_shape(message));
    }
    let mut programs = Vec::with_capacity(3);
    for (has_alpha, has_beta) in [(false, false), (true, false), (true, true)] {
        let mut builder = Builder::new();
        let mut y = product(tensors, &mut builder, batch, c.fact().shape.len())?;
        if has_alpha {
            let alpha = builder.scalar(0)?;
            y = builder.op("mul", &[y, alpha], &[])?;
        }
        if has_beta {
            let beta = builder.scalar(1)?;
            let before = builder.float(tensors, 0)?;
            let before = builder.op("mul", &[before, beta], &[])?;
            y = builder.op("add", &[y, before], &[])?;
        }
        builder.output(tensors, 0, y)?;
        programs.push(builder.into_program());
    }
    let choose = |scalars: &[f32]| match *scalars {
        [1.0, 0.0] => 0,
        [_, 0.0] => 1,
        _ => 2,
    };
    Ok(Definition { programs, choose, indices: Vec::new() })
}

/// Batch, rows and columns of a matrix or of several.
fn batched(operand: &Operand) -> Option<[usize; 3]> {
    match *operand.fact().shape {
        [rows, columns] => Some([1, rows, columns]),
        [batch, rows, columns] => Some([batch, rows, columns]),
        _ => None,
    }
}

/// The product of tensors 1 and 2, with as many axes as c.
fn product(
    tensors: &Tensors<'_>,
    builder: &mut Builder,
    batch: usize,
    rank: usize,
) -> Result<Value, Failure> {
    let is_plain = batch == 1;
    let mut side = |index: usize| {
        let value = builder.float(tensors, index)?;
        let shape = builder.shape(value);
        let [rows, columns] = [shape[shape.len() - 2], shape[shape.len() - 1]];
        match is_plain {
            true => builder.reshape(value, &[rows, columns]),
            false if shape.len() == 3 => builder.expand(value, &[batch, rows, columns]),
            false => builder.broadcast(value, &[batch, rows, columns], &[1, 2]),
        }
    };
    let (a, b) = (side(1)?, side(2)?);
    let axes: &[i64] = if is_plain { &[] } else { &[0] };
    let first = axes.len() as i64;
    let y = builder.op(
        "dot_general",
        &[a, b],
        &[
            ("lhs_contracting", Attr::Ints(&[first + 1])),
            ("rhs_contracting", Attr::Ints(&[first])),
            ("lhs_batch", Attr::Ints(axes)),
            ("rhs_batch", Attr::Ints(axes)),
        ],
    )?;
    let shape = builder.shape(y);
    match (is_plain, rank) {
        (true, 3) => builder.reshape(y, &[1, shape[0], shape[1]]),
        _ => Ok(y),
    }
}

/// `y[n, o, p] = Σ x[n, c, p·stride + t·dilation - pad] · w[o, c, t] + bias[o]` over channels c and taps t
///
/// Channels of x that w has not are groups, each with outputs of its own.
pub(in super::super) fn conv(
    tensors: &Tensors<'_>,
    pads: *const i64,
    strides: *const i64,
    dilations: *const i64,
    n: usize,
) -> Result<Definition, Failure> {
    let (y, x, w) = (tensors.get(0)?, tensors.get(1)?, tensors.get(2)?);
    tensors.check_type(0, FLOATS)?;
    tensors.check_types_of(0, &[1, 2, 3])?;
    let rank = n.saturating_add(2);
    let is_spatial = (1..=3).contains(&n);
    if !is_spatial || [y, x, w].iter().any(|tensor| tensor.fact().shape.len() != rank) {
        let [y, x, w] = [y, x, w].map(Operand::fact);
        let message = format!(
            "`n` must be 1 to 3, and tensors have n + 2 axes; got {n}, `y` {y}, `x` {x}, `w` {w}"
        );
        return Err(tensors.bad_shape(message));
    }
    // SAFETY: the creation says that there are `n` numbers.
    let [pads, strides, dilations] = unsafe { windows(pads, strides, dilations, n) }?;
    for (name, list, least) in
        [("pads", &pads, 0), ("strides", &strides, 1), ("dilations", &dilations, 1)]
    {
        if let Some(wrong) = list.iter().find(|&&number| number < least) {
            let message = format!("`{name}` must be at least {least}, got {wrong}");
            return Err(tensors.bad_parameter(message));
        }
    }
    let (channels, own) = (x.fact().shape[1], w.fact().shape[1]);
    if own == 0 || !channels.is_multiple_of(own) {
        let message =
            format!("the channels of `w` must divide those of `x`, got {own}, {channels}");
        return Err(tensors.bad_shape(message));
    }
    let mut builder = Builder::new();
    let mut operands = vec![builder.float(tensors, 1)?, builder.float(tensors, 2)?];
    if let Some(bias) = tensors.optional(3) {
        let shape = &y.fact().shape;
        if bias.fact().shape != w.fact().shape[..1] || shape[1] != w.fact().shape[0] {
            let [bias, w, y] = [bias, w, y].map(Operand::fact);
            let message =
                format!("`bias` must have an element for each output, got {bias} for {w}");
            return Err(tensors.bad_shape(format!("{message} and `y` {y}")));
        }
        let bias = builder.float(tensors, 3)?;
        operands.push(builder.broadcast(bias, shape, &[1])?);
    }
    let axes: Vec<i64> = (0..rank as i64).collect();
    let ones = vec![1; n];
    let y = builder.op(
        "fused_conv_general_dilated",
        &operands,
        &[
            ("activation", Attr::Str("none")),
            ("window_strides", Attr::Ints(&strides)),
            ("low", Attr::Ints(&pads)),
            ("high", Attr::Ints(&pads)),
            ("lhs_dilation", Attr::Ints(&ones)),
            ("rhs_dilation", Attr::Ints(&dilations)),
            ("lhs_spec", Attr::Ints(&axes)),
            ("rhs_spec", Attr::Ints(&axes)),
            ("out_spec", Attr::Ints(&axes)),
            ("feature_group_count", Attr::Int((channels / own) as i64)),
            ("batch_group_count", Attr::Int(1)),
        ],
    )?;
    builder.finish(tensors, y)
}

/// `c = a·b` of complex matrices
pub(in super::super) fn complex_matmul(tensors: &Tensors<'_>) -> Result<Definition, Failure> {
    let [c, a, b] = tensors.all()?;
    tensors.check_type(0, &[DType::C64, DType::C128])?;
    tensors.check_types_of(0, &[1, 2])?;
    let facts = [c, a, b].map(Operand::fact);
    let &[&[rows, columns], &[of_a, depth], &[of_b, width]] = &facts.map(|fact| &*fact.shape)
    else {
        let [c, a, b] = facts;
        return Err(tensors.bad_shape(format!("matrices have 2 axes, got {c}, {a} and {b}")));
    };
    if of_a != rows || of_b != depth || width != columns {
        let [c, a, b] = facts;
        return Err(tensors.bad_shape(format!("`a` {a} times `b` {b} is not `c` {c}")));
    }
    let mut builder = Builder::new();
    let (a, b) = (builder.tensor(tensors, 1)?, builder.tensor(tensors, 2)?);
    let y = builder.op(
        "complex_matmul",
        &[a, b],
        &[
            ("dtype", Attr::Str(c.fact().dtype.name())),
            ("transpose_x", Attr::Bool(false)),
            ("transpose_w", Attr::Bool(false)),
        ],
    )?;
    builder.finish(tensors, y)
}
