//! Products of matrices, and convolutions.

use lumina_kernels::DType;

use super::support::{Absent, FLOATS, ORDERS, Order, Random, Tensor, check};

/// `Σ a[m, k]·b[k, n]`, and the same of magnitudes, which bounds what roundings may change.
fn product(a: &[f64], b: &[f64], [rows, depth, columns]: [usize; 3]) -> [Vec<f64>; 2] {
    let sum = |f: fn(f64) -> f64| {
        let at = |index: usize| {
            let (m, n) = (index / columns, index % columns);
            (0..depth).map(|k| f(a[m * depth + k] * b[k * columns + n])).sum()
        };
        (0..rows * columns).map(at).collect()
    };
    [sum(|x| x), sum(f64::abs)]
}

#[test]
fn gemm_of_any_layout() {
    let mut random = Random::new(7);
    for dtype in FLOATS {
        for (extents, batch) in [([3, 5, 4], 1), ([1, 33, 70], 1), ([6, 4, 1], 3), ([2, 0, 3], 2)] {
            let [rows, depth, columns] = extents;
            for order in ORDERS {
                for of_b in ORDERS {
                    for (alpha, beta) in [(1.0, 0.0), (0.5, 0.0), (1.0, 1.0), (-2.0, 0.25)] {
                        let shape = |m: usize, n: usize| match batch {
                            1 => vec![m, n],
                            _ => vec![batch, m, n],
                        };
                        let mut a =
                            Tensor::new(dtype, &shape(rows, depth), order).random(&mut random);
                        let mut b =
                            Tensor::new(dtype, &shape(depth, columns), of_b).random(&mut random);
                        let mut c =
                            Tensor::new(dtype, &shape(rows, columns), order).random(&mut random);
                        let before = c.values();
                        if beta == 0.0 {
                            // It is not looked at then.
                            c = c.filled(|_| f64::NAN);
                        }
                        let (x, y) = (a.values(), b.values());
                        run!(Gemm, [c, a, b]; alpha as f32, beta as f32);
                        let mut want = Vec::new();
                        for index in 0..batch {
                            let one = &x[index * rows * depth..][..rows * depth];
                            let two = &y[index * depth * columns..][..depth * columns];
                            want.extend(product(one, two, extents)[0].clone());
                        }
                        for (want, before) in want.iter_mut().zip(&before) {
                            *want = alpha * *want + beta * before;
                        }
                        check(&c, &want, 4.0 + depth as f64, 4.0);
                    }
                }
            }
        }
    }
}

#[test]
fn gemm_repeats_a_matrix_along_the_batch() {
    let mut random = Random::new(8);
    let mut a = Tensor::new(DType::F32, &[3, 2, 4], Order::RowMajor).random(&mut random);
    let mut b = Tensor::new(DType::F32, &[4, 5], Order::ColumnMajor).random(&mut random);
    let mut c = Tensor::new(DType::F32, &[3, 2, 5], Order::RowMajor);
    run!(Gemm, [c, a, b]; 1.0, 0.0);
    let want = &product(&a.values(), &b.values(), [6, 4, 5])[0];
    check(&c, want, 8.0, 4.0);
}

#[test]
fn gemm_over_an_operand_is_gemm() {
    let mut random = Random::new(9);
    let mut a = Tensor::new(DType::F32, &[4, 4], Order::RowMajor).random(&mut random);
    let mut b = Tensor::new(DType::F32, &[4, 4], Order::RowMajor).random(&mut random);
    let want = product(&a.values(), &b.values(), [4, 4, 4]);
    let [c, same] = a.twice();
    run!(Gemm, [c, same, b]; 1.0, 0.0);
    check(&a, &want[0], 8.0, 4.0);
}

#[test]
fn large_products_are_shared_by_threads() {
    let mut random = Random::new(10);
    let mut a = Tensor::new(DType::F32, &[150, 300], Order::ColumnMajor).random(&mut random);
    let mut b = Tensor::new(DType::F32, &[300, 200], Order::Padded).random(&mut random);
    let mut c = Tensor::new(DType::F32, &[150, 200], Order::RowMajor);
    run!(Gemm, [c, a, b]; 1.0, 0.0);
    check(&c, &product(&a.values(), &b.values(), [150, 300, 200])[0], 300.0, 4.0);
}

