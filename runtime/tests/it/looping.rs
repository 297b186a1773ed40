//! A file with loops, branches, states and two entry points.

use lumina_runtime::{DType, Tensor};

use crate::build::*;
use crate::proto::{Entry, TestVector};

/// "write" puts x into a cache at the line that it counts, and returns what loops make of the cache;
/// "count" returns how many lines it has.
pub(crate) fn looping() -> Vec<u8> {
    let mut file = File::new();
    file.graph.name = "write".into();
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let one = file.tensor("one", &i32s(&[], &[1]));
    let start = file.tensor("start", &f32s(&[2], &[0.5, -0.5]));
    let initial = file.tensor("initial", &f32s(&[], &[0.25]));
    let x = file.input("x", DType::F32, &fixed(&[1, 2]));
    let cache = file.state("cache", DType::F32, &[4, 2]);
    let count = file.state("count", DType::I32, &[]);
    file.graph.states[0].initial = Some(initial);
    let written = file.node("dynamic_update_slice", &[cache, x, count, zero], &[]);
    let counted = file.node("add", &[count, one], &[]);
    file.becomes(cache, written);
    file.becomes(count, counted);
    // carry, line -> carry + line, line * carry
    let body = vec![node("add", &[0, 1], &[2], &[]), node("mul", &[1, 0], &[3], &[])];
    let attrs = [
        ("body", region(&[], 2, body, &[2, 3])),
        ("length", ints(&[4])),
        ("carries", int(1)),
        ("reverse", flag(true)),
    ];
    let scanned = file.node_of("scan", &[start, written], 2, &attrs);
    // While the number is less than the count: add one.
    let attrs = [
        ("cond", region(&[counted], 1, vec![node("lt", &[1, 0], &[2], &[])], &[2])),
        ("body", region(&[one], 1, vec![node("add", &[0, 1], &[2], &[])], &[2])),
        ("limit", int(100)),
    ];
    let trips = file.node("while", &[zero], &attrs);
    let attrs = [
        ("branch_000", region(&[scanned[0]], 0, vec![node("neg", &[0], &[1], &[])], &[1])),
        ("branch_001", region(&[start], 0, vec![], &[0])),
    ];
    let chosen = file.node("cond", &[trips], &attrs);
    file.output(chosen, "chosen", DType::F32, &fixed(&[2]));
    file.output(scanned[1], "lines", DType::F32, &fixed(&[4, 2]));
    file.output(trips, "trips", DType::I32, &[]);
    let of_count = file.graph.states[1].clone();
    file.graph.entries.push(Entry {
        name: "count".into(),
        outputs: vec![value(4, "count", DType::I32, &[])],
        states: vec![crate::proto::State { id: 4, next: None, ..of_count }],
        ..Entry::default()
    });
    let mut session = session(&file, 1);
    for (entry, continues) in [(0, false), (0, true), (1, true)] {
        let x = f32s(&[1, 2], &[1.0, 3.0]);
        let inputs = if entry == 0 { vec![&x] } else { vec![] };
        let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
        let outputs: Vec<Tensor> = session
            .run_entry(entry, &views)
            .unwrap()
            .iter()
            .map(|view| Tensor::from_bytes(view.fact(), &raw(view)).unwrap())
            .collect();
        file.test(&inputs, &outputs.iter().collect::<Vec<_>>());
        let test = file.graph.tests.last_mut().unwrap();
        *test = TestVector { entry: entry as u32, continues, ..test.clone() };
    }
    file.bytes()
}
