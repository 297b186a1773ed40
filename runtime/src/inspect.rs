//! What is in a file, for programs and for people.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};

use crate::Model;
use crate::codes::{Coded, Constants, captured};
use crate::container::Section;
use crate::ir::{Attribute, Dim, Graph, Node, Port, Product, Region, Role, State, Tensor};
use crate::schedule::BusCrosstalk;
use crate::schedule::show::{crosstalk_json, describe_crosstalk, describe_device, device_json};

impl Model {
    /// What is in the file, as JSON: a line for each input, tensor, node and so on.
    ///
    /// Extents are numbers, or text where they are symbolic: `["batch", 64]`.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_json(&mut text, self);
        text
    }

    /// What is in the file, as lines of text.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let _ = write_text(&mut text, self);
        text
    }
}

/// The text with its control characters escaped: names in a file can hold anything, and a terminal
/// should not obey them.
pub fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// Written line by line, as the values of a whole file take many times its bytes.
fn write_json(out: &mut String, model: &Model) -> fmt::Result {
    let module = model.module();
    let [first, further @ ..] = &*module.entries else { return Ok(()) };
    let (major, minor) = model.version();
    let tensor = |tensor: &Tensor| {
        json!({
            "id": tensor.id,
            "name": tensor.name,
            "dtype": tensor.stored.fact.dtype.name(),
            "shape": tensor.stored.fact.shape,
            "offset": tensor.stored.offset,
            "bits": tensor.quantization.as_ref().map(|quantization| quantization.bits),
        })
    };
    writeln!(out, "{{")?;
    for (name, value) in [
        ("format", json!(format!("{major}.{minor}"))),
        ("opset", json!(module.opset)),
        ("producer", json!(module.producer)),
        ("bytes", json!(model.file_len())),
        ("test_vectors", json!(module.tests.len())),
    ] {
        writeln!(out, "  \"{name}\": {value},")?;
    }
    let device = module.device.as_ref().map(device_json);
    let wavelengths = module.wdm.as_ref().map(|wdm| json!(wdm.wavelengths_nm));
    let crosstalk = module.crosstalk.as_ref();
    let crosstalk = crosstalk.map(|crosstalk| crosstalk_json(&BusCrosstalk::of(crosstalk)));
    for (name, value) in
        [("device", device), ("wavelengths_nm", wavelengths), ("crosstalk", crosstalk)]
    {
        writeln!(out, "  \"{name}\": {},", json!(value))?;
    }
    write_list(out, "sections", model.sections(), "  ", section_json)?;
    writeln!(out, ",")?;
    write_list(out, "tensors", &first.tensors, "  ", tensor)?;
    writeln!(out, ",")?;
    write_graph_json(out, first, "  ")?;
    writeln!(out, ",")?;
    write!(out, "  \"entries\": [")?;
    for (index, graph) in further.iter().enumerate() {
        writeln!(out, "{}    {{", if index == 0 { "\n" } else { ",\n" })?;
        write_graph_json(out, graph, "      ")?;
        write!(out, "\n    }}")?;
    }
    write!(out, "{}]\n}}", if further.is_empty() { "" } else { "\n  " })
}

/// The fields of an entry point.
fn write_graph_json(out: &mut String, graph: &Graph, indent: &str) -> fmt::Result {
    let port = |port: &Port| port_json(port, graph);
    writeln!(out, "{indent}\"name\": {},", json!(graph.name))?;
    writeln!(out, "{indent}\"symbols\": {},", json!(graph.symbols[..graph.bound()]))?;
    write_list(out, "inputs", &graph.inputs, indent, port)?;
    writeln!(out, ",")?;
    write_list(out, "states", &graph.states, indent, state_json)?;
    writeln!(out, ",")?;
    write_list(out, "outputs", &graph.outputs, indent, port)?;
    writeln!(out, ",")?;
    let constants = graph.tensors_by_id();
    write_list(out, "nodes", &graph.nodes, indent, |node| node_json(node, graph, &constants))
}

pub(crate) fn section_json(section: &Section) -> Value {
    json!({
        "kind": kind(section),
        "offset": section.range.start,
        "length": section.range.len(),
        "align": section.align,
        "crc32c": section.crc32c,
    })
}

pub(crate) fn port_json(port: &Port, graph: &Graph) -> Value {
    json!({
        "id": port.id,
        "name": port.name,
        "dtype": port.dtype.name(),
        "shape": dims(&port.shape, graph),
        "role": if port.role == Role::NoiseSeed { "noise_seed" } else { "plain" },
    })
}

pub(crate) fn state_json(state: &State) -> Value {
    json!({
        "id": state.id,
        "name": state.name,
        "dtype": state.fact.dtype.name(),
        "shape": state.fact.shape,
        "next": state.next,
        "initial": state.initial,
    })
}

