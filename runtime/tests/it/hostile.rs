//! Files that ask for more than they are worth: loading one takes time and memory in proportion to its
//! length, or is refused.

use std::process::{Command, Output};

use lumina_runtime::{DType, Fact, Tensor};
use prost::Message;

use super::build::*;
use super::device::{crosstalk, inverted_crosstalk, products};
use super::mutants::text_bound;
use super::proto::{self, Dim, Entry, Graph, Quantization, Region, State, attr};

/// A file by what is in it, about `size` bytes long.
type Hostile = (&'static str, fn(usize) -> Vec<u8>);

/// The files, with what keeps them from being harmful: an error, or nothing.
#[rustfmt::skip]
pub(crate) const FILES: &[(Hostile, Option<&str>)] = &[
    (("a group that hides messages", group), Some("field 15 is a group")),
    (("empty nodes", empty_nodes), Some("bytes of memory")),
    (("a chain of nodes", chain), None),
    (("a chain of views", views), None),
    (("a chain of views of a constant", constant_views), None),
    (("nodes with a long source", sources), None),
    (("a node with a long source and many results", split), None),
    (("a node of many operands", operands), None),
    (("pieces that are not asked for", pieces), Some("the op has 65536 outputs, the node 1")),
    (("a long attribute", long_attribute), Some("at most 65536 integers")),
    (("many attributes", attributes), Some("at most 256 attributes")),
    (("ops that nobody knows", unknown_ops), Some("unknown ops")),
    (("nodes with symbolic shapes", symbolic_nodes), None),
    (("outputs of one value", outputs), None),
    (("outputs with nearly the same name", names), None),
    (("outputs with the same name", equal_names), Some("the name appears twice")),
    (("a symbol with a long name", symbol_name), Some("a name has")),
    (("long extents", long_extents), Some("terms and factors, got")),
    (("extents of many factors", many_factors), Some("at most 16 factors in a term")),
    (("symbols that wait for each other", waiting_symbols), None),
    (("many symbols", symbols), Some("`symbols`: at most 64")),
    (("tensors over each other", overlapping), Some("its bytes are also those of tensor")),
    (("empty tensors", empty_tensors), None),
    (("scales of an empty tensor", scales), None),
    (("a crosstalk matrix", crosstalk), None),
    (("a crosstalk matrix to invert", inverted_crosstalk), None),
    (("products on many wavelengths", products), None),
    (("many test vectors", tests), None),
    (("test vectors over each other", overlapping_tests), Some("its bytes are also those of test")),
    (("deep regions", regions), Some("unknown attributes")),
    (("captures", captures), Some("unknown attributes")),
    (("many states", states), None),
    (("huge states", huge_states), Some("is too large")),
    (("many entry points", entries), Some("entry points: at most 64")),
    (("entry points of many tensors", entries_of_tensors), Some("bytes of memory")),
];

fn file_of(graph: &Graph) -> Vec<u8> {
    container(&[(GRAPH, &graph.encode_to_vec())])
}

/// A graph with the input x f32[4], which is value 0.
fn graph() -> Graph {
    let inputs = vec![value(0, "x", DType::F32, &fixed(&[4]))];
    Graph { opset: 3, inputs, ..Graph::default() }
}

fn group(size: usize) -> Vec<u8> {
    container(&[(GRAPH, &[&[0x7b, 0x7c][..], &[0x32, 0].repeat(size / 2)].concat())])
}

fn empty_nodes(size: usize) -> Vec<u8> {
    container(&[(GRAPH, &[0x32, 0].repeat(size / 2))])
}

/// `count` nodes, each of the result of the one before.
fn chain_of(count: usize, op: &str, attrs: Attrs<'_>) -> Graph {
    let mut graph = graph();
    graph.nodes.extend((0..count as u32).map(|id| node(op, &[id], &[id + 1], attrs)));
    graph.outputs = vec![value(count as u32, "y", DType::F32, &fixed(&[4]))];
    graph
}

pub(crate) fn chain(size: usize) -> Vec<u8> {
    file_of(&chain_of(size / 20, "neg", &[]))
}

fn views(size: usize) -> Vec<u8> {
    file_of(&chain_of(size / 45, "rev", &[("dimensions", ints(&[0]))]))
}

/// Each view is read by an op that takes no strides.
fn constant_views(size: usize) -> Vec<u8> {
    let mut file = File::new();
    let mut w = file.tensor("w", &f32s(&[size / 16], &vec![1.0; size / 16]));
    for _ in 0..size / 160 {
        w = file.node("rev", &[w], &[("dimensions", ints(&[0]))]);
        file.node("cumsum", &[w], &[("axis", int(0)), ("reverse", flag(false))]);
    }
    file.bytes()
}

fn sources(size: usize) -> Vec<u8> {
    let mut graph = chain_of(size / 4096, "neg", &[]);
    graph.nodes.iter_mut().for_each(|node| node.source = "s".repeat(4000));
    file_of(&graph)
}

fn split_of(count: usize, results: usize) -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[count]));
    let attrs = [("sizes", ints(&vec![1; count])), ("axis", int(0))];
    file.node_of("split", &[x], results, &attrs);
    file.graph.nodes[0].source = "s".repeat(4000);
    file
}

