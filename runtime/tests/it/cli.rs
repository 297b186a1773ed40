//! The binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::proto::Role;
use lumina_runtime::DType;
use npyz::WriterBuilder;

use crate::build::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn model(&self, file: &File) -> String {
        let path = self.path("m.lmn");
        std::fs::write(&path, file.bytes()).unwrap();
        path.to_str().unwrap().into()
    }

    fn array<T: npyz::AutoSerialize>(&self, name: &str, shape: &[u64], data: &[T]) -> String {
        self.array_in(npyz::Order::C, name, shape, data)
    }

    fn array_in<T: npyz::AutoSerialize>(
        &self,
        order: npyz::Order,
        name: &str,
        shape: &[u64],
        data: &[T],
    ) -> String {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape).order(order);
        let mut writer = options.writer(file).begin_nd().unwrap();
        data.iter().for_each(|element| writer.push(element).unwrap());
        writer.finish().unwrap();
        path.to_str().unwrap().into()
    }

    fn string(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }
}

fn lumina(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lumina")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The message of a command that fails with exit code 2.
fn refusal(arguments: &[&str]) -> String {
    let output = lumina(arguments);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let message = text.strip_prefix("error: ").unwrap().trim_end();
    assert_eq!(message.lines().count(), 1, "{text}");
    message.into()
}

fn read<T: npyz::Deserialize>(path: &Path) -> (Vec<u64>, Vec<T>) {
    let npy = npyz::NpyFile::new(std::fs::File::open(path).unwrap()).unwrap();
    (npy.shape().to_vec(), npy.into_vec().unwrap())
}

/// y = -x, x f32[batch,2].
fn negation() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[2])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let y = file.node("neg", &[x], &[]);
    file.graph.nodes[0].source = "model.py:3".into();
    file.output(y, "y", DType::F32, &dims);
    file.test(&[&f32s(&[1, 2], &[1.0, 2.0])], &[&f32s(&[1, 2], &[-1.0, -2.0])]);
    file
}

#[test]
fn run_from_npy_to_npy() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let x = folder.array("x.npy", &[3, 2], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = folder.path("y.npy");
    let output = lumina(&["run", &model, "--input", &x, "--output", y.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("loaded in "));
    assert_eq!(read::<f32>(&y), (vec![3, 2], vec![-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]));
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 3);
}

#[test]
fn run_reports_times_as_json() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let x = folder.array("x.npy", &[1, 2], &[1f32, 2.0]);
    let y = folder.string("y.npy");
    let arguments = ["run", &model, "--input", &x, "--output", &y, "--threads", "1", "--json"];
    let output = lumina(&arguments);
    let times: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    let [load, start, run] =
        ["load_ms", "start_ms", "run_ms"].map(|key| times[key].as_f64().unwrap());
    assert!(0.0 < load && load <= start && run >= 0.0, "{times}");
}

#[test]
fn column_major_arrays_are_read() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let order = npyz::Order::Fortran;
    let x = folder.array_in(order, "x.npy", &[3, 2], &[1f32, 3.0, 5.0, 2.0, 4.0, 6.0]);
    let y = folder.path("y.npy");
    let output = lumina(&["run", &model, "--input", &x, "--output", y.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read::<f32>(&y).1, [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]);
}

