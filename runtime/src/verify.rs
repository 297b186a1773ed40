//! Golden test vectors: what training computed for these inputs.

use std::sync::Arc;

use lumina_kernels::View;

use crate::container::SectionKind;
use crate::ir::{Stored, TestVector};
use crate::ops::{Convert, Number, element_arms, with_element};
use crate::tensor::{byte_size, view};
use crate::{Error, Model, Options, Session};

/// How one output of a test vector compares.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Number of the test vector.
    pub vector: usize,
    /// Name of the output.
    pub output: String,
    /// Largest |got - want|; infinite where only one of them is a number.
    pub max_abs_diff: f64,
    /// Whether |got - want| <= absolute + relative * |want| everywhere.
    pub passed: bool,
}

/// Runs the test vectors of a model and compares the outputs.
pub fn verify(model: &Arc<Model>, options: Options) -> Result<Vec<Comparison>, Error> {
    let tests = &model.module().tests;
    if tests.is_empty() {
        return Err(Error::NoTestVectors);
    }
    let mut session = Session::new(Arc::clone(model), options)?;
    let mut comparisons = Vec::new();
    for (vector, test) in tests.iter().enumerate() {
        if !test.continues {
            session.reset();
        }
        let inputs = stored(model, &test.inputs)?;
        let got = session.run_entry(test.entry, &inputs)?;
        let want = stored(model, &test.outputs)?;
        for ((port, got), want) in model.outputs_of(test.entry)?.iter().zip(got).zip(want) {
            let (max_abs_diff, passed) = compare(&got, &want, test)?;
            comparisons.push(Comparison {
                vector,
                output: port.name.clone(),
                max_abs_diff,
                passed,
            });
        }
    }
    Ok(comparisons)
}

/// Tensors of a test vector.
pub(crate) fn stored<'a>(model: &'a Model, tensors: &'a [Stored]) -> Result<Vec<View<'a>>, Error> {
    let meta = model.section(SectionKind::Meta);
    let view = |Stored { fact, offset }: &'a Stored| {
        let start = *offset as usize;
        Ok(view(fact, &meta[start..start + byte_size(fact).unwrap_or(0)])?)
    };
    tensors.iter().map(view).collect()
}

fn compare(got: &View<'_>, want: &View<'_>, test: &TestVector) -> Result<(f64, bool), Error> {
    with_element!(want.dtype(), T => {
        let numbers = got.data::<T>()?.iter().zip(want.data::<T>()?).flat_map(|(got, want)| {
            let (got, want) = (parts(got.number()), parts(want.number()));
            got.into_iter().zip(want).filter_map(|(got, want)| got.zip(want))
        });
        Ok(numbers.fold((0.0, true), |(worst, passed), (got, want)| {
            let (diff, close) = difference(got, want, test);
            (diff.max(worst), passed & close)
        }))
    })
}

/// |got - want|, and whether it is within the tolerance.
fn difference(got: f64, want: f64, test: &TestVector) -> (f64, bool) {
    // Equal infinities have no difference, and NaN is expected where training had NaN.
    if got == want || got.is_nan() && want.is_nan() {
        return (0.0, true);
    }
    let diff = (got - want).abs();
    let diff = if diff.is_nan() { f64::INFINITY } else { diff };
    let tolerance = test.absolute_tolerance + test.relative_tolerance * want.abs();
    (diff, diff.is_finite() && diff <= tolerance)
}

/// The number as f64, which holds them all; a complex one as two.
fn parts(number: Number) -> [Option<f64>; 2] {
    match number {
        Number::Float(x) => [Some(x), None],
        Number::Integer(x) => [Some(x as f64), None],
        Number::Complex(x) => [Some(x.re), Some(x.im)],
    }
}
