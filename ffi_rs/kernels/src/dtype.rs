//! Element types: one table, from which every match on them follows.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitXor, Not};

use bytemuck::{Pod, Zeroable};
pub use half::{bf16, f16};
pub use num_complex::{Complex32, Complex64};

/// Calls `$callback!` with the table of element types, each as
/// `Variant: type, "name", number in XLA, number in `.lmn` files, number in the C ABI,
/// "name in NumPy", "what it is";`, after the further arguments, if there are any.
///
/// A number in files or in the C ABI is never given to another type.
#[macro_export]
macro_rules! for_each_dtype {
    ($callback:ident $($arguments:tt)*) => {
        $callback! { $($arguments)*
            F32: f32, "f32", 11, 1, 13, "float32", "32-bit IEEE float";
            F64: f64, "f64", 12, 7, 14, "float64", "64-bit IEEE float";
            F16: $crate::f16, "f16", 10, 8, 12, "float16", "16-bit IEEE float";
            BF16: $crate::bf16, "bf16", 16, 9, 19, "bfloat16", "upper half of a 32-bit float";
            C64: $crate::Complex32, "c64", 15, 2, 17, "complex64", "two f32, real part first";
            C128: $crate::Complex64, "c128", 18, 10, 18, "complex128", "two f64, real part first";
            I8: i8, "i8", 2, 5, 3, "int8", "8-bit signed integer";
            U8: u8, "u8", 6, 11, 7, "uint8", "8-bit unsigned integer";
            I16: i16, "i16", 3, 12, 4, "int16", "16-bit signed integer";
            I32: i32, "i32", 4, 4, 5, "int32", "32-bit signed integer";
            I64: i64, "i64", 5, 13, 6, "int64", "64-bit signed integer";
            U32: u32, "u32", 8, 3, 9, "uint32", "32-bit unsigned integer";
            Bool: $crate::Bool, "bool", 1, 6, 2, "bool", "truth value, one byte, 0 or 1";
        }
    };
}

/// A truth value in a tensor: one byte, of which any but 0 is true.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Bool(u8);

impl Bool {
    /// Whether it is true.
    pub fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self(value.into())
    }
}

impl BitAnd for Bool {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        (self.get() & other.get()).into()
    }
}

impl BitOr for Bool {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        (self.get() | other.get()).into()
    }
}

impl BitXor for Bool {
    type Output = Self;

    fn bitxor(self, other: Self) -> Self {
        (self.get() ^ other.get()).into()
    }
}

impl Not for Bool {
    type Output = Self;

    fn not(self) -> Self {
        (!self.get()).into()
    }
}

/// A Rust type that tensors hold.
pub trait Element: Pod + Send + Sync {
    /// The tag of this type.
    const DTYPE: DType;
    #[doc(hidden)]
    fn read<'a>(data: &Data<'a>) -> Option<&'a [Self]>;
    #[doc(hidden)]
    fn write<'a, 'b>(data: &'b mut DataMut<'a>) -> Option<&'b mut [Self]>;
}

