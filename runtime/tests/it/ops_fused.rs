//! Ops that stand for several: against the ops that they stand for, or f64.

use lumina_runtime::{DType, Fact, Tensor};

use crate::build::*;
use crate::proto::{Attr, attr};

fn number(value: f64) -> Attr {
    Attr { value: Some(attr::Value::Number(value)) }
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919) % 1013) as f32 / 250.0 - 2.0).collect()
}

fn tensor(shape: &[usize]) -> Tensor {
    f32s(shape, &numbers(shape.iter().product()))
}

fn fact(shape: &[usize]) -> Fact {
    Fact::new(DType::F32, shape)
}

/// Compares with numbers of f64, to what the roundings of some hundred products of the size of 1 add up
/// to.
fn close(what: &str, got: &Tensor, want: impl IntoIterator<Item = f64>) {
    let view = got.view();
    let got = view.data::<f32>().unwrap();
    let want: Vec<f64> = want.into_iter().collect();
    assert_eq!(got.len(), want.len(), "{what}");
    for (index, (&got, want)) in got.iter().zip(want).enumerate() {
        let off = (f64::from(got) - want).abs();
        assert!(off <= 4e-6 * want.abs().max(1.0), "{what}: {got} is not {want} at {index}");
    }
}

fn one(op: &str, attrs: Attrs<'_>, inputs: &[&Tensor]) -> Tensor {
    let shape = inputs[0].view().shape().to_vec();
    run(op, attrs, inputs, &[fact(&shape)]).remove(0)
}

#[test]
fn activations() {
    let x = tensor(&[3, 40]);
    let each = |f: fn(f64) -> f64| numbers(120).into_iter().map(move |x| f(x.into()));
    let exact = |x: f64| x * 0.5 * libm::erfc(-x / 2f64.sqrt());
    let tanh = |x: f64| x * 0.5 * (1.0 + (0.797_884_560_8 * (x + 0.044715 * x.powi(3))).tanh());
    close("gelu", &one("gelu", &[("approximate", flag(false))], &[&x]), each(exact));
    close("gelu", &one("gelu", &[("approximate", flag(true))], &[&x]), each(tanh));
    let silu = |x: f64| x / (1.0 + (-1.5 * x).exp());
    close("silu", &one("silu", &[("beta", number(1.5))], &[&x]), each(silu));
}

/// As strided views, and in place.
#[test]
fn activations_of_values_that_lie_otherwise() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2, 3]));
    let turned = file.node("transpose", &[x], &[("permutation", ints(&[1, 0]))]);
    let silu = file.node("silu", &[turned], &[("beta", number(1.0))]);
    let twice = file.node("silu", &[silu], &[("beta", number(1.0))]);
    let soft = file.node("softmax", &[twice], &[("axis", int(0))]);
    file.output(soft, "y", DType::F32, &fixed(&[3, 2]));
    let values = [0.5, -1.0, 2.0, 3.0, 0.0, -2.0];
    let mut session = session(&file, 2);
    let input = f32s(&[2, 3], &values.map(|x| x as f32));
    let outputs = session.run(&[input.view()]).unwrap();
    let got = Tensor::from_bytes(outputs[0].fact(), &raw(&outputs[0])).unwrap();
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let e = |row: usize, column: usize| silu(silu(values[column * 3 + row])).exp();
    let want = (0..3).flat_map(|row| {
        (0..2).map(move |column| e(row, column) / (0..3).map(|row| e(row, column)).sum::<f64>())
    });
    close("chain", &got, want);
}

#[test]
fn softmax_along_every_axis() {
    let (shape, x) = ([4, 5, 30], tensor(&[4, 5, 30]));
    let data = numbers(600);
    for axis in 0..3 {
        let step: usize = shape[axis + 1..].iter().product();
        let want = (0..600).map(|index| {
            let start = index - index / step % shape[axis] * step;
            let e = |i: usize| f64::from(data[i]).exp();
            e(index) / (0..shape[axis]).map(|i| e(start + i * step)).sum::<f64>()
        });
        close("softmax", &one("softmax", &[("axis", int(axis as i64))], &[&x]), want);
    }
}

