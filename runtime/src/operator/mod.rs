//! Operators: programs of a few ops that run on memory of the caller, whose tensors may have any
//! strides. They are planned once and run from many threads at a time.

mod deliver;
mod operand;
mod program;

use std::ops::Range;
use std::sync::atomic::AtomicBool;

use lumina_kernels::{
    self as kernels, Data, Fact, FlushDenormals, ParFor, Serial, ThreadPool, View,
};
use smallvec::SmallVec;

use self::deliver::deliver;
pub use self::operand::Operand;
pub use self::program::{Program, Value};
use crate::Error;
use crate::bytes::{ALIGN, AlignedBytes};
use crate::execute::{Machine, Trips};
use crate::ir::Node;
use crate::plan::{Block, Plan, Step, Target, Work};
use crate::tensor::view;

/// No call is cancelled, as it runs for as long as a few ops do.
static NEVER: AtomicBool = AtomicBool::new(false);

/// Nanoseconds of work from which on other threads are woken.
const WAKING: u64 = 60_000;

/// A program that is planned for operands of certain layouts.
pub struct Operator {
    nodes: Vec<Node>,
    constants: AlignedBytes,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    apart: Variant,
    /// By output and input.
    over: Vec<([usize; 2], Variant)>,
    overlapping: Variant,
    /// Whether the calling thread does it alone.
    is_little: bool,
}

/// How the memory of a call overlaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// No output overlaps an input or another output.
    Apart,
    /// The output of that number is the input of that number, element by element and row-major, and
    /// nothing else overlaps an output.
    Over {
        /// Number of the output.
        output: usize,
        /// Number of the input.
        input: usize,
    },
    /// Any other.
    Overlapping,
}

/// A plan for one arrangement.
struct Variant {
    plan: Plan,
    targets: Vec<Target>,
    /// Bytes of workspace.
    workspace: usize,
}

impl Variant {
    fn new(
        program: &Program,
        constants: &[u8],
        targets: Vec<Target>,
        pool: &ThreadPool,
    ) -> Result<Self, Error> {
        let outputs: Vec<(usize, Target)> =
            program.outputs.iter().map(|&(_, id)| id).zip(targets.iter().copied()).collect();
        let (inference, given) = (program.inference()?, program.given());
        let plan = Plan::of_operator(&program.nodes, inference, given, &outputs, constants, pool)?;
        let own = &plan.block.buffers[targets.len()..];
        let bytes = own.iter().map(|&bytes| bytes.checked_next_multiple_of(ALIGN));
        let sum = bytes.sum::<Option<usize>>();
        // The workspace may begin anywhere.
        let needed = sum.and_then(|sum| if sum == 0 { Some(0) } else { sum.checked_add(ALIGN) });
        let needed =
            needed.ok_or_else(|| Error::Input("the tensors are too large together".into()))?;
        Ok(Self { plan, targets, workspace: needed })
    }

    /// The buffers of the plan: memory of outputs where they are written, which is taken from there,
    /// and parts of the workspace.
    fn buffers<'a>(
        &self,
        outputs: &mut [&'a mut [u8]],
        workspace: &'a mut [u8],
    ) -> Result<SmallVec<[&'a mut [u8]; 16]>, Error> {
        if workspace.len() < self.workspace {
            let (expected, got) = (self.workspace, workspace.len());
            let message = format!("the workspace must have {expected} bytes, got {got}");
            return Err(Error::Input(message));
        }
        let mut buffers = SmallVec::new();
        for (number, target) in self.targets.iter().enumerate() {
            buffers.push(match target {
                Target::Buffer | Target::Over(_) => std::mem::take(&mut outputs[number]),
                Target::Anywhere | Target::Workspace => Default::default(),
            });
        }
        let mut rest = workspace;
        if self.workspace > 0 {
            let start = rest.as_ptr().align_offset(ALIGN).min(ALIGN);
            rest = &mut rest[start..];
        }
        for &bytes in &self.plan.block.buffers[self.targets.len()..] {
            let (buffer, behind) = rest.split_at_mut(bytes.next_multiple_of(ALIGN));
            buffers.push(buffer);
            rest = behind;
        }
        Ok(buffers)
    }
}

