//! What differs between two files, and how it is told.

use std::process::Command;

use lumina_runtime::{DType, Tensor, diff};
use prost::Message as _;
use serde_json::{Value, json};

use crate::build::*;
use crate::proto::Quantization;

fn text(a: &File, b: &File) -> String {
    diff(&a.load().unwrap(), &b.load().unwrap()).unwrap().to_string()
}

fn changes(a: &File, b: &File) -> Value {
    diff(&a.load().unwrap(), &b.load().unwrap()).unwrap().to_json()["changes"].clone()
}

/// x · w + b, then these functions of one operand, with two constants of names and a third without.
struct Net<'a> {
    w: &'a Tensor,
    unnamed: &'a [f32],
    functions: &'a [&'a str],
    axis: i64,
}

impl Net<'_> {
    fn file(&self) -> File {
        let mut file = File::new();
        let batch = file.symbol("batch");
        let dims = [batch, fixed(&[2])[0].clone()];
        let x = file.input("x", DType::F32, &dims);
        let w = file.tensor("w", self.w);
        let unnamed = file.tensor("", &f32s(&[], self.unnamed));
        let mut value = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
        value = file.node("max", &[value, unnamed], &[]);
        for function in self.functions {
            value = file.node(function, &[value], &[]);
        }
        value =
            file.node("cumsum", &[value], &[("axis", int(self.axis)), ("reverse", flag(false))]);
        for (index, node) in file.graph.nodes.iter_mut().enumerate() {
            node.source = format!("net.py:{} (Net/Layer)", 10 + index);
        }
        file.output(value, "y", DType::F32, &dims);
        file
    }
}

fn w() -> Tensor {
    f32s(&[2, 2], &[3.0, 4.0, 0.0, 0.0])
}

fn net(w: &Tensor) -> Net<'_> {
    Net { w, unnamed: &[0.0], functions: &["tanh", "exp"], axis: 1 }
}

#[test]
fn a_file_is_like_itself() {
    let file = net(&w()).file();
    assert_eq!(text(&file, &file), "the files are the same");
    let found = diff(&file.load().unwrap(), &file.load().unwrap()).unwrap();
    let bytes = file.bytes().len();
    let expected = json!({
        "alike": true,
        "same_bytes": true,
        "bytes": { "a": bytes, "b": bytes },
        "changes": {},
    });
    assert_eq!((found.is_empty(), found.to_json()), (true, expected));
}

/// Such as a weight that is there in two orders.
#[test]
fn constants_of_one_name_are_matched_in_their_order() {
    let file = |second: f32| {
        let mut file = File::new();
        let x = file.input("x", DType::F32, &fixed(&[2]));
        let constants = [1.0, second].map(|value| file.tensor("w", &f32s(&[2], &[value; 2])));
        let sum = file.node("add", &[x, constants[0]], &[]);
        let product = file.node("mul", &[sum, constants[1]], &[]);
        file.output(product, "y", DType::F32, &fixed(&[2]));
        file
    };
    assert_eq!(text(&file(2.0), &file(2.0)), "the files are the same");
    let found = changes(&file(2.0), &file(3.0));
    assert_eq!(found["weights"].as_array().unwrap().len(), 1, "{found:#}");
    assert_eq!(found["weights"][0]["numbers"]["max_abs_diff"], 1.0);
}

#[test]
fn lines_of_sources_are_no_difference() {
    let (a, mut b) = (net(&w()).file(), net(&w()).file());
    b.graph.nodes[1].source = "net.py:999 (Net/Layer)".into();
    let expected = "alike: only what a run does not see differs, such as lines of sources";
    assert_eq!(text(&a, &b), expected);
    b.graph.nodes[1].source = "net.py:999 (Net/Other)".into();
    let expected =
        "nodes\n  ~ node 1 (`max`, net.py:999 (Net/Other)): module Net/Layer → Net/Other";
    assert!(text(&a, &b).starts_with(expected), "{}", text(&a, &b));
}

