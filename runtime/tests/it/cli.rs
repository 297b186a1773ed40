//! The binary: arguments, and what it prints.

use std::process::Command;

use lumina_runtime::{Complex32, DType};

use crate::build::*;
use crate::program::{Folder, lumina, negation, npy, npz, read, refusal, seeded, stdout};

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
    assert_eq!(std::fs::read_dir(folder.path("")).unwrap().count(), 3);
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
    let cut = folder.string("cut.npy");
    std::fs::write(&cut, &std::fs::read(&x).unwrap()[..130]).unwrap();
    let text = refusal(&["run", &model, "--input", &cut, "--output", &y]);
    assert!(text.starts_with(&format!("cannot read `{cut}`: ")), "{text}");
    let nowhere = folder.string("no/folder/y.npy");
    assert_eq!(
        refusal(&["run", &model, "--input", &x, "--output", &nowhere]),
        format!(
            "cannot write `{nowhere}`: there is no directory `{}`: make it",
            folder.string("no/folder")
        )
    );
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

/// Outputs of several ranks and types: y f32[2,4], count i64[3], yes bool, z f64[0,2].
fn several() -> File {
    let mut file = File::new();
    let parts: [(&str, DType, &[usize]); 4] = [
        ("y", DType::F32, &[2, 4]),
        ("count", DType::I64, &[3]),
        ("yes", DType::Bool, &[]),
        ("z", DType::F64, &[0, 2]),
    ];
    for (name, dtype, extents) in parts {
        let x = file.input(&format!("in-{name}"), dtype, &fixed(extents));
        let y = file.node("copy", &[x], &[]);
        file.output(y, name, dtype, &fixed(extents));
    }
    file
}

#[test]
fn the_largest_values_are_printed() {
    let folder = Folder::new();
    let model = folder.model(&several());
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let y = folder.array("y", &[2, 4], &[0.1, 0.3, 0.1, -1.0, nan, inf, -inf, 1e38]);
    // As floats, two of them would be equal.
    let count = folder.array("count", &[3], &[i64::MAX - 1, i64::MAX, i64::MIN]);
    let yes = folder.array("yes", &[], &[true]);
    let z = folder.array::<f64>("z", &[0, 2], &[]);
    let inputs = [("y", y), ("count", count), ("yes", yes), ("z", z)];
    let inputs = inputs.map(|(name, path)| format!("in-{name}={path}"));
    let mut arguments = vec!["run", &model];
    inputs.iter().for_each(|input| arguments.extend(["--input", input]));
    let top = |k, option: &[&'static str]| {
        let output = lumina(&[&arguments[..], &["--top", k], option].concat());
        assert!(output.status.success(), "{output:?}");
        stdout(&output).to_owned()
    };
    assert_eq!(
        top("3", &[]),
        "y[0]: 1 (0.3), 0 (0.1), 2 (0.1)\n\
         y[1]: 0 (NaN), 1 (inf), 3 (1e38)\n\
         count: 1 (9223372036854775807), 0 (9223372036854775806), 2 (-9223372036854775808)\n\
         yes: 0 (1)\n"
    );
    assert!(top("1", &[]).starts_with("y[0]: 1 (0.3)\ny[1]: 0 (NaN)\ncount: 1 (922"));
    assert!(top("9", &[]).starts_with("y[0]: 1 (0.3), 0 (0.1), 2 (0.1), 3 (-1.0)\n"));
    let shown: serde_json::Value = serde_json::from_str(&top("4", &["--json"])).unwrap();
    assert!(shown["run_ms"].is_f64());
    assert_eq!(
        shown["top"],
        serde_json::json!({
            "y": [
                {"row": [0], "indices": [1, 0, 2, 3], "values": [0.3, 0.1, 0.1, -1.0]},
                {"row": [1], "indices": [0, 1, 3, 2], "values": [null, "inf", 1e38, "-inf"]},
            ],
            "count": [
                {"row": [], "indices": [1, 0, 2], "values": [i64::MAX, i64::MAX - 1, i64::MIN]},
            ],
            "yes": [{"row": [], "indices": [0], "values": [1]}],
            "z": [],
        })
    );
    assert_eq!(lumina(&[&arguments[..], &["--top", "0"]].concat()).status.code(), Some(2));
}

