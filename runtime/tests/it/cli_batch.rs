//! `lumina run --batch`: rows are read and written some at a time, and come out as all at once.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use lumina_runtime::DType;
use npyz::Order::Fortran;

use crate::build::*;
use crate::program::{Folder, KEYS, keyed, lumina, negation, npy, npz, read, refusal, stdout};

const ROWS: usize = 7;

/// y = x * scale, x f32[batch,3], scale f32[3]; sum = sum over the columns of x.
fn scaled() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch.clone(), fixed(&[3])[0].clone()];
    let scale = file.input("scale", DType::F32, &fixed(&[3]));
    let x = file.input("x", DType::F32, &dims);
    let attrs = [("shape", shape(&dims)), ("broadcast_dimensions", ints(&[1]))];
    let wide = file.node("broadcast_in_dim", &[scale], &attrs);
    let y = file.node("mul", &[x, wide], &[]);
    let sum = file.node("reduce_sum", &[x], &[("axes", ints(&[1]))]);
    file.output(y, "y", DType::F32, &dims);
    file.output(sum, "sum", DType::F32, &[batch]);
    file
}

/// A folder with that model, scale, and x in files of every kind.
struct Scaled {
    folder: Folder,
    model: String,
    scale: String,
}

impl Scaled {
    fn new() -> Self {
        let folder = Folder::new();
        let model = folder.model(&scaled());
        let scale = folder.array("scale.npy", &[3], &[1f32, -2.0, 0.5]);
        let x: Vec<f32> = (0..3 * ROWS).map(|i| (i as f32 - 9.0) / 4.0).collect();
        let shape = [ROWS as u64, 3];
        folder.array("x.npy", &shape, &x);
        let columns: Vec<f32> = (0..3 * ROWS).map(|i| x[i % ROWS * 3 + i / ROWS]).collect();
        folder.array_in(Fortran, "columns.npy", &shape, &columns);
        let header = "{'descr': '>f4', 'fortran_order': False, 'shape': (7, 3), }";
        let swapped: Vec<u8> = x.iter().flat_map(|x| x.to_be_bytes()).collect();
        std::fs::write(folder.path("swapped.npy"), npy([1, 0], header, &swapped)).unwrap();
        let doubles: Vec<f64> = x.iter().map(|&x| x.into()).collect();
        folder.array("doubles.npy", &shape, &doubles);
        let stored = std::fs::read(folder.path("x.npy")).unwrap();
        for (name, is_compressed) in [("stored.npz", false), ("deflated.npz", true)] {
            std::fs::write(folder.path(name), npz(is_compressed, &[("x.npy", &stored)])).unwrap();
        }
        Self { folder, model, scale }
    }

    fn command(&self, x: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumina"));
        command.current_dir(self.folder.path("")).args(["run", &self.model, "--cast"]);
        command.args(["--input", &format!("scale={}", self.scale)]);
        command.args(["--input", &format!("x={x}")]).args(options);
        command
    }

    fn run(&self, x: &str, options: &[&str]) -> Output {
        let output = self.command(x, options).output().unwrap();
        assert!(output.status.success(), "{x} {options:?}: {output:?}");
        output
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path(name)).unwrap()
    }
}

#[test]
fn pieces_of_every_kind_of_file_make_the_whole() {
    let scaled = Scaled::new();
    let to_files = ["--output", "y=y.npy", "--output", "sum=sum.npy", "--output", "all.npz"];
    scaled.run("x.npy", &to_files);
    let names = ["y.npy", "sum.npy", "all.npz"];
    let whole = names.map(|name| scaled.bytes(name));
    assert_eq!(read::<f32>(&scaled.folder.path("y.npy")).0, [7, 3]);
    let files =
        ["x.npy", "columns.npy", "swapped.npy", "doubles.npy", "stored.npz", "deflated.npz"];
    for file in files {
        for rows in ["1", "2", "3", "7", "4000000000"] {
            let options = [&["--batch", rows][..], &to_files].concat();
            names.iter().for_each(|name| std::fs::remove_file(scaled.folder.path(name)).unwrap());
            scaled.run(file, &options);
            assert_eq!(names.map(|name| scaled.bytes(name)), whole, "{file} by {rows}");
        }
    }
    // Nothing else is left behind.
    assert_eq!(std::fs::read_dir(scaled.folder.path("")).unwrap().count(), files.len() + 5);
}

