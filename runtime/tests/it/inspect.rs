//! All that is shown of a file.

use crate::proto::{Attr, Quantization, Region, Role, attr};
use lumina_runtime::DType;
use serde_json::{Value, json};

use crate::build::*;

/// A file with a part of every kind that can be shown.
fn file() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[2])[0].clone()];
    let x = file.input("x\n", DType::F32, &dims);
    file.input("key", DType::U32, &fixed(&[2]));
    file.graph.inputs[1].role = Role::NoiseSeed as i32;
    let w = file.tensor("w", &f32s(&[768], &[1.0; 768]));
    let scales = vec![1.0];
    file.graph.tensors[0].quantization =
        Some(Quantization { bits: 5, scales, ..Default::default() });
    let b = file.tensor("b", &f32s(&[1], &[2.0]));
    file.node("cumsum", &[x], &[("axis", int(0)), ("reverse", flag(true))]);
    let turned = file.node("transpose", &[x], &[("permutation", ints(&[1, 0]))]);
    let odd = [dim(&[(2, &[(0, 1)]), (1, &[])]), fixed(&[3])[0].clone()];
    let attrs = [("dtype", text("f32")), ("shape", shape(&odd)), ("dimension", int(1))];
    let count = file.node("iota", &[], &attrs);
    file.graph.nodes[2].source = "model.py:3 (\u{1b}[2J)".into();
    file.graph.nodes[2].fused = vec!["exp, div at m.py:2".into(), "\r".into()];
    file.output(turned, "turned", DType::F32, &[dims[1].clone(), dims[0].clone()]);
    file.output(count, "count", DType::F32, &odd);
    file.output(w, "w", DType::F32, &fixed(&[768]));
    file.output(b, "b", DType::F32, &fixed(&[1]));
    file.test(
        &[&f32s(&[1, 2], &[1.0, 2.0]), &u32s(&[2], &[0, 1])],
        &[
            &f32s(&[2, 1], &[1.0, 2.0]),
            &f32s(&[3, 3], &[0.0, 1.0, 2.0].repeat(3)),
            &f32s(&[768], &[1.0; 768]),
            &f32s(&[1], &[2.0]),
        ],
    );
    file
}

/// Kind, offset, length and checksum of each section, from the table in the header.
fn sections(file: &[u8]) -> Vec<(u32, u64, u64, u32)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let entry = |n: usize| 32 + 32 * n;
    (0..word(24) as usize)
        .map(entry)
        .map(|at| (word(at), long(at + 8), long(at + 16), word(at + 28)))
        .collect()
}

const KINDS: [&str; 5] = ["", "GRAPH", "WEIGHTS", "LUTS", "META"];

#[test]
fn json_says_all_there_is() {
    let file = file();
    let sections = sections(&file.bytes()).into_iter().map(|(kind, offset, length, crc32c)| {
        let kind = KINDS[kind as usize];
        json!({"kind": kind, "offset": offset, "length": length, "align": 64, "crc32c": crc32c})
    });
    let value = |id: u32, name: &str, dtype: &str, shape: Value, role: &str| json!({"id": id, "name": name, "dtype": dtype, "shape": shape, "role": role});
    let expected = json!({
        "format": "1.0",
        "opset": 4,
        "producer": "test",
        "bytes": file.bytes().len(),
        "name": "",
        "symbols": ["batch"],
        "states": [],
        "entries": [],
        "device": null,
        "wavelengths_nm": null,
        "crosstalk": null,
        "sections": sections.collect::<Vec<_>>(),
        "inputs": [
            value(0, "x\n", "f32", json!(["batch", 2]), "plain"),
            value(1, "key", "u32", json!([2]), "noise_seed"),
        ],
        "outputs": [
            value(5, "turned", "f32", json!([2, "batch"]), "plain"),
            value(6, "count", "f32", json!(["2*batch + 1", 3]), "plain"),
            value(2, "w", "f32", json!([768]), "plain"),
            value(3, "b", "f32", json!([1]), "plain"),
        ],
        "tensors": [
            {"id": 2, "name": "w", "dtype": "f32", "shape": [768], "offset": 0, "bits": 5},
            {"id": 3, "name": "b", "dtype": "f32", "shape": [1], "offset": 3072, "bits": null},
        ],
        "nodes": [
            {
                "op": "cumsum",
                "inputs": [0],
                "outputs": [4],
                "attrs": {"axis": 0, "reverse": true},
                "source": "",
                "fused": [],
            },
            {
                "op": "transpose",
                "inputs": [0],
                "outputs": [5],
                "attrs": {"permutation": [1, 0]},
                "source": "",
                "fused": [],
            },
            {
                "op": "iota",
                "inputs": [],
                "outputs": [6],
                "attrs": {"dimension": 1, "dtype": "f32", "shape": ["2*batch + 1", 3]},
                "source": "model.py:3 (\u{1b}[2J)",
                "fused": ["exp, div at m.py:2", "\r"],
            },
        ],
        "test_vectors": 1,
    });
    let got: Value = serde_json::from_str(&file.load().unwrap().to_json()).unwrap();
    assert_eq!(got, expected, "{got:#}");
}

