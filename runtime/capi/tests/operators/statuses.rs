//! What calls answer that cannot be done, with their texts.

use std::ffi::c_int;
use std::ptr::null_mut;

use lumina::*;
use lumina_kernels::DType;

use super::support::{Handle, Order, Tensor, Workspace, destroy as free, last_error};

/// Status and text of the creation of Add for tensors of these layouts.
fn add(c: &Tensor, a: &Tensor, b: &Tensor) -> (Status, String) {
    let tensors = [c, a, b].map(Tensor::describe);
    let [of_c, of_a, of_b] = tensors;
    let (status, desc) = create!(Add, [of_c, of_a, of_b]);
    tensors.into_iter().for_each(free);
    assert!(desc.is_null());
    (status, last_error())
}

fn f32(shape: &[usize]) -> Tensor {
    Tensor::new(DType::F32, shape, Order::RowMajor)
}

#[test]
fn tensors_that_do_not_fit_are_told() {
    let x = f32(&[2, 3]);
    let refused = [
        (
            add(&x, &x, &f32(&[3, 2])),
            Status::BadTensorShape,
            "Add: `b` must have shape [2, 3], got f32[3,2]",
        ),
        (
            add(&x, &Tensor::new(DType::F16, &[2, 3], Order::RowMajor), &x),
            Status::BadTensorDtype,
            "Add: `a` must be of dtype f32, that of `c`, got f16[2,3]",
        ),
        (
            add(&Tensor::new(DType::Bool, &[2, 3], Order::RowMajor), &x, &x),
            Status::BadTensorDtype,
            "Add: `c` must be of dtype f32, f16, bf16, f64, i8, u8, i16, i32, i64, u32, c64, got \
             bool[2,3]",
        ),
        (
            add(&Tensor::strided(DType::F32, &[2, 3], &[0, 1]), &x, &x),
            Status::BadTensorStrides,
            "Add: elements of `c`, f32[2,3] with strides [0, 1], share memory",
        ),
        (
            add(&Tensor::strided(DType::F32, &[2, 3], &[2, 1]), &x, &x),
            Status::BadTensorStrides,
            "Add: elements of `c`, f32[2,3] with strides [2, 1], share memory",
        ),
    ];
    for ((status, text), expected, message) in refused {
        assert_eq!((status, text.as_str()), (expected, message));
    }
}

#[test]
fn null_is_told_by_name() {
    let x = f32(&[2]).describe();
    let (status, _) = create!(Add, [x, null_mut(), x]);
    assert_eq!((status, last_error()), (Status::NullPointer, "`a` is null".into()));
    let (status, _) = create!(Add, [null_mut(), x, x]);
    assert_eq!((status, last_error()), (Status::NullPointer, "`c` is null".into()));
    free(x);
    // SAFETY: null is refused.
    unsafe {
        assert_eq!(infiniopCreateHandle(null_mut()), Status::NullPointer);
        assert_eq!(infiniopDestroyHandle(null_mut()), Status::NullPointer);
        assert_eq!(infiniopDestroyTensorDescriptor(null_mut()), Status::NullPointer);
        assert_eq!(Add::destroy_descriptor(null_mut()), Status::NullPointer);
        assert_eq!(Add::get_workspace_size(null_mut(), &mut 0), Status::NullPointer);
        let status =
            Add::run(null_mut(), null_mut(), 0, null_mut(), null_mut(), null_mut(), null_mut());
        assert_eq!((status, last_error()), (Status::NullPointer, "`desc` is null".into()));
        let (shape, mut desc) = ([2usize], null_mut());
        let status =
            infiniopCreateTensorDescriptor(&mut desc, 1, std::ptr::null(), std::ptr::null(), 13);
        assert_eq!((status, last_error()), (Status::NullPointer, "`shape` is null".into()));
        let status =
            infiniopCreateTensorDescriptor(null_mut(), 1, shape.as_ptr(), std::ptr::null(), 13);
        assert_eq!(status, Status::NullPointer);
    }
}

