//! The nodes of two scopes, matched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use similar::{Algorithm, DiffOp, capture_diff_slices_deadline};

use super::{Change, Kind, fields};
use crate::inspect::{attribute_json, product_json};
use crate::ir::{Attribute, Graph, Node, Region, place_of};
use crate::weights::{Weight, weights};

/// Time after which no better match is looked for.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of the nodes of two entry points.
pub(super) struct Matched {
    /// The value of `b` for each of `a` that has one.
    pub(super) values: BTreeMap<u32, u32>,
    pub(super) changes: Vec<Change>,
}

/// The nodes of two entry points, matched. Those that make numbers of codes belong to the weights.
pub(super) fn matched(a: &Graph, b: &Graph) -> Matched {
    let (weights_a, weights_b) = (weights(a), weights(b));
    let mut scope = Scope {
        graphs: [a, b],
        values: BTreeMap::new(),
        taken: BTreeSet::new(),
        weights: [
            weights_a.iter().map(|weight| weight.id).collect(),
            weights_b.iter().map(|weight| weight.id).collect(),
        ],
        changes: Vec::new(),
        deadline: Instant::now() + PATIENCE,
        place: String::new(),
    };
    // Of equal names, the first of `a` is that of `b`.
    fn names<'a>(ports: impl Iterator<Item = (&'a str, u32)>) -> BTreeMap<&'a str, VecDeque<u32>> {
        let mut found: BTreeMap<&str, VecDeque<u32>> = BTreeMap::new();
        for (name, id) in ports.filter(|(name, _)| !name.is_empty()) {
            found.entry(name).or_default().push_back(id);
        }
        found
    }
    let inputs = |graph: &'_ Graph| -> Vec<(String, u32)> {
        graph
            .inputs
            .iter()
            .map(|port| (format!("input {}", port.name), port.id))
            .chain(graph.states.iter().map(|state| (format!("state {}", state.name), state.id)))
            .collect()
    };
    let (inputs_a, inputs_b) = (inputs(a), inputs(b));
    let mut of_b = names(inputs_b.iter().map(|(name, id)| (name.as_str(), *id)));
    for (name, id) in &inputs_a {
        if let Some(other) = of_b.get_mut(name.as_str()).and_then(VecDeque::pop_front) {
            scope.pair(*id, other);
        }
    }
    let mut of_b = names(weights_b.iter().map(|weight| (weight.name, weight.id)));
    for weight in &weights_a {
        if let Some(other) = of_b.get_mut(weight.name).and_then(VecDeque::pop_front) {
            scope.pair(weight.id, other);
        }
    }
    scope.nodes(&a.nodes, &b.nodes);
    let mut of_b = names(b.outputs.iter().map(|port| (port.name.as_str(), port.id)));
    for port in &a.outputs {
        let Some(other) = of_b.get_mut(port.name.as_str()).and_then(VecDeque::pop_front) else {
            continue;
        };
        let details = scope.rewired("value", port.id, other).into_iter().collect();
        scope.changes.extend(Change::of(format!("output `{}`", port.name), details));
    }
    for (a, b) in scope.unread(a, &weights_a, 0).into_iter().zip(scope.unread(b, &weights_b, 1)) {
        scope.pair(a, b);
    }
    Matched { values: scope.values, changes: scope.changes }
}

/// Two scopes that are compared: entry points, or regions.
struct Scope<'a> {
    graphs: [&'a Graph; 2],
    /// The value of `b` for each of `a` that has one, and which of `b` are taken.
    values: BTreeMap<u32, u32>,
    taken: BTreeSet<u32>,
    /// The constants of each.
    weights: [BTreeSet<u32>; 2],
    changes: Vec<Change>,
    deadline: Instant,
    /// Where the scope is: "node 3 (`scan`), region `body`: ".
    place: String,
}

