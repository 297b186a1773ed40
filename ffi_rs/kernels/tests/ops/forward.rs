//! The peak of the chain, and what it refuses.

use lumina_kernels::{Serial, ThreadPool};

use crate::support::{
    DEPLOYED, FORWARD, NOISE, SIZES, Tensor, attrs, bits_of, operands, run, run_prepared, with_peak,
};

#[test]
fn the_peak_is_the_largest_finite_y_of_the_row() {
    // Of 700 columns, several threads make several tiles.
    for size in SIZES.into_iter().chain([[3, 5, 700]]) {
        let [rows, depth, columns] = size;
        for bits in [[0, 0, 8], [8, 8, 8], [12, 0, 0]] {
            for bad in [None, Some(f32::NAN), Some(f32::INFINITY), Some(f32::MAX)] {
                let mut inputs = operands(size, false, NOISE);
                if let (Some(bad), 2.., 1..) = (bad, rows, depth) {
                    let Tensor::F32(_, x) = &mut inputs[0] else { unreachable!() };
                    x[depth..2 * depth].fill(bad);
                    let Tensor::F32(_, bias) = &mut inputs[2] else { unreachable!() };
                    bias.iter_mut().step_by(4).for_each(|bias| *bias = bad);
                }
                let of_y = run(FORWARD, &attrs(bits, false, true, "pre_noise"), &inputs, &Serial);
                let of_y = of_y.unwrap();
                let y = of_y[1].f32();
                let expected: Vec<f32> = (0..rows)
                    .map(|row| y[row * columns..][..columns].iter().map(|v| v.abs()))
                    .map(|row| row.filter(|v| v.is_finite()).fold(0.0, f32::max))
                    .collect();
                for residual in ["none", "pre_noise", "slope", "signs"] {
                    let alone = attrs(bits, false, true, residual);
                    let mut want = run(FORWARD, &alone, &inputs, &Serial).unwrap();
                    want.push(Tensor::F32(vec![rows], expected.clone()));
                    for threads in [1, 2, 7] {
                        let pool = ThreadPool::new(threads).unwrap();
                        let attrs = with_peak(alone.clone());
                        let got = run(FORWARD, &attrs, &inputs, &pool).unwrap();
                        assert_eq!(got.last().unwrap().shape(), [rows]);
                        assert_eq!(
                            bits_of(&got),
                            bits_of(&want),
                            "{size:?} {bits:?} {bad:?} {threads}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn refuses_what_it_does_not_accept() {
    let good = operands([4, 6, 5], false, NOISE);
    let noisy = attrs([8, 8, 8], false, true, "none");
    let refuse = |index: usize, tensor: Tensor, expected: &str| {
        let mut inputs = good.clone();
        inputs[index] = tensor;
        let error = run(FORWARD, &noisy, &inputs, &Serial).unwrap_err();
        assert_eq!(error.to_string(), expected);
    };
    let f32s = |shape: &[usize]| Tensor::F32(shape.to_vec(), vec![1.0; shape.iter().product()]);
    refuse(0, f32s(&[4]), "optical_matmul_fwd: `x` must be an f32 matrix, got f32[4]");
    refuse(
        1,
        f32s(&[7, 5]),
        "optical_matmul_fwd: `w` must have 6 elements along the contracted axis as `x` has, got 7",
    );
    refuse(2, f32s(&[4]), "optical_matmul_fwd: `bias` must be f32[1|5], got f32[4]");
    refuse(3, f32s(&[5]), "optical_matmul_fwd: `x_full_scale` must be f32[0|1|4], got f32[5]");
    refuse(6, f32s(&[1, 3]), "optical_matmul_fwd: `noise` must be f32[1|4,4], got f32[1,3]");
    refuse(7, f32s(&[1, 2]), "optical_matmul_fwd: `seed` must be u32[1|4,2], got f32[1,2]");
    refuse(
        8,
        Tensor::U32(vec![1], vec![0]),
        "optical_matmul_fwd: `rows` must be u32[4], got u32[1]",
    );
    let error = run(FORWARD, &noisy, &good[..3], &Serial).unwrap_err();
    assert_eq!(error.to_string(), "optical_matmul_fwd: expected 7 range and noise operands, got 0");
    let error = run(FORWARD, &noisy[1..], &good, &Serial).unwrap_err();
    assert_eq!(
        error.to_string(),
        "optical_matmul_fwd: attribute `dac_bits` is missing, expected an integer"
    );
    let bools = ["with_peak", "with_x_peak", "with_w_peak"].map(|name| (name, "a bool"));
    for (name, kind) in [("residual", "a string")].into_iter().chain(bools) {
        let missing: Vec<_> = noisy.iter().filter(|(other, _)| *other != name).copied().collect();
        let error = run(FORWARD, &missing, &good, &Serial).unwrap_err();
        let expected =
            format!("optical_matmul_fwd: attribute `{name}` is missing, expected {kind}");
        assert_eq!(error.to_string(), expected);
    }
    let error = run(FORWARD, &attrs([33, 0, 0], false, false, "none"), &good, &Serial);
    assert_eq!(
        error.unwrap_err().to_string(),
        "optical_matmul_fwd: `dac_bits` must be in 0..=32, got 33"
    );
    let error = run(FORWARD, &attrs([0; 3], false, false, "both"), &good, &Serial);
    assert_eq!(
        error.unwrap_err().to_string(),
        "optical_matmul_fwd: `residual` must be none, pre_noise, slope or signs, got both"
    );
}

#[test]
fn weights_that_are_packed_once_give_the_same_bits() {
    const W: usize = 1;
    const W_FULL_SCALE: usize = 4;
    for size in SIZES.into_iter().chain([[3, 5, 700]]) {
        for bits in [[0, 0, 8], [8, 8, 8], [0, 12, 0]] {
            for transposed in [false, true] {
                let inputs = operands(size, transposed, NOISE);
                let attrs = attrs(bits, transposed, true, "none");
                let want = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
                let got = run(DEPLOYED, &attrs, &inputs, &Serial).unwrap();
                assert_eq!(bits_of(&got), bits_of(&want));
                let got = run_prepared(DEPLOYED, &attrs, &inputs, &[W, W_FULL_SCALE], W);
                let label = format!("{size:?} {bits:?} {transposed}");
                // Weights without a converter are multiplied where they lie.
                let packs = size[2] > 0 && (bits[1] > 0 || transposed);
                assert_eq!(got.is_some(), packs, "{label}");
                if let Some(got) = got {
                    assert_eq!(bits_of(&got), bits_of(&want), "{label}");
                }
                assert!(run_prepared(DEPLOYED, &attrs, &inputs, &[W], W).is_none());
            }
        }
    }
}
