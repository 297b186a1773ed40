//! What operators compute, as programs of the runtime's ops, for the tensors that a creation names.

pub(super) mod attention;
pub(super) mod elementwise;
pub(super) mod optical;
pub(super) mod products;
pub(super) mod rows;
pub(super) mod shapes;

use lumina_kernels::{Attr, DType};
use lumina_runtime::operator::{Operand, Program, Value};

use super::descriptor::Signature;
use crate::Status;
use crate::status::Failure;

/// Types that are computed in f32 and rounded once.
pub(super) const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16];

/// The same, and f64, which is computed in f64.
pub(super) const REALS: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::F64];

/// What a creation makes.
pub(super) struct Definition {
    pub(super) programs: Vec<(Program, Vec<Source>)>,
    /// Which of them a call runs, by its numbers.
    pub(super) choose: fn(&[f32]) -> usize,
    /// Tensors of indices, which are from 0 to below a number.
    pub(super) indices: Vec<(usize, usize)>,
}

/// Where an input of a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The tensor of that number.
    Tensor(usize),
    /// The number of a call, an f32.
    Scalar(usize),
}

impl From<Builder> for Definition {
    fn from(builder: Builder) -> Self {
        let programs = vec![(builder.program, builder.sources)];
        Self { programs, choose: |_| 0, indices: Vec::new() }
    }
}

/// The tensors of a creation, outputs first.
pub(super) struct Tensors<'a> {
    pub(super) signature: &'static Signature,
    pub(super) operands: &'a [Option<&'a Operand>],
}

impl<'a> Tensors<'a> {
    /// Tensor number `index`, if there is one.
    pub(super) fn optional(&self, index: usize) -> Option<&'a Operand> {
        self.operands[index]
    }

    /// Tensor number `index`.
    pub(super) fn get(&self, index: usize) -> Result<&'a Operand, Failure> {
        self.operands[index].ok_or_else(|| {
            let name = self.signature.tensors[index];
            Failure::new(Status::NullPointer, format!("`{name}` is null"))
        })
    }

    /// All tensors, each of which must be there.
    pub(super) fn all<const N: usize>(&self) -> Result<[&'a Operand; N], Failure> {
        let mut all = [self.get(0)?; N];
        for (index, operand) in all.iter_mut().enumerate() {
            *operand = self.get(index)?;
        }
        Ok(all)
    }

    pub(super) fn name(&self, index: usize) -> &'static str {
        self.signature.tensors[index]
    }

    fn refuse(&self, status: Status, message: String) -> Failure {
        Failure::new(status, format!("{}: {message}", self.signature.name))
    }

    pub(super) fn bad_parameter(&self, message: String) -> Failure {
        self.refuse(Status::BadParam, message)
    }

    pub(super) fn bad_shape(&self, message: String) -> Failure {
        self.refuse(Status::BadTensorShape, message)
    }

    /// Checks that the tensor has one of these types.
    pub(super) fn check_type(&self, index: usize, types: &[DType]) -> Result<(), Failure> {
        let fact = self.get(index)?.fact();
        match types.contains(&fact.dtype) {
            true => Ok(()),
            false => {
                let known: Vec<&str> = types.iter().map(|dtype| dtype.name()).collect();
                let (name, known) = (self.name(index), known.join(", "));
                let message = format!("`{name}` must be of dtype {known}, got {fact}");
                Err(self.refuse(Status::BadTensorDtype, message))
            }
        }
    }

    /// Checks that tensors have the type of tensor `of`, if they are there.
    pub(super) fn check_types_of(&self, of: usize, indices: &[usize]) -> Result<(), Failure> {
        let expected = self.get(of)?.fact();
        for &index in indices {
            let Some(got) = self.optional(index).map(Operand::fact) else { continue };
            if got.dtype != expected.dtype {
                let (name, of) = (self.name(index), self.name(of));
                let message = format!(
                    "`{name}` must be of dtype {}, that of `{of}`, got {got}",
                    expected.dtype
                );
                return Err(self.refuse(Status::BadTensorDtype, message));
            }
        }
        Ok(())
    }

    /// Checks the shape of a tensor, if it is there.
    pub(super) fn check_shape(&self, index: usize, expected: &[usize]) -> Result<(), Failure> {
        match self.optional(index).map(Operand::fact) {
            Some(fact) if fact.shape != expected => {
                let name = self.name(index);
                Err(self.bad_shape(format!("`{name}` must have shape {expected:?}, got {fact}")))
            }
            _ => Ok(()),
        }
    }

    /// Checks that no two elements of the outputs share memory.
    pub(super) fn check_outputs(&self) -> Result<(), Failure> {
        for index in 0..self.signature.outputs {
            let output = self.get(index)?;
            if !output.is_nested() {
                let (name, strides) = (self.name(index), output.strides());
                let message = format!(
                    "elements of `{name}`, {} with strides {strides:?}, share memory",
                    output.fact()
                );
                return Err(self.refuse(Status::BadTensorStrides, message));
            }
        }
        Ok(())
    }

    /// The axis that a parameter counts, from the end on where it is negative.
    pub(super) fn axis(&self, name: &str, axis: i64, rank: usize) -> Result<usize, Failure> {
        let from_start = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(from_start).ok().filter(|&axis| axis < rank).ok_or_else(|| {
            self.bad_parameter(format!("`{name}` must be an axis of rank {rank}, got {axis}"))
        })
    }
}

