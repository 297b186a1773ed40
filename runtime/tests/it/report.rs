//! The page about a file, and the JSON in it.

use std::path::Path;
use std::process::Command;

use lumina_runtime::{DType, Fact, Model, Options, ReportOptions, report};
use serde_json::{Value, json};

use crate::build::*;

fn page(model: &Model, symbols: &[(&str, u64)]) -> Result<String, String> {
    let symbols = symbols.iter().map(|&(name, value)| (name.to_string(), value)).collect();
    let options = ReportOptions { title: "m.lmn".into(), symbols, ..ReportOptions::default() };
    report(model, &options).map_err(|error| error.to_string())
}

/// What lies between the marks, of which the page has one each.
fn between<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = page.split_once(before).unwrap();
    let (found, rest) = rest.split_once(after).unwrap();
    assert!(!rest.contains(before), "{before} is there twice");
    found
}

fn json_of(page: &str) -> Value {
    let text = between(page, r#"<script type="application/json" id="data">"#, "</script>");
    serde_json::from_str(text).unwrap()
}

fn shown(file: &File, symbols: &[(&str, u64)]) -> Value {
    json_of(&page(&file.load().unwrap(), symbols).unwrap())
}

/// tanh(x · w) + x over a batch, of which the file has a test vector if it `is_tested`.
fn network(is_tested: bool) -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[2])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let w = file.tensor("w", &f32s(&[2, 2], &[1.0, 0.0, -1.0, 2.0]));
    let product = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
    let curve = file.node("tanh", &[product], &[]);
    let sum = file.node("add", &[curve, x], &[]);
    file.graph.nodes[1].source = "net.py:3 (Net/Layer_0)".into();
    file.graph.nodes[1].fused = vec!["exp, div at net.py:3".into()];
    file.output(sum, "y", DType::F32, &dims);
    if is_tested {
        let zeros = f32s(&[3, 2], &[0.0; 6]);
        file.test(&[&zeros], &[&zeros]);
    }
    file
}

#[test]
fn nodes_have_the_types_of_all_values() {
    let got = shown(&network(true), &[]);
    let entry = &got["entries"][0];
    let symbol = json!({"name": "batch", "value": 3, "origin": "as in the test vector"});
    assert_eq!(entry["symbols"], json!([symbol]));
    let node = json!({
        "op": "tanh",
        "inputs": [2],
        "outputs": [3],
        "operand_types": ["f32[3,2]"],
        "types": ["f32[3,2]"],
        "attrs": {},
        "file": "net.py:3",
        "module": "Net/Layer_0",
        "fused": ["exp, div at net.py:3"],
    });
    assert_eq!(entry["nodes"][1], node);
    assert_eq!(entry["nodes"][0]["operand_types"], json!(["f32[3,2]", "f32[2,2]"]));
    let statistics = json!({
        "count": 4, "nonfinite": 0, "zeros": 1, "min": -1.0, "max": 2.0, "mean": 0.5,
        "std": 1.118033988749895,
        "bins": got["tensors"][0]["statistics"]["bins"],
    });
    assert_eq!(got["tensors"][0]["statistics"], statistics);
    assert_eq!(got["tests"][0]["inputs"], json!([["x", "f32[3,2]"]]));
}

#[test]
fn symbols_are_what_is_given() {
    let types = |file: &File, symbols: &[(&str, u64)]| {
        let entry = &shown(file, symbols)["entries"][0];
        (entry["nodes"][1]["types"][0].clone(), entry["symbols"][0]["origin"].clone())
    };
    assert_eq!(types(&network(true), &[("batch", 7)]), (json!("f32[7,2]"), json!("as given")));
    let default = (json!("f32[1,2]"), json!("as nothing says otherwise"));
    assert_eq!(types(&network(false), &[]), default);
    let refused = |symbols| page(&network(true).load().unwrap(), symbols).unwrap_err();
    assert_eq!(refused(&[("time", 2)]), "there is no symbol `time`; the model has `batch`");
    let huge = refused(&[("batch", u64::MAX)]);
    assert_eq!(
        huge,
        "input `x`, f32[batch,2]: a tensor of f32[18446744073709551615,2] is too large \
         with batch = 18446744073709551615"
    );
}