#[test]
fn a_call_checks_its_memory() {
    // A transposed output is computed in the workspace.
    let (mut c, mut a) = (Tensor::new(DType::F16, &[4, 6], Order::ColumnMajor), f32(&[4, 6]));
    a.dtype = DType::F16;
    let (x, y) = (a.describe(), c.describe());
    let (status, desc) = create!(Mul, [y, x, x]);
    assert_eq!(status, Status::Success);
    [x, y].into_iter().for_each(free);
    let mut size = 0;
    // SAFETY: the operator was made; memory is as described where it is not null.
    unsafe {
        assert_eq!(Mul::get_workspace_size(desc, &mut size), Status::Success);
        assert!(size > 0);
        assert_eq!(Mul::get_workspace_size(desc, null_mut()), Status::NullPointer);
        let mut workspace = Workspace::new(size);
        let room = workspace.pointer();
        let (of_c, of_a) = (c.pointer(), a.pointer());
        let run = |room, size, c, a| Mul::run(desc, room, size, c, a, a, null_mut());
        assert_eq!(run(room, size, of_c, of_a), Status::Success);
        assert_eq!(run(room, size - 1, of_c, of_a), Status::InsufficientWorkspace);
        assert_eq!(
            last_error(),
            format!("Mul takes a workspace of {size} bytes, got {}", size - 1)
        );
        assert_eq!(run(null_mut(), size, of_c, of_a), Status::NullPointer);
        assert_eq!(last_error(), "`workspace` is null");
        assert_eq!(run(room, size, null_mut(), of_a), Status::NullPointer);
        assert_eq!(last_error(), "`c` is null");
        assert_eq!(run(room, size, of_c, of_a.wrapping_byte_add(1)), Status::BadParam);
        assert_eq!(last_error(), "`a` does not lie at a multiple of 2 bytes");
        assert_eq!(run(of_a, size, of_c, of_a), Status::BadParam);
        assert_eq!(last_error(), "`workspace` overlaps `a`");
        // Of another operator.
        let status = Add::run(desc, room, size, of_c, of_a, of_a, null_mut());
        assert_eq!(status, Status::BadParam);
        assert_eq!(last_error(), "`desc` is one of Mul, expected one of Add");
        assert_eq!(Add::destroy_descriptor(desc), Status::BadParam);
        assert_eq!(Mul::destroy_descriptor(desc), Status::Success);
    }
}

#[test]
fn what_is_no_descriptor_is_refused() {
    let mut nothing = [0u64; 32];
    let pointer = nothing.as_mut_ptr();
    // SAFETY: the memory is there, and has no mark of a descriptor.
    unsafe {
        assert_eq!(Add::destroy_descriptor(pointer.cast()), Status::BadParam);
        assert_eq!(last_error(), "`desc` is no descriptor of this kind, or was destroyed");
        assert_eq!(infiniopDestroyTensorDescriptor(pointer.cast()), Status::BadParam);
        assert_eq!(infiniopDestroyHandle(pointer.cast()), Status::BadParam);
        let odd = pointer.byte_add(1);
        assert_eq!(infiniopDestroyHandle(odd.cast()), Status::BadParam);
        assert_eq!(last_error(), "`handle` is not aligned");
        let handle = Handle::new();
        assert_eq!(Add::destroy_descriptor(handle.0.cast()), Status::BadParam);
    }
}

#[test]
fn tensors_have_limits() {
    let describe = |shape: &[usize], strides: Option<&[isize]>, dtype: c_int| {
        let mut desc = null_mut();
        // SAFETY: lists have as many numbers as there are axes.
        let status = unsafe {
            infiniopCreateTensorDescriptor(
                &mut desc,
                shape.len(),
                shape.as_ptr(),
                strides.map_or(std::ptr::null(), <[isize]>::as_ptr),
                dtype,
            )
        };
        assert!(desc.is_null());
        (status, last_error())
    };
    let (big, far) = (usize::MAX, isize::MAX);
    for (got, status, text) in [
        (describe(&[1; 9], None, 13), Status::BadTensorShape, "a tensor has at most 8 axes, got 9"),
        (describe(&[1], None, 0), Status::BadTensorDtype, "there are no tensors of dtype 0"),
        (describe(&[1], None, 11), Status::BadTensorDtype, "there are no tensors of dtype 11"),
        (
            describe(&[big, 2], None, 13),
            Status::BadTensorShape,
            &format!("a tensor of f32[{big},2] is too large"),
        ),
        (
            describe(&[2, 3], Some(&[far, far]), 13),
            Status::BadTensorStrides,
            &format!("a tensor of f32[2,3] cannot have strides [{far}, {far}]"),
        ),
        (
            describe(&[3], Some(&[isize::MIN]), 3),
            Status::BadTensorStrides,
            &format!("a tensor of i8[3] cannot have strides [{}]", isize::MIN),
        ),
    ] {
        assert_eq!((got.0, got.1.as_str()), (status, text));
    }
}