#[test]
fn normalization_along_any_axes() {
    let shape = [3, 4, 5, 2];
    let (x, scale, bias) = (tensor(&shape), tensor(&shape), f32s(&shape, &[0.5; 120]));
    let data: Vec<f64> = numbers(120).into_iter().map(f64::from).collect();
    let all: [&[usize]; 5] = [&[3], &[1, 3], &[0], &[2, 1], &[0, 1, 2, 3]];
    for axes in all {
        for center in [true, false] {
            let index = |i: usize| [i / 40, i / 10 % 4, i / 2 % 5, i % 2];
            let row = |i: usize| {
                let of = index(i);
                (0..120).filter(move |&j| {
                    (0..4).all(|axis| axes.contains(&axis) || index(j)[axis] == of[axis])
                })
            };
            let want: Vec<f64> = (0..120)
                .map(|i| {
                    let row: Vec<f64> = row(i).map(|j| data[j]).collect();
                    let count = row.len() as f64;
                    let mean = if center { row.iter().sum::<f64>() / count } else { 0.0 };
                    let squares = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
                    (data[i] - mean) / (squares / count + 0.01).sqrt()
                })
                .collect();
            let integers: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            let attrs =
                [("axes", ints(&integers)), ("epsilon", number(0.01)), ("center", flag(center))];
            close("alone", &one("normalization", &attrs, &[&x]), want.clone());
            let scaled = want.iter().zip(&data).map(|(y, scale)| y * scale);
            close("scaled", &one("normalization", &attrs, &[&x, &scale]), scaled.clone());
            let all = one("normalization", &attrs, &[&x, &scale, &bias]);
            close("with bias", &all, scaled.map(|y| y + 0.5));
        }
    }
}

