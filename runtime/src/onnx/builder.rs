//! An ONNX graph in the making.

use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::{DType, Fact};

use super::call::{Call, Emitted, Value, named};
use super::names::{Names, path_of};
use super::proto::{Attribute, Extent, Graph, Node, Tensor, ValueInfo, element};
use super::{checked_element, constants, control, convolution, elementwise, indexing};
use super::{optical, optical_attention, products, rows, shapes};
use crate::Model;
use crate::infer::{Action, Inference};
use crate::ir;

pub(super) struct Builder<'a> {
    pub(super) model: &'a Model,
    pub(super) graph: &'a ir::Graph,
    tensors: BTreeMap<u32, &'a ir::Tensor>,
    names: Names,
    /// Nodes of the scopes that are open, the outermost first.
    scopes: Vec<Vec<Node>>,
    /// Nodes that compute extents of inputs, before all others.
    pub(super) prelude: Vec<Node>,
    pub(super) is_prelude: bool,
    initializers: Vec<Tensor>,
    /// Those that stay whether nodes read them or not.
    kept: Vec<String>,
    /// Small constants that rules have made, by type, shape and bytes.
    constants: BTreeMap<(i32, Vec<i64>, Vec<u8>), String>,
    /// Extents that have been computed, by what they are in words.
    pub(super) extents: BTreeMap<String, String>,
    inputs: Vec<ValueInfo>,
    pub(super) inputs_by_port: Vec<(u32, String)>,
    outputs: Vec<ValueInfo>,
    pub(super) refusals: Vec<String>,
    /// Of the node whose rule runs.
    source: String,
    /// In front of the place of a refusal in a region.
    pub(super) place: Vec<String>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(model: &'a Model, graph: &'a ir::Graph) -> Self {
        Self {
            model,
            graph,
            tensors: graph.tensors_by_id(),
            names: Names::default(),
            scopes: vec![Vec::new()],
            prelude: Vec::new(),
            is_prelude: false,
            initializers: Vec::new(),
            kept: Vec::new(),
            constants: BTreeMap::new(),
            extents: BTreeMap::new(),
            inputs: Vec::new(),
            inputs_by_port: Vec::new(),
            outputs: Vec::new(),
            refusals: Vec::new(),
            source: String::new(),
            place: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, wish: &str) -> String {
        self.names.take(wish)
    }

    pub(super) fn declare_input(&mut self, name: &str, dtype: DType, shape: Vec<Option<Extent>>) {
        match checked_element(dtype) {
            Ok(element) => self.inputs.push(ValueInfo::new(name, element, shape)),
            Err(message) => self.refusals.push(format!("input `{name}`: {message}")),
        }
    }

    /// An output of that name or a similar one, which is returned.
    pub(super) fn declare_output(
        &mut self,
        wish: &str,
        value: &Value,
        dtype: DType,
        shape: Vec<Option<Extent>>,
    ) -> String {
        self.source = String::new();
        let name = self.take(wish);
        self.push("Identity", &[&value.name], vec![], vec![name.clone()]);
        match checked_element(dtype) {
            Ok(element) => self.outputs.push(ValueInfo::new(&name, element, shape)),
            Err(message) => self.refusals.push(format!("output `{wish}`: {message}")),
        }
        name
    }

    /// A constant of the file, by its name.
    pub(super) fn constant_of(&mut self, tensor: &ir::Tensor) -> Value {
        let fact = &tensor.stored.fact;
        let name = match tensor.name.as_str() {
            "" => self.take(&format!("constant_{}", tensor.id)),
            name => self.take(name),
        };
        match checked_element(fact.dtype) {
            Ok(data_type) => self.initializers.push(Tensor {
                dims: fact.shape.iter().map(|&extent| extent as i64).collect(),
                data_type,
                name: name.clone(),
                raw_data: self.bytes_of(tensor).to_vec(),
            }),
            Err(message) => self.refusals.push(format!("{}: {message}", tensor.place())),
        }
        Value { tensor: Some(tensor.id), ..Value::new(name, fact.clone(), true) }
    }

    /// The constant of that id, and its elements.
    pub(super) fn tensor(&self, id: u32) -> Option<(&'a ir::Tensor, &'a [u8])> {
        let tensor: &'a ir::Tensor = self.tensors.get(&id)?;
        Some((tensor, self.bytes_of(tensor)))
    }

    /// A constant that was computed of those of the file.
    pub(super) fn add_constant(&mut self, wish: &str, fact: &Fact, raw_data: Vec<u8>) -> Emitted {
        let (name, data_type) = (self.take(wish), checked_element(fact.dtype)?);
        let dims = fact.shape.iter().map(|&extent| extent as i64).collect();
        self.initializers.push(Tensor { dims, data_type, name: name.clone(), raw_data });
        Ok(vec![named(name)])
    }

    fn bytes_of(&self, tensor: &ir::Tensor) -> &'a [u8] {
        &self.model.weights()[tensor.stored.range()]
    }

    /// Keeps a constant that nothing reads, and returns its name.
    pub(super) fn keep(&mut self, tensor: &ir::Tensor) -> String {
        let name = self.constant_of(tensor).name;
        self.kept.push(name.clone());
        name
    }

    /// A constant that a rule needs.
    pub(super) fn constant(&mut self, element: i32, shape: &[usize], bytes: Vec<u8>) -> String {
        let dims: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
        let key = (element, dims.clone(), bytes.clone());
        if let Some(name) = self.constants.get(&key) {
            return name.clone();
        }
        let name = self.take("constant");
        self.initializers.push(Tensor {
            dims,
            data_type: element,
            name: name.clone(),
            raw_data: bytes,
        });
        self.constants.insert(key, name.clone());
        name
    }

    /// Integers along one axis: axes, extents, positions.
    pub(super) fn i64s(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(element::INT64, &[values.len()], bytes)
    }

    pub(super) fn i64(&mut self, value: i64) -> String {
        self.constant(element::INT64, &[], value.to_le_bytes().into())
    }

    pub(super) fn f32(&mut self, value: f32) -> String {
        self.constant(element::FLOAT, &[], value.to_le_bytes().into())
    }

    /// A number of that type, rank 0.
    pub(super) fn number(&mut self, value: f64, dtype: DType) -> Result<String, String> {
        let element = checked_element(dtype)?;
        let bytes = match dtype {
            DType::F32 => (value as f32).to_le_bytes().to_vec(),
            DType::F64 => value.to_le_bytes().to_vec(),
            DType::I8 => (value as i8).to_le_bytes().to_vec(),
            DType::U8 | DType::Bool => (value as u8).to_le_bytes().to_vec(),
            DType::I16 => (value as i16).to_le_bytes().to_vec(),
            DType::I32 => (value as i32).to_le_bytes().to_vec(),
            DType::U32 => (value as u32).to_le_bytes().to_vec(),
            DType::I64 => (value as i64).to_le_bytes().to_vec(),
            _ => {
                let number = self.f32(value as f32);
                return Ok(self.cast(&number, element));
            }
        };
        Ok(self.constant(element, &[], bytes))
    }

    pub(super) fn cast(&mut self, name: &str, element: i32) -> String {
        self.op("Cast", &[name], vec![Attribute::int("to", element.into())])
    }

    /// A node with one result.
    pub(super) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<Attribute>) -> String {
        self.ops(op, inputs, attributes, 1).remove(0)
    }

    /// A node with some results.
    pub(super) fn ops(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
        results: usize,
    ) -> Vec<String> {
        let path = path_of(&self.source);
        let wish = if path.is_empty() { op.to_owned() } else { format!("{path}/{op}") };
        let outputs: Vec<String> = (0..results).map(|_| self.names.take(&wish)).collect();
        self.push(op, inputs, attributes, outputs.clone());
        outputs
    }

    fn push(&mut self, op: &str, inputs: &[&str], attribute: Vec<Attribute>, output: Vec<String>) {
        let node = Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            name: output[0].clone(),
            output,
            op_type: op.into(),
            attribute,
            doc_string: if self.is_prelude { String::new() } else { self.source.clone() },
        };
        match self.is_prelude {
            true => self.prelude.push(node),
            false => self.scopes.last_mut().expect("a scope is open").push(node),
        }
    }

    pub(super) fn transpose(&mut self, name: &str, permutation: &[i64]) -> String {
        if permutation.iter().zip(0..).all(|(&axis, index)| axis == index) {
            return name.to_owned();
        }
        self.op("Transpose", &[name], vec![Attribute::ints("perm", permutation.to_vec())])
    }

    /// With axes of extent 1, whose numbers are those in the result.
    pub(super) fn unsqueeze(&mut self, name: &str, axes: &[i64]) -> String {
        if axes.is_empty() {
            return name.to_owned();
        }
        let axes = self.i64s(axes);
        self.op("Unsqueeze", &[name, &axes], vec![])
    }

    /// The first `count` values of `values` along an axis, from `start` on.
    pub(super) fn slice(&mut self, name: &str, axis: i64, start: i64, end: i64) -> String {
        let [start, end, axis] = [start, end, axis].map(|number| self.i64s(&[number]));
        self.op("Slice", &[name, &start, &end, &axis], vec![])
    }

    /// Emits the nodes of a scope of which some value is needed. `values` has those that are given.
    pub(super) fn nodes(
        &mut self,
        nodes: &[ir::Node],
        inference: &Inference,
        values: &mut [Value],
        needed: &BTreeSet<u32>,
    ) {
        for (index, (node, action)) in nodes.iter().zip(&inference.actions).enumerate() {
            if !node.outputs.iter().any(|id| needed.contains(id)) {
                continue;
            }
            self.source.clone_from(&node.source);
            let inputs: Vec<Value> =
                node.inputs.iter().map(|&id| values[id as usize].clone()).collect();
            let read = &inputs[..super::read(node).len()];
            let captured = node.regions().flat_map(|(_, region)| &region.captures);
            let is_exact = !node.attributes.are_symbolic()
                && read.iter().all(|value| value.is_exact)
                && captured.map(|&id| &values[id as usize]).all(|value| value.is_exact);
            let call = Call {
                node,
                inputs,
                outputs: node
                    .outputs
                    .iter()
                    .map(|&id| inference.facts[id as usize].clone())
                    .collect(),
                op: match action {
                    Action::Op(op) => Some(&**op),
                    Action::Control(..) => None,
                },
                regions: match action {
                    Action::Op(_) => &[],
                    Action::Control(_, regions) => regions,
                },
            };
            self.place.push(node.place(index));
            let emitted = self.rule(&call, values);
            let place = self.place.join(", ");
            self.place.pop();
            match emitted {
                Ok(results) => {
                    for ((&id, mut value), fact) in
                        node.outputs.iter().zip(results).zip(&call.outputs)
                    {
                        value.fact = fact.clone();
                        value.is_exact = is_exact;
                        values[id as usize] = value;
                    }
                }
                Err(message) => {
                    // What was refused within has been told.
                    if !message.is_empty() {
                        self.refusals.push(format!("{place}: {message}"));
                    }
                    for (&id, fact) in node.outputs.iter().zip(&call.outputs) {
                        values[id as usize] = Value::new("?".into(), fact.clone(), is_exact);
                    }
                }
            }
        }
    }

    fn rule(&mut self, call: &Call<'_>, values: &[Value]) -> Emitted {
        let complex = call
            .inputs
            .iter()
            .map(|value| value.dtype())
            .chain(call.outputs.iter().map(|fact| fact.dtype));
        if complex.into_iter().any(|dtype| matches!(dtype, DType::C64 | DType::C128)) {
            return Err("ONNX has no ops of complex numbers".into());
        }
        let rules = [
            elementwise::emit,
            shapes::emit,
            products::emit,
            convolution::emit,
            rows::emit,
            indexing::emit,
            optical::emit,
            optical_attention::emit,
            constants::emit,
        ];
        for rule in rules {
            if let Some(emitted) = rule(self, call)? {
                return Ok(emitted);
            }
        }
        control::emit(self, call, values)?
            .ok_or_else(|| "no op of ONNX, nor a few of them, computes it".into())
    }

    /// What `emit` emits, as nodes of a scope of its own.
    pub(super) fn scope<T>(&mut self, emit: impl FnOnce(&mut Self) -> T) -> (T, Vec<Node>) {
        self.scopes.push(Vec::new());
        let result = emit(self);
        (result, self.scopes.pop().expect("a scope is open"))
    }

    /// The whole graph, without what nothing reads.
    pub(super) fn finish(mut self, name: &str) -> Graph {
        let mut node = std::mem::take(&mut self.prelude);
        node.extend(self.scopes.pop().expect("the outermost scope"));
        let mut graph = Graph {
            node,
            name: if name.is_empty() { "model".into() } else { name.into() },
            initializer: self.initializers,
            input: self.inputs,
            output: self.outputs,
        };
        let mut used: BTreeSet<String> = self.kept.into_iter().collect();
        keep_used(&mut graph, &mut used);
        graph.initializer.retain(|tensor| used.contains(&tensor.name));
        graph
    }
}

