//! The one error type of the kernels.

/// What a kernel refuses, and why. The text reaches Python and the command line unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An attribute, a shape or an element type that the op does not accept.
    #[error("{op}: {message}")]
    Invalid {
        /// The op that refused.
        op: &'static str,
        /// The argument in backticks, what was got and what was expected.
        message: String,
    },
    /// A tensor was read as another element type than it has.
    #[error("expected a tensor of {expected}, got {got}")]
    DType {
        /// The element type that was asked for.
        expected: crate::DType,
        /// The element type that the tensor has.
        got: crate::DType,
    },
    /// A buffer whose length is not the product of its shape.
    #[error("a tensor of shape {shape:?} needs {expected} elements, got {got}")]
    Length {
        /// The shape that was claimed.
        shape: Vec<usize>,
        /// The product of the shape.
        expected: usize,
        /// The number of elements in the buffer.
        got: usize,
    },
    /// A layout that leaves its buffer, or has not one stride for each axis.
    #[error(
        "a view of shape {shape:?} with strides {strides:?} from element {start} on leaves its \
         buffer of {len} elements"
    )]
    Strides {
        /// Extent of each axis.
        shape: Vec<usize>,
        /// Elements from one index of each axis to the next.
        strides: Vec<isize>,
        /// Where the first element was said to lie.
        start: usize,
        /// The number of elements in the buffer.
        len: usize,
    },
    /// A tensor was read as a slice, whose elements do not lie in row-major order.
    #[error("expected a row-major tensor, got shape {shape:?} with strides {strides:?}")]
    NotRowMajor {
        /// Extent of each axis.
        shape: Vec<usize>,
        /// Elements from one index of each axis to the next.
        strides: Vec<isize>,
    },
}

impl Error {
    /// An [`Error::Invalid`] of `op`.
    pub fn invalid(op: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { op, message: message.into() }
    }
}