impl Operator {
    /// The operator that computes `program`, which loops of `pool` prepare.
    pub fn new(mut program: Program, pool: &ThreadPool) -> Result<Self, Error> {
        let constants = AlignedBytes::copy_of(&std::mem::take(&mut program.constants))?;
        let count = program.outputs.len();
        let direct: Vec<Target> = program
            .outputs
            .iter()
            .map(|(target, _)| match target.is_row_major() {
                true => Target::Buffer,
                false => Target::Anywhere,
            })
            .collect();
        let mut over = Vec::new();
        for (output, (target, _)) in program.outputs.iter().enumerate() {
            for (input, (operand, id)) in program.inputs.iter().enumerate() {
                if target.is_row_major()
                    && operand.is_row_major()
                    && target.fact() == operand.fact()
                {
                    let mut targets = direct.clone();
                    targets[output] = Target::Over(*id);
                    let variant = Variant::new(&program, &constants, targets, pool)?;
                    over.push(([output, input], variant));
                }
            }
        }
        let apart = Variant::new(&program, &constants, direct, pool)?;
        let overlapping = Variant::new(&program, &constants, vec![Target::Workspace; count], pool)?;
        let is_little = nanoseconds(&apart.plan) < WAKING;
        let Program { nodes, inputs, outputs, .. } = program;
        let [inputs, outputs] =
            [inputs, outputs].map(|all| all.into_iter().map(|(operand, _)| operand).collect());
        Ok(Self { nodes, constants, inputs, outputs, apart, over, overlapping, is_little })
    }

    /// The operands of a call, in order.
    pub fn inputs(&self) -> &[Operand] {
        &self.inputs
    }

    /// The results of a call, in order.
    pub fn outputs(&self) -> &[Operand] {
        &self.outputs
    }

    /// Bytes of workspace that a call takes at most, wherever they begin.
    pub fn workspace(&self) -> usize {
        let over = self.over.iter().map(|(_, variant)| variant.workspace);
        over.chain([self.apart.workspace, self.overlapping.workspace]).max().unwrap_or(0)
    }

    /// The same of memory that overlaps so.
    pub fn workspace_of(&self, arrangement: Arrangement) -> usize {
        match arrangement {
            Arrangement::Apart => self.apart.workspace,
            Arrangement::Overlapping => self.overlapping.workspace,
            Arrangement::Over { output, input } => {
                let known = self.over.iter().find(|(pair, _)| *pair == [output, input]);
                known.map_or(0, |(_, variant)| variant.workspace)
            }
        }
    }

    /// How memory at these addresses overlaps, each from the first element of a tensor to behind its last.
    pub fn arrangement(&self, inputs: &[Range<usize>], outputs: &[Range<usize>]) -> Arrangement {
        let meets = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let mut found = Arrangement::Apart;
        for (output, written) in outputs.iter().enumerate() {
            if outputs[..output].iter().any(|other| meets(other, written)) {
                return Arrangement::Overlapping;
            }
            for (input, read) in inputs.iter().enumerate() {
                if !meets(written, read) {
                    continue;
                }
                let is_same = found == Arrangement::Apart && written == read;
                if !is_same || !self.over.iter().any(|(pair, _)| *pair == [output, input]) {
                    return Arrangement::Overlapping;
                }
                found = Arrangement::Over { output, input };
            }
        }
        found
    }

    /// Runs on operands that no output overlaps, unless `over` is an output and the input that it holds,
    /// whose own memory is not looked at then.
    ///
    /// Each slice has the span of its operand, and begins where elements of its type may.
    pub fn run<'a>(
        &self,
        over: Option<[usize; 2]>,
        inputs: &[&[u8]],
        outputs: &mut [&'a mut [u8]],
        workspace: &'a mut [u8],
        pool: &ThreadPool,
    ) -> Result<(), Error> {
        let known = |pair| self.over.iter().find(|(known, _)| *known == pair);
        let variant = match over {
            None => &self.apart,
            Some(pair) => match known(pair) {
                Some((_, variant)) => variant,
                None => return Err(Error::Input("this output cannot hold this input".into())),
            },
        };
        let _flush = FlushDenormals::new();
        let given = self.given(inputs, over.map(|[_, input]| input))?;
        let mut buffers = variant.buffers(outputs, workspace)?;
        let trips = Trips::at_most(u64::MAX);
        let machine = self.machine(variant, &trips, pool);
        let Variant { plan: Plan { block, .. }, targets, .. } = variant;
        machine.execute(block, &self.nodes, &given, &mut buffers, None)?;
        for (number, target) in targets.iter().enumerate() {
            if *target == Target::Anywhere {
                let x = machine.locate(&block.places[block.outputs[number]], &given, &buffers)?;
                deliver(&x, &self.outputs[number], outputs[number], machine.pool)?;
            }
        }
        Ok(())
    }

