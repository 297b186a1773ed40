//! What a rule is given, and what it gives.

use lumina_kernels::{DType, DynOp, Fact};

use super::checked_element;
use crate::infer::Inference;
use crate::ir::{self, Attribute, Dim};

/// A value of the file, and what it is called in the ONNX graph.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) name: String,
    /// Rank and element type. The extents are those of an example, unless they are exact.
    pub(super) fact: Fact,
    /// Whether the extents are the same for all values of the symbols.
    pub(super) is_exact: bool,
    /// The same with extents of 1 where it repeats, for ops that repeat by themselves.
    pub(super) compact: Option<Compact>,
    /// The constant of the file that it is.
    pub(super) tensor: Option<u32>,
}

/// A value before it is repeated along some axes.
#[derive(Clone, Debug)]
pub(super) struct Compact {
    pub(super) name: String,
    /// The operand of `broadcast_in_dim`, and its axes in the result.
    pub(super) source: String,
    pub(super) axes: Vec<i64>,
    /// Its extents, where they are the same for all values of the symbols.
    pub(super) extents: Option<Vec<usize>>,
}

impl Default for Value {
    /// A value that nothing needs.
    fn default() -> Self {
        Self::new(String::new(), Fact::new(DType::F32, []), false)
    }
}

impl Value {
    pub(super) fn new(name: String, fact: Fact, is_exact: bool) -> Self {
        Self { name, fact, is_exact, compact: None, tensor: None }
    }

    pub(super) fn rank(&self) -> usize {
        self.fact.shape.len()
    }

    pub(super) fn dtype(&self) -> DType {
        self.fact.dtype
    }

    /// An extent that a rule must know; refused where it follows from a symbol.
    pub(super) fn extent(&self, axis: usize) -> Result<i64, String> {
        match self.is_exact {
            true => Ok(self.fact.shape[axis] as i64),
            false => Err(format!("the extent of axis {axis} of an operand must be a number")),
        }
    }
}

/// A node whose rule runs.
pub(super) struct Call<'a> {
    pub(super) node: &'a ir::Node,
    pub(super) inputs: Vec<Value>,
    /// Facts of the outputs, of which ranks and types are right.
    pub(super) outputs: Vec<Fact>,
    /// What the runtime would run; None for an op that has regions.
    pub(super) op: Option<&'a dyn DynOp>,
    /// Of its regions, for ops that have some.
    pub(super) regions: &'a [Inference],
}

macro_rules! getters {
    ($($name:ident: $variant:ident, $ty:ty, $what:literal;)*) => {
        impl Call<'_> {$(
            pub(super) fn $name(&self, name: &str) -> Result<$ty, String> {
                match self.node.attributes.get(name) {
                    Some(Attribute::$variant(value)) => Ok(value.clone()),
                    _ => Err(format!("attribute `{name}` must be {}", $what)),
                }
            }
        )*}
    };
}

getters! {
    bool: Bool, bool, "a bool";
    int: Int, i64, "an integer";
    float: Float, f64, "a float";
    text: Str, String, "a text";
    ints: Ints, Vec<i64>, "integers";
}

impl Call<'_> {
    pub(super) fn shape(&self, name: &str) -> Result<Vec<Dim>, String> {
        let number = |&value: &i64| Dim {
            terms: if value == 0 {
                vec![]
            } else {
                vec![ir::dim::Term { coefficient: value, factors: vec![] }]
            },
        };
        match self.node.attributes.get(name) {
            Some(Attribute::Shape(dims)) => Ok(dims.clone()),
            Some(Attribute::Ints(values)) => Ok(values.iter().map(number).collect()),
            _ => Err(format!("attribute `{name}` must be a shape")),
        }
    }

    /// A shape whose extents a rule must know.
    pub(super) fn numbers(&self, name: &str) -> Result<Vec<i64>, String> {
        let dims = self.shape(name)?;
        let number = |dim: &Dim| match dim.terms.as_slice() {
            [] => Some(0),
            [term] if term.factors.is_empty() => Some(term.coefficient),
            _ => None,
        };
        let numbers: Option<Vec<i64>> = dims.iter().map(number).collect();
        numbers.ok_or_else(|| format!("`{name}` depends on the shapes of the inputs"))
    }

    pub(super) fn input(&self, index: usize) -> &str {
        &self.inputs[index].name
    }

    /// The element type of the first result, by its ONNX number.
    pub(super) fn element(&self) -> Result<i32, String> {
        checked_element(self.outputs[0].dtype)
    }
}

/// What a rule gives: names of the outputs, or why there are none.
pub(super) type Emitted = Result<Vec<Value>, String>;

/// One value of that name.
pub(super) fn one(name: String) -> Result<Option<Vec<Value>>, String> {
    Ok(Some(vec![named(name)]))
}

/// A value whose fact its node tells.
pub(super) fn named(name: String) -> Value {
    Value { name, ..Value::default() }
}
