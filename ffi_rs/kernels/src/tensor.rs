//! Borrowed tensors: an element type, a shape and a row-major buffer.

use std::fmt;

use num_complex::Complex32;

use crate::Error;

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// Complex number of two 32-bit floats, real part first.
    C64,
    /// 32-bit unsigned integer.
    U32,
    /// 32-bit signed integer.
    I32,
    /// 8-bit signed integer.
    I8,
    /// Truth value, one byte, 0 or 1.
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::C64 => 8,
            Self::I8 | Self::Bool => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::C64 => "c64",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::I8 => "i8",
            Self::Bool => "bool",
        })
    }
}

/// What is known of a tensor before it is computed: `f32[2,3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Element type.
    pub dtype: DType,
    /// Extent of each axis.
    pub shape: Vec<usize>,
}

impl Fact {
    /// A fact from its parts.
    pub fn new(dtype: DType, shape: impl Into<Vec<usize>>) -> Self {
        Self { dtype, shape: shape.into() }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (axis, extent) in self.shape.iter().enumerate() {
            write!(f, "{}{extent}", if axis == 0 { "" } else { "," })?;
        }
        f.write_str("]")
    }
}

/// A Rust type that tensors hold.
pub trait Element: Copy + Send + Sync + 'static {
    /// The tag of this type.
    const DTYPE: DType;
    #[doc(hidden)]
    fn read<'a>(data: &Data<'a>) -> Option<&'a [Self]>;
    #[doc(hidden)]
    fn write<'a, 'b>(data: &'b mut DataMut<'a>) -> Option<&'b mut [Self]>;
}

macro_rules! elements {
    ($($variant:ident: $ty:ty),* $(,)?) => {
        /// The elements of a [`View`].
        #[derive(Clone, Copy, Debug)]
        pub enum Data<'a> {
            $(#[doc = concat!("Elements of type [`DType::", stringify!($variant), "`].")]
            $variant(&'a [$ty]),)*
        }

        /// The elements of a [`ViewMut`].
        #[derive(Debug)]
        pub enum DataMut<'a> {
            $(#[doc = concat!("Elements of type [`DType::", stringify!($variant), "`].")]
            $variant(&'a mut [$ty]),)*
        }

        impl Data<'_> {
            fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant,)* }
            }

            fn len(&self) -> usize {
                match self { $(Self::$variant(data) => data.len(),)* }
            }
        }

        impl DataMut<'_> {
            fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant,)* }
            }

            fn len(&self) -> usize {
                match self { $(Self::$variant(data) => data.len(),)* }
            }
        }
    };
}

elements!(F32: f32, C64: Complex32, U32: u32, I32: i32, I8: i8, Bool: u8);

macro_rules! element {
    ($($variant:ident: $ty:ty),* $(,)?) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$variant;

            fn read<'a>(data: &Data<'a>) -> Option<&'a [Self]> {
                match data { Data::$variant(data) => Some(data), _ => None }
            }

            fn write<'a, 'b>(data: &'b mut DataMut<'a>) -> Option<&'b mut [Self]> {
                match data { DataMut::$variant(data) => Some(data), _ => None }
            }
        }
    )*};
}

element!(F32: f32, C64: Complex32, U32: u32, I32: i32, I8: i8, Bool: u8);

/// A tensor that an op reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    shape: &'a [usize],
    data: Data<'a>,
}

impl<'a> View<'a> {
    /// A view of `data`, whose length must be the product of `shape`.
    pub fn new(shape: &'a [usize], data: Data<'a>) -> Result<Self, Error> {
        check_length(shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Element type and shape.
    pub fn fact(&self) -> Fact {
        Fact::new(self.dtype(), self.shape)
    }

    /// The elements, row-major.
    pub fn data<T: Element>(&self) -> Result<&'a [T], Error> {
        T::read(&self.data).ok_or(Error::DType { expected: T::DTYPE, got: self.dtype() })
    }
}

/// A tensor that an op writes.
#[derive(Debug)]
pub struct ViewMut<'a> {
    shape: &'a [usize],
    data: DataMut<'a>,
}

impl<'a> ViewMut<'a> {
    /// A view of `data`, whose length must be the product of `shape`.
    pub fn new(shape: &'a [usize], data: DataMut<'a>) -> Result<Self, Error> {
        check_length(shape, data.len())?;
        Ok(Self { shape, data })
    }

    /// Extent of each axis.
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// Element type and shape.
    pub fn fact(&self) -> Fact {
        Fact::new(self.dtype(), self.shape)
    }

    /// The elements, row-major.
    pub fn data_mut<T: Element>(&mut self) -> Result<&mut [T], Error> {
        let got = self.dtype();
        T::write(&mut self.data).ok_or(Error::DType { expected: T::DTYPE, got })
    }
}

fn check_length(shape: &[usize], got: usize) -> Result<(), Error> {
    // An empty axis makes the tensor empty, however long the others are.
    let expected = if shape.contains(&0) {
        Some(0)
    } else {
        shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))
    };
    match expected {
        Some(expected) if expected == got => Ok(()),
        _ => Err(Error::Length {
            shape: shape.to_vec(),
            expected: expected.unwrap_or(usize::MAX),
            got,
        }),
    }
}
