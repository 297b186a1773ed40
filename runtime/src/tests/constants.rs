//! What follows from constants alone is computed once for a session, where it is worth its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lumina_kernels::{Attrs, Error, Op, ParFor, ViewMut};

use super::build::*;
use super::proto::{Attr, Region, attr};
use crate::{DType, Fact, Options, Session, View};

/// How often it ran, by its attribute `test`: threads of a session run it.
static RUNS: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

/// `out[i] = x[i] + 1`
pub(super) struct Counted {
    test: usize,
}

impl Op for Counted {
    const NAME: &'static str = "counted";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self { test: attrs.int(Self::NAME, "test")? as usize })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        Ok(inputs.to_vec())
    }

    fn accepts_strides(&self) -> bool {
        true
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        RUNS[self.test].fetch_add(1, Ordering::Relaxed);
        let x = inputs[0].strided_data::<f32>()?;
        outputs[0].data_mut::<f32>()?.iter_mut().zip(x.iter()).for_each(|(out, x)| *out = x + 1.0);
        Ok(())
    }
}

fn runs(test: usize) -> usize {
    RUNS[test].load(Ordering::Relaxed)
}

fn counted(file: &mut File, x: u32, test: usize) -> u32 {
    file.node("counted", &[x], &[("test", int(test as i64))])
}

/// Batches of twos through a session, which adds something to each of `width` columns.
fn check(session: &mut Session, width: usize, batches: &[usize], added: f32) {
    for &batch in batches {
        let x = f32s(&[batch, width], &vec![2.0; batch * width]);
        let y = session.run(&[x.view()]).unwrap();
        assert!(y[0].data::<f32>().unwrap().iter().all(|&y| y == 2.0 + added), "{batch}");
    }
}

/// `x + broadcast(rows)` of x f32[batch, width], for each of the rows that are f32[width].
fn sum(width: usize, rows: impl FnOnce(&mut File) -> Vec<u32>) -> File {
    let mut file = File::new();
    let dims = [file.symbol("batch"), fixed(&[width])[0].clone()];
    let mut sum = file.input("x", DType::F32, &dims);
    for row in rows(&mut file) {
        let attrs = [("shape", shape(&dims)), ("broadcast_dimensions", ints(&[1]))];
        let wide = file.node("broadcast_in_dim", &[row], &attrs);
        sum = file.node("add", &[sum, wide], &[]);
    }
    file.output(sum, "y", DType::F32, &dims);
    file
}

#[test]
fn a_chain_of_constants_is_computed_once_for_all_plans() {
    let file = sum(3, |file| {
        let w = file.tensor("w", &f32s(&[3], &[1.0; 3]));
        let first = counted(file, w, 0);
        let second = counted(file, first, 0);
        // The same once more, which is no other constant.
        let again = counted(file, first, 0);
        vec![second, again]
    });
    let mut session = session(&file, 2);
    check(&mut session, 3, &[1, 4, 1, 2, 3, 5, 6], 6.0);
    assert_eq!(runs(0), 2);
}

#[test]
fn a_result_that_is_much_larger_than_its_operands_is_computed_in_each_run() {
    let width = 1 << 15;
    let file = sum(width, |file| {
        let one = file.tensor("one", &f32s(&[], &[1.0]));
        let attrs = [("shape", ints(&[width as i64])), ("broadcast_dimensions", ints(&[]))];
        let wide = file.node("broadcast_in_dim", &[one], &attrs);
        vec![counted(file, wide, 1)]
    });
    check(&mut session(&file, 1), width, &[1, 2, 1], 2.0);
    assert_eq!(runs(1), 3);
}

#[test]
fn what_there_is_no_room_for_is_computed_in_each_run() {
    let width = 1000;
    let file = sum(width, |file| {
        // Different ones, so that both are to be kept.
        [1.0, 3.0]
            .map(|number| {
                let w = file.tensor(&format!("w{number}"), &f32s(&[width], &vec![number; width]));
                counted(file, w, 2)
            })
            .to_vec()
    });
    let model = Arc::new(file.load().unwrap());
    let run = |rows: u64| {
        let options =
            Options { threads: 1, memory_limit: rows * 4 * width as u64, ..Options::default() };
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        let before = runs(2);
        check(&mut session, width, &[1, 1], 6.0);
        runs(2) - before
    };
    // The sum is written over and over; each row beside it lies in the same memory.
    assert_eq!([run(3), run(2)], [2, 4]);
    let options = Options { threads: 1, memory_limit: 7999, ..Options::default() };
    let mut session = Session::new(Arc::clone(&model), options).unwrap();
    let x = f32s(&[1, width], &vec![0.0; width]);
    let error = session.run(&[x.view()]).unwrap_err().to_string();
    assert_eq!(error, "these input shapes need 8000 bytes of buffers, the limit is 7999");
}

#[test]
fn a_loop_computes_no_constant_in_each_trip() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let w = file.tensor("w", &f32s(&[2], &[1.0, 1.0]));
    let body = Region {
        captures: vec![w],
        inputs: 1,
        nodes: vec![
            node("counted", &[0], &[2], &[("test", int(3))]),
            node("add", &[1, 2], &[3], &[]),
        ],
        outputs: vec![3],
    };
    let body = Attr { value: Some(attr::Value::Region(body)) };
    let y = file.node("repeat", &[x], &[("trips", int(5)), ("body", body)]);
    file.output(y, "y", DType::F32, &fixed(&[2]));
    let mut session = session(&file, 1);
    let x = f32s(&[2], &[1.0, 2.0]);
    for _ in 0..2 {
        let y = session.run(&[x.view()]).unwrap();
        assert_eq!(y[0].data::<f32>().unwrap(), [11.0, 12.0]);
    }
    assert_eq!(runs(3), 1);
}
