//! The part of the XLA FFI C API, version 0.3, that a CPU handler touches.
//!
//! A mirror of `xla/ffi/api/c_api.h` in Rust and nothing else: no logic lives here. Every struct
//! is followed by its size and offsets on 64-bit targets, checked at compile time, and by its names in
//! C, by which a test compares it with the header of the installed jaxlib.
//! [`CallFrame`] ends where version 0.1 ended; later versions append a `future` field, which
//! only asynchronous handlers need.

mod dtypes;

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::{offset_of, size_of};

pub use self::dtypes::*;

/// Major version of this mirror.
pub const API_MAJOR: c_int = 0;
/// Minor version of this mirror.
pub const API_MINOR: c_int = 3;

/// A struct by its name in C: its size, and the offset of each field by its name there.
#[cfg(debug_assertions)]
pub type Layout = (&'static str, usize, &'static [(&'static str, usize)]);

/// The name in C: that in Rust, or the other one where there is one.
#[cfg(debug_assertions)]
macro_rules! c_name {
    ($name:ident) => {
        stringify!($name)
    };
    ($name:ident $c_name:ident) => {
        stringify!($c_name)
    };
}

macro_rules! layout {
    ($name:ident as $c_name:ident: $size:literal {
        $($field:ident $(as $c_field:ident)? @ $offset:literal),* $(,)?
    }) => {
        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(offset_of!($name, $field) == $offset);)*
        };

        #[cfg(debug_assertions)]
        impl $name {
            const LAYOUT: Layout = {
                // No field is left out.
                let _ = |all: &$name| {
                    let $name { $($field: _),* } = all;
                };
                (stringify!($c_name), $size, &[$((c_name!($field $($c_field)?), $offset)),*])
            };
        }
    };
}

/// Head of a linked list of extensions.
#[repr(C)]
pub struct ExtensionBase {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Which extension this is.
    pub kind: c_uint,
    /// The next extension, or null.
    pub next: *mut ExtensionBase,
}
layout!(ExtensionBase as XLA_FFI_Extension_Base: 24 { struct_size @ 0, kind as type @ 8, next @ 16 });

/// [`ExtensionBase::kind`] of a [`MetadataExtension`].
pub const EXTENSION_METADATA: c_uint = 1;

/// A version of the API.
#[repr(C)]
pub struct ApiVersion {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// Layout breaks.
    pub major_version: c_int,
    /// Additions.
    pub minor_version: c_int,
}
layout!(ApiVersion as XLA_FFI_Api_Version: 24 {
    struct_size @ 0,
    extension_start @ 8,
    major_version @ 16,
    minor_version @ 20,
});

/// Number of a type that was registered with XLA.
#[repr(C)]
pub struct TypeId {
    /// 0 is "unknown".
    pub type_id: i64,
}
layout!(TypeId as XLA_FFI_TypeId: 8 { type_id @ 0 });

/// What a handler says of itself.
#[repr(C)]
pub struct Metadata {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// The API that the handler was written for.
    pub api_version: ApiVersion,
    /// Trait bits; 0 is none.
    pub traits: u32,
    /// Type of the state of a stateful handler. Absent before version 0.2.
    pub state_type_id: TypeId,
}
layout!(Metadata as XLA_FFI_Metadata: 48 {
    struct_size @ 0,
    api_version @ 8,
    traits @ 32,
    state_type_id @ 40,
});

/// The extension by which XLA asks a handler for its [`Metadata`].
#[repr(C)]
pub struct MetadataExtension {
    /// The list link.
    pub extension_base: ExtensionBase,
    /// To be filled in.
    pub metadata: *mut Metadata,
}
layout!(MetadataExtension as XLA_FFI_Metadata_Extension: 32 { extension_base @ 0, metadata @ 24 });

/// An error that XLA owns.
#[repr(C)]
pub struct Error {
    _opaque: [u8; 0],
}

/// State of one invocation that XLA owns; dead once the handler has returned.
#[repr(C)]
pub struct ExecutionContext {
    _opaque: [u8; 0],
}

/// Status code of an error: the caller's fault.
pub const ERROR_INVALID_ARGUMENT: c_uint = 3;
/// Status code of an error: our fault.
pub const ERROR_INTERNAL: c_uint = 13;

/// Arguments of [`Api::error_create`].
#[repr(C)]
pub struct ErrorCreateArgs {
    /// `size_of::<Self>()`, less the padding at its end.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// Null-terminated text, which XLA copies.
    pub message: *const c_char,
    /// Status code.
    pub errc: c_uint,
}
layout!(ErrorCreateArgs as XLA_FFI_Error_Create_Args: 32 {
    struct_size @ 0,
    extension_start @ 8,
    message @ 16,
    errc @ 24,
});

/// Arguments of [`Api::error_destroy`].
#[repr(C)]
pub struct ErrorDestroyArgs {
    /// `size_of::<Self>()`.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// The error to free.
    pub error: *mut Error,
}
layout!(ErrorDestroyArgs as XLA_FFI_Error_Destroy_Args: 24 {
    struct_size @ 0,
    extension_start @ 8,
    error @ 16,
});

/// A dense row-major array.
#[repr(C)]
pub struct Buffer {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// Element type.
    pub dtype: c_uint,
    /// The elements.
    pub data: *mut c_void,
    /// Number of axes.
    pub rank: i64,
    /// Extents, `rank` of them.
    pub dims: *mut i64,
}
layout!(Buffer as XLA_FFI_Buffer: 48 {
    struct_size @ 0,
    extension_start @ 8,
    dtype @ 16,
    data @ 24,
    rank @ 32,
    dims @ 40,
});

/// The only type of argument and of result there is: a [`Buffer`].
pub const ARG_BUFFER: c_uint = 1;
/// An attribute that is one [`Array`].
pub const ATTR_ARRAY: c_uint = 1;
/// An attribute that is one [`Scalar`].
pub const ATTR_SCALAR: c_uint = 3;
/// An attribute that is a string, one [`ByteSpan`].
pub const ATTR_STRING: c_uint = 4;

/// A string that need not end in a null.
#[repr(C)]
pub struct ByteSpan {
    /// First byte.
    pub ptr: *const c_char,
    /// Number of bytes.
    pub len: usize,
}
layout!(ByteSpan as XLA_FFI_ByteSpan: 16 { ptr @ 0, len @ 8 });

/// One number as an attribute.
#[repr(C)]
pub struct Scalar {
    /// Element type.
    pub dtype: c_uint,
    /// The number.
    pub value: *mut c_void,
}
layout!(Scalar as XLA_FFI_Scalar: 16 { dtype @ 0, value @ 8 });

/// Numbers of one type as an attribute.
#[repr(C)]
pub struct Array {
    /// Element type.
    pub dtype: c_uint,
    /// Number of elements.
    pub size: usize,
    /// The elements.
    pub data: *mut c_void,
}
layout!(Array as XLA_FFI_Array: 24 { dtype @ 0, size @ 8, data @ 16 });

/// The arguments of a call, or its results: `XLA_FFI_Args` and `XLA_FFI_Rets` have one layout.
#[repr(C)]
pub struct Args {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// Number of arguments.
    pub size: i64,
    /// Type of each.
    pub types: *mut c_uint,
    /// Each, as a pointer to what its type says.
    pub args: *mut *mut c_void,
}
layout!(Args as XLA_FFI_Args: 40 { struct_size @ 0, extension_start @ 8, size @ 16, types @ 24, args @ 32 });

/// The attributes of a call, sorted by name.
#[repr(C)]
pub struct Attrs {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// Number of attributes.
    pub size: i64,
    /// Type of each.
    pub types: *mut c_uint,
    /// Name of each.
    pub names: *mut *mut ByteSpan,
    /// Each, as a pointer to what its type says.
    pub attrs: *mut *mut c_void,
}
layout!(Attrs as XLA_FFI_Attrs: 48 {
    struct_size @ 0,
    extension_start @ 8,
    size @ 16,
    types @ 24,
    names @ 32,
    attrs @ 40,
});

/// [`CallFrame::stage`] of a call that computes.
pub const STAGE_EXECUTE: c_uint = 3;

/// One call of a handler.
#[repr(C)]
pub struct CallFrame {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Extensions, or null; a [`MetadataExtension`] turns the call into a query.
    pub extension_start: *mut ExtensionBase,
    /// What XLA offers.
    pub api: *const Api,
    /// State of this invocation.
    pub ctx: *mut ExecutionContext,
    /// What the call is to do.
    pub stage: c_uint,
    /// Arguments.
    pub args: Args,
    /// Results, to be written.
    pub rets: Args,
    /// Attributes.
    pub attrs: Attrs,
}
layout!(CallFrame as XLA_FFI_CallFrame: 168 {
    struct_size @ 0,
    extension_start @ 8,
    api @ 16,
    ctx @ 24,
    stage @ 32,
    args @ 40,
    rets @ 80,
    attrs @ 120,
});

/// A handler. Null is success; a returned error becomes XLA's.
pub type Handler = unsafe extern "C" fn(*mut CallFrame) -> *mut Error;

/// Work for the thread pool.
pub type Task = unsafe extern "C" fn(*mut c_void);

/// Arguments of [`Api::thread_pool_schedule`].
#[repr(C)]
pub struct ThreadPoolScheduleArgs {
    /// `size_of::<Self>()`.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// [`CallFrame::ctx`].
    pub ctx: *mut ExecutionContext,
    /// Called once, on any thread, at any time.
    pub task: Task,
    /// Argument of `task`.
    pub data: *mut c_void,
}
layout!(ThreadPoolScheduleArgs as XLA_FFI_ThreadPool_Schedule_Args: 40 {
    struct_size @ 0,
    extension_start @ 8,
    ctx @ 16,
    task @ 24,
    data @ 32,
});

/// Arguments of [`Api::thread_pool_num_threads`].
#[repr(C)]
pub struct ThreadPoolNumThreadsArgs {
    /// `size_of::<Self>()`.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// [`CallFrame::ctx`].
    pub ctx: *mut ExecutionContext,
    /// Where the number is written.
    pub num_threads: *mut i64,
}
layout!(ThreadPoolNumThreadsArgs as XLA_FFI_ThreadPool_NumThreads_Args: 32 {
    struct_size @ 0,
    extension_start @ 8,
    ctx @ 16,
    num_threads @ 24,
});

/// A function of [`Api`] that this crate does not call.
pub type Unused = *const c_void;

/// What XLA offers. Earlier versions have fewer functions: compare `struct_size` before a read.
#[repr(C)]
pub struct Api {
    /// Bytes that the other side knows of.
    pub struct_size: usize,
    /// Extensions, or null.
    pub extension_start: *mut ExtensionBase,
    /// Version of the other side.
    pub api_version: ApiVersion,
    /// Not for us.
    pub internal_api: *const c_void,
    /// Makes an error.
    pub error_create: Option<unsafe extern "C" fn(*mut ErrorCreateArgs) -> *mut Error>,
    /// Text of an error.
    pub error_get_message: Unused,
    /// Frees an error.
    pub error_destroy: Option<unsafe extern "C" fn(*mut ErrorDestroyArgs)>,
    /// Registers a handler.
    pub handler_register: Unused,
    /// The stream of a device.
    pub stream_get: Unused,
    /// Registers a type.
    pub type_register: Unused,
    /// User data of an execution.
    pub execution_context_get: Unused,
    /// Sets the state of a handler.
    pub state_set: Unused,
    /// The state of a handler.
    pub state_get: Unused,
    /// Allocates device memory.
    pub device_memory_allocate: Unused,
    /// Frees device memory.
    pub device_memory_free: Unused,
    /// Hands a task to XLA's thread pool.
    pub thread_pool_schedule:
        Option<unsafe extern "C" fn(*mut ThreadPoolScheduleArgs) -> *mut Error>,
    /// Number of threads in XLA's thread pool.
    pub thread_pool_num_threads:
        Option<unsafe extern "C" fn(*mut ThreadPoolNumThreadsArgs) -> *mut Error>,
    /// Makes a future.
    pub future_create: Unused,
    /// Completes a future.
    pub future_set_available: Unused,
    /// Fails a future.
    pub future_set_error: Unused,
    /// Number of the run.
    pub run_id_get: Unused,
    /// Number of the device.
    pub device_ordinal_get: Unused,
}
layout!(Api as XLA_FFI_Api: 192 {
    struct_size @ 0,
    extension_start @ 8,
    api_version @ 16,
    internal_api @ 40,
    error_create as XLA_FFI_Error_Create @ 48,
    error_get_message as XLA_FFI_Error_GetMessage @ 56,
    error_destroy as XLA_FFI_Error_Destroy @ 64,
    handler_register as XLA_FFI_Handler_Register @ 72,
    stream_get as XLA_FFI_Stream_Get @ 80,
    type_register as XLA_FFI_Type_Register @ 88,
    execution_context_get as XLA_FFI_ExecutionContext_Get @ 96,
    state_set as XLA_FFI_State_Set @ 104,
    state_get as XLA_FFI_State_Get @ 112,
    device_memory_allocate as XLA_FFI_DeviceMemory_Allocate @ 120,
    device_memory_free as XLA_FFI_DeviceMemory_Free @ 128,
    thread_pool_schedule as XLA_FFI_ThreadPool_Schedule @ 136,
    thread_pool_num_threads as XLA_FFI_ThreadPool_NumThreads @ 144,
    future_create as XLA_FFI_Future_Create @ 152,
    future_set_available as XLA_FFI_Future_SetAvailable @ 160,
    future_set_error as XLA_FFI_Future_SetError @ 168,
    run_id_get as XLA_FFI_RunId_Get @ 176,
    device_ordinal_get as XLA_FFI_DeviceOrdinal_Get @ 184,
});

/// Every struct.
#[cfg(debug_assertions)]
pub const LAYOUTS: &[Layout] = &[
    ExtensionBase::LAYOUT,
    ApiVersion::LAYOUT,
    TypeId::LAYOUT,
    Metadata::LAYOUT,
    MetadataExtension::LAYOUT,
    ErrorCreateArgs::LAYOUT,
    ErrorDestroyArgs::LAYOUT,
    Buffer::LAYOUT,
    ByteSpan::LAYOUT,
    Scalar::LAYOUT,
    Array::LAYOUT,
    Args::LAYOUT,
    Attrs::LAYOUT,
    CallFrame::LAYOUT,
    ThreadPoolScheduleArgs::LAYOUT,
    ThreadPoolNumThreadsArgs::LAYOUT,
    Api::LAYOUT,
];

/// Every number, by its name in C; element types are those of [`DTYPE_NAMES`].
#[cfg(debug_assertions)]
pub const NUMBERS: &[(&str, c_uint)] = &[
    ("XLA_FFI_API_MAJOR", API_MAJOR as c_uint),
    ("XLA_FFI_Extension_Metadata", EXTENSION_METADATA),
    ("XLA_FFI_Error_Code_INVALID_ARGUMENT", ERROR_INVALID_ARGUMENT),
    ("XLA_FFI_Error_Code_INTERNAL", ERROR_INTERNAL),
    ("XLA_FFI_ArgType_BUFFER", ARG_BUFFER),
    ("XLA_FFI_RetType_BUFFER", ARG_BUFFER),
    ("XLA_FFI_AttrType_ARRAY", ATTR_ARRAY),
    ("XLA_FFI_AttrType_SCALAR", ATTR_SCALAR),
    ("XLA_FFI_AttrType_STRING", ATTR_STRING),
    ("XLA_FFI_ExecutionStage_EXECUTE", STAGE_EXECUTE),
];
