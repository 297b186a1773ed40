//! Thousands of wrong files: each is an error or a model that runs, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::proto::Role;
use lumina_runtime::{DType, Fact, Model, Options, Session, Tensor, verify};

use crate::build::*;

/// A file with something of everything.
fn rich() -> Vec<u8> {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = |extent: usize| [batch.clone(), fixed(&[extent])[0].clone()];
    let x = file.input("x", DType::F32, &dims(4));
    let key = file.input("key", DType::U32, &fixed(&[2]));
    file.graph.inputs[1].role = Role::NoiseSeed as i32;
    let w = file.tensor("w", &f32s(&[4, 3], &[0.5; 12]));
    let one = file.tensor("", &f32s(&[], &[1.0]));
    let attrs = [
        ("lhs_contracting", ints(&[1])),
        ("rhs_contracting", ints(&[0])),
        ("lhs_batch", ints(&[])),
        ("rhs_batch", ints(&[])),
    ];
    let product = file.node("dot_general", &[x, w], &attrs);
    let maximum = file.node("reduce_max", &[product], &[("axes", ints(&[1]))]);
    let attrs = [("shape", shape(&dims(3))), ("broadcast_dimensions", ints(&[0]))];
    let wide = file.node("broadcast_in_dim", &[maximum], &attrs);
    let below = file.node("sub", &[product, wide], &[]);
    let exponent = file.node("exp", &[below], &[]);
    let sum = file.node("add", &[exponent, one], &[]);
    let flat = dim(&[(3, &[(0, 1)])]);
    let flat = [("new_sizes", shape(&[flat]))];
    let flat = file.node("reshape", &[sum], &flat);
    let halves = [("sizes", ints(&[1, 2])), ("axis", int(1))];
    let halves = file.node_of("split", &[sum], 2, &halves);
    let joined = file.node("concatenate", &[halves[1], halves[0]], &[("dimension", int(1))]);
    let keys = file.node("threefry_split", &[key], &[("num", int(2))]);
    let attrs = [
        ("start_indices", ints(&[1, 0])),
        ("limit_indices", ints(&[2, 2])),
        ("strides", ints(&[1, 1])),
    ];
    let second = file.node("slice", &[keys], &attrs);
    file.output(joined, "joined", DType::F32, &dims(3));
    file.output(flat, "flat", DType::F32, &[dim(&[(3, &[(0, 1)])])]);
    file.output(second, "key", DType::U32, &fixed(&[1, 2]));
    let mut session = session(&file, 1);
    let inputs = [f32s(&[2, 4], &[0.1; 8]), u32s(&[2], &[0, 1])];
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let outputs: Vec<Tensor> = session
        .run(&views)
        .unwrap()
        .iter()
        .map(|view| Tensor::from_bytes(view.fact(), &raw(view)).unwrap())
        .collect();
    file.test(&inputs.iter().collect::<Vec<_>>(), &outputs.iter().collect::<Vec<_>>());
    file.bytes()
}

/// That file, and one that training exported.
fn files() -> [Vec<u8>; 2] {
    [rich(), include_bytes!("../corpus/format-1.0.lmn").to_vec()]
}

/// Splitmix64: mutants that a seed reproduces.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16 };

/// Whether the bytes load; the model is verified then, whatever comes out.
fn survives(bytes: &[u8], what: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| match Model::from_bytes(bytes) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
        Ok(model) => {
            // An error is fine: the test vectors may be what was changed.
            let _ = verify(&Arc::new(model), OPTIONS);
            true
        }
    }));
    outcome.unwrap_or_else(|_| panic!("panicked on {what}"))
}

