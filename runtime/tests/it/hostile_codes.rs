//! Weights of codes that are none: each fault is told before anything is computed.

use std::sync::Arc;

use lumina_runtime::{DType, Error, Options, Session, Tensor};

use crate::build::*;
use crate::proto::Attr;

const DEPTH: usize = 10;
const COLUMNS: usize = 3;

/// The operands of a right weight of 4 bits, in groups of 4 rows.
fn operands() -> [Tensor; 4] {
    [
        u32s(&[2, COLUMNS], &[0x1234_5678; 2 * COLUMNS]),
        f32s(&[3, COLUMNS], &[0.5; 3 * COLUMNS]),
        f32s(&[1, 1], &[8.0]),
        f32s(&[0, 16], &[]),
    ]
}

fn attrs() -> [(&'static str, Attr); 4] {
    [
        ("bits", int(4)),
        ("shape", ints(&[DEPTH as i64, COLUMNS as i64])),
        ("transpose", flag(false)),
        ("group", int(4)),
    ]
}

fn file(operands: &[Tensor], attrs: &[(&'static str, Attr)]) -> File {
    let mut file = File::new();
    let ids: Vec<u32> = operands.iter().map(|tensor| file.tensor("w", tensor)).collect();
    let w = file.node("dequantize", &ids, attrs);
    file.output(w, "w", DType::F32, &fixed(&[DEPTH, COLUMNS]));
    file
}

/// What is said of the file, at the latest by a session of little memory.
fn refused(file: &File) -> String {
    let session =
        |model| Session::new(Arc::new(model), Options { threads: 1, ..Options::default() });
    let fault: Error = file.load().and_then(session).err().expect("it should be refused");
    fault.to_string()
}

#[test]
fn a_right_one_is_taken() {
    let model = file(&operands(), &attrs()).load().unwrap();
    let mut session = Session::new(Arc::new(model), Options::default()).unwrap();
    session.run(&[]).unwrap();
}

#[test]
fn operands_of_other_shapes_are_refused() {
    let ones = |shape: &[usize]| f32s(shape, &vec![1.0; shape.iter().product()]);
    for (place, tensor, told) in [
        (0, u32s(&[1, COLUMNS], &[0; COLUMNS]), "`codes` must be u32[2,3], got u32[1,3]"),
        (0, u32s(&[3, COLUMNS], &[0; 3 * COLUMNS]), "`codes` must be u32[2,3], got u32[3,3]"),
        (0, u32s(&[2, 4], &[0; 8]), "f32[10,3] does not consist of 4 columns of `codes`"),
        (0, u32s(&[0, 0], &[]), "f32[10,3] does not consist of 0 columns of `codes`"),
        (0, u32s(&[6], &[0; 6]), "`codes` must be u32[words, columns], got u32[6]"),
        (0, ones(&[2, COLUMNS]), "`codes` must be u32"),
        (1, ones(&[2, COLUMNS]), "`scale` must be f32"),
        (1, ones(&[3, 2]), "`scale` must be f32"),
        (1, ones(&[0, 1]), "`scale` must be f32"),
        (2, ones(&[3]), "`zero_point` must be f32"),
        (2, u32s(&[1, 1], &[8]), "`zero_point` must be f32"),
        (3, ones(&[1, 15]), "`table` must be f32"),
        (3, ones(&[1, 17]), "`table` must be f32"),
        (3, ones(&[2, 16]), "`table` must be f32"),
    ] {
        let mut wrong = operands();
        wrong[place] = tensor;
        let said = refused(&file(&wrong, &attrs()));
        assert!(said.contains(told), "{said:?} does not say {told:?}");
    }
    let said = refused(&file(&operands()[..3], &attrs()));
    assert!(said.contains("expected 4 operands, got 3"), "{said}");
}

#[test]
fn attributes_beyond_their_range_are_refused() {
    let huge = [i64::MAX, 2, COLUMNS as i64];
    for (place, attr, told) in [
        (0, int(0), "`bits` must be in 1..=8, got 0"),
        (0, int(9), "`bits` must be in 1..=8, got 9"),
        (0, int(5), "`codes` must be u32[3,3], got u32[2,3]"),
        (1, ints(&huge), "does not consist of 3 columns of `codes`"),
        (1, ints(&[1 << 40, COLUMNS as i64]), "`codes` must be u32[137438953472,3]"),
        (1, ints(&[-1, COLUMNS as i64]), "`shape` must not be negative, got -1"),
        (1, ints(&[0]), "`codes` must be u32[0,3]"),
        (3, int(0), "`group` must be positive, got 0"),
        (3, int(i64::MAX), "`scale` must be f32"),
    ] {
        let mut wrong = attrs();
        wrong[place].1 = attr;
        let said = refused(&file(&operands(), &wrong));
        assert!(said.contains(told), "{said:?} does not say {told:?}");
    }
}

#[test]
fn levels_that_are_not_finite_are_refused() {
    let all = [("scale", 1, &[3, COLUMNS][..]), ("zero_point", 2, &[1, 1]), ("table", 3, &[1, 16])];
    for (name, place, shape) in all {
        for (value, told) in
            [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")]
        {
            let mut wrong = operands();
            let count: usize = shape.iter().product();
            let mut data = vec![1.0; count];
            data[count - 1] = value;
            wrong[place] = f32s(shape, &data);
            let at = count - 1;
            let expected = format!(
                "node 0 (`dequantize`): `{name}` has {told} as element {at}, expected finite numbers"
            );
            assert_eq!(file(&wrong, &attrs()).refusal(), expected);
        }
    }
}
