//! Discrete Fourier transforms.
//!
//! Lines are transformed in f64 by the scalar algorithms of `rustfft`, which is built without those
//! that choose instructions by the CPU. Its roots of unity are those of the platform's mathematics
//! library, which may differ in the last bit of f64: a result of f32 changes with one of them only
//! where it lies as near to the middle between two.

use std::sync::{Arc, OnceLock};

use lumina_kernels::{
    Attrs, Complex32, Complex64, DType, Entry, Error, Fact, Op, ParFor, View, ViewMut, Work,
};
use rustfft::{Fft as Transform, FftDirection, FftPlannerScalar};

use super::common::{chunked, naturals, operands, refuse, unsupported};
use super::lines::Lines;

pub(super) static OPS: &[Entry] = &[Entry::of::<Fft>()];

/// The transform over the last axes, whose lengths are `fft_lengths`, one to three of them:
///
/// ```text
/// out[k] = Σ_j x[j]·e^(-2πi·jk/n)        and of the inverse  1/n Σ_j x[j]·e^(2πi·jk/n)
/// ```
///
/// `fft_type` is 0 for that, 1 for its inverse, 2 for the transform of real numbers, of which the
/// last axis has the first n/2 + 1, and 3 for the inverse of that, which gives real numbers.
struct Fft {
    kind: Kind,
    lengths: Vec<usize>,
    /// One for each axis, made when there is something to transform.
    plans: OnceLock<Vec<Arc<dyn Transform<f64>>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Forward,
    Inverse,
    Real,
    InverseReal,
}

impl Kind {
    fn direction(self) -> FftDirection {
        match self {
            Self::Forward | Self::Real => FftDirection::Forward,
            Self::Inverse | Self::InverseReal => FftDirection::Inverse,
        }
    }
}

impl Op for Fft {
    const NAME: &'static str = "fft";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let kind = match attrs.int(Self::NAME, "fft_type")? {
            0 => Kind::Forward,
            1 => Kind::Inverse,
            2 => Kind::Real,
            3 => Kind::InverseReal,
            other => {
                let message = format!("attribute `fft_type` must be from 0 to 3, got {other}");
                return refuse(Self::NAME, message);
            }
        };
        let lengths = naturals(Self::NAME, "fft_lengths", attrs.ints(Self::NAME, "fft_lengths")?)?;
        if !(1..=3).contains(&lengths.len()) {
            let message = format!("attribute `fft_lengths` must have 1 to 3, got {lengths:?}");
            return refuse(Self::NAME, message);
        }
        Ok(Self { kind, lengths, plans: OnceLock::new() })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [x] = operands(Self::NAME, inputs)?;
        let (taken, given) = match self.kind {
            Kind::Real => (DType::F32, DType::C64),
            Kind::InverseReal => (DType::C64, DType::F32),
            _ => (DType::C64, DType::C64),
        };
        if x.dtype != taken {
            return Err(unsupported(Self::NAME, "operand", x.dtype));
        }
        let Some(first) = x.shape.len().checked_sub(self.lengths.len()) else {
            let count = self.lengths.len();
            return refuse(Self::NAME, format!("it has {count} axes, got {x}"));
        };
        let halved = half(&self.lengths);
        let (taken, left) = match self.kind {
            Kind::Real => (&self.lengths, &halved),
            Kind::InverseReal => (&halved, &self.lengths),
            _ => (&self.lengths, &self.lengths),
        };
        if x.shape[first..] != **taken {
            let message = format!("the last axes must be {taken:?}, got {x}");
            return refuse(Self::NAME, message);
        }
        let mut shape = x.shape[..first].to_vec();
        shape.extend(left);
        Ok(vec![Fact::new(given, shape)])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        pool: &dyn ParFor,
    ) -> Result<(), Error> {
        let (x, out) = (&inputs[0], &mut outputs[0]);
        if x.fact().is_empty() || out.fact().is_empty() {
            // What is summed over nothing is 0.
            match self.kind {
                Kind::InverseReal => out.data_mut::<f32>()?.fill(0.0),
                _ => out.data_mut::<Complex32>()?.fill(Complex32::ZERO),
            }
            return Ok(());
        }
        let plans = self.plans.get_or_init(|| {
            let mut planner = FftPlannerScalar::new();
            let direction = self.kind.direction();
            self.lengths.iter().map(|&length| planner.plan_fft(length, direction)).collect()
        });
        let mut shape = x.shape().to_vec();
        let first = shape.len() - self.lengths.len();
        // From the last axis to the first, but where the last one ends as real numbers.
        let last = self.lengths.len() - 1;
        match self.kind {
            Kind::Forward | Kind::Inverse => {
                let out = out.data_mut::<Complex32>()?;
                out.copy_from_slice(x.data()?);
                for (axis, plan) in plans.iter().enumerate().rev() {
                    self.along(out, &Lines::along(&shape, first + axis), plan, pool);
                }
            }
            Kind::Real => {
                let lines = Lines::along(&shape, first + last);
                self.forward_real(x.data()?, out.data_mut()?, &lines, &plans[last], pool);
                shape[first + last] = self.lengths[last] / 2 + 1;
                for (axis, plan) in plans[..last].iter().enumerate().rev() {
                    let lines = Lines::along(&shape, first + axis);
                    self.along(out.data_mut()?, &lines, plan, pool);
                }
            }
            Kind::InverseReal => {
                let mut half = x.data::<Complex32>()?.to_vec();
                for (axis, plan) in plans[..last].iter().enumerate() {
                    self.along(&mut half, &Lines::along(&shape, first + axis), plan, pool);
                }
                self.inverse_real(&half, out.data_mut()?, &plans[last], pool);
            }
        }
        Ok(())
    }

    fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
        let outputs = self.output_shapes(inputs)?;
        let elements = inputs[0].len().max(outputs[0].len()) as u64;
        let stages = self.lengths.iter().map(|&n| u64::from(n.max(1).ilog2()) + 1).sum::<u64>();
        let bytes = Work::bytes_of(inputs).saturating_add(Work::bytes_of(&outputs));
        // As is usual, 5 n log2 n of a complex transform.
        Ok(Work { flops: elements.saturating_mul(stages.saturating_mul(5)), bytes })
    }
}

