//! Tensors of any layout, and calls of operators on them.

use std::ffi::{CStr, c_void};

use lumina::{
    InfiniopHandle, InfiniopTensorDescriptor, Status, infiniopCreateHandle,
    infiniopCreateTensorDescriptor, infiniopDestroyHandle, infiniopDestroyTensorDescriptor,
};
use lumina_kernels::{DType, bf16, f16};

/// Numbers that a seed repeats (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.bits() >> 33) as usize % limit
    }

    /// From -2 to 2.
    pub(crate) fn number(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64 * 4.0 - 2.0
    }
}

/// How the elements of a tensor lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    RowMajor,
    /// The first axis is the innermost one.
    ColumnMajor,
    /// Rows with room behind them.
    Padded,
    /// Every axis backwards, with room between elements.
    Reversed,
    /// The first axis repeats; for operands alone.
    Repeated,
}

pub(crate) const ORDERS: [Order; 4] =
    [Order::RowMajor, Order::ColumnMajor, Order::Padded, Order::Reversed];

/// A tensor and its memory, whose gaps are watched.
#[derive(Clone)]
pub(crate) struct Tensor {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<isize>,
    start: usize,
    /// In whole words, so that any element is aligned.
    memory: Vec<u64>,
}

const GAP: u64 = 0x7e7e_7e7e_7e7e_7e7e;

impl Tensor {
    pub(crate) fn new(dtype: DType, shape: &[usize], order: Order) -> Self {
        let rank = shape.len();
        let mut strides = vec![0isize; rank];
        let mut next = 1isize;
        let gap = |next: isize| match order {
            Order::Padded | Order::Reversed => next + 3,
            _ => next,
        };
        let axes: Vec<usize> = match order {
            Order::ColumnMajor => (0..rank).collect(),
            _ => (0..rank).rev().collect(),
        };
        for (place, &axis) in axes.iter().enumerate() {
            if order == Order::Reversed && place == 0 {
                next = 2;
            }
            strides[axis] = next;
            next = gap(next * shape[axis].max(1) as isize);
        }
        match order {
            Order::Reversed => strides.iter_mut().for_each(|stride| *stride = -*stride),
            Order::Repeated if rank > 0 => strides[0] = 0,
            _ => {}
        }
        Self::strided(dtype, shape, &strides)
    }

    pub(crate) fn strided(dtype: DType, shape: &[usize], strides: &[isize]) -> Self {
        let reach = |sign: isize| -> usize {
            let axes = shape.iter().zip(strides).filter(|(_, stride)| stride.signum() == sign);
            axes.map(|(&extent, stride)| stride.unsigned_abs() * extent.saturating_sub(1)).sum()
        };
        let is_empty = shape.contains(&0);
        let (start, behind) = if is_empty { (0, 0) } else { (reach(-1), reach(1) + 1) };
        let words = ((start + behind) * dtype.size()).div_ceil(8);
        let memory = vec![GAP; words];
        Self { dtype, shape: shape.to_vec(), strides: strides.to_vec(), start, memory }
    }

    /// Elements f(0), f(1), …, rounded to the type, in row-major order.
    pub(crate) fn filled(mut self, mut f: impl FnMut(usize) -> f64) -> Self {
        for index in 0..self.len() {
            let at = self.position(index);
            self.put(at, f(index));
        }
        self
    }

    pub(crate) fn random(self, random: &mut Random) -> Self {
        self.filled(|_| random.number())
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn position(&self, mut index: usize) -> usize {
        let mut at = self.start as isize;
        for (&extent, &stride) in self.shape.iter().zip(&self.strides).rev() {
            at += (index % extent) as isize * stride;
            index /= extent;
        }
        at as usize
    }

    /// Makes complex numbers real.
    pub(crate) fn clear_imaginary(&mut self) {
        for index in 0..self.len() {
            let at = self.position(index) * 8 + 4;
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory);
            bytes[at..at + 4].fill(0);
        }
    }