/// A program in the making.
pub(super) struct Builder {
    program: Program,
    sources: Vec<Source>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { program: Program::new(), sources: Vec::new() }
    }

    /// Tensor number `index` as it is.
    pub(super) fn tensor(&mut self, tensors: &Tensors<'_>, index: usize) -> Result<Value, Failure> {
        self.sources.push(Source::Tensor(index));
        Ok(self.program.input(tensors.get(index)?))
    }

    /// Tensor number `index` in f32, or in f64 where it is of that.
    pub(super) fn float(&mut self, tensors: &Tensors<'_>, index: usize) -> Result<Value, Failure> {
        let value = self.tensor(tensors, index)?;
        match self.dtype(value) {
            DType::F16 | DType::BF16 => self.convert(value, DType::F32),
            _ => Ok(value),
        }
    }

    /// Number `index` of a call, f32\[\].
    pub(super) fn scalar(&mut self, index: usize) -> Result<Value, Failure> {
        self.sources.push(Source::Scalar(index));
        let operand = Operand::new(DType::F32, &[], None).map_err(Failure::of_program)?;
        Ok(self.program.input(&operand))
    }

    /// A constant, f32\[\].
    pub(super) fn number(&mut self, number: f32) -> Value {
        self.program.constant(&[], &[number])
    }

    pub(super) fn constant<T: lumina_kernels::Element>(
        &mut self,
        shape: &[usize],
        data: &[T],
    ) -> Value {
        self.program.constant(shape, data)
    }

    /// Zero of that type, a scalar.
    pub(super) fn zero(&mut self, dtype: DType) -> Result<Value, Failure> {
        let zero = self.number(0.0);
        self.convert(zero, dtype)
    }

    pub(super) fn dtype(&self, value: Value) -> DType {
        self.program.fact(value).dtype
    }

    pub(super) fn shape(&self, value: Value) -> Vec<usize> {
        self.program.fact(value).shape.clone()
    }

    pub(super) fn op(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attr<'_>)],
    ) -> Result<Value, Failure> {
        self.program.op(name, operands, attributes).map_err(Failure::of_program)
    }

    pub(super) fn ops(
        &mut self,
        name: &str,
        operands: &[Value],
        attributes: &[(&str, Attr<'_>)],
    ) -> Result<Vec<Value>, Failure> {
        self.program.ops(name, operands, attributes).map_err(Failure::of_program)
    }

    pub(super) fn convert(&mut self, value: Value, dtype: DType) -> Result<Value, Failure> {
        self.program.convert(value, dtype).map_err(Failure::of_program)
    }

    /// The value repeated to `shape`, of which its axes are those named.
    pub(super) fn broadcast(
        &mut self,
        value: Value,
        shape: &[usize],
        axes: &[usize],
    ) -> Result<Value, Failure> {
        let attributes = [("shape", shape), ("broadcast_dimensions", axes)];
        let [shape, axes] = attributes.map(|(name, numbers)| (name, integers(numbers)));
        self.op(
            "broadcast_in_dim",
            &[value],
            &[(shape.0, Attr::Ints(&shape.1)), (axes.0, Attr::Ints(&axes.1))],
        )
    }

    pub(super) fn reshape(&mut self, value: Value, shape: &[usize]) -> Result<Value, Failure> {
        self.op("reshape", &[value], &[("new_sizes", Attr::Ints(&integers(shape)))])
    }

    /// The value from `start` to below `limit` along one axis, all of it along the others.
    pub(super) fn slice(
        &mut self,
        value: Value,
        axis: usize,
        start: usize,
        limit: usize,
    ) -> Result<Value, Failure> {
        let mut limits = self.shape(value);
        let mut starts = vec![0; limits.len()];
        (starts[axis], limits[axis]) = (start, limit);
        self.op(
            "slice",
            &[value],
            &[
                ("start_indices", Attr::Ints(&integers(&starts))),
                ("limit_indices", Attr::Ints(&integers(&limits))),
                ("strides", Attr::Ints(&vec![1; limits.len()])),
            ],
        )
    }

    /// Sums or other combinations along axes, which the result has with an extent of 1.
    pub(super) fn reduce(
        &mut self,
        name: &str,
        value: Value,
        axes: &[usize],
    ) -> Result<Value, Failure> {
        let mut shape = self.shape(value);
        axes.iter().for_each(|&axis| shape[axis] = 1);
        let reduced = self.op(name, &[value], &[("axes", Attr::Ints(&integers(axes)))])?;
        self.reshape(reduced, &shape)
    }

    /// The value, whose extents of 1 are repeated to those of `shape`.
    pub(super) fn expand(&mut self, value: Value, shape: &[usize]) -> Result<Value, Failure> {
        let axes: Vec<usize> = (0..shape.len()).collect();
        self.broadcast(value, shape, &axes)
    }

    /// The rows of a matrix that indices name: \[indices…, columns\].
    pub(super) fn rows(&mut self, matrix: Value, indices: Value) -> Result<Value, Failure> {
        let columns = self.shape(matrix)[1];
        let mut shape = self.shape(indices);
        let lines = shape.len() as i64;
        shape.push(1);
        let indices = match self.dtype(indices) {
            DType::I8 | DType::U8 | DType::I16 => self.convert(indices, DType::I32)?,
            _ => indices,
        };
        let indices = self.reshape(indices, &shape)?;
        let fill = self.zero(self.dtype(matrix))?;
        self.op(
            "gather",
            &[matrix, indices, fill],
            &[
                ("slice_sizes", Attr::Ints(&[1, columns as i64])),
                ("mode", Attr::Str("fill_or_drop")),
                ("offset_dims", Attr::Ints(&[lines])),
                ("collapsed_slice_dims", Attr::Ints(&[0])),
                ("operand_batching_dims", Attr::Ints(&[])),
                ("start_indices_batching_dims", Attr::Ints(&[])),
                ("start_index_map", Attr::Ints(&[0])),
            ],
        )
    }

    /// Makes `value`, rounded to the type of tensor `index`, the next output.
    pub(super) fn output(
        &mut self,
        tensors: &Tensors<'_>,
        index: usize,
        value: Value,
    ) -> Result<(), Failure> {
        let target = tensors.get(index)?;
        tensors.check_shape(index, &self.shape(value))?;
        let value = self.convert(value, target.fact().dtype)?;
        self.program.output(value, target).map_err(Failure::of_program)
    }

    /// The program with `value` as its only output.
    pub(super) fn finish(
        mut self,
        tensors: &Tensors<'_>,
        value: Value,
    ) -> Result<Definition, Failure> {
        self.output(tensors, 0, value)?;
        Ok(self.into())
    }

    pub(super) fn into_program(self) -> (Program, Vec<Source>) {
        (self.program, self.sources)
    }
}

/// As attributes have them.
pub(super) fn integers(numbers: &[usize]) -> Vec<i64> {
    numbers.iter().map(|&number| number as i64).collect()
}

/// Pads, strides and dilations of a convolution of `n` axes, each of which may be null for what
/// changes nothing.
///
/// # Safety
///
/// Lists are null or have `n` numbers.
pub(super) unsafe fn windows(
    pads: *const i64,
    strides: *const i64,
    dilations: *const i64,
    n: usize,
) -> Result<[Vec<i64>; 3], Failure> {
    let numbers = |start: *const i64, name: &str, otherwise: i64| match start.is_null() {
        true => Ok(vec![otherwise; n]),
        // SAFETY: the caller says so.
        false => unsafe { super::descriptor::list(start, n, name) }.map(<[i64]>::to_vec),
    };
    Ok([
        numbers(pads, "pads", 0)?,
        numbers(strides, "strides", 1)?,
        numbers(dilations, "dilations", 1)?,
    ])
}
