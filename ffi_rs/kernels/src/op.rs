//! What an op is, and how its attributes reach it.

use crate::ops::Dequantize;
use crate::{Error, Fact, Layout, ParFor, View, ViewMut};

/// One attribute of an op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attr<'a> {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A text.
    Str(&'a str),
    /// A list of integers: axes, a permutation, a shape.
    Ints(&'a [i64]),
}

/// Attributes by name, as XLA, a `.lmn` file or NumPy hands them over.
pub trait Attrs {
    /// The attribute of that name, if there is one.
    fn get(&self, name: &str) -> Option<Attr<'_>>;
}

impl dyn Attrs + '_ {
    /// A truth value.
    pub fn bool(&self, op: &'static str, name: &str) -> Result<bool, Error> {
        match self.get(name) {
            Some(Attr::Bool(value)) => Ok(value),
            other => Err(unexpected(op, name, "a bool", other)),
        }
    }

    /// An integer.
    pub fn int(&self, op: &'static str, name: &str) -> Result<i64, Error> {
        match self.get(name) {
            Some(Attr::Int(value)) => Ok(value),
            other => Err(unexpected(op, name, "an integer", other)),
        }
    }

    /// A float.
    pub fn float(&self, op: &'static str, name: &str) -> Result<f64, Error> {
        match self.get(name) {
            Some(Attr::Float(value)) => Ok(value),
            other => Err(unexpected(op, name, "a float", other)),
        }
    }

    /// A text.
    pub fn str(&self, op: &'static str, name: &str) -> Result<&str, Error> {
        match self.get(name) {
            Some(Attr::Str(value)) => Ok(value),
            other => Err(unexpected(op, name, "a string", other)),
        }
    }

    /// A list of integers.
    pub fn ints(&self, op: &'static str, name: &str) -> Result<&[i64], Error> {
        match self.get(name) {
            Some(Attr::Ints(value)) => Ok(value),
            other => Err(unexpected(op, name, "a list of integers", other)),
        }
    }
}

fn unexpected(op: &'static str, name: &str, expected: &str, got: Option<Attr<'_>>) -> Error {
    let message = match got {
        None => format!("attribute `{name}` is missing, expected {expected}"),
        Some(got) => format!("attribute `{name}` must be {expected}, got {got:?}"),
    };
    Error::invalid(op, message)
}

/// An operation: attributes checked once, a shape rule, a computation.
pub trait Op: Sized + Send + Sync + 'static {
    /// Name in JAX, in the `.lmn` file and in NumPy; the XLA target is `lumina.NAME.v1`.
    const NAME: &'static str;

    /// The op of these attributes, or why there is none.
    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error>;

    /// What `run` writes for these inputs, or why it will not.
    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error>;

    /// Computes `outputs`, which have the facts that `output_shapes` gave for `inputs`.
    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error>;

    /// Whether `run` takes inputs of any layout. Where it does not, they are row-major.
    fn accepts_strides(&self) -> bool {
        false
    }

    /// Where the elements of the only output lie among those of the only input, which has this
    /// layout, so that nothing has to be moved; None where it has.
    fn alias(&self, input: &Layout) -> Option<Layout> {
        let _ = input;
        None
    }

    /// Whether `run_in_place` may write the only output over input `operand`, which has its fact.
    fn in_place(&self, inputs: &[Fact], operand: usize) -> bool {
        let _ = (inputs, operand);
        false
    }

    /// `run`, where `output` holds the elements of input `operand`, which is left out of `others`.
    fn run_in_place(
        &self,
        operand: usize,
        others: &[View<'_>],
        output: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let _ = (operand, others, output, pool);
        Err(Error::invalid(Self::NAME, "no operand may be overwritten"))
    }

    /// The same op with what can be done once where some operands never change (those that are
    /// `Some`), or None where nothing can. It is run on the same operands, constants included, and
    /// gives the same bits.
    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        let _ = constants;
        Ok(None)
    }

    /// What makes weights of codes, if this is it.
    fn as_dequantize(&self) -> Option<&Dequantize> {
        None
    }

    /// The same op with the operands of `codes` in place of operand `operand`, which is what they give;
    /// None where it does not read codes. It gives the same bits. `constants` are the operands that
    /// never change, `operand` not among them, and `coded` those of `codes`.
    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        constants: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error> {
        let _ = (operand, codes, constants, coded);
        Ok(None)
    }

    /// Bytes that the op holds beside its attributes, once it is prepared.
    fn held_bytes(&self) -> usize {
        0
    }

    /// What a run on these inputs takes; by default one operation for each element of an output,
    /// and every operand and output moved once.
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        let flops = outputs.iter().fold(0, |sum: u64, fact| sum.saturating_add(fact.len() as u64));
        let bytes = Work::bytes_of(inputs).saturating_add(Work::bytes_of(&outputs));
        Ok(Work { flops, bytes })
    }
}