fn split(size: usize) -> Vec<u8> {
    let count = (size / 8).min(1 << 16);
    split_of(count, count).bytes()
}

fn pieces(size: usize) -> Vec<u8> {
    let mut file = split_of(1 << 16, 1);
    file.weights = vec![0; size / 2];
    file.bytes()
}

fn operands(size: usize) -> Vec<u8> {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[0]));
    for _ in 0..size / (1 << 17) + 1 {
        file.node("concatenate", &vec![x; 1 << 16], &[("dimension", int(0))]);
    }
    file.bytes()
}

fn long_attribute(size: usize) -> Vec<u8> {
    file_of(&chain_of(1, "rev", &[("dimensions", ints(&vec![0; size]))]))
}

fn attributes(size: usize) -> Vec<u8> {
    let mut graph = chain_of(1, "neg", &[]);
    graph.nodes[0].attrs.extend((0..size / 20).map(|n| (format!("{n:08}"), int(1))));
    file_of(&graph)
}

fn unknown_ops(size: usize) -> Vec<u8> {
    let mut graph = graph();
    graph.nodes.extend((0..size / 12).map(|n| node(&format!("{n:08}"), &[], &[], &[])));
    file_of(&graph)
}

/// x f32[n] and nodes that make f32[n·m, 8 times].
fn symbolic_nodes(size: usize) -> Vec<u8> {
    let mut file = File::new();
    let (n, m) = (file.symbol("n"), file.symbol("m"));
    let x = file.input("x", DType::F32, &[n, m]);
    let wide = vec![dim(&[(1, &[(0, 1), (1, 1)])]); 8];
    for _ in 0..size / 250 {
        let attrs = [("shape", shape(&wide)), ("broadcast_dimensions", ints(&[]))];
        file.node("broadcast_in_dim", &[x], &attrs);
    }
    file.bytes()
}

fn outputs(size: usize) -> Vec<u8> {
    let mut graph = chain_of(1, "neg", &[]);
    let count = (size / 30).min(30_000);
    graph.outputs =
        (0..count).map(|n| value(1, &format!("{n}"), DType::F32, &fixed(&[4]))).collect();
    file_of(&graph)
}

fn names(size: usize) -> Vec<u8> {
    let mut graph = chain_of(1, "neg", &[]);
    let name = "n".repeat(4000);
    graph.outputs = (0..size / 4096)
        .map(|n| value(1, &format!("{name}{n}"), DType::F32, &fixed(&[4])))
        .collect();
    file_of(&graph)
}

fn equal_names(size: usize) -> Vec<u8> {
    let mut graph = chain_of(1, "neg", &[]);
    graph.outputs = vec![value(1, &"n".repeat(4000), DType::F32, &fixed(&[4])); size / 4096];
    file_of(&graph)
}

