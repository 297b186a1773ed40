//! `lumina convert`: what is in the ONNX file. That it computes the same, tests in Python show by ONNX
//! Runtime.

use lumina_runtime::{DType, Model, onnx};
use prost::Message;

use crate::build::*;
use crate::looping::looping;
use crate::program::{Folder, lumina, negation, refusal, seeded};

/// The parts of an ONNX file that are looked at.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OpSet>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct OpSet {
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Constant>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Port>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Port>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(string, tag = "6")]
    doc_string: String,
}

#[derive(Clone, PartialEq, Message)]
struct Constant {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Port {
    #[prost(string, tag = "1")]
    name: String,
}

fn converted(model: &Model, entry: Option<&str>) -> File {
    File::decode(&onnx::convert(model, entry).unwrap()[..]).unwrap()
}

fn names(ports: &[Port]) -> Vec<&str> {
    ports.iter().map(|port| port.name.as_str()).collect()
}

#[test]
fn a_product_is_a_matmul_of_named_weights() {
    let mut file = super::build::File::new();
    let batch = file.symbol("batch");
    let w = file.tensor("params['w']", &f32s(&[4, 3], &[0.5; 12]));
    let unused = file.tensor("unused", &f32s(&[1], &[0.5]));
    let x = file.input("x", DType::F32, &[batch.clone(), fixed(&[4])[0].clone()]);
    let y = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
    file.node("neg", &[unused], &[]);
    file.graph.nodes[0].source = "model.py:3 (Dense_0)".into();
    file.output(y, "y", DType::F32, &[batch, fixed(&[3])[0].clone()]);
    let file = converted(&file.load().unwrap(), None);
    assert_eq!(file.opset_import[0].version, onnx::OPSET);
    let graph = file.graph.unwrap();
    let [product, result] = &graph.node[..] else { panic!("{:?}", graph.node) };
    assert_eq!(product.op_type, "MatMul");
    assert_eq!(product.input, ["x", "params['w']"]);
    assert_eq!(product.name, "Dense_0/MatMul");
    assert_eq!(product.doc_string, "model.py:3 (Dense_0)");
    assert_eq!((result.op_type.as_str(), names(&graph.output)), ("Identity", vec!["y"]));
    // What nothing needs is left out.
    let [w] = &graph.initializer[..] else { panic!("{:?}", graph.initializer) };
    assert_eq!(w.name, "params['w']");
    assert_eq!(w.raw_data, [0.5f32; 12].map(f32::to_le_bytes).concat());
}

#[test]
fn states_are_inputs_and_outputs() {
    let model = Model::from_bytes(&looping()).unwrap();
    let file = converted(&model, Some("write"));
    let graph = file.graph.unwrap();
    assert_eq!(names(&graph.input), ["x", "cache", "count"]);
    let outputs = ["chosen", "lines", "trips", "cache.next", "count.next"];
    assert_eq!(names(&graph.output), outputs);
    let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    for op in ["Scan", "Loop", "If"] {
        assert!(ops.contains(&op), "{ops:?}");
    }
    let told = file.metadata_props.iter().find(|entry| entry.key == "lumina.states").unwrap();
    let expected = serde_json::json!([
        { "input": "cache", "output": "cache.next", "initial": "initial" },
        { "input": "count", "output": "count.next", "initial": null },
    ]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&told.value).unwrap(), expected);
    assert!(graph.initializer.iter().any(|constant| constant.name == "initial"));
    // An entry point that only looks at one of them has no more than that.
    let graph = converted(&model, Some("count")).graph.unwrap();
    assert_eq!((names(&graph.input), names(&graph.output)), (vec!["count"], vec!["count_1"]));
}

#[test]
fn a_key_that_is_an_output_stays() {
    let graph = converted(&seeded().load().unwrap(), None).graph.unwrap();
    assert_eq!(names(&graph.input), ["key", "x"]);
    assert_eq!(names(&graph.output), ["words", "y"]);
}

#[test]
fn files_are_written_and_refusals_name_all_nodes() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    let target = folder.string("m.onnx");
    let output = lumina(&["convert", &model, "-o", &target]);
    assert!(output.status.success(), "{output:?}");
    let graph = File::decode(&std::fs::read(&target).unwrap()[..]).unwrap().graph.unwrap();
    assert_eq!(graph.node[0].op_type, "Neg");
    let to_stdout = lumina(&["convert", &model, "-o", "-"]);
    assert_eq!(to_stdout.stdout, std::fs::read(&target).unwrap());
    assert_eq!(
        refusal(&["convert", &model, "-o", &folder.string("m.tflite")]),
        format!(
            "--output {} must end with .onnx, the format that is written",
            folder.string("m.tflite")
        )
    );
    assert_eq!(
        refusal(&["convert", &model, "-o", &target, "--entry", "decode"]),
        format!("{model}: there is no entry point `decode`; the file has none")
    );
    let mut file = super::build::File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let bits = file.node("bitcast_convert_type", &[x], &[("new_dtype", text("i32"))]);
    let counted = file.node("population_count", &[bits], &[]);
    let y = file.node("sin", &[x], &[]);
    file.graph.nodes[0].source = "model.py:7".into();
    file.output(counted, "bits", DType::I32, &fixed(&[2]));
    file.output(y, "y", DType::F32, &fixed(&[2]));
    let model = folder.model(&file);
    assert_eq!(
        refusal(&["convert", &model, "-o", &target]),
        format!(
            "{model}: 2 of 3 nodes cannot be written as ONNX: node 0 (`bitcast_convert_type`, \
             model.py:7): no op of ONNX, nor a few of them, computes it; node 1 \
             (`population_count`): no op of ONNX, nor a few of them, computes it"
        )
    );
}
