//! Causal softmax: what is never read, rows without a probability, and what is refused.

use lumina_kernels::Serial;

use crate::support::{Tensor, run};

const SOFTMAX: &str = "causal_softmax";
const GRADIENT: &str = "causal_softmax_grad";

fn vector(values: &[f32]) -> Tensor {
    Tensor::F32(vec![values.len()], values.to_vec())
}

fn row(values: &[f32]) -> Tensor {
    Tensor::F32(vec![1, values.len()], values.to_vec())
}

fn seen(values: &[i32]) -> Tensor {
    Tensor::I32(vec![values.len()], values.to_vec())
}

fn softmax(scores: &[f32], count: i32, scale: f32) -> Vec<f32> {
    let inputs = [row(scores), seen(&[count]), vector(&[scale])];
    run(SOFTMAX, &[], &inputs, &Serial).unwrap()[0].f32().to_vec()
}

/// Where the last number of a wide row stands: in a whole group of lanes, and in what is left.
const WIDTHS: [usize; 3] = [16, 21, 40];

#[test]
fn what_is_not_seen_is_never_read() {
    for width in WIDTHS {
        let mut scores = vec![0.5; width];
        scores[width - 2..].fill(f32::NAN);
        let count = width as i32 - 2;
        let p = softmax(&scores, count, 1.0);
        assert_eq!(p[width - 2..], [0.0, 0.0]);
        assert!(p[..width - 2].iter().all(|p| (p * count as f32 - 1.0).abs() < 1e-6));
        let inputs = [row(&scores), row(&scores), seen(&[count]), vector(&[1.0])];
        let ds = run(GRADIENT, &[], &inputs, &Serial).unwrap();
        assert_eq!(ds[0].f32()[width - 2..], [0.0, 0.0]);
        assert!(ds[0].f32().iter().all(|ds| ds.is_finite()));
    }
}

#[test]
fn scores_that_are_no_numbers() {
    for width in WIDTHS {
        for at in [0, width - 1] {
            for scale in [1.0, 0.0, -1.0] {
                for bad in [f32::NAN, f32::INFINITY] {
                    let mut scores = vec![1.0; width];
                    scores[at] = bad;
                    assert!(softmax(&scores, width as i32, scale).iter().all(|p| p.is_nan()));
                }
                let mut scores = vec![1.0; width];
                scores[at] = f32::NEG_INFINITY;
                let p = softmax(&scores, width as i32, scale);
                assert_eq!(p[at], 0.0);
                assert_eq!(p.iter().filter(|p| **p > 0.0).count(), width - 1);
                let nothing = softmax(&vec![f32::NEG_INFINITY; width], width as i32, scale);
                assert_eq!(nothing, vec![0.0; width]);
            }
        }
        assert_eq!(softmax(&vec![1.0; width], -1, 1.0), vec![0.0; width]);
    }
}

#[test]
fn other_operands_are_refused() {
    let (scores, count, scale) = (row(&[1.0, 2.0]), seen(&[1]), vector(&[1.0]));
    let cases: [(&str, Vec<Tensor>, &str); 7] = [
        (SOFTMAX, vec![scores.clone()], "expected 3 operands, got 1"),
        (
            SOFTMAX,
            vec![vector(&[1.0]), count.clone(), scale.clone()],
            "`scores` must be an f32 matrix, got f32[1]",
        ),
        (
            SOFTMAX,
            vec![scores.clone(), seen(&[1, 2]), scale.clone()],
            "`seen` must be i32[1], got i32[2]",
        ),
        (
            SOFTMAX,
            vec![scores.clone(), vector(&[1.0]), scale.clone()],
            "`seen` must be i32[1], got f32[1]",
        ),
        (
            SOFTMAX,
            vec![scores.clone(), count.clone(), vector(&[1.0, 2.0])],
            "`scale` must be f32[1], got f32[2]",
        ),
        (GRADIENT, vec![scores.clone(), scores.clone()], "expected 4 operands, got 2"),
        (GRADIENT, vec![scores, row(&[1.0]), count, scale], "`p` must be f32[1,2], got f32[1,1]"),
    ];
    for (op, inputs, text) in cases {
        let error = run(op, &[], &inputs, &Serial).unwrap_err().to_string();
        assert_eq!(error, format!("{op}: {text}"));
    }
}
