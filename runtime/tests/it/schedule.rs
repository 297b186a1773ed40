//! What a file says of its device, and what follows from it.

use std::collections::BTreeSet;

use lumina_runtime::{DType, FullScale, Layer, Model, Pass, Schedule};

use crate::build::*;
use crate::device::*;
use crate::program::negation;
use crate::proto::{Attr, Execution, Region, attr};

pub(crate) fn schedule(file: &File, batch: u64) -> Schedule {
    file.load().unwrap().schedule(&[("batch".into(), batch)]).unwrap()
}

/// x\[batch, 784\] through 512 and 10 outputs, on arrays of 64 x 64.
fn digits(banks: u32) -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let x = file.input("x", DType::F32, &[batch.clone(), extent(784)]);
    let hidden = file.optical_matmul(x, (784, 512), 64, product(784, 512, (64, 64)));
    let y = file.optical_matmul(hidden, (512, 10), 64, product(512, 10, (64, 64)));
    file.output(y, "y", DType::F32, &[batch, extent(10)]);
    file.graph.device = Some(crate::proto::Device { banks, ..chip(64, 64) });
    file.graph.wdm = Some(slots(64));
    file
}

fn close(got: f64, expected: f64) {
    assert!((got / expected - 1.0).abs() < 1e-12, "got {got}, expected {expected}");
}

#[test]
fn totals_are_those_of_a_hand_count() {
    let schedule = schedule(&digits(1), 32);
    let entry = &schedule.entries[0];
    assert_eq!(entry.symbols, [("batch".to_string(), 32)]);
    // 784 inputs are 13 arrays of 64 deep, the last with 16 rows; 512 outputs are 8 wide.
    assert_eq!(entry.layers[0].tiles(), (13, 8));
    // 512 inputs are 8 deep, and 10 outputs are less than one array wide.
    assert_eq!(entry.layers[1].tiles(), (8, 1));
    let totals = &entry.totals;
    assert_eq!(totals.settings, 13 * 8 + 8);
    assert_eq!(totals.turns, 112);
    assert_eq!(totals.macs, 32 * (784 * 512 + 512 * 10));
    // Each input goes to all 8 arrays across; each output comes in 13 parts, and then in 8.
    assert_eq!(totals.input_conversions, 32 * 784 * 8 + 32 * 512);
    assert_eq!(totals.weight_conversions, 784 * 512 + 512 * 10);
    assert_eq!(totals.output_conversions, 32 * 512 * 13 + 32 * 10 * 8);
    // 10 µs for each setting, then 32 symbols of 0.2 ns.
    close(totals.settling_s, 112.0 * 10e-6);
    let latency = 112.0 * (10e-6 + 32.0 * 0.2e-9);
    close(totals.latency_s, latency);
    close(totals.utilization().unwrap(), (784.0 * 512.0 + 512.0 * 10.0) / (112.0 * 4096.0));
    let expected = [
        ("input DACs", (32.0 * 784.0 * 8.0 + 32.0 * 512.0) * 20e-15 * 256.0),
        ("modulators", (32.0 * 784.0 * 8.0 + 32.0 * 512.0) * 50e-15),
        // The nodes name no bits of weights, so they have those of the device.
        ("weight DACs", (784.0 * 512.0 + 512.0 * 10.0) * 20e-15 * 256.0),
        // The nodes have ADCs of 6 bits.
        ("ADCs", (32.0 * 512.0 * 13.0 + 32.0 * 10.0 * 8.0) * 50e-15 * 64.0),
        ("lasers", latency * 64.0 * 0.1),
        ("ring tuning", latency * (64.0 * 64.0 + 64.0) * 1e-3),
        ("amplifiers", latency * 64.0 * 2e-3),
    ];
    for ((part, joule), (expected_part, expected)) in totals.energy.parts().iter().zip(expected) {
        assert_eq!(*part, expected_part);
        close(*joule, expected);
    }
    let power = 64.0 * 0.1 + (64.0 * 64.0 + 64.0) * 1e-3 + 64.0 * 2e-3;
    close(totals.reprogramming_j(), expected[2].1 + 112.0 * 10e-6 * power);
}

