//! The chain against its definition, and what must not change its bits.

use lumina_kernels::{Serial, ThreadPool};
use proptest::prelude::*;

use crate::support::{
    FORWARD, NOISE, SIZES, Tensor, attrs, bits_of, operands, quantize, run, with_peak,
};

/// `linear` of the definition in f64, from levels in f32.
fn oracle(inputs: &[Tensor], bits: [i64; 3], transposed: bool) -> Vec<f64> {
    let [rows, depth] = inputs[0].shape().try_into().unwrap();
    let columns = inputs[2].shape()[0];
    let (x, w) = (inputs[0].f32(), inputs[1].f32());
    let mut y = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let mut sum = f64::from(inputs[2].f32()[column]);
            for k in 0..depth {
                let w = w[if transposed { column * depth + k } else { k * columns + column }];
                let x_q = quantize(x[row * depth + k], bits[0], inputs[3].f32()[row]);
                let w_q = quantize(w, bits[1], inputs[4].f32()[column]);
                sum += f64::from(x_q) * f64::from(w_q);
            }
            y.push(sum);
        }
    }
    y
}

#[test]
fn follows_the_definition() {
    for size in SIZES {
        for bits in [[0, 0, 0], [8, 8, 0], [4, 4, 8], [1, 1, 1], [16, 16, 4], [2, 0, 16], [0, 5, 0]]
        {
            for transposed in [false, true] {
                let inputs = operands(size, transposed, NOISE);
                let attrs = attrs(bits, transposed, false, "pre_noise");
                let got = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
                let want = oracle(&inputs, bits, transposed);
                for (index, (linear, want)) in got[1].f32().iter().zip(want).enumerate() {
                    // f32 sums of K products of at most 2.5 each, K times rounded.
                    let tolerance = 1.5e-7 * 2.5 * (size[1] as f64 + 4.0);
                    let linear = f64::from(*linear);
                    assert!(
                        (linear - want).abs() <= tolerance,
                        "{size:?} {bits:?}: {linear} {want}"
                    );
                    let full_scale = inputs[5].f32()[index % size[2]];
                    let out = quantize(linear as f32, bits[2], full_scale);
                    assert_eq!(got[0].f32()[index], out, "{size:?} {bits:?} {transposed}");
                }
            }
        }
    }
}

#[test]
fn integer_sums_are_exact() {
    // More products of codes than f32 sums exactly, so that partial sums are added.
    let depth = 5000;
    let mut inputs = operands([2, depth, 3], false, [0.0; 4]);
    inputs[0] = Tensor::F32(vec![2, depth], vec![127.0; 2 * depth]);
    inputs[1] =
        Tensor::F32(vec![depth, 3], (0..3 * depth).map(|i| 127.0 - (i % 2) as f32).collect());
    inputs[2] = Tensor::F32(vec![1], vec![0.0]);
    inputs[3] = Tensor::F32(vec![1], vec![127.0]);
    inputs[4] = Tensor::F32(vec![1], vec![127.0]);
    let got = run(FORWARD, &attrs([8, 8, 0], false, false, "none"), &inputs, &Serial);
    let half = 127 * depth as i64 / 2;
    assert_eq!(got.unwrap()[0].f32(), [(half * 253) as f32; 6]);
}

#[test]
fn a_value_that_is_not_finite_shows_in_its_row_and_column_only() {
    for bits in [[0, 0, 0], [8, 8, 8], [16, 16, 8], [1, 1, 1]] {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut inputs = operands([4, 6, 5], false, NOISE);
            let Tensor::F32(_, x) = &mut inputs[0] else { unreachable!() };
            x[6 + 2] = bad;
            let Tensor::F32(_, w) = &mut inputs[1] else { unreachable!() };
            w[3 * 5 + 4] = bad;
            let attrs = attrs(bits, false, true, "none");
            let got = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
            for (index, value) in got[0].f32().iter().enumerate() {
                assert_eq!(value.is_nan(), index / 5 == 1 || index % 5 == 4, "{bits:?} {index}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn threads_and_batch_splits_give_the_same_bits(
        rows in 1..150usize,
        depth in 1..70usize,
        columns in 1..300usize,
        bits in prop::sample::select(vec![[0, 0, 8], [8, 8, 8], [4, 4, 4], [12, 0, 0]]),
        transposed: bool,
        residual in prop::sample::select(vec!["pre_noise", "slope", "signs"]),
        cut in 0..150usize,
    ) {
        let inputs = operands([rows, depth, columns], transposed, NOISE);
        let attrs = with_peak(attrs(bits, transposed, true, residual));
        let whole = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
        for threads in [1, 2, 7] {
            let pool = ThreadPool::new(threads).unwrap();
            let again = run(FORWARD, &attrs, &inputs, &pool).unwrap();
            prop_assert_eq!(bits_of(&whole), bits_of(&again));
        }
        let cut = cut % rows;
        let mut parts = vec![Vec::new(); 3];
        for range in [0..cut, cut..rows] {
            let mut inputs = inputs.clone();
            let x = inputs[0].f32()[range.start * depth..range.end * depth].to_vec();
            inputs[0] = Tensor::F32(vec![range.len(), depth], x);
            inputs[3] = Tensor::F32(vec![range.len()], inputs[3].f32()[range.clone()].to_vec());
            let ids = range.clone().map(|row| row as u32).collect();
            inputs[8] = Tensor::U32(vec![range.len()], ids);
            let part = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
            parts.iter_mut().zip(part).for_each(|(all, part)| all.extend(part.bits()));
        }
        prop_assert_eq!(parts, bits_of(&whole));
    }
}

#[test]
fn many_rows_over_wide_weights_are_those_of_few() {
    // Enough rows, columns and depth that strips of rows share copies of the weights.
    let [rows, depth, columns] = [80, 600, 1100];
    for bits in [[0, 0, 0], [8, 8, 0]] {
        let mut inputs = operands([rows, depth, columns], false, NOISE);
        let attrs = attrs(bits, false, false, "none");
        let whole = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
        let (x, scales) = (inputs[0].f32().to_vec(), inputs[3].f32().to_vec());
        let mut parts = Vec::new();
        for row in (0..rows).step_by(8) {
            inputs[0] = Tensor::F32(vec![8, depth], x[row * depth..(row + 8) * depth].to_vec());
            inputs[3] = Tensor::F32(vec![8], scales[row..row + 8].to_vec());
            inputs[8] = Tensor::U32(vec![8], (row as u32..row as u32 + 8).collect());
            parts.extend(run(FORWARD, &attrs, &inputs, &Serial).unwrap()[0].bits());
        }
        assert_eq!(whole[0].bits(), parts, "{bits:?}");
    }
}
