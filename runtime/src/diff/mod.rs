//! What differs between two files.
//!
//! Ids of values say nothing here, as one more node moves all that follow. Nodes are matched by op,
//! module and number of operands in their order, as the lines of two texts are; constants by name, or
//! where they have none by the matched nodes that read them. A node that was put in between is one
//! difference: what reads its result instead of another one is none.

mod nodes;
mod numbers;
mod text;
mod weights;

use std::collections::{BTreeMap, VecDeque};

use lumina_kernels::DType;
use serde_json::{Map, Value, json};

use crate::container::SectionKind;
use crate::inspect::{port_json, section_json, state_json};
use crate::ir::{Graph, Module, Port, State, Stored, TestVector};
use crate::schedule::show::device_json;
use crate::{Error, Model};
use numbers::Numeric;

/// Entry points of a file that is compared, at most.
const MAX_ENTRIES: usize = 64;

/// What differs between two files, `a` and `b`.
#[derive(Clone, Debug)]
pub struct Diff {
    /// By the part of the file, in the order in which they are shown.
    parts: Vec<(String, Vec<Change>)>,
    bytes: [usize; 2],
    /// Whether the files are the same to the last byte.
    is_same: bool,
}

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    kind: Kind,
    /// What it is about: "node 3 (`add`, model.py:12)", or the name of a weight.
    what: String,
    /// What differs, by name, in `a` and in `b`.
    details: Vec<(String, Value, Value)>,
    /// How far numbers are from each other.
    numeric: Option<Numeric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only in `b`.
    Added,
    /// Only in `a`.
    Removed,
    Changed,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

impl Change {
    pub(crate) fn one_sided(kind: Kind, what: String) -> Self {
        Self { kind, what, details: Vec::new(), numeric: None }
    }

    /// A change of these details; None where there are none.
    pub(crate) fn of(what: String, details: Vec<(String, Value, Value)>) -> Option<Self> {
        let kind = Kind::Changed;
        (!details.is_empty()).then_some(Self { kind, what, details, numeric: None })
    }

    fn to_json(&self) -> Value {
        let detail =
            |(name, a, b): &(String, Value, Value)| json!({ "name": name, "a": a, "b": b });
        let mut fields = json!({
            "kind": self.kind.name(),
            "what": self.what,
            "details": self.details.iter().map(detail).collect::<Vec<_>>(),
        });
        if let Some(numeric) = &self.numeric {
            fields["numbers"] = numeric.to_json();
        }
        fields
    }
}

impl Diff {
    /// Whether both files hold the same: symbols, inputs, outputs, states, nodes, weights and test
    /// vectors. Where nodes come from in their sources may differ.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All of it as JSON.
    pub fn to_json(&self) -> Value {
        let part = |(name, changes): &(String, Vec<Change>)| {
            (name.clone(), changes.iter().map(Change::to_json).collect::<Value>())
        };
        json!({
            "alike": self.is_empty(),
            "same_bytes": self.is_same,
            "bytes": { "a": self.bytes[0], "b": self.bytes[1] },
            "changes": self.parts.iter().map(part).collect::<Map<_, _>>(),
        })
    }
}

/// What differs between the models `a` and `b`.
///
/// It takes memory for the numbers of one weight at a time where it is stored as codes, and time in
/// proportion to the files; but matching nodes that have hardly anything in common takes some seconds at
/// most, after which fewer of them are matched.
pub fn diff(a: &Model, b: &Model) -> Result<Diff, Error> {
    for model in [a, b] {
        let count = model.module().entries.len();
        if count > MAX_ENTRIES {
            return Err(Error::Input(format!(
                "files of more than {MAX_ENTRIES} entry points are not compared, got {count}"
            )));
        }
    }
    let mut parts = Vec::new();
    let mut add = |name: String, changes: Vec<Change>| {
        if !changes.is_empty() {
            parts.push((name, changes));
        }
    };
    add(
        "file".into(),
        Change::of("file".into(), fields(&facts(a), &facts(b))).into_iter().collect(),
    );
    add("processor".into(), processor(a.module(), b.module()));
    let pairs = entries(a.module(), b.module(), &mut add);
    for (index, &(graph_a, graph_b)) in pairs.iter().enumerate() {
        let part = |name: &str| match pairs.len() {
            1 => name.to_string(),
            _ => format!("{name} of entry point {}", graph_a.name),
        };
        add(part("symbols"), symbols(graph_a, graph_b));
        add(part("inputs"), ports(&graph_a.inputs, &graph_b.inputs, (graph_a, graph_b)));
        add(part("outputs"), ports(&graph_a.outputs, &graph_b.outputs, (graph_a, graph_b)));
        add(part("states"), states(graph_a, graph_b));
        let matched = nodes::matched(graph_a, graph_b);
        add(part("nodes"), matched.changes);
        // All entry points have the same constants.
        if index == 0 {
            let changes = weights::changes((a, graph_a), (b, graph_b), &matched.values)?;
            add("full scales".into(), changes.full_scales);
            add("weights".into(), changes.weights);
        }
    }
    add("tests".into(), tests(a, b)?);
    let sizes = |model: &Model| -> Vec<(String, Value)> {
        let size = |section| {
            let section = section_json(section);
            let name = section["kind"].as_str().unwrap_or_default().to_string();
            (name, json!({ "bytes": section["length"] }))
        };
        model.sections().iter().map(size).collect()
    };
    let sections = keyed(sizes(a), sizes(b));
    let is_same = a.same_bytes(b);
    // Sections of another size are no difference by themselves: source lines may be longer.
    if !parts.is_empty() && !sections.is_empty() {
        parts.push(("sections".into(), sections));
    }
    Ok(Diff { parts, bytes: [a.file_len(), b.file_len()], is_same })
}