#[test]
fn every_element_type_is_read_and_written() {
    let mut file = File::new();
    // NumPy has no bfloat16 of its own, and npyz, which writes the arrays here, no float16.
    let absent = [DType::BF16, DType::F16];
    let dtypes = || DType::ALL.iter().filter(|dtype| !absent.contains(dtype));
    for &dtype in dtypes() {
        let x = file.input(&format!("x-{dtype}"), dtype, &fixed(&[2]));
        let y = file.node("copy", &[x], &[]);
        file.output(y, &format!("y-{dtype}"), dtype, &fixed(&[2]));
    }
    let folder = Folder::new();
    let model = folder.model(&file);
    let complex = |re| lumina_runtime::Complex32::new(re, 1.0);
    folder.array("f32", &[2], &[1f32, f32::NAN]);
    folder.array("f64", &[2], &[1f64, f64::INFINITY]);
    folder.array("c64", &[2], &[complex(1.0), complex(2.0)]);
    folder.array("c128", &[2], &[num_complex::Complex64::new(1.0, 0.1); 2]);
    folder.array("u8", &[2], &[1u8, 255]);
    folder.array("i16", &[2], &[i16::MIN, 1]);
    folder.array("i64", &[2], &[i64::MIN, 1]);
    folder.array("u32", &[2], &[0u32, u32::MAX]);
    folder.array("i32", &[2], &[i32::MIN, 1]);
    folder.array("i8", &[2], &[-128i8, 1]);
    folder.array("bool", &[2], &[true, false]);
    let mut arguments = vec!["run".to_string(), model];
    for dtype in dtypes() {
        let (from, to) =
            (folder.string(&dtype.to_string()), folder.string(&format!("{dtype}.out")));
        arguments.extend(["--input".into(), format!("x-{dtype}={from}")]);
        arguments.extend(["--output".into(), format!("y-{dtype}={to}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = lumina(&arguments);
    assert!(output.status.success(), "{output:?}");
    for dtype in dtypes() {
        let (from, to) = (folder.path(&dtype.to_string()), folder.path(&format!("{dtype}.out")));
        let tail = |path| std::fs::read(path).unwrap()[128..].to_vec();
        assert_eq!(tail(from), tail(to), "{dtype}");
    }
}

/// y = first word of the key, x = -x; the key comes from --noise-seed.
fn seeded() -> File {
    let mut file = File::new();
    let key = file.input("key", DType::U32, &fixed(&[2]));
    file.graph.inputs[0].role = Role::NoiseSeed as i32;
    let x = file.input("x", DType::F32, &fixed(&[1]));
    let words = file.node("copy", &[key], &[]);
    let y = file.node("neg", &[x], &[]);
    file.output(words, "words", DType::U32, &fixed(&[2]));
    file.output(y, "y", DType::F32, &fixed(&[1]));
    file
}

#[test]
fn noise_seeds() {
    let folder = Folder::new();
    let model = folder.model(&seeded());
    let x = folder.array("x.npy", &[1], &[1f32]);
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
    let plain = Folder::new();
    let model = plain.model(&negation());
    assert_eq!(
        refusal(&["run", &model, "--input", &x, "--output", "y", "--noise-seed", "1"]),
        "the model draws no noise from a key: leave --noise-seed out"
    );
}

#[test]
fn arguments_that_do_not_fit() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let x = folder.array("x.npy", &[1, 2], &[1f32, 2.0]);
    let y = folder.string("y.npy");
    assert_eq!(
        refusal(&["run", &model, "--output", &y]),
        "input `x` is missing: pass --input x=PATH"
    );
    assert_eq!(
        refusal(&["run", &model, "--input", &x, "--input", &x, "--output", &y]),
        "input `x` is given twice"
    );
    let missing = folder.string("no.npy");
    assert!(
        refusal(&["run", &model, "--input", &missing, "--output", &y])
            .starts_with(&format!("cannot read `{missing}`: "))
    );
    let wide = folder.array("wide.npy", &[1, 3], &[1f32; 3]);
    assert_eq!(
        refusal(&["run", &model, "--input", &wide, "--output", &y]),
        format!("{model}: input `x`: axis 1 must be 2, got 3")
    );
    let double = folder.array("double.npy", &[1, 2], &[1f64; 2]);
    assert_eq!(
        refusal(&["run", &model, "--input", &double, "--output", &y]),
        format!("{model}: input `x` must be f32[batch,2], got f64[1,2]")
    );
    let short = folder.array("short.npy", &[1, 2], &[1u16; 2]);
    assert_eq!(
        refusal(&["run", &model, "--input", &short, "--output", &y]),
        format!(
            "cannot read `{short}`: dtype <u2 is not supported, only float32, float64, float16, \
             complex64, complex128, int8, uint8, int16, int32, int64, uint32, bool"
        )
    );
    let cut = folder.string("cut.npy");
    std::fs::write(&cut, &std::fs::read(&x).unwrap()[..130]).unwrap();
    let text = refusal(&["run", &model, "--input", &cut, "--output", &y]);
    assert!(text.starts_with(&format!("cannot read `{cut}`: ")), "{text}");
    let nowhere = folder.string("no/folder/y.npy");
    let text = refusal(&["run", &model, "--input", &x, "--output", &nowhere]);
    assert!(text.starts_with(&format!("cannot write `{nowhere}`: ")), "{text}");
    let two = folder.model(&seeded());
    assert_eq!(
        refusal(&["run", &two, "--input", &x, "--output", "y.npy", "--noise-seed", "1"]),
        "--output y.npy names no output of the model: pass NAME=PATH, where NAME is one of \
         `words`, `y`"
    );
    let mut file = negation();
    file.graph.nodes[0].op = "\x1b[2Jneg\n".into();
    let model = folder.model(&file);
    assert_eq!(
        refusal(&["inspect", &model]),
        format!("{model}: unknown ops: `\\u{{1b}}[2Jneg\\n`")
    );
    assert!(refusal(&["inspect", &x]).starts_with(&format!("{x}: not a .lmn file: ")));
}

#[test]
fn usage_is_shown_with_exit_code_2() {
    assert_eq!(lumina(&[]).status.code(), Some(2));
    assert_eq!(lumina(&["run"]).status.code(), Some(2));
    assert_eq!(lumina(&["--version"]).status.code(), Some(0));
}

#[test]
fn inspect_shows_the_file() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let output = lumina(&["inspect", &model]);
    let text = stdout(&output);
    for part in [
        "in format 1.0, op set 2, written by test",
        "GRAPH",
        "x: f32[batch,2]",
        "%1 = neg(%0)  # model.py:3",
        "1 test vector",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn inspect_speaks_json() {
    let folder = Folder::new();
    let mut file = negation();
    let w = file.tensor("w", &f32s(&[2], &[1.0, 2.0]));
    let dims = [dim(&[(2, &[(0, 1)]), (1, &[])])];
    let attrs = [("dtype", text("f32")), ("shape", shape(&dims)), ("dimension", int(0))];
    let count = file.node("iota", &[], &attrs);
    file.graph.tests.clear();
    file.output(w, "w", DType::F32, &fixed(&[2]));
    file.output(count, "count", DType::F32, &dims);
    let output = lumina(&["inspect", &folder.model(&file), "--json"]);
    let shown: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(shown["inputs"][0]["shape"], serde_json::json!(["batch", 2]));
    assert_eq!(shown["outputs"][2]["shape"], serde_json::json!(["2*batch + 1"]));
    assert_eq!(shown["tensors"][0]["dtype"], "f32");
    assert_eq!(shown["nodes"][1]["op"], "iota");
    assert_eq!(shown["nodes"][1]["attrs"]["dimension"], 0);
    assert_eq!(shown["sections"][0]["kind"], "GRAPH");
}

#[test]
fn verify_passes_and_fails() {
    let folder = Folder::new();
    let mut file = negation();
    let model = folder.model(&file);
    let output = lumina(&["verify", &model]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "PASS  vector 0  output `y`  max |Δ| = 0e0\n");
    file.meta[64..68].copy_from_slice(&0.5f32.to_le_bytes());
    let model = folder.model(&file);
    let output = lumina(&["verify", &model]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "FAIL  vector 0  output `y`  max |Δ| = 1.5e0\n");
    let output = lumina(&["verify", &model, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let shown: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(shown["passed"], false);
    assert_eq!(shown["outputs"][0]["max_abs_diff"], 1.5);
    file.graph.tests.clear();
    let model = folder.model(&file);
    assert_eq!(
        refusal(&["verify", &model]),
        format!("{model}: the file has no test vectors, so there is nothing to verify")
    );
}
