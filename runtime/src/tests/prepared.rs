//! Constant operands are prepared once, and plans share what came of it.

use std::cell::Cell;
use std::sync::Arc;

use lumina_kernels::{Attr, Attrs, DynOp, Entry, Error, Op, ParFor, ViewMut};

use super::build::{self, *};
use super::constants::Counted;
use super::proto;
use crate::{DType, Fact, Model, Options, Session, View};

pub(crate) static OPS: &[Entry] = &[Entry::of::<AddRow>(), Entry::of::<Counted>()];

thread_local! {
    /// How often a row was prepared.
    static PREPARED: Cell<usize> = const { Cell::new(0) };
}

/// `out[i, j] = x[i, j] + factor * row[j]`
struct AddRow {
    /// 1 where it is not given; the first of a list, for an extent is given so.
    factor: f32,
    row: Option<Vec<f32>>,
}

impl Op for AddRow {
    const NAME: &'static str = "add_row";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let factor = match attrs.get("factor") {
            Some(Attr::Float(factor)) => factor as f32,
            Some(Attr::Ints(&[factor])) => factor as f32,
            _ => 1.0,
        };
        Ok(Self { factor, row: None })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        Ok(vec![inputs[0].clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        let row = match &self.row {
            Some(row) => row,
            None => inputs[1].data::<f32>()?,
        };
        let x = inputs[0].data::<f32>()?;
        for (index, out) in outputs[0].data_mut::<f32>()?.iter_mut().enumerate() {
            *out = x[index] + self.factor * row[index % row.len()];
        }
        Ok(())
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        assert!(constants[0].is_none(), "x is no constant");
        let Some(row) = constants[1] else { return Ok(None) };
        PREPARED.set(PREPARED.get() + 1);
        Ok(Some(Box::new(Self { row: Some(row.data::<f32>()?.to_vec()), ..*self })))
    }

    fn held_bytes(&self) -> usize {
        self.row.as_ref().map_or(0, |row| 4 * row.len())
    }
}

/// A float attribute, which no op of the product has.
pub(super) fn float(value: f64) -> proto::Attr {
    proto::Attr { value: Some(proto::attr::Value::Number(value)) }
}

/// A session of `y = add_row(x, row)`, where x is f32[batch, 2].
fn session_of(
    rows: impl FnOnce(&mut File, &proto::Dim) -> u32,
    attrs: build::Attrs<'_>,
) -> Session {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch.clone(), fixed(&[2])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let row = rows(&mut file, &batch);
    let y = file.node("add_row", &[x, row], attrs);
    file.output(y, "y", DType::F32, &dims);
    session(&file, 1)
}

/// Asserts that each batch of zeros gives its row.
fn check_rows(mut session: Session, expected: impl Fn(usize) -> [f32; 2]) {
    for batch in [1, 3, 1, 2, 3] {
        let x = f32s(&[batch, 2], &vec![0.0; 2 * batch]);
        let y = session.run(&[x.view()]).unwrap();
        assert_eq!(y[0].data::<f32>().unwrap(), expected(batch).repeat(batch), "{batch}");
    }
}

#[test]
fn a_constant_is_prepared_once_for_all_plans() {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[2])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let w = file.tensor("w", &f32s(&[1, 2], &[10.0, 20.0]));
    // A view of a constant is one.
    let row = file.node("reshape", &[w], &[("new_sizes", ints(&[2]))]);
    let y = file.node("add_row", &[x, row], &[]);
    let computed = file.node("neg", &[row], &[]);
    let z = file.node("add_row", &[y, computed], &[]);
    file.output(y, "y", DType::F32, &dims);
    file.output(z, "z", DType::F32, &dims);
    let model = Arc::new(Model::from_bytes(&file.bytes()).unwrap());
    let mut session = Session::new(model, Options { threads: 1, ..Options::default() }).unwrap();
    for batch in [1, 3, 1, 2] {
        let x = f32s(&[batch, 2], &vec![1.0; 2 * batch]);
        let outputs = session.run(&[x.view()]).unwrap();
        assert_eq!(outputs[0].data::<f32>().unwrap(), [11.0, 21.0].repeat(batch));
        assert_eq!(outputs[1].data::<f32>().unwrap(), vec![1.0; 2 * batch]);
    }
    // What is computed of it is one, too.
    assert_eq!(PREPARED.get(), 2);
}

#[test]
fn a_constant_that_depends_on_the_shapes_is_prepared_for_each() {
    // Row number batch - 1 of a table.
    let last = |file: &mut File, batch: &proto::Dim| {
        let table = file.tensor("table", &f32s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let [zero, two] = [0, 2].map(|extent| fixed(&[extent])[0].clone());
        let before = dim(&[(1, &[(0, 1)]), (-1, &[])]);
        let attrs = [
            ("start_indices", shape(&[before, zero])),
            ("limit_indices", shape(&[batch.clone(), two])),
            ("strides", ints(&[1, 1])),
        ];
        let line = file.node("slice", &[table], &attrs);
        file.node("reshape", &[line], &[("new_sizes", ints(&[2]))])
    };
    check_rows(session_of(last, &[]), |batch| [2.0 * batch as f32 - 1.0, 2.0 * batch as f32]);
    assert!(PREPARED.get() >= 3);
}

#[test]
fn an_op_whose_attributes_depend_on_the_shapes_is_prepared_for_each() {
    let row = |file: &mut File, _: &proto::Dim| file.tensor("w", &f32s(&[2], &[1.0, 10.0]));
    let factor = [("factor", shape(&[dim(&[(1, &[(0, 1)])])]))];
    check_rows(session_of(row, &factor), |batch| [batch as f32, 10.0 * batch as f32]);
}

#[test]
fn a_constant_that_is_no_longer_row_major_is_not_given_as_one() {
    let row = |file: &mut File, _: &proto::Dim| {
        let w = file.tensor("w", &f32s(&[2], &[1.0, 10.0]));
        file.node("rev", &[w], &[("dimensions", ints(&[0]))])
    };
    check_rows(session_of(row, &[]), |_| [10.0, 1.0]);
}

#[test]
fn attributes_are_read_as_they_were_written() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1, 1]));
    let factor = [("factor", float(0.1))];
    let y = file.node("add_row", &[x, x], &factor);
    file.output(y, "y", DType::F32, &fixed(&[1, 1]));
    let model = file.load().unwrap();
    let json: serde_json::Value = serde_json::from_str(&model.to_json()).unwrap();
    assert_eq!(json["nodes"][0]["attrs"]["factor"], 0.1);
    assert!(model.describe().contains("%1 = add_row(%0, %0) factor=0.1"));
}