    /// Computes the results from operands that outputs overlap, and leaves them in the workspace.
    pub fn compute(
        &self,
        inputs: &[&[u8]],
        workspace: &mut [u8],
        pool: &ThreadPool,
    ) -> Result<(), Error> {
        let _flush = FlushDenormals::new();
        let given = self.given(inputs, None)?;
        let mut buffers = self.overlapping.buffers(&mut [], workspace)?;
        let trips = Trips::at_most(u64::MAX);
        let machine = self.machine(&self.overlapping, &trips, pool);
        machine.execute(&self.overlapping.plan.block, &self.nodes, &given, &mut buffers, None)
    }

    /// Copies an output from where [`Self::compute`] has left it in the workspace.
    pub fn deliver(
        &self,
        output: usize,
        memory: &mut [u8],
        workspace: &mut [u8],
        pool: &ThreadPool,
    ) -> Result<(), Error> {
        let buffers = self.overlapping.buffers(&mut [], workspace)?;
        let trips = Trips::at_most(u64::MAX);
        let machine = self.machine(&self.overlapping, &trips, pool);
        let block = &self.overlapping.plan.block;
        let x = machine.locate(&block.places[block.outputs[output]], &[], &buffers)?;
        Ok(deliver(&x, &self.outputs[output], memory, machine.pool)?)
    }

    /// The memory of the inputs, but for one that lies in an output.
    fn given<'a>(
        &'a self,
        inputs: &[&'a [u8]],
        left_out: Option<usize>,
    ) -> Result<SmallVec<[View<'a>; 8]>, Error> {
        if inputs.len() != self.inputs.len() {
            let (expected, got) = (self.inputs.len(), inputs.len());
            return Err(Error::Input(format!("expected {expected} inputs, got {got}")));
        }
        let view = |(index, (operand, bytes)): (usize, (&'a Operand, &&'a [u8]))| match left_out
            == Some(index)
        {
            true => Ok(View::new(&[0], Data::U8(&[]))?),
            false => Ok(view(operand.stored(), bytes)?),
        };
        self.inputs.iter().zip(inputs).enumerate().map(view).collect()
    }

    fn machine<'a>(
        &'a self,
        variant: &'a Variant,
        trips: &'a Trips,
        pool: &'a ThreadPool,
    ) -> Machine<'a> {
        let pool: &dyn ParFor = if self.is_little { &Serial } else { pool };
        Machine {
            weights: &self.constants,
            copies: &variant.plan.copies,
            pool,
            trips,
            cancelled: &NEVER,
        }
    }
}

/// About what a thread takes for all steps.
fn nanoseconds(plan: &Plan) -> u64 {
    let Block { places, steps, .. } = &plan.block;
    let of = |step: &Step| {
        let facts: Vec<Fact> = step.inputs.iter().map(|&id| places[id].fact()).collect();
        let moved = kernels::Work { flops: 0, bytes: kernels::Work::bytes_of(&facts) };
        let kernels::Work { flops, bytes } = match &step.work {
            Work::Op(op) | Work::InPlace(op, _) => op.work(&facts).unwrap_or(moved),
            Work::Copy | Work::Control(..) => moved,
        };
        // Products take registers with many numbers; most else is a function of each.
        let is_product = flops > bytes;
        let arithmetic = if is_product { flops / 32 } else { flops };
        arithmetic.saturating_add(bytes / 16)
    };
    steps.iter().fold(0, |sum: u64, step| sum.saturating_add(of(step)))
}
