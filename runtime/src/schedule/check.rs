//! Checks of the device of a file, and of how it runs the nodes.

use lumina_kernels::Fact;

use super::condition::{MAX_SIZE, condition};
use super::cost::too_many;
use super::products::{Size, count};
use super::walk::sizes_of;
use crate::Error;
use crate::infer::{Action, Inference};
use crate::ir::{Crosstalk, Device, Graph, Module, Node, Product, Wdm, in_region};
use crate::validate::{check_dims, of_entry};

const COMPENSATIONS: [&str; 5] = ["none", "fold", "readout", "wiener", "feedback"];
/// Wavelengths of a bus.
const MAX_WAVELENGTHS: usize = 1 << 16;
const MAX_COUNT: u32 = i32::MAX as u32;
const MAX_BITS: u32 = 32;
/// What figures are within, so that what is computed from them is a number.
const LEAST: f64 = 1e-38;
const LARGEST: f64 = 1e39;
/// What a condition number may differ by, in parts of it: matrices are of f32.
const CLOSE: f64 = 1e-4;
/// A matrix beyond this one cannot be undone.
const MAX_CONDITION: f64 = 1e6;

/// Checks what does not depend on the shapes of a run.
pub(crate) fn check(module: &Module) -> Result<(), Error> {
    module.wdm.as_ref().map_or(Ok(()), check_wdm)?;
    let slots = module.wdm.as_ref().map(|wdm| wdm.wavelengths_nm.len());
    module.crosstalk.as_ref().map_or(Ok(()), |crosstalk| check_crosstalk(crosstalk, slots))?;
    if let Some(device) = &module.device {
        check_device(device, slots)?;
    }
    let mut bus = module.device.as_ref().map(|device| Bus::new(device, slots.unwrap_or(0)));
    for graph in &module.entries {
        check_nodes(&graph.nodes, &mut bus, graph)
            .map_err(|error| of_entry(module, graph, error))?;
    }
    Ok(())
}

/// Checks that products are of the size that their nodes have, for one set of shapes.
pub(crate) fn check_shapes(
    nodes: &[Node],
    symbols: &[Option<i128>],
    inference: &Inference,
) -> Result<(), Error> {
    for (index, (node, action)) in nodes.iter().zip(&inference.actions).enumerate() {
        match action {
            Action::Op(_) => drop(products(node, index, symbols, &inference.facts)?),
            Action::Control(_, inferences) => {
                for ((name, region), inference) in node.regions().zip(inferences) {
                    check_shapes(&region.nodes, symbols, inference)
                        .map_err(|error| in_region(node, index, name, error))?;
                }
            }
        }
    }
    Ok(())
}

/// The products of node number `index` of its scope, each with its size and its number; none without an
/// execution.
pub(super) fn products<'a>(
    node: &'a Node,
    index: usize,
    symbols: &[Option<i128>],
    facts: &[Fact],
) -> Result<Vec<(&'a Product, Size, usize)>, Error> {
    let Some(execution) = &node.execution else { return Ok(vec![]) };
    let sizes = sizes_of(node, facts).ok_or_else(too_many)?;
    let mut all = Vec::with_capacity(sizes.len());
    for (number, (product, size)) in execution.products.iter().zip(sizes).enumerate() {
        let said = [&product.inputs, &product.outputs].map(|dim| dim.eval(symbols));
        let said = said.map(|extent| extent.map(|extent| extent as u64));
        if said != [Some(size.inputs), Some(size.outputs)] {
            let [inputs, outputs] =
                said.map(|extent| extent.map_or("no number".into(), |extent| extent.to_string()));
            let message = format!(
                "product {number}: the file says {inputs} inputs and {outputs} outputs, but the node \
                 has {} and {}",
                size.inputs, size.outputs
            );
            return Err(Error::graph(node.place(index), message));
        }
        all.push((product, size, number));
    }
    Ok(all)
}