#[test]
fn text_says_it_to_people() {
    let file = file();
    let bytes = file.bytes();
    let size = |bytes: u64| match bytes {
        0..1024 => format!("{bytes} B"),
        _ => format!("{:.1} KiB", bytes as f64 / 1024.0),
    };
    let mut expected = format!(
        "{} in format 1.0, op set 4, written by test\n\nsections\n",
        size(bytes.len() as u64)
    );
    for (kind, offset, length, crc) in sections(&bytes) {
        let (kind, length) = (KINDS[kind as usize], size(length));
        expected += &format!("  {kind:<8} {length:>10} at {offset}, crc32c {crc:08x}\n");
    }
    expected += r#"
inputs
  %0    x\n: f32[batch,2]
  %1    key: u32[2]  (noise seed)

outputs
  %5    turned: f32[2,batch]
  %6    count: f32[2*batch + 1,3]
  %2    w: f32[768]
  %3    b: f32[1]

tensors
  %2    w: f32[768]  5 bits
  %3    b: f32[1]

nodes
  %4 = cumsum(%0) axis=0 reverse=true
  %5 = transpose(%0) permutation=[1,0]
  %6 = iota() dimension=1 dtype="f32" shape=["2*batch + 1",3]  # model.py:3 (\u{1b}[2J)
    from exp, div at m.py:2
    from \r

1 test vector
"#;
    assert_eq!(file.load().unwrap().describe(), expected);
}

/// A weight of 4 bits in a scope, and one of 3 bits with a table in a branch.
fn file_of_codes() -> File {
    let mut file = File::new();
    let attrs = |bits, group| {
        let shape = ("shape", ints(&[128, 128]));
        [("bits", int(bits)), shape, ("transpose", flag(false)), ("group", int(group))]
    };
    let codes = file.tensor("w", &u32s(&[16, 128], &[0; 16 * 128]));
    let scale = file.tensor("", &f32s(&[1, 128], &[0.5; 128]));
    let one = file.tensor("", &f32s(&[1, 1], &[1.0]));
    let no_table = file.tensor("", &f32s(&[0, 16], &[]));
    let others = file.tensor("v", &u32s(&[12, 128], &[0; 12 * 128]));
    let table = file.tensor("", &f32s(&[1, 8], &[0.0; 8]));
    let scales = file.tensor("", &f32s(&[2, 1], &[1.0; 2]));
    let which = file.tensor("which", &i32s(&[], &[0]));
    let w = file.node("dequantize", &[codes, scale, one, no_table], &attrs(4, 128));
    let captures = vec![others, scales, one, table];
    let nodes = vec![node("dequantize", &[0, 1, 2, 3], &[4], &attrs(3, 64))];
    let region = Region { captures, inputs: 0, nodes, outputs: vec![4] };
    let branch = Attr { value: Some(attr::Value::Region(region)) };
    let v = file.node("cond", &[which], &[("branch_000", branch)]);
    for (id, name) in [(w, "w"), (v, "v")] {
        file.output(id, name, DType::F32, &fixed(&[128, 128]));
    }
    file
}

#[test]
fn weights_of_codes_are_told_with_what_they_take() {
    let model = file_of_codes().load().unwrap();
    let text = model.describe();
    for line in [
        "transpose=false  (4 bits, scale per column, 8.5 KiB for 64.0 KiB)\n",
        "transpose=false  (3 bits, scale per group of 64, a table, 6.0 KiB for 64.0 KiB)\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let json: Value = serde_json::from_str(&model.to_json()).unwrap();
    let weight = json!({
        "bits": 4, "scale": "column", "table": false, "bytes": 8708, "bytes_of_numbers": 65536,
    });
    assert_eq!(json["nodes"][0]["weight"], weight);
    let inner = &json["nodes"][1]["attrs"]["branch_000"]["nodes"][0]["weight"];
    assert_eq!(inner["scale"], "group of 64");
    assert_eq!(json["nodes"][1]["weight"], Value::Null);
}
