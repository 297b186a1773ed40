//! Right messages that are changed, so that they say something else.

use super::build::*;
use super::mutants::Random;
use super::proto::{Attr, Dim, Entry, Factor, Graph, Node, State, Term, attr};

pub(crate) fn change(random: &mut Random, graph: &mut Graph) {
    let count = 1 << random.below(8);
    match random.below(22) {
        20 | 21 => change_device(random, graph),
        16 | 17 => change_states(random, graph),
        18 => change_entries(random, graph),
        19 => {
            if let Some(test) = random.pick(&mut graph.tests) {
                test.entry = random.below(4) as u32;
                test.continues = random.below(2) == 0;
            }
        }
        0 => graph.symbols.push(["s", "t", "batch", ""][random.below(4)].into()),
        1 => graph.symbols.push("s".repeat(count)),
        2 => {
            if let Some(dim) = some_dim(random, graph) {
                change_dim(random, dim);
            }
        }
        3 => {
            let ports = if random.below(2) == 0 { &mut graph.inputs } else { &mut graph.outputs };
            if let Some(port) = random.pick(ports) {
                let mut copy = port.clone();
                copy.name = format!("{}{}", copy.name, random.below(3));
                ports.extend(std::iter::repeat_n(copy, 1 + random.below(2)));
            }
        }
        4 => {
            let ports = if random.below(2) == 0 { &mut graph.inputs } else { &mut graph.outputs };
            if let Some(port) = random.pick(ports) {
                match random.below(4) {
                    0 => port.id = random.number() as u32,
                    1 => port.dtype = random.below(15) as u32,
                    2 => port.name = "n".repeat(count),
                    _ => port.shape.push(Dim::default()),
                }
            }
        }
        5 => {
            if let Some(tensor) = random.pick(&mut graph.tensors) {
                match random.below(4) {
                    0 => tensor.id = random.number() as u32,
                    1 => tensor.dtype = random.below(15) as u32,
                    2 => tensor.offset = 64 * random.below(4) as u64,
                    _ => tensor.offset = random.number() as u64,
                }
            }
        }
        6 => {
            if let Some(tensor) = random.pick(&mut graph.tensors) {
                match random.below(3) {
                    0 => tensor.shape.push(random.number() as u64),
                    1 => tensor.shape = vec![1; count],
                    _ => {
                        if let Some(extent) = random.pick(&mut tensor.shape) {
                            *extent = random.number() as u64;
                        }
                    }
                }
            }
        }
        7 => {
            let (a, b) = (random.below(graph.nodes.len()), random.below(graph.nodes.len()));
            graph.nodes.swap(a, b);
        }
        8 => {
            let node = graph.nodes[random.below(graph.nodes.len())].clone();
            graph.nodes.extend(std::iter::repeat_n(node, count));
        }
        9 | 10 => {
            if let Some(node) = random.pick(&mut graph.nodes) {
                change_node(random, node);
            }
        }
        11 | 12 => {
            if let Some(node) = random.pick(&mut graph.nodes) {
                change_attribute(random, node);
            }
        }
        13 => {
            if let Some(test) = random.pick(&mut graph.tests) {
                let copy = test.clone();
                graph.tests.extend(std::iter::repeat_n(copy, random.below(70)));
            }
        }
        14 => {
            if let Some(test) = random.pick(&mut graph.tests)
                && let Some(tensor) = random.pick(&mut test.inputs)
            {
                match random.below(4) {
                    0 => tensor.offset = 64 * random.below(8) as u64,
                    1 => tensor.dtype = random.below(15) as u32,
                    _ => {
                        if let Some(extent) = random.pick(&mut tensor.shape) {
                            *extent = random.number() as u64;
                        }
                    }
                }
            }
        }
        _ => {
            if let Some(test) = random.pick(&mut graph.tests) {
                test.absolute_tolerance = [f64::NAN, -1.0, f64::INFINITY, 1e308][random.below(4)];
            }
        }
    }
}

