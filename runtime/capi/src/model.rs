//! Models: loading, and what is in them.

use std::ffi::{CString, c_char, c_void};
use std::fs::File;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::Arc;

use lumina_runtime::{Checksums, DType, Error, Model as RuntimeModel, Port};
use memmap2::Mmap;

use crate::handle::{Handle, Versioned, destroyed, filled, made, opened, path, put, text};
use crate::status::{Failure, Status, answer};

/// A `.lmn` file, all of which has been checked. Any number of threads may use it at once.
pub struct Model {
    pub(crate) loaded: Arc<Loaded>,
}

impl Handle for Model {
    const NAME: &'static str = "model";
    const MAGIC: u64 = u64::from_le_bytes(*b"lmnmodel");
}

/// What an input means beyond its type.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Plain = 0,
    /// Two words of 32 bits, the high one first: the seed of the analog noise.
    NoiseSeed = 1,
}

/// What is known of an input, an output or a state. The pointers are valid as long as the model or a
/// session of it is there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TensorInfo {
    /// `sizeof` of this struct, which the caller sets.
    pub struct_size: usize,
    /// The name, in UTF-8.
    pub name: *const c_char,
    /// The element type, a `lumina_dtype`.
    pub dtype: i32,
    /// What an input means beyond its type, a `lumina_role`.
    pub role: i32,
    /// Number of axes.
    pub rank: usize,
    /// The extent of each axis; -1 where the shapes of the inputs of a run decide it.
    pub shape: *const i64,
    /// What decides the extent of each axis whose extent is -1, such as "batch" or "2*batch"; null
    /// for all other axes.
    pub symbols: *const *const c_char,
}

// SAFETY: it is `repr(C)`, begins with its size, and is made of numbers and raw pointers.
unsafe impl Versioned for TensorInfo {
    const NAME: &'static str = "lumina_tensor_info";
    const FIRST: usize = size_of::<Self>();
}

/// Leave out the checksum of the weights, for which all of them are read from the disk.
pub const LUMINA_MAP_SKIP_CHECKSUM: u32 = 1;

/// A model, and what C is told of it.
pub(crate) struct Loaded {
    pub(crate) model: Arc<RuntimeModel>,
    entries: Vec<Entry>,
    states: Vec<Described>,
}

struct Entry {
    name: CString,
    inputs: Vec<Described>,
    outputs: Vec<Described>,
}

/// What a [`TensorInfo`] points to.
struct Described {
    name: CString,
    dtype: DType,
    role: Role,
    extents: Vec<i64>,
    symbols: Vec<*const c_char>,
    /// Those that `symbols` point to.
    _words: Vec<CString>,
}

// SAFETY: the pointers lead to texts that the struct owns and that nobody changes.
unsafe impl Send for Described {}
// SAFETY: as above.
unsafe impl Sync for Described {}

impl Loaded {
    fn new(model: RuntimeModel) -> Result<Self, Error> {
        let ports = |entry, ports: &[Port]| -> Result<Vec<_>, Error> {
            let port = |port: &Port| {
                let words = model.extents_in_words(entry, port)?;
                let role = match port.role {
                    lumina_runtime::Role::Plain => Role::Plain,
                    lumina_runtime::Role::NoiseSeed => Role::NoiseSeed,
                };
                let extents = port.extents().into_iter().zip(words);
                Ok(Described::new(&port.name, port.dtype, role, extents))
            };
            ports.iter().map(port).collect()
        };
        let entry = |(number, name)| {
            Ok(Entry {
                name: c_text(name),
                inputs: ports(number, model.inputs_of(number)?)?,
                outputs: ports(number, model.outputs_of(number)?)?,
            })
        };
        let entries = model.entries().enumerate().map(entry).collect::<Result<_, Error>>()?;
        let states = model.state_facts().map(|(name, fact)| {
            let extents = fact.shape.iter().map(|&extent| (Some(extent), String::new()));
            Described::new(name, fact.dtype, Role::Plain, extents)
        });
        let states = states.collect();
        Ok(Self { model: Arc::new(model), entries, states })
    }
}

