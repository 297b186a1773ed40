//! Products through the signal chain.

use lumina_kernels::DType;

use super::support::{Absent, ORDERS, Order, Random, Tensor, check};

/// The value of the code, and the code itself; ties to even.
fn convert(x: f64, bits: u32, full_scale: f64) -> f64 {
    let largest = f64::from((1u32 << (bits - 1)) - 1);
    let step = full_scale / largest;
    (x / step).round_ties_even().clamp(-largest, largest) * step
}

fn peak<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.fold(0.0, |peak, x| x.abs().max(peak))
}

fn f32s(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::new(DType::F32, shape, Order::RowMajor).filled(|index| values[index])
}

#[test]
fn a_product_is_quantized_on_its_way() {
    let mut random = Random::new(20);
    for order in ORDERS {
        let mut x = Tensor::new(DType::F32, &[5, 12], order).random(&mut random);
        let mut w = Tensor::new(DType::F32, &[12, 7], order).random(&mut random);
        let mut bias = Tensor::new(DType::F32, &[7], order).random(&mut random);
        let mut y_full_scale = f32s(&[1], &[8.0]);
        let mut out = Tensor::new(DType::F32, &[5, 7], order);
        let (mut x_range, mut w_range, mut noise, mut seed) = (Absent, Absent, Absent, Absent);
        run!(
            OpticalMatmul,
            [out, x, w, bias, x_range, w_range, y_full_scale, noise, seed],
            6,
            5,
            4,
            0
        );
        let (xs, ws, bs) = (x.values(), w.values(), bias.values());
        let of_x = peak(xs.iter());
        let step = 8.0 / 7.0;
        for (at, got) in out.values().into_iter().enumerate() {
            let (m, n) = (at / 7, at % 7);
            let of_column = peak((0..12).map(|k| &ws[k * 7 + n]));
            let products = (0..12)
                .map(|k| convert(xs[m * 12 + k], 6, of_x) * convert(ws[k * 7 + n], 5, of_column));
            let y = products.sum::<f64>() + bs[n];
            let want = convert(y, 4, 8.0);
            // A sum that is rounded in f32 may fall on the other side of a tie.
            let is_tie = ((y / step).fract().abs() - 0.5).abs() < 1e-4;
            assert!((got - want).abs() < 1e-5 || is_tie, "{got} {want}");
        }
        out.check_gaps();
    }
}

#[test]
fn noise_comes_from_the_seed() {
    let run = |seed: f64, level: f64| {
        let mut x = f32s(&[64, 4], &[0.5; 256]);
        let mut w = f32s(&[4, 64], &[0.25; 256]);
        let mut noise = f32s(&[4], &[level, 0.0, 0.0, 0.0]);
        let mut seed =
            Tensor::new(DType::U32, &[2], Order::RowMajor).filled(|index| index as f64 * seed);
        let mut out = Tensor::new(DType::F32, &[64, 64], Order::RowMajor);
        let (mut a, mut b, mut c, mut d) = (Absent, Absent, Absent, Absent);
        run!(OpticalMatmul, [out, x, w, a, b, c, d, noise, seed], 0, 0, 0, 0);
        out.values()
    };
    let one = run(1.0, 0.5);
    assert_eq!(one, run(1.0, 0.5));
    assert_ne!(one, run(2.0, 0.5));
    assert!(run(1.0, 0.0).iter().all(|y| *y == 0.5));
    let mean = one.iter().sum::<f64>() / 4096.0;
    let variance = one.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / 4096.0;
    // Five standard deviations of both.
    assert!((mean - 0.5).abs() < 0.04 && (variance.sqrt() - 0.5).abs() < 0.03, "{mean} {variance}");
}

#[test]
fn a_convolution_is_that_of_its_patches() {
    let mut random = Random::new(21);
    for order in ORDERS {
        let mut x = Tensor::new(DType::F32, &[2, 5, 6, 3], order).random(&mut random);
        let mut kernel = Tensor::new(DType::F32, &[3, 2, 3, 4], order).random(&mut random);
        let mut out = Tensor::new(DType::F32, &[2, 3, 3, 4], order);
        let (mut a, mut b, mut c, mut d) = (Absent, Absent, Absent, Absent);
        let (mut e, mut f) = (Absent, Absent);
        let (pads, strides, dilations) = ([1i64, 0], [2i64, 2], [1i64, 1]);
        run!(
            OpticalConv,
            [out, x, kernel, a, b, c, d, e, f],
            0,
            0,
            0,
            0,
            pads.as_ptr(),
            strides.as_ptr(),
            dilations.as_ptr(),
            1
        );
        let (xs, ks) = (x.values(), kernel.values());
        let mut want = vec![0.0; out.len()];
        for (at, want) in want.iter_mut().enumerate() {
            let (n, oh, ow, o) = (at / 36, at / 12 % 3, at / 4 % 3, at % 4);
            for (kh, kw) in (0..6).map(|tap| (tap / 2, tap % 2)) {
                let (h, w) = (2 * oh + kh, 2 * ow + kw);
                for channel in 0..3 {
                    if (1..6).contains(&h) && w < 6 {
                        *want += xs[((n * 5 + h - 1) * 6 + w) * 3 + channel]
                            * ks[((kh * 2 + kw) * 3 + channel) * 4 + o];
                    }
                }
            }
        }
        check(&out, &want, 20.0, 4.0);
    }
}

#[test]
fn attention_sees_the_past() {
    let mut random = Random::new(22);
    let [batch, queries, keys, heads, depth, width] = [2, 3, 5, 2, 4, 6];
    for order in ORDERS {
        for bits in [0, 8] {
            let mut q =
                Tensor::new(DType::F32, &[batch, queries, heads, depth], order).random(&mut random);
            let mut k =
                Tensor::new(DType::F32, &[batch, keys, heads, depth], order).random(&mut random);
            let mut v =
                Tensor::new(DType::F32, &[batch, keys, heads, width], order).random(&mut random);
            let mut out = Tensor::new(DType::F32, &[batch, queries, heads, width], order);
            let (mut a, mut b, mut c, mut d) = (Absent, Absent, Absent, Absent);
            let (mut noise, mut seed) = (Absent, Absent);
            let (mut scores, mut range) = (f32s(&[1, 1], &[16.0]), f32s(&[1, 1], &[2.0]));
            run!(
                CausalAttention,
                [out, q, k, v, a, b, c, d, scores, range, noise, seed],
                bits,
                bits,
                0.5
            );
            let (qs, ks, vs) = (q.values(), k.values(), v.values());
            let mut want = vec![0.0; out.len()];
            for row in 0..batch * queries * heads {
                let (m, t, h) = (row / (queries * heads), row / heads % queries, row % heads);
                let at = |s: usize, width: usize| ((m * keys + s) * heads + h) * width;
                let seen = keys - queries + t + 1;
                let score = |s: usize| -> f64 {
                    (0..depth).map(|d| qs[row * depth + d] * ks[at(s, depth) + d]).sum()
                };
                let e: Vec<f64> = (0..seen).map(|s| (0.5 * score(s)).exp()).collect();
                let sum: f64 = e.iter().sum();
                for column in 0..width {
                    want[row * width + column] =
                        (0..seen).map(|s| e[s] / sum * vs[at(s, width) + column]).sum();
                }
            }
            match bits {
                0 => check(&out, &want, 60.0, 2.0),
                // A few steps of converters of 8 bits.
                _ => {
                    for (got, want) in out.values().iter().zip(want) {
                        assert!((got - want).abs() < 0.1, "{got} {want}");
                    }
                }
            }
        }
    }
}
