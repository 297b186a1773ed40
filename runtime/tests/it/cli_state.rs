//! `lumina run` of models that keep something from run to run, and of several entry points.

use std::path::Path;

use lumina_runtime::DType;

use crate::build::*;
use crate::program::{Folder, lumina, npy, npz, read, refusal, stdout};
use crate::proto::{Entry, State};

/// "write" puts x f32[1,2] into a cache f32[4,2] at the line that it counts, and returns the sum of
/// the lines; "count" returns how many there are.
fn cache() -> File {
    let mut file = File::new();
    file.graph.name = "write".into();
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let one = file.tensor("one", &i32s(&[], &[1]));
    let x = file.input("x", DType::F32, &fixed(&[1, 2]));
    let lines = file.state("cache['lines']", DType::F32, &[4, 2]);
    let count = file.state("cache['count']", DType::I32, &[]);
    let written = file.node("dynamic_update_slice", &[lines, x, count, zero], &[]);
    let counted = file.node("add", &[count, one], &[]);
    let sum = file.node("reduce_sum", &[written], &[("axes", ints(&[0]))]);
    file.becomes(lines, written);
    file.becomes(count, counted);
    file.output(sum, "sum", DType::F32, &fixed(&[2]));
    let of_count = file.graph.states[1].clone();
    file.graph.entries.push(Entry {
        name: "count".into(),
        // Values of a scope count from the constants on.
        outputs: vec![value(2, "count", DType::I32, &[])],
        states: vec![State { id: 2, next: None, ..of_count }],
        ..Entry::default()
    });
    file
}

/// A folder with that model and x of three steps.
struct Cached {
    folder: Folder,
    model: String,
    x: String,
}

const X: [f32; 6] = [1.0, 0.5, 2.0, 0.25, 4.0, -1.0];

impl Cached {
    fn new() -> Self {
        let folder = Folder::new();
        let model = folder.model(&cache());
        let x = folder.array("x.npy", &[3, 1, 2], &X);
        Self { folder, model, x }
    }

    fn run(&self, options: &[&str]) -> String {
        let output = lumina(&[&["run", &self.model], options].concat());
        assert!(output.status.success(), "{options:?}: {output:?}");
        stdout(&output).into()
    }

    fn refusal(&self, options: &[&str]) -> String {
        refusal(&[&["run", &self.model], options].concat())
    }

    fn path(&self, name: &str) -> String {
        self.folder.string(name)
    }
}

#[test]
fn states_go_from_step_to_step() {
    let cached = Cached::new();
    let y = cached.path("y.npy");
    cached.run(&["--steps", "--input", &cached.x, "--output", &y]);
    let sums = vec![1.0, 0.5, 3.0, 0.75, 7.0, -0.25];
    assert_eq!(read::<f32>(Path::new(&y)), (vec![3, 2], sums));
    // A run begins as the file says, and not where the last one has ended.
    assert_eq!(cached.run(&["--entry", "count", "--top", "1"]), "count: 0 (0)\n");
}

#[test]
fn states_go_from_program_to_program() {
    let cached = Cached::new();
    let (y, s) = (cached.path("y.npy"), cached.path("s.npz"));
    let mut expected = [0.0, 0.0];
    for (step, x) in X.as_chunks::<2>().0.iter().enumerate() {
        expected = [expected[0] + x[0], expected[1] + x[1]];
        let x = cached.folder.array("x", &[1, 2], x);
        let from: &[&str] = if step == 0 { &[] } else { &["--state", &s] };
        cached.run(&[from, &["--input", &x, "--output", &y, "--save-state", &s]].concat());
        assert_eq!(read::<f32>(Path::new(&y)).1, expected);
        let count = cached.run(&["--entry", "count", "--state", &s, "--top", "1"]);
        assert_eq!(count, format!("count: 0 ({})\n", step + 1));
    }
    // States alone are reason enough for a run, and their file is one of arrays by name.
    cached.run(&["--steps", "--input", &cached.x, "--save-state", &cached.path("other.npz")]);
    assert_eq!(std::fs::read(cached.path("other.npz")).unwrap(), std::fs::read(&s).unwrap());
    let lines = [&X[..], &[0.0; 2]].concat();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }";
    let lines = npy([1, 0], header, bytemuck::cast_slice(&lines));
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (), }";
    let count = npy([1, 0], header, &3i32.to_le_bytes());
    let own = npz(true, &[("cache['lines'].npy", &lines), ("cache['count'].npy", &count)]);
    std::fs::write(&s, own).unwrap();
    cached.run(&["--entry", "count", "--state", &s, "--save-state", &s, "--output", &y]);
    assert_eq!(read::<i32>(Path::new(&y)), (vec![], vec![3]));
    assert_eq!(std::fs::read(cached.path("other.npz")).unwrap(), std::fs::read(&s).unwrap());
}

