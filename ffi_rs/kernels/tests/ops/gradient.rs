//! Which gradients there are, from which residual, and what is refused.

use lumina_kernels::{Attr, ParFor, Serial, ThreadPool};

use crate::support::{
    Attributes, DBIAS, DW, DX, FORWARD, GRADIENT, NOISE, PRECISIONS, QUIET, SIZES, Tensor, asking,
    attrs, grad_operands, gradient_operands, operands, precise, run, with,
};

#[test]
fn the_ideal_gradient_is_that_of_a_matrix_product() {
    for size @ [rows, depth, columns] in SIZES {
        for transposed in [false, true] {
            let forward = operands(size, transposed, NOISE);
            let linear = Tensor::F32(vec![rows, columns], vec![0.5; rows * columns]);
            let inputs = grad_operands(&forward, linear);
            let attrs = attrs([0; 3], transposed, false, "pre_noise");
            let got = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
            let (g, x, w) = (inputs[0].f32(), inputs[2].f32(), inputs[3].f32());
            let at = |k, n| if transposed { n * depth + k } else { k * columns + n };
            // f32 sums of that many products of at most 1.
            let close = |got: f32, want: f64, terms: usize| {
                (f64::from(got) - want).abs() <= 1.5e-7 * (terms as f64 + 1.0)
            };
            for m in 0..rows {
                for k in 0..depth {
                    let terms = (0..columns).map(|n| f64::from(g[m * columns + n] * w[at(k, n)]));
                    assert!(close(got[0].f32()[m * depth + k], terms.sum(), columns));
                }
            }
            for n in 0..columns {
                for k in 0..depth {
                    let terms = (0..rows).map(|m| f64::from(g[m * columns + n] * x[m * depth + k]));
                    assert!(close(got[1].f32()[at(k, n)], terms.sum(), rows));
                }
                let sum = (0..rows).map(|m| f64::from(g[m * columns + n])).sum();
                assert!(close(got[2].f32()[n], sum, rows));
            }
            assert!(got[3..].iter().all(|zero| zero.f32().iter().all(|v| *v == 0.0)));
        }
    }
}

