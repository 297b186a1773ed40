//! Ranges that are left out, and the peaks that they are.

use lumina_kernels::{Attr, Serial, ThreadPool};

use crate::support::{
    DEPLOYED, FORWARD, NOISE, SIZES, Tensor, attrs, bits_of, operands, run, run_prepared, with,
};

const X: usize = 0;
const W: usize = 1;
const X_FULL_SCALE: usize = 3;
const W_FULL_SCALE: usize = 4;

/// The largest finite magnitudes of `count` rows, or columns, of so many numbers.
fn peaks(values: &Tensor, count: usize, by_row: bool) -> Vec<f32> {
    let values = values.f32();
    let length = values.len() / count.max(1);
    let at = |index: usize, n: usize| if by_row { index * length + n } else { n * count + index };
    (0..count)
        .map(|index| {
            let values = (0..length).map(|n| values[at(index, n)].abs());
            values.filter(|v| v.is_finite()).fold(0.0, f32::max)
        })
        .collect()
}

fn vector(values: Vec<f32>) -> Tensor {
    Tensor::F32(vec![values.len()], values)
}

/// With ranges left out: the bits of the same ranges given, and as peaks the ranges, given or not.
#[test]
fn ranges_that_are_left_out_are_the_peaks() {
    for size in SIZES.into_iter().chain([[3, 5, 700], [300, 40, 30]]) {
        let [rows, _, columns] = size;
        for bits in [[8, 8, 8], [4, 1, 0], [12, 9, 8], [0, 8, 0], [8, 0, 0]] {
            for (transposed, bad) in
                [(false, 0.5), (true, f32::NAN), (false, f32::INFINITY), (true, f32::MAX)]
            {
                let mut inputs = operands(size, transposed, NOISE);
                for operand in [X, W] {
                    let Tensor::F32(_, values) = &mut inputs[operand] else { unreachable!() };
                    values.iter_mut().skip(5).step_by(97).for_each(|value| *value = bad);
                }
                let x_peak = peaks(&inputs[X], rows, true);
                let w_peak = peaks(&inputs[W], columns, transposed);
                inputs[X_FULL_SCALE] = vector(vec![x_peak.iter().copied().fold(0.0, f32::max)]);
                inputs[W_FULL_SCALE] = vector(w_peak.clone());
                let label = format!("{size:?} {bits:?} {transposed} {bad}");

                let attrs = attrs(bits, transposed, true, "pre_noise");
                let mut want = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
                want.extend([vector(x_peak), vector(w_peak)]);
                let of_both = with(
                    attrs.clone(),
                    &[("with_x_peak", Attr::Bool(true)), ("with_w_peak", Attr::Bool(true))],
                );
                let given = run(FORWARD, &of_both, &inputs, &Serial).unwrap();
                assert_eq!(bits_of(&given), bits_of(&want), "{label}");

                for range in [X_FULL_SCALE, W_FULL_SCALE] {
                    inputs[range] = vector(vec![]);
                }
                for threads in [1, 2, 7] {
                    let pool = ThreadPool::new(threads).unwrap();
                    let got = run(FORWARD, &of_both, &inputs, &pool).unwrap();
                    assert_eq!(bits_of(&got), bits_of(&want), "{label} {threads}");
                }
                let deployed = run(DEPLOYED, &attrs, &inputs, &Serial).unwrap();
                assert_eq!(bits_of(&deployed), bits_of(&want[..1]), "{label}");
                if let Some(packed) = run_prepared(DEPLOYED, &attrs, &inputs, &[W, W_FULL_SCALE], W)
                {
                    assert_eq!(bits_of(&packed), bits_of(&want[..1]), "{label}");
                }
            }
        }
    }
}
