//! Thousands of wrong files: each is an error or a model that runs, never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use lumina_runtime::{DType, Fact, Model, Options, Session, Tensor};

use crate::build::*;
use crate::mutants::{self, Random, files, graph_changed, graph_edited, rich};

/// [`mutants::survives`], or a panic that says which mutant it was.
fn survives(bytes: &[u8], original: &Model, what: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| mutants::survives(bytes, original)));
    outcome.unwrap_or_else(|_| panic!("panicked on {what}"))
}

/// The files, each with its model.
fn loaded() -> impl Iterator<Item = (Vec<u8>, Model)> {
    files().into_iter().map(|file| {
        let model = Model::from_bytes(&file).unwrap();
        (file, model)
    })
}

#[test]
fn every_truncation_is_an_error() {
    for (file, model) in loaded() {
        for length in 0..file.len() {
            assert!(!survives(&file[..length], &model, &format!("the first {length} bytes")));
            let mut mutant = file[..length].to_vec();
            fix_checksums(&mut mutant);
            assert!(!survives(
                &mutant,
                &model,
                &format!("the first {length} bytes, checksums right")
            ));
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for (file, model) in loaded() {
        for bit in 0..file.len() * 8 {
            let mut mutant = file.clone();
            mutant[bit / 8] ^= 1 << (bit % 8);
            assert!(!survives(&mutant, &model, &format!("bit {bit}")), "bit {bit} went unnoticed");
        }
    }
}

#[test]
fn flipped_bits_behind_right_checksums_do_no_harm() {
    let file = rich();
    let model = Model::from_bytes(&file).unwrap();
    let mut survived = 0;
    for bit in 0..file.len() * 8 {
        let mut mutant = file.clone();
        mutant[bit / 8] ^= 1 << (bit % 8);
        fix_checksums(&mut mutant);
        survived += usize::from(survives(&mutant, &model, &format!("bit {bit}, checksums right")));
    }
    // Weights, test vectors and names may be anything.
    assert!(survived > 100, "{survived} mutants got as far as running");
}

#[test]
fn random_edits_behind_right_checksums_do_no_harm() {
    let mut random = Random(1);
    for (file, model) in loaded() {
        for number in 0..2000 {
            let mutant = mutants::edited(&mut random, &file);
            survives(&mutant, &model, &format!("random edit {number}"));
        }
    }
}

#[test]
fn random_edits_of_the_graph_do_no_harm() {
    let mut random = Random(2);
    for (file, model) in loaded() {
        for number in 0..2000 {
            let mutant = graph_edited(&mut random, &file);
            survives(&mutant, &model, &format!("graph edit {number}"));
        }
    }
}

/// Right messages that say wrong things. `make attack` tries many more.
#[test]
fn random_changes_of_the_graph_do_no_harm() {
    let mut random = Random(3);
    let mut survived = 0;
    for (file, model) in loaded() {
        for number in 0..2000 {
            let mutant = graph_changed(&mut random, &file);
            survived += usize::from(survives(&mutant, &model, &format!("graph change {number}")));
        }
    }
    assert!(survived > 100, "{survived} mutants got as far as running");
}

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16, trip_limit: 1 << 12 };

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
    let attrs = dot(&[1], &[0], &[], &[]);
    let facts = [Fact::new(DType::F32, [1 << 50, 0]), Fact::new(DType::F32, [0, 0])];
    let operands = facts.clone().map(|fact| Tensor::from_bytes(fact, &[]).unwrap());
    let result = Fact::new(DType::F32, [1 << 50, 0]);
    let operands: Vec<&Tensor> = operands.iter().collect();
    assert_eq!(run("dot_general", &attrs, &operands, &[result]).len(), 1);
}

fn longs(values: &[usize]) -> crate::proto::Attr {
    ints(&values.iter().map(|&value| value as i64).collect::<Vec<_>>())
}