fn symbolic(symbols: &[String], dims: &[Dim]) -> Graph {
    let input = |(index, dims): (usize, &[Dim])| {
        value(index as u32, &format!("x{index}"), DType::F32, dims)
    };
    let inputs = dims.chunks(8).enumerate().map(input).collect();
    Graph { opset: 3, symbols: symbols.to_vec(), inputs, ..Graph::default() }
}

/// `count` different names.
fn some_names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n:02}{}", "x".repeat(60))).collect()
}

fn symbol_name(size: usize) -> Vec<u8> {
    let product = dim(&[(1, &[(0, 1); 16])]);
    file_of(&symbolic(&["s".repeat(4000)], &vec![product; size / 70]))
}

fn long_extents(size: usize) -> Vec<u8> {
    let sum = dim(&vec![(1, &[(0, 1)][..]); 64]);
    file_of(&symbolic(&some_names(1), &vec![sum; size / 600]))
}

fn many_factors(size: usize) -> Vec<u8> {
    let product = dim(&[(1, &vec![(0, 1); size / 6])]);
    file_of(&symbolic(&some_names(1), &[product]))
}

/// All extents tell a symbol only once another one is known, and come in the wrong order.
fn waiting_symbols(size: usize) -> Vec<u8> {
    let link = |n: u32| dim(&[(1, &[(n, 1), (n + 1, 1)])]);
    let chain: Vec<Dim> = (0..63).rev().map(link).collect();
    let mut dims: Vec<Dim> = chain.iter().cycle().take((size / 20).min(20_000)).cloned().collect();
    dims.push(dim(&[(1, &[(0, 1)])]));
    file_of(&symbolic(&some_names(64), &dims))
}

fn symbols(size: usize) -> Vec<u8> {
    file_of(&symbolic(&(0..size / 10).map(|n| n.to_string()).collect::<Vec<_>>(), &[]))
}

fn overlapping(size: usize) -> Vec<u8> {
    let mut file = File::new();
    file.tensor("", &bools(&[size / 2], &vec![0; size / 2]));
    let first = file.graph.tensors[0].clone();
    let copy = |id| proto::Tensor { id, ..first.clone() };
    file.graph.tensors = (0..size as u32 / 24).map(copy).collect();
    file.bytes()
}

fn empty_tensors(size: usize) -> Vec<u8> {
    let mut graph = graph();
    let tensor = |id| proto::Tensor { id, dtype: 6, shape: vec![0], ..Default::default() };
    graph.tensors = (1..size as u32 / 12).map(tensor).collect();
    file_of(&graph)
}

fn scales(size: usize) -> Vec<u8> {
    let mut file = File::new();
    file.tensor("w", &f32s(&[0, size / 4], &[]));
    file.graph.tensors[0].quantization = Some(Quantization {
        bits: 8,
        axis: Some(1),
        scales: vec![1.0; size / 4],
        ..Quantization::default()
    });
    file.bytes()
}

/// Vectors of one number each, for a long chain.
fn tests_of(size: usize, apart: bool) -> Vec<u8> {
    let mut file = File::new();
    let n = file.symbol("n");
    let mut y = file.input("x", DType::F32, std::slice::from_ref(&n));
    for _ in 0..size / 22 {
        y = file.node("neg", &[y], &[]);
    }
    file.output(y, "y", DType::F32, &[n]);
    for extent in 1..=64 {
        let x = f32s(&[extent], &vec![0.0; extent]);
        file.test(&[&x], &[&x]);
        if !apart {
            let test = file.graph.tests.last_mut().unwrap();
            test.outputs[0].offset = test.inputs[0].offset;
        }
    }
    file.bytes()
}

fn tests(size: usize) -> Vec<u8> {
    tests_of(size, true)
}

fn overlapping_tests(size: usize) -> Vec<u8> {
    tests_of(size, false)
}

fn region(region: Region) -> proto::Attr {
    proto::Attr { value: Some(attr::Value::Region(region)) }
}

