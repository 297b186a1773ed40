//! From the nodes of an entry point to the products that they are, in the order in which they run.

use std::collections::BTreeMap;

use lumina_kernels::Fact;

use super::cost::{Bits, Cost, too_many};
use super::products::{Size, count, is_complex, sizes};
use super::ranges::{Converter, FullScale, Ranges};
use super::{Layer, check};
use crate::infer::{Action, Inference};
use crate::ir::{Attribute, Device, Graph, Node, Product, Region, Tensor, in_region};
use crate::{Error, Model};

/// The layers of an entry point for one set of shapes.
pub(super) fn layers(
    model: &Model,
    device: &Device,
    graph: &Graph,
    symbols: &[Option<i128>],
    inference: &Inference,
) -> Result<Vec<Layer>, Error> {
    let mut walk = Walk { device, symbols, ranges: Ranges::new(model) };
    let scope = Scope { constants: graph.tensors_by_id(), runs: 1, place: String::new() };
    walk.layers(&graph.nodes, inference, &scope)
}

struct Walk<'a> {
    device: &'a Device,
    symbols: &'a [Option<i128>],
    ranges: Ranges<'a>,
}

/// The scope of some nodes.
struct Scope<'a> {
    /// The constants that they see, by id.
    constants: BTreeMap<u32, &'a Tensor>,
    /// How often they run in a call.
    runs: u64,
    /// Where they are: "node 2, region `body`, ".
    place: String,
}

impl Walk<'_> {
    fn layers(
        &mut self,
        nodes: &[Node],
        inference: &Inference,
        scope: &Scope<'_>,
    ) -> Result<Vec<Layer>, Error> {
        let mut layers = Vec::new();
        for (index, (node, action)) in nodes.iter().zip(&inference.actions).enumerate() {
            let place = format!("{}node {index}", scope.place);
            match action {
                Action::Op(_) => {
                    for (product, size, number) in
                        check::products(node, index, self.symbols, &inference.facts)?
                    {
                        let layer = self.layer(node, (product, size, number), &place, scope);
                        layers.push(layer.map_err(|error| match error {
                            Error::Input(message) => Error::graph(node.place(index), message),
                            other => other,
                        })?);
                    }
                }
                Action::Control(_, inferences) => {
                    let regions = node.regions().zip(inferences);
                    let inner: Result<Vec<Vec<Layer>>, Error> = regions
                        .map(|((name, region), inference)| {
                            let scope = self.inside(node, name, region, &place, scope)?;
                            self.layers(&region.nodes, inference, &scope)
                                .map_err(|error| in_region(node, index, name, error))
                        })
                        .collect();
                    let mut inner = inner?;
                    if node.op == "cond" {
                        count_the_cheapest(&mut inner);
                    }
                    layers.extend(inner.into_iter().flatten());
                }
            }
        }
        Ok(layers)
    }

    /// The scope of a region.
    fn inside<'b>(
        &self,
        node: &Node,
        name: &str,
        region: &Region,
        place: &str,
        around: &Scope<'b>,
    ) -> Result<Scope<'b>, Error> {
        let captured = region.captures.iter().zip(0..);
        let constants = captured
            .filter_map(|(id, own)| around.constants.get(id).map(|&tensor| (own, tensor)))
            .collect();
        let trips = match node.attributes.get("length") {
            Some(Attribute::Shape(dims)) if node.op == "scan" => {
                dims.first().and_then(|dim| dim.eval(self.symbols)).unwrap_or(1) as u64
            }
            Some(Attribute::Ints(lengths)) if node.op == "scan" => {
                lengths.first().map_or(1, |&length| length.max(0) as u64)
            }
            _ => 1,
        };
        let runs = around.runs.checked_mul(trips).ok_or_else(too_many)?;
        Ok(Scope { constants, runs, place: format!("{place}, region `{name}`, ") })
    }

    fn layer(
        &mut self,
        node: &Node,
        (product, size, number): (&Product, Size, usize),
        place: &str,
        scope: &Scope<'_>,
    ) -> Result<Layer, Error> {
        let device = self.device;
        let bits = |name: &str, of_device: u32| match node.attributes.get(name) {
            Some(&Attribute::Int(bits @ 1..=32)) => bits as u32,
            _ => of_device,
        };
        // Where both factors are signals, no bits are named as those of weights.
        let is_signal = node.attributes.get("weight_bits").is_none();
        let bits = Bits {
            dac: bits("dac_bits", device.dac_bits),
            weight: bits(if is_signal { "dac_bits" } else { "weight_bits" }, device.weight_bits),
            adc: bits("adc_bits", device.adc_bits),
        };
        // Of attention: q, k and scores, then the probabilities, v and the outputs.
        let [x, w, y] = match (node.op.as_str(), number) {
            ("optical_attention", 0) => [5, 6, 9],
            ("optical_attention", _) => [7, 8, 10],
            _ => [3, 4, 5],
        };
        let mut converter = |bits, operand: usize| {
            let constant = node.inputs.get(operand).and_then(|id| scope.constants.get(id));
            let full_scale = constant.map_or(FullScale::Computed, |tensor| self.ranges.of(tensor));
            Converter { bits, full_scale }
        };
        let (dac, weight_dac, adc) =
            (converter(bits.dac, x), converter(bits.weight, w), converter(bits.adc, y));
        let array_rows = match node.attributes.get("array_rows") {
            Some(&Attribute::Int(rows @ 1..)) => {
                Some(rows as u64 * if is_complex(&node.op) { 2 } else { 1 })
            }
            _ => None,
        };
        let mut layer = Layer {
            name: name(node, product, number),
            op: node.op.clone(),
            source: node.source.clone(),
            place: place.into(),
            is_counted: true,
            runs: scope.runs,
            calls: size.calls,
            rows: size.rows,
            inputs: size.inputs,
            outputs: size.outputs,
            tile_rows: product.tile_rows,
            tile_columns: product.tile_columns,
            order: product.order,
            array_rows,
            slots: (!product.slots.is_empty()).then(|| product.slots.clone()),
            dac,
            weight_dac,
            adc,
            cost: Cost::default(),
        };
        layer.cost = Cost::of(device, scope.runs, size, layer.tiles(), bits)?;
        Ok(layer)
    }
}

