//! Tensors of any layout, in and out.

use std::ptr;

use lumina::*;
use lumina_runtime::DType as Element;

use crate::call::*;
use crate::files::*;

/// 0, 1, 2 and so on.
fn ramp(count: usize) -> Vec<f32> {
    (0..count).map(|n| n as f32).collect()
}

/// The tensor with other strides, which begins at this element of its data.
fn strided(of: Tensor, strides: &[isize], start: usize) -> Tensor {
    assert_eq!(strides.len(), of.rank);
    let data = of.data.cast::<f32>().wrapping_add(start).cast();
    Tensor { data, strides: strides.as_ptr(), ..of }
}

#[test]
fn inputs_are_read_in_any_layout() {
    let run = session(&negated(&[2, 3]));
    let data = ramp(12);
    let whole = Tensor { shape: [2, 3].as_ptr(), rank: 2, ..tensor(&[12], &data) };
    for (strides, start, want) in [
        ([3, 1], 0, [0, 1, 2, 3, 4, 5]),
        ([1, 2], 0, [0, 2, 4, 1, 3, 5]),
        ([-3, -1], 5, [5, 4, 3, 2, 1, 0]),
        ([0, 1], 7, [7, 8, 9, 7, 8, 9]),
        ([0, 0], 11, [11; 6]),
        ([6, -2], 4, [4, 2, 0, 10, 8, 6]),
    ] {
        let got = run.output::<f32>(&[strided(whole, &strides, start)]);
        assert_eq!(got, want.map(|n| -n as f32), "{strides:?}");
    }
    // An axis of one element may have any stride.
    let run = session(&negated(&[1, 3]));
    let row = Tensor { shape: [1, 3].as_ptr(), ..whole };
    assert_eq!(run.output::<f32>(&[strided(row, &[isize::MIN, 1], 3)]), [-3.0, -4.0, -5.0]);
}

#[test]
fn row_major_inputs_are_read_where_they_lie() {
    let run = session(&passed(Element::F32, &[2, 3]));
    let data = ramp(6);
    let mut output = [NONE];
    ok(run.run(&[tensor(&[2, 3], &data)], &mut output));
    assert_eq!(output[0].data.cast_const().cast(), data.as_ptr());
}

#[test]
fn no_alignment_is_asked_for() {
    for &dtype in Element::ALL {
        let run = session(&passed(dtype, &[3]));
        let bytes: Vec<u8> = (0..65).map(|n| n & 1).collect();
        let input = Tensor { dtype: dtype.c_number(), ..tensor(&[3], &bytes[1..4]) };
        let mut got = [9u8; 65];
        let mut output = [Tensor { dtype: dtype.c_number(), ..tensor_mut(&[3], &mut got[3..6]) }];
        ok(run.run(&[input], &mut output));
        let size = 3 * dtype.size();
        assert_eq!(got[3..3 + size], bytes[1..1 + size], "{dtype}");
        assert!(got[..3].iter().chain(&got[3 + size..]).all(|&byte| byte == 9), "{dtype}");
    }
}

#[test]
fn outputs_are_written_in_any_layout() {
    let run = session(&negated(&[2, 3]));
    let data = ramp(6);
    for (strides, start, want) in [
        ([3, 1], 1, [9, 0, -1, -2, -3, -4, -5, 9, 9]),
        ([1, 2], 0, [0, -3, -1, -4, -2, -5, 9, 9, 9]),
        ([-3, -1], 6, [9, -5, -4, -3, -2, -1, 0, 9, 9]),
        ([1, 3], 0, [0, -3, 9, -1, -4, 9, -2, -5, 9]),
    ] {
        let mut memory = [9f32; 9];
        let whole = Tensor { shape: [2, 3].as_ptr(), rank: 2, ..tensor_mut(&[9], &mut memory) };
        ok(run.run(&[tensor(&[2, 3], &data)], &mut [strided(whole, &strides, start)]));
        assert_eq!(memory, want.map(|n| n as f32), "{strides:?}");
        // Later, and by name.
        memory = [9f32; 9];
        let mut place = strided(whole, &strides, start);
        // SAFETY: all pointers are valid.
        ok(unsafe { lumina_session_get_named_output(run.0, c("y0").as_ptr(), &mut place) });
        assert_eq!(memory, want.map(|n| n as f32), "{strides:?}");
    }
}

