//! What `lumina run` reads: .npy files of every kind, .npz files, standard input.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lumina_runtime::DType;
use npyz::Order::Fortran;

use crate::build::*;
use crate::program::{Folder, lumina, negation, npy, npz, read, refusal, seeded};

/// y = -x, x f32[2,3].
fn fixed_negation() -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2, 3]));
    let y = file.node("neg", &[x], &[]);
    file.output(y, "y", DType::F32, &fixed(&[2, 3]));
    file
}

/// Each input `name` of that type comes out as `out-name`.
fn copies(inputs: &[(&str, DType, usize)]) -> File {
    let mut file = File::new();
    for &(name, dtype, extent) in inputs {
        let x = file.input(name, dtype, &fixed(&[extent]));
        let y = file.node("copy", &[x], &[]);
        file.output(y, &format!("out-{name}"), dtype, &fixed(&[extent]));
    }
    file
}

/// What the model of `fixed_negation` makes of a file of these bytes.
fn negated(folder: &Folder, bytes: &[u8]) -> Result<Vec<f32>, String> {
    let model = folder.model(&fixed_negation());
    let (x, y) = (folder.string("x.npy"), folder.string("y.npy"));
    std::fs::write(&x, bytes).unwrap();
    let output = lumina(&["run", &model, "--input", &x, "--output", &y]);
    if output.status.success() {
        return Ok(read(Path::new(&y)).1);
    }
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let prefix = format!("error: cannot read `{x}`: ");
    Err(text.strip_prefix(&prefix).unwrap_or(&text).trim_end().into())
}

const ROWS: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
const NEGATED: [f32; 6] = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0];

fn bytes_of<T: bytemuck::NoUninit>(data: &[T]) -> &[u8] {
    bytemuck::cast_slice(data)
}

#[test]
fn every_version_byte_order_and_layout_is_read() {
    let folder = Folder::new();
    let columns = [1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0];
    let big = |data: [f32; 6]| data.map(f32::to_be_bytes).concat();
    for version in 1..=3 {
        for (descr, order, data) in [
            ("<f4", "False", bytes_of(&ROWS).to_vec()),
            ("<f4", "True", bytes_of(&columns).to_vec()),
            (">f4", "False", big(ROWS)),
            (">f4", "True", big(columns)),
        ] {
            let text =
                format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': (2, 3), }}");
            let file = npy([version, 0], &text, &data);
            assert_eq!(negated(&folder, &file).unwrap(), NEGATED, "{version} {text}");
        }
    }
}