impl Described {
    fn new(
        name: &str,
        dtype: DType,
        role: Role,
        axes: impl Iterator<Item = (Option<usize>, String)>,
    ) -> Self {
        let (mut extents, mut symbols, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for (extent, word) in axes {
            extents.push(extent.map_or(-1, |extent| extent.try_into().unwrap_or(i64::MAX)));
            symbols.push(ptr::null());
            if extent.is_none() {
                let word = c_text(&word);
                *symbols.last_mut().expect("just pushed") = word.as_ptr();
                // The bytes of the text stay where they are when it is moved.
                words.push(word);
            }
        }
        Self { name: c_text(name), dtype, role, extents, symbols, _words: words }
    }

    fn info(&self) -> TensorInfo {
        TensorInfo {
            struct_size: size_of::<TensorInfo>(),
            name: self.name.as_ptr(),
            dtype: self.dtype.c_number(),
            role: self.role as i32,
            rank: self.extents.len(),
            shape: self.extents.as_ptr(),
            symbols: self.symbols.as_ptr(),
        }
    }
}

/// A text for C, which would end at a NUL.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

/// Reads and checks the file at `path` and makes `*model` a handle of it.
///
/// On failure, `*model` is null; so it is for all functions that load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_load(path: *const c_char, model: *mut *mut Model) -> Status {
    // SAFETY: the caller vouches for both pointers.
    unsafe { load(model, || RuntimeModel::load(path_of(path)?).map_err(of_file(path_of(path)?))) }
}

/// Copies the `size` bytes of a file at `data`, checks them, and makes `*model` a handle of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_from_memory(
    data: *const c_void,
    size: usize,
    model: *mut *mut Model,
) -> Status {
    let bytes = || {
        if isize::try_from(size).is_err() {
            return Err(Failure::new(Status::BadParam, format!("`size` is {size}")));
        }
        match (size, data.is_null()) {
            (0, _) => Ok(&[][..]),
            (_, true) => Err(Failure::null("`data`")),
            // SAFETY: the caller vouches for as many bytes.
            _ => Ok(unsafe { slice::from_raw_parts(data.cast::<u8>(), size) }),
        }
    };
    let refused = |error| Failure::of(error, Status::BadFile);
    // SAFETY: the caller vouches for the place of the handle.
    unsafe { load(model, || RuntimeModel::from_bytes(bytes()?).map_err(refused)) }
}

/// Maps the file at `path` to memory, checks it, and makes `*model` a handle of it. Weights are used
/// where the system keeps them and come from the disk as they are needed.
///
/// Nothing may change the file or make it shorter while the model is there: of a file that changes,
/// the outputs are of no use, and one that gets shorter ends the program by the signal SIGBUS.
/// `flags` is 0 or LUMINA_MAP_SKIP_CHECKSUM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_map(
    path: *const c_char,
    flags: u32,
    model: *mut *mut Model,
) -> Status {
    let mapped = || {
        if flags & !LUMINA_MAP_SKIP_CHECKSUM != 0 {
            let message = format!("`flags` is {flags:#x}, of which 0x1 is known");
            return Err(Failure::new(Status::BadParam, message));
        }
        let checksums = match flags & LUMINA_MAP_SKIP_CHECKSUM {
            0 => Checksums::All,
            _ => Checksums::AllButWeights,
        };
        // SAFETY: the caller vouches for the text.
        let path = unsafe { path_of(path) }?;
        let unread = |source| of_file(path)(Error::Read { path: path.into(), source });
        let file = File::open(path).map_err(unread)?;
        if !file.metadata().map_err(unread)?.is_file() {
            return Err(unread(std::io::Error::other(
                "it is no regular file, so it is not mapped",
            )));
        }
        // SAFETY: the bytes must stay the same while the model is there. No system promises that of a
        // file, so the caller does, as the documentation of this function says.
        let map = unsafe { Mmap::map(&file) }.map_err(unread)?;
        RuntimeModel::in_place(map, checksums).map_err(of_file(path))
    };
    // SAFETY: the caller vouches for the place of the handle.
    unsafe { load(model, mapped) }
}