#[test]
fn banks_work_side_by_side() {
    let (one, four) = (schedule(&digits(1), 32), schedule(&digits(4), 32));
    let (one, four) = (&one.entries[0].totals, &four.entries[0].totals);
    // 104 settings are 26 turns of four banks, 8 are two.
    assert_eq!((one.turns, four.turns), (112, 28));
    assert_eq!(one.settings, four.settings);
    close(four.latency_s, one.latency_s / 4.0);
    close(four.energy.total_j(), one.energy.total_j());
}

/// Every weight is in one pass.
fn is_covered(layer: &Layer, banks: u32) {
    let mut weights = BTreeSet::new();
    for pass in layer.passes(banks) {
        for input in pass.inputs.clone() {
            for output in pass.outputs.clone() {
                assert!(weights.insert((input, output)), "{input} {output} again in {pass:?}");
            }
        }
    }
    assert_eq!(weights.len() as u64, layer.inputs * layer.outputs);
}

#[test]
fn passes_hold_each_weight_once() {
    let mut file = on_a_device();
    let layer = &schedule(&file, 1).entries[0].layers[0];
    is_covered(layer, 1);
    let passes: Vec<Pass> = layer.passes(4).collect();
    assert_eq!(passes.len(), 6);
    assert_eq!(passes[0], Pass { turn: 0, bank: 0, inputs: 0..4, outputs: 0..2 });
    assert_eq!(passes[1], Pass { turn: 0, bank: 1, inputs: 4..6, outputs: 0..2 });
    assert_eq!(passes[5], Pass { turn: 1, bank: 1, inputs: 4..6, outputs: 4..5 });
    file.graph.nodes[0].execution.as_mut().unwrap().products[0].order = 1;
    let layer = &schedule(&file, 1).entries[0].layers[0];
    is_covered(layer, 3);
    assert_eq!(
        layer.passes(4).nth(1).unwrap(),
        Pass { turn: 0, bank: 1, inputs: 0..4, outputs: 2..4 }
    );
}

#[test]
fn a_layer_knows_its_slots_and_ranges() {
    let schedule = schedule(&on_a_device(), 7);
    let layer = &schedule.entries[0].layers[0];
    assert_eq!((&*layer.name, layer.rows, layer.array_rows), ("Dense_0", 7, Some(4)));
    assert_eq!((layer.slot(0), layer.slot(5)), (3, 1));
    assert_eq!((layer.dac.bits, layer.weight_dac.bits, layer.adc.bits), (8, 8, 6));
    let ranges = [layer.dac, layer.weight_dac, layer.adc].map(|converter| converter.full_scale);
    assert_eq!(ranges, [1.0, 2.0, 4.0].map(|x| FullScale::Constant { least: x, largest: x }));
    assert_eq!(schedule.crosstalk.as_ref().unwrap().condition_number, Some(3.0));
    let mut file = on_a_device();
    file.graph.nodes[0].execution.as_mut().unwrap().products[0].slot_of_stream.clear();
    let layer = &self::schedule(&file, 7).entries[0].layers[0];
    assert_eq!((0..6).map(|input| layer.slot(input)).collect::<Vec<_>>(), [0, 1, 2, 3, 0, 1]);
}

#[test]
fn notes_say_what_is_computed_otherwise() {
    let same = "the array is the one that layers simulate: each part of an output is read once";
    let notes = |file: &File| {
        let schedule = schedule(file, 1);
        schedule.entries[0].notes(schedule.crosstalk.as_ref())
    };
    assert_eq!(notes(&on_a_device()), [same]);
    let mut file = on_a_device();
    file.graph.nodes[0].attrs.insert("array_rows".into(), int(0));
    assert_eq!(
        notes(&file),
        [
            "not the array that layers simulate: layers 0 are read in more parts on the device, each \
          with its noise and its ADC; train them with `bank.rows` of the device"
        ]
    );
    let mut file = on_a_device();
    let product = &mut file.graph.nodes[0].execution.as_mut().unwrap().products[0];
    product.tile_rows = 3;
    product.slot_of_stream = vec![0, 1, 2, 0, 1, 2];
    assert_eq!(
        notes(&file)[1],
        "crosstalk is among 2 neighboring inputs, but tiles of 3 inputs cut such groups"
    );
}

