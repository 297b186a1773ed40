//! Makes `.lmn` files, right ones and wrong ones.

use std::sync::Arc;

use lumina_runtime::{DType, Error, Fact, Model, Options, Session, Tensor, View};
use prost::Message;

use super::proto::{
    self, Attr, Dim, Factor, Graph, Integers, Node, Region, Shape, State, Term, TestTensor,
    TestVector, Value, attr,
};

pub(crate) const GRAPH: u32 = 1;
pub(crate) const WEIGHTS: u32 = 2;
pub(crate) const LUTS: u32 = 3;
pub(crate) const META: u32 = 4;

/// A file in the making.
#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) graph: Graph,
    pub(crate) weights: Vec<u8>,
    pub(crate) luts: Vec<u8>,
    pub(crate) meta: Vec<u8>,
    next: u32,
}

impl File {
    pub(crate) fn new() -> Self {
        let graph = Graph { producer: "test".into(), opset: 4, ..Graph::default() };
        Self { graph, ..Self::default() }
    }

    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn symbol(&mut self, name: &str) -> Dim {
        self.graph.symbols.push(name.into());
        let symbol = self.graph.symbols.len() as u32 - 1;
        dim(&[(1, &[(symbol, 1)])])
    }

    pub(crate) fn input(&mut self, name: &str, dtype: DType, shape: &[Dim]) -> u32 {
        let id = self.id();
        self.graph.inputs.push(value(id, name, dtype, shape));
        id
    }

    pub(crate) fn output(&mut self, id: u32, name: &str, dtype: DType, shape: &[Dim]) {
        self.graph.outputs.push(value(id, name, dtype, shape));
    }

    pub(crate) fn tensor(&mut self, name: &str, tensor: &Tensor) -> u32 {
        let id = self.id();
        let fact = tensor.view().fact();
        let offset = append(&mut self.weights, &tensor.view());
        self.graph.tensors.push(proto::Tensor {
            id,
            name: name.into(),
            dtype: dtype_number(fact.dtype),
            shape: fact.shape.iter().map(|&extent| extent as u64).collect(),
            offset,
            quantization: None,
        });
        id
    }

    /// A state that begins with zeros and stays; its value.
    pub(crate) fn state(&mut self, name: &str, dtype: DType, shape: &[u64]) -> u32 {
        let (id, dtype, shape) = (self.id(), dtype_number(dtype), shape.to_vec());
        let state = State { name: name.into(), id, dtype, shape, ..State::default() };
        self.graph.states.push(state);
        self.graph.opset = 6;
        id
    }

    /// The state whose value before the run is `before` becomes `after`.
    pub(crate) fn becomes(&mut self, before: u32, after: u32) {
        let state = self.graph.states.iter_mut().find(|state| state.id == before).unwrap();
        state.next = Some(after);
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[u32], attrs: Attrs<'_>) -> u32 {
        self.node_of(op, inputs, 1, attrs)[0]
    }

    pub(crate) fn node_of(
        &mut self,
        op: &str,
        inputs: &[u32],
        outputs: usize,
        attrs: Attrs<'_>,
    ) -> Vec<u32> {
        let outputs: Vec<u32> = (0..outputs).map(|_| self.id()).collect();
        self.graph.nodes.push(node(op, inputs, &outputs, attrs));
        outputs
    }

    pub(crate) fn test(&mut self, inputs: &[&Tensor], outputs: &[&Tensor]) {
        let mut store = |tensors: &[&Tensor]| {
            tensors
                .iter()
                .map(|tensor| {
                    let fact = tensor.view().fact();
                    TestTensor {
                        dtype: dtype_number(fact.dtype),
                        shape: fact.shape.iter().map(|&extent| extent as u64).collect(),
                        offset: append(&mut self.meta, &tensor.view()),
                    }
                })
                .collect()
        };
        let (inputs, outputs) = (store(inputs), store(outputs));
        self.graph.tests.push(TestVector {
            inputs,
            outputs,
            absolute_tolerance: 1e-6,
            relative_tolerance: 0.0,
            ..TestVector::default()
        });
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let graph = self.graph.encode_to_vec();
        container(&[
            (GRAPH, &graph),
            (WEIGHTS, &self.weights),
            (LUTS, &self.luts),
            (META, &self.meta),
        ])
    }

    pub(crate) fn load(&self) -> Result<Model, Error> {
        Model::from_bytes(&self.bytes())
    }

    /// The text of the error that loading gives.
    pub(crate) fn refusal(&self) -> String {
        self.load().expect_err("the file is wrong").to_string()
    }
}

