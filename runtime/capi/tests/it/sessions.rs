//! Sessions: what goes in and out of a run.

use std::ptr;
use std::sync::Arc;

use lumina::*;
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

#[test]
fn inputs_are_set_by_number_and_by_name() {
    let run = session_of(&load(&corpus()), &options());
    let (x, more) = (numbers(18), numbers(6));
    let mut view = [NONE; 2];
    refused(run.run(&[], &mut []), Status::BadParam, "input `x` is not given, and was not set");
    let set = |name: &str, tensor: *const Tensor| {
        // SAFETY: all pointers are valid or null.
        unsafe { lumina_session_set_named_input(run.0, c(name).as_ptr(), tensor) }
    };
    ok(set("x", &tensor(&[3, 6], &x)));
    refused(
        run.run(&[], &mut []),
        Status::BadParam,
        "input `key`, the seed of the noise, is not given and was not set: \
         lumina_session_set_noise_seed makes it of a number",
    );
    // SAFETY: the pointers are valid.
    ok(unsafe { lumina_session_set_input(run.0, 1, &tensor(&[2], &KEY)) });
    ok(run.run(&[], &mut view));
    assert_eq!(elements::<f32>(&view[0]), expected(3, &x).0);
    // What a call gives goes first, and only there.
    ok(run.run(&[tensor(&[1, 6], &more), NONE], &mut view));
    assert_eq!(elements::<f32>(&view[0]), expected(1, &more).0);
    ok(run.run(&[], &mut view));
    assert_eq!(elements::<f32>(&view[0]), expected(3, &x).0);
    ok(set("x", ptr::null()));
    let status = run.run(&[], &mut []);
    refused(status, Status::BadParam, "input `x` is not given, and was not set");
    let wrong = [0f64; 18];
    refused(
        set("x", &tensor(&[3, 6], &wrong)),
        Status::BadTensorDtype,
        "input `x` must be f32[batch,6], got f64[3,6]",
    );
    refused(
        set("x", &tensor(&[18], &x)),
        Status::BadTensorShape,
        "input `x` must be f32[batch,6], got f32[18]",
    );
    refused(
        set("z", &tensor(&[18], &x)),
        Status::BadParam,
        "there is no input `z`; there are `x`, `key`",
    );
    // SAFETY: the pointers are valid.
    let status = unsafe { lumina_session_set_input(run.0, 2, &tensor(&[18], &x)) };
    refused(status, Status::BadParam, "there is no input 2, there are 2");
}

#[test]
fn a_noise_seed_is_a_key() {
    let run = session_of(&load(&corpus()), &options());
    let x = numbers(18);
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_set_noise_seed(run.0, 7) });
    let mut view = [NONE; 2];
    for _ in 0..2 {
        ok(run.run(&[tensor(&[3, 6], &x), NONE], &mut view));
        assert_eq!(elements::<f32>(&view[0]), expected(3, &x).0);
    }
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_set_noise_seed(run.0, 7 << 32) });
    ok(run.run(&[tensor(&[3, 6], &x), NONE], &mut view));
    let other = elements::<f32>(&view[0]);
    assert_ne!(other, expected(3, &x).0);
    ok(run.run(&[tensor(&[3, 6], &x), tensor(&[2], &[7u32, 0])], &mut view));
    assert_eq!(elements::<f32>(&view[0]), other);
}

#[test]
fn a_prepared_session_knows_the_shapes_of_its_outputs() {
    let run = session_of(&load(&corpus()), &options());
    let x = Tensor { data: ptr::null_mut(), ..tensor(&[5, 6], &numbers(30)) };
    let key = Tensor { data: ptr::null_mut(), ..tensor(&[2], &KEY) };
    let mut outputs = [NONE; 2];
    let prepare = |inputs: &[Tensor], outputs: &mut [Tensor]| {
        let (counts, to) = ((inputs.len(), outputs.len()), outputs.as_mut_ptr());
        // SAFETY: the slices are as long as is said.
        unsafe { lumina_session_prepare(run.0, inputs.as_ptr(), counts.0, to, counts.1) }
    };
    ok(prepare(&[x, key], &mut outputs));
    assert_eq!((extents(&outputs[0]), extents(&outputs[1])), (vec![5, 3], vec![5]));
    assert_eq!((outputs[0].dtype, outputs[1].dtype), (DType::F32 as i32, DType::I32 as i32));
    assert!(outputs.iter().all(|output| output.data.is_null()));
    ok(prepare(&[x, key], &mut []));
    let mut view = NONE;
    // SAFETY: the pointers are valid.
    let status = unsafe { lumina_session_get_output(run.0, 0, &mut view) };
    refused(
        status,
        Status::BadParam,
        "there are no outputs: nothing has run since the session was made, prepared, or given \
         another entry point",
    );
    refused(
        prepare(&[x], &mut []),
        Status::BadParam,
        "expected 2 inputs (`x`, `key`) or none, got 1",
    );
    refused(
        prepare(&[x, key], &mut [NONE]),
        Status::BadParam,
        "expected 2 outputs (`output[0]`, `output[1]`) or none, got 1",
    );
}