fn regions(size: usize) -> Vec<u8> {
    let nodes = (0..size as u32 / 20).map(|id| node("neg", &[id], &[id + 1], &[])).collect();
    let mut body = Region { captures: vec![0], inputs: 0, nodes, outputs: vec![0] };
    for _ in 0..7 {
        let nodes = vec![node("neg", &[0], &[1], &[("body", region(body))])];
        body = Region { captures: vec![0], inputs: 0, nodes, outputs: vec![0] };
    }
    file_of(&chain_of(1, "neg", &[("body", region(body))]))
}

fn captures(size: usize) -> Vec<u8> {
    let body = Region { captures: vec![0; 1 << 16], ..Region::default() };
    let mut file = chain_of(1, "neg", &[("body", region(body))]);
    file.producer = "p".repeat(4000);
    container(&[(GRAPH, &file.encode_to_vec()), (WEIGHTS, &vec![0; size / 2])])
}

fn states_of(size: usize, shape: &[u64]) -> Vec<u8> {
    let mut file = graph();
    let state = |id: u32| State {
        name: format!("s{id}"),
        id,
        dtype: 1,
        shape: shape.to_vec(),
        next: Some(id),
        ..State::default()
    };
    file.states = (1..size as u32 / 20).map(state).collect();
    file.opset = 6;
    file.outputs = vec![value(0, "y", DType::F32, &fixed(&[4]))];
    file_of(&file)
}

/// They take more memory in a run than there is, which a run refuses.
fn states(size: usize) -> Vec<u8> {
    states_of(size, &[1 << 40])
}

fn huge_states(size: usize) -> Vec<u8> {
    states_of(size, &[1 << 40, 1 << 40])
}

fn entries(size: usize) -> Vec<u8> {
    let entry = |id: usize| Entry { name: format!("e{id}"), ..Entry::default() };
    let entries = (0..size / 10).map(entry).collect();
    file_of(&Graph { opset: 6, name: "main".into(), entries, ..Graph::default() })
}

/// Each has all tensors, and nothing else.
fn entries_of_tensors(size: usize) -> Vec<u8> {
    let tensor = |id: u32| proto::Tensor { id, dtype: 1, shape: vec![0], ..Default::default() };
    let entry = |id: usize| Entry { name: format!("e{id}"), ..Entry::default() };
    file_of(&Graph {
        opset: 6,
        name: "main".into(),
        tensors: (0..size as u32 / 8).map(tensor).collect(),
        entries: (0..60).map(entry).collect(),
        ..Graph::default()
    })
}

/// Runs the binary with so many bytes of address space and seconds of time.
fn lumina(memory: usize, seconds: u64, arguments: &[&str]) -> Output {
    let limits = format!("ulimit -v {} && ulimit -t {seconds} && exec \"$@\"", memory >> 10);
    let program = env!("CARGO_BIN_EXE_lumina");
    let command = ["-c", &limits, "sh", program];
    // glibc would set aside 128 MiB of addresses for each thread that allocates, which are no memory.
    let mut shell = Command::new("sh");
    shell.args(command).args(arguments).env("MALLOC_ARENA_MAX", "1").output().unwrap()
}

/// What the program and its threads take of the address space, whatever the file is.
const PROGRAM: usize = 80 << 20;

#[test]
fn no_file_takes_more_than_it_is_worth() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.lmn");
    for &((what, make), expected) in FILES {
        let bytes = make(1 << 20);
        std::fs::write(&path, &bytes).unwrap();
        let path = path.to_str().unwrap();
        // What it says in docs/lmn.md.
        let memory = PROGRAM + (32 << 20) + 3 * bytes.len();
        // Without room for buffers, a file that loads is all that is tried.
        let loaded = lumina(memory, 3, &["verify", path, "--memory-limit", "0"]);
        let error = String::from_utf8(loaded.stderr).unwrap();
        let ends = ["has no test vectors", "bytes of buffers, the limit is 0"];
        let is_told = expected
            .map_or(ends.iter().any(|end| error.contains(end)), |part| error.contains(part));
        assert!(loaded.status.code() == Some(2) && is_told, "{what}: {error:.1000}");
        assert!(error.len() <= text_bound(bytes.len()), "{what}: {} bytes", error.len());
        for flags in [&["inspect", path][..], &["inspect", path, "--json"]] {
            let text = lumina(memory + 2 * text_bound(bytes.len()), 4, flags);
            let code = if expected.is_some() { 2 } else { 0 };
            assert_eq!(text.status.code(), Some(code), "{what}");
            assert!(text.stdout.len() <= text_bound(bytes.len()), "{what}: {}", text.stdout.len());
        }
    }
}