pub(crate) type Attrs<'a> = &'a [(&'a str, Attr)];

pub(crate) fn flag(value: bool) -> Attr {
    Attr { value: Some(attr::Value::Flag(value)) }
}

pub(crate) fn int(value: i64) -> Attr {
    Attr { value: Some(attr::Value::Integer(value)) }
}

pub(crate) fn text(value: &str) -> Attr {
    Attr { value: Some(attr::Value::Text(value.into())) }
}

pub(crate) fn ints(values: &[i64]) -> Attr {
    Attr { value: Some(attr::Value::Integers(Integers { values: values.to_vec() })) }
}

pub(crate) fn shape(dims: &[Dim]) -> Attr {
    Attr { value: Some(attr::Value::Shape(Shape { dims: dims.to_vec() })) }
}

/// A polynomial from (coefficient, [(symbol, power)]).
pub(crate) fn dim(terms: &[(i64, &[(u32, u32)])]) -> Dim {
    let factor = |&(symbol, power): &(u32, u32)| Factor { symbol, power };
    let term = |(coefficient, factors): &(i64, &[(u32, u32)])| Term {
        coefficient: *coefficient,
        factors: factors.iter().map(factor).collect(),
    };
    Dim { terms: terms.iter().map(term).collect() }
}

pub(crate) fn fixed(extents: &[usize]) -> Vec<Dim> {
    extents.iter().map(|&extent| dim(&[(extent as i64, &[])])).collect()
}

pub(crate) fn node(op: &str, inputs: &[u32], outputs: &[u32], attrs: Attrs<'_>) -> Node {
    Node {
        op: op.into(),
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
        attrs: attrs.iter().map(|(name, attr)| (name.to_string(), attr.clone())).collect(),
        source: String::new(),
        fused: Vec::new(),
        execution: None,
    }
}

/// A region, as an attribute.
pub(crate) fn region(captures: &[u32], inputs: u32, nodes: Vec<Node>, outputs: &[u32]) -> Attr {
    let (captures, outputs) = (captures.to_vec(), outputs.to_vec());
    let region = Region { captures, inputs, nodes, outputs };
    Attr { value: Some(attr::Value::Region(region)) }
}

/// The attributes of `dot_general`: the contracted axes of both operands, and their batch axes.
pub(crate) fn dot<'a>(
    lhs: &[i64],
    rhs: &[i64],
    lhs_batch: &[i64],
    rhs_batch: &[i64],
) -> [(&'a str, Attr); 4] {
    [
        ("lhs_contracting", ints(lhs)),
        ("rhs_contracting", ints(rhs)),
        ("lhs_batch", ints(lhs_batch)),
        ("rhs_batch", ints(rhs_batch)),
    ]
}

pub(crate) fn value(id: u32, name: &str, dtype: DType, shape: &[Dim]) -> Value {
    Value { id, name: name.into(), dtype: dtype_number(dtype), shape: shape.to_vec(), role: 0 }
}

pub(crate) fn dtype_number(dtype: DType) -> u32 {
    dtype.file_number()
}

/// The offset of the tensor, 64-byte aligned, in what it was appended to.
fn append(section: &mut Vec<u8>, view: &View<'_>) -> u64 {
    section.resize(section.len().next_multiple_of(64), 0);
    let offset = section.len() as u64;
    section.extend(raw(view));
    offset
}

/// The little-endian bytes of a tensor.
pub(crate) fn raw(view: &View<'_>) -> Vec<u8> {
    view.bytes().unwrap().to_vec()
}

/// A file of these sections, (kind, bytes); empty ones are left out.
pub(crate) fn container(sections: &[(u32, &[u8])]) -> Vec<u8> {
    let sections: Vec<_> = sections.iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
    let mut header = Vec::from(*b"LMN\x1a");
    let header_len = 32 + 32 * sections.len();
    header.extend(1u16.to_le_bytes());
    header.extend(0u16.to_le_bytes());
    header.extend((header_len as u32).to_le_bytes());
    header.extend(0u32.to_le_bytes());
    header.extend([0; 8]);
    header.extend((sections.len() as u32).to_le_bytes());
    header.extend([0; 4]);
    let mut body = Vec::new();
    for (kind, bytes) in sections {
        let offset = (header_len + body.len()).next_multiple_of(64);
        body.resize(offset - header_len, 0);
        body.extend_from_slice(bytes);
        header.extend(kind.to_le_bytes());
        header.extend(0u32.to_le_bytes());
        header.extend((offset as u64).to_le_bytes());
        header.extend((bytes.len() as u64).to_le_bytes());
        header.extend(64u32.to_le_bytes());
        header.extend([0; 4]);
    }
    let length = header_len + body.len();
    header[16..24].copy_from_slice(&(length as u64).to_le_bytes());
    header.extend(body);
    fix_checksums(&mut header);
    header
}

/// Makes the checksums right, as far as the section table can be followed.
pub(crate) fn fix_checksums(file: &mut [u8]) {
    let read = |file: &[u8], at: usize| {
        let bytes = file.get(at..at + 8)?;
        usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let mut at = 32;
    let Some(count) = file.get(24..28) else { return };
    let count = u32::from_le_bytes(count.try_into().unwrap());
    for _ in 0..count.min(64) {
        let (Some(offset), Some(length)) = (read(file, at + 8), read(file, at + 16)) else { break };
        let section = offset.checked_add(length).and_then(|end| file.get(offset..end));
        if let Some(crc) = section.map(crc32c::crc32c)
            && let Some(field) = file.get_mut(at + 28..at + 32)
        {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        at += 32;
    }
    fix_header_checksum(file);
}

pub(crate) fn fix_header_checksum(file: &mut [u8]) {
    let Some(header_len) = file.get(8..12) else { return };
    let header_len = u32::from_le_bytes(header_len.try_into().unwrap()) as usize;
    if (32..=file.len()).contains(&header_len) {
        file[28..32].fill(0);
        let crc = crc32c::crc32c(&file[..header_len]);
        file[28..32].copy_from_slice(&crc.to_le_bytes());
    }
}

pub(crate) fn f32s(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(shape, data).unwrap()
}

pub(crate) fn i32s(shape: &[usize], data: &[i32]) -> Tensor {
    Tensor::new(shape, data).unwrap()
}

pub(crate) fn u32s(shape: &[usize], data: &[u32]) -> Tensor {
    Tensor::new(shape, data).unwrap()
}

/// Truth values.
pub(crate) fn bools(shape: &[usize], data: &[u8]) -> Tensor {
    Tensor::from_bytes(Fact::new(DType::Bool, shape), data).unwrap()
}

/// A file of one node, whose inputs are those of the graph and whose outputs have these facts.
pub(crate) fn one_node(op: &str, attrs: Attrs<'_>, inputs: &[Fact], outputs: &[Fact]) -> File {
    let mut file = File::new();
    let ids: Vec<u32> = inputs
        .iter()
        .enumerate()
        .map(|(index, fact)| file.input(&format!("x{index}"), fact.dtype, &fixed(&fact.shape)))
        .collect();
    let results = file.node_of(op, &ids, outputs.len(), attrs);
    for (index, (id, fact)) in results.into_iter().zip(outputs).enumerate() {
        file.output(id, &format!("y{index}"), fact.dtype, &fixed(&fact.shape));
    }
    file
}

pub(crate) fn session(file: &File, threads: usize) -> Session {
    let options = Options { threads, ..Options::default() };
    Session::new(Arc::new(file.load().unwrap()), options).unwrap()
}

/// Runs one op and returns its outputs, which have these facts.
pub(crate) fn run(op: &str, attrs: Attrs<'_>, inputs: &[&Tensor], outputs: &[Fact]) -> Vec<Tensor> {
    let facts: Vec<Fact> = inputs.iter().map(|input| input.view().fact()).collect();
    let mut session = session(&one_node(op, attrs, &facts, outputs), 2);
    let views: Vec<View<'_>> = inputs.iter().map(|input| input.view()).collect();
    let results = session.run(&views).unwrap();
    results.iter().map(|view| Tensor::from_bytes(view.fact(), &raw(view)).unwrap()).collect()
}

/// Runs one op and compares its only output bit for bit; any NaN equals any other.
pub(crate) fn check(op: &str, attrs: Attrs<'_>, inputs: &[&Tensor], expected: &Tensor) {
    let got = run(op, attrs, inputs, &[expected.view().fact()]);
    same(op, &got[0].view(), &expected.view());
}

pub(crate) fn same(what: &str, got: &View<'_>, expected: &View<'_>) {
    assert_eq!(got.fact(), expected.fact(), "{what}");
    if let (Ok(got), Ok(expected)) = (got.data::<f32>(), expected.data::<f32>()) {
        let equal = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        assert!(got.iter().zip(expected).all(equal), "{what}: got {got:?}, expected {expected:?}");
    } else {
        assert_eq!(raw(got), raw(expected), "{what}");
    }
}

/// The text of the error that loading a file of one node gives.
pub(crate) fn refusal(op: &str, attrs: Attrs<'_>, inputs: &[Fact]) -> String {
    one_node(op, attrs, inputs, &[Fact::new(DType::F32, [])]).refusal()
}