/// Frees a handle; null is none. What sessions of the model use stays until they are destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_free(model: *mut Model) -> Status {
    answer(|| {
        if !model.is_null() {
            // SAFETY: the caller vouches for the handle, and that nobody else uses it.
            unsafe {
                opened(model)?;
                destroyed(model);
            }
        }
        Ok(())
    })
}

/// Makes `*count` the number of entry points, the functions in a file. There is at least one; number 0
/// is the one that sessions begin with.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_entry_count(
    model: *const Model,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller vouches for both pointers.
    answer(|| unsafe { put(count, "count", opened(model)?.loaded.entries.len()) })
}

/// Makes `*name` the name of entry point number `entry`; it is valid as long as the model or a session
/// of it is there. The only entry point of a file may have an empty one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_entry_name(
    model: *const Model,
    entry: usize,
    name: *mut *const c_char,
) -> Status {
    // SAFETY: the caller vouches for both pointers.
    answer(|| unsafe { put(name, "name", opened(model)?.loaded.entry(entry)?.name.as_ptr()) })
}

/// Makes `*entry` the number of the entry point of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_find_entry(
    model: *const Model,
    name: *const c_char,
    entry: *mut usize,
) -> Status {
    answer(|| {
        // SAFETY: the caller vouches for the pointers.
        let (model, name) = unsafe { (opened(model)?, text(name, "name")?) };
        let found = model.loaded.model.entry(Some(name));
        let found = found.map_err(|error| Failure::of(error, Status::BadParam))?;
        // SAFETY: as above.
        unsafe { put(entry, "entry", found) }
    })
}

/// Generates the functions of one kind of tensor of an entry point.
macro_rules! ports {
    ($kind:ident, $what:literal, $count:ident, $info:ident, $find:ident) => {
        #[doc = concat!(" Makes `*count` the number of ", $what, "s of that entry point.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $count(
            model: *const Model,
            entry: usize,
            count: *mut usize,
        ) -> Status {
            // SAFETY: the caller vouches for both pointers.
            answer(|| unsafe {
                put(count, "count", opened(model)?.loaded.entry(entry)?.$kind.len())
            })
        }

        #[doc = concat!(" Fills `*info`, whose `struct_size` the caller has set, with what is known\n of ",
                        $what, " number `index` of that entry point.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $info(
            model: *const Model,
            entry: usize,
            index: usize,
            info: *mut TensorInfo,
        ) -> Status {
            answer(|| {
                // SAFETY: the caller vouches for the handle.
                let described = &unsafe { opened(model) }?.loaded.entry(entry)?.$kind;
                // SAFETY: the caller vouches for the struct.
                unsafe { filled(info, numbered(described, index, $what)?.info()) }
            })
        }

        #[doc = concat!(" Makes `*index` the number of the ", $what, " of that name.")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $find(
            model: *const Model,
            entry: usize,
            name: *const c_char,
            index: *mut usize,
        ) -> Status {
            answer(|| {
                // SAFETY: the caller vouches for the pointers.
                unsafe {
                    let described = &opened(model)?.loaded.entry(entry)?.$kind;
                    put(index, "index", named(described, text(name, "name")?, $what)?)
                }
            })
        }
    };
}

ports!(inputs, "input", lumina_model_input_count, lumina_model_input_info, lumina_model_find_input);
ports!(
    outputs,
    "output",
    lumina_model_output_count,
    lumina_model_output_info,
    lumina_model_find_output
);

