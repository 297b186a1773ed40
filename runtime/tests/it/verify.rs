//! Golden test vectors.

use std::sync::Arc;

use lumina_runtime::{Complex32, DType, Options, Tensor, verify};

use crate::build::*;

fn file(expected: &[f32]) -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[3]));
    let y = file.node("log", &[x], &[]);
    file.output(y, "y", DType::F32, &fixed(&[3]));
    file.test(&[&f32s(&[3], &[1.0, 0.0, -1.0])], &[&f32s(&[3], expected)]);
    file
}

fn difference(expected: &[f32], change: impl FnOnce(&mut File)) -> (f64, bool) {
    let mut file = file(expected);
    change(&mut file);
    let model = Arc::new(file.load().unwrap());
    let comparisons = verify(&model, Options::default()).unwrap();
    assert_eq!((comparisons.len(), comparisons[0].vector), (1, 0));
    assert_eq!(comparisons[0].output, "y");
    (comparisons[0].max_abs_diff, comparisons[0].passed)
}

#[test]
fn equal_numbers_pass_and_so_do_infinities_and_nan() {
    assert_eq!(difference(&[0.0, f32::NEG_INFINITY, f32::NAN], |_| ()), (0.0, true));
}

#[test]
fn a_number_is_no_nan_and_no_infinity() {
    let infinite = f64::INFINITY;
    assert_eq!(difference(&[0.0, f32::NEG_INFINITY, 1.0], |_| ()), (infinite, false));
    assert_eq!(difference(&[f32::NAN, f32::NEG_INFINITY, f32::NAN], |_| ()), (infinite, false));
    let loose = |file: &mut File| file.graph.tests[0].relative_tolerance = 1.0;
    assert_eq!(difference(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN], loose), (infinite, false));
}

#[test]
fn tolerances_decide() {
    let expected = [0.5, f32::NEG_INFINITY, f32::NAN];
    assert_eq!(difference(&expected, |_| ()), (0.5, false));
    let absolute = |file: &mut File| file.graph.tests[0].absolute_tolerance = 0.5;
    assert_eq!(difference(&expected, absolute), (0.5, true));
    let relative = |file: &mut File| file.graph.tests[0].relative_tolerance = 1.0;
    assert_eq!(difference(&expected, relative), (0.5, true));
}

#[test]
fn both_parts_of_a_complex_number_count_in_every_vector() {
    let mut file = File::new();
    let x = file.input("x", DType::C64, &fixed(&[1]));
    let y = file.node("neg", &[x], &[]);
    file.output(y, "y", DType::C64, &fixed(&[1]));
    let number = |re, im| Tensor::new(&[1], &[Complex32::new(re, im)]).unwrap();
    for (re, im) in [(-1.0, -2.0), (-1.0, -2.5), (-2.0, -2.0)] {
        file.test(&[&number(1.0, 2.0)], &[&number(re, im)]);
    }
    let comparisons = verify(&Arc::new(file.load().unwrap()), Options::default()).unwrap();
    let found: Vec<_> = comparisons.iter().map(|c| (c.vector, c.max_abs_diff, c.passed)).collect();
    assert_eq!(found, [(0, 0.0, true), (1, 0.5, false), (2, 1.0, false)]);
}

#[test]
fn nothing_to_verify() {
    let mut file = file(&[0.0; 3]);
    file.graph.tests.clear();
    assert_eq!(
        verify(&Arc::new(file.load().unwrap()), Options::default()).unwrap_err().to_string(),
        "the file has no test vectors, so there is nothing to verify"
    );
}

#[test]
fn every_element_type_compares() {
    let mut file = File::new();
    let x = file.input("x", DType::I32, &fixed(&[2]));
    let mut outputs = Vec::new();
    for &dtype in DType::ALL {
        let (name, size) = (dtype.name(), dtype.size());
        let y = file.node("convert_element_type", &[x], &[("new_dtype", text(name))]);
        file.output(y, name, dtype, &fixed(&[2]));
        // The bytes of 0 and of 1.
        let one: &[u8] = match dtype {
            DType::F32 | DType::C64 => &[0, 0, 0x80, 0x3f],
            DType::F64 | DType::C128 => &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f],
            DType::F16 => &[0, 0x3c],
            DType::BF16 => &[0x80, 0x3f],
            _ => &[1],
        };
        let mut bytes = vec![0; 2 * size];
        bytes[size..size + one.len()].copy_from_slice(one);
        let fact = lumina_runtime::Fact::new(dtype, [2]);
        outputs.push(lumina_runtime::Tensor::from_bytes(fact, &bytes).unwrap());
    }
    file.test(&[&i32s(&[2], &[0, 1])], &outputs.iter().collect::<Vec<_>>());
    let comparisons = verify(&Arc::new(file.load().unwrap()), Options::default()).unwrap();
    assert_eq!(comparisons.len(), DType::ALL.len());
    assert!(comparisons.iter().all(|c| c.passed && c.max_abs_diff == 0.0), "{comparisons:?}");
}