#[test]
fn pieces_come_and_go_through_pipes() {
    let scaled = Scaled::new();
    scaled.run("x.npy", &["--output", "y=y.npy"]);
    let mut command = scaled.command("-", &["--output", "y=-", "--batch", "2", "--quiet"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&scaled.bytes("x.npy")).unwrap();
    drop(stdin);
    assert_eq!(child.wait_with_output().unwrap().stdout, scaled.bytes("y.npy"));
    // The arrays of a .npz file, which come one after the other in it.
    scaled.run("x.npy", &["--output", "all.npz"]);
    let link = scaled.folder.path("link");
    std::os::unix::fs::symlink("/dev/stdout", link).unwrap();
    let all = scaled.run("stored.npz", &["--output", "y=link", "--batch", "3"]).stdout;
    assert_eq!(all, scaled.bytes("y.npy"));
    assert!(Command::new("mkfifo").arg(scaled.folder.path("pipe.npz")).status().unwrap().success());
    let mut reader = Command::new("cat");
    let reader = reader.arg(scaled.folder.path("pipe.npz")).stdout(Stdio::piped()).spawn().unwrap();
    scaled.run("x.npy", &["--output", "pipe.npz", "--batch", "3"]);
    assert_eq!(reader.wait_with_output().unwrap().stdout, scaled.bytes("all.npz"));
}

#[test]
fn no_rows_are_a_piece_of_none() {
    let scaled = Scaled::new();
    scaled.folder.array::<f32>("none.npy", &[0, 3], &[]);
    scaled.run("none.npy", &["--batch", "5", "--output", "y=y.npy"]);
    assert_eq!(read::<f32>(&scaled.folder.path("y.npy")), (vec![0, 3], vec![]));
}

#[test]
fn the_largest_values_are_those_of_the_whole() {
    let scaled = Scaled::new();
    let whole = scaled.run("x.npy", &["--top", "2"]).stdout;
    let json = |options: &[&str]| -> serde_json::Value {
        let output = scaled.run("x.npy", &[&["--top", "2", "--json"], options].concat());
        serde_json::from_str(stdout(&output)).unwrap()
    };
    let of_whole = json(&[]);
    for rows in ["1", "3", "5", "7"] {
        let output = scaled.run("x.npy", &["--top", "2", "--batch", rows]);
        assert_eq!(output.stdout, whole, "by {rows}");
        assert_eq!(json(&["--batch", rows])["top"], of_whole["top"], "by {rows}");
    }
    assert!(
        String::from_utf8(whole)
            .unwrap()
            .ends_with("y[6]: 0 (2.25), 2 (1.375)\nsum: 6 (7.5), 5 (5.25)\n")
    );
}

#[test]
fn each_piece_draws_noise_of_its_own() {
    let folder = Folder::new();
    let model = folder.model(&keyed());
    let x = folder.array("x.npy", &[5, 2], &[0u32; 10]);
    let y = folder.string("y.npy");
    let run = ["run", &model, "--input", &x, "--output", &y, "--noise-seed", "7"];
    let rows = |options: &[&str]| {
        let output = lumina(&[&run, options].concat());
        assert!(output.status.success(), "{output:?}");
        read::<u32>(&folder.path("y.npy")).1
    };
    assert_eq!(rows(&[]), [0, 7].repeat(5));
    let [a, b, c] = KEYS;
    assert_eq!(rows(&["--batch", "2"]), [a, a, b, b, c].concat());
}

#[test]
fn models_without_rows_are_refused() {
    let folder = Folder::new();
    let x = folder.array("x.npy", &[6, 2], &[1f32; 12]);
    let y = folder.string("y.npy");
    let refused = |file: &File| {
        let model = folder.model(file);
        let text = refusal(&["run", &model, "--input", &x, "--output", &y, "--batch", "2"]);
        text.strip_prefix("--batch 2: ").unwrap().to_owned()
    };
    let mut file = File::new();
    let x_id = file.input("x", DType::F32, &fixed(&[6, 2]));
    file.output(x_id, "y", DType::F32, &fixed(&[6, 2]));
    assert_eq!(refused(&file), "no input has a symbol as axis 0, so no rows can be told apart");
    let mut file = File::new();
    let batch = file.symbol("batch");
    let x_id = file.input("x", DType::F32, &[batch.clone(), batch]);
    file.output(x_id, "y", DType::F32, &file.graph.inputs[0].shape.clone());
    assert_eq!(
        refused(&file),
        "input `x` is f32[batch,batch]: where rows are cut, `batch` must be axis 0 and no part of \
         any other"
    );
    let mut file = negation();
    file.graph.tests.clear();
    let sum = file.node("reduce_sum", &[0], &[("axes", ints(&[0]))]);
    file.output(sum, "sum", DType::F32, &fixed(&[2]));
    assert_eq!(
        refused(&file),
        "output `sum` is f32[2], without `batch` as axis 0: what pieces give cannot be put together"
    );
}

/// y = a + b, f32[batch].
fn pair() -> File {
    let mut file = File::new();
    let dims = [file.symbol("batch")];
    let [a, b] = ["a", "b"].map(|name| file.input(name, DType::F32, &dims));
    let y = file.node("add", &[a, b], &[]);
    file.output(y, "y", DType::F32, &dims);
    file
}

#[test]
fn inputs_that_cannot_be_cut_are_refused() {
    let folder = Folder::new();
    let model = folder.model(&pair());
    let y = folder.string("y.npy");
    std::fs::write(&y, "before").unwrap();
    let a = format!("a={}", folder.array("a.npy", &[5], &[1f32; 5]));
    let text = |b: &str| {
        let b = format!("b={b}");
        let run = ["run", &model, "--input", &a, "--input", &b, "--output", &y, "--batch", "2"];
        let text = refusal(&run);
        assert_eq!(std::fs::read(&y).unwrap(), b"before");
        text
    };
    assert_eq!(
        text(&folder.array("b.npy", &[4], &[1f32; 4])),
        "input `b` has 4 rows, and input `a` 5: `batch` must be the same in all"
    );
    let scalar = folder.array("scalar.npy", &[], &[1f32]);
    assert_eq!(
        text(&scalar),
        format!("cannot read `{scalar}`: it is a single element, which has no rows")
    );
    let late = folder.array("late.npy", &[5], &[1f64, 1.0, 1.0, 1e300, 1.0]);
    assert!(text(&late).contains("float64 is not supported as it is"));
    let integers = folder.array("integers.npy", &[5], &[1i32, 1, 1, (1 << 24) + 1, 1]);
    let wrong = format!("input `b`, from `{integers}`: int32 16777217 at [3] is no float32");
    assert!(text(&integers).starts_with(&wrong), "{}", text(&integers));
    // What is compressed says at its end that it is short.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }";
    let short = npy([1, 0], header, &[0; 16]);
    let path = folder.string("short.npz");
    std::fs::write(&path, npz(true, &[("b.npy", &short)])).unwrap();
    assert_eq!(
        text(&path),
        format!(
            "cannot read `{path}`: array `b`: truncated: float32 of shape [5] takes 20 bytes, \
             got 16"
        )
    );
    let columns = npy([1, 0], &header.replace("False", "True"), &[0; 20]);
    std::fs::write(&path, npz(false, &[("b.npy", &columns)])).unwrap();
    assert!(text(&path).contains("array `b`: it is column-major, and can be read by rows from"));
}

/// Sums over the columns of x f32[batch,1024].
fn sums() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let x = file.input("x", DType::F32, &[batch.clone(), fixed(&[1024])[0].clone()]);
    let sum = file.node("reduce_sum", &[x], &[("axes", ints(&[1]))]);
    file.output(sum, "sum", DType::F32, &[batch]);
    file
}