#[test]
fn parameters_are_checked() {
    let tensors = [f32(&[2, 3]), f32(&[2, 3]), f32(&[2, 4])].map(|tensor| tensor.describe());
    let [y, x, other] = tensors;
    let (status, _) = create!(Softmax, [y, x], 2);
    assert_eq!(status, Status::BadParam);
    assert_eq!(last_error(), "Softmax: `axis` must be an axis of rank 2, got 2");
    let (status, _) = create!(Softplus, [y, x], 0.0, 20.0);
    assert_eq!(status, Status::BadParam);
    let (status, _) = create!(CausalSoftmax, [y, other]);
    assert_eq!(status, Status::BadTensorShape);
    let (status, _) = create!(Gemm, [y, x, x]);
    assert_eq!(status, Status::BadTensorShape);
    assert_eq!(last_error(), "Gemm: `a` f32[2,3] times `b` f32[2,3] is not `c` f32[2,3]");
    let (status, _) = create!(RMSNorm, [y, x, x], -1.0);
    assert_eq!(status, Status::BadParam);
    assert_eq!(last_error(), "RMSNorm: `eps` must not be negative, got -1");
    let axes = [1usize, 1];
    let (status, _) = create!(Sum, [y, x], axes.as_ptr(), 2, true);
    assert_eq!(status, Status::BadParam);
    assert_eq!(last_error(), "Sum: `dims` must be different axes of rank 2, got [1, 1]");
    let (status, _) = create!(Sum, [y, x], std::ptr::null(), 1, true);
    assert_eq!(status, Status::NullPointer);
    tensors.into_iter().for_each(free);
}

#[test]
fn a_call_repeats_what_the_creation_said() {
    let (mut y, mut x) = (f32(&[2, 1]), f32(&[2, 3]).filled(|index| index as f64));
    let (of_y, of_x) = (y.describe(), x.describe());
    let axes = [1usize, 0];
    let (status, desc) = create!(Sum, [of_y, of_x], axes.as_ptr(), 1, true);
    assert_eq!(status, Status::Success);
    [of_y, of_x].into_iter().for_each(free);
    let mut size = 0;
    // SAFETY: the operator was made, and tensors have memory as described.
    unsafe {
        Sum::get_workspace_size(desc, &mut size);
        let mut workspace = Workspace::new(size);
        let mut run = |dims: &[usize], keepdim| {
            let (room, y, x) = (workspace.pointer(), y.pointer(), x.pointer());
            Sum::run(desc, room, size, y, x, dims.as_ptr(), dims.len(), keepdim, null_mut())
        };
        assert_eq!(run(&[1], true), Status::Success);
        assert_eq!(run(&[0], true), Status::BadParam);
        assert_eq!(last_error(), "Sum was created with other parameters than it is run with");
        assert_eq!(run(&[1], false), Status::BadParam);
        assert_eq!(run(&axes, true), Status::BadParam);
        Sum::destroy_descriptor(desc);
    }
    assert_eq!(y.values(), [3.0, 12.0]);
}

