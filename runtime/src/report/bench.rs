//! A benchmark of the model, as `lumina bench --nodes --json` prints it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ir::{Graph, Node};

/// What the plan adds to the nodes of a file.
const COPY: &str = "copy";

/// The benchmark in the text, which is one of an entry point among these, or what is wrong with it.
pub(super) fn read(text: &str, graphs: &[&Graph]) -> Result<Value, String> {
    let fault = |message: String| {
        format!("the benchmark: {message}; `lumina bench --nodes --json` writes one")
    };
    let value: Value = serde_json::from_str(text).map_err(|error| fault(error.to_string()))?;
    let entry = value["entry"].as_str().ok_or_else(|| fault("`entry` must be a text".into()))?;
    let graph = graphs
        .iter()
        .find(|graph| graph.name == entry)
        .ok_or_else(|| fault(format!("its entry point `{entry}` is none that the report shows")))?;
    let rows = value["nodes"].as_array().ok_or_else(|| fault("`nodes` must be a list".into()))?;
    let mut ops = BTreeMap::new();
    name_nodes(&graph.nodes, "", &mut ops);
    for (index, row) in rows.iter().enumerate() {
        let at = |message: String| fault(format!("`nodes[{index}]`: {message}"));
        let text = |name: &str| {
            row[name]
                .as_str()
                .ok_or_else(|| at(format!("`{name}` must be a text, got {}", row[name])))
        };
        let (path, op) = (text("node")?, text("op")?);
        if row["ms_per_run"].as_f64().is_none() {
            return Err(at(format!("`ms_per_run` must be a number, got {}", row["ms_per_run"])));
        }
        if !(row["share"].is_number() || row["share"].is_null()) {
            return Err(at(format!("`share` must be a number or null, got {}", row["share"])));
        }
        match ops.get(path) {
            Some(&known) if known == op || op == COPY => {}
            Some(known) => {
                let message =
                    format!("it has node {path} `{op}`, and the file has `{known}` there");
                return Err(at(message + ": it is of another model"));
            }
            None => {
                return Err(at(format!("the file has no node {path}: it is of another model")));
            }
        }
    }
    Ok(value)
}

/// The op of each node by its path: "3", or "3.body.1" in a region.
fn name_nodes<'a>(nodes: &'a [Node], before: &str, ops: &mut BTreeMap<String, &'a str>) {
    for (index, node) in nodes.iter().enumerate() {
        let path = format!("{before}{index}");
        for (name, region) in node.regions() {
            name_nodes(&region.nodes, &format!("{path}.{name}."), ops);
        }
        ops.insert(path, &node.op);
    }
}
