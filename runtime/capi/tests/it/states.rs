//! States, entry points, and runs that fail.

use std::ptr;

use lumina::*;

use crate::call::*;
use crate::files::*;

fn get(run: &Run, state: &str, tensor: *mut Tensor) -> Status {
    // SAFETY: all pointers are valid or null.
    unsafe { lumina_session_get_state(run.0, c(state).as_ptr(), tensor) }
}

fn set(run: &Run, state: &str, tensor: *const Tensor) -> Status {
    // SAFETY: as above.
    unsafe { lumina_session_set_state(run.0, c(state).as_ptr(), tensor) }
}

fn total_of(run: &Run) -> Vec<f32> {
    let mut view = NONE;
    ok(get(run, "total", &mut view));
    elements(&view)
}

#[test]
fn a_session_keeps_its_states() {
    let model = from_memory(&total().bytes());
    let (one, other) = (session_of(&model, &options()), session_of(&model, &options()));
    assert_eq!(total_of(&one), [0.25, 0.25]);
    let x = [1f32, 2.0];
    assert_eq!(one.output::<f32>(&[tensor(&[2], &x)]), [1.25, 2.25]);
    assert_eq!(one.output::<f32>(&[tensor(&[2], &x)]), [2.25, 4.25]);
    assert_eq!(total_of(&one), [2.25, 4.25]);
    assert_eq!(total_of(&other), [0.25, 0.25]);
    // Another entry point has the same states.
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_set_entry(one.0, 1) });
    assert_eq!(one.output::<f32>(&[]), [2.25, 4.25]);
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_reset(one.0) });
    assert_eq!(one.output::<f32>(&[]), [0.25, 0.25]);
}

#[test]
fn states_are_read_and_written_in_any_layout() {
    let run = session(&total());
    let backwards = [7f32, 0.0, 5.0];
    let value = Tensor {
        data: (&raw const backwards[2]).cast_mut().cast(),
        strides: [-2isize].as_ptr(),
        ..tensor(&[2], &backwards[..2])
    };
    ok(set(&run, "total", &value));
    assert_eq!(total_of(&run), [5.0, 7.0]);
    let mut memory = [9f32; 3];
    let mut place = Tensor { strides: [2isize].as_ptr(), ..tensor_mut(&[2], &mut memory[..2]) };
    ok(get(&run, "total", &mut place));
    assert_eq!(memory, [5.0, 9.0, 7.0]);
    // A view of a state may be its next value, backwards too, and the next input.
    let mut view = NONE;
    ok(get(&run, "total", &mut view));
    let last = view.data.cast::<f32>().wrapping_add(1).cast();
    ok(set(&run, "total", &Tensor { data: last, strides: [-1isize].as_ptr(), ..view }));
    assert_eq!(total_of(&run), [7.0, 5.0]);
    assert_eq!(run.output::<f32>(&[view]), [14.0, 10.0]);
    ok(get(&run, "total", &mut view));
    ok(get(&run, "total", &mut view));
    assert_eq!(elements::<f32>(&view), [14.0, 10.0]);
    let mut again = Tensor { data: view.data.wrapping_byte_sub(4), ..view };
    let expected = "state `total`: the memory is that of a view which the session gave";
    refused(get(&run, "total", &mut again), Status::BadParam, expected);
}

#[test]
fn what_is_no_state_is_refused_by_name() {
    let run = session(&total());
    let (x, wrong) = ([1f32, 2.0], [1i32, 2]);
    let status = set(&run, "sum", &tensor(&[2], &x));
    refused(status, Status::BadParam, "there is no state `sum`; the model has `total`");
    let status = get(&run, "sum", &mut tensor(&[2], &x));
    refused(status, Status::BadParam, "there is no state `sum`; the model has `total`");
    let status = set(&run, "total", &tensor(&[2], &wrong));
    refused(status, Status::BadTensorDtype, "state `total` must be f32[2], got i32[2]");
    let status = set(&run, "total", &tensor(&[1], &x[..1]));
    refused(status, Status::BadTensorShape, "state `total` must be f32[2], got f32[1]");
    refused(set(&run, "total", ptr::null()), Status::NullPointer, "`tensor` is null");
    refused(get(&run, "total", ptr::null_mut()), Status::NullPointer, "`tensor` is null");
    assert_eq!(total_of(&run), [0.25, 0.25]);
}

#[test]
fn a_run_that_is_refused_changes_no_state() {
    let run = session(&total());
    let x = [1f32, 2.0];
    let mut wrong = [0f64; 2];
    let status = run.run(&[tensor(&[2], &x)], &mut [tensor_mut(&[2], &mut wrong)]);
    refused(status, Status::BadTensorDtype, "output `y` is f32[2], got memory for f64[2]");
    assert_eq!(total_of(&run), [0.25, 0.25]);
}

#[test]
fn a_run_that_is_too_long_loses_the_states() {
    let model = from_memory(&endless().bytes());
    let run = session_of(&model, &SessionOptions { trip_limit: 1000, ..options() });
    let text = "the loops of this run make more than 1000 trips together, the limit";
    refused(run.run(&[], &mut []), Status::TripLimit, text);
    let lost = "the states were lost in a run that failed; reset the session, or begin a new one";
    refused(run.run(&[], &mut []), Status::BadParam, lost);
    refused(get(&run, "runs", &mut NONE.clone()), Status::BadParam, lost);
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_reset(run.0) });
    let mut view = NONE;
    ok(get(&run, "runs", &mut view));
    assert_eq!(elements::<i32>(&view), [0]);
}

#[test]
fn a_run_that_is_cancelled_before_it_begins_keeps_them() {
    let run = session(&total());
    let x = [tensor(&[2], &[1f32, 2.0])];
    assert_eq!(run.output::<f32>(&x), [1.25, 2.25]);
    // SAFETY: the session is there.
    ok(unsafe { lumina_session_cancel(run.0) });
    refused(run.run(&x, &mut []), Status::Cancelled, "the run was cancelled");
    assert_eq!(run.output::<f32>(&x), [2.25, 4.25]);
}