macro_rules! dtypes {
    ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $c:literal,
       $numpy:literal, $doc:literal;)*) => {
        /// Element type of a tensor.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DType {
            $(#[doc = concat!(" ", $doc, ".")] $variant,)*
        }

        impl DType {
            /// Every element type.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Bytes of one element.
            pub const fn size(self) -> usize {
                match self { $(Self::$variant => size_of::<$ty>(),)* }
            }

            /// Alignment of one element in bytes.
            pub const fn align(self) -> usize {
                match self { $(Self::$variant => align_of::<$ty>(),)* }
            }

            /// Its name in messages and attributes: `f32`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its name in NumPy: `float32`. That of [`DType::BF16`] comes from the package
            /// `ml_dtypes`.
            pub const fn numpy_name(self) -> &'static str {
                match self { $(Self::$variant => $numpy,)* }
            }

            /// Its number in `.lmn` files.
            pub const fn file_number(self) -> u32 {
                match self { $(Self::$variant => $file,)* }
            }

            /// The type of that number in `.lmn` files.
            pub const fn from_file_number(number: u32) -> Option<Self> {
                match number { $($file => Some(Self::$variant),)* _ => None }
            }

            /// Its number in the C ABI, which is that of infiniop.
            pub const fn c_number(self) -> i32 {
                match self { $(Self::$variant => $c,)* }
            }

            /// The type of that number in the C ABI.
            pub const fn from_c_number(number: i32) -> Option<Self> {
                match number { $($c => Some(Self::$variant),)* _ => None }
            }

            /// The type that XLA numbers so, as `xla::PrimitiveType`.
            pub const fn from_xla_number(number: u32) -> Option<Self> {
                match number { $($xla => Some(Self::$variant),)* _ => None }
            }

            /// The type of that [name](Self::name).
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }
        }

        /// The elements that a [`View`](crate::View) borrows.
        #[derive(Clone, Copy, Debug)]
        pub enum Data<'a> {
            $(#[doc = concat!(" Elements of type [`DType::", stringify!($variant), "`].")]
            $variant(&'a [$ty]),)*
        }

        /// The elements that a [`ViewMut`](crate::ViewMut) borrows.
        #[derive(Debug)]
        pub enum DataMut<'a> {
            $(#[doc = concat!(" Elements of type [`DType::", stringify!($variant), "`].")]
            $variant(&'a mut [$ty]),)*
        }

        impl<'a> Data<'a> {
            /// Element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant,)* }
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(data) => data.len(),)* }
            }

            /// The elements `start .. start + len`, of which all must be there.
            pub(crate) fn part(&self, start: usize, len: usize) -> Self {
                match self { $(Self::$variant(data) => Self::$variant(&data[start..][..len]),)* }
            }

            /// The elements as bytes of this machine's order.
            pub fn bytes(&self) -> &'a [u8] {
                match self { $(Self::$variant(data) => bytemuck::cast_slice(data),)* }
            }

            /// Bytes as elements, or None where length or alignment do not fit.
            pub fn from_bytes(dtype: DType, bytes: &'a [u8]) -> Option<Self> {
                // No bytes may start anywhere.
                match dtype { $(DType::$variant => match bytes {
                    [] => Some(Self::$variant(&[])),
                    _ => bytemuck::try_cast_slice(bytes).ok().map(Self::$variant),
                },)* }
            }

            /// `len` elements at `start`.
            ///
            /// # Safety
            /// Where `len` is not 0, `start` points to `len` elements of type `dtype`, aligned as
            /// such, that nobody writes during `'a`.
            pub unsafe fn from_raw_parts(dtype: DType, start: *const u8, len: usize) -> Self {
                match dtype { $(DType::$variant => Self::$variant(match len {
                    0 => &[],
                    // SAFETY: the caller vouches for pointer, alignment and length, and every bit
                    // pattern is an element (`Pod`).
                    _ => unsafe { std::slice::from_raw_parts(start.cast(), len) },
                }),)* }
            }
        }

        impl<'a> DataMut<'a> {
            /// Element type.
            pub fn dtype(&self) -> DType {
                match self { $(Self::$variant(_) => DType::$variant,)* }
            }

            /// Number of elements.
            pub fn len(&self) -> usize {
                match self { $(Self::$variant(data) => data.len(),)* }
            }

            /// The elements, to be read.
            pub fn as_data(&self) -> Data<'_> {
                match self { $(Self::$variant(data) => Data::$variant(data),)* }
            }

            /// Bytes as elements, or None where length or alignment do not fit.
            pub fn from_bytes(dtype: DType, bytes: &'a mut [u8]) -> Option<Self> {
                match dtype { $(DType::$variant => match bytes {
                    [] => Some(Self::$variant(&mut [])),
                    bytes => bytemuck::try_cast_slice_mut(bytes).ok().map(Self::$variant),
                },)* }
            }

            /// `len` elements at `start`.
            ///
            /// # Safety
            /// Where `len` is not 0, `start` points to `len` elements of type `dtype`, aligned as
            /// such, that nobody else uses during `'a`.
            pub unsafe fn from_raw_parts(dtype: DType, start: *mut u8, len: usize) -> Self {
                match dtype { $(DType::$variant => Self::$variant(match len {
                    0 => &mut [],
                    // SAFETY: the caller vouches for pointer, alignment, length and that the
                    // elements are ours alone, and every bit pattern is an element (`Pod`).
                    _ => unsafe { std::slice::from_raw_parts_mut(start.cast(), len) },
                }),)* }
            }
        }

        $(impl Element for $ty {
            const DTYPE: DType = DType::$variant;

            fn read<'a>(data: &Data<'a>) -> Option<&'a [Self]> {
                match data { Data::$variant(data) => Some(data), _ => None }
            }

            fn write<'a, 'b>(data: &'b mut DataMut<'a>) -> Option<&'b mut [Self]> {
                match data { DataMut::$variant(data) => Some(data), _ => None }
            }
        })*
    };
}