#[test]
fn what_is_printed_and_an_output_do_not_share_a_stream() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let x = folder.array("x.npy", &[1, 2], &[1f32, 2.0]);
    let run = ["run", &model, "--input", &x, "--output", "-"];
    for (option, named) in [(&["--top", "1"][..], "--top"), (&["--json"], "--json")] {
        assert_eq!(
            refusal(&[&run[..], option].concat()),
            format!(
                "standard output takes an output or what {named} prints: write the output to a \
                 file or leave {named} out"
            )
        );
    }
    let mut file = File::new();
    let z = file.input("z", DType::C64, &fixed(&[1]));
    let z = file.node("copy", &[z], &[]);
    file.output(z, "z", DType::C64, &fixed(&[1]));
    let model = folder.model(&file);
    let z = folder.array("z.npy", &[1], &[Complex32::new(1.0, 2.0)]);
    assert_eq!(
        refusal(&["run", &model, "--input", &z, "--top", "1"]),
        "output `z` is complex64, whose values have no order: leave --top out"
    );
}

/// Entry points "prefill" and "decode", each of which adds x f32[1] to a state that it returns.
fn language_model() -> File {
    let mut file = File::new();
    let one = fixed(&[1]);
    file.graph.name = "prefill".into();
    let x = file.input("x", DType::F32, &one);
    let before = file.state("sum", DType::F32, &[1]);
    let after = file.node("add", &[x, before], &[]);
    file.becomes(before, after);
    file.output(after, "y", DType::F32, &one);
    let graph = &file.graph;
    let decode = crate::proto::Entry {
        name: "decode".into(),
        inputs: graph.inputs.clone(),
        states: graph.states.clone(),
        nodes: graph.nodes.clone(),
        outputs: graph.outputs.clone(),
        ..Default::default()
    };
    file.graph.entries.push(decode);
    file
}

#[test]
fn the_examples_of_help_run() {
    let folder = Folder::new();
    std::fs::write(folder.path("lm.lmn"), language_model().bytes()).unwrap();
    folder.array("prompt.npy", &[1], &[1f32]);
    folder.array("tokens.npy", &[2, 1], &[2f32, 3.0]);
    let mut pair = File::new();
    for name in ["image", "mask"] {
        let x = pair.input(name, DType::F32, &fixed(&[1]));
        let y = pair.node("neg", &[x], &[]);
        pair.output(y, if name == "image" { "logits" } else { "rest" }, DType::F32, &fixed(&[1]));
    }
    let (single, pair) = (negation().bytes(), pair.bytes());
    folder.array("x.npy", &[1, 2], &[1f32, 2.0]);
    folder.array("float64.npy", &[1, 2], &[1f64, 2.0]);
    folder.array("a.npy", &[1], &[1f32]);
    folder.array("b.npy", &[1], &[2f32]);
    let one =
        npy([1, 0], "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", &2f32.to_le_bytes());
    let data = npz(false, &[("image.npy", &one), ("mask.npy", &one)]);
    std::fs::write(folder.path("data.npz"), data).unwrap();
    let mut count = 0;
    for help in [&["--help"][..], &["run", "--help"], &["inspect", "--help"], &["verify", "--help"]]
    {
        let output = lumina(help);
        let lines = stdout(&output).lines().filter(|line| line.starts_with("  "));
        let examples: Vec<&str> = lines.filter(|line| line.contains("lumina ")).collect();
        assert!(!examples.is_empty(), "{help:?}");
        for example in examples {
            let is_pair = example.contains("image=") || example.contains(" data.npz");
            std::fs::write(folder.path("net.lmn"), if is_pair { &pair } else { &single }).unwrap();
            let line = example.replace("lumina ", concat!(env!("CARGO_BIN_EXE_lumina"), " "));
            let line = line.replace("produce |", "cat x.npy |").replace("| consume", "> z.npy");
            let mut shell = Command::new("sh");
            let output = shell.args(["-c", &line]).current_dir(folder.path("")).output().unwrap();
            assert!(output.status.success(), "{example}: {output:?}");
            count += 1;
        }
    }
    assert_eq!(count, 14);
    assert_eq!(read::<f32>(&folder.path("y.npy")).1, [-1.0, -2.0]);
    assert_eq!(read::<f32>(&folder.path("z.npy")).1, [-1.0, -2.0]);
    assert!(folder.path("results.npz").exists());
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
        "in format 1.0, op set 4, written by test",
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