fn region(captures: &[u32], inputs: u32, nodes: Vec<crate::proto::Node>, outputs: &[u32]) -> Attr {
    let (captures, outputs) = (captures.to_vec(), outputs.to_vec());
    let region = Region { captures, inputs, nodes, outputs };
    Attr { value: Some(attr::Value::Region(region)) }
}

/// The node of `on_a_device` five times in a scan, and in one branch of two.
fn in_regions() -> File {
    let mut file = on_a_device();
    let node = file.graph.nodes.remove(0);
    let captures = node.inputs[1..].to_vec();
    let mut body = crate::proto::Node {
        // Captures are 0 to 8, x is 9.
        inputs: [9].into_iter().chain(0..9).collect(),
        outputs: vec![10],
        ..node.clone()
    };
    let x = node.inputs[0];
    let attrs = [
        ("length", ints(&[5])),
        ("carries", int(1)),
        ("reverse", flag(false)),
        ("body", region(&captures, 1, vec![body.clone()], &[9])),
    ];
    let carried = node.outputs[0];
    file.graph.nodes.push(crate::build::node("scan", &[x], &[carried], &attrs));
    let which = file.tensor("which", &i32s(&[], &[1]));
    body.inputs = [0].into_iter().chain(1..10).collect();
    body.outputs = vec![10];
    let twice = crate::proto::Node { outputs: vec![11], ..body.clone() };
    let all: Vec<u32> = [x].into_iter().chain(captures).collect();
    let attrs = [
        ("branch_000", region(&all, 0, vec![body.clone(), twice], &[10])),
        ("branch_001", region(&all, 0, vec![body], &[10])),
    ];
    let chosen = file.node("cond", &[which], &attrs);
    file.graph.outputs[0].id = chosen;
    file.graph.tests.clear();
    file
}

#[test]
fn nodes_in_loops_and_branches_count() {
    let schedule = schedule(&in_regions(), 3);
    let entry = &schedule.entries[0];
    let layers: Vec<_> = entry
        .layers
        .iter()
        .map(|layer| (&*layer.place, layer.runs, layer.is_counted, layer.cost.settings))
        .collect();
    assert_eq!(
        layers,
        [
            ("node 0, region `body`, node 0", 5, true, 30),
            ("node 1, region `branch_000`, node 0", 1, false, 6),
            ("node 1, region `branch_000`, node 1", 1, false, 6),
            ("node 1, region `branch_001`, node 0", 1, true, 6),
        ]
    );
    assert_eq!((entry.totals.settings, entry.totals.macs), (36, 6 * 3 * 6 * 5));
    // What a region captures is a constant there, too.
    assert_eq!(entry.layers[0].dac.full_scale, FullScale::Constant { least: 1.0, largest: 1.0 });
    let mut file = in_regions();
    let body = file.graph.nodes[0].attrs.get_mut("body").unwrap();
    let Some(attr::Value::Region(body)) = &mut body.value else { panic!("a region") };
    body.nodes[0].execution = None;
    assert_eq!(
        file.refusal(),
        "node 0 (`scan`), region `body`: node 0 (`optical_matmul`, net.py:3 (Net/Dense_0)): has no \
         `execution`, which each node on the `device` needs"
    );
}

fn after(change: impl FnOnce(&mut File)) -> String {
    let mut file = on_a_device();
    change(&mut file);
    file.refusal()
}

