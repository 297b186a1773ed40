//! Softmax, normalization, rotary embedding.

use lumina_kernels::DType;

use super::support::{Absent, FLOATS, INDICES, ORDERS, Order, REALS, Random, Tensor, check};

/// Along the middle axis of \[outer, extent, inner\], f of each line.
fn lines(
    x: &[f64],
    [outer, extent, inner]: [usize; 3],
    f: impl Fn(&[f64]) -> Vec<f64>,
) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    for o in 0..outer {
        for i in 0..inner {
            let at = |e: usize| (o * extent + e) * inner + i;
            let line: Vec<f64> = (0..extent).map(|e| x[at(e)]).collect();
            for (e, value) in f(&line).into_iter().enumerate() {
                out[at(e)] = value;
            }
        }
    }
    out
}

fn softmax(line: &[f64]) -> Vec<f64> {
    let peak = line.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = line.iter().map(|x| (x - peak).exp()).sum();
    line.iter().map(|x| (x - peak).exp() / sum).collect()
}

#[test]
fn softmax_along_any_axis() {
    let mut random = Random::new(2);
    for dtype in FLOATS {
        for (axis, split) in [(0, [1, 3, 20]), (1, [3, 4, 5]), (2, [12, 5, 1]), (-1, [12, 5, 1])] {
            for order in ORDERS {
                let mut x = Tensor::new(dtype, &[3, 4, 5], order).random(&mut random);
                let mut y = Tensor::new(dtype, &[3, 4, 5], order);
                run!(Softmax, [y, x], axis);
                check(&y, &lines(&x.values(), split, softmax), 4.0, 0.0);
                let log = |line: &[f64]| softmax(line).iter().map(|p| p.ln()).collect();
                // The result may be of another type than x.
                for of_y in FLOATS {
                    let mut y = Tensor::new(of_y, &[3, 4, 5], order);
                    run!(LogSoftmax, [y, x], axis);
                    check(&y, &lines(&x.values(), split, log), 6.0, 4.0);
                }
            }
        }
    }
}

#[test]
fn causal_softmax_sees_the_past() {
    let mut random = Random::new(3);
    for dtype in FLOATS {
        for shape in [&[3, 5][..], &[2, 3, 3], &[2, 2, 3, 7], &[0, 3, 3]] {
            for order in ORDERS {
                let mut x = Tensor::new(dtype, shape, order).random(&mut random);
                let mut y = Tensor::new(dtype, shape, order);
                run!(CausalSoftmax, [y, x]);
                let (queries, keys) = (shape[shape.len() - 2], shape[shape.len() - 1]);
                let rows = x.values();
                let row = |(number, row): (usize, &[f64])| {
                    let seen = keys - queries + number % queries + 1;
                    let mut p = softmax(&row[..seen]);
                    p.resize(keys, 0.0);
                    p
                };
                let want: Vec<f64> = rows.chunks(keys).enumerate().flat_map(row).collect();
                check(&y, &want, 4.0, 0.0);
            }
        }
    }
}

/// Mean, and mean of the squared distance from `center`.
fn moments(row: &[f64], center: bool) -> [f64; 2] {
    let count = row.len() as f64;
    let mean = if center { row.iter().sum::<f64>() / count } else { 0.0 };
    [mean, row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count]
}

#[test]
fn layer_norm_standardizes_rows() {
    let (mut random, eps) = (Random::new(4), 1e-3f32);
    for dtype in FLOATS {
        for order in ORDERS {
            for has_bias in [true, false] {
                let shape = [2, 3, 10];
                let mut x = Tensor::new(dtype, &shape, order).random(&mut random);
                let mut weight =
                    Tensor::new(DType::F32, &[10], Order::Reversed).random(&mut random);
                let mut bias = Tensor::new(dtype, &[10], Order::RowMajor).random(&mut random);
                let mut y = Tensor::new(dtype, &shape, order);
                let mut standardized = Tensor::new(dtype, &shape, Order::RowMajor);
                let mut deviation = Tensor::new(dtype, &[2, 3], order);
                if has_bias {
                    run!(LayerNorm, [y, standardized, deviation, x, weight, bias], eps);
                } else {
                    let mut bias = Absent;
                    run!(LayerNorm, [y, standardized, deviation, x, weight, bias], eps);
                }
                let (w, b) = (weight.values(), bias.values());
                let [mut want, mut standard, mut root] = [vec![], vec![], vec![]];
                for row in x.values().chunks(10) {
                    let [mean, variance] = moments(row, true);
                    root.push((variance + f64::from(eps)).sqrt());
                    for (column, x) in row.iter().enumerate() {
                        let z = (x - mean) / (variance + f64::from(eps)).sqrt();
                        standard.push(z);
                        want.push(z * w[column] + if has_bias { b[column] } else { 0.0 });
                    }
                }
                check(&standardized, &standard, 8.0, 1.0);
                check(&deviation, &root, 8.0, 1.0);
                check(&y, &want, 16.0, 2.0);
            }
        }
    }
}

