//! A page about a file: its graph, weights, converters and memory, for a browser.
//!
//! The page is one HTML file. What is in the model lies in it as JSON, which a script shows. The page
//! loads nothing, and its content security policy allows no script but the one that is written here,
//! by its hash, so that nothing in a file can become one.

mod bench;
mod graph;
mod memory;
mod optical;
mod statistics;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::extents::{Extent, Shapes, check_given, shapes, unfit};
use crate::infer::infer;
use crate::inspect::section_json;
use crate::ir::{Graph, Node, Port, Stored, Tensor, TestVector};
use crate::tensor::byte_size;
use crate::weights::{Weight, stored, weights};
use crate::{Error, Model, Options};
use statistics::Statistics;
use text::Text;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
/// In the order in which they run, as one script.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("page/elements.js"),
    include_str!("page/charts.js"),
    include_str!("page/model.js"),
    include_str!("page/overview.js"),
    include_str!("page/graph.js"),
    include_str!("page/constants.js"),
    include_str!("page/optical.js"),
    include_str!("page/schedule.js"),
    include_str!("page/memory.js"),
    include_str!("page/time.js"),
    include_str!("page/main.js"),
);

/// Entry points that a page shows at most.
const MAX_ENTRIES: usize = 64;
/// Nodes that a page shows at most, those of regions included, and as many constants.
const MAX_NODES: usize = 100_000;
/// Bytes of JSON in a page at most.
const MAX_BYTES: usize = 256 << 20;

/// What a report shows.
#[derive(Clone, Debug, Default)]
pub struct ReportOptions {
    /// What the page calls the model: the name of its file.
    pub title: String,
    /// The number of the entry point that alone is shown; None: all of them.
    pub entry: Option<usize>,
    /// Values of symbolic extents, for which shapes, memory and so on are shown; the others are those
    /// of the first test vector, or 1.
    pub symbols: Vec<(String, u64)>,
    /// What `lumina bench --nodes --json` printed of the model.
    pub bench: Option<String>,
    /// Threads and memory of the plan.
    pub options: Options,
}

