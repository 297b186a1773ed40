//! Complex numbers, and Fourier transforms.

use lumina_runtime::{Complex32, DType, Fact, Tensor};
use proptest::prelude::*;

use crate::build::*;

#[test]
fn complex_arithmetic() {
    let c = |re, im| Complex32::new(re, im);
    let a = Tensor::new(&[1], &[c(1.0, 2.0)]).unwrap();
    let b = Tensor::new(&[1], &[c(3.0, -1.0)]).unwrap();
    for (op, expected) in [("add", c(4.0, 1.0)), ("sub", c(-2.0, 3.0)), ("mul", c(5.0, 5.0))] {
        check(op, &[], &[&a, &b], &Tensor::new(&[1], &[expected]).unwrap());
    }
    check("neg", &[], &[&a], &Tensor::new(&[1], &[c(-1.0, -2.0)]).unwrap());
    check("eq", &[], &[&a, &a], &bools(&[1], &[1]));
    check(
        "dot_general",
        &dot(&[0], &[0], &[], &[]),
        &[&a, &b],
        &Tensor::new(&[], &[c(5.0, 5.0)]).unwrap(),
    );
}

fn complex(shape: &[usize], data: &[(f32, f32)]) -> Tensor {
    let data: Vec<_> = data.iter().map(|&(re, im)| Complex32::new(re, im)).collect();
    Tensor::new(shape, &data).unwrap()
}

#[test]
fn complex_functions() {
    let z = complex(&[3], &[(3.0, 4.0), (-4.0, 0.0), (0.0, 0.0)]);
    let four = |data: [(f32, f32); 3]| complex(&[3], &data);
    check("conj", &[], &[&z], &four([(3.0, -4.0), (-4.0, -0.0), (0.0, -0.0)]));
    check("abs", &[], &[&z], &f32s(&[3], &[5.0, 4.0, 0.0]));
    check("sign", &[], &[&z], &four([(0.6, 0.8), (-1.0, 0.0), (0.0, 0.0)]));
    check("sqrt", &[], &[&z], &four([(2.0, 1.0), (0.0, 2.0), (0.0, 0.0)]));
    check("square", &[], &[&z], &four([(-7.0, 24.0), (16.0, -0.0), (0.0, 0.0)]));
    check(
        "exp",
        &[],
        &[&complex(&[1], &[(f32::NEG_INFINITY, 1.0)])],
        &complex(&[1], &[(0.0, 0.0)]),
    );
    let inverse = complex(&[2], &[(0.12, -0.16), (-0.25, 0.0)]);
    let two = complex(&[2], &[(3.0, 4.0), (-4.0, -0.0)]);
    check("integer_pow", &[("y", int(-1))], &[&two], &inverse);
    check("pow", &[], &[&z, &i32s(&[], &[2])], &four([(-7.0, 24.0), (16.0, -0.0), (0.0, 0.0)]));
    let zeros = complex(&[], &[(0.0, 0.0)]);
    check("pow", &[], &[&zeros, &zeros], &complex(&[], &[(1.0, 0.0)]));
    let axes = [("axes", ints(&[0]))];
    check("reduce_sum", &axes, &[&z], &complex(&[], &[(-1.0, 4.0)]));
    check("reduce_prod", &axes, &[&z], &complex(&[], &[(0.0, 0.0)]));
}