#[test]
fn a_file_may_be_larger_than_memory() {
    let folder = Folder::new();
    let model = folder.model(&sums());
    let x = folder.string("x.npy");
    // 512 MiB of zeros, which take no space on the disk.
    let rows = 1 << 17;
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 1024), }}");
    let start = npy([1, 0], &header, &[]);
    let file = std::fs::File::create(&x).unwrap();
    (&file).write_all(&start).unwrap();
    file.set_len(start.len() as u64 + (rows << 12)).unwrap();
    let sum = folder.string("sum.npy");
    let run = |options: &[&str]| {
        // The program and its threads take some 150 MiB of addresses, whatever they do.
        let limited = "ulimit -v 300000 && exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", limited, "sh", env!("CARGO_BIN_EXE_lumina"), "run", &model]);
        command.args(["--input", &x, "--output", &sum, "--threads", "1"]).args(options);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = run(&[]);
    assert_eq!(code, Some(2), "{text}");
    let advice = "the inputs take 512 MiB of memory at once: --batch N runs N rows at a time\n";
    assert!(text.starts_with(advice), "{text}");
    let (code, text) = run(&["--quiet"]);
    assert!(code == Some(2) && text.starts_with("error: cannot read"), "{text}");
    assert!(run(&["--batch", "1000", "--quiet"]) == (Some(0), String::new()));
    let (shape, data) = read::<f32>(&folder.path("sum.npy"));
    assert_eq!((shape, data.len()), (vec![rows], rows as usize));
    // Through a pipe, too.
    let line = format!(
        "ulimit -v 300000 && cat {x} | {} run {model} --input - --output - --batch 1000 \
         --threads 1 --quiet | wc -c",
        env!("CARGO_BIN_EXE_lumina")
    );
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert_eq!(stdout(&output).trim(), (128 + 4 * rows).to_string(), "{output:?}");
}

#[test]
fn what_nobody_waits_for_is_not_computed() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    // More rows than anybody can compute.
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, 2), }}", 1u64 << 40);
    let start = folder.string("start");
    std::fs::write(&start, npy([1, 0], &header, &[])).unwrap();
    let program = env!("CARGO_BIN_EXE_lumina");
    for options in ["--output -", "--output /dev/stdout", "--top 1"] {
        let line = format!(
            "cat {start} /dev/zero | {program} run {model} --input - --batch 100 --quiet {options} \
             | head -c 1000 | wc -c"
        );
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert_eq!(stdout(&output).trim(), "1000", "{options}: {output:?}");
    }
}

#[test]
fn more_than_memory_may_hold_is_told_with_what_helps() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let x = folder.array("x.npy", &[1 << 18, 2], &vec![1f32; 1 << 19]);
    let run = ["run", &model, "--input", &x, "--output", "/dev/null", "--memory-limit", "1"];
    let text = refusal(&run);
    assert!(text.ends_with("the limit is 1048576; --batch N runs N rows at a time"), "{text}");
    assert!(lumina(&[&run[..], &["--batch", "1000"]].concat()).status.success());
}