for_each_dtype!(dtypes);

impl Data<'_> {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl DataMut<'_> {
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_types_share_a_name_or_a_number() {
        let mut names: Vec<_> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DType::ALL.len());
        for &dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
            assert_eq!(DType::from_file_number(dtype.file_number()), Some(dtype));
            assert_eq!(DType::from_c_number(dtype.c_number()), Some(dtype));
            let of_xla = (0..64).filter(|&n| DType::from_xla_number(n) == Some(dtype));
            assert_eq!(of_xla.count(), 1);
        }
        // 0 is what a file holds where nothing was written.
        assert_eq!(DType::from_file_number(0), None);
        assert_eq!(DType::from_name("f8"), None);
    }

    /// What files hold, what C programs were compiled with, and what they are called in NumPy, is
    /// theirs for good.
    #[test]
    fn rows_of_the_table_stay() {
        let rows = [
            (1, 13, "f32", "float32", 4),
            (2, 17, "c64", "complex64", 8),
            (3, 9, "u32", "uint32", 4),
            (4, 5, "i32", "int32", 4),
            (5, 3, "i8", "int8", 1),
            (6, 2, "bool", "bool", 1),
            (7, 14, "f64", "float64", 8),
            (8, 12, "f16", "float16", 2),
            (9, 19, "bf16", "bfloat16", 2),
            (10, 18, "c128", "complex128", 16),
            (11, 7, "u8", "uint8", 1),
            (12, 4, "i16", "int16", 2),
            (13, 6, "i64", "int64", 8),
        ];
        for (number, c_number, name, numpy, size) in rows {
            let dtype = DType::from_file_number(number).expect("a type of files");
            assert_eq!(dtype.c_number(), c_number);
            assert_eq!((dtype.name(), dtype.numpy_name(), dtype.size()), (name, numpy, size));
        }
    }

    #[test]
    fn bytes_become_elements_where_length_and_alignment_fit() {
        let words = [1.0f32, -2.0, 0.5, 4.0];
        let bytes = Data::F32(&words).bytes();
        for &dtype in DType::ALL {
            let data = Data::from_bytes(dtype, bytes).expect("16 bytes, aligned to 4 or more");
            assert_eq!((data.dtype(), data.len()), (dtype, 16 / dtype.size()));
            assert_eq!(data.bytes(), bytes);
            assert!(Data::from_bytes(dtype, &bytes[1..1]).is_some_and(|data| data.is_empty()));
            if dtype.size() > 1 {
                assert!(Data::from_bytes(dtype, &bytes[..1]).is_none());
            }
        }
        assert!(Data::from_bytes(DType::F32, &bytes[1..5]).is_none());
    }

    #[test]
    fn any_byte_but_zero_is_true() {
        let bytes: [Bool; 3] = bytemuck::cast([0u8, 1, 200]);
        assert_eq!(bytes.map(Bool::get), [false, true, true]);
        assert_eq!(!bytes[2], Bool::from(false));
        assert_eq!(bytes[2] & bytes[1], Bool::from(true));
        assert_eq!(bytes[2] ^ bytes[1], Bool::from(false));
    }
}