/// Drops nodes whose results nothing uses, and adds what the others use to `used`.
fn keep_used(graph: &mut Graph, used: &mut BTreeSet<String>) {
    used.extend(graph.output.iter().map(|output| output.name.clone()));
    let mut kept = Vec::new();
    while let Some(mut node) = graph.node.pop() {
        if !node.output.iter().any(|name| used.contains(name)) {
            continue;
        }
        used.extend(node.input.iter().cloned());
        for attribute in &mut node.attribute {
            if let Some(graph) = &mut attribute.g {
                keep_used(graph, used);
            }
        }
        kept.push(node);
    }
    kept.reverse();
    graph.node = kept;
}

/// The number of an element type in ONNX files, where it has one.
pub(super) fn element_of(dtype: DType) -> Option<i32> {
    Some(match dtype {
        DType::F32 => element::FLOAT,
        DType::F64 => element::DOUBLE,
        DType::F16 => element::FLOAT16,
        DType::BF16 => element::BFLOAT16,
        DType::U8 => element::UINT8,
        DType::I8 => element::INT8,
        DType::I16 => element::INT16,
        DType::I32 => element::INT32,
        DType::I64 => element::INT64,
        DType::U32 => element::UINT32,
        DType::Bool => element::BOOL,
        _ => return None,
    })
}