#[test]
fn every_truncation_is_an_error() {
    for file in files() {
        for length in 0..file.len() {
            assert!(!survives(&file[..length], &format!("the first {length} bytes")));
            let mut mutant = file[..length].to_vec();
            fix_checksums(&mut mutant);
            assert!(!survives(&mutant, &format!("the first {length} bytes, checksums right")));
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for file in files() {
        for bit in 0..file.len() * 8 {
            let mut mutant = file.clone();
            mutant[bit / 8] ^= 1 << (bit % 8);
            assert!(!survives(&mutant, &format!("bit {bit}")), "bit {bit} went unnoticed");
        }
    }
}

#[test]
fn flipped_bits_behind_right_checksums_do_no_harm() {
    let file = rich();
    let mut loaded = 0;
    for bit in 0..file.len() * 8 {
        let mut mutant = file.clone();
        mutant[bit / 8] ^= 1 << (bit % 8);
        fix_checksums(&mut mutant);
        loaded += usize::from(survives(&mutant, &format!("bit {bit}, checksums right")));
    }
    // Weights, test vectors and names may be anything.
    assert!(loaded > 100, "{loaded} mutants got as far as running");
}

#[test]
fn random_edits_behind_right_checksums_do_no_harm() {
    let mut random = Random(1);
    for file in files() {
        for number in 0..3000 {
            let mut mutant = file.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(mutant.len());
                match random.below(5) {
                    0 => mutant[at] = random.next() as u8,
                    1 => mutant[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                    2 => {
                        let end = (at + 8).min(mutant.len());
                        mutant[at..end].fill(if random.below(2) == 0 { 0xff } else { 0 });
                    }
                    3 => {
                        mutant.remove(at);
                    }
                    _ => mutant.insert(at, random.next() as u8),
                }
            }
            let length = (mutant.len() as u64).to_le_bytes();
            if random.below(2) == 0 {
                mutant[16..24].copy_from_slice(&length);
            }
            fix_checksums(&mut mutant);
            survives(&mutant, &format!("random edit {number}"));
        }
    }
}

/// Edits of the protobuf bytes alone, put into a right container: most reach the deep checks.
#[test]
fn random_edits_of_the_graph_do_no_harm() {
    let mut random = Random(2);
    for file in files() {
        let model = Model::from_bytes(&file).unwrap();
        let sections: Vec<&[u8]> =
            model.sections().iter().map(|section| &file[section.range.clone()]).collect();
        for number in 0..3000 {
            let mut graph = sections[0].to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(graph.len());
                match random.below(3) {
                    0 => graph[at] = random.next() as u8,
                    1 => graph[at] = graph[at].wrapping_add(1),
                    _ => graph[at] = graph[random.below(graph.len())],
                }
            }
            let mutant = container(&[(GRAPH, &graph), (WEIGHTS, sections[1]), (META, sections[2])]);
            survives(&mutant, &format!("graph edit {number}"));
        }
    }
}

#[test]
fn hostile_shapes_take_no_memory() {
    let shapes: [&[usize]; 5] = [
        &[1 << 62],
        &[1 << 31, 1 << 31],
        &[usize::MAX >> 1],
        &[0, 1 << 62],
        &[1 << 20, 1 << 20, 1 << 20, 0],
    ];
    for extents in shapes {
        let attrs = [("shape", longs(extents)), ("broadcast_dimensions", ints(&[]))];
        let scalar = Fact::new(DType::I8, []);
        let result = Fact::new(DType::I8, extents);
        let file = one_node("broadcast_in_dim", &attrs, &[scalar], &[result]);
        let x = Tensor::new(&[], &[1i8]).unwrap();
        let Ok(model) = file.load() else { continue };
        let mut session = Session::new(Arc::new(model), OPTIONS).unwrap();
        let outcome = session.run(&[x.view()]).map(|outputs| outputs[0].shape().contains(&0));
        assert!(outcome.unwrap_or(true), "{extents:?} cannot be allocated");
    }
}

#[test]
fn empty_results_take_no_work() {
    let attrs = [
        ("lhs_contracting", ints(&[1])),
        ("rhs_contracting", ints(&[0])),
        ("lhs_batch", ints(&[])),
        ("rhs_batch", ints(&[])),
    ];
    let facts = [Fact::new(DType::F32, [1 << 50, 0]), Fact::new(DType::F32, [0, 0])];
    let operands = facts.clone().map(|fact| Tensor::from_bytes(fact, &[]).unwrap());
    let result = Fact::new(DType::F32, [1 << 50, 0]);
    let operands: Vec<&Tensor> = operands.iter().collect();
    assert_eq!(run("dot_general", &attrs, &operands, &[result]).len(), 1);
}

fn longs(values: &[usize]) -> crate::proto::Attr {
    ints(&values.iter().map(|&value| value as i64).collect::<Vec<_>>())
}