/// What a file says of itself.
fn facts(model: &Model) -> Value {
    let module = model.module();
    let (major, minor) = model.version();
    json!({
        "format": format!("{major}.{minor}"),
        "opset": module.opset,
        "producer": module.producer,
    })
}

/// The processor of each, its wavelengths, and the crosstalk among them.
fn processor(a: &Module, b: &Module) -> Vec<Change> {
    let list = |module: &Module| -> Vec<(String, Value)> {
        let device = module.device.as_ref().map(|it| ("device", device_json(it)));
        let wavelengths = module.wdm.as_ref().map(|it| json!({ "nm": it.wavelengths_nm }));
        let crosstalk = module.crosstalk.as_ref().map(|it| {
            json!({
                "size": it.size,
                "compensation": it.compensation,
                "condition_number": it.condition_number,
            })
        });
        let all = [
            device,
            wavelengths.map(|it| ("wavelengths", it)),
            crosstalk.map(|it| ("crosstalk", it)),
        ];
        all.into_iter().flatten().map(|(name, fields)| (name.into(), fields)).collect()
    };
    let mut changes = keyed(list(a), list(b));
    if let (Some(a), Some(b)) = (&a.crosstalk, &b.crosstalk)
        && a.size == b.size
    {
        let bytes = [&a.matrix, &b.matrix].map(|matrix| bytemuck::cast_slice(matrix));
        if let Some(numeric) = Numeric::between((DType::F32, bytes[0]), (DType::F32, bytes[1])) {
            let (kind, what) = (Kind::Changed, "crosstalk matrix".to_string());
            changes.push(Change { kind, what, details: Vec::new(), numeric: Some(numeric) });
        }
    }
    changes
}

/// The entry points of both, by name; the only one of each are a pair, whatever they are called.
fn entries<'a>(
    a: &'a Module,
    b: &'a Module,
    add: &mut impl FnMut(String, Vec<Change>),
) -> Vec<(&'a Graph, &'a Graph)> {
    if let ([a], [b]) = (&*a.entries, &*b.entries) {
        return vec![(a, b)];
    }
    let list = |module: &Module| -> Vec<(String, Value)> {
        let entry =
            |(index, graph): (usize, &Graph)| (graph.name.clone(), json!({ "position": index }));
        module.entries.iter().enumerate().map(entry).collect()
    };
    add("entry points".into(), keyed(list(a), list(b)));
    let of_b: BTreeMap<&str, &Graph> =
        b.entries.iter().map(|graph| (graph.name.as_str(), graph)).collect();
    let pair = |graph: &'a Graph| Some((graph, *of_b.get(graph.name.as_str())?));
    a.entries.iter().filter_map(pair).collect()
}

fn symbols(a: &Graph, b: &Graph) -> Vec<Change> {
    let list = |graph: &Graph| -> Vec<(String, Value)> {
        graph.symbols[..graph.bound()].iter().map(|name| (name.clone(), json!({}))).collect()
    };
    keyed(list(a), list(b))
}

fn ports(a: &[Port], b: &[Port], (graph_a, graph_b): (&Graph, &Graph)) -> Vec<Change> {
    let list = |ports: &[Port], graph: &Graph| -> Vec<(String, Value)> {
        let port = |(position, port): (usize, &Port)| {
            let json = port_json(port, graph);
            let fields = json!({
                "position": position,
                "dtype": json["dtype"],
                "shape": json["shape"],
                "role": json["role"],
            });
            (port.name.clone(), fields)
        };
        ports.iter().enumerate().map(port).collect()
    };
    keyed(list(a, graph_a), list(b, graph_b))
}

