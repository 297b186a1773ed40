//! Ops that take packed codes in place of weights, against the same ops on the weights.

use lumina_kernels::{Attr, FlushDenormals, Serial, ThreadPool};
use proptest::prelude::*;

use crate::support::coded::{Coded, packed};
use crate::support::{
    Attributes, DEPLOYED, NOISE, QUIET, Tensor, attrs, bits_of, numbers, operands, run, run_op,
    with,
};

/// Full scale of w, and what never changes.
const FULL_SCALE: usize = 4;

fn case(
    bits: [i64; 3],
    size: [usize; 3],
    transposed: bool,
    noise: [f32; 4],
    array_rows: usize,
) -> (Attributes, Vec<Tensor>, Coded) {
    let attrs = attrs(bits, transposed, noise != QUIET, "none");
    let attrs = with(attrs, &[("array_rows", Attr::Int(array_rows as i64))]);
    let mut inputs = operands(size, transposed, noise);
    let of_dac = if bits[1] == 0 { 5 } else { bits[1] as usize };
    let full_scale = inputs[FULL_SCALE].f32();
    let coded = Coded::of_dac(of_dac, [size[1], size[2]], transposed, full_scale);
    inputs[1] = coded.numbers(&Serial);
    (attrs, inputs, coded)
}

/// Runs the op on codes and on numbers, on one thread and on two.
fn compare(name: &str, attrs: &Attributes, inputs: &[Tensor], coded: &Coded, label: &str) {
    let (op, operands) =
        coded.replace(name, attrs, inputs, &[FULL_SCALE]).expect("an op that takes codes");
    assert!(op.prepare(&vec![None; operands.len()]).unwrap().is_none());
    let pool = ThreadPool::new(2).unwrap();
    // Threads of a pool flush denormals, and this one does not.
    let want = bits_of(&FlushDenormals::during(|| run(name, attrs, inputs, &Serial).unwrap()));
    let got = FlushDenormals::during(|| run_op(&*op, &operands, &Serial).unwrap());
    assert_eq!(bits_of(&got), want, "{label}");
    let got = FlushDenormals::during(|| run_op(&*op, &operands, &pool).unwrap());
    assert_eq!(bits_of(&got), want, "{label}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_chain_has_the_bits_that_it_has_on_numbers(
        rows in 0..20usize,
        depth in 0..300usize,
        columns in 1..300usize,
        dac_bits in prop::sample::select(vec![0i64, 1, 4, 8, 12]),
        weight_bits in 0..9i64,
        adc_bits in prop::sample::select(vec![0i64, 8]),
        transposed: bool,
        noisy: bool,
        array_rows in prop_oneof![Just(0usize), 32..200usize],
    ) {
        let (bits, size) = ([dac_bits, weight_bits, adc_bits], [rows, depth, columns]);
        let noise = if noisy { NOISE } else { QUIET };
        let (attrs, inputs, coded) = case(bits, size, transposed, noise, array_rows);
        compare(DEPLOYED, &attrs, &inputs, &coded, "");
    }
}

#[test]
fn numbers_are_the_same_along_rows_and_columns_on_any_number_of_threads() {
    for bits in 1..9 {
        for extents @ [depth, columns] in [[1, 1], [70, 300], [301, 41], [515, 130]] {
            let full_scale: Vec<f32> = (0..columns).map(|n| 0.5 + n as f32 / 7.0).collect();
            let mut coded = Coded::of_dac(bits, extents, false, &full_scale);
            if bits % 3 == 0 {
                let levels = (0..1 << bits).map(|code| (code as f32).sqrt()).collect();
                coded.operands[3] = Tensor::F32(vec![1, 1 << bits], levels);
            }
            let numbers = coded.numbers(&Serial);
            coded.transposed = true;
            coded.shape = vec![columns, depth];
            for threads in [1, 2] {
                let pool = ThreadPool::new(threads).unwrap();
                let across = coded.numbers(&pool);
                for (index, got) in across.f32().iter().enumerate() {
                    let want = numbers.f32()[index % depth * columns + index / depth];
                    assert_eq!(got.to_bits(), want.to_bits(), "{bits} {extents:?} {index}");
                }
            }
        }
    }
}

#[test]
fn wide_products_of_all_bits() {
    for bits in 1..9 {
        for rows in [1, 3, 37] {
            let size = [rows, 275, 1100 + 3 * bits as usize];
            for (dac_bits, array_rows) in [(8, 0), (3, 97)] {
                let (attrs, inputs, coded) =
                    case([dac_bits, bits, 8], size, bits % 2 == 0, QUIET, array_rows);
                compare(DEPLOYED, &attrs, &inputs, &coded, &format!("{bits} {rows} {array_rows}"));
            }
        }
    }
}

#[test]
fn inputs_that_are_not_finite_show_in_their_rows() {
    for dac_bits in [0, 8, 12] {
        let (attrs, mut inputs, coded) = case([dac_bits, 4, 8], [5, 40, 9], false, NOISE, 0);
        let Tensor::F32(_, x) = &mut inputs[0] else { unreachable!() };
        (x[40 + 3], x[3 * 40]) = (f32::NAN, f32::INFINITY);
        let (op, operands) = coded.replace(DEPLOYED, &attrs, &inputs, &[FULL_SCALE]).unwrap();
        let got = run_op(&*op, &operands, &Serial).unwrap().remove(0);
        for (index, value) in got.f32().iter().enumerate() {
            assert_eq!(value.is_nan(), [1, 3].contains(&(index / 9)), "{dac_bits} {index}");
        }
    }
}