#[test]
fn values_that_fit_no_node_are_told() {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let x = file.input("x", DType::F32, std::slice::from_ref(&batch));
    let w = file.tensor("w", &f32s(&[2], &[1.0; 2]));
    let sum = file.node("add", &[x, w], &[]);
    file.output(sum, "y", DType::F32, &[batch]);
    let refused = page(&file.load().unwrap(), &[]).unwrap_err();
    assert!(refused.starts_with("with batch = 1: node 0 (`add`): "), "{refused}");
    assert!(refused.ends_with("; other values may do"), "{refused}");
    page(&file.load().unwrap(), &[("batch", 2)]).unwrap();
}

/// The first node makes a value in a buffer, the second one another of it in its place, and so does
/// the third.
#[test]
fn memory_is_that_of_the_plan() {
    let memory = &shown(&network(true), &[])["entries"][0]["memory"];
    assert_eq!(memory["steps"], json!([[0, "op"], [1, "in_place"], [2, "in_place"]]));
    let spans: Vec<&Value> = memory["spans"].as_array().unwrap().iter().collect();
    assert_eq!(
        spans,
        [
            &json!([0, 0, 0, 24, "value", 2]),
            &json!([0, 1, 1, 24, "value", 3]),
            &json!([0, 2, 2, 24, "value", 4]),
        ]
    );
    assert_eq!(memory["buffers"], json!([24]));
    assert_eq!((&memory["peak"], &memory["allocated"]), (&json!(24.0), &json!(24.0)));
    let options = ReportOptions {
        options: Options { memory_limit: 8, ..Options::default() },
        ..ReportOptions::default()
    };
    let page = report(&network(true).load().unwrap(), &options).unwrap();
    let memory = &json_of(&page)["entries"][0]["memory"];
    let text = "these input shapes need 24 bytes of buffers, the limit is 8";
    assert_eq!(memory, &json!({ "error": text }));
}

/// Two values of 8 bytes that are needed at once, then their sum over the first of them.
#[test]
fn what_is_needed_at_once_is_counted_once() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let [a, b] = ["tanh", "exp"].map(|op| file.node(op, &[x], &[]));
    let sum = file.node("add", &[a, b], &[]);
    file.output(sum, "y", DType::F32, &fixed(&[2]));
    let memory = &shown(&file, &[])["entries"][0]["memory"];
    assert_eq!((&memory["peak"], &memory["peak_step"]), (&json!(16.0), &json!(1)));
    assert_eq!(memory["buffers"], json!([8, 8]));
}

#[test]
fn states_are_there_all_the_time() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let before = file.state("sum", DType::F32, &[2]);
    let after = file.node("add", &[before, x], &[]);
    file.becomes(before, after);
    let root = file.node("sqrt", &[after], &[]);
    file.output(root, "y", DType::F32, &fixed(&[2]));
    let memory = &shown(&file, &[])["entries"][0]["memory"];
    assert_eq!(memory["state_buffers"], json!(1));
    assert_eq!(memory["spans"][0], json!([0, 0, 1, 8, "state", null]));
}

