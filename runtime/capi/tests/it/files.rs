//! Small models.

use lumina_runtime::{DType, Fact};

use crate::build::*;
use crate::proto::Entry;

/// y0 = -x0, of this shape.
pub(crate) fn negated(shape: &[usize]) -> File {
    let fact = Fact::new(DType::F32, shape);
    one_node("neg", &[], std::slice::from_ref(&fact), std::slice::from_ref(&fact))
}

/// y = x, which is passed on.
pub(crate) fn passed(dtype: DType, shape: &[usize]) -> File {
    let mut file = File::new();
    let x = file.input("x", dtype, &fixed(shape));
    file.output(x, "y", dtype, &fixed(shape));
    file
}

/// c = b and d = a, which are passed on.
pub(crate) fn swapped() -> File {
    let mut file = File::new();
    let a = file.input("a", DType::I32, &fixed(&[4]));
    let b = file.input("b", DType::I32, &fixed(&[4]));
    file.output(b, "c", DType::I32, &fixed(&[4]));
    file.output(a, "d", DType::I32, &fixed(&[4]));
    file
}

/// "add": the state `total` f32[2], at first 0.25, becomes y = total + x. "read": y = total.
pub(crate) fn total() -> File {
    let mut file = File::new();
    file.graph.name = "add".into();
    let first = file.tensor("first", &f32s(&[], &[0.25]));
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let total = file.state("total", DType::F32, &[2]);
    file.graph.states[0].initial = Some(first);
    let sum = file.node("add", &[total, x], &[]);
    file.becomes(total, sum);
    file.output(sum, "y", DType::F32, &fixed(&[2]));
    let of_total = file.graph.states[0].clone();
    file.graph.entries.push(Entry {
        name: "read".into(),
        outputs: vec![value(1, "y", DType::F32, &fixed(&[2]))],
        states: vec![crate::proto::State { id: 1, next: None, ..of_total }],
        ..Entry::default()
    });
    file
}

/// Counts to 2^31, which takes hours, and has a state that changes.
pub(crate) fn endless() -> File {
    let mut file = File::new();
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let one = file.tensor("one", &i32s(&[], &[1]));
    let always = file.tensor("always", &bools(&[], &[1]));
    let runs = file.state("runs", DType::I32, &[]);
    let next = file.node("add", &[runs, one], &[]);
    file.becomes(runs, next);
    let attrs = [
        ("cond", region(&[always], 1, vec![], &[0])),
        ("body", region(&[one], 1, vec![node("add", &[0, 1], &[2], &[])], &[2])),
        ("limit", int(1 << 31)),
    ];
    let count = file.node("while", &[zero], &attrs);
    file.output(count, "count", DType::I32, &[]);
    file
}
