//! Programs in C and C++ against an installed library: examples and the page about it, without a
//! warning, a memory error or a leak.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lumina_runtime::{DType, Options, Session, Tensor};

use crate::build::*;
use crate::call::corpus;

const PIXELS: usize = 64;
const IMAGES: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

/// What the command prints; it must succeed.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let texts = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{command:?}: {}\n{}{}", output.status, texts[0], texts[1]);
    texts[0].to_string()
}

/// The library of this build, installed; images; and a model with what it says of them as labels.
struct Prefix {
    folder: tempfile::TempDir,
    flags: Vec<String>,
}

impl Prefix {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let script = root().join("tools/install.sh");
        succeeds(Command::new("sh").arg(script).arg(folder.path()).arg(built));
        // What a program gets that knows no prefix, as the folder may have been moved.
        let pc = folder.path().join("lib/pkgconfig");
        let flags = match has("pkg-config") {
            true => succeeds(
                Command::new("pkg-config")
                    .args(["--cflags", "--libs", "lumina"])
                    .env("PKG_CONFIG_PATH", pc),
            ),
            false => {
                let path = folder.path().display();
                format!("-I{path}/include -L{path}/lib -llumina")
            }
        };
        let flags = flags.split_whitespace().map(String::from).collect();
        Self { folder, flags }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Images, a model, and labels: the arguments of the examples.
    fn digits(&self) -> [PathBuf; 3] {
        let mut file = File::new();
        let batch = file.symbol("batch");
        let dims = |extent: usize| [batch.clone(), fixed(&[extent])[0].clone()];
        let numbers =
            |count: usize| -> Vec<f32> { (0..count).map(|n| (n as f32 * 1.7).sin()).collect() };
        let x = file.input("images", DType::F32, &dims(PIXELS));
        let w = file.tensor("w", &f32s(&[PIXELS, 10], &numbers(PIXELS * 10)));
        let y = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
        file.output(y, "logits", DType::F32, &dims(10));
        let images = numbers(IMAGES * PIXELS);
        let model = Arc::new(file.load().unwrap());
        let mut session = Session::new(model, Options::default()).unwrap();
        let x = Tensor::new(&[IMAGES, PIXELS], &images).unwrap();
        let logits = session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap().to_vec();
        let best = |row: &[f32]| {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            row.iter().position(|&logit| logit == largest).unwrap() as u8
        };
        let labels: Vec<u8> = logits.chunks(10).map(best).collect();
        assert!(labels.iter().any(|&label| label != labels[0]));
        let bytes: Vec<u8> = images.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let paths = ["model.lmn", "images.f32", "labels.u8"].map(|name| self.path(name));
        for (path, bytes) in paths.iter().zip([file.bytes(), bytes, labels]) {
            std::fs::write(path, bytes).unwrap();
        }
        paths
    }

    /// The program of a document.
    fn program_of(&self, document: &str) -> PathBuf {
        let page = std::fs::read_to_string(root().join(document)).unwrap();
        let begin = page.find("```c\n#include").unwrap() + "```c\n".len();
        let program = page[begin..].split("```").next().unwrap();
        let source = self.path("page.c");
        std::fs::write(&source, program).unwrap();
        source
    }

    /// Compiles a program with every warning as an error.
    fn compile(&self, compiler: &str, source: &Path, name: &str, options: &[&str]) -> PathBuf {
        let program = self.path(name);
        let lib = self.path("lib");
        let standard = if compiler == "cc" { "-std=c99" } else { "-std=c++17" };
        succeeds(
            Command::new(compiler)
                .args([standard, "-g", "-Wall", "-Wextra", "-Wpedantic", "-Werror"])
                .args(options)
                .arg(source)
                .arg("-o")
                .arg(&program)
                .args(&self.flags)
                .arg(format!("-Wl,-rpath,{}", lib.display())),
        );
        program
    }
}