/// Operands of `optical_matmul` with these weights and full scales of each column.
fn optical(w: &[f32], scales: &[f32], bits: i64) -> Value {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1, 2]));
    let columns = w.len() / 2;
    let mut inputs = vec![x, file.tensor("w", &f32s(&[2, columns], w))];
    for (shape, numbers) in [
        (vec![1], &[0.0][..]),
        (vec![0], &[]),
        (vec![scales.len()], scales),
        (vec![1], &[4.0]),
        (vec![1, 4], &[0.5, 0.0, 0.25, 0.0]),
    ] {
        inputs.push(file.tensor("", &f32s(&shape, numbers)));
    }
    inputs.push(file.tensor("", &u32s(&[1, 2], &[0, 1])));
    inputs.push(file.tensor("", &u32s(&[1], &[0])));
    let ids: Vec<u32> = (0..columns as u32).collect();
    inputs.push(file.tensor("", &u32s(&[columns], &ids)));
    let attrs = [
        ("dac_bits", int(8)),
        ("weight_bits", int(bits)),
        ("adc_bits", int(0)),
        ("noisy", flag(true)),
        ("array_rows", int(0)),
        ("transpose_weight", flag(false)),
    ];
    let y = file.node("optical_matmul", &inputs, &attrs);
    file.output(y, "y", DType::F32, &fixed(&[1, columns]));
    shown(&file, &[])["entries"][0]["nodes"][0]["optical"].clone()
}

#[test]
fn converters_have_their_ranges() {
    // Codes of 3 bits are -3 … 3; of the first column the step is 1, of the second 2.
    let got = optical(&[2.6, -9.0, 0.5, 4.0], &[3.0, 6.0], 3);
    let converters = json!([
        {"what": "DAC of x", "bits": 8, "full_scale": "found in each run"},
        {"what": "DAC of the weights", "bits": 3, "full_scale": {"min": 3.0, "max": 6.0, "count": 2}},
        {"what": "ADC", "bits": 0, "full_scale": {"min": 4.0, "max": 4.0, "count": 1}},
    ]);
    assert_eq!(got["converters"], converters);
    assert_eq!((&got["noisy"], &got["noise"]), (&json!(true), &json!([0.5, 0.0, 0.25, 0.0])));
    let weights = &got["weights"];
    // 2.6 becomes 3, -9 is clipped to -3, 0.5 becomes 0 as half goes to even, 4 is 2 · 2.
    assert_eq!(weights["bins"], json!([1, 0, 0, 1, 0, 1, 1]));
    assert_eq!((&weights["levels_used"], &weights["levels"]), (&json!(4), &json!(7)));
    assert_eq!(weights["clipped"], json!(1));
    let signal = 2.6f64.powi(2) + 81.0 + 0.25 + 16.0;
    let noise = 0.4f64.powi(2) + 9.0 + 0.25;
    let sqnr = weights["sqnr_db"].as_f64().unwrap();
    assert!((sqnr - 10.0 * (signal / noise).log10()).abs() < 1e-5, "{sqnr}");
}

#[test]
fn full_scales_that_are_not_there_are_found() {
    let weights = &optical(&[1.0, -8.0, f32::NAN, 2.0], &[], 1)["weights"];
    assert_eq!(weights["found"], json!(true));
    assert_eq!(weights["full_scale"], json!({"min": 1.0, "max": 8.0}));
    // Signs: 1, 8 and 2; zero is no level.
    assert_eq!((&weights["bins"], &weights["levels"]), (&json!([1, 0, 2]), &json!(2)));
}

#[test]
fn nothing_in_a_file_becomes_markup() {
    let mut file = network(true);
    let hostile = "</script><script>alert(1)</script><!--<script>&\u{2028}";
    file.graph.tensors[0].name = hostile.into();
    file.graph.inputs[0].name = hostile.into();
    file.graph.producer = hostile.into();
    file.graph.nodes[0].source = format!("{hostile} ({hostile})");
    file.graph.nodes[0].fused = vec![hostile.into()];
    let options = ReportOptions { title: hostile.into(), ..ReportOptions::default() };
    let page = report(&file.load().unwrap(), &options).unwrap();
    let tags = |page: &str| page.matches('<').count();
    assert_eq!(tags(&page), tags(&report(&network(true).load().unwrap(), &options).unwrap()));
    let json = json_of(&page);
    for found in
        [&json["title"], &json["tensors"][0]["name"], &json["entries"][0]["nodes"][0]["fused"][0]]
    {
        assert_eq!(found, hostile);
    }
}