#[test]
fn a_convolution_has_the_bits_that_it_has_on_numbers() {
    for [dac_bits, bits] in [[8, 4], [0, 5], [12, 8], [1, 1], [8, 7], [4, 0]] {
        for (images, channels, columns) in [(3, 5, 40), (1, 1, 3), (0, 2, 2)] {
            for array_rows in [0, 40] {
                let depth = 9 * channels;
                let (attrs, mut inputs, mut coded) =
                    case([dac_bits, bits, 8], [images, depth, columns], false, NOISE, array_rows);
                coded.shape = vec![3, 3, channels, columns];
                inputs[1] = coded.numbers(&Serial);
                let x = [images, 13, 9, channels];
                inputs[0] = Tensor::F32(x.to_vec(), numbers(x.iter().product(), 1));
                let mut attrs = attrs;
                attrs.retain(|(name, _)| *name != "transpose_weight");
                attrs.extend([
                    ("window_strides", Attr::Ints(&[1, 2])),
                    ("padding", Attr::Ints(&[1, 0, 2, 1])),
                    ("input_dilation", Attr::Ints(&[1, 1])),
                    ("kernel_dilation", Attr::Ints(&[2, 1])),
                    ("feature_group_count", Attr::Int(1)),
                ]);
                let label = format!("{dac_bits} {bits} {images} {array_rows}");
                compare("optical_conv", &attrs, &inputs, &coded, &label);
            }
        }
    }
}

/// Whether the op takes codes that are changed by `change`, with the operands `constants` constant.
fn takes(bits: i64, constants: &[usize], change: impl Fn(&mut Coded, &mut [Tensor])) -> bool {
    let (attrs, mut inputs, mut coded) = case([8, bits, 8], [3, 40, 6], false, QUIET, 0);
    change(&mut coded, &mut inputs);
    coded.replace(DEPLOYED, &attrs, &inputs, constants).is_some()
}

#[test]
fn codes_that_are_not_those_of_the_dac_are_left_to_dequantize() {
    for bits in [1, 4, 7] {
        let constants = &[FULL_SCALE];
        assert!(takes(bits, constants, |_, _| ()));
        assert!(!takes(bits, &[], |_, _| ()));
        for bad in [1e-42, f32::NAN, f32::INFINITY, 0.0, -1.0, 3e38] {
            assert!(!takes(bits, constants, |coded, inputs| {
                // As the DAC would have it, and not.
                let scale = Tensor::F32(vec![1, 1], vec![bad]);
                inputs[FULL_SCALE] = Tensor::F32(vec![1], vec![bad]);
                coded.operands[1] = scale;
            }));
        }
        assert!(!takes(bits, constants, |coded, _| {
            coded.operands[2] = Tensor::F32(vec![1, 1], vec![2.0]);
        }));
        assert!(!takes(bits, constants, |coded, _| {
            coded.operands[3] = Tensor::F32(vec![1, 1 << bits], vec![0.0; 1 << bits]);
        }));
        assert!(!takes(bits, constants, |coded, _| {
            coded.group = 20;
            coded.operands[1] = Tensor::F32(vec![2, 1], vec![0.1, 0.2]);
        }));
        assert!(!takes(bits, constants, |coded, _| {
            let Tensor::F32(_, scale) = &mut coded.operands[1] else { unreachable!() };
            scale[5] = scale[5].next_up();
        }));
        // As many elements, which lie otherwise.
        assert!(!takes(bits, constants, |coded, _| coded.shape = vec![6, 40]));
        assert!(!takes(bits, constants, |coded, _| coded.transposed = true));
    }
    // The code that no level has, which the DAC would clip.
    let mut codes = vec![3; 240];
    assert!(takes(4, &[FULL_SCALE], |coded, _| coded.operands[0] = packed(4, [40, 6], &codes)));
    codes[239] = 15;
    assert!(!takes(4, &[FULL_SCALE], |coded, _| coded.operands[0] = packed(4, [40, 6], &codes)));
}

#[test]
fn wrong_operands_are_named() {
    let (attrs, inputs, coded) = case([8, 4, 8], [3, 40, 6], false, QUIET, 0);
    let (op, mut operands) = coded.replace(DEPLOYED, &attrs, &inputs, &[FULL_SCALE]).unwrap();
    let refused = |operands: &[Tensor]| run_op(&*op, operands, &Serial).unwrap_err().to_string();
    assert_eq!(
        refused(&operands[..7]),
        "optical_matmul: expected 7 range and noise operands, got 1"
    );
    assert_eq!(refused(&operands[..4]), "optical_matmul: expected 13 operands, got 4");
    operands[1] = Tensor::U32(vec![4, 6], vec![0; 24]);
    assert_eq!(refused(&operands), "dequantize: `codes` must be u32[5,6], got u32[4,6]");
}