/// A product with what is added and done to it gives the bits of the nodes one by one.
#[test]
fn products_and_what_follows_them() {
    let window = [
        ("window_strides", ints(&[1])),
        ("low", ints(&[1])),
        ("high", ints(&[1])),
        ("lhs_dilation", ints(&[1])),
        ("rhs_dilation", ints(&[1])),
        ("lhs_spec", ints(&[0, 2, 1])),
        ("rhs_spec", ints(&[2, 1, 0])),
        ("out_spec", ints(&[0, 2, 1])),
        ("feature_group_count", int(1)),
        ("batch_group_count", int(1)),
    ];
    let dot = dot(&[2], &[0], &[], &[]);
    let cases: [(&str, Attrs<'_>, &[usize]); 2] =
        [("dot_general", &dot, &[7, 6]), ("conv_general_dilated", &window, &[3, 7, 6])];
    for (op, attrs, weights) in cases {
        for activation in ["none", "relu"] {
            let mut file = File::new();
            let x = file.input("x", DType::F32, &fixed(&[2, 5, 7]));
            let residual = file.input("residual", DType::F32, &fixed(&[2, 5, 6]));
            let w = file.tensor("w", &tensor(weights));
            let bias = file.tensor("b", &tensor(&[6]));
            let shape = [("shape", ints(&[2, 5, 6])), ("broadcast_dimensions", ints(&[2]))];
            let bias = file.node("broadcast_in_dim", &[bias], &shape);
            let product = file.node(op, &[x, w], attrs);
            let sum = file.node("add", &[product, bias], &[]);
            let mut last = file.node("add", &[sum, residual], &[]);
            if activation == "relu" {
                let zero = file.tensor("zero", &f32s(&[], &[0.0]));
                last = file.node("max", &[last, zero], &[]);
            }
            let attrs = [attrs, &[("activation", text(activation))]].concat();
            let fused = file.node(&format!("fused_{op}"), &[x, w, bias, residual], &attrs);
            file.output(last, "apart", DType::F32, &fixed(&[2, 5, 6]));
            file.output(fused, "fused", DType::F32, &fixed(&[2, 5, 6]));
            let mut session = session(&file, 2);
            let inputs = [tensor(&[2, 5, 7]), tensor(&[2, 5, 6])];
            let outputs = session.run(&[inputs[0].view(), inputs[1].view()]).unwrap();
            same(op, &outputs[1], &outputs[0]);
        }
    }
}

/// Attention of each query by itself, in f64.
fn attention(
    [q, k, v]: [&[f32]; 3],
    [heads, queries, keys, depth, width]: [usize; 5],
    score: impl Fn(usize, f64) -> f64,
) -> Vec<f64> {
    let mut out = Vec::new();
    for row in 0..heads * queries {
        let head = row / queries;
        let dot = |s: usize| -> f64 {
            let key = (head * keys + s) * depth;
            (0..depth).map(|d| f64::from(q[row * depth + d]) * f64::from(k[key + d])).sum()
        };
        let scores: Vec<f64> = (0..keys).map(|s| score(row * keys + s, dot(s))).collect();
        let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = scores.iter().map(|score| (score - peak).exp()).collect();
        let sum: f64 = e.iter().sum();
        out.extend((0..width).map(|column| {
            let value = |s: usize| f64::from(v[(head * keys + s) * width + column]);
            (0..keys).map(|s| e[s] / sum * value(s)).sum::<f64>()
        }));
    }
    out
}

#[test]
fn attention_of_blocks_is_that_of_each_query() {
    let (lowest, scale) = (f64::from(f32::MIN), 0.3);
    for [queries, keys] in [[1, 9], [5, 7], [150, 150]] {
        let (heads, depth, width) = (6, 8, 4);
        let shapes = [[2, 3, queries, depth], [2, 3, keys, depth], [2, 3, keys, width]];
        let [q, k, v] = shapes.map(|shape| tensor(&shape));
        let data = shapes.map(|shape| numbers(shape.iter().product()));
        let extents = [heads, queries, keys, depth, width];
        let scores = heads * queries * keys;
        let bias: Vec<f32> = (0..scores)
            .map(|i| if i % 5 == 0 || i % keys > 6 { f32::MIN } else { numbers(scores)[i] })
            .collect();
        // Of the third query nothing is seen.
        let mask: Vec<u8> = (0..scores)
            .map(|i| (i / keys % queries != 2 && i % keys <= i / keys % queries).into())
            .collect();
        let shape = [2, 3, queries, keys];
        let (bias_in, mask_in) = (f32s(&shape, &bias), bools(&shape, &mask));
        let of = |score: &dyn Fn(usize, f64) -> f64| {
            attention([&data[0], &data[1], &data[2]], extents, score)
        };
        // Rounded as it is: beside the lowest number a score is nothing.
        let biased = |i: usize, x: f64| f64::from((scale * x) as f32 + bias[i]);
        let masked = |i: usize, x: f64, fill: f64| if mask[i] == 1 { x } else { fill };
        let run = |fill: f64, masks: &[&Tensor]| {
            let attrs = [("scale", number(scale)), ("fill", number(fill))];
            let inputs = [&[&q, &k, &v], masks].concat();
            run("attention", &attrs, &inputs, &[fact(&[2, 3, queries, width])]).remove(0)
        };
        close("plain", &run(0.0, &[]), of(&|_, x| scale * x));
        close("bias", &run(0.0, &[&bias_in]), of(&biased));
        for fill in [lowest, -1e9, -3.0] {
            close("mask", &run(fill, &[&mask_in]), of(&|i, x| masked(i, scale * x, fill)));
            let both = of(&|i, x| masked(i, biased(i, x), fill));
            close("both", &run(fill, &[&mask_in, &bias_in]), both);
        }
    }
}

/// Several axes of time share keys and values: groups of heads.
#[test]
fn attention_of_groups_of_queries() {
    let [q, k, v] = [tensor(&[2, 3, 4, 8]), tensor(&[2, 5, 8]), tensor(&[2, 5, 6])];
    let attrs = [("scale", number(1.0)), ("fill", number(0.0))];
    let got = run("attention", &attrs, &[&q, &k, &v], &[fact(&[2, 3, 4, 6])]).remove(0);
    let data = [192, 80, 60].map(numbers);
    close("groups", &got, attention([&data[0], &data[1], &data[2]], [2, 12, 5, 8, 6], |_, x| x));
}

#[test]
fn what_is_wrong_is_said() {
    let x = fact(&[2, 3]);
    let norm =
        |axes: &[i64]| [("axes", ints(axes)), ("epsilon", number(0.1)), ("center", flag(true))];
    let head = [("scale", number(1.0)), ("fill", number(0.0))];
    let [q, k, v] = [fact(&[2, 4, 8]), fact(&[2, 5, 8]), fact(&[2, 5, 6])];
    let mask = |shape: &[usize]| Fact::new(DType::Bool, shape);
    let dot_of =
        |activation: Attr| [&dot(&[1], &[0], &[], &[])[..], &[("activation", activation)]].concat();
    let w = fact(&[3, 4]);
    for (op, attrs, inputs, expected) in [
        ("gelu", vec![], vec![x.clone()], "attribute `approximate` is missing"),
        ("silu", vec![("beta", int(1))], vec![x.clone()], "attribute `beta` must be a float"),
        (
            "silu",
            vec![("beta", number(1.0))],
            vec![Fact::new(DType::I32, [2])],
            "`operand` of dtype i32 is not supported",
        ),
        ("softmax", vec![("axis", int(2))], vec![x.clone()], "different axes of rank 2, got [2]"),
        ("softmax", vec![("axis", int(-1))], vec![x.clone()], "`axis` must not be negative"),
        ("softmax", vec![("axis", int(0))], vec![], "expected 1 operand, got 0"),
        ("normalization", norm(&[0, 0]).to_vec(), vec![x.clone()], "axes of rank 2, got [0, 0]"),
        (
            "normalization",
            norm(&[1]).to_vec(),
            vec![x.clone(), fact(&[3])],
            "`scale` must have the shape of f32[2,3], got f32[3]",
        ),
        ("normalization", norm(&[1]).to_vec(), vec![], "expected 1 to 3 operands, got 0"),
        ("normalization", norm(&[1]).to_vec(), vec![x.clone(); 4], "1 to 3 operands, got 4"),
        (
            "fused_dot_general",
            dot_of(text("swish")),
            vec![x.clone(), w.clone()],
            "must be none, relu, gelu, gelu_tanh, silu or logistic, got `swish`",
        ),
        ("fused_dot_general", dot_of(text("none")), vec![x.clone()], "at least 2 operands, got 1"),
        (
            "fused_dot_general",
            dot_of(text("none")),
            vec![x.clone(), w.clone(), fact(&[4])],
            "what is added must be f32[2,4] as the product is, got f32[4]",
        ),
        (
            "fused_dot_general",
            dot_of(text("relu")),
            vec![Fact::new(DType::I32, [2, 3]), Fact::new(DType::I32, [3, 4])],
            "`operand` of dtype i32 is not supported",
        ),
        ("attention", head.to_vec(), vec![q.clone(), k.clone()], "3 to 5 operands, got 2"),
        (
            "attention",
            head.to_vec(),
            vec![q.clone(), k.clone(), fact(&[2, 4, 6])],
            "expected q[batch.., time.., D], k[batch.., S, D] and v[batch.., S, E], got f32[2,4,8], \
             f32[2,5,8] and f32[2,4,6]",
        ),
        (
            "attention",
            head.to_vec(),
            vec![fact(&[8]), fact(&[8]), fact(&[8])],
            "expected q[batch..",
        ),
        (
            "attention",
            head.to_vec(),
            vec![q.clone(), k.clone(), v.clone(), mask(&[4, 5])],
            "a mask must be [2, 4, 5] as the scores are, got bool[4,5]",
        ),
        (
            "attention",
            head.to_vec(),
            vec![q.clone(), k.clone(), v.clone(), mask(&[2, 4, 5]), mask(&[2, 4, 5])],
            "a mask must be one f32 or one bool",
        ),
    ] {
        let got = refusal(op, &attrs, &inputs);
        assert!(got.contains(expected), "{op}: {got}");
    }
}

/// Nothing to compute, or nothing to compute it from.
#[test]
fn empty_operands() {
    let empty = |shape: &[usize]| f32s(shape, &[]);
    let x = empty(&[0, 4]);
    assert!(one("softmax", &[("axis", int(1))], &[&x]).view().data::<f32>().unwrap().is_empty());
    let attrs = [("scale", number(1.0)), ("fill", number(0.0))];
    let [q, k, v] = [tensor(&[1, 2, 3]), empty(&[1, 0, 3]), empty(&[1, 0, 5])];
    let got = run("attention", &attrs, &[&q, &k, &v], &[fact(&[1, 2, 5])]).remove(0);
    close("no keys", &got, [0.0; 10]);
}