#[test]
fn faults_of_the_device() {
    fn device(change: impl FnOnce(&mut crate::proto::Device)) -> String {
        after(|f| change(f.graph.device.as_mut().unwrap()))
    }
    let rows = "device: `bank_rows` must be from 1 to 2147483647, got 0";
    assert_eq!(device(|d| d.bank_rows = 0), rows);
    assert_eq!(
        device(|d| d.bank_columns = 1 << 31),
        "device: `bank_columns` must be from 1 to 2147483647, got 2147483648"
    );
    assert_eq!(device(|d| d.banks = 0), "device: `banks` must be from 1 to 2147483647, got 0");
    assert_eq!(
        device(|d| d.bank_rows = 6),
        "device: a bank has 6 inputs, but `wdm` has 5 wavelengths for them"
    );
    assert_eq!(device(|d| d.adc_bits = 33), "device: `adc_bits` must be from 0 to 32, got 33");
    assert_eq!(
        device(|d| d.symbol_rate_hz = 0.0),
        "device: `symbol_rate_hz` must be from 1e-38 to 1e39, got 0"
    );
    assert_eq!(
        device(|d| d.settling_s = f64::NAN),
        "device: `settling_s` must be from 0e0 to 1e39, got NaN"
    );
    assert_eq!(
        device(|d| d.laser_w = f64::INFINITY),
        "device: `laser_w` must be from 0e0 to 1e39, got inf"
    );
    assert_eq!(
        after(|f| f.graph.wdm = None),
        "device: a bank has 4 inputs, but `wdm` has 0 wavelengths for them"
    );
}

#[test]
fn faults_of_crosstalk() {
    fn crosstalk(change: impl FnOnce(&mut crate::proto::Crosstalk)) -> String {
        after(|f| change(f.graph.crosstalk.as_mut().unwrap()))
    }
    for bad in [f32::NAN, -0.5, f32::INFINITY] {
        assert_eq!(
            crosstalk(|c| c.matrix[1] = bad),
            format!("crosstalk: an element of `matrix` must be finite and not negative, got {bad}")
        );
    }
    assert_eq!(
        crosstalk(|c| c.condition_number = f64::NAN),
        "crosstalk: `condition_number` must be from 1 to 1000000, got NaN"
    );
    assert_eq!(
        crosstalk(|c| c.condition_number = 0.0),
        "crosstalk: `compensation` is `fold`, without a `condition_number`"
    );
    assert_eq!(
        crosstalk(|c| (c.size, c.matrix) = (6, vec![1.0; 36])),
        "crosstalk: is among 6 slots, but `wdm` has 5"
    );
    assert_eq!(
        crosstalk(|c| (c.size, c.matrix) = (0, vec![])),
        "crosstalk: `condition_number` is that of a matrix of 1 to 256 rows, got 0"
    );
}

/// No run asks for the condition number, but whoever shows it does.
#[test]
fn a_condition_number_that_is_not_that_of_the_matrix() {
    let refused = |change: fn(&mut crate::proto::Crosstalk)| {
        let mut file = on_a_device();
        change(file.graph.crosstalk.as_mut().unwrap());
        let bytes = file.bytes();
        let model = file.load().unwrap();
        let report = lumina_runtime::report(&model, &lumina_runtime::ReportOptions::default());
        let all = [
            Model::check(&bytes).unwrap_err(),
            model.check_condition_number().unwrap_err(),
            model.schedule(&[]).unwrap_err(),
            report.unwrap_err(),
        ];
        let [text, rest @ ..] = all.map(|error| error.to_string());
        assert!(rest.iter().all(|other| *other == text), "{text}, {rest:?}");
        text
    };
    assert_eq!(
        refused(|c| c.condition_number = 3.001),
        "crosstalk: `condition_number` is 3.001, but that of `matrix` is 3.000000"
    );
    assert_eq!(
        refused(|c| c.matrix = vec![1.0; 4]),
        "crosstalk: `condition_number` is 3, but that of `matrix` is inf"
    );
}