fn check_wdm(wdm: &Wdm) -> Result<(), Error> {
    let count = wdm.wavelengths_nm.len();
    if count > MAX_WAVELENGTHS {
        let message = format!("at most {MAX_WAVELENGTHS} wavelengths, got {count}");
        return Err(Error::graph("wdm", message));
    }
    if let Some(bad) = wdm.wavelengths_nm.iter().find(|w| !(w.is_finite() && **w > 0.0)) {
        return Err(Error::graph("wdm", format!("a wavelength must be positive, got {bad} nm")));
    }
    let mut sorted = wdm.wavelengths_nm.clone();
    sorted.sort_unstable_by(f64::total_cmp);
    if let Some([same, _]) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::graph("wdm", format!("two slots have the wavelength {same} nm")));
    }
    match wdm.slot_of_stream.iter().find(|&&slot| slot as usize >= count) {
        None => Ok(()),
        Some(slot) => {
            let message = format!("`slot_of_stream` {slot} is not one of {count} wavelengths");
            Err(Error::graph("wdm", message))
        }
    }
}

/// `slots` are those of a bus, where the file has them.
fn check_crosstalk(crosstalk: &Crosstalk, slots: Option<usize>) -> Result<(), Error> {
    let fault = |message| Err(Error::graph("crosstalk", message));
    let (size, got) = (u64::from(crosstalk.size), crosstalk.matrix.len() as u64);
    if size * size != got {
        return fault(format!("`matrix` must have {size} x {size} elements, got {got}"));
    }
    if let Some(bad) = crosstalk.matrix.iter().find(|x| !(x.is_finite() && **x >= 0.0)) {
        return fault(format!("an element of `matrix` must be finite and not negative, got {bad}"));
    }
    if let Some(slots) = slots.filter(|&slots| slots > 0 && size > slots as u64) {
        return fault(format!("is among {size} slots, but `wdm` has {slots}"));
    }
    let compensation = crosstalk.compensation.as_str();
    if !COMPENSATIONS.contains(&compensation) {
        return fault(format!(
            "`compensation` must be one of {}, got `{compensation}`",
            COMPENSATIONS.join(", ")
        ));
    }
    let said = crosstalk.condition_number;
    if said == 0.0 {
        return match compensation {
            "none" => Ok(()),
            _ => fault(format!("`compensation` is `{compensation}`, without a `condition_number`")),
        };
    }
    if !(1.0..=MAX_CONDITION).contains(&said) {
        return fault(format!("`condition_number` must be from 1 to {MAX_CONDITION}, got {said}"));
    }
    if size == 0 || size > MAX_SIZE as u64 {
        return fault(format!(
            "`condition_number` is that of a matrix of 1 to {MAX_SIZE} rows, got {size}"
        ));
    }
    Ok(())
}

/// Checks the condition number against the matrix.
///
/// It is no part of [`check`], as no run asks for the number, and to compute it may take longer than all
/// the rest of loading: whoever shows it asks for this.
pub(crate) fn check_condition_number(crosstalk: &Crosstalk) -> Result<(), Error> {
    let said = crosstalk.condition_number;
    if said == 0.0 {
        return Ok(());
    }
    let is = condition(crosstalk.size as usize, &crosstalk.matrix);
    if (said / is - 1.0).abs() > CLOSE {
        let message = format!("`condition_number` is {said}, but that of `matrix` is {is:.6}");
        return Err(Error::graph("crosstalk", message));
    }
    Ok(())
}

fn check_device(device: &Device, slots: Option<usize>) -> Result<(), Error> {
    let fault = |message| Err(Error::graph("device", message));
    for (name, count) in [
        ("bank_rows", device.bank_rows),
        ("bank_columns", device.bank_columns),
        ("banks", device.banks),
    ] {
        if !(1..=MAX_COUNT).contains(&count) {
            return fault(format!("`{name}` must be from 1 to {MAX_COUNT}, got {count}"));
        }
    }
    for (name, bits) in [
        ("dac_bits", device.dac_bits),
        ("weight_bits", device.weight_bits),
        ("adc_bits", device.adc_bits),
    ] {
        if bits > MAX_BITS {
            return fault(format!("`{name}` must be from 0 to {MAX_BITS}, got {bits}"));
        }
    }
    for (name, figure, least) in [
        ("symbol_rate_hz", device.symbol_rate_hz, LEAST),
        ("settling_s", device.settling_s, 0.0),
        ("dac_fom_j", device.dac_fom_j, 0.0),
        ("adc_fom_j", device.adc_fom_j, 0.0),
        ("modulator_j", device.modulator_j, 0.0),
        ("laser_w", device.laser_w, 0.0),
        ("ring_w", device.ring_w, 0.0),
        ("amplifier_w", device.amplifier_w, 0.0),
    ] {
        if !(least..=LARGEST).contains(&figure) {
            return fault(format!("`{name}` must be from {least:e} to {LARGEST:e}, got {figure}"));
        }
    }
    let (rows, slots) = (device.bank_rows, slots.unwrap_or(0));
    if (rows as usize) > slots {
        return fault(format!(
            "a bank has {rows} inputs, but `wdm` has {slots} wavelengths for them"
        ));
    }
    Ok(())
}