#[test]
fn a_fault_leaves_the_states_as_they_were() {
    let cached = Cached::new();
    let s = cached.path("s.npz");
    std::fs::write(&s, "before").unwrap();
    let cut = cached.path("cut.npz");
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 2), }";
    std::fs::write(&cut, npz(false, &[("x.npy", &npy([1, 0], header, &[0; 20]))])).unwrap();
    let text = cached.refusal(&["--steps", "--input", &cut, "--save-state", &s]);
    assert!(
        text.ends_with("truncated: float32 of shape [3, 1, 2] takes 24 bytes, got 20"),
        "{text}"
    );
    assert_eq!(std::fs::read(&s).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(cached.folder.path("")).unwrap().count(), 4);
}

#[test]
fn what_is_no_entry_point_or_state_is_refused() {
    let cached = Cached::new();
    let (x, s) = (cached.folder.array("one", &[1, 2], &[1f32; 2]), cached.path("s.npz"));
    let run =
        |options: &[&str]| cached.refusal(&[&["--input", &x, "--top", "1"], options].concat());
    assert_eq!(
        run(&["--entry", "decode"]),
        "there is no entry point `decode`; the file has `write`, `count`"
    );
    assert_eq!(
        run(&["--batch", "1"]),
        "--batch 1: state `cache['lines']` goes from run to run, and rows must not depend on those \
         before them"
    );
    assert_eq!(
        run(&["--state", &x]),
        format!("cannot read `{x}`: it is a .npy file, expected a .npz file")
    );
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
    let lines = npy([1, 0], header, &[0; 16]);
    std::fs::write(&s, npz(false, &[("cache['count'].npy", &lines)])).unwrap();
    assert_eq!(
        run(&["--state", &s]),
        format!("cannot read `{s}`: it has no array `cache['lines']`, but `cache['count']`")
    );
    std::fs::write(&s, npz(false, &[("cache['lines'].npy", &lines)])).unwrap();
    assert_eq!(
        run(&["--state", &s]),
        format!("cannot read `{s}`: state `cache['lines']` must be f32[4,2], got f32[2,2]")
    );
    assert_eq!(
        run(&["--save-state", &s, "--output", &s]),
        format!("--save-state {s} leads to the same file as {s}: give it a path of its own")
    );
    let stdin = cached.refusal(&["--input", "-", "--state", "-", "--top", "1"]);
    assert_eq!(stdin, "--state - is given twice, but can be read once: make a file");
    let other = cached.folder.model(&crate::program::negation());
    let options = ["--input", &x, "--top", "1", "--save-state", &s];
    assert_eq!(
        refusal(&[&["run", &other], &options[..]].concat()),
        "the model keeps no state from run to run: leave --save-state out"
    );
    assert_eq!(
        refusal(&[&["run", &other, "--entry", "x"], &options[..4]].concat()),
        "there is no entry point `x`; the file has none"
    );
}

#[test]
fn inspect_shows_entry_points_and_states() {
    let cached = Cached::new();
    let output = lumina(&["inspect", &cached.model]);
    let text = stdout(&output);
    for part in ["entry point write", "entry point count", "states", "cache['lines']: f32[4,2]"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