#[test]
fn a_session_outlives_the_handle_of_its_model() {
    let model = load(&corpus());
    let run = session_of(&model, &options());
    let mut name = ptr::null();
    // SAFETY: the pointers are valid.
    ok(unsafe { lumina_model_entry_name(model.0, 0, &mut name) });
    drop(model);
    let x = numbers(6);
    let mut view = [NONE; 2];
    ok(run.run(&[tensor(&[1, 6], &x), tensor(&[2], &KEY)], &mut view));
    assert_eq!(elements::<f32>(&view[0]), expected(1, &x).0);
    assert_eq!(told(name), "");
}

#[test]
fn what_is_asked_wrongly_is_a_status() {
    let model = load(&corpus());
    let run = session_of(&model, &options());
    let x = numbers(6);
    let (right, mut view) = ([tensor(&[1, 6], &x), tensor(&[2], &KEY)], NONE);
    // SAFETY: the pointers are valid or null, and what is no handle is memory.
    unsafe {
        let mut session = ptr::dangling_mut();
        let status = lumina_session_create(ptr::null(), ptr::null(), &mut session);
        refused(status, Status::NullPointer, "the model is null");
        assert!(session.is_null());
        let status = lumina_session_create(model.0, ptr::null(), ptr::null_mut());
        refused(status, Status::NullPointer, "`session` is null");
        let status = lumina_session_create(run.0.cast(), ptr::null(), &mut session);
        let expected = "the handle is no model, or one that was destroyed";
        refused(status, Status::BadParam, expected);
        let wrong = SessionOptions { struct_size: 24, ..options() };
        let status = lumina_session_create(model.0, &wrong, &mut session);
        let expected = "`struct_size` of lumina_session_options must be from 32 to 4096, got 24";
        refused(status, Status::BadParam, expected);
        let status = lumina_session_options_init(ptr::null_mut(), 32);
        refused(status, Status::NullPointer, "`options` is null");
        ok(lumina_session_destroy(ptr::null_mut()));
        let status = lumina_session_run(ptr::null_mut(), ptr::null(), 0, ptr::null_mut(), 0);
        refused(status, Status::NullPointer, "the session is null");
        refused(lumina_session_cancel(ptr::null()), Status::NullPointer, "the session is null");
        let status = lumina_session_destroy(model.0.cast());
        let expected = "the handle is no session, or one that was destroyed";
        refused(status, Status::BadParam, expected);
        let status = lumina_session_run(run.0, ptr::null(), 2, ptr::null_mut(), 0);
        refused(status, Status::NullPointer, "`inputs` is null");
        let status = lumina_session_run(run.0, right.as_ptr(), 2, ptr::null_mut(), 2);
        refused(status, Status::NullPointer, "`outputs` is null");
        let status = lumina_session_run(run.0, right.as_ptr(), usize::MAX, ptr::null_mut(), 0);
        let expected = "expected 2 inputs (`x`, `key`) or none, got 18446744073709551615";
        refused(status, Status::BadParam, expected);
        let status = lumina_session_get_output(run.0, 2, &mut view);
        refused(status, Status::BadParam, "there is no output 2, there are 2");
        ok(lumina_session_run(run.0, right.as_ptr(), 2, ptr::null_mut(), 0));
        let status = lumina_session_get_output(run.0, 0, ptr::null_mut());
        refused(status, Status::NullPointer, "`tensor` is null");
        let status = lumina_session_get_named_output(run.0, c("y").as_ptr(), &mut view);
        let expected = "there is no output `y`; there are `output[0]`, `output[1]`";
        refused(status, Status::BadParam, expected);
        let status = lumina_session_set_entry(run.0, 1);
        refused(status, Status::BadParam, "there is no entry point 1, the file has 1");
    }
}

#[test]
fn null_options_are_the_usual_ones() {
    let mut filled = options();
    // SAFETY: the struct is as large as is said.
    ok(unsafe { lumina_session_options_init(&mut filled, size_of::<SessionOptions>()) });
    let SessionOptions { struct_size, threads, memory_limit, trip_limit } = filled;
    assert_eq!((struct_size, threads, memory_limit, trip_limit), (32, 0, 4 << 30, 1 << 32));
    let model = load(&corpus());
    let mut session = ptr::null_mut();
    // SAFETY: all pointers are valid.
    ok(unsafe { lumina_session_create(model.0, ptr::null(), &mut session) });
    let run = Run(session);
    let x = numbers(6);
    let mut view = [NONE; 2];
    ok(run.run(&[tensor(&[1, 6], &x), tensor(&[2], &KEY)], &mut view));
    assert_eq!(elements::<f32>(&view[0]), expected(1, &x).0);
}

#[test]
fn threads_without_end_and_two_outputs_in_one_place_are_refused() {
    let model = load(&corpus());
    let mut session = ptr::null_mut();
    let many = SessionOptions { threads: 1025, ..options() };
    // SAFETY: all pointers are valid.
    let status = unsafe { lumina_session_create(model.0, &many, &mut session) };
    refused(status, Status::BadParam, "`threads` is 1025, at most 1024");
    let run = session_of(&model, &options());
    let x = numbers(6);
    let inputs = [tensor(&[1, 6], &x), tensor(&[2], &KEY)];
    let mut memory = vec![0f32; 64];
    let data = memory.as_mut_ptr().cast();
    let mut outputs = [NONE; 2];
    ok(run.run(&inputs, &mut outputs));
    outputs.iter_mut().for_each(|output| output.data = data);
    let expected = "output `output[0]` and output `output[1]` are to be written to the same memory";
    refused(run.run(&inputs, &mut outputs), Status::BadParam, expected);
}
