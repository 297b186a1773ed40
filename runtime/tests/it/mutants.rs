//! Wrong files made from right ones, each by a number.

use std::sync::Arc;

use lumina_runtime::{DType, Model, Options, Tensor, verify};
use prost::Message;

use super::build::*;
use super::looping::looping;
use super::proto::{Attr, Dim, Factor, Graph, Node, Role, Term, attr};

/// Splitmix64: mutants that a seed reproduces.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a mut [T]) -> Option<&'a mut T> {
        match items.len() {
            0 => None,
            count => items.get_mut(self.below(count)),
        }
    }

    /// A number at which arithmetic tends to go wrong, or a small one.
    fn number(&mut self) -> i64 {
        let power = 1i64.wrapping_shl(self.below(64) as u32);
        match self.below(8) {
            0 => power,
            1 => power.wrapping_neg(),
            2 => power.wrapping_sub(1),
            3 => self.next() as i64,
            4 => -(self.below(4) as i64),
            _ => self.below(10) as i64,
        }
    }
}

/// A file with something of everything.
pub(crate) fn rich() -> Vec<u8> {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = |extent: usize| [batch.clone(), fixed(&[extent])[0].clone()];
    let x = file.input("x", DType::F32, &dims(4));
    let key = file.input("key", DType::U32, &fixed(&[2]));
    file.graph.inputs[1].role = Role::NoiseSeed as i32;
    let w = file.tensor("w", &f32s(&[4, 3], &[0.5; 12]));
    let one = file.tensor("", &f32s(&[], &[1.0]));
    let mask = file.tensor("mask", &bools(&[3], &[0, 1, 1]));
    let attrs = dot(&[1], &[0], &[], &[]);
    let product = file.node("dot_general", &[x, w], &attrs);
    let maximum = file.node("reduce_max", &[product], &[("axes", ints(&[1]))]);
    let attrs = [("shape", shape(&dims(3))), ("broadcast_dimensions", ints(&[0]))];
    let wide = file.node("broadcast_in_dim", &[maximum], &attrs);
    let below = file.node("sub", &[product, wide], &[]);
    let exponent = file.node("exp", &[below], &[]);
    let sum = file.node("add", &[exponent, one], &[]);
    let flat = dim(&[(3, &[(0, 1)])]);
    let flat = [("new_sizes", shape(&[flat]))];
    let flat = file.node("reshape", &[sum], &flat);
    let halves = [("sizes", ints(&[1, 2])), ("axis", int(1))];
    let halves = file.node_of("split", &[sum], 2, &halves);
    let joined = file.node("concatenate", &[halves[1], halves[0]], &[("dimension", int(1))]);
    let keys = file.node("threefry_split", &[key], &[("num", int(2))]);
    let attrs = [
        ("start_indices", ints(&[1, 0])),
        ("limit_indices", ints(&[2, 2])),
        ("strides", ints(&[1, 1])),
    ];
    let second = file.node("slice", &[keys], &attrs);
    let turned = file.node("transpose", &[w], &[("permutation", ints(&[1, 0]))]);
    let sums = [("axis", int(0)), ("reverse", flag(false))];
    let sums = file.node("cumsum", &[turned], &sums);
    let line = shape(&[batch.clone(), fixed(&[3])[0].clone(), fixed(&[1])[0].clone()]);
    let line = file.node("reshape", &[sum], &[("new_sizes", line)]);
    let kernel = file.tensor("kernel", &f32s(&[2, 1, 2], &[0.5; 4]));
    let places = [("window_strides", ints(&[2])), ("low", ints(&[1])), ("high", ints(&[2]))];
    let attrs = [
        ("lhs_dilation", ints(&[2])),
        ("rhs_dilation", ints(&[1])),
        ("lhs_spec", ints(&[0, 2, 1])),
        ("rhs_spec", ints(&[2, 1, 0])),
        ("out_spec", ints(&[0, 2, 1])),
        ("feature_group_count", int(1)),
        ("batch_group_count", int(1)),
    ];
    let attrs = [places.as_slice(), &attrs].concat();
    let line = file.node("conv_general_dilated", &[line, kernel], &attrs);
    let attrs = [
        ("window_dimensions", ints(&[1, 2, 1])),
        ("window_strides", ints(&[1, 1, 1])),
        ("low", ints(&[0, 1, 0])),
        ("high", ints(&[0, 0, 0])),
        ("base_dilation", ints(&[1, 2, 1])),
        ("window_dilation", ints(&[1, 1, 1])),
    ];
    let pooled = file.node("reduce_window_max", &[line], &attrs);
    let attrs = [("dimension", int(1)), ("num_keys", int(2))];
    let ordered = file.node_of("sort", &[sum, joined], 2, &attrs);
    let largest = file.node_of("top_k", &[ordered[1]], 2, &[("axis", int(1)), ("k", int(2))]);
    let attrs = [("fft_type", int(2)), ("fft_lengths", ints(&[3]))];
    let spectrum = file.node("fft", &[ordered[0]], &attrs);
    let attrs = [("fft_type", int(3)), ("fft_lengths", ints(&[2]))];
    let signal = file.node("fft", &[spectrum], &attrs);
    let attrs = [("new_dtype", text("u8"))];
    let bytes = file.node("bitcast_convert_type", &[largest[1]], &attrs);
    file.output(signal, "signal", DType::F32, &dims(2));
    let four = [batch.clone(), fixed(&[2])[0].clone(), fixed(&[4])[0].clone()];
    file.output(bytes, "bytes", DType::U8, &four);
    file.output(joined, "joined", DType::F32, &dims(3));
    file.output(flat, "flat", DType::F32, &[dim(&[(3, &[(0, 1)])])]);
    file.output(second, "key", DType::U32, &fixed(&[1, 2]));
    file.output(sums, "sums", DType::F32, &fixed(&[3, 4]));
    let line = [batch.clone(), fixed(&[7])[0].clone(), fixed(&[2])[0].clone()];
    file.output(pooled, "pooled", DType::F32, &line);
    file.output(mask, "mask", DType::Bool, &fixed(&[3]));
    let mut session = session(&file, 1);
    for batch in [2, 3] {
        let inputs = [f32s(&[batch, 4], &vec![0.1; batch * 4]), u32s(&[2], &[0, 1])];
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let outputs: Vec<Tensor> = session
            .run(&views)
            .unwrap()
            .iter()
            .map(|view| Tensor::from_bytes(view.fact(), &raw(view)).unwrap())
            .collect();
        file.test(&inputs.iter().collect::<Vec<_>>(), &outputs.iter().collect::<Vec<_>>());
    }
    file.bytes()
}

