//! Operators that move elements, sum them up or choose among them.

use lumina_kernels::DType;

use super::support::{FLOATS, INDICES, ORDERS, Order, Random, Tensor, check};

const TYPES: [DType; 8] =
    [DType::F32, DType::F16, DType::BF16, DType::F64, DType::I8, DType::U8, DType::I16, DType::I64];

fn small(random: &mut Random) -> f64 {
    random.below(100) as f64
}

#[test]
fn rearranging_keeps_elements() {
    let mut random = Random::new(13);
    for dtype in TYPES {
        for shape in [&[][..], &[5], &[4, 7], &[2, 3, 4, 5], &[2, 0], &[130, 140]] {
            for order in ORDERS.into_iter().chain([Order::Repeated]) {
                for of_y in ORDERS {
                    let mut x = Tensor::new(dtype, shape, order).filled(|_| small(&mut random));
                    let mut y = Tensor::new(dtype, shape, of_y);
                    run_directly!(Rearrange, [y, x]);
                    check(&y, &x.values(), 0.0, 0.0);
                }
            }
        }
    }
}

#[test]
fn rearranging_in_place_transposes() {
    let mut random = Random::new(14);
    let mut x = Tensor::new(DType::I32, &[6, 6], Order::RowMajor).filled(|_| small(&mut random));
    let before = x.values();
    let [same, _] = x.twice();
    let mut columns = x.clone();
    columns.strides.reverse();
    let descriptors = [x.describe(), columns.describe()];
    let (status, desc) = create!(Rearrange, [descriptors[0], descriptors[1]]);
    assert_eq!(status, lumina::Status::Success);
    descriptors.into_iter().for_each(super::support::destroy);
    // SAFETY: the operator was made, and tensors have memory as described.
    unsafe {
        let status =
            lumina::Rearrange::run(desc, same.pointer(), same.pointer(), std::ptr::null_mut());
        assert_eq!(status, lumina::Status::Success);
        lumina::Rearrange::destroy_descriptor(desc);
    }
    let want: Vec<f64> = (0..36).map(|at| before[at % 6 * 6 + at / 6]).collect();
    check(&x, &want, 0.0, 0.0);
}

#[test]
fn embedding_takes_rows() {
    let mut random = Random::new(15);
    for dtype in TYPES {
        for ids in INDICES {
            for order in ORDERS {
                let mut weight = Tensor::new(dtype, &[9, 4], order).filled(|_| small(&mut random));
                let mut indices =
                    Tensor::new(ids, &[2, 3], order).filled(|_| random.below(9) as f64);
                let mut y = Tensor::new(dtype, &[2, 3, 4], order);
                run_directly!(Embedding, [y, indices, weight]);
                let rows = weight.values();
                let row = |index: &f64| rows[*index as usize * 4..][..4].to_vec();
                let want: Vec<f64> = indices.values().iter().flat_map(row).collect();
                check(&y, &want, 0.0, 0.0);
            }
        }
    }
}

#[test]
fn no_index_takes_no_row() {
    for ids in INDICES {
        for rows in [0, 9] {
            let mut weight = Tensor::new(DType::F32, &[rows, 4], Order::RowMajor);
            let mut indices = Tensor::new(ids, &[2, 0], Order::RowMajor);
            let mut y = Tensor::new(DType::F32, &[2, 0, 4], Order::RowMajor);
            run_directly!(Embedding, [y, indices, weight]);
        }
    }
}

#[test]
fn zeros_and_ones_of_every_type() {
    let all = TYPES.into_iter().chain([DType::I32, DType::U32, DType::Bool]);
    for dtype in all {
        for order in ORDERS {
            for shape in [&[3, 4][..], &[], &[0, 2]] {
                let mut x = Tensor::new(dtype, shape, Order::Padded);
                let mut y = Tensor::new(dtype, shape, order);
                run!(Zeros, [y, x]);
                check(&y, &vec![0.0; y.len()], 0.0, 0.0);
                run!(Ones, [y, x]);
                check(&y, &vec![1.0; y.len()], 0.0, 0.0);
            }
        }
    }
}

#[test]
fn sums_along_axes() {
    let mut random = Random::new(16);
    for dtype in FLOATS {
        for (axes, kept, left) in [
            (&[][..], &[2, 3, 4][..], &[2, 3, 4][..]),
            (&[0], &[1, 3, 4], &[3, 4]),
            (&[2, 0], &[1, 3, 1], &[3]),
            (&[0, 1, 2], &[1, 1, 1], &[]),
        ] {
            for keepdim in [true, false] {
                for order in ORDERS {
                    let mut x = Tensor::new(dtype, &[2, 3, 4], order).random(&mut random);
                    let mut y = Tensor::new(dtype, if keepdim { kept } else { left }, order);
                    let (dims, count) = (axes.as_ptr(), axes.len());
                    run!(Sum, [y, x], dims, count, keepdim; dims, count, keepdim);
                    let mut want = vec![0.0; y.len()];
                    for (at, x) in x.values().into_iter().enumerate() {
                        let mut to = 0;
                        for (axis, index) in [at / 12, at / 4 % 3, at % 4].into_iter().enumerate() {
                            if !axes.contains(&axis) {
                                to = to * [2, 3, 4][axis] + index;
                            }
                        }
                        want[to] += x;
                    }
                    check(&y, &want, 24.0, 2.0);
                }
            }
        }
    }
}

#[test]
fn top_k_finds_what_sorting_finds() {
    let mut random = Random::new(17);
    for dtype in TYPES {
        for of_indices in [DType::I32, DType::I64] {
            for largest in [true, false] {
                for k in [0, 1, 3, 7] {
                    for order in ORDERS {
                        let mut x = Tensor::new(dtype, &[2, 7, 3], order)
                            .filled(|_| random.below(5) as f64);
                        let mut values = Tensor::new(dtype, &[2, k, 3], order);
                        let mut indices = Tensor::new(of_indices, &[2, k, 3], Order::Padded);
                        run!(TopK, [values, indices, x], k, 1, largest, true; k, 1, largest, true);
                        let x = x.values();
                        let (mut want, mut at) = (vec![0.0; 6 * k], vec![0.0; 6 * k]);
                        for line in 0..6 {
                            let (o, i) = (line / 3, line % 3);
                            let mut places: Vec<usize> = (0..7).collect();
                            let of = |place: usize| x[(o * 7 + place) * 3 + i];
                            places.sort_by(|&a, &b| {
                                let ascending = of(a).total_cmp(&of(b));
                                if largest { ascending.reverse() } else { ascending }
                            });
                            for (rank, &place) in places[..k].iter().enumerate() {
                                want[(o * k + rank) * 3 + i] = of(place);
                                at[(o * k + rank) * 3 + i] = place as f64;
                            }
                        }
                        check(&values, &want, 0.0, 0.0);
                        check(&indices, &at, 0.0, 0.0);
                    }
                }
            }
        }
    }
}