/// A field that is a list, with a line for each item.
fn write_list<T>(
    out: &mut String,
    name: &str,
    items: &[T],
    indent: &str,
    json: impl Fn(&T) -> Value,
) -> fmt::Result {
    write!(out, "{indent}\"{name}\": [")?;
    for (index, item) in items.iter().enumerate() {
        write!(out, "{}{indent}  {}", if index == 0 { "\n" } else { ",\n" }, json(item))?;
    }
    match items {
        [] => write!(out, "]"),
        _ => write!(out, "\n{indent}]"),
    }
}

fn node_json(node: &Node, graph: &Graph, constants: &Constants<'_>) -> Value {
    let attributes: Map<String, Value> = node
        .attributes
        .iter()
        .map(|(name, attribute)| (name.to_owned(), attribute_in_scope(attribute, graph, constants)))
        .collect();
    let mut json = json!({
        "op": node.op,
        "inputs": node.inputs,
        "outputs": node.outputs,
        "attrs": attributes,
        "source": node.source,
        "fused": node.fused,
    });
    if let Some(coded) = Coded::of(node, constants) {
        json["weight"] = json!({
            "bits": coded.bits,
            "scale": coded.scale,
            "table": coded.has_table,
            "bytes": coded.bytes,
            "bytes_of_numbers": coded.bytes_of_numbers,
        });
    }
    if let Some(execution) = &node.execution {
        let products = execution.products.iter().map(|product| product_json(product, graph));
        json["execution"] = products.collect();
    }
    json
}

pub(crate) fn product_json(product: &Product, graph: &Graph) -> Value {
    json!({
        "layer": product.layer,
        "inputs": extent(&product.inputs, graph),
        "outputs": extent(&product.outputs, graph),
        "tile_rows": product.tile_rows,
        "tile_columns": product.tile_columns,
        "order": product.order.words(),
        "slots": product.slots,
    })
}

/// An attribute; of the weights in its regions, what they take is left out.
#[cfg(feature = "report")]
pub(crate) fn attribute_json(attribute: &Attribute, graph: &Graph) -> Value {
    attribute_in_scope(attribute, graph, &Constants::new())
}

/// The same in a scope with these constants.
fn attribute_in_scope(attribute: &Attribute, graph: &Graph, constants: &Constants<'_>) -> Value {
    match attribute {
        Attribute::Bool(value) => json!(value),
        Attribute::Int(value) => json!(value),
        Attribute::Float(value) => json!(value),
        Attribute::Str(value) => json!(value),
        Attribute::Ints(value) => json!(value),
        Attribute::Shape(shape) => json!(dims(shape, graph)),
        Attribute::Region(region) => {
            let constants = captured(region, constants);
            let nodes = region.nodes.iter().map(|node| node_json(node, graph, &constants));
            json!({
                "captures": region.captures,
                "inputs": region.inputs,
                "nodes": nodes.collect::<Vec<_>>(),
                "outputs": region.outputs,
            })
        }
    }
}

/// Extents as numbers, or as text where they are symbolic.
fn dims(dims: &[Dim], graph: &Graph) -> Vec<Value> {
    dims.iter().map(|dim| extent(dim, graph)).collect()
}

/// An extent as a number, or as text where it is symbolic.
fn extent(dim: &Dim, graph: &Graph) -> Value {
    let words = dim.display(&graph.symbols).to_string();
    words.parse::<u64>().map_or_else(|_| json!(words), |number| json!(number))
}

fn write_text(out: &mut String, model: &Model) -> fmt::Result {
    let module = model.module();
    let (major, minor) = model.version();
    writeln!(
        out,
        "{} in format {major}.{minor}, op set {}, written by {}",
        size(model.file_len() as u64),
        module.opset,
        printable(&module.producer)
    )?;
    writeln!(out, "\nsections")?;
    for section in model.sections() {
        let (offset, length) = (section.range.start, size(section.range.len() as u64));
        let crc = section.crc32c;
        writeln!(out, "  {:<8} {length:>10} at {offset}, crc32c {crc:08x}", kind(section))?;
    }
    if let Some(device) = &module.device {
        let wavelengths = module.wdm.as_ref().map_or(&[][..], |wdm| &wdm.wavelengths_nm);
        write!(out, "\n{}", describe_device(device, wavelengths))?;
    }
    if let Some(crosstalk) = &module.crosstalk {
        writeln!(out, "{}", describe_crosstalk(&BusCrosstalk::of(crosstalk)))?;
    }
    match &*module.entries {
        [graph] => {
            write_ports(out, graph)?;
            write_tensors(out, &graph.tensors)?;
            writeln!(out, "\nnodes")?;
            write_nodes(out, &graph.nodes, graph, &graph.tensors_by_id(), 1)?;
        }
        entries => {
            write_tensors(out, &entries[0].tensors)?;
            for graph in entries {
                writeln!(out, "\nentry point {}", printable(&graph.name))?;
                write_ports(out, graph)?;
                writeln!(out, "\nnodes")?;
                write_nodes(out, &graph.nodes, graph, &graph.tensors_by_id(), 1)?;
            }
        }
    }
    let tests = module.tests.len();
    writeln!(out, "\n{tests} test vector{}", if tests == 1 { "" } else { "s" })
}