/// y = x + row and z = x - row', where a view says in which order the elements of `w` are the row.
fn reversed(length: usize) -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = [batch, fixed(&[length])[0].clone()];
    let x = file.input("x", DType::F32, &dims);
    let numbers: Vec<f32> = (0..length).map(|n| n as f32).collect();
    let w = file.tensor("w", &f32s(&[length], &numbers));
    let row = file.node("rev", &[w], &[("dimensions", ints(&[0]))]);
    let y = file.node("add_row", &[x, row], &[]);
    // An op that prepares nothing and takes no strides.
    let sums = file.node("cumsum", &[row], &[("axis", int(0)), ("reverse", flag(false))]);
    file.output(y, "y", DType::F32, &dims);
    file.output(sums, "sums", DType::F32, &fixed(&[length]));
    file.output(row, "row", DType::F32, &fixed(&[length]));
    file
}

/// Such a constant is put in order once for a session, so that it can be prepared.
#[test]
fn a_view_of_a_constant_is_prepared_once_too() {
    let mut session = session(&reversed(3), 1);
    let mut rows = Vec::new();
    for batch in [1, 3, 1, 2] {
        let x = f32s(&[batch, 3], &vec![1.0; 3 * batch]);
        let outputs = session.run(&[x.view()]).unwrap();
        assert_eq!(outputs[0].data::<f32>().unwrap(), [3.0, 2.0, 1.0].repeat(batch));
        assert_eq!(outputs[1].data::<f32>().unwrap(), [2.0, 3.0, 3.0]);
        assert_eq!(outputs[2].data::<f32>().unwrap(), [2.0, 1.0, 0.0]);
        rows.push(outputs[2].data::<f32>().unwrap().as_ptr());
    }
    assert_eq!(PREPARED.get(), 1);
    assert!(rows.iter().all(|&row| row == rows[0]), "one copy for all plans");
}

/// Copies and prepared ops count as buffers do, whatever was run before.
#[test]
fn what_is_kept_counts() {
    let model = Arc::new(reversed(4).load().unwrap());
    let run = |memory_limit, batches: &[usize]| {
        let options = Options { threads: 1, memory_limit, ..Options::default() };
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        let one = |&batch: &usize| {
            let x = f32s(&[batch, 4], &vec![1.0; 4 * batch]);
            session.run(&[x.view()]).map_err(|error| error.to_string()).map(drop)
        };
        batches.iter().map(one).collect::<Result<Vec<()>, String>>()
    };
    // For one row: y, the sums, the copy and the prepared row.
    let least = 4 * 16;
    assert!(run(least, &[1, 1]).is_ok());
    for limit in [0, least - 1] {
        let refused = run(limit, &[1]).unwrap_err();
        // What is prepared is known only once all the rest has room.
        let needed = if limit == 0 { least - 16 } else { least };
        assert_eq!(
            refused,
            format!("these input shapes need {needed} bytes of buffers, the limit is {limit}")
        );
    }
    // Buffers are given up for those of another plan, and what is kept is shared.
    assert!(run(least + 7 * 16, &[1, 8, 1, 3, 2, 8, 5, 1]).is_ok());
    assert!(run(least + 6 * 16, &[1, 8]).is_err());
}

/// What is left of other plans is given up where there is no room for it.
#[test]
fn copies_of_other_plans_make_room() {
    let mut file = File::new();
    let n = file.symbol("n");
    let x = file.input("x", DType::F32, std::slice::from_ref(&n));
    let numbers: Vec<f32> = (0..100).map(|number| number as f32).collect();
    let w = file.tensor("w", &f32s(&[100], &numbers));
    let attrs = [
        ("start_indices", ints(&[0])),
        ("limit_indices", shape(std::slice::from_ref(&n))),
        ("strides", ints(&[1])),
    ];
    let part = file.node("slice", &[w], &attrs);
    let part = file.node("rev", &[part], &[("dimensions", ints(&[0]))]);
    file.output(part, "y", DType::F32, std::slice::from_ref(&n));
    file.output(x, "x", DType::F32, &[n]);
    let options = Options { threads: 1, memory_limit: 4 * 100, ..Options::default() };
    let mut session = Session::new(Arc::new(file.load().unwrap()), options).unwrap();
    for n in [60, 50, 100, 40, 99, 1] {
        let x = f32s(&[n], &vec![0.0; n]);
        let outputs = session.run(&[x.view()]).unwrap();
        let expected: Vec<f32> = (0..n).rev().map(|number| number as f32).collect();
        assert_eq!(outputs[0].data::<f32>().unwrap(), expected);
    }
}