/// A page about a model, as one HTML file that loads nothing.
pub fn report(model: &Model, options: &ReportOptions) -> Result<String, Error> {
    let json = json(model, options)?;
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + SCRIPT.len() + json.len());
    let mut rest = PAGE;
    // Each is looked for behind those before it: what they hold is not looked at.
    for (mark, text) in
        [("{policy}", &*policy), ("{style}", STYLE), ("{data}", &json), ("{script}", SCRIPT)]
    {
        let (before, after) = rest.split_once(mark).expect("the page has its marks in this order");
        page.push_str(before);
        page.push_str(text);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn json(model: &Model, options: &ReportOptions) -> Result<String, Error> {
    let module = model.module();
    model.check_condition_number()?;
    let numbers = match options.entry {
        Some(entry) => entry..entry + 1,
        None => 0..module.entries.len(),
    };
    let graphs = numbers.clone().map(|entry| model.graph(entry)).collect::<Result<Vec<_>, _>>()?;
    check_given(graphs.iter().copied(), &options.symbols)?;
    if graphs.len() > MAX_ENTRIES {
        return Err(Error::Input(format!(
            "a report shows at most {MAX_ENTRIES} entry points, and the file has {}: --entry takes one",
            graphs.len()
        )));
    }
    let nodes = graphs.iter().map(|graph| count(&graph.nodes)).sum::<usize>();
    for (what, count) in [("nodes", nodes), ("constants", graphs[0].tensors.len())] {
        if count > MAX_NODES {
            return Err(Error::Input(format!(
                "a report shows at most {MAX_NODES} {what}, and the file has {count}: \
                 `lumina inspect --json` prints all of them"
            )));
        }
    }
    let mut entries = Vec::new();
    for (entry, graph) in numbers.zip(&graphs) {
        let Shapes { facts, extents, symbols } = shapes(model, entry, &options.symbols)?;
        let inference = infer(graph, &symbols, &facts).map_err(|error| unfit(error, &extents))?;
        entries.push((entry, *graph, facts, extents, inference));
    }
    let pool = options.options.pool()?;
    let mut memories = Vec::new();
    for (entry, _, facts, extents, _) in &entries {
        let limit = options.options.memory_limit;
        let memory = memory::memory(model, *entry, facts, limit, &pool);
        memories.push(memory.map_err(|error| unfit(error, extents))?);
    }
    let bench = match &options.bench {
        Some(text) => bench::read(text, &graphs).map_err(Error::Input)?,
        None => Value::Null,
    };
    let constants = constants(model, graphs[0]);
    let mut out = Text::new(MAX_BYTES);
    let write = |out: &mut Text| -> fmt::Result {
        out.begin('{')?;
        write_file(out, model, &options.title)?;
        out.list("tensors", constants.into_iter(), |constant| constant)?;
        out.name("entries")?;
        out.begin('[')?;
        for ((entry, graph, _, extents, inference), memory) in entries.iter().zip(&memories) {
            out.begin('{')?;
            out.field("number", &json!(entry))?;
            out.field("symbols", &json!(extents.iter().map(extent_json).collect::<Vec<_>>()))?;
            graph::write(out, model, graph, inference)?;
            out.field("schedule", &schedule_json(model, *entry, extents))?;
            out.field("memory", memory)?;
            out.end('}')?;
        }
        out.end(']')?;
        out.field("bench", &bench)?;
        out.list("tests", module.tests.iter(), |test| test_json(model, test))?;
        out.end('}')
    };
    match write(&mut out) {
        Ok(()) => Ok(out.finish()),
        Err(fmt::Error) => Err(Error::Input(format!(
            "a report of this file would be larger than {} MiB: `lumina inspect --json` prints all \
             that is in it",
            MAX_BYTES >> 20
        ))),
    }
}

fn count(nodes: &[Node]) -> usize {
    let regions = nodes.iter().flat_map(Node::regions);
    nodes.len() + regions.map(|(_, region)| count(&region.nodes)).sum::<usize>()
}

fn write_file(out: &mut Text, model: &Model, title: &str) -> fmt::Result {
    let module = model.module();
    let (major, minor) = model.version();
    out.field("title", &json!(title))?;
    out.field("version", &json!(env!("CARGO_PKG_VERSION")))?;
    out.field("format", &json!(format!("{major}.{minor}")))?;
    out.field("opset", &json!(module.opset))?;
    out.field("producer", &json!(module.producer))?;
    out.field("bytes", &json!(model.file_len()))?;
    out.list("sections", model.sections().iter(), section_json)
}

/// What the processor of the file does in a call of the entry point; null where the file has none.
fn schedule_json(model: &Model, entry: usize, extents: &[Extent]) -> Value {
    let symbols: Vec<(String, u64)> =
        extents.iter().map(|extent| (extent.name.clone(), extent.value)).collect();
    match model.schedule_of(entry, &symbols) {
        Err(Error::NoSchedule) => Value::Null,
        Err(error) => json!({ "error": error.to_string() }),
        Ok(schedule) => {
            let mut json = schedule.to_json();
            let mut of_entry = json["entries"][0].take();
            for name in ["notes", "layers", "totals"] {
                json[name] = of_entry[name].take();
            }
            json["entries"] = Value::Null;
            json
        }
    }
}

fn extent_json(extent: &Extent) -> Value {
    json!({ "name": extent.name, "value": extent.value, "origin": extent.origin.words() })
}

/// A constant; `weight` is what it stands for, where it holds codes.
fn constant_json(model: &Model, tensor: &Tensor, weight: Option<&Weight<'_>>) -> Value {
    let fact = &tensor.stored.fact;
    let statistics = Statistics::of_bytes(fact.dtype, stored(model, tensor));
    let coded = weight.and_then(|weight| {
        let numbers = weight.numbers(model).ok()?;
        let (dtype, bytes) = numbers.bytes();
        let numbers = Statistics::of_bytes(dtype, bytes);
        let codes = weight.codes(model).ok()??;
        let bits = weight.codes.as_ref()?.bits;
        let mut counts = vec![0u64; 1 << bits.min(8)];
        codes.iter().for_each(|&code| counts[code as usize] += 1);
        Some(json!({
            "bits": bits,
            "type": weight.fact.to_string(),
            "statistics": numbers.to_json(),
            "codes": counts,
        }))
    });
    json!({
        "id": tensor.id,
        "name": tensor.name,
        "type": fact.to_string(),
        "bytes": byte_size(fact),
        "bits": tensor.quantization.as_ref().map(|quantization| quantization.bits),
        "statistics": statistics.to_json(),
        "coded": coded,
    })
}

fn test_json(model: &Model, test: &TestVector) -> Value {
    let entries = &model.module().entries;
    let graph: &Graph = &entries[test.entry];
    let types = |tensors: &[Stored], ports: &[Port]| -> Vec<Value> {
        let pairs = ports.iter().zip(tensors);
        pairs.map(|(port, stored)| json!([port.name, stored.fact.to_string()])).collect()
    };
    json!({
        "entry": graph.name,
        "continues": test.continues,
        "absolute_tolerance": test.absolute_tolerance,
        "relative_tolerance": test.relative_tolerance,
        "inputs": types(&test.inputs, &graph.inputs),
        "outputs": types(&test.outputs, &graph.outputs),
    })
}

/// All constants, by as many threads as there are cores. Not by those of a pool, on which the smallest
/// numbers are zeros.
fn constants(model: &Model, graph: &Graph) -> Vec<Value> {
    let weights = weights(graph);
    let coded = weights.iter().filter(|weight| weight.codes.is_some());
    let coded: BTreeMap<u32, &Weight<'_>> = coded.map(|it| (it.tensor.id, it)).collect();
    let tensors = &*graph.tensors;
    let (next, done) = (AtomicUsize::new(0), Mutex::new(vec![Value::Null; tensors.len()]));
    let work = || {
        while let Some((index, tensor)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            tensors.get(index).map(|tensor| (index, tensor))
        } {
            let constant = constant_json(model, tensor, coded.get(&tensor.id).copied());
            done.lock().unwrap_or_else(PoisonError::into_inner)[index] = constant;
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 1..cores.min(tensors.len()) {
            // Where no thread can be had, the others do its part.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
