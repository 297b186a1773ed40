//! Element types, as `xla::PrimitiveType` numbers them.

use std::ffi::c_uint;

/// All of them, with XLA's names in lower case.
pub const DTYPE_NAMES: &[(c_uint, &str)] = &[
    (DTYPE_PRED, "pred"),
    (2, "s8"),
    (3, "s16"),
    (DTYPE_S32, "s32"),
    (DTYPE_S64, "s64"),
    (6, "u8"),
    (7, "u16"),
    (8, "u32"),
    (9, "u64"),
    (10, "f16"),
    (DTYPE_F32, "f32"),
    (DTYPE_F64, "f64"),
    (15, "c64"),
    (16, "bf16"),
    (17, "token"),
    (18, "c128"),
    (19, "f8e5m2"),
    (20, "f8e4m3fn"),
    (21, "s4"),
    (22, "u4"),
    (23, "f8e4m3b11fnuz"),
    (24, "f8e5m2fnuz"),
    (25, "f8e4m3fnuz"),
    (26, "s2"),
    (27, "u2"),
    (28, "f8e4m3"),
    (29, "f8e3m4"),
    (30, "s1"),
    (31, "u1"),
    (32, "f4e2m1fn"),
    (33, "f8e8m0fnu"),
];
/// Truth values of one byte.
pub const DTYPE_PRED: c_uint = 1;
/// `i32`.
pub const DTYPE_S32: c_uint = 4;
/// `i64`.
pub const DTYPE_S64: c_uint = 5;
/// `f32`.
pub const DTYPE_F32: c_uint = 11;
/// `f64`.
pub const DTYPE_F64: c_uint = 12;