fn write_tensors(out: &mut String, tensors: &[Tensor]) -> fmt::Result {
    writeln!(out, "\ntensors")?;
    for tensor in tensors {
        let (name, fact) = (printable(&tensor.name), &tensor.stored.fact);
        let bits = tensor.quantization.as_ref().map(|q| format!("  {} bits", q.bits));
        writeln!(out, "  %{:<4} {name}: {fact}{}", tensor.id, bits.unwrap_or_default())?;
    }
    Ok(())
}

/// What goes in and out, and what stays.
fn write_ports(out: &mut String, graph: &Graph) -> fmt::Result {
    for (title, ports) in [("inputs", &graph.inputs), ("outputs", &graph.outputs)] {
        writeln!(out, "\n{title}")?;
        for port in ports {
            let seed = if port.role == Role::NoiseSeed { "  (noise seed)" } else { "" };
            let (name, words) = (printable(&port.name), port.describe(&graph.symbols));
            writeln!(out, "  %{:<4} {name}: {words}{seed}", port.id)?;
        }
    }
    if !graph.states.is_empty() {
        writeln!(out, "\nstates")?;
    }
    for state in &graph.states {
        let (name, fact) = (printable(&state.name), &state.fact);
        let next = state.next.map_or("stays".into(), |id| format!("becomes %{id}"));
        let initial = state.initial.map_or(String::new(), |id| format!(", at first %{id}"));
        writeln!(out, "  %{:<4} {name}: {fact}  {next}{initial}", state.id)?;
    }
    Ok(())
}

/// The nodes of a scope, `depth` steps to the right.
fn write_nodes(
    out: &mut String,
    nodes: &[Node],
    graph: &Graph,
    constants: &Constants<'_>,
    depth: usize,
) -> fmt::Result {
    for node in nodes {
        let (results, operands) = (ids(&node.outputs), ids(&node.inputs));
        write!(out, "{:1$}{results} = {2}({operands})", "", 2 * depth, node.op)?;
        for (name, attribute) in node.attributes.iter() {
            let name = printable(name);
            if !matches!(attribute, Attribute::Region(_)) {
                write!(out, " {name}={}", attribute_in_scope(attribute, graph, constants))?;
            }
        }
        if let Some(coded) = Coded::of(node, constants) {
            let (bits, scale) = (coded.bits, &coded.scale);
            let table = if coded.has_table { ", a table" } else { "" };
            let sizes = (size(coded.bytes), size(coded.bytes_of_numbers));
            write!(out, "  ({bits} bits, scale per {scale}{table}, {} for {})", sizes.0, sizes.1)?;
        }
        match node.source.as_str() {
            "" => writeln!(out)?,
            source => writeln!(out, "  # {}", printable(source))?,
        }
        for part in &node.fused {
            writeln!(out, "{:1$}from {2}", "", 2 * depth + 2, printable(part))?;
        }
        for product in node.execution.iter().flat_map(|execution| &execution.products) {
            writeln!(out, "{:1$}{2}", "", 2 * depth + 2, describe_product(product, graph))?;
        }
        for (name, region) in node.regions() {
            let constants = captured(region, constants);
            write_region(out, name, region, graph, &constants, depth + 1)?;
        }
    }
    Ok(())
}

/// How a product is cut: "16 x 8 weights in tiles of 4 x 4, inputs first, as `Dense_0`".
fn describe_product(product: &Product, graph: &Graph) -> String {
    let Product { layer, tile_rows, tile_columns, order, .. } = product;
    let [inputs, outputs] =
        [&product.inputs, &product.outputs].map(|dim| dim.display(&graph.symbols).to_string());
    let layer = match layer.as_str() {
        "" => String::new(),
        layer => format!(", as `{}` of the plan", printable(layer)),
    };
    let order = order.words();
    format!("{inputs} x {outputs} weights in tiles of {tile_rows} x {tile_columns}, {order}{layer}")
}

fn write_region(
    out: &mut String,
    name: &str,
    region: &Region,
    graph: &Graph,
    constants: &Constants<'_>,
    depth: usize,
) -> fmt::Result {
    let given = region.captures.len() as u32;
    let inputs: Vec<u32> = (given..given + region.inputs as u32).collect();
    let (name, captures) = (printable(name), ids(&region.captures));
    writeln!(out, "{:1$}{name}({2}) captures ({captures})", "", 2 * depth, ids(&inputs))?;
    write_nodes(out, &region.nodes, graph, constants, depth + 1)?;
    writeln!(out, "{:1$}-> {2}", "", 2 * depth + 2, ids(&region.outputs))
}

fn ids(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("%{id}")).collect();
    ids.join(", ")
}

fn kind(section: &Section) -> String {
    section.kind.map_or("unknown".into(), |kind| kind.to_string())
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
