//! Models: loading, and what is told of them.

use std::ffi::{c_char, c_void};
use std::ptr;

use lumina::*;
use lumina_runtime::DType as Element;

use crate::build::*;
use crate::call::*;

const NO_INFO: TensorInfo = TensorInfo {
    struct_size: size_of::<TensorInfo>(),
    name: ptr::null(),
    dtype: -1,
    role: -1,
    rank: 0,
    shape: ptr::null(),
    symbols: ptr::null(),
};

/// Name, type, role, extents, and what decides them.
type Words = (String, i32, i32, Vec<i64>, Vec<Option<String>>);

fn words(info: &TensorInfo) -> Words {
    // SAFETY: there are as many of both as the rank says.
    let (shape, symbols) = unsafe {
        (
            std::slice::from_raw_parts(info.shape, info.rank),
            std::slice::from_raw_parts(info.symbols, info.rank),
        )
    };
    let symbols = symbols.iter().map(|&symbol| (!symbol.is_null()).then(|| told(symbol)));
    (told(info.name), info.dtype, info.role, shape.to_vec(), symbols.collect())
}

fn numbered(
    count: unsafe extern "C" fn(*const Model, usize, *mut usize) -> Status,
    info: unsafe extern "C" fn(*const Model, usize, usize, *mut TensorInfo) -> Status,
    model: &Loaded,
) -> Vec<Words> {
    let mut n = 0;
    // SAFETY: all pointers are valid.
    ok(unsafe { count(model.0, 0, &mut n) });
    let one = |index| {
        let mut told = NO_INFO;
        // SAFETY: as above.
        ok(unsafe { info(model.0, 0, index, &mut told) });
        assert_eq!(told.struct_size, size_of::<TensorInfo>());
        words(&told)
    };
    (0..n).map(one).collect()
}

#[test]
fn a_model_tells_what_it_takes_however_it_was_loaded() {
    let bytes = std::fs::read(corpus()).unwrap();
    let mut mapped = ptr::null_mut();
    let mut unchecked = ptr::null_mut();
    let path = c(corpus().to_str().unwrap());
    // SAFETY: all pointers are valid, and nothing changes the file.
    unsafe {
        ok(lumina_model_map(path.as_ptr(), 0, &mut mapped));
        ok(lumina_model_map(path.as_ptr(), LUMINA_MAP_SKIP_CHECKSUM, &mut unchecked));
    }
    for model in [load(&corpus()), from_memory(&bytes), Loaded(mapped), Loaded(unchecked)] {
        let inputs = numbered(lumina_model_input_count, lumina_model_input_info, &model);
        let batch = Some("batch".to_string());
        let x = ("x".into(), DType::F32 as i32, 0, vec![-1, 6], vec![batch.clone(), None]);
        let key = ("key".into(), DType::U32 as i32, Role::NoiseSeed as i32, vec![2], vec![None]);
        assert_eq!(inputs, [x, key]);
        let outputs = numbered(lumina_model_output_count, lumina_model_output_info, &model);
        let types: Vec<_> = outputs.iter().map(|output| (output.1, &*output.3)).collect();
        assert_eq!(types, [(DType::F32 as i32, &[-1, 3][..]), (DType::I32 as i32, &[-1])]);
        let (mut states, mut entries, mut index) = (9, 9, 9);
        // SAFETY: all pointers are valid.
        unsafe {
            ok(lumina_model_state_count(model.0, &mut states));
            ok(lumina_model_entry_count(model.0, &mut entries));
            ok(lumina_model_find_input(model.0, 0, c("key").as_ptr(), &mut index));
        }
        assert_eq!((states, entries, index), (0, 1, 1));
    }
}

#[test]
fn entry_points_and_states_have_names() {
    let mut file = File::new();
    file.graph.name = "first".into();
    let state = file.state("cache['k']", Element::F16, &[4, 2]);
    file.output(state, "y", Element::F16, &fixed(&[4, 2]));
    let model = from_memory(&file.bytes());
    let (mut name, mut entry, mut count, mut info) = (ptr::null(), 9, 0, NO_INFO);
    // SAFETY: all pointers are valid.
    unsafe {
        ok(lumina_model_entry_name(model.0, 0, &mut name));
        ok(lumina_model_find_entry(model.0, c("first").as_ptr(), &mut entry));
        ok(lumina_model_state_count(model.0, &mut count));
        ok(lumina_model_state_info(model.0, 0, &mut info));
    }
    assert_eq!((told(name).as_str(), entry, count), ("first", 0, 1));
    let none = vec![None, None];
    assert_eq!(words(&info), ("cache['k']".into(), DType::F16 as i32, 0, vec![4, 2], none));
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let mut model: *mut Model = ptr::dangling_mut();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.lmn");
    let text = folder.path().join("text.lmn");
    std::fs::write(&text, "no model, but a text that is long enough to be one").unwrap();
    let call = |path: &std::path::Path, model: &mut *mut Model| {
        // SAFETY: both pointers are valid.
        unsafe { lumina_model_load(c(path.to_str().unwrap()).as_ptr(), model) }
    };
    let status = call(&missing, &mut model);
    let expected =
        format!("cannot read `{}`: No such file or directory (os error 2)", missing.display());
    refused(status, Status::BadFile, &expected);
    assert!(model.is_null());
    let magic = "not a .lmn file: it starts with [6e, 6f, 20, 6d], expected [4c, 4d, 4e, 1a] \
                 (\"LMN\\x1a\")";
    refused(call(&text, &mut model), Status::BadFile, &format!("{}: {magic}", text.display()));
    let path = c(folder.path().to_str().unwrap());
    // SAFETY: the pointers are valid or null.
    unsafe {
        let status = lumina_model_map(path.as_ptr(), 0, &mut model);
        let expected = "it is no regular file, so it is not mapped";
        let expected = format!("cannot read `{}`: {expected}", folder.path().display());
        refused(status, Status::BadFile, &expected);
        let status = lumina_model_map(path.as_ptr(), 6, &mut model);
        refused(status, Status::BadParam, "`flags` is 0x6, of which 0x1 is known");
        let status = lumina_model_load(ptr::null(), &mut model);
        refused(status, Status::NullPointer, "`path` is null");
        let status = lumina_model_load(path.as_ptr(), ptr::null_mut());
        refused(status, Status::NullPointer, "`model` is null");
        let status = lumina_model_from_memory(ptr::null(), 3, &mut model);
        refused(status, Status::NullPointer, "`data` is null");
        let status = lumina_model_from_memory(ptr::null(), 0, &mut model);
        refused(status, Status::BadFile, "truncated file: the header needs 32 bytes, got 0");
        let status = lumina_model_from_memory(path.as_ptr().cast(), usize::MAX, &mut model);
        refused(status, Status::BadParam, "`size` is 18446744073709551615");
        ok(lumina_model_free(ptr::null_mut()));
    }
}