#[test]
fn what_is_not_asked_for_is_zero_and_changes_nothing_else() {
    for size in
        [[0, 3, 5], [3, 0, 4], [2, 5, 0], [7, 65, 33], [300, 9, 35], [1100, 9, 35], [2, 300, 257]]
    {
        for bits in [[0, 0, 0], [8, 8, 8], [12, 4, 0], [4, 0, 6]] {
            for noise in [QUIET, NOISE, [0.1, 0.0, 0.2, 0.0]] {
                for precision in PRECISIONS {
                    let (attrs, inputs) = gradient_operands(size, bits, false, noise);
                    let attrs = precise(attrs, precision);
                    let every = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
                    for flags in [[false, true], [true, false], [false, false]] {
                        let attrs = asking(attrs.clone(), flags);
                        let some = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
                        for (index, (every, some)) in every.iter().zip(&some).enumerate() {
                            let label = format!("{index} {size:?} {bits:?} {noise:?} {precision}");
                            let asked = match index {
                                DX => flags[0],
                                DW | DBIAS => true,
                                _ => flags[1],
                            };
                            if asked {
                                assert_eq!(every.bits(), some.bits(), "{label} {flags:?}");
                            } else {
                                assert!(some.f32().iter().all(|v| *v == 0.0), "{label} {flags:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_slope_is_all_that_the_products_need() {
    // Without weight noise, whose gradient by x is no product with w.
    for noise in [QUIET, [0.0, 0.0, 0.2, 0.0], [0.05, 0.1, 0.2, 0.0], [0.05, 0.0, 0.0, 0.0]] {
        for bits in [[0, 0, 0], [0, 0, 8], [8, 8, 8], [12, 4, 6]] {
            let (attrs, mut inputs) = gradient_operands([300, 9, 35], bits, false, noise);
            let attrs = asking(attrs, [true, false]);
            let expected = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
            let slope = with(attrs, &[("residual", Attr::Str("slope"))]);
            let forward = operands([300, 9, 35], false, noise);
            inputs[1] = run(FORWARD, &slope, &forward, &Serial).unwrap().remove(1);
            let slope = with(slope, &[("noisy", Attr::Bool(false)), ("adc_bits", Attr::Int(0))]);
            let got = run(GRADIENT, &slope, &inputs, &Serial).unwrap();
            for index in [DX, DW, DBIAS] {
                let (expected, got) = (expected[index].f32(), got[index].f32());
                let largest = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                for (expected, got) in expected.iter().zip(got) {
                    // Few roundings of each of at most 300 terms.
                    let slack = 300.0 * f32::EPSILON * largest;
                    assert!((expected - got).abs() <= slack, "{noise:?} {bits:?} {index}");
                }
            }
        }
    }
}

#[test]
fn signs_and_relative_noise_are_the_slope_to_the_bit() {
    for (noise, noisy) in [(QUIET, false), (QUIET, true), ([0.0, 0.0, 0.2, 0.0], true)] {
        for (bits, bad) in [
            ([0, 0, 0], f32::NAN),
            ([0, 0, 8], 0.5),
            ([8, 8, 8], f32::INFINITY),
            ([12, 4, 6], f32::NAN),
        ] {
            let size = [270, 9, 275];
            let (attrs, mut inputs) = gradient_operands(size, bits, false, noise);
            let mut forward = operands(size, false, noise);
            // Of a row of zeros, y is the bias, and of some columns 0; of the next one not finite.
            let Tensor::F32(_, x) = &mut forward[0] else { unreachable!() };
            x[..9].fill(0.0);
            x[9..18].fill(bad);
            inputs[2] = forward[0].clone();
            let Tensor::F32(_, bias) = &mut forward[2] else { unreachable!() };
            bias[..20].fill(0.0);
            let attrs = with(asking(attrs, [true, false]), &[("noisy", Attr::Bool(noisy))]);
            for precision in PRECISIONS {
                let attrs = precise(attrs.clone(), precision);
                let mut gradient = |residual: &'static str, noisy: bool, pool: &dyn ParFor| {
                    let attrs = with(attrs.clone(), &[("residual", Attr::Str(residual))]);
                    inputs[1] = run(FORWARD, &attrs, &forward, pool).unwrap().remove(1);
                    let changes = [("noisy", Attr::Bool(noisy)), ("adc_bits", Attr::Int(0))];
                    let results = run(GRADIENT, &with(attrs, &changes), &inputs, pool).unwrap();
                    results.iter().map(Tensor::bits).collect::<Vec<_>>()
                };
                let expected = gradient("slope", false, &Serial);
                let label = format!("{noise:?} {bits:?} {bad} {precision}");
                for threads in [1, 7] {
                    let pool = ThreadPool::new(threads).unwrap();
                    assert_eq!(gradient("signs", noisy, &pool), expected, "{label} {threads}");
                }
            }
        }
    }
}

#[test]
fn refuses_what_it_does_not_accept() {
    let (attrs, inputs) = gradient_operands([4, 6, 5], [8, 8, 8], false, QUIET);
    let refusal = |attrs: &[(&'static str, Attr<'static>)], inputs: &[Tensor]| {
        run(GRADIENT, attrs, inputs, &Serial).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(&precise(attrs.clone(), "float16"), &inputs),
        "optical_matmul_grad: `grad_precision` must be float32, bfloat16 or int8, got float16"
    );
    for (name, expected) in [
        ("grad_precision", "a string"),
        ("residual", "a string"),
        ("with_inputs", "a bool"),
        ("with_ranges", "a bool"),
        ("noisy", "a bool"),
        ("adc_bits", "an integer"),
    ] {
        let missing: Attributes =
            attrs.iter().filter(|(other, _)| *other != name).copied().collect();
        assert_eq!(
            refusal(&missing, &inputs),
            format!("optical_matmul_grad: attribute `{name}` is missing, expected {expected}")
        );
    }
    for (change, expected) in [
        (("residual", Attr::Str("none")), "`residual` must be pre_noise, slope or signs, got none"),
        (("noisy", Attr::Bool(true)), "with `residual` slope `noisy` must be false, got true"),
        (("adc_bits", Attr::Int(8)), "with `residual` slope `adc_bits` must be 0, got 8"),
        (
            ("with_ranges", Attr::Bool(true)),
            "with `residual` slope `with_ranges` must be false, got true",
        ),
        (("residual", Attr::Str("signs")), "`saved` must be i8[4,5], got f32[4,5]"),
    ] {
        let slope = with(asking(attrs.clone(), [true, false]), &[("adc_bits", Attr::Int(0))]);
        let slope = with(with(slope, &[("residual", Attr::Str("slope"))]), &[change]);
        assert_eq!(refusal(&slope, &inputs), format!("optical_matmul_grad: {expected}"));
        let signs = with(slope, &[("residual", Attr::Str("signs")), change]);
        let expected = expected.replace("slope `", "signs `");
        let draws = matches!(change, ("noisy", _));
        let expected = if draws { "`saved` must be i8[4,5], got f32[4,5]" } else { &expected };
        assert_eq!(refusal(&signs, &inputs), format!("optical_matmul_grad: {expected}"));
    }
    let with_input = |index: usize, tensor: Tensor| {
        let mut inputs = inputs.clone();
        inputs[index] = tensor;
        inputs
    };
    let one_id = |index| with_input(index, Tensor::U32(vec![1], vec![0]));
    assert!(run(GRADIENT, &attrs, &one_id(9), &Serial).is_ok());
    let int8 = precise(attrs.clone(), "int8");
    assert_eq!(
        refusal(&int8, &one_id(9)),
        "optical_matmul_grad: `rows` must be u32[4], got u32[1]"
    );
    assert_eq!(
        refusal(&int8, &one_id(10)),
        "optical_matmul_grad: `columns` must be u32[5], got u32[1]"
    );
    assert_eq!(
        refusal(&attrs, &with_input(1, Tensor::F32(vec![4, 4], vec![0.0; 16]))),
        "optical_matmul_grad: `saved` must be f32[4,5], got f32[4,4]"
    );
    assert_eq!(
        refusal(&attrs, &inputs[..10]),
        "optical_matmul_grad: expected 7 range and noise operands, got 6"
    );
}