#[test]
fn the_page_allows_its_own_script_alone() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let page = page(&network(true).load().unwrap(), &[]).unwrap();
    let policy = between(&page, "http-equiv=\"Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for (kind, text) in [
        ("script-src", between(&page, "<script>", "</script>")),
        ("style-src", between(&page, "<style>", "</style>")),
    ] {
        let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(text));
        assert!(policy.contains(&format!("{kind} 'sha256-{hash}'")), "{policy}");
    }
    for link in ["http:", "https:", "src=", "url("] {
        let found = page.match_indices(link).map(|(at, _)| &page[at..at + 40]);
        // The name of SVG is no address.
        let found: Vec<&str> =
            found.filter(|text| !text.starts_with("http://www.w3.org/2000/svg")).collect();
        assert_eq!(found, [""; 0]);
    }
}

#[test]
fn regions_have_nodes_of_their_own() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let body = region(&[], 1, vec![node("tanh", &[0], &[1], &[])], &[1]);
    let attrs =
        [("body", body), ("length", ints(&[3])), ("carries", int(1)), ("reverse", flag(false))];
    let y = file.node("scan", &[x], &attrs);
    file.output(y, "y", DType::F32, &fixed(&[2]));
    let entry = &shown(&file, &[])["entries"][0];
    let regions = entry["nodes"][0]["regions"].as_array().unwrap();
    assert_eq!((&regions[0]["name"], &regions[0]["inputs"]), (&json!("body"), &json!(1)));
    assert_eq!(regions[0]["nodes"][0]["types"], json!([Fact::new(DType::F32, [2]).to_string()]));
    assert_eq!(entry["memory"]["steps"], json!([[0, "control"]]));
}

fn lumina(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let program = Command::new(env!("CARGO_BIN_EXE_lumina"))
        .arg("report")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (program.status.code(), text(program.stdout), text(program.stderr))
}

#[test]
fn a_benchmark_is_one_of_the_model() {
    let with = |bench: &str| {
        let bench = Some(bench.to_string());
        let options = ReportOptions { bench, ..ReportOptions::default() };
        report(&network(true).load().unwrap(), &options).map_err(|error| error.to_string())
    };
    let row = |node: &str, op: &str| json!({"entry": "", "nodes": [{"node": node, "op": op, "ms_per_run": 1.0, "share": null}]});
    // What a plan adds has an op that the file does not.
    for bench in [row("1", "tanh"), row("1", "copy"), json!({"entry": "", "nodes": []})] {
        assert_eq!(json_of(&with(&bench.to_string()).unwrap())["bench"], bench);
    }
    for (bench, message) in [
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("{}", "`entry` must be a text"),
        (r#"{"entry": "decode"}"#, "its entry point `decode` is none that the report shows"),
        (r#"{"entry": ""}"#, "`nodes` must be a list"),
        (r#"{"entry": "", "nodes": [{"op": 3}]}"#, "`nodes[0]`: `node` must be a text, got null"),
        (
            r#"{"entry": "", "nodes": [{"node": "1", "op": "tanh"}]}"#,
            "`nodes[0]`: `ms_per_run` must be a number, got null",
        ),
    ] {
        let expected =
            format!("the benchmark: {message}; `lumina bench --nodes --json` writes one");
        assert_eq!(with(bench).unwrap_err(), expected);
    }
    for (bench, message) in [
        (row("1", "add"), "it has node 1 `add`, and the file has `tanh` there"),
        (row("9", "add"), "the file has no node 9"),
        (row("1.body.0", "add"), "the file has no node 1.body.0"),
    ] {
        let message = format!("the benchmark: `nodes[0]`: {message}: it is of another model; ");
        let refused = with(&bench.to_string()).unwrap_err();
        assert!(refused.starts_with(&message), "{refused}");
    }
}

/// 0 … 3 in codes of 2 bits, in halves.
#[test]
fn codes_are_shown_as_numbers() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1, 4]));
    let inputs = [
        file.tensor("w", &u32s(&[1, 1], &[0x0302_0100])),
        file.tensor("", &f32s(&[1, 1], &[0.5])),
        file.tensor("", &f32s(&[1, 1], &[0.0])),
        file.tensor("", &f32s(&[0, 4], &[])),
    ];
    let attrs =
        [("bits", int(2)), ("shape", ints(&[4, 1])), ("group", int(4)), ("transpose", flag(false))];
    let w = file.node("dequantize", &inputs, &attrs);
    let y = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
    file.output(y, "y", DType::F32, &fixed(&[1, 1]));
    let coded = &shown(&file, &[])["tensors"][0]["coded"];
    assert_eq!((&coded["bits"], &coded["type"]), (&json!(2), &json!("f32[4,1]")));
    assert_eq!(coded["codes"], json!([1, 1, 1, 1]));
    let statistics = &coded["statistics"];
    assert_eq!((&statistics["max"], &statistics["mean"]), (&json!(1.5), &json!(0.75)));
}