#[test]
fn faults_of_an_execution() {
    const NODE: &str = "node 0 (`optical_matmul`, net.py:3 (Net/Dense_0)): ";
    fn node(change: impl FnOnce(&mut crate::proto::Node)) -> String {
        let text = after(|f| change(&mut f.graph.nodes[0]));
        text.strip_prefix(NODE).unwrap_or(&text).into()
    }
    fn product(change: impl FnOnce(&mut crate::proto::Product)) -> String {
        let text = node(|n| change(&mut n.execution.as_mut().unwrap().products[0]));
        text.strip_prefix("`execution`, product 0: ").unwrap_or(&text).into()
    }
    assert_eq!(
        node(|n| n.execution = None),
        "has no `execution`, which each node on the `device` needs"
    );
    assert_eq!(
        node(|n| n.execution = Some(Execution::default())),
        "`execution`: expected 1 products, got 0"
    );
    assert_eq!(
        after(|f| f.graph.device = None),
        format!("{NODE}has an `execution`, but the file has no `device`")
    );
    let mut file = negation();
    file.graph.device = Some(chip(1, 1));
    file.graph.wdm = Some(slots(1));
    file.load().unwrap();
    file.graph.nodes[0].execution = Some(Execution::default());
    assert_eq!(
        file.refusal(),
        "node 0 (`neg`, model.py:3): has an `execution`, but its op is none of the device"
    );
    assert_eq!(
        product(|p| p.tile_rows = 5),
        "`tile_rows` must be from 1 to 4, the inputs of a bank, got 5"
    );
    assert_eq!(
        product(|p| p.tile_columns = 0),
        "`tile_columns` must be from 1 to 2, the outputs of a bank, got 0"
    );
    assert_eq!(
        product(|p| p.slot_of_stream.truncate(5)),
        "`slot_of_stream` has 5 slots for 6 inputs"
    );
    assert_eq!(
        product(|p| p.inputs = Some(dim(&[(6, &[(0, 1)])]))),
        "`slot_of_stream` has 6 slots for 6*batch inputs"
    );
    assert_eq!(
        product(|p| p.slot_of_stream[4] = 5),
        "`slot_of_stream` 5 is not one of 5 wavelengths"
    );
    assert_eq!(product(|p| p.slot_of_stream[3] = 1), "inputs 1 and 3 of a tile are both on slot 1");
    assert_eq!(
        product(|p| p.outputs = Some(extent(6))),
        "product 0: the file says 6 inputs and 6 outputs, but the node has 6 and 5"
    );
    assert_eq!(
        product(|p| p.outputs = Some(dim(&[(1, &[(7, 1)])]))),
        "`outputs`: symbol 7 in a shape is not one of the 1"
    );
    assert_eq!(product(|p| p.outputs = Some(dim(&[(-1, &[])]))), "`outputs`: -1 is no extent");
}

#[test]
fn sizes_that_the_file_does_not_take() {
    let model = on_a_device().load().unwrap();
    let refusal = |symbols: &[(&str, u64)]| {
        let symbols: Vec<_> =
            symbols.iter().map(|(name, size)| (name.to_string(), *size)).collect();
        model.schedule(&symbols).unwrap_err().to_string()
    };
    assert_eq!(refusal(&[("time", 3)]), "there is no symbol `time`; the model has `batch`");
    assert_eq!(
        refusal(&[("batch", 3), ("batch", 4)]),
        "symbol `batch` is given two values, 3 and 4"
    );
    assert_eq!(
        refusal(&[("batch", u64::MAX)]),
        "input `x`, f32[batch,6]: a tensor of f32[18446744073709551615,6] is too large \
         with batch = 18446744073709551615"
    );
    // Tensors that have addresses, but more than 2^64 products.
    let many = digits(1).load().unwrap().schedule(&[("batch".into(), 1 << 50)]);
    assert_eq!(
        many.unwrap_err().to_string(),
        "node 0 (`optical_matmul`, net.py:3 (Net/Dense_0)): these extents make more than 2^64 \
         conversions or products"
    );
    let empty = model.schedule(&[("batch".into(), 0)]).unwrap();
    let totals = &empty.entries[0].totals;
    assert_eq!((totals.macs, totals.input_conversions, totals.settings), (0, 0, 6));
    // A size that the nodes have for one batch alone.
    let mut file = on_a_device();
    file.graph.nodes[0].execution.as_mut().unwrap().products[0].outputs =
        Some(dim(&[(5, &[(0, 1)])]));
    let model = file.load().unwrap();
    assert!(model.schedule(&[]).is_ok());
    assert_eq!(
        model.schedule(&[("batch".into(), 2)]).unwrap_err().to_string(),
        "node 0 (`optical_matmul`, net.py:3 (Net/Dense_0)): product 0: the file says 6 inputs and 10 \
         outputs, but the node has 6 and 5"
    );
}