impl Scope<'_> {
    /// Notes that these values correspond, unless one of them has another counterpart.
    fn pair(&mut self, a: u32, b: u32) {
        if !self.values.contains_key(&a) && self.taken.insert(b) {
            self.values.insert(a, b);
        }
    }

    /// The constants without a name that no node reads, by which they could be known, in their order.
    fn unread(&self, graph: &Graph, weights: &[Weight<'_>], side: usize) -> Vec<u32> {
        let read: BTreeSet<u32> =
            graph.nodes.iter().flat_map(|node| &node.inputs).copied().collect();
        let is_paired = |id: u32| match side {
            0 => self.values.contains_key(&id),
            _ => self.taken.contains(&id),
        };
        let ids = weights.iter().filter(|weight| weight.name.is_empty()).map(|weight| weight.id);
        ids.filter(|id| !read.contains(id) && !is_paired(*id)).collect()
    }

    fn nodes(&mut self, a: &[Node], b: &[Node]) {
        let is_weight = |node: &Node, weights: &BTreeSet<u32>| {
            node.outputs.iter().any(|id| weights.contains(id))
        };
        let kept = |nodes: &[Node], weights: &BTreeSet<u32>| -> Vec<usize> {
            (0..nodes.len()).filter(|&index| !is_weight(&nodes[index], weights)).collect()
        };
        let (kept_a, kept_b) = (kept(a, &self.weights[0]), kept(b, &self.weights[1]));
        let list_a: Vec<&Node> = kept_a.iter().map(|&index| &a[index]).collect();
        let list_b: Vec<&Node> = kept_b.iter().map(|&index| &b[index]).collect();
        let pairs = aligned(&list_a, &list_b, self.deadline);
        // What nodes of their own make, before operands are compared.
        for pair in &pairs {
            if let (Some(a), Some(b)) = *pair {
                let (a, b) = (list_a[a], list_b[b]);
                a.outputs.iter().zip(&b.outputs).for_each(|(&a, &b)| self.pair(a, b));
                self.pair_constants(a, b);
            }
        }
        for pair in pairs {
            let what = |node: &Node, index| format!("{}{}", self.place, node.place(index));
            match pair {
                (Some(index_a), Some(index_b)) => {
                    let what = what(list_b[index_b], kept_b[index_b]);
                    self.compare(list_a[index_a], list_b[index_b], what);
                }
                (Some(index), None) => {
                    let what = what(list_a[index], kept_a[index]);
                    self.changes.push(Change::one_sided(Kind::Removed, what));
                }
                (None, Some(index)) => {
                    let what = what(list_b[index], kept_b[index]);
                    self.changes.push(Change::one_sided(Kind::Added, what));
                }
                (None, None) => {}
            }
        }
    }

    /// Pairs constants without a name by the matched nodes that read them.
    fn pair_constants(&mut self, a: &Node, b: &Node) {
        for (&a, &b) in a.inputs.iter().zip(&b.inputs) {
            if self.weights[0].contains(&a) && self.weights[1].contains(&b) {
                self.pair(a, b);
            }
        }
    }

    fn compare(&mut self, a: &Node, b: &Node, what: String) {
        let [graph_a, graph_b] = self.graphs;
        let mut details = fields(&shown(a, graph_a), &shown(b, graph_b));
        if a.inputs.len() == b.inputs.len() {
            for (index, (&a, &b)) in a.inputs.iter().zip(&b.inputs).enumerate() {
                details.extend(self.rewired(&format!("operand {index}"), a, b));
            }
        }
        self.changes.extend(Change::of(what.clone(), details));
        let of_b: BTreeMap<&str, &Region> = b.regions().collect();
        for (name, region) in a.regions() {
            if let Some(other) = of_b.get(name) {
                self.region(region, other, format!("{what}, region `{name}`: "));
            }
        }
    }

    /// That a value is another one than the one that stands for it, unless a node that one of both
    /// does not have explains it.
    fn rewired(&self, what: &str, a: u32, b: u32) -> Option<(String, Value, Value)> {
        let other = *self.values.get(&a)?;
        (other != b && self.taken.contains(&b)).then(|| {
            (what.to_string(), json!(format!("%{a}")), json!(format!("%{b}, not %{other}")))
        })
    }

    fn region(&mut self, a: &Region, b: &Region, place: String) {
        let inner = |region: &Region, weights: &BTreeSet<u32>| -> BTreeSet<u32> {
            let captures = region.captures.iter().zip(0..);
            captures.filter(|(id, _)| weights.contains(id)).map(|(_, own)| own).collect()
        };
        let mut scope = Scope {
            graphs: self.graphs,
            values: BTreeMap::new(),
            taken: BTreeSet::new(),
            weights: [inner(a, &self.weights[0]), inner(b, &self.weights[1])],
            changes: Vec::new(),
            deadline: self.deadline,
            place,
        };
        let mut of_b: BTreeMap<u32, u32> = BTreeMap::new();
        for (&id, own) in b.captures.iter().zip(0..) {
            of_b.entry(id).or_insert(own);
        }
        for (id, own) in a.captures.iter().zip(0..) {
            if let Some(&other) = self.values.get(id).and_then(|other| of_b.get(other)) {
                scope.pair(own, other);
            }
        }
        for input in 0..a.inputs.min(b.inputs) {
            scope.pair((a.captures.len() + input) as u32, (b.captures.len() + input) as u32);
        }
        scope.nodes(&a.nodes, &b.nodes);
        let results = a.outputs.iter().zip(&b.outputs).enumerate();
        let details: Vec<_> = results
            .filter_map(|(index, (&a, &b))| scope.rewired(&format!("result {index}"), a, b))
            .collect();
        let Scope { values, mut changes, place, .. } = scope;
        changes.extend(Change::of(place.trim_end_matches(": ").to_string(), details));
        self.changes.append(&mut changes);
        // Constants that nodes of the region have paired.
        for (own, other) in values {
            let captured = (a.captures.get(own as usize), b.captures.get(other as usize));
            if let (Some(&a), Some(&b)) = captured
                && self.weights[0].contains(&a)
                && self.weights[1].contains(&b)
            {
                self.pair(a, b);
            }
        }
    }
}