#[test]
fn rms_norm_divides_rows_by_their_size() {
    let (mut random, eps) = (Random::new(5), 1e-3f32);
    for dtype in FLOATS {
        for of_weight in FLOATS {
            for order in ORDERS {
                let shape = [4, 12];
                let mut a = Tensor::new(dtype, &shape, order).random(&mut random);
                let mut b = Tensor::new(dtype, &shape, Order::Padded).random(&mut random);
                let mut w = Tensor::new(of_weight, &[12], Order::RowMajor).random(&mut random);
                let mut y = Tensor::new(dtype, &shape, order);
                let normalized = |x: &[f64]| -> Vec<f64> {
                    let w = w.values();
                    let row = |row: &[f64]| -> Vec<f64> {
                        let size = (moments(row, false)[1] + f64::from(eps)).sqrt();
                        row.iter().zip(&w).map(|(x, w)| x / size * w).collect()
                    };
                    x.chunks(12).flat_map(row).collect()
                };
                let want = normalized(&a.values());
                let sum: Vec<f64> = a.values().iter().zip(b.values()).map(|(a, b)| a + b).collect();
                let of_sum = normalized(&sum);
                run!(RMSNorm, [y, a, w], eps);
                check(&y, &want, 8.0, 1.0);
                let mut residual = Tensor::new(dtype, &shape, order);
                run!(AddRMSNorm, [y, residual, a, b, w], eps);
                check(&y, &of_sum, 8.0, 1.0);
                check(&residual, &sum, 1.0, 1.0);
            }
        }
    }
}

#[test]
fn rotary_embedding_turns_pairs() {
    let mut random = Random::new(6);
    for dtype in REALS {
        for ids in INDICES {
            for (shape, of_ids) in
                [(&[3, 2, 6][..], &[3][..]), (&[2, 3, 2, 6], &[3]), (&[2, 3, 2, 6], &[2, 3])]
            {
                for algo in [0, 1] {
                    for order in ORDERS {
                        let mut x = Tensor::new(dtype, shape, order).random(&mut random);
                        let mut y = Tensor::new(dtype, shape, order);
                        let mut pos = Tensor::new(ids, of_ids, Order::RowMajor)
                            .filled(|_| random.below(9) as f64);
                        let mut sin = Tensor::new(dtype, &[9, 3], order).random(&mut random);
                        let mut cos =
                            Tensor::new(dtype, &[9, 3], Order::Padded).random(&mut random);
                        run!(RoPE, [y, x, pos, sin, cos], algo);
                        let (xs, pos, sin, cos) =
                            (x.values(), pos.values(), sin.values(), cos.values());
                        let mut want = vec![0.0; xs.len()];
                        for line in 0..xs.len() / 6 {
                            let token = line / 2;
                            let position = pos[token % pos.len()] as usize;
                            for pair in 0..3 {
                                let [one, two] = match algo {
                                    0 => [2 * pair, 2 * pair + 1],
                                    _ => [pair, pair + 3],
                                };
                                let (a, b) = (xs[line * 6 + one], xs[line * 6 + two]);
                                let (s, c) = (sin[position * 3 + pair], cos[position * 3 + pair]);
                                want[line * 6 + one] = a * c - b * s;
                                want[line * 6 + two] = a * s + b * c;
                            }
                        }
                        check(&y, &want, 4.0, 8.0);
                    }
                }
            }
        }
    }
}

#[test]
fn a_position_beyond_the_table_is_an_error() {
    let mut x = Tensor::new(DType::F32, &[2, 1, 2], Order::RowMajor).filled(|_| 1.0);
    let mut y = x.clone();
    let mut sin = Tensor::new(DType::F32, &[4, 1], Order::RowMajor).filled(|_| 0.5);
    let mut cos = sin.clone();
    let mut pos = Tensor::new(DType::I32, &[2], Order::RowMajor).filled(|index| 4.0 * index as f64);
    let tensors = [&y, &x, &pos, &sin, &cos].map(Tensor::describe);
    let [a, b, c, d, e] = tensors;
    let (status, desc) = create!(RoPE, [a, b, c, d, e], 0);
    assert_eq!(status, lumina::Status::Success);
    tensors.into_iter().for_each(super::support::destroy);
    let mut size = 0;
    // SAFETY: the operator was made, and tensors have memory as described.
    unsafe {
        lumina::RoPE::get_workspace_size(desc, &mut size);
        let mut workspace = super::support::Workspace::new(size);
        let status = lumina::RoPE::run(
            desc,
            workspace.pointer(),
            size,
            y.pointer(),
            x.pointer(),
            pos.pointer(),
            sin.pointer(),
            cos.pointer(),
            std::ptr::null_mut(),
        );
        assert_eq!(status, lumina::Status::BadParam);
        lumina::RoPE::destroy_descriptor(desc);
    }
    assert_eq!(super::support::last_error(), "`pos_ids` must be from 0 to below 4, got 4");
}
