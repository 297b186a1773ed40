//! Loops and branches. A graph within sees the values around it, so that captures have the names that
//! they have there.

use std::collections::BTreeSet;

use super::builder::Builder;
use super::call::{Call, Value, named};
use super::proto::{Attribute, Graph, ValueInfo, element};
use crate::infer::Inference;
use crate::ir::{Dim, Region};

pub(super) fn emit(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    values: &[Value],
) -> Result<Option<Vec<Value>>, String> {
    match call.node.op.as_str() {
        "scan" => scan(b, call, values).map(Some),
        "while" => while_loop(b, call, values).map(Some),
        "cond" => cond(b, call, values).map(Some),
        _ => Ok(None),
    }
}

/// A region, by name, and what was inferred of it.
struct Part<'a> {
    name: &'a str,
    region: &'a Region,
    inference: &'a Inference,
}

fn parts<'a>(call: &'a Call<'_>) -> Vec<Part<'a>> {
    let regions = call.node.regions().zip(call.regions);
    regions.map(|((name, region), inference)| Part { name, region, inference }).collect()
}

impl Builder<'_> {
    /// The results of a region whose inputs are `inputs`, emitted in the scope that is open.
    fn region(
        &mut self,
        part: &Part<'_>,
        outer: &[Value],
        inputs: Vec<Value>,
    ) -> Result<Vec<Value>, String> {
        let Part { name, region, inference } = part;
        let captures = region.captures.iter().map(|&id| outer[id as usize].clone());
        let mut values: Vec<Value> = captures.chain(inputs).collect();
        values.resize(inference.facts.len(), Value::default());
        let mut needed: BTreeSet<u32> = region.outputs.iter().copied().collect();
        for node in region.nodes.iter().rev() {
            if node.outputs.iter().any(|id| needed.contains(id)) {
                needed.extend(super::read(node));
                let captures = node.regions().flat_map(|(_, region)| &region.captures);
                needed.extend(captures.copied());
            }
        }
        let refused = self.refusals.len();
        self.place.push(format!("region `{name}`"));
        self.nodes(&region.nodes, inference, &mut values, &needed);
        self.place.pop();
        if self.refusals.len() > refused {
            // They have been told by themselves.
            return Err(String::new());
        }
        Ok(region.outputs.iter().map(|&id| values[id as usize].clone()).collect())
    }

    /// New names for the values that a graph within gives, each of which is one of its own.
    fn given(&mut self, values: &[Value]) -> Vec<ValueInfo> {
        values
            .iter()
            .map(|value| {
                let name = self.op("Identity", &[&value.name], vec![]);
                ValueInfo::of(&Value { name, ..value.clone() })
            })
            .collect()
    }

    /// Inputs of a graph within, like these values.
    fn taken(&mut self, like: &[Value]) -> Vec<Value> {
        like.iter()
            .map(|value| {
                let name = self.take("given");
                Value::new(name, value.fact.clone(), value.is_exact)
            })
            .collect()
    }
}

fn declared(values: &[Value]) -> Vec<ValueInfo> {
    values.iter().map(ValueInfo::of).collect()
}

/// Scan over the lines of some arrays; Loop where there are none.
fn scan(b: &mut Builder<'_>, call: &Call<'_>, outer: &[Value]) -> Result<Vec<Value>, String> {
    let parts = parts(call);
    let [body] = &parts[..] else { return Err("it must have one region".into()) };
    let carries = call.int("carries")? as usize;
    let reverse = call.bool("reverse")?;
    let (carry, arrays) = call.inputs.split_at(carries);
    let line = |array: &Value| {
        let fact = lumina_kernels::Fact::new(array.dtype(), &array.fact.shape[1..]);
        Value::new(array.name.clone(), fact, array.is_exact)
    };
    let lines: Vec<Value> = arrays.iter().map(line).collect();
    let given = b.taken(&[carry, &lines].concat());
    let count = call.outputs.len() - carries;
    if arrays.is_empty() {
        let length: Dim = call.shape("length")?.into_iter().next().ok_or("`length` is empty")?;
        let (length, axis) = (b.dim(&length)?, b.i64s(&[0]));
        let trips = b.op("Squeeze", &[&length, &axis], vec![]);
        if reverse && count > 0 {
            return Err("no loop of ONNX gives its lines backwards".into());
        }
        let goes_on = b.constant(element::BOOL, &[], vec![1]);
        return loop_of(b, call, (&trips, &goes_on), given, |b, given| {
            let results = b.region(body, outer, given)?;
            Ok((goes_on.clone(), results))
        });
    }
    let (result, node) = b.scope(|b| {
        let results = b.region(body, outer, given.clone())?;
        Ok::<_, String>(b.given(&results))
    });
    let graph = Graph {
        node,
        name: b.take("body"),
        input: declared(&given),
        output: result?,
        ..Graph::default()
    };
    let direction = i64::from(reverse);
    let attributes = vec![
        Attribute::graph("body", graph),
        Attribute::int("num_scan_inputs", arrays.len() as i64),
        Attribute::ints("scan_input_directions", vec![direction; arrays.len()]),
        Attribute::ints("scan_output_directions", vec![direction; count]),
    ];
    let inputs: Vec<&str> = call.inputs.iter().map(|value| value.name.as_str()).collect();
    Ok(b.ops("Scan", &inputs, attributes, call.outputs.len()).into_iter().map(named).collect())
}