/// The slots of a device, on which the inputs of one tile after the other are put.
struct Bus<'a> {
    device: &'a Device,
    /// Number of the tile that was last on each slot, and its input; 0 for none.
    last: Vec<(u64, usize)>,
    /// Number of the last tile of all products.
    tile: u64,
}

impl<'a> Bus<'a> {
    fn new(device: &'a Device, wavelengths: usize) -> Self {
        Self { device, last: vec![(0, 0); wavelengths], tile: 0 }
    }

    /// Checks that the inputs of a tile are on slots that there are, and no two on one.
    fn put(&mut self, tile: &[u32], first: usize) -> Result<(), String> {
        self.tile += 1;
        let wavelengths = self.last.len();
        for (input, &slot) in (first..).zip(tile) {
            let Some(last) = self.last.get_mut(slot as usize) else {
                return Err(format!(
                    "`slot_of_stream` {slot} is not one of {wavelengths} wavelengths"
                ));
            };
            let (tile, other) = std::mem::replace(last, (self.tile, input));
            if tile == self.tile {
                return Err(format!(
                    "inputs {other} and {input} of a tile are both on slot {slot}"
                ));
            }
        }
        Ok(())
    }
}

/// Checks the nodes of a scope, and those of the regions in it.
fn check_nodes(nodes: &[Node], bus: &mut Option<Bus<'_>>, graph: &Graph) -> Result<(), Error> {
    for (index, node) in nodes.iter().enumerate() {
        let fault = |message: String| Err(Error::graph(node.place(index), message));
        match (&node.execution, &mut *bus, count(&node.op)) {
            (None, None, _) | (None, Some(_), 0) => {}
            (None, Some(_), _) => {
                return fault("has no `execution`, which each node on the `device` needs".into());
            }
            (Some(_), None, _) => {
                return fault("has an `execution`, but the file has no `device`".into());
            }
            (Some(_), Some(_), 0) => {
                return fault("has an `execution`, but its op is none of the device".into());
            }
            (Some(execution), Some(bus), count) => {
                let got = execution.products.len();
                if got != count {
                    return fault(format!("`execution`: expected {count} products, got {got}"));
                }
                for (number, product) in execution.products.iter().enumerate() {
                    check_product(product, bus, graph).or_else(|message| {
                        fault(format!("`execution`, product {number}: {message}"))
                    })?;
                }
            }
        }
        for (name, region) in node.regions() {
            check_nodes(&region.nodes, bus, graph)
                .map_err(|error| in_region(node, index, name, error))?;
        }
    }
    Ok(())
}

fn check_product(product: &Product, bus: &mut Bus<'_>, graph: &Graph) -> Result<(), String> {
    let device = bus.device;
    for (name, what, got, most) in [
        ("tile_rows", "inputs", product.tile_rows, device.bank_rows),
        ("tile_columns", "outputs", product.tile_columns, device.bank_columns),
    ] {
        if !(1..=most).contains(&got) {
            return Err(format!(
                "`{name}` must be from 1 to {most}, the {what} of a bank, got {got}"
            ));
        }
    }
    for (name, dim) in [("inputs", &product.inputs), ("outputs", &product.outputs)] {
        check_dims(std::slice::from_ref(dim), graph)
            .map_err(|message| format!("`{name}`: {message}"))?;
    }
    let slots = &product.slots;
    if slots.is_empty() {
        return Ok(());
    }
    if product.inputs.is_symbolic() || product.inputs.eval(&[]) != Some(slots.len()) {
        let (got, inputs) = (slots.len(), product.inputs.display(&graph.symbols));
        return Err(format!("`slot_of_stream` has {got} slots for {inputs} inputs"));
    }
    let rows = product.tile_rows as usize;
    (0..).step_by(rows).zip(slots.chunks(rows)).try_for_each(|(first, tile)| bus.put(tile, first))
}
