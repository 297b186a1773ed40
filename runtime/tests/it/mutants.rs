//! Wrong files made from right ones, each by a number.

use std::sync::Arc;

use lumina_runtime::{DType, Error, Model, Options, ReportOptions, Tensor, diff, report, verify};
use prost::Message;

use super::build::*;
use super::changes::change;
use super::device::on_a_device;
use super::looping::looping;
use super::proto::{Graph, Role};

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

    pub(crate) fn pick<'a, T>(&mut self, items: &'a mut [T]) -> Option<&'a mut T> {
        match items.len() {
            0 => None,
            count => items.get_mut(self.below(count)),
        }
    }

    /// A number at which arithmetic tends to go wrong, or a small one.
    pub(crate) fn number(&mut self) -> i64 {
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
pub(crate) fn files() -> [Vec<u8>; 5] {
    [
        rich(),
        looping(),
        on_a_device().bytes(),
        include_bytes!("../corpus/format-1.0.lmn").to_vec(),
        include_bytes!("../corpus/format-1.0-training.lmn").to_vec(),
    ]
}

/// Little memory, so that a hostile shape cannot ask for much of either memory or time.
const OPTIONS: Options = Options { threads: 1, memory_limit: 1 << 16, trip_limit: 1 << 12 };

/// Whether the bytes load; all that can be asked of the model is asked then, whatever comes out. It is
/// compared with `original`.
pub(crate) fn survives(bytes: &[u8], original: &Model) -> bool {
    match Model::from_bytes(bytes) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(Model::check(bytes).unwrap_err().to_string(), error.to_string());
            false
        }
        Ok(model) => {
            let text = |result: Result<(), Error>| result.map_err(|error| error.to_string());
            assert_eq!(text(Model::check(bytes)), text(model.check_condition_number()));
            for text in [model.describe(), model.to_json()] {
                assert!(text.len() <= text_bound(bytes.len()), "{} bytes of text", text.len());
            }
            // An error is fine: the mutant may have no device, or extents that no symbol has.
            if let Ok(schedule) = model.schedule(&[]) {
                assert!(!schedule.describe().is_empty() && schedule.to_json().is_object());
            }
            // An error is fine: nothing may fit the memory.
            let options = ReportOptions { options: OPTIONS, ..ReportOptions::default() };
            if let Ok(page) = report(&model, &options) {
                assert!(page.len() <= page_bound(bytes.len()), "{} bytes of a page", page.len());
            }
            let itself = diff(&model, &model).unwrap();
            assert!(itself.is_empty(), "{itself}");
            for (a, b) in [(original, &model), (&model, original)] {
                let found = diff(a, b).unwrap();
                let bound = 2 * text_bound(a.file_len() + b.file_len());
                for text in [found.to_string(), found.to_json().to_string()] {
                    assert!(text.len() <= bound, "{} bytes of differences", text.len());
                }
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

/// Bytes of a page about a file of that length: the page itself, and what it shows.
fn page_bound(length: usize) -> usize {
    (256 << 10) + 64 * length
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