#[test]
fn a_node_that_is_put_in_between_is_one_line() {
    let w = w();
    let a = net(&w).file();
    let b = Net { functions: &["tanh", "sin", "exp"], ..net(&w) }.file();
    let size = |file: &File| file.graph.encoded_len();
    let expected = |sign: &str, node: &str, from, to| {
        format!("nodes\n  {sign} {node}\n\nsections\n  ~ GRAPH: bytes {from} → {to}")
    };
    let node = "node 3 (`sin`, net.py:13 (Net/Layer))";
    assert_eq!(text(&a, &b), expected("+", node, size(&a), size(&b)));
    assert_eq!(text(&b, &a), expected("-", node, size(&b), size(&a)));
}

#[test]
fn attributes_and_operands_are_compared() {
    let w = w();
    let a = net(&w).file();
    let mut b = Net { axis: 0, ..net(&w) }.file();
    // tanh of the product, not of the maximum.
    b.graph.nodes[2].inputs = vec![3];
    let nodes = &changes(&a, &b)["nodes"];
    let expected = json!([
        {
            "kind": "changed",
            "what": "node 2 (`tanh`, net.py:12 (Net/Layer))",
            "details": [{"name": "operand 0", "a": "%4", "b": "%3, not %4"}],
        },
        {
            "kind": "changed",
            "what": "node 4 (`cumsum`, net.py:14 (Net/Layer))",
            "details": [{"name": "axis", "a": 1, "b": 0}],
        },
    ]);
    assert_eq!(nodes, &expected, "{nodes:#}");
}

#[test]
fn numbers_of_weights_are_compared() {
    let (old, new) = (w(), f32s(&[2, 2], &[3.0, 3.0, 0.0, 2.0]));
    let a = net(&old).file();
    let b = Net { unnamed: &[f32::NAN], ..net(&new) }.file();
    let weights = &changes(&a, &b)["weights"];
    let numbers = &weights[0]["numbers"];
    assert_eq!((&weights[0]["what"], &numbers["differ"]), (&json!("w"), &json!(2)));
    assert_eq!(numbers["max_abs_diff"], json!(2.0));
    assert_eq!(numbers["rms_diff"], json!((5.0f64 / 4.0).sqrt()));
    assert_eq!(numbers["sqnr_db"], json!(10.0 * (25.0f64 / 5.0).log10()));
    let expected = "weights\n  \
        ~ w: 2 of 4 numbers differ, max |Δ| 2.000e0, rms Δ 1.118e0, SQNR 7.0 dB\n  \
        ~ operand 1 of node 1 (`max`, net.py:11 (Net/Layer)): 1 of 1 numbers differ, 1 of them not finite";
    assert_eq!(text(&a, &b), expected);
}