#[test]
fn every_mutant_of_a_file_is_a_status() {
    let bytes = std::fs::read(corpus()).unwrap();
    let mut refusals = 0;
    for at in (0..bytes.len()).step_by(7) {
        let mut mutant = bytes.clone();
        mutant[at] ^= 0x55;
        let mut model = ptr::null_mut();
        let data: *const c_void = mutant.as_ptr().cast();
        // SAFETY: all pointers are valid.
        let status = unsafe { lumina_model_from_memory(data, mutant.len(), &mut model) };
        assert_eq!(status == Status::Success, !model.is_null());
        if status != Status::Success {
            assert_eq!(status, Status::BadFile);
            assert_ne!(told(lumina_last_error()), "");
            refusals += 1;
        }
        drop(Loaded(model));
    }
    assert!(refusals > 0);
}

#[test]
fn what_is_asked_wrongly_is_a_status() {
    let model = load(&corpus());
    let wrong = [0u64; 8];
    let wrong: *const Model = wrong.as_ptr().cast();
    let (mut n, mut name, mut info) = (0, ptr::null::<c_char>(), NO_INFO);
    // SAFETY: the pointers are valid or null, and what is no handle is memory.
    unsafe {
        let status = lumina_model_entry_count(ptr::null(), &mut n);
        refused(status, Status::NullPointer, "the model is null");
        let status = lumina_model_entry_count(wrong, &mut n);
        let expected = "the handle is no model, or one that was destroyed";
        refused(status, Status::BadParam, expected);
        refused(lumina_model_free(wrong.cast_mut()), Status::BadParam, expected);
        let status = lumina_model_entry_count(model.0, ptr::null_mut());
        refused(status, Status::NullPointer, "`count` is null");
        let status = lumina_model_entry_name(model.0, 1, &mut name);
        refused(status, Status::BadParam, "there is no entry point 1, the file has 1");
        let status = lumina_model_find_entry(model.0, c("decode").as_ptr(), &mut n);
        let expected = "there is no entry point `decode`; the file has none";
        refused(status, Status::BadParam, expected);
        let status = lumina_model_input_info(model.0, 0, 2, &mut info);
        refused(status, Status::BadParam, "there is no input 2, there are 2");
        let status = lumina_model_state_info(model.0, 0, &mut info);
        refused(status, Status::BadParam, "there is no state 0, there are 0");
        let status = lumina_model_find_input(model.0, 0, c("y").as_ptr(), &mut n);
        refused(status, Status::BadParam, "there is no input `y`; there are `x`, `key`");
        let status = lumina_model_find_input(model.0, 0, c"\xff".as_ptr(), &mut n);
        refused(status, Status::BadParam, "`name` is no UTF-8: \"\\xff\"");
        let status = lumina_model_find_input(model.0, 0, ptr::null(), &mut n);
        refused(status, Status::NullPointer, "`name` is null");
        let status = lumina_model_input_info(model.0, 0, 0, ptr::null_mut());
        refused(status, Status::NullPointer, "lumina_tensor_info is null");
        for size in [0, 8, size_of::<TensorInfo>() - 1, 4097, usize::MAX] {
            info.struct_size = size;
            let status = lumina_model_input_info(model.0, 0, 0, &mut info);
            let expected = "`struct_size` of lumina_tensor_info must be from 48 to 4096, got";
            refused(status, Status::BadParam, &format!("{expected} {size}"));
        }
    }
}

#[test]
fn the_library_tells_its_version() {
    assert_eq!(lumina_abi_version(), LUMINA_ABI_VERSION);
    assert_eq!(told(lumina_version()), env!("CARGO_PKG_VERSION"));
    assert_eq!(lumina_dtype_size(DType::C64 as i32), 8);
    assert_eq!(lumina_dtype_size(0), 0);
    assert!(lumina_dtype_name(0).is_null());
    for &dtype in Element::ALL {
        assert_eq!(lumina_dtype_size(dtype.c_number()), dtype.size());
        assert_eq!(told(lumina_dtype_name(dtype.c_number())), dtype.numpy_name());
    }
}