/// The device, the slots, the crosstalk, and how a node is run.
fn change_device(random: &mut Random, graph: &mut Graph) {
    let figure = [f64::NAN, -1.0, f64::INFINITY, 0.0, 1e-300, 1e38, 3.0][random.below(7)];
    let count = random.number() as u32;
    if random.below(3) == 0
        && let Some(device) = &mut graph.device
    {
        let figures = [
            &mut device.symbol_rate_hz,
            &mut device.settling_s,
            &mut device.laser_w,
            &mut device.dac_fom_j,
        ];
        match random.below(8) {
            0 => device.bank_rows = count,
            1 => device.bank_columns = count,
            2 => device.banks = count,
            3 => device.adc_bits = count,
            n => *figures[n - 4] = figure,
        }
    } else if random.below(3) == 0
        && let Some(crosstalk) = &mut graph.crosstalk
    {
        match random.below(4) {
            0 => crosstalk.size = count,
            1 => crosstalk.condition_number = figure,
            2 => crosstalk.compensation = ["none", "fold", "x"][random.below(3)].into(),
            _ => crosstalk.matrix[0] = figure as f32,
        }
    } else if random.below(8) == 0 {
        graph.device = None;
    } else if random.below(8) == 0 {
        graph.wdm = None;
    } else {
        let nodes = graph.nodes.iter_mut().filter_map(|node| node.execution.as_mut());
        let mut products: Vec<_> = nodes.flat_map(|execution| &mut execution.products).collect();
        let Some(product) = random.pick(&mut products) else { return };
        match random.below(6) {
            0 => product.tile_rows = count,
            1 => product.tile_columns = count,
            2 => product.order = random.below(3) as i32,
            3 => product.slot_of_stream.push(random.below(6) as u32),
            4 => drop(product.slot_of_stream.pop()),
            _ => {
                let dims = [&mut product.inputs, &mut product.outputs];
                if let Some(dim) = dims.into_iter().flatten().nth(random.below(2)) {
                    change_dim(random, dim);
                }
            }
        }
    }
}

fn change_states(random: &mut Random, graph: &mut Graph) {
    let count = 1 << random.below(6);
    let entries = graph.entries.iter_mut().map(|entry| &mut entry.states);
    let mut lists: Vec<&mut Vec<State>> =
        std::iter::once(&mut graph.states).chain(entries).collect();
    let place = random.below(lists.len());
    let states = &mut *lists[place];
    let Some(state) = random.pick(states) else {
        states.push(State { name: "s".into(), dtype: 1, ..State::default() });
        return;
    };
    match random.below(9) {
        0 => state.id = random.below(20) as u32,
        1 => state.next = Some(random.below(20) as u32),
        2 => state.next = None,
        3 => state.initial = Some(random.below(6) as u32),
        4 => state.dtype = random.below(15) as u32,
        5 => state.shape.push(random.number() as u64),
        6 => {
            if let Some(extent) = random.pick(&mut state.shape) {
                *extent = random.number() as u64;
            }
        }
        7 => state.name = "s".repeat(random.below(3)),
        _ => {
            let copy = state.clone();
            states.extend(std::iter::repeat_n(copy, count));
        }
    }
}

fn change_entries(random: &mut Random, graph: &mut Graph) {
    let first = Entry {
        symbols: graph.symbols.clone(),
        inputs: graph.inputs.clone(),
        nodes: graph.nodes.clone(),
        outputs: graph.outputs.clone(),
        derived: graph.derived.clone(),
        name: "again".into(),
        states: graph.states.clone(),
    };
    let count = 1 << random.below(8);
    match random.below(5) {
        0 => graph.entries.push(first),
        1 => graph.entries.extend(std::iter::repeat_n(Entry::default(), count)),
        2 => graph.name = "count".into(),
        3 => {
            if let Some(entry) = random.pick(&mut graph.entries) {
                entry.nodes.extend(first.nodes);
            }
        }
        _ => {
            if let Some(entry) = random.pick(&mut graph.entries)
                && let Some(port) = random.pick(&mut entry.outputs)
            {
                port.id = random.below(20) as u32;
            }
        }
    }
}

/// What a region reads, gives and does.
fn change_region(random: &mut Random, region: &mut super::proto::Region) {
    match random.below(7) {
        0 => region.captures.push(random.below(20) as u32),
        1 => drop(region.captures.pop()),
        2 => region.inputs = random.below(5) as u32,
        3 => region.outputs.push(random.below(20) as u32),
        4 => {
            if let Some(id) = random.pick(&mut region.outputs) {
                *id = random.below(8) as u32;
            }
        }
        5 => {
            if let Some(node) = random.pick(&mut region.nodes) {
                change_node(random, node);
            }
        }
        _ => {
            if let Some(node) = random.pick(&mut region.nodes) {
                change_attribute(random, node);
            }
        }
    }
}