#[test]
fn types_and_shapes_of_weights_are_compared() {
    let old = w();
    let a = net(&old).file();
    let mut b = net(&old).file();
    let scales = vec![1.0];
    b.graph.tensors[0].quantization = Some(Quantization { bits: 5, scales, ..Default::default() });
    let details = &changes(&a, &b)["weights"][0]["details"];
    assert_eq!(details, &json!([{"name": "bits", "a": null, "b": 5}]));
    let mut c = File::new();
    let x = c.input("x", DType::F32, &fixed(&[3]));
    c.tensor("w", &i32s(&[3], &[1, 2, 3]));
    c.output(x, "y", DType::F32, &fixed(&[3]));
    let found = changes(&a, &c);
    let names: Vec<&str> = found["weights"][0]["details"]
        .as_array()
        .unwrap()
        .iter()
        .map(|detail| detail["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["type", "stored as", "bytes"]);
    assert_eq!(found["weights"][1]["kind"], "removed");
    let shape = json!({"name": "shape", "a": ["batch", 2], "b": [3]});
    assert_eq!(found["inputs"][0]["details"], json!([shape]));
    assert_eq!(found["symbols"][0], json!({"kind": "removed", "what": "batch", "details": []}));
    let removed: Vec<&Value> =
        found["nodes"].as_array().unwrap().iter().map(|node| &node["kind"]).collect();
    assert_eq!(removed, ["removed"; 5]);
}

/// A matrix of the codes 0 to 3 times this scale.
fn coded(scale: f32) -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1, 4]));
    let codes = file.tensor("w", &u32s(&[1, 1], &[0x0302_0100]));
    let inputs = [
        codes,
        file.tensor("", &f32s(&[1, 1], &[scale])),
        file.tensor("", &f32s(&[1, 1], &[0.0])),
        file.tensor("", &f32s(&[0, 4], &[])),
    ];
    let attrs =
        [("bits", int(2)), ("shape", ints(&[4, 1])), ("group", int(4)), ("transpose", flag(false))];
    let w = file.node("dequantize", &inputs, &attrs);
    let y = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
    file.output(y, "y", DType::F32, &fixed(&[1, 1]));
    file
}

#[test]
fn codes_are_the_numbers_that_they_stand_for() {
    let mut plain = File::new();
    let x = plain.input("x", DType::F32, &fixed(&[1, 4]));
    let w = plain.tensor("w", &f32s(&[4, 1], &[0.0, 0.5, 1.0, 1.75]));
    let y = plain.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
    plain.output(y, "y", DType::F32, &fixed(&[1, 1]));
    let found = changes(&plain, &coded(0.5));
    assert_eq!(found["nodes"], Value::Null, "{found:#}");
    assert_eq!(found["weights"].as_array().unwrap().len(), 1);
    let weight = &found["weights"][0];
    let stored = json!({"name": "stored as", "a": "f32", "b": "codes of 2 bits"});
    assert_eq!((&weight["what"], &weight["details"][0]), (&json!("w"), &stored));
    assert_eq!(weight["numbers"]["differ"], json!(1));
    assert_eq!(weight["numbers"]["max_abs_diff"], json!(0.25));
    // Of a scale that is another, all numbers but zero are others.
    let found = &changes(&coded(0.5), &coded(0.25))["weights"];
    assert_eq!((found.as_array().unwrap().len(), &found[0]["numbers"]["differ"]), (1, &json!(3)));
}

#[test]
fn entry_points_states_and_tests_are_compared() {
    let file = |states: &[&str], tolerance: f64| {
        let mut file = File::new();
        let x = file.input("x", DType::F32, &fixed(&[1]));
        for name in states {
            file.state(name, DType::F32, &[2]);
        }
        file.output(x, "y", DType::F32, &fixed(&[1]));
        file.test(&[&f32s(&[1], &[1.0])], &[&f32s(&[1], &[1.0])]);
        file.graph.tests[0].absolute_tolerance = tolerance;
        file.graph.opset = 6;
        file
    };
    let a = file(&["cache"], 1e-6);
    let mut b = file(&["cache", "more"], 1e-3);
    b.meta[64..68].copy_from_slice(&1.5f32.to_le_bytes());
    let found = changes(&a, &b);
    assert_eq!(found["states"], json!([{"kind": "added", "what": "more", "details": []}]));
    let tolerance = json!({"name": "absolute_tolerance", "a": 1e-6, "b": 1e-3});
    assert_eq!(found["tests"][0]["details"], json!([tolerance]));
    assert_eq!(found["tests"][1]["what"], "test vector 0, output 0");
    assert_eq!(found["tests"][1]["numbers"]["max_abs_diff"], 0.5);
}