/// What a run takes, whoever runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Arithmetic operations; a product that is added to a sum counts as two.
    pub flops: u64,
    /// Bytes of operands and outputs, each moved once.
    pub bytes: u64,
}

impl Work {
    /// That of `count` matrix products of these rows, depth and columns.
    pub fn of_matmuls(count: u64, extents: [usize; 3], inputs: &[Fact], outputs: &[Fact]) -> Self {
        let products = extents.iter().fold(count, |sum, &n| sum.saturating_mul(n as u64));
        let bytes = Self::bytes_of(inputs).saturating_add(Self::bytes_of(outputs));
        Self { flops: products.saturating_mul(2), bytes }
    }

    /// That of moving `parts` from or to some places of a larger tensor, which `indices` tell: one
    /// operation for each element, which is read and written.
    pub fn of_parts(indices: &[Fact], parts: &[Fact]) -> Self {
        let flops = parts.iter().fold(0, |sum: u64, fact| sum.saturating_add(fact.len() as u64));
        let moved = Self::bytes_of(parts).saturating_mul(2);
        Self { flops, bytes: moved.saturating_add(Self::bytes_of(indices)) }
    }

    /// Bytes that these tensors take.
    pub fn bytes_of(facts: &[Fact]) -> u64 {
        let bytes = |fact: &Fact| (fact.len() as u64).saturating_mul(fact.dtype.size() as u64);
        facts.iter().fold(0, |sum: u64, fact| sum.saturating_add(bytes(fact)))
    }
}

/// An [`Op`] whose type is not known at compile time.
pub trait DynOp: Send + Sync {
    /// See [`Op::output_shapes`].
    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error>;

    /// See [`Op::run`].
    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error>;

    /// See [`Op::accepts_strides`].
    fn accepts_strides(&self) -> bool;

    /// See [`Op::alias`].
    fn alias(&self, input: &Layout) -> Option<Layout>;

    /// See [`Op::in_place`].
    fn in_place(&self, inputs: &[Fact], operand: usize) -> bool;

    /// See [`Op::run_in_place`].
    fn run_in_place(
        &self,
        operand: usize,
        others: &[View<'_>],
        output: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error>;

    /// See [`Op::prepare`].
    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error>;

    /// See [`Op::as_dequantize`].
    fn as_dequantize(&self) -> Option<&Dequantize>;

    /// See [`Op::with_codes`].
    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        constants: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error>;

    /// See [`Op::held_bytes`].
    fn held_bytes(&self) -> usize;

    /// See [`Op::work`].
    fn work(&self, inputs: &[Fact]) -> Result<Work, Error>;
}

impl<O: Op> DynOp for O {
    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        Op::output_shapes(self, inputs)
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        Op::run(self, inputs, outputs, pool)
    }

    fn accepts_strides(&self) -> bool {
        Op::accepts_strides(self)
    }

    fn alias(&self, input: &Layout) -> Option<Layout> {
        Op::alias(self, input)
    }

    fn in_place(&self, inputs: &[Fact], operand: usize) -> bool {
        Op::in_place(self, inputs, operand)
    }

    fn run_in_place(
        &self,
        operand: usize,
        others: &[View<'_>],
        output: &mut ViewMut<'_>,
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        Op::run_in_place(self, operand, others, output, pool)
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        Op::prepare(self, constants)
    }

    fn as_dequantize(&self) -> Option<&Dequantize> {
        Op::as_dequantize(self)
    }

    fn with_codes(
        &self,
        operand: usize,
        codes: &Dequantize,
        constants: &[Option<View<'_>>],
        coded: &[View<'_>],
    ) -> Result<Option<Box<dyn DynOp>>, Error> {
        Op::with_codes(self, operand, codes, constants, coded)
    }

    fn held_bytes(&self) -> usize {
        Op::held_bytes(self)
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        Op::work(self, inputs)
    }
}

/// Makes an op from its attributes.
pub type Make = fn(&dyn Attrs) -> Result<Box<dyn DynOp>, Error>;

/// How to make one op from its attributes.
#[derive(Clone, Copy)]
pub struct Entry {
    /// [`Op::NAME`].
    pub name: &'static str,
    /// [`Op::from_attrs`].
    pub make: Make,
}

impl Entry {
    /// The entry of `O`.
    pub const fn of<O: Op>() -> Self {
        Self {
            name: O::NAME,
            make: |attrs| O::from_attrs(attrs).map(|op| Box::new(op) as Box<dyn DynOp>),
        }
    }
}
