//! Sums of products, and attention.

use lumina_kernels::DType;

use super::builder::Builder;
use super::call::{Call, Value, one};
use super::proto::Attribute;

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    match call.node.op.as_str() {
        "dot_general" => one(dot(b, call)?),
        "fused_dot_general" => {
            let product = dot(b, call)?;
            b.finished(product, &call.inputs[2..], &call.text("activation")?)
        }
        "attention" => attention(b, call),
        _ => Ok(None),
    }
}

/// MatMul where the axes are its own, else Einsum.
fn dot(b: &mut Builder<'_>, call: &Call<'_>) -> Result<String, String> {
    let [lhs, rhs] = [&call.inputs[0], &call.inputs[1]];
    let axes = |name| -> Result<Vec<usize>, String> {
        Ok(call.ints(name)?.into_iter().map(|axis| axis as usize).collect())
    };
    let contracting = [axes("lhs_contracting")?, axes("rhs_contracting")?];
    let batch = [axes("lhs_batch")?, axes("rhs_batch")?];
    let count = batch[0].len();
    let is_leading = batch.iter().all(|axes| axes.iter().copied().eq(0..count));
    // Between the batch and the depth, lhs has its rows and rhs its columns.
    if let ([of_lhs], [of_rhs]) = (&*contracting[0], &*contracting[1])
        && is_leading
        && *of_lhs == lhs.rank() - 1
        && rhs.rank() == count + 2
        && (count == 0 || lhs.rank() == count + 2)
        && lhs.rank() > count + 1
    {
        let mut right = rhs.name.clone();
        if *of_rhs == count + 1 {
            let mut permutation: Vec<i64> = (0..rhs.rank() as i64).collect();
            permutation.swap(count, count + 1);
            right = b.transpose(&right, &permutation);
        }
        return Ok(b.op("MatMul", &[&lhs.name, &right], vec![]));
    }
    if lhs.dtype() != DType::F32 {
        return Err(format!("no op of ONNX has such a product of {}", lhs.dtype()));
    }
    let mut letters = 'a'..='z';
    let mut letter = || letters.next().ok_or("it has more axes than there are letters");
    let mut left = vec![None; lhs.rank()];
    let mut right = vec![None; rhs.rank()];
    let pairs =
        |of: &[Vec<usize>; 2]| of[0].iter().copied().zip(of[1].iter().copied()).collect::<Vec<_>>();
    let mut out = String::new();
    for (is_batch, (i, j)) in pairs(&batch)
        .into_iter()
        .map(|pair| (true, pair))
        .chain(pairs(&contracting).into_iter().map(|pair| (false, pair)))
    {
        let name = letter()?;
        (left[i], right[j]) = (Some(name), Some(name));
        if is_batch {
            out.push(name);
        }
    }
    for axis in left.iter_mut().chain(&mut right).filter(|axis| axis.is_none()) {
        let name = letter()?;
        *axis = Some(name);
        out.push(name);
    }
    let word = |axes: Vec<Option<char>>| axes.into_iter().flatten().collect::<String>();
    let equation = format!("{},{}->{out}", word(left), word(right));
    let attributes = vec![Attribute::text("equation", &equation)];
    Ok(b.op("Einsum", &[&lhs.name, &rhs.name], attributes))
}

/// `softmax(scale·q·kᵀ + bias where mask, else fill)·v` of q\[batch…, time…, D\], k\[batch…, S, D\] and
/// v\[batch…, S, E\].
fn attention(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let [q, k, v] = [&call.inputs[0], &call.inputs[1], &call.inputs[2]];
    let (batch, rank) = (k.rank() - 2, q.rank());
    let letter = |index: usize| (b'a' + index as u8) as char;
    let word = |range: std::ops::Range<usize>| range.map(letter).collect::<String>();
    let (of_batch, of_time) = (word(0..batch), word(batch..rank - 1));
    let scores = if rank == batch + 2 {
        let mut permutation: Vec<i64> = (0..k.rank() as i64).collect();
        permutation.swap(batch, batch + 1);
        let keys = b.transpose(&k.name, &permutation);
        b.op("MatMul", &[&q.name, &keys], vec![])
    } else {
        let equation = format!("{of_batch}{of_time}y,{of_batch}zy->{of_batch}{of_time}z");
        b.op("Einsum", &[&q.name, &k.name], vec![Attribute::text("equation", &equation)])
    };
    let scale = b.f32(call.float("scale")? as f32);
    let mut scores = b.op("Mul", &[&scores, &scale], vec![]);
    let (masks, biases): (Vec<&Value>, Vec<&Value>) =
        call.inputs[3..].iter().partition(|value| value.dtype() == DType::Bool);
    let compact = |value: &Value| {
        value.compact.as_ref().map_or_else(|| value.name.clone(), |compact| compact.name.clone())
    };
    for bias in biases {
        scores = b.op("Add", &[&scores, &compact(bias)], vec![]);
    }
    for mask in masks {
        let fill = b.f32(call.float("fill")? as f32);
        scores = b.op("Where", &[&compact(mask), &scores, &fill], vec![]);
    }
    let weights = b.op("Softmax", &[&scores], vec![Attribute::int("axis", -1)]);
    one(if rank == batch + 2 {
        b.op("MatMul", &[&weights, &v.name], vec![])
    } else {
        let equation = format!("{of_batch}{of_time}z,{of_batch}zy->{of_batch}{of_time}y");
        b.op("Einsum", &[&weights, &v.name], vec![Attribute::text("equation", &equation)])
    })
}
