//! A file that was written for a device.

use lumina_runtime::{DType, Tensor};

use super::build::*;
use super::proto::{Attr, Crosstalk, Device, Dim, Execution, Node, Product, Wdm};

/// A chip of one bank of that many inputs and outputs, at 5 GHz.
pub(crate) fn chip(rows: u32, columns: u32) -> Device {
    Device {
        name: "chip".into(),
        bank_rows: rows,
        bank_columns: columns,
        banks: 1,
        symbol_rate_hz: 5e9,
        settling_s: 10e-6,
        dac_bits: 8,
        weight_bits: 8,
        adc_bits: 8,
        dac_fom_j: 20e-15,
        adc_fom_j: 50e-15,
        modulator_j: 50e-15,
        laser_w: 0.1,
        ring_w: 1e-3,
        amplifier_w: 2e-3,
    }
}

pub(crate) fn slots(count: usize) -> Wdm {
    let wavelengths_nm = (0..count).map(|slot| 1550.0 + 0.4 * slot as f64).collect();
    Wdm { wavelengths_nm, slot_of_stream: vec![] }
}

pub(crate) fn extent(extent: usize) -> Dim {
    dim(&[(extent as i64, &[])])
}

/// A product of that size in tiles of that size.
pub(crate) fn product(inputs: usize, outputs: usize, tile: (u32, u32)) -> Product {
    Product {
        inputs: Some(extent(inputs)),
        outputs: Some(extent(outputs)),
        tile_rows: tile.0,
        tile_columns: tile.1,
        ..Product::default()
    }
}

/// Attributes of `optical_matmul` without noise.
pub(crate) fn matmul_attrs<'a>(array_rows: i64) -> [(&'a str, Attr); 6] {
    [
        ("dac_bits", int(8)),
        ("weight_bits", int(0)),
        ("adc_bits", int(6)),
        ("noisy", flag(false)),
        ("array_rows", int(array_rows)),
        ("transpose_weight", flag(false)),
    ]
}

impl File {
    /// x times constant weights of that size, on arrays of so many inputs, cut as the product says.
    pub(crate) fn optical_matmul(
        &mut self,
        x: u32,
        (inputs, outputs): (usize, usize),
        array_rows: i64,
        product: Product,
    ) -> u32 {
        let ones = |count| vec![0.5; count];
        let w = self.tensor("w", &f32s(&[inputs, outputs], &ones(inputs * outputs)));
        let mut scalars = [0.0, 1.0, 2.0, 4.0].map(|x| self.tensor("", &f32s(&[1], &[x])));
        let [bias, x_full_scale, w_full_scale, y_full_scale] = &mut scalars;
        let noise = self.tensor("", &f32s(&[1, 4], &[0.0; 4]));
        let seed = self.tensor("", &u32s(&[1, 2], &[0; 2]));
        let id = self.tensor("", &u32s(&[1], &[0]));
        let operands =
            [x, w, *bias, *x_full_scale, *w_full_scale, *y_full_scale, noise, seed, id, id];
        let out = self.node("optical_matmul", &operands, &matmul_attrs(array_rows));
        let node = self.graph.nodes.last_mut().unwrap();
        node.source = "net.py:3 (Net/Dense_0)".into();
        node.execution = Some(Execution { products: vec![product] });
        out
    }
}

/// x\[batch, 6\] times 6 x 5 weights, on banks of 4 inputs and 2 outputs.
pub(crate) fn on_a_device() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let x = file.input("x", DType::F32, &[batch.clone(), extent(6)]);
    let placed = Product { slot_of_stream: vec![3, 1, 0, 2, 4, 1], ..product(6, 5, (4, 2)) };
    let y = file.optical_matmul(x, (6, 5), 4, Product { layer: "Dense_0".into(), ..placed });
    file.output(y, "y", DType::F32, &[batch, extent(5)]);
    file.graph.device = Some(chip(4, 2));
    file.graph.wdm = Some(slots(5));
    file.graph.crosstalk = Some(Crosstalk {
        size: 2,
        matrix: vec![1.0, 0.5, 0.5, 1.0],
        compensation: "fold".into(),
        condition_number: 3.0,
        ..Crosstalk::default()
    });
    let x = f32s(&[1, 6], &[0.0; 6]);
    let y: Tensor = f32s(&[1, 5], &[0.0; 5]);
    file.test(&[&x], &[&y]);
    file
}

/// A matrix that is written for itself, without a device.
fn of_crosstalk(crosstalk: Crosstalk) -> Vec<u8> {
    let mut file = File::new();
    file.graph.crosstalk = Some(crosstalk);
    file.bytes()
}

pub(crate) fn crosstalk(size: usize) -> Vec<u8> {
    let side = ((size / 4) as f64).sqrt() as u32;
    of_crosstalk(Crosstalk {
        size: side,
        matrix: vec![0.5; (side * side) as usize],
        compensation: "none".into(),
        ..Crosstalk::default()
    })
}

/// As large as one with a condition number may be.
pub(crate) fn inverted_crosstalk(_: usize) -> Vec<u8> {
    let side = 256;
    let element = |n: usize| if n.is_multiple_of(side + 1) { 1.0 } else { 1e-4 };
    of_crosstalk(Crosstalk {
        size: side as u32,
        matrix: (0..side * side).map(element).collect(),
        compensation: "fold".into(),
        // Of (1 - c)·I + c·J it is (1 + 255·c)/(1 - c).
        condition_number: (1.0 + 255.0 * 1e-4) / (1.0 - 1e-4),
        ..Crosstalk::default()
    })
}

/// Each has one input, and a bus of many slots.
pub(crate) fn products(size: usize) -> Vec<u8> {
    let wavelengths = (size / 32).min(1 << 16);
    let mut file = on_a_device();
    file.graph.wdm = Some(slots(wavelengths));
    file.graph.tests.clear();
    let mut node = file.graph.nodes[0].clone();
    let product = &mut node.execution.as_mut().unwrap().products[0];
    product.slot_of_stream = vec![wavelengths as u32 - 1];
    product.inputs = Some(extent(1));
    let last = file.graph.outputs[0].id;
    for id in 1..size as u32 / 400 {
        file.graph.nodes.push(Node { outputs: vec![last + id], ..node.clone() });
    }
    file.bytes()
}
