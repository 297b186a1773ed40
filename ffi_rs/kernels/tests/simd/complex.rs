//! Products of complex matrices: the plain one against its loops, and the chain against that of reals.

use lumina_kernels::{Attr, Complex32, ParFor, Serial, ThreadPool};

use crate::support::{Tensor, attrs, bits_of, grad_operands, numbers, operands, run};

const SIZES: [[usize; 3]; 8] = [
    [1, 1, 1],
    [1, 301, 100],
    [2, 41, 19],
    [3, 5, 7],
    [7, 40, 17],
    [70, 33, 130],
    [200, 300, 100],
    [2, 0, 3],
];
const NOISES: [[f32; 4]; 2] = [[0.0; 4], [0.1, 0.2, 0.3, 0.05]];

fn field(shape: [usize; 2], salt: u64) -> Tensor {
    let parts = numbers(2 * shape[0] * shape[1], salt);
    let of_pair = |pair: &[f32]| Complex32::new(pair[0], pair[1]);
    Tensor::C64(shape.to_vec(), parts.chunks_exact(2).map(of_pair).collect())
}

fn transposed(tensor: &Tensor) -> Tensor {
    let Tensor::C64(shape, data) = tensor else { panic!("not complex") };
    let (rows, columns) = (shape[0], shape[1]);
    let at = |index: usize| data[index % rows.max(1) * columns + index / rows.max(1)];
    Tensor::C64(vec![columns, rows], (0..rows * columns).map(at).collect())
}

#[test]
fn a_product_is_its_loops_in_any_layout_on_any_number_of_threads() {
    for [rows, depth, columns] in SIZES {
        let (x, w) = (field([rows, depth], 1), field([depth, columns], 2));
        let flags = |x, w| {
            [
                ("dtype", Attr::Str("c64")),
                ("transpose_x", Attr::Bool(x)),
                ("transpose_w", Attr::Bool(w)),
            ]
        };
        let product = |x_t: bool, w_t: bool, pool: &dyn ParFor| {
            let inputs = [
                if x_t { transposed(&x) } else { x.clone() },
                if w_t { transposed(&w) } else { w.clone() },
            ];
            run("complex_matmul", &flags(x_t, w_t), &inputs, pool).unwrap()
        };
        let expected = product(false, false, &Serial);
        let of = |tensor: &Tensor, index: usize| {
            let pair = &tensor.f32()[2 * index..];
            [f64::from(pair[0]), f64::from(pair[1])]
        };
        for index in 0..rows * columns {
            let (row, column) = (index / columns, index % columns);
            let (mut want, mut size) = ([0.0; 2], 0.0);
            for k in 0..depth {
                let ([a, b], [c, d]) = (of(&x, row * depth + k), of(&w, k * columns + column));
                want = [want[0] + a * c - b * d, want[1] + a * d + b * c];
                size += a.hypot(b) * c.hypot(d);
            }
            for (got, want) in of(&expected[0], index).into_iter().zip(want) {
                let tolerance = 6e-8 * size * (4.0 + 2.0 * (depth as f64).sqrt());
                assert!((got - want).abs() <= tolerance, "{rows} {depth} {columns}");
            }
        }
        for threads in [1, 2, 5] {
            let pool = ThreadPool::new(threads).unwrap();
            for (x_t, w_t) in [(false, false), (true, false), (false, true), (true, true)] {
                assert_eq!(bits_of(&product(x_t, w_t, &pool)), bits_of(&expected));
            }
        }
    }
}