#[test]
fn convolution_of_one_to_three_axes() {
    let mut random = Random::new(11);
    for dtype in FLOATS {
        for (x_shape, w_shape, pads, strides, dilations) in [
            (&[2, 3, 7][..], &[4, 3, 3][..], &[1][..], &[2][..], &[1][..]),
            (&[1, 4, 6, 5], &[6, 2, 3, 2], &[1, 0], &[1, 2], &[2, 1]),
            (&[1, 2, 4, 4, 3], &[2, 2, 2, 3, 1], &[1, 1, 0], &[1, 2, 1], &[1, 1, 1]),
        ] {
            for order in ORDERS {
                for has_bias in [true, false] {
                    let n = pads.len();
                    let places = |axis: usize| {
                        let reach = dilations[axis] * (w_shape[axis + 2] as i64 - 1) + 1;
                        (x_shape[axis + 2] as i64 + 2 * pads[axis] - reach) / strides[axis] + 1
                    };
                    let mut y_shape = vec![x_shape[0], w_shape[0]];
                    y_shape.extend((0..n).map(|axis| places(axis) as usize));
                    let mut x = Tensor::new(dtype, x_shape, order).random(&mut random);
                    let mut w = Tensor::new(dtype, w_shape, Order::Padded).random(&mut random);
                    let mut b = Tensor::new(dtype, &w_shape[..1], order).random(&mut random);
                    let mut y = Tensor::new(dtype, &y_shape, order);
                    let lists = (pads.as_ptr(), strides.as_ptr(), dilations.as_ptr());
                    if has_bias {
                        run!(Conv, [y, x, w, b], lists.0, lists.1, lists.2, n);
                    } else {
                        let mut b = Absent;
                        run!(Conv, [y, x, w, b], lists.0, lists.1, lists.2, n);
                    }
                    let bias = if has_bias { b.values() } else { vec![0.0; w_shape[0]] };
                    let want = convolution(
                        [&x.values(), &w.values(), &bias],
                        [x_shape, w_shape, &y_shape],
                        [pads, strides, dilations],
                    );
                    check(&y, &want, 40.0, 4.0);
                }
            }
        }
    }
}

#[test]
fn a_convolution_without_lists_takes_every_place_once() {
    let mut random = Random::new(12);
    let (x_shape, w_shape, y_shape) = ([1, 2, 5, 4], [3, 2, 2, 3], [1, 3, 4, 2]);
    let mut x = Tensor::new(DType::F32, &x_shape, Order::RowMajor).random(&mut random);
    let mut w = Tensor::new(DType::F32, &w_shape, Order::RowMajor).random(&mut random);
    let mut b = Tensor::new(DType::F32, &w_shape[..1], Order::RowMajor).random(&mut random);
    let mut y = Tensor::new(DType::F32, &y_shape, Order::RowMajor);
    let none = std::ptr::null();
    run!(Conv, [y, x, w, b], none, none, none, 2);
    let want = convolution(
        [&x.values(), &w.values(), &b.values()],
        [&x_shape, &w_shape, &y_shape],
        [&[0, 0], &[1, 1], &[1, 1]],
    );
    check(&y, &want, 12.0, 4.0);
}

/// The definition, an output at a time.
fn convolution(
    [x, w, bias]: [&[f64]; 3],
    [x_shape, w_shape, y_shape]: [&[usize]; 3],
    [pads, strides, dilations]: [&[i64]; 3],
) -> Vec<f64> {
    let index = |mut at: usize, shape: &[usize]| -> Vec<usize> {
        let mut digits: Vec<usize> = shape
            .iter()
            .rev()
            .map(|&extent| {
                let digit = at % extent;
                at /= extent;
                digit
            })
            .collect();
        digits.reverse();
        digits
    };
    let channels = w_shape[1];
    let outputs_of_group = w_shape[0] / (x_shape[1] / channels);
    let taps: usize = w_shape[2..].iter().product();
    (0..y_shape.iter().product())
        .map(|at| {
            let place = index(at, y_shape);
            let mut sum = bias[place[1]];
            for channel in 0..channels {
                for tap in 0..taps {
                    let tap_index = index(tap, &w_shape[2..]);
                    let mut from =
                        place[0] * x_shape[1] + place[1] / outputs_of_group * channels + channel;
                    let mut is_inside = true;
                    for axis in 0..pads.len() {
                        let at = place[axis + 2] as i64 * strides[axis]
                            + tap_index[axis] as i64 * dilations[axis]
                            - pads[axis];
                        is_inside &= (0..x_shape[axis + 2] as i64).contains(&at);
                        from = from.wrapping_mul(x_shape[axis + 2]).wrapping_add(at as usize);
                    }
                    if is_inside {
                        sum += x[from] * w[(place[1] * channels + channel) * taps + tap];
                    }
                }
            }
            sum
        })
        .collect()
}

#[test]
fn complex_products() {
    // Real numbers, and those turned by i, whose products are known from real ones.
    let mut random = Random::new(12);
    for order in ORDERS {
        let mut a = Tensor::new(DType::C64, &[3, 4], order).random(&mut random);
        let mut b = Tensor::new(DType::C64, &[4, 5], Order::Padded).random(&mut random);
        let mut c = Tensor::new(DType::C64, &[3, 5], Order::RowMajor);
        [&mut a, &mut b].into_iter().for_each(Tensor::clear_imaginary);
        run!(ComplexMatmul, [c, a, b]);
        let want = &product(&a.values(), &b.values(), [3, 4, 5])[0];
        for (got, want) in c.values().iter().zip(want) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        assert!(c.imaginary().iter().all(|part| part.abs() < 1e-5));
    }
}