#[test]
fn elements_that_share_a_place_are_not_written() {
    let run = session(&negated(&[2, 3]));
    let (data, mut memory) = (ramp(6), [9f32; 9]);
    let whole = Tensor { shape: [2, 3].as_ptr(), rank: 2, ..tensor_mut(&[9], &mut memory) };
    for strides in [[0, 1], [1, 1], [2, 1], [-2, 1], [1, 0]] {
        let status = run.run(&[tensor(&[2, 3], &data)], &mut [strided(whole, &strides, 4)]);
        let expected = format!(
            "output `y0`: elements of shape [2, 3] with strides {strides:?} may share a place, and \
             are to be written"
        );
        refused(status, Status::BadTensorStrides, &expected);
    }
    assert_eq!(memory, [9.0; 9]);
}

#[test]
fn a_result_may_go_where_an_input_lies() {
    let run = session(&negated(&[4]));
    let mut data = ramp(4);
    let place = tensor_mut(&[4], &mut data);
    ok(run.run(&[place], &mut [place]));
    assert_eq!(data, [0.0, -1.0, -2.0, -3.0]);
    // So may one that is an input, passed on, be it that of another output.
    let run = session(&swapped());
    let (mut a, mut b) = (vec![1, 2, 3, 4], vec![5, 6, 7, 8]);
    let places = [tensor_mut(&[4], &mut a), tensor_mut(&[4], &mut b)];
    for _ in 0..3 {
        ok(run.run(&places, &mut places.clone()));
    }
    assert_eq!((a, b), (vec![5, 6, 7, 8], vec![1, 2, 3, 4]));
    let mut line = vec![1, 2, 3, 4, 5, 6];
    let start = tensor_mut(&[4], &mut line[..4]);
    let shifted = Tensor { data: start.data.cast::<i32>().wrapping_add(2).cast(), ..start };
    let run = session(&passed(Element::I32, &[4]));
    for (from, to) in [(start, shifted), (shifted, start)] {
        ok(run.run(&[from], &mut [to]));
    }
    assert_eq!(line, [1, 2, 3, 4, 3, 4]);
}

#[test]
fn what_a_run_gave_may_go_into_the_next() {
    let run = session(&negated(&[4]));
    let data = ramp(4);
    let mut view = [NONE];
    ok(run.run(&[tensor(&[4], &data)], &mut view));
    for _ in 0..4 {
        ok(run.run(&view.clone(), &mut view));
    }
    assert_eq!(elements::<f32>(&view[0]), [0.0, -1.0, -2.0, -3.0]);
    // Also where it is the copy of an input that is passed on, and each goes to the other's place.
    let run = session(&swapped());
    let data = [1, 2, 3, 4];
    let backwards = Tensor {
        data: (&raw const data[3]).cast_mut().cast(),
        strides: [-1isize].as_ptr(),
        ..tensor(&[4], &data)
    };
    let mut views = [NONE; 2];
    ok(run.run(&[tensor(&[4], &data), backwards], &mut views));
    for _ in 0..4 {
        ok(run.run(&views.clone(), &mut views));
    }
    assert_eq!(elements::<i32>(&views[0]), [4, 3, 2, 1]);
    assert_eq!(elements::<i32>(&views[1]), [1, 2, 3, 4]);
}

#[test]
fn memory_of_a_session_is_not_written_by_its_caller() {
    let run = session(&negated(&[4]));
    let data = ramp(4);
    let mut view = [NONE];
    ok(run.run(&[tensor(&[4], &data)], &mut view));
    let inside = Tensor { data: view[0].data.wrapping_byte_add(4), ..view[0] };
    let status = run.run(&[tensor(&[4], &data)], &mut [inside]);
    let expected = "output `y0`: the memory is that of a view which the session gave";
    refused(status, Status::BadParam, expected);
    assert_eq!(elements::<f32>(&view[0]), [0.0, -1.0, -2.0, -3.0]);
}

