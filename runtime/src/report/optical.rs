//! The converters of optical nodes: their ranges, and what the weights make of theirs.

use std::borrow::Cow;
use std::cell::Cell;

use serde_json::{Map, Value, json};

use crate::Model;
use crate::chain::chain;
use crate::ir::{Attribute, Node};
use crate::weights::Weight;

/// Bars of a histogram of codes, of which each is one code where these are no more.
const CODE_BINS: usize = 64;
/// Codes of more bits are not counted one by one.
const MAX_CODE_BITS: u32 = 16;

/// What is shown of an optical node; None for any other. `weight` gives the constant that an operand
/// of that number is. Weights are looked at for as long as `budget` has numbers left.
pub(super) fn node<'a>(
    model: &'a Model,
    node: &Node,
    weight: &dyn Fn(usize) -> Option<&'a Weight<'a>>,
    budget: &Cell<usize>,
) -> Option<Value> {
    let chain = chain(&node.op)?;
    let floats = |operand: usize| weight(operand).and_then(|weight| Floats::of(model, weight));
    let converters: Vec<Value> = chain
        .converters
        .iter()
        .map(|&(what, attribute, operand)| {
            let scale = floats(operand);
            json!({
                "what": what,
                "bits": bits(node, attribute),
                "full_scale": full_scale(weight(operand).is_some(), scale.as_ref()),
            })
        })
        .collect();
    let noisy = matches!(node.attributes.get("noisy"), Some(Attribute::Bool(true)));
    let weights = chain.weights.and_then(|(w, scale)| {
        let axis_is_first =
            matches!(node.attributes.get("transpose_weight"), Some(Attribute::Bool(true)));
        // Many nodes may have the weights of one constant.
        let count = weight(w)?.fact.shape.iter().product();
        budget.set(budget.get().checked_sub(count)?);
        weights_of(&floats(w)?, &floats(scale)?, bits(node, "weight_bits"), axis_is_first)
    });
    let noise = noisy.then(|| floats(chain.noise).map(|noise| noise.numbers.to_vec())).flatten();
    Some(json!({
        "operands": chain.operands,
        "converters": converters,
        "noisy": noisy,
        "noise": noise,
        "weights": weights,
    }))
}

/// Numbers of a constant, those of complex ones in pairs.
struct Floats<'a> {
    numbers: Cow<'a, [f32]>,
    shape: &'a [usize],
    /// Numbers of an element.
    parts: usize,
}

impl<'a> Floats<'a> {
    fn of(model: &'a Model, weight: &'a Weight<'a>) -> Option<Self> {
        let (numbers, parts) = weight.floats(model)?;
        Some(Self { numbers, shape: &weight.fact.shape, parts })
    }
}

/// Bits of a converter; 0 is none, and so are 24 or more.
fn bits(node: &Node, attribute: &str) -> u32 {
    match node.attributes.get(attribute) {
        Some(&Attribute::Int(bits @ 1..24)) => bits as u32,
        _ => 0,
    }
}

/// The smallest and the largest of full scales that are constants; else where they come from.
fn full_scale(is_constant: bool, floats: Option<&Floats<'_>>) -> Value {
    match floats {
        _ if !is_constant => json!("computed in each run"),
        None => json!("of another type"),
        Some(floats) if floats.numbers.is_empty() => json!("found in each run"),
        Some(floats) => {
            let (min, max) = bounds(&floats.numbers);
            json!({ "min": min, "max": max, "count": floats.numbers.len() })
        }
    }
}

fn bounds(numbers: &[f32]) -> (f32, f32) {
    let start = (f32::INFINITY, f32::NEG_INFINITY);
    numbers.iter().fold(start, |(min, max), &x| (min.min(x), max.max(x)))
}

/// What the DAC makes of the weights.
///
/// As the op does: with Q = 2^(bits - 1) - 1 and the step s = full scale / Q, the code of a weight is
/// `clamp(round(w / s), -Q, Q)`, half to even; the code of one bit is the sign. A full scale that is
/// not there is the largest finite magnitude of each column.
fn weights_of(w: &Floats<'_>, scale: &Floats<'_>, bits: u32, axis_is_first: bool) -> Option<Value> {
    let rank = w.shape.len();
    let axis = if axis_is_first { 0 } else { rank.checked_sub(1)? };
    let columns = *w.shape.get(axis)?;
    if w.numbers.is_empty() {
        return None;
    }
    // Elements of a column that lie side by side.
    let stride: usize = if axis_is_first { w.shape[1..].iter().product() } else { 1 };
    let column = |index: usize| index / w.parts / stride % columns;
    let scales = match *scale.numbers {
        [] => {
            let mut largest = vec![0f32; columns];
            for (index, x) in w.numbers.iter().enumerate().filter(|(_, x)| x.is_finite()) {
                let known = &mut largest[column(index)];
                *known = known.max(x.abs());
            }
            largest
        }
        [one] => vec![one; columns],
        ref all => all.to_vec(),
    };
    if scales.len() != columns {
        return None;
    }
    let mut facts = Map::new();
    let (min, max) = bounds(&scales);
    facts.insert("full_scale".into(), json!({ "min": min, "max": max }));
    facts.insert("found".into(), json!(scale.numbers.is_empty()));
    facts.insert("columns".into(), json!(columns));
    let with_scale = w.numbers.iter().enumerate().map(|(index, &x)| (x, scales[column(index)]));
    let (mut used, mut finite) = (0.0f64, 0u64);
    for (x, scale) in with_scale.clone().filter(|(x, _)| x.is_finite()) {
        finite += 1;
        if scale > 0.0 {
            used += f64::from((x.abs() / scale).min(1.0));
        }
    }
    facts.insert("mean_use".into(), json!(if finite == 0 { 0.0 } else { used / finite as f64 }));
    if (1..=MAX_CODE_BITS).contains(&bits) {
        let largest = if bits == 1 { 1 } else { (1i32 << (bits - 1)) - 1 };
        let mut counts = vec![0u64; 2 * largest as usize + 1];
        let (mut signal, mut noise, mut clipped) = (0.0f64, 0.0f64, 0u64);
        for (x, scale) in with_scale.filter(|(x, _)| x.is_finite()) {
            let step = scale / largest as f32;
            let code = match step {
                // The sign of zero is positive, as in the op.
                _ if bits == 1 => 1.0 - 2.0 * f32::from(u8::from(x < 0.0)),
                0.0 => 0.0,
                step => (x / step).round_ties_even(),
            };
            clipped += u64::from(code.abs() > largest as f32);
            let code = code.clamp(-largest as f32, largest as f32);
            // Of a full scale that is no number, or negative.
            if code.is_nan() || step < 0.0 {
                continue;
            }
            counts[(code as i32 + largest) as usize] += 1;
            signal += f64::from(x).powi(2);
            noise += (f64::from(x) - f64::from(code * step)).powi(2);
        }
        let levels = if bits == 1 { 2 } else { counts.len() };
        let used = counts.iter().filter(|&&count| count > 0).count();
        let parts = counts.len().div_ceil(CODE_BINS);
        let bins: Vec<u64> = counts.chunks(parts).map(|part| part.iter().sum()).collect();
        facts.insert("clipped".into(), json!(clipped));
        facts.insert("levels".into(), json!(levels));
        facts.insert("levels_used".into(), json!(used));
        facts.insert("largest_code".into(), json!(largest));
        facts.insert("bins".into(), json!(bins));
        // Infinite where nothing is lost, which JSON does not have.
        facts.insert("sqnr_db".into(), json!(10.0 * (signal / noise).log10()));
    }
    Some(Value::Object(facts))
}