impl Fft {
    /// The transform of each line in place.
    fn along(
        &self,
        data: &mut [Complex32],
        lines: &Lines,
        plan: &Arc<dyn Transform<f64>>,
        pool: &dyn ParFor,
    ) {
        let (extent, scale) = (lines.extent, self.scale(lines.extent));
        let transformed =
            |out: &mut [Complex32], read: &dyn Fn(usize, usize) -> Complex32, first| {
                let mut line = Line::of(plan);
                for (number, out) in (first..).zip(out.chunks_mut(extent)) {
                    line.transform(plan, (0..extent).map(|index| double(read(number, index))));
                    for (out, &z) in out.iter_mut().zip(&line.data) {
                        *out = single(z * scale);
                    }
                }
            };
        if lines.step == 1 {
            chunked(pool, data, lines.per_chunk() * extent, |start, out| {
                // A line is read before it is written.
                let old = out.to_vec();
                let first = start / extent;
                transformed(out, &|line, index| old[(line - first) * extent + index], first);
            });
            return;
        }
        // Lines that do not lie together are written together first, so that each chunk has its own.
        let mut turned = vec![Complex32::ZERO; data.len()];
        chunked(pool, &mut turned, lines.per_chunk() * extent, |start, out| {
            transformed(out, &|line, index| data[lines.position(line, index)], start / extent);
        });
        lines.gather(data, extent, pool, |line, index| turned[line * extent + index]);
    }

    /// The first half of the transform of each line of real numbers, and the one in the middle.
    fn forward_real(
        &self,
        x: &[f32],
        out: &mut [Complex32],
        lines: &Lines,
        plan: &Arc<dyn Transform<f64>>,
        pool: &dyn ParFor,
    ) {
        let (extent, half) = (lines.extent, lines.extent / 2 + 1);
        chunked(pool, out, lines.per_chunk() * half, |start, out| {
            let mut line = Line::of(plan);
            for (number, out) in (start / half..).zip(out.chunks_mut(half)) {
                let x = x[number * extent..][..extent].iter();
                line.transform(plan, x.map(|&x| Complex64::new(x.into(), 0.0)));
                for (out, &z) in out.iter_mut().zip(&line.data) {
                    *out = single(z);
                }
            }
        });
    }

    /// The real numbers whose transform has each line as its first half.
    fn inverse_real(
        &self,
        x: &[Complex32],
        out: &mut [f32],
        plan: &Arc<dyn Transform<f64>>,
        pool: &dyn ParFor,
    ) {
        let extent = plan.len();
        let (half, scale) = (extent / 2 + 1, self.scale(extent));
        let lines = Lines { count: x.len() / half, extent, step: 1 };
        chunked(pool, out, lines.per_chunk() * extent, |start, out| {
            let mut line = Line::of(plan);
            for (number, out) in (start / extent..).zip(out.chunks_mut(extent)) {
                let x = &x[number * half..][..half];
                // The other half are the conjugates in reverse order. What is not real at 0 and in
                // the middle gives nothing real.
                let whole = (0..extent).map(|index| match index < half {
                    true => double(x[index]),
                    false => double(x[extent - index]).conj(),
                });
                line.transform(plan, whole);
                for (out, z) in out.iter_mut().zip(&line.data) {
                    *out = (z.re * scale) as f32;
                }
            }
        });
    }

    fn scale(&self, extent: usize) -> f64 {
        match self.kind.direction() {
            FftDirection::Forward => 1.0,
            FftDirection::Inverse => 1.0 / extent as f64,
        }
    }
}

/// One line, and what its transform needs beside it.
struct Line {
    data: Vec<Complex64>,
    scratch: Vec<Complex64>,
}

impl Line {
    fn of(plan: &Arc<dyn Transform<f64>>) -> Self {
        let scratch = vec![Complex64::ZERO; plan.get_inplace_scratch_len()];
        Self { data: Vec::with_capacity(plan.len()), scratch }
    }

    fn transform(
        &mut self,
        plan: &Arc<dyn Transform<f64>>,
        elements: impl Iterator<Item = Complex64>,
    ) {
        self.data.clear();
        self.data.extend(elements);
        plan.process_with_scratch(&mut self.data, &mut self.scratch);
    }
}

/// `lengths` with the last one that of half a transform.
fn half(lengths: &[usize]) -> Vec<usize> {
    let mut half = lengths.to_vec();
    if let Some(last) = half.last_mut() {
        *last = *last / 2 + 1;
    }
    half
}

fn double(z: Complex32) -> Complex64 {
    Complex64::new(z.re.into(), z.im.into())
}

fn single(z: Complex64) -> Complex32 {
    Complex32::new(z.re as f32, z.im as f32)
}