/// A Loop for so many trips at most, as long as the condition holds. `body` emits what follows of the
/// values that go around: whether to go on, and the next values, with lines behind them.
fn loop_of(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    (trips, goes_on): (&str, &str),
    given: Vec<Value>,
    body: impl FnOnce(&mut Builder<'_>, Vec<Value>) -> Result<(String, Vec<Value>), String>,
) -> Result<Vec<Value>, String> {
    let (trip, condition) = (b.take("trip"), b.take("condition"));
    let mut input = vec![
        ValueInfo::new(&trip, element::INT64, vec![]),
        ValueInfo::new(&condition, element::BOOL, vec![]),
    ];
    input.extend(declared(&given));
    let (result, node) = b.scope(|b| {
        let (next, results) = body(b, given)?;
        let next = b.op("Identity", &[&next], vec![]);
        let mut output = vec![ValueInfo::new(&next, element::BOOL, vec![])];
        output.extend(b.given(&results));
        Ok::<_, String>(output)
    });
    let graph = Graph { node, name: b.take("body"), input, output: result?, ..Graph::default() };
    let mut inputs = vec![trips, goes_on];
    inputs.extend(call.inputs.iter().map(|value| value.name.as_str()));
    let results = b.ops("Loop", &inputs, vec![Attribute::graph("body", graph)], call.outputs.len());
    Ok(results.into_iter().map(named).collect())
}

/// A Loop whose condition is computed before the first trip and at the end of each.
fn while_loop(b: &mut Builder<'_>, call: &Call<'_>, outer: &[Value]) -> Result<Vec<Value>, String> {
    let parts = parts(call);
    let [body, cond] = &parts[..] else { return Err("it must have two regions".into()) };
    let first = b.region(cond, outer, call.inputs.clone())?;
    let goes_on = first.first().ok_or("its condition gives nothing")?.name.clone();
    let limit = b.i64(call.int("limit")?);
    let given = b.taken(&call.inputs);
    loop_of(b, call, (&limit, &goes_on), given, |b, given| {
        let results = b.region(body, outer, given)?;
        let next = b.region(cond, outer, results.clone())?;
        Ok((next[0].name.clone(), results))
    })
}

/// Branches lie in each other, and readers of protobuf follow no more than a hundred messages down.
const MOST_BRANCHES: usize = 24;

/// If for two regions, and one within the other for more.
fn cond(b: &mut Builder<'_>, call: &Call<'_>, outer: &[Value]) -> Result<Vec<Value>, String> {
    let parts = parts(call);
    if parts.len() > MOST_BRANCHES {
        return Err(format!("it has more than {MOST_BRANCHES} branches"));
    }
    branches(b, call, outer, &parts, 0)
}

fn branches(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    outer: &[Value],
    parts: &[Part<'_>],
    from: usize,
) -> Result<Vec<Value>, String> {
    let [first, rest @ ..] = parts else { return Err("it has no regions".into()) };
    if rest.is_empty() {
        return b.region(first, outer, vec![]);
    }
    let bytes = (from as i32).to_le_bytes().into();
    let number = b.constant(element::INT32, &[], bytes);
    let is_first = b.op("LessOrEqual", &[call.input(0), &number], vec![]);
    let graph = |b: &mut Builder<'_>, results: Result<Vec<ValueInfo>, String>, node| {
        Ok::<_, String>(Graph {
            node,
            name: b.take("branch"),
            output: results?,
            ..Graph::default()
        })
    };
    let (results, node) = b.scope(|b| {
        let results = b.region(first, outer, vec![])?;
        Ok(b.given(&results))
    });
    let then = graph(b, results, node)?;
    let (results, node) = b.scope(|b| {
        let results = branches(b, call, outer, rest, from + 1)?;
        let typed: Vec<Value> = results
            .into_iter()
            .zip(&call.outputs)
            .map(|(value, fact)| Value { fact: fact.clone(), ..value })
            .collect();
        Ok(b.given(&typed))
    });
    let otherwise = graph(b, results, node)?;
    let attributes =
        vec![Attribute::graph("then_branch", then), Attribute::graph("else_branch", otherwise)];
    let results = b.ops("If", &[&is_first], attributes, call.outputs.len());
    Ok(results.into_iter().map(named).collect())
}
