//! Constant operands are prepared once, and plans share what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lumina_kernels::{Attrs, DynOp, Entry, Error, Op, ParFor, ViewMut};

use super::build::*;
use crate::{DType, Fact, Model, Options, Session, View};

pub(crate) static OPS: &[Entry] = &[Entry::of::<AddRow>()];

/// How often a row was prepared.
static PREPARED: AtomicUsize = AtomicUsize::new(0);

/// `out[i, j] = x[i, j] + row[j]`
struct AddRow {
    row: Option<Vec<f32>>,
}

impl Op for AddRow {
    const NAME: &'static str = "add_row";

    fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self { row: None })
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
            *out = x[index] + row[index % row.len()];
        }
        Ok(())
    }

    fn prepare(&self, constants: &[Option<View<'_>>]) -> Result<Option<Box<dyn DynOp>>, Error> {
        assert!(constants[0].is_none(), "x is no constant");
        let Some(row) = constants[1] else { return Ok(None) };
        PREPARED.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Box::new(Self { row: Some(row.data::<f32>()?.to_vec()) })))
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
    assert_eq!(PREPARED.load(Ordering::Relaxed), 1);
}