    /// Imaginary parts of complex numbers.
    pub(crate) fn imaginary(&self) -> Vec<f32> {
        let part = |index: usize| {
            let at = self.position(index) * 8 + 4;
            f32::from_le_bytes(self.bytes()[at..at + 4].try_into().unwrap())
        };
        (0..self.len()).map(part).collect()
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.memory)
    }

    fn put(&mut self, at: usize, value: f64) {
        let size = self.dtype.size();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.memory);
        let to = &mut bytes[at * size..][..size];
        match self.dtype {
            DType::F32 => to.copy_from_slice(&(value as f32).to_le_bytes()),
            DType::F64 => to.copy_from_slice(&value.to_le_bytes()),
            DType::F16 => to.copy_from_slice(&f16::from_f64(value).to_le_bytes()),
            DType::BF16 => to.copy_from_slice(&bf16::from_f64(value).to_le_bytes()),
            DType::C64 => to[..4].copy_from_slice(&(value as f32).to_le_bytes()),
            // Integers of any width, whose low bytes come first.
            _ => to.copy_from_slice(&(value as i64).to_le_bytes()[..size]),
        }
    }

    fn take(&self, at: usize) -> f64 {
        let size = self.dtype.size();
        let from = &self.bytes()[at * size..][..size];
        match self.dtype {
            DType::F32 => f32::from_le_bytes(from.try_into().unwrap()).into(),
            DType::F64 => f64::from_le_bytes(from.try_into().unwrap()),
            DType::F16 => f16::from_le_bytes(from.try_into().unwrap()).into(),
            DType::BF16 => bf16::from_le_bytes(from.try_into().unwrap()).into(),
            DType::U8 | DType::U32 | DType::Bool => {
                let mut wide = [0; 8];
                wide[..size].copy_from_slice(from);
                u64::from_le_bytes(wide) as f64
            }
            DType::C64 => f32::from_le_bytes(from[..4].try_into().unwrap()).into(),
            _ => {
                let sign = if from[size - 1] & 0x80 == 0 { 0 } else { 0xff };
                let mut wide = [sign; 8];
                wide[..size].copy_from_slice(from);
                i64::from_le_bytes(wide) as f64
            }
        }
    }

    /// The elements, row-major.
    pub(crate) fn values(&self) -> Vec<f64> {
        (0..self.len()).map(|index| self.take(self.position(index))).collect()
    }

    /// Panics where memory between the elements is not as it was.
    pub(crate) fn check_gaps(&self) {
        let mut is_gap = vec![true; self.memory.len() * 8 / self.dtype.size().max(1)];
        (0..self.len()).for_each(|index| is_gap[self.position(index)] = false);
        let size = self.dtype.size();
        for (at, _) in is_gap.iter().enumerate().filter(|(_, is_gap)| **is_gap) {
            let gap = &self.bytes()[at * size..][..size];
            assert!(gap.iter().all(|&byte| byte == 0x7e), "a gap was written");
        }
    }

    /// That of the element of index 0.
    pub(crate) fn pointer(&mut self) -> *mut c_void {
        let start = self.start * self.dtype.size();
        self.memory.as_mut_ptr().cast::<u8>().wrapping_add(start).cast()
    }

    pub(crate) fn describe(&self) -> *mut InfiniopTensorDescriptor {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: the lists have as many numbers as there are axes.
        let status = unsafe {
            infiniopCreateTensorDescriptor(
                &mut descriptor,
                self.shape.len(),
                self.shape.as_ptr(),
                self.strides.as_ptr(),
                self.dtype.c_number(),
            )
        };
        assert_eq!(status, Status::Success, "{}", last_error());
        descriptor
    }
}

/// One of several names of a tensor, for operators in place.
pub(crate) struct Name {
    pointer: *mut c_void,
    like: Tensor,
}

impl Name {
    pub(crate) fn pointer(&self) -> *mut c_void {
        self.pointer
    }

    pub(crate) fn describe(&self) -> *mut InfiniopTensorDescriptor {
        self.like.describe()
    }
}

impl Tensor {
    /// Two names of this tensor, as long as nobody touches it otherwise.
    pub(crate) fn twice(&mut self) -> [Name; 2] {
        let pointer = self.pointer();
        [(); 2].map(|()| Name { pointer, like: self.clone() })
    }
}

pub(crate) fn destroy(descriptor: *mut InfiniopTensorDescriptor) {
    // SAFETY: it was made, or is null, and is not used any more.
    let status = unsafe { infiniopDestroyTensorDescriptor(descriptor) };
    assert!(status == Status::Success || descriptor.is_null());
}

pub(crate) fn last_error() -> String {
    // SAFETY: the text is that of this thread, and no call fails meanwhile.
    let text = unsafe { CStr::from_ptr(lumina::lumina_last_error()) };
    text.to_str().expect("texts are UTF-8").to_owned()
}

pub(crate) struct Handle(pub(crate) *mut InfiniopHandle);

impl Handle {
    pub(crate) fn new() -> Self {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the place is writable.
        let status = unsafe { infiniopCreateHandle(&mut handle) };
        assert_eq!(status, Status::Success);
        Self(handle)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made, and is not used any more.
        assert_eq!(unsafe { infiniopDestroyHandle(self.0) }, Status::Success);
    }
}

/// A workspace of so many bytes that begins at no multiple of anything.
pub(crate) struct Workspace(Vec<u8>);

impl Workspace {
    pub(crate) fn new(size: usize) -> Self {
        Self(vec![0x55; size + 9])
    }