#[test]
fn tensors_without_elements_need_no_memory() {
    let run = session(&negated(&[0, 3]));
    let nothing = Tensor { data: ptr::null_mut(), ..tensor::<f32>(&[0, 3], &[]) };
    let strides = Tensor { strides: [isize::MAX, isize::MIN].as_ptr(), ..nothing };
    for input in [nothing, strides] {
        let mut output = [NONE];
        ok(run.run(&[input], &mut output));
        assert_eq!(extents(&output[0]), [0, 3]);
    }
}

#[test]
fn what_is_no_tensor_of_the_model_is_refused_by_name() {
    let run = session(&negated(&[2, 3]));
    let data = ramp(6);
    let right = tensor(&[2, 3], &data);
    let check = |tensor: Tensor, status, text: &str| {
        refused(run.run(&[tensor], &mut []), status, text);
    };
    check(
        Tensor { dtype: 99, ..right },
        Status::BadTensorDtype,
        "input `x0`: there is no element type 99",
    );
    check(
        Tensor { dtype: DType::I32 as i32, ..right },
        Status::BadTensorDtype,
        "input `x0` must be f32[2,3], got i32[2,3]",
    );
    check(
        Tensor { rank: 1, ..right },
        Status::BadTensorShape,
        "input `x0` must be f32[2,3], got f32[2]",
    );
    check(
        Tensor { shape: [2, 2].as_ptr(), ..right },
        Status::BadTensorShape,
        "input `x0`: axis 1 must be 3, got 2",
    );
    check(
        Tensor { rank: 9, ..right },
        Status::BadTensorShape,
        "input `x0`: rank 9 is above the limit of 8",
    );
    check(
        Tensor { shape: ptr::null(), ..right },
        Status::NullPointer,
        "input `x0`: `shape` is null",
    );
    check(
        Tensor { data: ptr::null_mut(), ..right },
        Status::NullPointer,
        "input `x0`: `data` is null",
    );
    for (extents, strides) in [
        ([usize::MAX, 2], None),
        ([1 << 62, 1], None),
        ([2, 3], Some([isize::MAX, 1])),
        ([2, 3], Some([isize::MIN, -1])),
        ([2, 3], Some([1 << 60, 1 << 60])),
    ] {
        let tensor = Tensor {
            shape: extents.as_ptr(),
            strides: strides.as_ref().map_or(ptr::null(), |strides| strides.as_ptr()),
            ..right
        };
        let expected = format!(
            "input `x0`: no memory holds a tensor of shape {extents:?} with strides {strides:?}"
        );
        check(tensor, Status::BadTensorShape, &expected);
    }
    let mut wrong = [0f64; 6];
    let status = run.run(&[right], &mut [tensor_mut(&[2, 3], &mut wrong)]);
    refused(status, Status::BadTensorDtype, "output `y0` is f32[2,3], got memory for f64[2,3]");
    let mut wrong = [0f32; 6];
    let status = run.run(&[right], &mut [tensor_mut(&[3, 2], &mut wrong)]);
    refused(status, Status::BadTensorShape, "output `y0` is f32[2,3], got memory for f32[3,2]");
}

#[test]
fn copies_of_inputs_keep_to_the_memory_limit() {
    let run = session_of(
        &from_memory(&negated(&[1 << 20]).bytes()),
        &SessionOptions { memory_limit: 5 << 20, ..options() },
    );
    let one = [2f32];
    let wide =
        Tensor { shape: [1usize << 20].as_ptr(), strides: [0isize].as_ptr(), ..tensor(&[1], &one) };
    assert_eq!(run.output::<f32>(&[wide]), vec![-2.0; 1 << 20]);
    let run = session_of(
        &from_memory(&negated(&[1 << 20]).bytes()),
        &SessionOptions { memory_limit: 3 << 20, ..options() },
    );
    refused(
        run.run(&[wide], &mut []),
        Status::OutOfMemory,
        "these input shapes need 4194304 bytes of buffers, the limit is 3145728",
    );
    // What is passed on needs no buffers, and a copy is all that is left.
    let run = session_of(
        &from_memory(&passed(Element::F32, &[1 << 20]).bytes()),
        &SessionOptions { memory_limit: 3 << 20, ..options() },
    );
    refused(
        run.run(&[wide], &mut []),
        Status::OutOfMemory,
        "inputs that do not lie row-major take 4194304 bytes to be copied, the limit is 3145728",
    );
}