/// What a node is but for its operands and results.
fn shown(node: &Node, graph: &Graph) -> Value {
    let plain = node.attributes.iter().map(|(name, attribute)| match attribute {
        Attribute::Region(region) => (format!("{name} results"), json!(region.outputs.len())),
        attribute => (name.to_string(), attribute_json(attribute, graph)),
    });
    let mut shown: Map<String, Value> = plain.collect();
    shown.insert("number of operands".into(), json!(node.inputs.len()));
    shown.insert("number of results".into(), json!(node.outputs.len()));
    shown.insert("module".into(), json!(place_of(&node.source).1));
    for (index, product) in node.execution.iter().flat_map(|it| &it.products).enumerate() {
        if let Value::Object(fields) = product_json(product, graph) {
            let named = |(name, value)| (format!("product {index}, {name}"), value);
            shown.extend(fields.into_iter().map(named));
        }
    }
    // The lines that they come from may have moved.
    let fused = node.fused.iter().map(|part| part.split(" at ").next().unwrap_or_default());
    shown.insert("put together from".into(), json!(fused.collect::<Vec<_>>()));
    Value::Object(shown)
}

/// The nodes of both in order, in pairs where they correspond: by op, module and numbers of operands and
/// results, and what these leave by op alone.
fn aligned(a: &[&Node], b: &[&Node], deadline: Instant) -> Vec<(Option<usize>, Option<usize>)> {
    let whole = |node: &&Node| {
        let (module, operands) = (place_of(&node.source).1.to_string(), node.inputs.len());
        (node.op.clone(), module, operands, node.outputs.len())
    };
    let by = |a: &[&Node], b: &[&Node], level: usize| {
        let key = |node: &&Node| match level {
            0 => whole(node),
            _ => (node.op.clone(), String::new(), 0, 0),
        };
        let (a, b): (Vec<_>, Vec<_>) = (a.iter().map(key).collect(), b.iter().map(key).collect());
        capture_diff_slices_deadline(Algorithm::Myers, &a, &b, Some(deadline))
    };
    let mut pairs = Vec::new();
    for part in by(a, b, 0) {
        let (old, new) = (part.old_range(), part.new_range());
        match part {
            DiffOp::Equal { .. } => pairs.extend(old.map(Some).zip(new.map(Some))),
            _ => {
                for rest in by(&a[old.clone()], &b[new.clone()], 1) {
                    let moved = |index, start: usize| Some(index + start);
                    let ours = rest.old_range().map(|index| moved(index, old.start));
                    let theirs = rest.new_range().map(|index| moved(index, new.start));
                    match rest {
                        DiffOp::Equal { .. } => pairs.extend(ours.zip(theirs)),
                        _ => {
                            pairs.extend(ours.map(|index| (index, None)));
                            pairs.extend(theirs.map(|index| (None, index)));
                        }
                    }
                }
            }
        }
    }
    pairs
}