fn change_node(random: &mut Random, node: &mut Node) {
    let count = 1 << random.below(8);
    match random.below(6) {
        0 => {
            let names: Vec<&str> = lumina_runtime::op_names().collect();
            node.op = names[random.below(names.len())].into();
        }
        1 => node.source = "s".repeat(count * 64),
        2 => node.inputs.push(random.below(20) as u32),
        3 => node.outputs.push(random.number() as u32),
        4 => {
            let input = node.inputs.first().copied().unwrap_or(0);
            node.inputs = vec![input; count];
        }
        _ => {
            if let Some(input) = random.pick(&mut node.inputs) {
                *input = random.below(20) as u32;
            }
        }
    }
}

fn change_attribute(random: &mut Random, node: &mut Node) {
    let names: Vec<String> = node.attrs.keys().cloned().collect();
    let count = 1 << random.below(8);
    if names.is_empty() || random.below(8) == 0 {
        node.attrs.insert("a".repeat(count), int(1));
        return;
    }
    let Some(attribute) = node.attrs.get_mut(&names[random.below(names.len())]) else { return };
    match (random.below(4), &mut attribute.value) {
        (0, _) => *attribute = random_attribute(random, count),
        (_, Some(attr::Value::Integers(list))) => match random.below(3) {
            0 => list.values.push(random.number()),
            1 => list.values = vec![random.number(); count],
            _ => {
                if let Some(value) = random.pick(&mut list.values) {
                    *value = random.number();
                }
            }
        },
        (_, Some(attr::Value::Integer(value))) => *value = random.number(),
        (_, Some(attr::Value::Shape(shape))) => match random.pick(&mut shape.dims) {
            Some(dim) => change_dim(random, dim),
            None => shape.dims.push(Dim::default()),
        },
        (_, Some(attr::Value::Region(region))) => change_region(random, region),
        (_, Some(attr::Value::Flag(value))) => *value = !*value,
        (_, Some(attr::Value::Text(value))) => *value = "f32".repeat(random.below(3)),
        _ => *attribute = Attr::default(),
    }
}

fn random_attribute(random: &mut Random, count: usize) -> Attr {
    match random.below(5) {
        0 => flag(true),
        1 => int(random.number()),
        2 => text(&"t".repeat(count)),
        3 => ints(&vec![random.number(); count]),
        _ => shape(&vec![Dim::default(); count]),
    }
}

/// An extent of an input, of an output or of an attribute.
fn some_dim<'a>(random: &mut Random, graph: &'a mut Graph) -> Option<&'a mut Dim> {
    let Graph { inputs, outputs, nodes, .. } = graph;
    let ports = inputs.iter_mut().chain(outputs).flat_map(|port| &mut port.shape);
    let attributes = nodes.iter_mut().flat_map(|node| node.attrs.values_mut());
    let shapes = attributes.filter_map(|attribute| match &mut attribute.value {
        Some(attr::Value::Shape(shape)) => Some(shape),
        _ => None,
    });
    let mut dims: Vec<&mut Dim> = ports.chain(shapes.flat_map(|shape| &mut shape.dims)).collect();
    match dims.len() {
        0 => None,
        count => Some(dims.swap_remove(random.below(count))),
    }
}

fn change_dim(random: &mut Random, dim: &mut Dim) {
    match random.below(5) {
        0 => dim.terms.clear(),
        1 => {
            let factor = |random: &mut Random| Factor {
                symbol: random.below(4) as u32,
                power: random.below(10) as u32,
            };
            let factors = (0..random.below(4)).map(|_| factor(random)).collect();
            dim.terms.push(Term { coefficient: random.number(), factors });
        }
        2 => {
            let term = Term { coefficient: random.number(), factors: Vec::new() };
            dim.terms.extend(std::iter::repeat_n(term, 1 << random.below(8)));
        }
        3 => {
            if let Some(term) = random.pick(&mut dim.terms) {
                term.coefficient = random.number();
            }
        }
        _ => {
            if let Some(term) = random.pick(&mut dim.terms)
                && let Some(factor) = random.pick(&mut term.factors)
            {
                (factor.symbol, factor.power) = (random.below(3) as u32, random.below(10) as u32);
            }
        }
    }
}