/// That file, and some that training exported.
pub(crate) fn files() -> [Vec<u8>; 4] {
    [
        rich(),
        looping(),
        include_bytes!("../corpus/format-1.0.lmn").to_vec(),
        include_bytes!("../corpus/format-1.0-training.lmn").to_vec(),
    ]
}

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16 };

/// Whether the bytes load; all that can be asked of the model is asked then, whatever comes out.
pub(crate) fn survives(bytes: &[u8]) -> bool {
    match Model::from_bytes(bytes) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(Model::check(bytes).unwrap_err().to_string(), error.to_string());
            false
        }
        Ok(model) => {
            Model::check(bytes).unwrap();
            for text in [model.describe(), model.to_json()] {
                assert!(text.len() <= text_bound(bytes.len()), "{} bytes of text", text.len());
            }
            // An error is fine: the test vectors may be what was changed.
            let _ = verify(&Arc::new(model), OPTIONS);
            true
        }
    }
}

/// Bytes of text that a file of that length may give.
pub(crate) fn text_bound(length: usize) -> usize {
    4096 + 32 * length
}

/// Some bytes of a file replaced, taken out or put in; the checksums are right.
pub(crate) fn edited(random: &mut Random, file: &[u8]) -> Vec<u8> {
    let mut mutant = file.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(mutant.len());
        match random.below(5) {
            0 => mutant[at] = random.next() as u8,
            1 => mutant[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => {
                let end = (at + 8).min(mutant.len());
                mutant[at..end].fill(if random.below(2) == 0 { 0xff } else { 0 });
            }
            3 => {
                mutant.remove(at);
            }
            _ => mutant.insert(at, random.next() as u8),
        }
    }
    let length = (mutant.len() as u64).to_le_bytes();
    if random.below(2) == 0 {
        mutant[16..24].copy_from_slice(&length);
    }
    fix_checksums(&mut mutant);
    mutant
}

/// The sections of a right file, GRAPH first.
fn sections(file: &[u8]) -> Vec<(u32, &[u8])> {
    let model = Model::from_bytes(file).unwrap();
    let range = |section: &lumina_runtime::Section| {
        (section.kind.unwrap() as u32 + 1, &file[section.range.clone()])
    };
    model.sections().iter().map(range).collect()
}

/// The file with another graph.
fn with_graph(file: &[u8], change: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut sections = sections(file);
    let graph = change(sections[0].1);
    sections[0].1 = &graph;
    container(&sections)
}

/// Some bytes of the graph replaced, in a right container: most reach the deep checks.
pub(crate) fn graph_edited(random: &mut Random, file: &[u8]) -> Vec<u8> {
    with_graph(file, |graph| {
        let mut graph = graph.to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(graph.len());
            match random.below(3) {
                0 => graph[at] = random.next() as u8,
                1 => graph[at] = graph[at].wrapping_add(1),
                _ => graph[at] = graph[random.below(graph.len())],
            }
        }
        graph
    })
}

/// A right message that says something else, in a right container.
pub(crate) fn graph_changed(random: &mut Random, file: &[u8]) -> Vec<u8> {
    with_graph(file, |bytes| {
        let mut graph = Graph::decode(bytes).unwrap();
        for _ in 0..=random.below(3) {
            change(random, &mut graph);
        }
        let mut bytes = graph.encode_to_vec();
        match random.below(20) {
            // Fields that nobody knows; the second is a group.
            0 => bytes.extend([0xfa, 0x01, 2, 1, 1]),
            1 => bytes.splice(0..0, [0x7b, 0x7c]).for_each(drop),
            2 => bytes.truncate(random.below(bytes.len() + 1)),
            _ => {}
        }
        bytes
    })
}

fn change(random: &mut Random, graph: &mut Graph) {
    let count = 1 << random.below(8);
    match random.below(16) {
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