    pub(crate) fn pointer(&mut self) -> *mut c_void {
        let odd = if self.0.as_ptr().addr().is_multiple_of(2) { 1 } else { 2 };
        self.0[odd..].as_mut_ptr().cast()
    }
}

/// Creates an operator for these tensors and parameters; evaluates to status and descriptor.
macro_rules! create {
    ($op:ident, [$($tensor:expr),*] $(, $param:expr)*) => {{
        let handle = crate::support::Handle::new();
        let mut desc = std::ptr::null_mut();
        // SAFETY: handle, descriptors and lists are valid.
        let status = unsafe {
            lumina::$op::create_descriptor(handle.0, &mut desc, $($tensor,)* $($param),*)
        };
        (status, desc)
    }};
}

/// Creates an operator for these tensors and parameters, runs it on them, with what a call takes beside
/// them, and destroys it.
macro_rules! run {
    ($op:ident, [$($tensor:ident),*] $(, $param:expr)* $(; $($of_call:expr),*)?) => {{
        let descriptors = [$($tensor.describe()),*];
        let mut all = descriptors.iter().copied();
        let (status, desc) = create!($op, [$({ let _ = &$tensor; all.next().unwrap() }),*] $(, $param)*);
        assert_eq!(status, lumina::Status::Success, "{}", crate::support::last_error());
        descriptors.into_iter().for_each(crate::support::destroy);
        let mut size = 0;
        // SAFETY: the operator was made.
        unsafe { assert_eq!(lumina::$op::get_workspace_size(desc, &mut size), lumina::Status::Success) };
        let mut workspace = crate::support::Workspace::new(size);
        // SAFETY: the operator was made, tensors have memory as described, and the workspace its size.
        unsafe {
            let status = lumina::$op::run(
                desc,
                workspace.pointer(),
                size,
                $($tensor.pointer(),)*
                $($($of_call,)*)?
                std::ptr::null_mut(),
            );
            assert_eq!(status, lumina::Status::Success, "{}", crate::support::last_error());
            assert_eq!(lumina::$op::destroy_descriptor(desc), lumina::Status::Success);
        }
    }};
}

/// The same of an operator without workspace.
macro_rules! run_directly {
    ($op:ident, [$($tensor:ident),*]) => {{
        let descriptors = [$($tensor.describe()),*];
        let mut all = descriptors.iter().copied();
        let (status, desc) = create!($op, [$({ let _ = &$tensor; all.next().unwrap() }),*]);
        assert_eq!(status, lumina::Status::Success, "{}", crate::support::last_error());
        descriptors.into_iter().for_each(crate::support::destroy);
        // SAFETY: the operator was made, and tensors have memory as described.
        unsafe {
            let status = lumina::$op::run(desc, $($tensor.pointer(),)* std::ptr::null_mut());
            assert_eq!(status, lumina::Status::Success, "{}", crate::support::last_error());
            assert_eq!(lumina::$op::destroy_descriptor(desc), lumina::Status::Success);
        }
    }};
}

/// Panics unless each element is what it should be, rounded once to its type, after `steps` roundings in
/// f32 of numbers as large as `size`.
#[track_caller]
pub(crate) fn check(got: &Tensor, want: &[f64], steps: f64, size: f64) {
    let (unit, least) = match got.dtype {
        DType::F16 => (2f64.powi(-11), 2f64.powi(-24)),
        DType::BF16 => (2f64.powi(-8), 1e-37),
        DType::F32 => (2f64.powi(-24), 1e-37),
        DType::F64 => (2f64.powi(-53), 0.0),
        _ => (0.0, 0.0),
    };
    let of_f32 = if got.dtype == DType::F64 { 2f64.powi(-50) } else { 2f64.powi(-24) };
    got.check_gaps();
    let values = got.values();
    assert_eq!(values.len(), want.len());
    for (index, (&got_value, &want)) in values.iter().zip(want).enumerate() {
        let allowed = 1.01 * unit * want.abs() + steps * of_f32 * size.max(want.abs()) + least;
        let is_same = got_value == want || got_value.is_nan() && want.is_nan();
        assert!(
            is_same || (got_value - want).abs() <= allowed,
            "element {index} of {:?}: {got_value}, expected {want} to {allowed}",
            got.dtype
        );
    }
}

pub(crate) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
pub(crate) const REALS: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::F64];

/// Every type of positions and indices.
pub(crate) const INDICES: [DType; 6] =
    [DType::I32, DType::I64, DType::U32, DType::I8, DType::U8, DType::I16];

/// The tensor that is null.
pub(crate) struct Absent;

impl Absent {
    pub(crate) fn describe(&self) -> *mut InfiniopTensorDescriptor {
        std::ptr::null_mut()
    }

    pub(crate) fn pointer(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }
}