#[test]
fn regions_are_compared_inside() {
    let file = |op: &str, unnamed: f32| {
        let mut file = File::new();
        let x = file.input("x", DType::F32, &fixed(&[2]));
        let constant = file.tensor("", &f32s(&[], &[unnamed]));
        let nodes = vec![node("mul", &[1, 0], &[2], &[]), node(op, &[2], &[3], &[])];
        let body = region(&[constant], 1, nodes, &[3]);
        let attrs =
            [("body", body), ("length", ints(&[3])), ("carries", int(1)), ("reverse", flag(false))];
        let y = file.node("scan", &[x], &attrs);
        file.output(y, "y", DType::F32, &fixed(&[2]));
        file
    };
    let found = changes(&file("tanh", 1.0), &file("sin", 1.5));
    let place = "node 0 (`scan`), region `body`: node 1";
    let expected = json!([
        {"kind": "removed", "what": format!("{place} (`tanh`)"), "details": []},
        {"kind": "added", "what": format!("{place} (`sin`)"), "details": []},
    ]);
    assert_eq!(found["nodes"], expected);
    assert_eq!(found["weights"][0]["numbers"]["max_abs_diff"], 0.5);
}

/// Two long chains that have nothing in common but one node.
#[test]
fn files_that_have_little_in_common_are_compared() {
    let chain = |op: &str| {
        let mut file = File::new();
        let mut value = file.input("x", DType::F32, &fixed(&[1]));
        value = file.node("exp", &[value], &[]);
        (0..5000).for_each(|_| value = file.node(op, &[value], &[]));
        file.output(value, "y", DType::F32, &fixed(&[1]));
        file
    };
    let found = changes(&chain("sin"), &chain("cos"));
    assert_eq!(found["nodes"].as_array().unwrap().len(), 10_000);
}

#[test]
fn processors_and_tiles_are_compared() {
    let a = crate::device::on_a_device();
    let mut b = a.clone();
    b.graph.device.as_mut().unwrap().settling_s *= 2.0;
    let settling = |file: &File| json!(file.graph.device.as_ref().unwrap().settling_s);
    let detail = json!({"name": "settling_s", "a": settling(&a), "b": settling(&b)});
    let found = changes(&a, &b);
    assert_eq!(found["processor"][0]["details"], json!([detail]), "{found:#}");
    assert_eq!(found["nodes"], Value::Null);
    b.graph.device = None;
    b.graph.wdm = None;
    b.graph.crosstalk = None;
    b.graph.nodes.iter_mut().for_each(|node| node.execution = None);
    let found = changes(&a, &b);
    assert_eq!(found["processor"][0]["kind"], "removed");
    assert_eq!(found["nodes"][0]["details"][0]["name"], "product 0, layer");
}

/// Tests that start the program, which are left out where the tests are those of another machine.
mod cli {
    use super::*;

    #[test]
    fn the_exit_code_tells() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let w = w();
        let a = path("a.lmn", &net(&w).file().bytes());
        let b = path("b.lmn", &Net { axis: 0, ..net(&w) }.file().bytes());
        let wrong = path("wrong.lmn", b"no file");
        let run = |args: &[&std::path::Path]| {
            let output =
                Command::new(env!("CARGO_BIN_EXE_lumina")).arg("diff").args(args).output().unwrap();
            let [out, fault] =
                [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
            (output.status.code(), out, fault)
        };
        let (code, out, _) = run(&[&a, &a]);
        assert_eq!((code, &*out), (Some(0), "the files are the same\n"));
        let (code, out, _) = run(&[&a, &b]);
        let expected = "nodes\n  ~ node 4 (`cumsum`, net.py:14 (Net/Layer)): axis 1 → 0\n";
        assert_eq!((code, &out[..expected.len()]), (Some(1), expected));
        let (code, out, _) = run(&[&a, &b, std::path::Path::new("--json")]);
        assert_eq!(code, Some(1));
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["alike"], json!(false));
        let (code, out, fault) = run(&[&a, &wrong]);
        assert_eq!((code, &*out), (Some(2), ""));
        assert!(fault.contains("wrong.lmn: not a .lmn file"), "{fault}");
    }
}