/// The same operands as complex numbers, and as the floats that they are.
fn both_forms([rows, depth, columns]: [usize; 3], noise: [f32; 4]) -> [Vec<Tensor>; 2] {
    let of_numbers = operands([rows, depth, columns], false, noise);
    let (x, w, bias) =
        (field([rows, depth], 3), field([depth, columns], 4), field([1, columns], 5));
    let twice = |tensor: &Tensor| {
        let data = tensor.f32().iter().flat_map(|value| [*value; 2]).collect();
        Tensor::F32(vec![2 * tensor.shape()[0]], data)
    };
    let mut real = vec![0.0; 4 * depth * columns];
    for k in 0..depth {
        for j in 0..columns {
            let [re, im] = [0, 1].map(|part| w.f32()[2 * (k * columns + j) + part]);
            for (row, values) in [[re, im], [-im, re]].into_iter().enumerate() {
                real[(2 * k + row) * 2 * columns + 2 * j..][..2].copy_from_slice(&values);
            }
        }
    }
    let mut complex = of_numbers.clone();
    let Tensor::C64(_, bias_data) = &bias else { panic!("not complex") };
    complex[..3].clone_from_slice(&[x.clone(), w, Tensor::C64(vec![columns], bias_data.clone())]);
    let mut floats = of_numbers;
    floats[0] = Tensor::F32(vec![rows, 2 * depth], x.f32().to_vec());
    floats[1] = Tensor::F32(vec![2 * depth, 2 * columns], real);
    floats[2] = Tensor::F32(vec![2 * columns], bias.f32().to_vec());
    floats[4] = twice(&floats[4]);
    floats[5] = twice(&floats[5]);
    let Tensor::U32(_, ids) = &floats[9] else { panic!("not ids") };
    let first = 2 * ids.first().copied().unwrap_or(0);
    floats[9] = Tensor::U32(vec![2 * columns], (first..first + 2 * columns as u32).collect());
    [complex, floats]
}

#[test]
fn the_quiet_chain_is_that_of_floats_to_the_bit() {
    for size in SIZES {
        let [complex, floats] = both_forms(size, NOISES[0]);
        for bits in [[0, 0, 0], [8, 8, 8], [4, 4, 0], [12, 9, 10], [0, 5, 6], [6, 0, 7]] {
            let attrs = attrs(bits, false, false, "pre_noise");
            let got = run("complex_optical_matmul_fwd", &attrs, &complex, &Serial).unwrap();
            let want = run("optical_matmul_fwd", &attrs, &floats, &Serial).unwrap();
            assert_eq!(bits_of(&got), bits_of(&want), "{size:?} {bits:?}");

            let of_complex = grad_operands(&complex, got[1].clone());
            let of_floats = grad_operands(&floats, want[1].clone());
            let got = run("complex_optical_matmul_grad", &attrs, &of_complex, &Serial).unwrap();
            let want = run("optical_matmul_grad", &attrs, &of_floats, &Serial).unwrap();
            assert_eq!(got[0].bits(), want[0].bits(), "{size:?} {bits:?}");
            let (real, columns) = (want[1].f32(), 2 * size[2]);
            for (index, got) in got[1].f32().chunks_exact(2).enumerate() {
                let (k, j) = (index / size[2], index % size[2]);
                let at = |row: usize, part: usize| real[(2 * k + row) * columns + 2 * j + part];
                assert_eq!(got, [at(0, 0) + at(1, 1), at(0, 1) - at(1, 0)], "{size:?} {bits:?}");
            }
        }
    }
}

#[test]
fn neither_threads_nor_layouts_change_a_bit_of_the_noisy_chain_and_its_gradient() {
    for size in SIZES {
        let [complex, _] = both_forms(size, NOISES[1]);
        for bits in [[0, 0, 0], [8, 8, 8], [12, 9, 10]] {
            let forward = |w_t: bool, pool: &dyn ParFor| {
                let mut inputs = complex.clone();
                if w_t {
                    inputs[1] = transposed(&inputs[1]);
                }
                let attrs = attrs(bits, w_t, true, "pre_noise");
                run("complex_optical_matmul_fwd", &attrs, &inputs, pool).unwrap()
            };
            let expected = forward(false, &Serial);
            let inputs = grad_operands(&complex, expected[1].clone());
            let backward = |w_t: bool, pool: &dyn ParFor| {
                let mut inputs = inputs.clone();
                if w_t {
                    inputs[3] = transposed(&inputs[3]);
                }
                let attrs = attrs(bits, w_t, true, "pre_noise");
                let mut gradient =
                    run("complex_optical_matmul_grad", &attrs, &inputs, pool).unwrap();
                if w_t {
                    gradient[1] = transposed(&gradient[1]);
                }
                gradient
            };
            let gradient = backward(false, &Serial);
            for threads in [1, 3] {
                let pool = ThreadPool::new(threads).unwrap();
                for w_t in [false, true] {
                    assert_eq!(bits_of(&forward(w_t, &pool)), bits_of(&expected), "{size:?}");
                    let got = backward(w_t, &pool);
                    assert_eq!(bits_of(&got), bits_of(&gradient), "{size:?} {bits:?}");
                }
            }
        }
    }
}