/// What the plan calls a product, or the module that its node comes from, or its op.
fn name(node: &Node, product: &Product, number: usize) -> String {
    if !product.layer.is_empty() {
        return product.layer.clone();
    }
    let module = node.source.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
    let name = if module.is_empty() { &node.op } else { module };
    if count(&node.op) > 1 { format!("{name}[{number}]") } else { name.into() }
}

/// Leaves one branch to count, the first of those with the fewest products.
fn count_the_cheapest(branches: &mut [Vec<Layer>]) {
    let macs = |branch: &[Layer]| -> u128 {
        let counted = branch.iter().filter(|layer| layer.is_counted);
        counted.map(|layer| u128::from(layer.cost.macs)).sum()
    };
    let cheapest = (0..branches.len()).min_by_key(|&branch| macs(&branches[branch]));
    for (index, branch) in branches.iter_mut().enumerate() {
        if Some(index) != cheapest {
            branch.iter_mut().for_each(|layer| layer.is_counted = false);
        }
    }
}

/// The facts of these values.
pub(super) fn facts_of<'a>(ids: &[u32], facts: &'a [Fact]) -> Vec<&'a Fact> {
    ids.iter().map(|&id| &facts[id as usize]).collect()
}

/// The sizes of the products of a node, where it has an execution.
pub(super) fn sizes_of(node: &Node, facts: &[Fact]) -> Option<Vec<Size>> {
    sizes(node, &facts_of(&node.inputs, facts), &facts_of(&node.outputs, facts))
}
