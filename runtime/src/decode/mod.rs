//! From the bytes of a GRAPH section to a [`Graph`]: the only place that knows protobuf.

#[allow(missing_docs, unreachable_pub, rustdoc::all, clippy::all)]
#[rustfmt::skip]
mod proto;
mod wire;

use lumina_kernels::{DType, Fact};
use prost::Message;

use crate::Error;
use crate::ir::dim::{Dim, Factor, Term};
use crate::ir::{
    Attribute, Crosstalk, Graph, Node, Port, Quantization, Region, Role, Stored, Tensor,
    TestVector, Wdm, in_region,
};

/// Decodes a graph. What numbers mean is checked here, what they say to each other is not.
pub(crate) fn decode(bytes: &[u8]) -> Result<Graph, Error> {
    wire::check(bytes)?;
    let graph = proto::Graph::decode(bytes).map_err(|error| Error::Decode(error.to_string()))?;
    Ok(Graph {
        producer: graph.producer,
        opset: graph.opset,
        symbols: graph.symbols,
        inputs: all(graph.inputs, |value| port("input", value))?,
        tensors: all(graph.tensors, tensor)?,
        nodes: nodes(graph.nodes)?,
        outputs: all(graph.outputs, |value| port("output", value))?,
        tests: graph
            .tests
            .into_iter()
            .enumerate()
            .map(|(index, test)| test_vector(index, test))
            .collect::<Result<_, _>>()?,
        wdm: graph.wdm.map(|wdm| Wdm {
            wavelengths_nm: wdm.wavelengths_nm,
            slot_of_stream: wdm.slot_of_stream,
        }),
        crosstalk: graph.crosstalk.map(|crosstalk| Crosstalk {
            size: crosstalk.size,
            matrix: crosstalk.matrix,
            compensation: crosstalk.compensation,
        }),
    })
}

fn all<T, U>(items: Vec<T>, one: impl Fn(T) -> Result<U, Error>) -> Result<Vec<U>, Error> {
    items.into_iter().map(one).collect()
}

/// The element type of a number in a file.
fn dtype(number: u32) -> Result<DType, String> {
    DType::from_file_number(number).ok_or_else(|| format!("unknown dtype {number}"))
}

fn port(what: &str, value: proto::Value) -> Result<Port, Error> {
    let fault = |message| Error::graph(format!("{what} `{}`", value.name), message);
    Ok(Port {
        dtype: dtype(value.dtype).map_err(fault)?,
        role: match proto::Role::try_from(value.role) {
            Ok(proto::Role::Plain) => Role::Plain,
            Ok(proto::Role::NoiseSeed) => Role::NoiseSeed,
            Err(_) => return Err(fault(format!("unknown role {}", value.role))),
        },
        id: value.id,
        shape: dims(value.shape),
        name: value.name,
    })
}

fn tensor(tensor: proto::Tensor) -> Result<Tensor, Error> {
    let fault = |message| Error::graph(format!("tensor {} `{}`", tensor.id, tensor.name), message);
    Ok(Tensor {
        id: tensor.id,
        stored: stored(tensor.dtype, &tensor.shape, tensor.offset).map_err(fault)?,
        quantization: tensor.quantization.map(|q| Quantization {
            bits: q.bits,
            axis: q.axis,
            scales: q.scales,
            zero_points: q.zero_points,
            lut: q.lut_offset.map(|offset| (offset, q.lut_length)),
        }),
        name: tensor.name,
    })
}

fn stored(number: u32, shape: &[u64], offset: u64) -> Result<Stored, String> {
    let extents: Result<Vec<usize>, _> = shape.iter().map(|&e| usize::try_from(e)).collect();
    let extents = extents.map_err(|_| format!("shape {shape:?} is too large"))?;
    Ok(Stored { fact: Fact::new(dtype(number)?, extents), offset })
}

fn nodes(nodes: Vec<proto::Node>) -> Result<Vec<Node>, Error> {
    nodes.into_iter().enumerate().map(|(index, node)| self::node(index, node)).collect()
}

fn node(index: usize, mut node: proto::Node) -> Result<Node, Error> {
    let attributes = std::mem::take(&mut node.attrs);
    let mut node = Node {
        op: node.op,
        inputs: node.inputs,
        outputs: node.outputs,
        attributes: Default::default(),
        source: node.source,
    };
    for (name, attr) in attributes {
        let Some(value) = attr.value else {
            let message = format!("attribute `{name}` has no value");
            return Err(Error::graph(node.place(index), message));
        };
        let attribute = attribute(value).map_err(|error| in_region(&node, index, &name, error))?;
        node.attributes.insert(name, attribute);
    }
    Ok(node)
}

fn attribute(value: proto::attr::Value) -> Result<Attribute, Error> {
    use proto::attr::Value;
    Ok(match value {
        Value::Flag(value) => Attribute::Bool(value),
        Value::Integer(value) => Attribute::Int(value),
        Value::Number(value) => Attribute::Float(value),
        Value::Text(value) => Attribute::Str(value),
        Value::Integers(value) => Attribute::Ints(value.values),
        Value::Shape(value) => Attribute::Shape(dims(value.dims)),
        Value::Region(value) => Attribute::Region(Region {
            captures: value.captures,
            inputs: value.inputs as usize,
            nodes: nodes(value.nodes)?,
            outputs: value.outputs,
        }),
    })
}

fn dims(dims: Vec<proto::Dim>) -> Vec<Dim> {
    let factor = |f: proto::Factor| Factor { symbol: f.symbol, power: f.power };
    let term = |term: proto::Term| Term {
        coefficient: term.coefficient,
        factors: term.factors.into_iter().map(factor).collect(),
    };
    dims.into_iter().map(|dim| Dim { terms: dim.terms.into_iter().map(term).collect() }).collect()
}

fn test_vector(index: usize, test: proto::TestVector) -> Result<TestVector, Error> {
    let read = |what: &str, tensors: Vec<proto::TestTensor>| {
        all(tensors, |tensor| {
            stored(tensor.dtype, &tensor.shape, tensor.offset)
                .map_err(|message| Error::graph(format!("test vector {index}, {what}"), message))
        })
    };
    Ok(TestVector {
        inputs: read("inputs", test.inputs)?,
        outputs: read("outputs", test.outputs)?,
        absolute_tolerance: test.absolute_tolerance,
        relative_tolerance: test.relative_tolerance,
    })
}