#[test]
fn the_schedule_is_that_of_the_processor() {
    let file = crate::device::on_a_device();
    let entry = &shown(&file, &[])["entries"][0];
    let symbols = entry["symbols"].as_array().unwrap().iter();
    let symbols: Vec<(String, u64)> = symbols
        .map(|it| (it["name"].as_str().unwrap().into(), it["value"].as_u64().unwrap()))
        .collect();
    let schedule = file.load().unwrap().schedule(&symbols).unwrap().to_json();
    // Read as the page is, because a number that is read may be off in its last place.
    let schedule: Value = serde_json::from_str(&schedule.to_string()).unwrap();
    let got = &entry["schedule"];
    for name in ["device", "wavelengths_nm", "crosstalk"] {
        assert_eq!(got[name], schedule[name], "{name}");
    }
    for name in ["notes", "layers", "totals"] {
        assert_eq!(got[name], schedule["entries"][0][name], "{name}");
    }
    assert_eq!(shown(&network(true), &[])["entries"][0]["schedule"], Value::Null);
}

/// Tests that start the program, which are left out where the tests are those of another machine.
mod cli {
    use super::*;

    #[test]
    fn the_program_writes_the_page() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("m.lmn"), network(true).bytes()).unwrap();
        let run = |args: &[&str]| lumina(folder.path(), &[&["m.lmn"], args].concat());
        let done = (Some(0), String::new(), String::new());
        assert_eq!(run(&["-o", "page.html", "--symbol", "batch=5"]), done);
        let written = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
        assert_eq!(written, page(&network(true).load().unwrap(), &[("batch", 5)]).unwrap());
        let (_, printed, _) = run(&["-o", "-", "--symbol", "batch=5"]);
        assert_eq!(printed, written);
        for (args, message) in [
            (vec!["-o", "m.lmn"], "error: --output m.lmn leads to the file of the model\n"),
            (
                vec!["-o", "p.html", "--entry", "decode"],
                "error: m.lmn: there is no entry point `decode`; the file has none\n",
            ),
            (vec!["-o", "p.html", "--bench", "none.json"], "error: cannot read `none.json`: "),
        ] {
            let (code, out, fault) = run(&args);
            assert_eq!((code, &*out), (Some(2), ""));
            assert!(fault.starts_with(message), "{fault}");
        }
        let (_, _, fault) = run(&["-o", "p.html", "--symbol", "batch"]);
        assert!(fault.contains("expected NAME=N, such as batch=8, got `batch`"), "{fault}");
        assert!(!folder.path().join("p.html").exists());
    }
}