#[test]
fn column_major_arrays_of_any_rank_are_read() {
    let mut file = File::new();
    let x = file.input("x", DType::I32, &fixed(&[2, 1, 3, 2]));
    let y = file.node("copy", &[x], &[]);
    file.output(y, "y", DType::I32, &fixed(&[2, 1, 3, 2]));
    let folder = Folder::new();
    let model = folder.model(&file);
    // Element [i, 0, j, k] is 6 i + 2 j + k.
    let data: Vec<i32> = (0..12).map(|n| 6 * (n % 2) + 2 * (n / 2 % 3) + n / 6).collect();
    let x = folder.array_in(Fortran, "x.npy", &[2, 1, 3, 2], &data);
    let y = folder.path("y.npy");
    let output = lumina(&["run", &model, "--input", &x, "--output", y.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read::<i32>(&y), (vec![2, 1, 3, 2], (0..12).collect()));
}

/// NumPy's code of an element type; of one that is not NumPy's own, a file keeps the size alone.
fn numpy_code(dtype: DType) -> String {
    let kinds = [("bool", 'b'), ("int", 'i'), ("uint", 'u'), ("float", 'f'), ("complex", 'c')];
    let name = dtype.numpy_name().trim_end_matches(|end: char| end.is_ascii_digit());
    let kind = kinds.into_iter().find(|&(known, _)| known == name).map_or('V', |(_, kind)| kind);
    format!("<{kind}{}", dtype.size())
}

#[test]
fn every_element_type_is_read_and_written() {
    let names: Vec<String> = DType::ALL.iter().map(|dtype| dtype.to_string()).collect();
    let inputs: Vec<_> = names.iter().zip(DType::ALL).map(|(name, &d)| (&**name, d, 2)).collect();
    let folder = Folder::new();
    let mut arguments = vec!["run".to_string(), folder.model(&copies(&inputs))];
    for (name, &dtype) in names.iter().zip(DType::ALL) {
        let code = numpy_code(dtype);
        let header = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': (2,), }}");
        // Two elements that differ, of bytes that a truth value may have.
        let bytes: Vec<u8> = (0..2 * dtype.size()).map(|at| (at % 3 == 0).into()).collect();
        std::fs::write(folder.path(name), npy([1, 0], &header, &bytes)).unwrap();
        let (from, to) = (folder.string(name), folder.string(&format!("{name}.out")));
        arguments.extend(["--input".into(), format!("{name}={from}")]);
        arguments.extend(["--output".into(), format!("out-{name}={to}")]);
    }
    let output = lumina(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{output:?}");
    for name in &names {
        let bytes = |name: &str| std::fs::read(folder.path(name)).unwrap();
        assert_eq!(bytes(name)[128..], bytes(&format!("{name}.out"))[128..], "{name}");
    }
}

#[test]
fn floats_of_another_precision_are_taken_where_that_is_asked_for() {
    let folder = Folder::new();
    let model = folder.model(&copies(&[("x", DType::F32, 2)]));
    let (path, out) = (folder.string("in.npy"), folder.string("out.npy"));
    let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }";
    std::fs::write(&path, npy([1, 0], header, bytes_of(&[0.1f64, 2.0]))).unwrap();
    let arguments = ["run", &model, "--input", &path, "--output", &out];
    let output = lumina(&arguments);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let advice = "float64 is not supported as it is, the input is float32: pass --cast to round";
    assert!(said.contains(advice), "{said}");
    let output = lumina(&[&arguments[..], &["--cast"]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(std::fs::read(out).unwrap()[128..], *bytes_of(&[0.1f32, 2.0]));
}

#[test]
fn other_types_are_converted_where_each_value_stays() {
    let folder = Folder::new();
    let header =
        |descr: &str| format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (2,), }}");
    let inputs = [("f32", DType::F32, 2), ("i32", DType::I32, 2), ("bf16", DType::BF16, 2)];
    let model = folder.model(&copies(&inputs));
    let good = [
        ("f32", "<f8", bytes_of(&[0.1f64, 1e-50]).to_vec(), bytes_of(&[0.1f32, 0.0]).to_vec()),
        ("f32", "|u1", vec![0, 255], bytes_of(&[0f32, 255.0]).to_vec()),
        ("f32", ">u2", vec![1, 0, 255, 255], bytes_of(&[256f32, 65535.0]).to_vec()),
        ("f32", "|b1", vec![0, 1], bytes_of(&[0f32, 1.0]).to_vec()),
        ("f32", "<V2", vec![0x80, 0x3f, 0, 0xc0], bytes_of(&[1f32, -2.0]).to_vec()),
        ("i32", "<u8", bytes_of(&[7u64, 1 << 30]).to_vec(), bytes_of(&[7i32, 1 << 30]).to_vec()),
        ("i32", "<f8", bytes_of(&[-3.0f64, 2e9]).to_vec(), bytes_of(&[-3i32, 2e9 as i32]).to_vec()),
        ("bf16", "<f4", bytes_of(&[1f32, -2.0]).to_vec(), vec![0x80, 0x3f, 0, 0xc0]),
    ];
    let bad = [
        ("f32", "<f8", bytes_of(&[0f64, 1e39]).to_vec(), "float64 1e39 at [1] is no float32", "32"),
        (
            "f32",
            "<i8",
            bytes_of(&[16_777_217i64, 0]).to_vec(),
            "int64 16777217 at [0] is no float32",
            "32",
        ),
        ("i32", "<f4", bytes_of(&[1f32, 0.5]).to_vec(), "float32 0.5 at [1] is no int32", "32"),
        (
            "i32",
            "<u4",
            bytes_of(&[0, u32::MAX]).to_vec(),
            { "uint32 4294967295 at [1] is no int32" },
            "32",
        ),
        (
            "f32",
            "<c8",
            bytes_of(&[1f32, 0.0, 2.0, -1.0]).to_vec(),
            "complex64 2.0-1.0j at [1] is no float32",
            "32",
        ),
    ];
    let zeros = folder.array("zeros", &[2], &[0u8; 2]);
    let call = |name: &str, descr: &str, data: &[u8]| {
        let (path, out) = (folder.string("in.npy"), folder.string("out.npy"));
        std::fs::write(&path, npy([1, 0], &header(descr), data)).unwrap();
        let mut arguments = vec!["run".into(), model.clone(), "--cast".into()];
        for (input, ..) in inputs {
            let path = if input == name { &path } else { &zeros };
            arguments.extend(["--input".to_string(), format!("{input}={path}")]);
        }
        arguments.extend(["--output".into(), format!("out-{name}={out}")]);
        (arguments, out)
    };
    for (name, descr, data, want) in good {
        let (arguments, out) = call(name, descr, &data);
        let output = lumina(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{name} {descr} {output:?}");
        let bytes = std::fs::read(out).unwrap();
        assert_eq!(bytes[128..], want, "{name} {descr}");
        if name == "bf16" {
            // As numpy.save writes it.
            assert!(String::from_utf8_lossy(&bytes).contains("'descr': '<V2'"));
        }
    }
    for (name, descr, data, want, bits) in bad {
        let (arguments, _) = call(name, descr, &data);
        let path = folder.string("in.npy");
        let kind = if name == "i32" { "int" } else { "float" };
        assert_eq!(
            refusal(&arguments.iter().map(String::as_str).collect::<Vec<_>>()),
            format!(
                "input `{name}`, from `{path}`: {want}: convert the array in NumPy, as by \
                 x.astype(\"{kind}{bits}\")"
            )
        );
    }
}

#[test]
fn damaged_and_hostile_files_are_refused() {
    let folder = Folder::new();
    let header = |rest: &str| format!("{{'descr': '<f4', 'fortran_order': False, {rest}");
    let good = header("'shape': (2, 3), }");
    let with_length = |version: u8, length: &[u8], rest: &[u8]| {
        [b"\x93NUMPY", &[version, 0][..], length, rest].concat()
    };
    let cut = npy([1, 0], &good, &bytes_of(&ROWS)[..20]);
    let unsupported = |descr: &str| format!("dtype {descr} is not supported, only float32, ");
    for (bytes, expected) in [
        (vec![], "it is empty".into()),
        (b"\x93NUM".to_vec(), "truncated: expected 8 more bytes, got 4".into()),
        (b"not an array".to_vec(), {
            "it is no .npy or .npz file: it starts with [6e, 6f, 74, 20, 61, 6e], expected \
             [93, 4e, 55, 4d, 50, 59] or \"PK\""
                .into()
        }),
        (npy([4, 0], &good, &[]), "its .npy version is 4.0, expected 1.0, 2.0 or 3.0".into()),
        (npy([1, 1], &good, &[]), "its .npy version is 1.1, expected 1.0, 2.0 or 3.0".into()),
        (
            with_length(2, &[0xff; 4], b"{"),
            "its header is 4294967295 bytes long, expected at most 65535".into(),
        ),
        (with_length(1, &[0xff; 2], b"{"), "truncated: its header takes 65535 bytes, got 1".into()),
        (cut, "truncated: float32 of shape [2, 3] takes 24 bytes, got 20".into()),
        (
            npy([1, 0], &header("'shape': (4294967296, 4294967296)}"), &[0; 24]),
            "truncated: float32 of shape [4294967296, 4294967296] takes more than 2^64 bytes, \
             got 24"
                .into(),
        ),
        (
            npy([1, 0], &header("'shape': (1000000000000,)}"), &[0; 24]),
            "truncated: float32 of shape [1000000000000] takes 4000000000000 bytes, got 24".into(),
        ),
        (
            npy([1, 0], &"[".repeat(118), &[]),
            "its header has \"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\" where `{` is expected"
                .into(),
        ),
        (npy([1, 0], &good.replace("<f4", "<U1"), &[0; 24]), unsupported("<U1")),
        (npy([1, 0], &good.replace("<f4", "|O"), &[0; 24]), unsupported("|O")),
        (npy([1, 0], &good.replace("<f4", "<f16"), &[0; 96]), unsupported("<f16")),
        (
            npy([1, 0], &good.replace("'<f4'", "[('a', '<f4'), ('b', '<i4')]"), &[0; 48]),
            unsupported("[('a', '<f4'), ('b', '<i4')]"),
        ),
    ] {
        let text = negated(&folder, &bytes).unwrap_err();
        assert!(text.starts_with(&expected), "{text}\n{expected}");
    }
    // No file may take long to refuse, however its brackets nest.
    for length in [100, 60_000] {
        for text in ["(", "[", "{", "{'shape': (", "'"].map(|open| open.repeat(length / open.len()))
        {
            negated(&folder, &npy([1, 0], &text, &[])).unwrap_err();
        }
    }
    // An array may be followed by others, as NumPy has it.
    let more = npy([1, 0], &good, &[bytes_of(&ROWS), b"more"].concat());
    assert_eq!(negated(&folder, &more).unwrap(), NEGATED);
}

#[test]
fn empty_arrays_are_read_whatever_their_other_extents() {
    let folder = Folder::new();
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[2])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let y = file.node("neg", &[x], &[]);
    file.output(y, "y", DType::F32, &dims);
    let model = folder.model(&file);
    let y = folder.path("y.npy");
    for order in [npyz::Order::C, Fortran] {
        let x = folder.array_in::<f32>(order, "x.npy", &[0, 2], &[]);
        let output = lumina(&["run", &model, "--input", &x, "--output", y.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(read::<f32>(&y), (vec![0, 2], vec![]));
    }
}

#[test]
fn inputs_whose_names_begin_alike() {
    let folder = Folder::new();
    let model = folder.model(&copies(&[("a", DType::F32, 1), ("a=b", DType::F32, 1)]));
    let (one, two) = (folder.array("1", &[1], &[1f32]), folder.array("b=2", &[1], &[2f32]));
    let out = folder.path("out");
    let call = |first: &str, second: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lumina"))
            .args(["run", &model, "--input", first, "--input", second])
            .arg("--output")
            .arg(format!("out-a={}", out.display()))
            .current_dir(folder.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        read::<f32>(&out).1
    };
    assert_eq!(call(&format!("a={one}"), &format!("a=b={two}")), [1.0]);
    // The advice of --help: ./ before what looks like a name.
    assert_eq!(call("a=./b=2", "a=b=1"), [2.0]);
}

#[test]
fn archives_hold_inputs_by_name() {
    let folder = Folder::new();
    let two = folder.model(&copies(&[("a", DType::F32, 1), ("v['b']", DType::I32, 1)]));
    let float = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
    let a = npy([1, 0], float, bytes_of(&[1.5f32]));
    let b = npy([1, 0], float, bytes_of(&[2f32]));
    let other = npy([1, 0], float, bytes_of(&[9f32]));
    let (out_a, out_b) = (folder.path("a.out"), folder.path("b.out"));
    let outputs = [format!("out-a={}", out_a.display()), format!("out-v['b']={}", out_b.display())];
    let call = |model: &str, inputs: &[&str]| {
        let mut arguments = vec!["run", model];
        inputs.iter().for_each(|input| arguments.extend(["--input", input]));
        outputs.iter().for_each(|output| arguments.extend(["--output", output]));
        let output = lumina(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(()) } else { Err(text) }
    };
    for is_compressed in [false, true] {
        let all = folder.string("all.npz");
        let members = [("a.npy", &a), ("labels.npy", &other), ("v['b'].npy", &b), ("x.txt", &b)];
        std::fs::write(&all, npz(is_compressed, &members)).unwrap();
        call(&two, &[&all]).unwrap();
        assert_eq!((read(&out_a).1, read(&out_b).1), (vec![1.5f32], vec![2i32]));
        // What is named comes from where it is said to.
        let nine = folder.array("nine.npy", &[1], &[9f32]);
        call(&two, &[&all, &format!("a={nine}")]).unwrap();
        assert_eq!((read(&out_a).1, read(&out_b).1), (vec![9f32], vec![2i32]));
        let only = folder.string("only.npz");
        std::fs::write(&only, npz(is_compressed, &[("arr_0.npy", &other)])).unwrap();
        call(&two, &[&all, &format!("v['b']={only}")]).unwrap();
        assert_eq!((read(&out_a).1, read(&out_b).1), (vec![1.5f32], vec![9i32]));
        let none = call(&two, &[&only]).unwrap_err();
        assert_eq!(
            none,
            format!(
                "error: cannot read `{only}`: its arrays `arr_0` are no inputs of the model, \
                 which are `a`, `v['b']`\n"
            )
        );
        let wrong = call(&two, &[&format!("a={all}"), &format!("v['b']={all}"), &all]);
        wrong.unwrap();
        let text = call(&two, &[&all, &all]).unwrap_err();
        assert_eq!(text, "error: input `a` is given twice\n");
        std::fs::write(&all, npz(is_compressed, &[("c.npy", &a), ("d.npy", &a)])).unwrap();
        let text = call(&two, &[&format!("a={all}"), &format!("v['b']={only}")]).unwrap_err();
        let lacks = "it has no array `a`, but `c`, `d`";
        assert_eq!(text, format!("error: cannot read `{all}`: {lacks}\n"));
    }
}

#[test]
fn damaged_and_hostile_archives_are_refused() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    let x = npy([1, 0], header, bytes_of(&[1f32, 2.0]));
    let huge = npy([1, 0], &header.replace("(1, 2)", "(1000000000000, 2)"), &[0; 8]);
    let (path, y) = (folder.string("x.npz"), folder.string("y.npy"));
    let call = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let text = refusal(&["run", &model, "--input", &path, "--output", &y]);
        text.strip_prefix(&format!("cannot read `{path}`: ")).unwrap_or(&text).to_owned()
    };
    for is_compressed in [false, true] {
        let whole = npz(is_compressed, &[("x.npy", &x)]);
        let mut flipped = whole.clone();
        let data = whole.windows(4).position(|window| window == b"PK\x07\x08").unwrap() - 1;
        flipped[data] ^= 1;
        let text = call(&flipped);
        assert!(text.starts_with("array `x`: "), "{text}");
        let text = call(&npz(is_compressed, &[("x.npy", &huge)]));
        let truncated = "array `x`: truncated: float32 of shape [1000000000000, 2] takes \
                         8000000000000 bytes, got 8";
        assert_eq!(text, truncated);
        let text = call(&npz(is_compressed, &[("x.npy", &x), ("x.npy", &x)]));
        assert_eq!(text, "it has two arrays `x`");
        assert_eq!(call(&npz(is_compressed, &[])), "it has no array `x`, but no array at all");
    }
}

#[test]
fn standard_input_is_an_input() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let y = folder.string("y.npy");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }";
    let x = npy([1, 0], header, bytes_of(&[1f32, 2.0]));
    let call = |arguments: &[&str], bytes: &[u8]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lumina"))
            .args(["run", &model, "--output", &y])
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses its arguments reads nothing.
        let _ = program.stdin.take().unwrap().write_all(bytes);
        let output = program.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(read::<f32>(Path::new(&y)).1) } else { Err(text) }
    };
    for path in ["-", "x=-", "/dev/stdin"] {
        for bytes in [&x, &npz(true, &[("x.npy", &x)])] {
            assert_eq!(call(&["--input", path], bytes).unwrap(), [-1.0, -2.0]);
            std::fs::remove_file(&y).unwrap();
        }
    }
    let text = call(&["--input", "-"], b"").unwrap_err();
    assert_eq!(text, "error: cannot read `-`: it is empty\n");
    let text = call(&["--input", "-"], &x[..130]).unwrap_err();
    let truncated = "truncated: float32 of shape [1, 2] takes 8 bytes, got 2";
    assert_eq!(text, format!("error: cannot read `-`: {truncated}\n"));
    let huge = npy([1, 0], &header.replace("(1, 2)", "(1000000000000, 2)"), &[0; 8]);
    let text = call(&["--input", "-"], &huge).unwrap_err();
    assert!(text.contains("takes 8000000000000 bytes, got 8"), "{text}");
}