/// Runs a program as it is, under valgrind, and with the sanitizers of the compiler.
fn check(
    prefix: &Prefix,
    compiler: &str,
    source: &Path,
    arguments: &[PathBuf],
    options: &[&str],
) -> String {
    let plain = prefix.compile(compiler, source, "plain", options);
    let told = succeeds(Command::new(&plain).args(arguments));
    if has("valgrind") {
        let output = succeeds(
            Command::new("valgrind")
                .args(["--quiet", "--error-exitcode=9", "--leak-check=full"])
                .args(["--errors-for-leak-kinds=definite,indirect"])
                .arg(&plain)
                .args(arguments),
        );
        assert_eq!(output, told);
    } else {
        eprintln!("valgrind is missing: nothing ran under it");
    }
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let empty = prefix.path("empty.c");
    std::fs::write(&empty, "int main(void) { return 0; }\n").unwrap();
    let mut probe = Command::new(compiler);
    probe.args(sanitizers).arg(&empty).arg("-o").arg(prefix.path("empty"));
    if probe.output().is_ok_and(|output| output.status.success()) {
        let options = [options, &sanitizers].concat();
        let sanitized = prefix.compile(compiler, source, "sanitized", &options);
        assert_eq!(succeeds(Command::new(sanitized).args(arguments)), told);
    } else {
        eprintln!("the sanitizers of {compiler} are missing: nothing ran with them");
    }
    told
}

#[test]
fn the_example_in_c_runs_without_a_fault() {
    if !has("cc") {
        return eprintln!("cc is missing");
    }
    let prefix = Prefix::new();
    let arguments = prefix.digits();
    let source = root().join("examples/embed/digits.c");
    let told = check(&prefix, "cc", &source, &arguments, &[]);
    let expected = format!(
        "input `images` has shape (batch, {PIXELS})\n{IMAGES} of {IMAGES} digits are right\n\
         one at a time, {IMAGES} are\n"
    );
    assert_eq!(told, expected);
}

#[test]
fn the_example_in_cpp_runs_without_a_fault() {
    if !has("c++") {
        return eprintln!("c++ is missing");
    }
    let prefix = Prefix::new();
    let arguments = prefix.digits();
    let source = root().join("examples/embed/threads.cpp");
    let told = check(&prefix, "c++", &source, &arguments, &["-pthread"]);
    let expected = format!("8 threads: {IMAGES} of {IMAGES} digits are right\n");
    let (first, second) = told.split_at(expected.len());
    assert_eq!(first, expected);
    assert!(second.starts_with("a file with a wrong byte: section "), "{second}");
}

#[test]
fn the_program_of_the_page_runs_without_a_fault() {
    if !has("cc") {
        return eprintln!("cc is missing");
    }
    let prefix = Prefix::new();
    let source = prefix.program_of("docs/c.md");
    let told = check(&prefix, "cc", &source, &[corpus()], &[]);
    assert_eq!(told.matches("scores of shape (2, 3): ").count(), 3);
    // Each seed has noise of its own.
    let lines: std::collections::BTreeSet<&str> = told.lines().collect();
    assert_eq!(lines.len(), 3);
}

#[test]
fn the_program_of_the_page_about_operators_runs_without_a_fault() {
    if !has("cc") {
        return eprintln!("cc is missing");
    }
    let prefix = Prefix::new();
    let source = prefix.program_of("docs/operators.md");
    let told = check(&prefix, "cc", &source, &[], &[]);
    let silu = |x: f64| format!("{:.4}\n", x / (1.0 + (-x).exp()));
    let expected: String = [0.0, 2.0, 4.0, 1.0, 3.0, 5.0].map(silu).concat();
    assert_eq!(told, expected);
}

#[test]
fn the_library_shows_nothing_but_its_interface() {
    if !cfg!(target_os = "linux") || !has("nm") {
        return eprintln!("nm is missing, or the system is another one");
    }
    let prefix = Prefix::new();
    let library = prefix.path("lib/liblumina.so");
    let symbols = succeeds(Command::new("nm").args(["-D", "--defined-only"]).arg(&library));
    let header = std::fs::read_to_string(prefix.path("include/lumina.h")).unwrap();
    for line in symbols.lines() {
        let symbol = line.split_whitespace().last().unwrap();
        let is_ours = ["lumina_", "infiniop", "infinirt"].iter().any(|p| symbol.starts_with(p));
        assert!(is_ours, "{symbol}");
        let is_declared = header.contains(&format!("{symbol}("));
        assert!(is_declared || !symbol.starts_with("lumina_"), "{symbol} is not in lumina.h");
    }
    assert!(symbols.contains(" lumina_session_run"));
    for name in ["libinfiniop.so", "libinfinirt.so", "liblumina.so.1"] {
        let path = prefix.path("lib").join(name).canonicalize().unwrap();
        assert_eq!(path, library.canonicalize().unwrap());
    }
}
