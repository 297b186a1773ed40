//! What an operator computes: ops of the runtime, one after the other.

use std::collections::BTreeMap;

use lumina_kernels::{Attr, DType, Element, Fact};

use super::Operand;
use crate::Error;
use crate::infer::{Action, Inference, Made, check_size, make};
use crate::ir::{Attribute, Attributes, Node};
use crate::plan::{Place, Root};

/// A tensor of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value(usize);

/// Ops on operands, put together one by one and checked each time, of which [`Operator::new`](super::Operator::new)
/// makes an operator.
#[derive(Debug, Default)]
pub struct Program {
    facts: Vec<Fact>,
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<(Operand, usize)>,
    /// Where constants lie.
    fixed: BTreeMap<usize, Place>,
    pub(super) constants: Vec<u8>,
    pub(super) outputs: Vec<(Operand, usize)>,
}

impl Program {
    /// A program without any op.
    pub fn new() -> Self {
        Self::default()
    }

    fn value(&mut self, fact: Fact) -> usize {
        self.facts.push(fact);
        self.facts.len() - 1
    }

    /// The next operand of a call.
    pub fn input(&mut self, operand: &Operand) -> Value {
        let id = self.value(operand.fact().clone());
        self.inputs.push((operand.clone(), id));
        Value(id)
    }

    /// A constant, row-major. Panics where the elements are not those of the shape.
    pub fn constant<T: Element>(&mut self, shape: &[usize], data: &[T]) -> Value {
        let fact = Fact::new(T::DTYPE, shape);
        assert_eq!(fact.len(), data.len(), "elements of a constant");
        let start = self.constants.len().next_multiple_of(crate::bytes::ALIGN);
        self.constants.resize(start, 0);
        self.constants.extend_from_slice(bytemuck::cast_slice(data));
        let id = self.value(fact.clone());
        self.fixed.insert(id, Place::whole(Root::Weights(start), &fact));
        Value(id)
    }

    /// Element type and shape of a value.
    pub fn fact(&self, value: Value) -> &Fact {
        &self.facts[value.0]
    }

    /// The result of an op, which has one.
    pub fn op(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attr<'_>)],
    ) -> Result<Value, Error> {
        match self.ops(name, operands, attributes)?.as_slice() {
            &[value] => Ok(value),
            several => Err(Error::Input(format!("`{name}` has {} results", several.len()))),
        }
    }

    /// The results of an op.
    pub fn ops(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attr<'_>)],
    ) -> Result<Vec<Value>, Error> {
        let attributes = attributes.iter().map(|(name, attr)| {
            let attribute = match *attr {
                Attr::Bool(value) => Attribute::Bool(value),
                Attr::Int(value) => Attribute::Int(value),
                Attr::Float(value) => Attribute::Float(value),
                Attr::Str(value) => Attribute::Str(value.into()),
                Attr::Ints(values) => Attribute::Ints(values.into()),
            };
            ((*name).to_owned(), attribute)
        });
        let mut node = Node {
            op: name.into(),
            inputs: operands.iter().map(|value| value.0 as u32).collect(),
            outputs: Vec::new(),
            attributes: Attributes::new(attributes.collect()),
            source: String::new(),
            fused: Vec::new(),
            execution: None,
        };
        let index = self.nodes.len();
        let Made::Op(op) = make(&node, index, &[], &[])? else {
            return Err(Error::UnknownOps(vec![name.into()]));
        };
        let facts: Vec<Fact> = operands.iter().map(|&value| self.fact(value).clone()).collect();
        let results = op
            .output_shapes(&facts)
            .map_err(|source| Error::Op { place: node.place(index), source })?;
        for fact in results {
            check_size(&fact).map_err(Error::Input)?;
            node.outputs.push(self.value(fact) as u32);
        }
        let values = node.outputs.iter().map(|&id| Value(id as usize)).collect();
        self.nodes.push(node);
        Ok(values)
    }

    /// The value as one of another element type.
    pub fn convert(&mut self, value: Value, dtype: DType) -> Result<Value, Error> {
        if self.fact(value).dtype == dtype {
            return Ok(value);
        }
        self.op("convert_element_type", &[value], &[("new_dtype", Attr::Str(dtype.name()))])
    }

    /// Makes `value` the next result of a call, which is to lie there.
    pub fn output(&mut self, value: Value, target: &Operand) -> Result<(), Error> {
        let fact = self.fact(value);
        if fact != target.fact() {
            let target = target.fact();
            return Err(Error::Input(format!("an output of {target} cannot hold {fact}")));
        }
        if !target.is_nested() {
            let (fact, strides) = (target.fact(), target.strides());
            let message = format!("an output of {fact} cannot have strides {strides:?}");
            return Err(Error::Input(message));
        }
        self.outputs.push((target.clone(), value.0));
        Ok(())
    }

    /// Where the values lie that are no results of ops.
    pub(super) fn given(&self) -> BTreeMap<usize, Place> {
        let inputs = self.inputs.iter().enumerate();
        let mut given = self.fixed.clone();
        given.extend(inputs.map(|(index, (operand, id))| (*id, operand.place(index))));
        given
    }

    /// Facts and ops, as a plan takes them.
    pub(super) fn inference(&self) -> Result<Inference, Error> {
        let mut actions = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            match make(node, index, &[], &[])? {
                Made::Op(op) => actions.push(Action::Op(op)),
                Made::Control(_) => return Err(Error::UnknownOps(vec![node.op.clone()])),
            }
        }
        Ok(Inference { facts: self.facts.clone(), actions })
    }
}
