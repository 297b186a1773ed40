//! Sessions: what goes in and out of a run.

use std::sync::Arc;

use lumina_runtime::{Model as RuntimeModel, Options, Session as RuntimeSession, Tensor as Owned};

use crate::call::*;

const KEY: [u32; 2] = [0, 7];

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|n| (n as f32 * 0.7).sin()).collect()
}

/// What the runtime itself computes for these rows of the corpus.
fn expected(rows: usize, x: &[f32]) -> (Vec<f32>, Vec<i32>) {
    let model = Arc::new(RuntimeModel::load(corpus()).unwrap());
    let options = Options { threads: 1, ..Options::default() };
    let mut session = RuntimeSession::new(model, options).unwrap();
    let x = Owned::new(&[rows, 6], x).unwrap();
    let key = Owned::new(&[2], &KEY).unwrap();
    let outputs = session.run(&[x.view(), key.view()]).unwrap();
    (outputs[0].data::<f32>().unwrap().to_vec(), outputs[1].data::<i32>().unwrap().to_vec())
}

#[test]
fn a_run_gives_what_the_runtime_gives() {
    let run = session_of(&load(&corpus()), &options());
    for rows in [3, 1, 0, 17] {
        let x = numbers(rows * 6);
        let of_x = [rows, 6];
        let inputs = [tensor(&of_x, &x), tensor(&[2], &KEY)];
        let want = expected(rows, &x);
        let mut outputs = [NONE; 2];
        ok(run.run(&inputs, &mut outputs));
        assert_eq!((elements(&outputs[0]), elements(&outputs[1])), want);
        assert_eq!((extents(&outputs[0]), extents(&outputs[1])), (vec![rows, 3], vec![rows]));
        // The same in memory of the caller.
        let (mut scores, mut classes) = (vec![0f32; rows * 3], vec![0; rows]);
        let (of_scores, of_classes) = ([rows, 3], [rows]);
        let mut outputs =
            [tensor_mut(&of_scores, &mut scores), tensor_mut(&of_classes, &mut classes)];
        ok(run.run(&inputs, &mut outputs));
        assert_eq!((scores, classes), want);
    }
}
