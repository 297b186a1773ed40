//! What a session and its caller lend each other: tensors that were set, views that were given, and
//! refusals of those that do not fit.

use std::fmt::{self, Display};
use std::ops::Range;
use std::ptr;
use std::slice;

use lumina_kernels::{Strides, row_major_strides};
use lumina_runtime::{DType, Fact, MAX_RANK, Role};

use crate::status::{Failure, Status};
use crate::strided;
use crate::tensor::{Checked, Tensor};

/// What stands for no tensor.
pub(crate) const ABSENT: Tensor =
    Tensor { data: ptr::null_mut(), rank: 0, shape: ptr::null(), strides: ptr::null(), dtype: 0 };

/// A tensor of the caller, with a shape of ours.
pub(crate) struct Owned {
    pub(crate) tensor: Tensor,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Option<Vec<isize>>,
}

impl Owned {
    pub(crate) fn tensor(&self) -> Tensor {
        let strides = self.strides.as_ref().map_or(ptr::null(), |strides| strides.as_ptr());
        Tensor { shape: self.shape.as_ptr(), strides, ..self.tensor }
    }
}

/// Row-major elements that the caller may look at. It stays where it is for as long as the session is
/// there, as shapes of views point into it, and views are given back to later calls.
pub(crate) struct Lent {
    pub(crate) data: *const u8,
    /// The data of the last view that was given.
    pub(crate) viewed: *const u8,
    /// Their addresses; none where only type and shape are known.
    pub(crate) bytes: Range<usize>,
    /// Whether it is memory of the session or of the model.
    pub(crate) is_ours: bool,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Strides,
}

impl Lent {
    pub(crate) fn nothing() -> Self {
        Self {
            data: ptr::null(),
            viewed: ptr::null(),
            bytes: 0..0,
            is_ours: false,
            dtype: DType::F32,
            shape: Vec::with_capacity(MAX_RANK),
            strides: Strides::new(),
        }
    }

    pub(crate) fn set(&mut self, dtype: DType, shape: &[usize], bytes: Option<&[u8]>) {
        self.data = bytes.map_or(ptr::null(), <[u8]>::as_ptr);
        self.bytes = self.data.addr()..self.data.addr() + bytes.map_or(0, <[u8]>::len);
        self.dtype = dtype;
        // Mostly it is that of the run before.
        if self.shape != shape {
            self.shape.clear();
            self.shape.extend_from_slice(shape);
            self.strides = row_major_strides(shape);
        }
    }

    /// Forgets where elements lie, as they may be others from now on.
    pub(crate) fn forget(&mut self) {
        self.data = ptr::null();
        self.bytes = 0..0;
    }

    pub(crate) fn view(&mut self) -> Tensor {
        self.viewed = self.data;
        Tensor {
            data: self.data.cast_mut().cast(),
            rank: self.shape.len(),
            shape: self.shape.as_ptr(),
            strides: self.strides.as_ptr(),
            dtype: self.dtype.c_number(),
        }
    }

    /// The elements.
    ///
    /// # Safety
    /// Nothing has run or been written since they were lent.
    pub(crate) unsafe fn bytes(&self) -> &[u8] {
        match self.bytes.len() {
            0 => &[],
            // SAFETY: the caller vouches for them.
            len => unsafe { slice::from_raw_parts(self.data, len) },
        }
    }

    /// Copies the elements, which lie at `from` or where they are, to memory of the caller.
    ///
    /// # Safety
    /// `to` is memory of this type and shape that is to be written and overlaps none of `from`, which
    /// holds as many elements.
    pub(crate) unsafe fn copy(&self, from: *const u8, to: &Checked<'_>) {
        let to = (to.data, to.strides);
        // SAFETY: the caller vouches for it.
        unsafe { strided::copy(self.dtype.size(), &self.shape, (from, None), to) };
    }
}

/// What messages call a tensor: input `x`.
pub(crate) struct Name<'a>(pub(crate) &'static str, pub(crate) &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.0, self.1)
    }
}

/// Refuses so many inputs or outputs, unless these are their names, or there are none.
pub(crate) fn check_count<'a>(
    what: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
    got: usize,
) -> Result<(), Failure> {
    if got == 0 || got == names.len() {
        return Ok(());
    }
    let count = names.len();
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    let message = format!("expected {count} {what}s ({names}) or none, got {got}");
    Err(Failure::new(Status::BadParam, message))
}

pub(crate) fn not_given(name: &str, role: Role) -> Failure {
    let message = match role {
        Role::Plain => format!("input `{name}` is not given, and was not set"),
        Role::NoiseSeed => format!(
            "input `{name}`, the seed of the noise, is not given and was not set: \
             lumina_session_set_noise_seed makes it of a number"
        ),
    };
    Failure::new(Status::BadParam, message)
}

/// Refuses memory of another type or shape than that of the result.
pub(crate) fn check_place(
    name: &Name<'_>,
    place: &Checked<'_>,
    (dtype, shape): (DType, &[usize]),
) -> Result<(), Failure> {
    let status = match (place.dtype == dtype, place.shape == shape) {
        (true, true) => return Ok(()),
        (false, _) => Status::BadTensorDtype,
        (true, false) => Status::BadTensorShape,
    };
    let (got, fact) = (Fact::new(place.dtype, place.shape), Fact::new(dtype, shape));
    Err(Failure::new(status, format!("{name} is {fact}, got memory for {got}")))
}

/// Refuses two results in one place, of which one would be lost.
pub(crate) fn check_apart<'a>(
    places: &[Option<Checked<'_>>],
    name: impl Fn(usize) -> &'a str,
) -> Result<(), Failure> {
    let elements =
        |place: &Option<Checked<'_>>| place.filter(|place| place.len > 0).map(|p| p.data);
    for (index, place) in places.iter().enumerate() {
        let Some(data) = elements(place) else { continue };
        if let Some(other) = places[..index].iter().position(|p| elements(p) == Some(data)) {
            let (one, other) = (Name("output", name(other)), Name("output", name(index)));
            let message = format!("{one} and {other} are to be written to the same memory");
            return Err(Failure::new(Status::BadParam, message));
        }
    }
    Ok(())
}