#[test]
fn devices_other_than_the_cpu_are_refused() {
    let (mut count, mut counts, mut device, mut id) = (7, [7; 11], 7, 7);
    let x = f32(&[2]).describe();
    let (_, desc) = create!(Relu, [x, x]);
    free(x);
    // SAFETY: all places are writable.
    unsafe {
        assert_eq!(infinirtInit(), Status::Success);
        assert_eq!(infinirtSetDevice(0, 0), Status::Success);
        assert_eq!(infinirtSetDevice(1, 0), Status::DeviceTypeNotSupported);
        assert_eq!(last_error(), "devices of type 1 are not supported, only 0, the CPU");
        assert_eq!(infinirtSetDevice(0, 1), Status::DeviceNotFound);
        assert_eq!(infinirtGetDeviceCount(0, &mut count), Status::Success);
        assert_eq!(count, 1);
        assert_eq!(infinirtGetDeviceCount(3, &mut count), Status::Success);
        assert_eq!(count, 0);
        assert_eq!(infinirtGetDeviceCount(99, &mut count), Status::DeviceTypeNotSupported);
        assert_eq!(infinirtGetAllDeviceCount(counts.as_mut_ptr()), Status::Success);
        assert_eq!(counts, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(infinirtGetDevice(&mut device, &mut id), Status::Success);
        assert_eq!((device, id), (0, 0));
        (device, id) = (7, 7);
        assert_eq!(infiniopGetDescriptorDeviceType(desc, &mut device), Status::Success);
        assert_eq!(infiniopGetDescriptorDeviceId(desc, &mut id), Status::Success);
        assert_eq!((device, id), (0, 0));
        assert_eq!(infiniopGetDescriptorDeviceId(desc, null_mut()), Status::NullPointer);
        // The device type and number stand first, as other libraries have it.
        assert_eq!(desc.cast::<[c_int; 2]>().read(), [0, 0]);
        Relu::destroy_descriptor(desc);
    }
}

#[test]
fn memory_streams_and_events() {
    // SAFETY: memory is used as long as it is allocated, and within its size.
    unsafe {
        let (mut one, mut two, mut stream) = (null_mut(), null_mut(), null_mut());
        assert_eq!(infinirtMalloc(&mut one, 1000), Status::Success);
        assert!(one.addr().is_multiple_of(64));
        assert_eq!(infinirtMallocHost(&mut two, 1000), Status::Success);
        assert_eq!(infinirtMemset(one, 0x1ff, 1000), Status::Success);
        assert_eq!(infinirtMemcpy(two, one, 1000, 2), Status::Success);
        assert_eq!(std::slice::from_raw_parts(two.cast::<u8>(), 1000), [0xff; 1000]);
        assert_eq!(infinirtMemcpy(two, one, 1000, 4), Status::BadParam);
        assert_eq!(infinirtMemcpy(two, null_mut(), 1, 0), Status::NullPointer);
        assert_eq!(infinirtMemcpy(null_mut(), null_mut(), 0, 0), Status::Success);
        assert_eq!(infinirtFree(one), Status::Success);
        assert_eq!(infinirtFreeHost(two), Status::Success);
        assert_eq!(infinirtFree(null_mut()), Status::Success);
        assert_eq!(infinirtMalloc(&mut one, usize::MAX), Status::OutOfMemory);
        assert_eq!(infinirtMalloc(&mut one, 0), Status::Success);
        assert!(one.is_null());
        assert_eq!(infinirtStreamCreate(&mut stream), Status::Success);
        assert_eq!(infinirtStreamSynchronize(stream), Status::Success);
        let (mut begin, mut end, mut time, mut state) = (null_mut(), null_mut(), -1.0, 7);
        assert_eq!(infinirtEventCreate(&mut begin), Status::Success);
        assert_eq!(infinirtEventCreateWithFlags(&mut end, 1), Status::Success);
        assert_eq!(infinirtEventElapsedTime(&mut time, begin, end), Status::BadParam);
        assert_eq!(infinirtEventRecord(begin, stream), Status::Success);
        assert_eq!(infinirtEventRecord(end, stream), Status::Success);
        assert_eq!(infinirtEventQuery(end, &mut state), Status::Success);
        assert_eq!(infinirtStreamWaitEvent(stream, end), Status::Success);
        assert_eq!(infinirtEventElapsedTime(&mut time, begin, end), Status::Success);
        assert!(time >= 0.0 && state == 0);
        assert_eq!(infinirtEventDestroy(begin), Status::Success);
        assert_eq!(infinirtEventDestroy(end), Status::Success);
        assert_eq!(infinirtStreamDestroy(stream), Status::Success);
        assert_eq!(infinirtStreamBeginCapture(stream, 0), Status::NotImplemented);
        assert_eq!(last_error(), "streams are not recorded as graphs");
    }
}