fn states(a: &Graph, b: &Graph) -> Vec<Change> {
    let list = |graph: &Graph| -> Vec<(String, Value)> {
        let state = |state: &State| {
            let json = state_json(state);
            let fields = json!({
                "dtype": json["dtype"],
                "shape": json["shape"],
                "changes": state.next.is_some(),
                "begins": if state.initial.is_some() { "with a constant" } else { "with zeros" },
            });
            (state.name.clone(), fields)
        };
        graph.states.iter().map(state).collect()
    };
    keyed(list(a), list(b))
}

/// Test vectors by their numbers, and how far their tensors are from each other.
fn tests(a: &Model, b: &Model) -> Result<Vec<Change>, Error> {
    let (tests_a, tests_b) = (&a.module().tests, &b.module().tests);
    let name = |model: &Model, test: &TestVector| model.module().entries[test.entry].name.clone();
    let fields_of = |model: &Model, test: &TestVector| {
        let types = |tensors: &[Stored]| -> Vec<String> {
            tensors.iter().map(|stored| stored.fact.to_string()).collect()
        };
        json!({
            "entry": name(model, test),
            "continues": test.continues,
            "absolute_tolerance": test.absolute_tolerance,
            "relative_tolerance": test.relative_tolerance,
            "inputs": types(&test.inputs),
            "outputs": types(&test.outputs),
        })
    };
    let mut changes = Vec::new();
    for index in 0..tests_a.len().max(tests_b.len()) {
        let what = format!("test vector {index}");
        let (test_a, test_b) = match (tests_a.get(index), tests_b.get(index)) {
            (Some(a), Some(b)) => (a, b),
            (Some(_), None) => {
                changes.push(Change::one_sided(Kind::Removed, what));
                continue;
            }
            _ => {
                changes.push(Change::one_sided(Kind::Added, what));
                continue;
            }
        };
        changes
            .extend(Change::of(what.clone(), fields(&fields_of(a, test_a), &fields_of(b, test_b))));
        let inputs = test_a.inputs.iter().zip(&test_b.inputs).map(|pair| ("input", pair));
        let outputs = test_a.outputs.iter().zip(&test_b.outputs).map(|pair| ("output", pair));
        for (number, (side, (stored_a, stored_b))) in inputs.chain(outputs).enumerate() {
            if stored_a.fact != stored_b.fact {
                continue;
            }
            let dtype = stored_a.fact.dtype;
            let (bytes_a, bytes_b) = (tested(a, stored_a), tested(b, stored_b));
            if let Some(numeric) = Numeric::between((dtype, bytes_a), (dtype, bytes_b)) {
                let position = if side == "input" { number } else { number - test_a.inputs.len() };
                let what = format!("{what}, {side} {position}");
                let details = Vec::new();
                let kind = Kind::Changed;
                changes.push(Change { kind, what, details, numeric: Some(numeric) });
            }
        }
    }
    Ok(changes)
}

/// The bytes of a tensor of a test vector, which the loader has found to be there.
fn tested<'a>(model: &'a Model, stored: &Stored) -> &'a [u8] {
    &model.section(SectionKind::Meta)[stored.range()]
}

/// Changes of things that have names and fields. Of equal names, the first of `a` is that of `b`.
fn keyed(a: Vec<(String, Value)>, b: Vec<(String, Value)>) -> Vec<Change> {
    let mut of_b: BTreeMap<&str, VecDeque<&Value>> = BTreeMap::new();
    for (name, value) in &b {
        of_b.entry(name).or_default().push_back(value);
    }
    let mut changes = Vec::new();
    for (name, value) in &a {
        match of_b.get_mut(name.as_str()).and_then(|values| values.pop_front()) {
            None => changes.push(Change::one_sided(Kind::Removed, name.clone())),
            Some(other) => changes.extend(Change::of(name.clone(), fields(value, other))),
        }
    }
    for (name, _) in &b {
        // The last of equal names are those that are left.
        if of_b.get_mut(name.as_str()).and_then(|values| values.pop_front()).is_some() {
            changes.push(Change::one_sided(Kind::Added, name.clone()));
        }
    }
    changes
}

/// The fields that differ, by name; one that is not there is null.
pub(crate) fn fields(a: &Value, b: &Value) -> Vec<(String, Value, Value)> {
    let empty = Map::new();
    let [a, b] = [a, b].map(|value| value.as_object().unwrap_or(&empty));
    let of_b = b.keys().filter(|name| !a.contains_key(*name));
    let names: Vec<&String> = a.keys().chain(of_b).collect();
    let value =
        |fields: &Map<String, Value>, name: &str| fields.get(name).cloned().unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name.clone(), value(a, name), value(b, name)))
        .filter(|(_, a, b)| a != b)
        .collect()
}
