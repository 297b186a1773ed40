//! Sorting, the largest elements, and what is accumulated along an axis.

use lumina_runtime::{Complex32, DType, Fact, Tensor};
use proptest::prelude::*;

use crate::build::*;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

fn sort(dimension: i64, num_keys: i64) -> [(&'static str, crate::proto::Attr); 2] {
    [("dimension", int(dimension)), ("num_keys", int(num_keys))]
}

fn top_k(axis: i64, k: i64) -> [(&'static str, crate::proto::Attr); 2] {
    [("axis", int(axis)), ("k", int(k))]
}

/// The outputs of an op that has as many as operands.
fn sorted(dimension: i64, num_keys: i64, x: &[&Tensor]) -> Vec<Tensor> {
    let facts: Vec<Fact> = x.iter().map(|x| x.view().fact()).collect();
    run("sort", &sort(dimension, num_keys), x, &facts)
}

#[test]
fn sort_has_nan_last_and_zeros_in_order() {
    let negative_nan = NAN.copysign(-1.0);
    let x = f32s(&[7], &[NAN, 0.0, -0.0, INF, negative_nan, -INF, -1.0]);
    let places = i32s(&[7], &[0, 1, 2, 3, 4, 5, 6]);
    let outputs = sorted(0, 1, &[&x, &places]);
    same("values", &outputs[0].view(), &f32s(&[7], &[-INF, -1.0, 0.0, -0.0, INF, NAN, NAN]).view());
    same("places", &outputs[1].view(), &i32s(&[7], &[5, 6, 1, 2, 3, 0, 4]).view());
    let z = |re, im| Complex32::new(re, im);
    let x = Tensor::new(&[3], &[z(1.0, 2.0), z(1.0, -1.0), z(0.0, 5.0)]).unwrap();
    check(
        "sort",
        &sort(0, 1),
        &[&x],
        &Tensor::new(&[3], &[z(0.0, 5.0), z(1.0, -1.0), z(1.0, 2.0)]).unwrap(),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the sort of the standard library, along any axis, by one or two keys, on any number
    /// of threads.
    #[test]
    fn sort_is_a_stable_sort_of_each_line(
        extents in [1..5usize, 0..40usize, 1..5usize],
        keys in 1..3usize,
        seed in any::<u32>(),
        threads in 1..4usize,
    ) {
        let size: usize = extents.iter().product();
        let number = |n: usize, of: u32| (n as u32 ^ seed).wrapping_mul(2_654_435_761) >> 7 & of;
        let first: Vec<i32> = (0..size).map(|n| number(n, 7) as i32 - 3).collect();
        let second: Vec<u32> = (0..size).map(|n| number(n + 99, 3)).collect();
        let mut file = File::new();
        let shape = fixed(&extents);
        let a = file.input("a", DType::I32, &shape);
        let b = file.input("b", DType::U32, &shape);
        let places = file.input("places", DType::I32, &shape);
        let ids = file.node_of("sort", &[a, b, places], 3, &sort(1, keys as i64));
        for (id, dtype) in ids.iter().zip([DType::I32, DType::U32, DType::I32]) {
            file.output(*id, &id.to_string(), dtype, &shape);
        }
        let place: Vec<i32> = (0..size as i32).collect();
        let operands =
            [i32s(&extents, &first), u32s(&extents, &second), i32s(&extents, &place)];
        let mut session = session(&file, threads);
        let outputs = session.run(&operands.each_ref().map(Tensor::view)).unwrap();
        let outputs = outputs[2].data::<i32>().unwrap();
        let [outer, extent, inner] = extents;
        for line in 0..outer * inner {
            let position = |index: usize| (line / inner * extent + index) * inner + line % inner;
            let mut expected: Vec<usize> = (0..extent).map(position).collect();
            expected.sort_by_key(|&at| (first[at], if keys > 1 { second[at] } else { 0 }));
            let got: Vec<usize> = (0..extent).map(|n| outputs[position(n)] as usize).collect();
            prop_assert_eq!(got, expected);
        }
    }
}

#[test]
fn top_k_is_in_order_of_bits() {
    let negative_nan = NAN.copysign(-1.0);
    let x = f32s(&[1, 7], &[1.0, -0.0, 0.0, negative_nan, NAN, 1.0, -1.0]);
    let facts = [Fact::new(DType::F32, [1, 7]), Fact::new(DType::I32, [1, 7])];
    let outputs = run("top_k", &top_k(1, 7), &[&x], &facts);
    same(
        "values",
        &outputs[0].view(),
        &f32s(&[1, 7], &[NAN, 1.0, 1.0, 0.0, -0.0, -1.0, NAN]).view(),
    );
    same("indices", &outputs[1].view(), &i32s(&[1, 7], &[4, 0, 5, 2, 1, 6, 3]).view());
    let x = i32s(&[3, 2], &[1, 9, 3, 8, 2, 9]);
    let facts = [Fact::new(DType::I32, [2, 2]), Fact::new(DType::I32, [2, 2])];
    let outputs = run("top_k", &top_k(0, 2), &[&x], &facts);
    same("values", &outputs[0].view(), &i32s(&[2, 2], &[3, 9, 2, 9]).view());
    same("indices", &outputs[1].view(), &i32s(&[2, 2], &[1, 0, 2, 2]).view());
}

#[test]
fn accumulation() {
    let along = |axis, reverse| [("axis", int(axis)), ("reverse", flag(reverse))];
    let x = i32s(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    check("cumsum", &along(1, false), &[&x], &i32s(&[2, 3], &[1, 3, 6, 4, 9, 15]));
    check("cumsum", &along(1, true), &[&x], &i32s(&[2, 3], &[6, 5, 3, 15, 11, 6]));
    check("cumsum", &along(0, false), &[&x], &i32s(&[2, 3], &[1, 2, 3, 5, 7, 9]));
    check("cumprod", &along(1, true), &[&x], &i32s(&[2, 3], &[6, 6, 3, 120, 30, 6]));
    check("cummax", &along(0, false), &[&i32s(&[4], &[2, 1, 5, 3])], &i32s(&[4], &[2, 2, 5, 5]));
}

#[test]
fn accumulation_of_floats() {
    let along = |reverse| [("axis", int(0)), ("reverse", flag(reverse))];
    let x = f32s(&[4], &[-INF, 0.0, NAN, 1.0]);
    check("cummax", &along(false), &[&x], &f32s(&[4], &[-INF, 0.0, NAN, NAN]));
    check("cummin", &along(true), &[&x], &f32s(&[4], &[NAN, NAN, NAN, 1.0]));
    let nothing = f32s(&[3], &[-INF, -INF, 0.0]);
    check("cumlogsumexp", &along(false), &[&nothing], &nothing);
    let large = f32s(&[2], &[1000.0, 1000.0]);
    let twice = f32s(&[2], &[1000.0, 1000.0 + std::f32::consts::LN_2]);
    check("cumlogsumexp", &along(false), &[&large], &twice);
}

#[test]
fn bitcast() {
    let to = |dtype: &str| [("new_dtype", text(dtype))];
    let op = "bitcast_convert_type";
    check(op, &to("i32"), &[&f32s(&[2], &[1.0, -0.0])], &i32s(&[2], &[0x3f80_0000, i32::MIN]));
    let bytes = Tensor::new(&[1, 4], &[1u8, 2, 3, 4]).unwrap();
    check(op, &to("u8"), &[&i32s(&[1], &[0x0403_0201])], &bytes);
    check(op, &to("i32"), &[&bytes], &i32s(&[1], &[0x0403_0201]));
    let wrong = |dtype: &str, fact: Fact| refusal(op, &to(dtype), &[fact]);
    let start = "node 0 (`bitcast_convert_type`): bitcast_convert_type: ";
    assert_eq!(
        wrong("i32", Fact::new(DType::U8, [4, 3])),
        format!("{start}the last axis must have 4 elements, which make one i32, got u8[4,3]")
    );
    assert_eq!(
        wrong("i32", Fact::new(DType::U8, [])),
        format!("{start}the last axis must have 4 elements, which make one i32, got u8[]")
    );
    assert_eq!(
        wrong("bool", Fact::new(DType::U8, [4])),
        format!("{start}`operand or result` of dtype bool is not supported")
    );
}

#[test]
fn attributes_that_do_not_fit() {
    let x = Fact::new(DType::F32, [2, 3]);
    let one = std::slice::from_ref(&x);
    let said = |text: String| text.split_once("): ").unwrap().1.to_owned();
    assert_eq!(
        said(refusal("sort", &sort(2, 1), one)),
        "sort: attribute `dimension` must name different axes of rank 2, got [2]"
    );
    for keys in [0, 2] {
        assert_eq!(
            said(refusal("sort", &sort(0, keys), one)),
            format!(
                "sort: attribute `num_keys` must be from 1 to the number of operands, 1, got {keys}"
            )
        );
    }
    assert_eq!(
        said(refusal("sort", &sort(0, 1), &[x.clone(), Fact::new(DType::F32, [3, 2])])),
        "sort: operands must have equal shapes, got f32[2,3] and f32[3,2]"
    );
    assert_eq!(said(refusal("sort", &sort(0, 1), &[])), "sort: expected at least 1 operand, got 0");
    assert_eq!(
        said(refusal("top_k", &top_k(1, 4), one)),
        "top_k: attribute `k` must be at most the extent of axis 1 of f32[2,3], got 4"
    );
    assert_eq!(
        said(refusal("top_k", &top_k(1, -1), one)),
        "top_k: attribute `k` must not be negative, got -1"
    );
    assert_eq!(
        said(refusal("top_k", &top_k(1, 1), &[Fact::new(DType::C64, [2, 3])])),
        "top_k: `operand` of dtype c64 is not supported"
    );
}
