//! Causal softmax and its gradient against the slow loops that define them.

use lumina_kernels::{Serial, ThreadPool};

use crate::support::{Tensor, bits_of, numbers, run};

const SIZES: [[usize; 2]; 7] = [[1, 1], [3, 15], [5, 16], [4, 33], [40, 100], [90, 700], [3, 0]];

fn matrix([rows, columns]: [usize; 2], salt: u64, factor: f32) -> Tensor {
    let values = numbers(rows * columns, salt).iter().map(|v| factor * v).collect();
    Tensor::F32(vec![rows, columns], values)
}

/// Numbers of seen columns: none, all, beyond both ends, and between.
fn seen_of([rows, columns]: [usize; 2]) -> Vec<i32> {
    let columns = columns as i32;
    (0..rows as i32).map(|row| (row * 37 + 5) % (columns + 4) - 2).collect()
}

fn softmax(scores: &[f32], seen: usize, scale: f32) -> Vec<f64> {
    let z: Vec<f64> = scores[..seen].iter().map(|v| f64::from(scale * v)).collect();
    let peak = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - peak).exp()).sum();
    let mut p: Vec<f64> = z.iter().map(|z| (z - peak).exp() / sum).collect();
    p.resize(scores.len(), 0.0);
    p
}

fn gradient(g: &[f32], p: &[f32], seen: usize, scale: f32) -> Vec<f64> {
    let of = |n: usize| (f64::from(g[n]), f64::from(p[n]));
    let mean: f64 = (0..seen).map(|n| of(n).0 * of(n).1).sum();
    (0..g.len())
        .map(|n| if n < seen { f64::from(scale) * of(n).1 * (of(n).0 - mean) } else { 0.0 })
        .collect()
}

fn assert_close(got: &[f32], want: &[f64], label: &str) {
    for (got, want) in got.iter().zip(want) {
        assert!((f64::from(*got) - want).abs() <= 2e-6 * want.abs().max(1e-3), "{label}");
        assert!(*want != 0.0 || *got == 0.0, "{label}");
    }
}

/// One scale for all rows, and one for each.
#[test]
fn both_ops_are_their_loops_on_any_number_of_threads() {
    for size in SIZES {
        let [rows, columns] = size;
        for scales in [1, rows] {
            let label = format!("{size:?} {scales}");
            let seen = seen_of(size);
            let scale: Vec<f32> = (0..scales).map(|row| 0.3 + row as f32 / 8.0).collect();
            let scale_of = |row: usize| scale[row.min(scales - 1)];
            let count_of = |row: usize| seen[row].clamp(0, columns as i32) as usize;
            let scores = matrix(size, 1, 8.0);
            let g = matrix(size, 2, 1.0);
            let others =
                [Tensor::I32(vec![rows], seen.clone()), Tensor::F32(vec![scales], scale.clone())];
            let inputs = [&[scores.clone()][..], &others].concat();
            let forward = run("causal_softmax", &[], &inputs, &Serial).unwrap();
            let inputs_of_grad = [&[g.clone(), forward[0].clone()][..], &others].concat();
            let backward = run("causal_softmax_grad", &[], &inputs_of_grad, &Serial).unwrap();
            for row in 0..rows {
                let of = |tensor: &Tensor| tensor.f32()[row * columns..][..columns].to_vec();
                let p = of(&forward[0]);
                assert_close(&p, &softmax(&of(&scores), count_of(row), scale_of(row)), &label);
                let want = gradient(&of(&g), &p, count_of(row), scale_of(row));
                for (got, want) in of(&backward[0]).iter().zip(want) {
                    // What cancels in `g - mean` is at most 1.
                    assert!((f64::from(*got) - want).abs() <= 2e-6 * f64::from(scale_of(row)));
                }
            }
            for threads in [1, 2, 7] {
                let pool = ThreadPool::new(threads).unwrap();
                let of_softmax = run("causal_softmax", &[], &inputs, &pool).unwrap();
                let of_grad = run("causal_softmax_grad", &[], &inputs_of_grad, &pool).unwrap();
                assert_eq!(bits_of(&of_softmax), bits_of(&forward), "{label} {threads}");
                assert_eq!(bits_of(&of_grad), bits_of(&backward), "{label} {threads}");
            }
        }
    }
}

/// The same bits on every CPU: written down once, and found again with every instruction set.
#[test]
fn bits_do_not_depend_on_the_instruction_set() {
    let size = [90, 700];
    let seen = Tensor::I32(vec![90], seen_of(size));
    let scale = Tensor::F32(vec![1], vec![0.7]);
    let inputs = [matrix(size, 1, 8.0), seen.clone(), scale.clone()];
    let forward = run("causal_softmax", &[], &inputs, &Serial).unwrap();
    let inputs = [matrix(size, 2, 1.0), forward[0].clone(), seen, scale];
    let backward = run("causal_softmax_grad", &[], &inputs, &Serial).unwrap();
    let digest = |tensor: &Tensor| {
        tensor.bits().iter().fold(0u32, |sum, bits| sum.rotate_left(5).wrapping_add(*bits))
    };
    assert_eq!([digest(&forward[0]), digest(&backward[0])], [4_073_072_450, 1_490_706_471]);
}