/// Makes `*count` the number of values that a session of the model keeps from one run to the next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_state_count(
    model: *const Model,
    count: *mut usize,
) -> Status {
    // SAFETY: the caller vouches for both pointers.
    answer(|| unsafe { put(count, "count", opened(model)?.loaded.states.len()) })
}

/// Fills `*info`, whose `struct_size` the caller has set, with what is known of state number `index`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lumina_model_state_info(
    model: *const Model,
    index: usize,
    info: *mut TensorInfo,
) -> Status {
    answer(|| {
        // SAFETY: the caller vouches for the handle.
        let described = &unsafe { opened(model) }?.loaded.states;
        // SAFETY: the caller vouches for the struct.
        unsafe { filled(info, numbered(described, index, "state")?.info()) }
    })
}

impl Loaded {
    fn entry(&self, number: usize) -> Result<&Entry, Failure> {
        self.entries.get(number).ok_or_else(|| {
            let count = self.entries.len();
            let message = format!("there is no entry point {number}, the file has {count}");
            Failure::new(Status::BadParam, message)
        })
    }

    /// The inputs of an entry point, of which there is one of that number.
    pub(crate) fn inputs(&self, entry: usize) -> &[Port] {
        self.model.inputs_of(entry).unwrap_or_default()
    }

    /// The outputs of an entry point, of which there is one of that number.
    pub(crate) fn outputs(&self, entry: usize) -> &[Port] {
        self.model.outputs_of(entry).unwrap_or_default()
    }

    /// The number of the input of that name.
    pub(crate) fn input(&self, entry: usize, name: &str) -> Result<usize, Failure> {
        named(&self.entry(entry)?.inputs, name, "input")
    }

    /// The number of the output of that name.
    pub(crate) fn output(&self, entry: usize, name: &str) -> Result<usize, Failure> {
        named(&self.entry(entry)?.outputs, name, "output")
    }
}

fn numbered<'a>(all: &'a [Described], index: usize, what: &str) -> Result<&'a Described, Failure> {
    all.get(index).ok_or_else(|| {
        let count = all.len();
        Failure::new(Status::BadParam, format!("there is no {what} {index}, there are {count}"))
    })
}

fn named(all: &[Described], name: &str, what: &str) -> Result<usize, Failure> {
    all.iter().position(|one| one.name.to_str() == Ok(name)).ok_or_else(|| {
        let known: Vec<_> =
            all.iter().map(|one| format!("`{}`", one.name.to_string_lossy())).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        Failure::new(Status::BadParam, format!("there is no {what} `{name}`; there are {known}"))
    })
}

/// # Safety
/// As for [`path`].
unsafe fn path_of<'a>(pointer: *const c_char) -> Result<&'a Path, Failure> {
    // SAFETY: the caller vouches for the text.
    unsafe { path(pointer, "path") }
}

/// A refusal of the file at `path`, which it names.
fn of_file(path: &Path) -> impl Fn(Error) -> Failure {
    move |error| {
        let names_it = matches!(error, Error::Read { .. });
        let mut failure = Failure::of(error, Status::BadFile);
        if !names_it {
            failure.message = format!("{}: {}", path.display(), failure.message);
        }
        failure
    }
}

/// Makes `*model` a handle of what `read` gives, or null.
///
/// # Safety
/// The place is null, or memory for a pointer.
unsafe fn load(
    model: *mut *mut Model,
    read: impl FnOnce() -> Result<RuntimeModel, Failure>,
) -> Status {
    answer(|| {
        // SAFETY: the caller vouches for the place.
        unsafe { put(model, "model", ptr::null_mut()) }?;
        let loaded = Loaded::new(read()?).map_err(|error| Failure::of(error, Status::BadFile))?;
        // SAFETY: as above.
        unsafe { put(model, "model", made(Model { loaded: Arc::new(loaded) })) }
    })
}