/// Header first: nothing else is read, or given room, before it is checked.
#[test]
fn a_sparse_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.lmn");
    let sparse = |start: &[u8], length: u64| {
        std::fs::write(&path, start).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let output = lumina(PROGRAM, 3, &["inspect", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2));
        let error = String::from_utf8(output.stderr).unwrap();
        error.strip_prefix(&format!("error: {}: ", path.display())).unwrap().trim().to_string()
    };
    let length = 3 << 40;
    assert!(sparse(&[], length).starts_with("not a .lmn file: it starts with [00, 00, 00, 00]"));
    let mut file = File::new().bytes();
    let text = sparse(&file, length);
    assert_eq!(
        text,
        format!("header: `file_len` must be {length} as the file has, got {}", file.len())
    );
    // A header that is right, of a file that no memory holds.
    let offset = u64::from_le_bytes(file[40..48].try_into().unwrap());
    file[16..24].copy_from_slice(&length.to_le_bytes());
    file[48..56].copy_from_slice(&(length - offset).to_le_bytes());
    fix_header_checksum(&mut file);
    assert_eq!(sparse(&file, length), format!("there is no memory for {length} bytes"));
}

/// Every operand but one has nothing in any of the rows.
#[test]
fn empty_operands_of_a_concatenation_take_no_time() {
    let (rows, count) = (1 << 20, 20_000);
    let mut file = File::new();
    let x = file.input("x", DType::I8, &fixed(&[rows, 1]));
    let empty = file.input("empty", DType::I8, &fixed(&[rows, 0]));
    let mut operands = vec![empty; count];
    operands.push(x);
    let y = file.node("concatenate", &operands, &[("dimension", int(1))]);
    file.output(y, "y", DType::I8, &fixed(&[rows, 1]));
    let x = Tensor::new(&[rows, 1], &vec![3i8; rows]).unwrap();
    let empty = Tensor::from_bytes(Fact::new(DType::I8, [rows, 0]), &[]).unwrap();
    file.test(&[&x, &empty], &[&x]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.lmn");
    std::fs::write(&path, file.bytes()).unwrap();
    let output = lumina(1 << 30, 3, &["verify", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A view that repeats elements takes no memory, but reading it takes time.
#[test]
fn a_view_is_no_larger_than_memory() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &[]);
    let attrs = [("shape", ints(&[1 << 40])), ("broadcast_dimensions", ints(&[]))];
    let wide = file.node("broadcast_in_dim", &[x], &attrs);
    let attrs = dot(&[0], &[0], &[], &[]);
    let sum = file.node("dot_general", &[wide, wide], &attrs);
    file.output(sum, "y", DType::F32, &[]);
    let mut session = session(&file, 1);
    assert_eq!(
        session.run(&[f32s(&[], &[1.0]).view()]).unwrap_err().to_string(),
        "these input shapes need 4398046511104 bytes of buffers, the limit is 4294967296"
    );
}

/// What an extent of the ends of the numbers did in a release build.
#[test]
fn arithmetic_of_extents_is_checked() {
    let mut file = File::new();
    file.graph.symbols = vec!["a".into(), "s".into()];
    let a = dim(&[(1, &[(0, 1)])]);
    let least = dim(&[(-2, &[(0, 6)]), (1, &[]), (-1, &[(1, 1)])]);
    let x = file.input("x", DType::I8, &[a, least]);
    file.node("neg", &[x], &[]);
    let x = Tensor::new(&[1 << 21, 1], &vec![0i8; 1 << 21]).unwrap();
    file.test(&[&x], &[]);
    assert_eq!(file.refusal(), "test vector 0: input `x`: axis 1 must be -2*a^6 + 1 + -1*s, got 1");
}