fn transform(kind: i64, lengths: &[i64]) -> [(&'static str, crate::proto::Attr); 2] {
    [("fft_type", int(kind)), ("fft_lengths", ints(lengths))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against the sum that its definition says, over the last axes, and back, on any number of
    /// threads.
    #[test]
    fn fft_is_a_sum_over_roots_of_unity(
        extents in prop::collection::vec(1..12usize, 1..4),
        transformed in 1..4usize,
        threads in 1..4usize,
    ) {
        let count = transformed.min(extents.len());
        let lengths: Vec<i64> =
            extents[extents.len() - count..].iter().map(|&n| n as i64).collect();
        let size: usize = extents.iter().product();
        let number = |n: usize| ((n * 7 % 11) as f32 - 5.0, (n * 5 % 13) as f32 - 6.0);
        let x: Vec<_> = (0..size).map(number).collect();
        let x = complex(&extents, &x);
        let mut file = File::new();
        let input = file.input("x", DType::C64, &fixed(&extents));
        let there = file.node("fft", &[input], &transform(0, &lengths));
        let back = file.node("fft", &[there], &transform(1, &lengths));
        file.output(there, "there", DType::C64, &fixed(&extents));
        file.output(back, "back", DType::C64, &fixed(&extents));
        let mut session = session(&file, threads);
        let outputs = session.run(&[x.view()]).unwrap();
        let mut expected: Vec<Complex32> = x.view().data().unwrap().to_vec();
        for axis in extents.len() - count..extents.len() {
            expected = slow(&expected, &extents, axis);
        }
        // Of f32 results, whose largest is at most the sum of all.
        let close = |got: &Complex32, want: &Complex32| (got - want).norm() <= 1e-4 * size as f32;
        for (got, want) in outputs[0].data().unwrap().iter().zip(&expected) {
            prop_assert!(close(got, want), "{got} {want}");
        }
        for (got, want) in outputs[1].data().unwrap().iter().zip(x.view().data().unwrap()) {
            prop_assert!(close(got, want), "{got} {want}");
        }
    }
}

fn slow(x: &[Complex32], extents: &[usize], axis: usize) -> Vec<Complex32> {
    let (extent, step) = (extents[axis], extents[axis + 1..].iter().product::<usize>());
    let element = |position: usize| {
        let (index, first) = (position / step % extent, position - position / step % extent * step);
        let term = |other: usize| {
            let turn = -2.0 * std::f64::consts::PI * (index * other) as f64 / extent as f64;
            let (sin, cos) = turn.sin_cos();
            x[first + other * step] * Complex32::new(cos as f32, sin as f32)
        };
        (0..extent).map(term).sum()
    };
    (0..x.len()).map(element).collect()
}

#[test]
fn fft_of_real_numbers_is_half_of_that_of_complex_ones() {
    let real = f32s(&[5], &[1.0, -2.0, 3.0, 0.5, 4.0]);
    let whole = complex(&[5], &[(1.0, 0.0), (-2.0, 0.0), (3.0, 0.0), (0.5, 0.0), (4.0, 0.0)]);
    let all = &run("fft", &transform(0, &[5]), &[&whole], &[whole.view().fact()])[0];
    let all: Vec<Complex32> = all.view().data().unwrap().to_vec();
    let half = Tensor::new(&[3], &all[..3]).unwrap();
    check("fft", &transform(2, &[5]), &[&real], &half);
    let back = &run("fft", &transform(3, &[5]), &[&half], &[real.view().fact()])[0];
    let (back, real) = (back.view(), real.view());
    for (back, real) in back.data::<f32>().unwrap().iter().zip(real.data::<f32>().unwrap()) {
        // Of the rounding of the transform, whose largest is below 8.
        assert!((back - real).abs() < 1e-6, "{back} {real}");
    }
}

#[test]
fn transforms_that_do_not_fit() {
    let wrong = |kind, lengths: &[i64], dtype, shape: &[usize]| {
        let text = refusal("fft", &transform(kind, lengths), &[Fact::new(dtype, shape)]);
        text.strip_prefix("node 0 (`fft`): fft: ").unwrap().to_owned()
    };
    let c64 = DType::C64;
    assert_eq!(wrong(4, &[3], c64, &[3]), "attribute `fft_type` must be from 0 to 3, got 4");
    assert_eq!(wrong(0, &[], c64, &[3]), "attribute `fft_lengths` must have 1 to 3, got []");
    assert_eq!(wrong(0, &[-1], c64, &[3]), "attribute `fft_lengths` must not be negative, got -1");
    assert_eq!(wrong(0, &[3, 3], c64, &[3]), "it has 2 axes, got c64[3]");
    assert_eq!(wrong(0, &[4], c64, &[3]), "the last axes must be [4], got c64[3]");
    assert_eq!(
        wrong(3, &[i64::MAX], c64, &[3]),
        format!("the last axes must be [{}], got c64[3]", (1u64 << 62))
    );
    assert_eq!(wrong(2, &[3], c64, &[3]), "`operand` of dtype c64 is not supported");
    // Nothing is planned for what is not there.
    let long = 1 << 40;
    let nothing = Tensor::new(&[0, long], &[] as &[Complex32]).unwrap();
    check("fft", &transform(0, &[long as i64]), &[&nothing], &nothing);
}
