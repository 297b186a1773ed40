//! `lumina inspect`: what is in a file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use lumina_runtime::proto::{Attr, Dim, Graph, Node, Role, Value, attr};
use lumina_runtime::{Model, Section};
use serde_json::{Map, json};

use crate::{Failure, printable};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The .lmn file
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let model = Model::load(&self.model).map_err(Failure::of(&self.model))?;
        let text = if self.json {
            format!("{:#}\n", as_json(&model))
        } else {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = write_text(&mut text, &model);
            text
        };
        // A reader that has seen enough may close the pipe.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}

fn write_text(out: &mut String, model: &Model) -> std::fmt::Result {
    let graph = model.graph();
    let (major, minor) = model.version();
    writeln!(
        out,
        "{} in format {major}.{minor}, op set {}, written by {}",
        size(model.file_len() as u64),
        graph.opset,
        printable(&graph.producer)
    )?;
    writeln!(out, "\nsections")?;
    for section in model.sections() {
        let (offset, length) = (section.range.start, size(section.range.len() as u64));
        let crc = section.crc32c;
        writeln!(out, "  {:<8} {length:>10} at {offset}, crc32c {crc:08x}", kind(section))?;
    }
    for (title, values) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
        writeln!(out, "\n{title}")?;
        for value in values {
            let seed = if value.role() == Role::NoiseSeed { "  (noise seed)" } else { "" };
            let (name, words) = (printable(&value.name), model.describe_value(value));
            writeln!(out, "  %{:<4} {name}: {words}{seed}", value.id)?;
        }
    }
    writeln!(out, "\ntensors")?;
    for tensor in &graph.tensors {
        let words = model.describe_tensor(tensor);
        let name = printable(&tensor.name);
        let bits = tensor.quantization.as_ref().map(|q| format!("  {} bits", q.bits));
        writeln!(out, "  %{:<4} {name}: {words}{}", tensor.id, bits.unwrap_or_default())?;
    }
    writeln!(out, "\nnodes")?;
    for node in &graph.nodes {
        write_node(out, node, graph)?;
    }
    let tests = graph.tests.len();
    writeln!(out, "\n{tests} test vector{}", if tests == 1 { "" } else { "s" })
}

fn write_node(out: &mut String, node: &Node, graph: &Graph) -> std::fmt::Result {
    let ids = |ids: &[u32]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("%{id}")).collect();
        ids.join(", ")
    };
    write!(out, "  {} = {}({})", ids(&node.outputs), node.op, ids(&node.inputs))?;
    for (name, attr) in &node.attrs {
        write!(out, " {}={}", printable(name), attr_json(attr, graph))?;
    }
    match node.source.as_str() {
        "" => writeln!(out),
        source => writeln!(out, "  # {}", printable(source)),
    }
}

fn as_json(model: &Model) -> serde_json::Value {
    let graph = model.graph();
    let (major, minor) = model.version();
    let value = |value: &Value| {
        json!({
            "id": value.id,
            "name": value.name,
            "dtype": model.describe_dtype(value.dtype),
            "shape": dims(&value.shape, graph),
            "role": if value.role() == Role::NoiseSeed { "noise_seed" } else { "plain" },
        })
    };
    let sections = model.sections().iter().map(|section| {
        json!({
            "kind": kind(section),
            "offset": section.range.start,
            "length": section.range.len(),
            "align": section.align,
            "crc32c": section.crc32c,
        })
    });
    let tensors = graph.tensors.iter().map(|tensor| {
        json!({
            "id": tensor.id,
            "name": tensor.name,
            "dtype": model.describe_dtype(tensor.dtype),
            "shape": tensor.shape,
            "offset": tensor.offset,
            "bits": tensor.quantization.as_ref().map(|quantization| quantization.bits),
        })
    });
    let nodes = graph.nodes.iter().map(|node| {
        let attrs: Map<_, _> =
            node.attrs.iter().map(|(name, attr)| (name.clone(), attr_json(attr, graph))).collect();
        json!({
            "op": node.op,
            "inputs": node.inputs,
            "outputs": node.outputs,
            "attrs": attrs,
            "source": node.source,
        })
    });
    json!({
        "format": format!("{major}.{minor}"),
        "opset": graph.opset,
        "producer": graph.producer,
        "bytes": model.file_len(),
        "symbols": graph.symbols,
        "sections": sections.collect::<Vec<_>>(),
        "inputs": graph.inputs.iter().map(value).collect::<Vec<_>>(),
        "outputs": graph.outputs.iter().map(value).collect::<Vec<_>>(),
        "tensors": tensors.collect::<Vec<_>>(),
        "nodes": nodes.collect::<Vec<_>>(),
        "test_vectors": graph.tests.len(),
    })
}

fn attr_json(attr: &Attr, graph: &Graph) -> serde_json::Value {
    match &attr.value {
        None => serde_json::Value::Null,
        Some(attr::Value::Flag(value)) => json!(value),
        Some(attr::Value::Integer(value)) => json!(value),
        Some(attr::Value::Number(value)) => json!(value),
        Some(attr::Value::Text(value)) => json!(value),
        Some(attr::Value::Integers(value)) => json!(value.values),
        Some(attr::Value::Shape(shape)) => json!(dims(&shape.dims, graph)),
    }
}

/// Extents as numbers, or as text where they are symbolic.
fn dims(dims: &[Dim], graph: &Graph) -> Vec<serde_json::Value> {
    let extent = |dim: &Dim| {
        let words = dim.display(&graph.symbols).to_string();
        words.parse::<u64>().map_or_else(|_| json!(words), |number| json!(number))
    };
    dims.iter().map(extent).collect()
}

fn kind(section: &Section) -> String {
    section.kind.map_or("unknown".into(), |kind| kind.to_string())
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