#[test]
fn a_stream_is_given_once() {
    let folder = Folder::new();
    let model = folder.model(&copies(&[("a", DType::F32, 1), ("b", DType::F32, 1)]));
    let call = |second: &str| {
        refusal(&["run", &model, "--input", "a=-", "--input", second, "--output", "out-a=y"])
    };
    let message = "is given twice, but can be read once: make a file";
    assert_eq!(call("b=-"), format!("--input - {message}"));
    let pipe = folder.string("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let link = folder.string("link");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let inputs = [format!("a={pipe}"), format!("b={link}")];
    assert_eq!(
        refusal(&["run", &model, "--input", &inputs[0], "--input", &inputs[1], "--top", "1"]),
        format!("--input {link} {message}")
    );
}

#[test]
fn a_seed_is_no_input() {
    let folder = Folder::new();
    let model = folder.model(&seeded());
    let x = folder.array("x.npy", &[1], &[1u8]);
    let words = folder.path("words.npy");
    let out = format!("words={}", words.display());
    let seed = ((3u64 << 32) + 5).to_string();
    let arguments = ["run", &model, "--input", &x, "--output", &out, "--noise-seed", &seed];
    let output = lumina(&arguments);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read::<u32>(&words).1, [3, 5]);
    assert_eq!(
        refusal(&arguments[..6]),
        "the model draws noise from a key (input `key`): pass --noise-seed N"
    );
    let model = folder.model(&negation());
    assert_eq!(
        refusal(&["run", &model, "--input", &x, "--top", "1", "--noise-seed", "1"]),
        "the model draws no noise from a key: leave --noise-seed out"
    );
}
