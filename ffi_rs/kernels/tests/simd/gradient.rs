//! The gradient of the chain against its definition, and what must not change its bits.

use lumina_kernels::{Serial, ThreadPool};
use proptest::prelude::*;

use crate::support::oracle::gradient;
use crate::support::{
    DW, DX, GRADIENT, NOISE, PRECISIONS, QUIET, SIZES, Tensor, asking, gradient_operands, precise,
    run,
};

#[test]
fn follows_the_definition() {
    // More than one block of rows; more weights than are laid out at once; rows so long that
    // they are copied; a long sum over columns.
    let sizes = SIZES.into_iter().chain([
        [300, 9, 35],
        [515, 3, 50],
        [1100, 5, 70],
        [2, 300, 257],
        [9, 70, 2100],
        [2, 3, 3000],
    ]);
    for size in sizes {
        for bits in [[0, 0, 0], [8, 8, 8], [4, 12, 0], [12, 6, 0], [1, 1, 0], [8, 0, 4]] {
            for transposed in [false, true] {
                let (attrs, inputs) = gradient_operands(size, bits, transposed, QUIET);
                for precision in PRECISIONS {
                    let attrs = precise(attrs.clone(), precision);
                    let got = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
                    let want = gradient(&inputs, bits, transposed, precision);
                    for (name, got, want) in [("dx", &got[0], &want[0]), ("dw", &got[1], &want[1])]
                    {
                        for (index, (got, want)) in got.f32().iter().zip(want).enumerate() {
                            assert!(
                                (f64::from(*got) - want.value).abs() <= want.slack,
                                "{precision} {name}[{index}] {size:?} {bits:?} {transposed}: {got} \
                                 instead of {} ± {}",
                                want.value,
                                want.slack,
                            );
                        }
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn threads_give_the_same_bits(
        rows in prop_oneof![3 => 1..400usize, 1 => 1000..1300usize],
        depth in 1..120usize,
        columns in 1..300usize,
        bits in prop::sample::select(vec![[0, 0, 8], [8, 8, 8], [4, 4, 4], [12, 0, 0], [0, 8, 0]]),
        transposed: bool,
        noise in prop::sample::select(vec![QUIET, NOISE, [0.0, 0.0, 0.2, 0.0]]),
        precision in prop::sample::select(PRECISIONS.to_vec()),
        flags: [bool; 2],
    ) {
        let (attrs, inputs) = gradient_operands([rows, depth, columns], bits, transposed, noise);
        let attrs = asking(precise(attrs, precision), flags);
        let alone = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
        for threads in [1, 2, 7] {
            let pool = ThreadPool::new(threads).unwrap();
            let again = run(GRADIENT, &attrs, &inputs, &pool).unwrap();
            for (index, (one, other)) in alone.iter().zip(&again).enumerate() {
                prop_assert_eq!(one.bits(), other.bits(), "result {} of {} threads", index, threads);
            }
        }
    }
}

#[test]
fn an_upstream_gradient_that_is_not_finite_shows_in_its_rows_and_columns_only() {
    for bits in [[0, 0, 0], [8, 8, 8], [8, 0, 0], [0, 8, 0]] {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let (attrs, mut inputs) = gradient_operands([270, 6, 5], bits, false, QUIET);
            inputs[2] = Tensor::F32(vec![270, 6], vec![0.5; 270 * 6]);
            inputs[3] = Tensor::F32(vec![6, 5], vec![0.5; 6 * 5]);
            let Tensor::F32(_, g) = &mut inputs[0] else { unreachable!() };
            // Several rows, so that sums of integers meet several codes of no meaning.
            (0..16).for_each(|row| g[row * 5 + 2] = bad);
            for precision in PRECISIONS {
                let got =
                    run(GRADIENT, &precise(attrs.clone(), precision), &inputs, &Serial).unwrap();
                for (index, dx) in got[DX].f32().iter().enumerate() {
                    assert_eq!(!dx.is_finite(), index / 6 < 16, "{precision} {bits:?} {index}");
                }
                for (index, dw) in got[DW].f32().iter().enumerate() {
                    assert_eq!(!dw.is_finite(), index % 5 == 2, "{precision} {bits:?} {index}");
                }
            }
        }
    }
}

#[test]
fn tiny_upstream_gradients_are_rounded_to_zero_or_to_a_code() {
    for bits in [[0, 0, 0], [8, 8, 0], [8, 0, 0], [0, 8, 0]] {
        for tiny in [1e-35, 1.6e-36, 1.4e-36, 1e-37, 1.2e-38, 1e-39] {
            let (attrs, mut inputs) = gradient_operands([16, 6, 5], bits, false, QUIET);
            let Tensor::F32(_, g) = &mut inputs[0] else { unreachable!() };
            g.iter_mut().enumerate().for_each(|(i, g)| *g = if i % 3 == 0 { 0.0 } else { tiny });
            let got = run(GRADIENT, &precise(attrs, "int8"), &inputs, &Serial).unwrap();
            for v in [DX, DW].into_iter().flat_map(|index| got[index].f32()) {
                // At most 16 products with numbers of at most 1.
                assert!(v.abs() <= 16.0 * tiny, "{tiny} {bits:?}: {v}");
            }
        }
    }
}
