//! A run on memory of the caller: what goes in, what comes out, and what a session lends.

mod states;

use std::ptr;
use std::sync::Arc;

use lumina_runtime::{CancelHandle, DType, Data, Fact, Options, Role, Session, View};
use smallvec::SmallVec;

use crate::lent::{ABSENT, Lent, Name, Owned, check_apart, check_count, check_place, not_given};
use crate::model::Loaded;
use crate::status::{Failure, Status};
use crate::strided;
use crate::tensor::{Checked, Tensor};

/// Tensors of the caller, and how many there are.
type Tensors = (*const Tensor, usize);
type TensorsMut = (*mut Tensor, usize);

/// What there is for each input or output of a call, in most models without an allocation.
type Few<T> = SmallVec<[T; 4]>;

/// A session, and what is known of the memory of its caller.
pub(crate) struct Runner {
    loaded: Arc<Loaded>,
    session: Session,
    memory_limit: u64,
    entry: usize,
    /// By input.
    set: Vec<Option<Owned>>,
    seed: Option<[u32; 2]>,
    /// Inputs whose elements do not lie as kernels read them, row-major. By input; the last one is
    /// for states.
    copies: Vec<Vec<u128>>,
    /// What the last run was planned for.
    facts: Vec<Fact>,
    /// By output: those of the last run, or only their types and shapes.
    outputs: Vec<Lent>,
    has_run: bool,
    /// By state: those that the caller has views of.
    states: Vec<Lent>,
}

impl Runner {
    pub(crate) fn new(
        loaded: Arc<Loaded>,
        options: Options,
    ) -> Result<(Self, CancelHandle), Failure> {
        let session = Session::new(Arc::clone(&loaded.model), options)
            .map_err(|error| Failure::of(error, Status::BadParam))?;
        let cancel = session.cancel_handle();
        let states = loaded.model.state_facts().map(|_| Lent::nothing()).collect();
        let mut runner = Self {
            loaded,
            session,
            memory_limit: options.memory_limit,
            entry: 0,
            set: Vec::new(),
            seed: None,
            copies: Vec::new(),
            facts: Vec::new(),
            outputs: Vec::new(),
            has_run: false,
            states,
        };
        runner.set_entry(0)?;
        Ok((runner, cancel))
    }

    pub(crate) fn set_entry(&mut self, entry: usize) -> Result<(), Failure> {
        let bad = |error| Failure::of(error, Status::BadParam);
        let inputs = self.loaded.model.inputs_of(entry).map_err(bad)?.len();
        let outputs = self.loaded.model.outputs_of(entry).map_err(bad)?.len();
        self.entry = entry;
        self.set.clear();
        self.set.resize_with(inputs, || None);
        self.copies.resize_with(inputs + 1, Vec::new);
        self.facts.resize_with(inputs, || Fact::new(DType::F32, []));
        self.forget_outputs();
        self.outputs.resize_with(self.outputs.len().max(outputs), Lent::nothing);
        Ok(())
    }

    pub(crate) fn input(&self, name: &str) -> Result<usize, Failure> {
        self.loaded.input(self.entry, name)
    }

    pub(crate) fn output(&self, name: &str) -> Result<usize, Failure> {
        self.loaded.output(self.entry, name)
    }

    pub(crate) fn set_noise_seed(&mut self, seed: u64) {
        self.seed = Some([(seed >> 32) as u32, seed as u32]);
    }

    pub(crate) fn reset(&mut self) {
        self.session.reset();
    }

    /// # Safety
    /// `tensor` is null or a tensor of the caller.
    pub(crate) unsafe fn set_input(
        &mut self,
        index: usize,
        tensor: *const Tensor,
    ) -> Result<(), Failure> {
        let ports = self.loaded.inputs(self.entry);
        let count = ports.len();
        let Some(port) = ports.get(index) else {
            let message = format!("there is no input {index}, there are {count}");
            return Err(Failure::new(Status::BadParam, message));
        };
        if tensor.is_null() {
            self.set[index] = None;
            return Ok(());
        }
        // SAFETY: the caller vouches for it.
        let tensor = unsafe { tensor.read() };
        // SAFETY: as above.
        let checked = unsafe { Checked::new(&tensor, &Name("input", &port.name), false) }?;
        if checked.dtype != port.dtype || checked.shape.len() != port.extents().len() {
            let expected = self.loaded.model.extents_in_words(self.entry, port);
            let expected = expected.unwrap_or_default().join(",");
            let got = Fact::new(checked.dtype, checked.shape);
            let message =
                format!("input `{}` must be {}[{expected}], got {got}", port.name, port.dtype);
            let status = match checked.dtype == port.dtype {
                true => Status::BadTensorShape,
                false => Status::BadTensorDtype,
            };
            return Err(Failure::new(status, message));
        }
        let (shape, strides) = (checked.shape.to_vec(), checked.strides.map(<[isize]>::to_vec));
        self.set[index] = Some(Owned { tensor, shape, strides });
        Ok(())
    }

    /// The inputs of a run, checked one by one.
    ///
    /// # Safety
    /// `inputs` are as many tensors of the caller.
    unsafe fn given<'a>(
        &self,
        (inputs, count): Tensors,
        may_lack_data: bool,
    ) -> Result<Few<Checked<'a>>, Failure> {
        let ports = self.loaded.inputs(self.entry);
        check_count("input", ports.iter().map(|port| &*port.name), count)?;
        if count > 0 && inputs.is_null() {
            return Err(Failure::null("`inputs`"));
        }
        let mut given = Few::with_capacity(ports.len());
        for (index, port) in ports.iter().enumerate() {
            let mut tensor = match index < count {
                // SAFETY: the caller vouches for as many tensors.
                true => unsafe { inputs.add(index).read() },
                false => ABSENT,
            };
            if tensor.is_absent() {
                tensor = match (&self.set[index], &self.seed) {
                    (Some(set), _) => set.tensor(),
                    (None, Some(seed)) if port.role == Role::NoiseSeed => Tensor {
                        data: seed.as_ptr().cast_mut().cast(),
                        rank: 1,
                        shape: &2,
                        strides: ptr::null(),
                        dtype: DType::U32.c_number(),
                    },
                    _ => return Err(not_given(&port.name, port.role)),
                };
            }
            // SAFETY: shape and strides are the caller's or ours, and as long as the rank says.
            given
                .push(unsafe { Checked::new(&tensor, &Name("input", &port.name), may_lack_data) }?);
        }
        Ok(given)
    }

    fn forget_outputs(&mut self) {
        self.has_run = false;
        self.outputs.iter_mut().for_each(Lent::forget);
    }

    /// Plans for these inputs.
    fn plan(&mut self, given: &[Checked<'_>]) -> Result<(), Failure> {
        for (fact, given) in self.facts.iter_mut().zip(given) {
            fact.dtype = given.dtype;
            fact.shape.clear();
            fact.shape.extend_from_slice(given.shape);
        }
        // The buffers may move.
        self.forget_outputs();
        self.states.iter_mut().for_each(Lent::forget);
        self.session.prepare_entry(self.entry, &self.facts).map_err(|error| {
            let ports = self.loaded.inputs(self.entry);
            let fits = ports.iter().zip(&self.facts).all(|(port, fact)| port.dtype == fact.dtype);
            Failure::of(error, if fits { Status::BadTensorShape } else { Status::BadTensorDtype })
        })
    }

    /// # Safety
    /// Both are as many tensors of the caller.
    pub(crate) unsafe fn prepare(
        &mut self,
        inputs: Tensors,
        (outputs, output_count): TensorsMut,
    ) -> Result<(), Failure> {
        // SAFETY: the caller vouches for the inputs.
        let given = unsafe { self.given(inputs, true) }?;
        self.check_outputs((outputs, output_count))?;
        self.plan(&given)?;
        let facts = self.session.output_facts();
        let facts = facts.map_err(|error| Failure::of(error, Status::InternalError))?;
        for (lent, (dtype, shape)) in self.outputs.iter_mut().zip(facts) {
            lent.set(dtype, shape, None);
        }
        for index in 0..output_count {
            // SAFETY: the caller vouches for as many tensors.
            unsafe { outputs.add(index).write(self.outputs[index].view()) };
        }
        Ok(())
    }

    /// # Safety
    /// Both are as many tensors of the caller.
    pub(crate) unsafe fn run(
        &mut self,
        inputs: Tensors,
        (outputs, output_count): TensorsMut,
    ) -> Result<(), Failure> {
        // SAFETY: the caller vouches for the inputs.
        let mut given = unsafe { self.given(inputs, false) }?;
        self.check_outputs((outputs, output_count))?;
        // Memory that was lent may hold something else once this run is planned.
        let (mut copied, mut retired) = (0, Vec::new());
        for (index, given) in given.iter_mut().enumerate() {
            if self.lends(given) {
                retired.push(std::mem::take(&mut self.copies[index]));
                // SAFETY: the elements are lent to the caller.
                unsafe { self.copy_input(index, given, &mut copied) }?;
            }
        }
        drop(retired);
        let mut places = Few::with_capacity(output_count);
        for index in 0..output_count {
            // SAFETY: the caller vouches for as many tensors.
            let (name, tensor) = (self.output_name(index), unsafe { outputs.add(index).read() });
            let name = Name("output", name);
            // SAFETY: as above.
            places.push(unsafe { self.place(&name, &self.outputs[index], &tensor) }?);
        }
        check_apart(&places, |index| self.output_name(index))?;
        self.plan(&given)?;
        let facts = self.session.output_facts();
        let facts = facts.map_err(|error| Failure::of(error, Status::InternalError))?;
        for (index, (place, fact)) in places.iter().zip(facts).enumerate() {
            if let Some(place) = place {
                check_place(&Name("output", self.output_name(index)), place, fact)?;
            }
        }
        for (index, given) in given.iter_mut().enumerate() {
            if !given.is_usable() {
                // SAFETY: the elements are the caller's.
                unsafe { self.copy_input(index, given, &mut copied) }?;
            }
        }
        let mut views = Few::with_capacity(given.len());
        for given in &given {
            // SAFETY: the elements are row-major, aligned, and nobody's to write during the run.
            let data = unsafe { Data::from_raw_parts(given.dtype, given.data, given.len) };
            let view = View::new(given.shape, data);
            views.push(
                view.map_err(|error| Failure::new(Status::InternalError, error.to_string()))?,
            );
        }
        let failed = |error| Failure::of(error, Status::BadParam);
        let results = self.session.run_prepared(&views).map_err(failed)?;
        for (lent, result) in self.outputs.iter_mut().zip(&results) {
            let bytes = result.bytes().map_err(|error| failed(error.into()))?;
            lent.set(result.dtype(), result.shape(), Some(bytes));
            let is_input = |(given, copy): (&Checked<'_>, &Vec<u128>)| {
                given.overlaps(&lent.bytes) && given.data.cast_const().cast() != copy.as_ptr()
            };
            lent.is_ours = !given.iter().zip(&self.copies).any(is_input);
        }
        self.has_run = true;
        // An output may be an input that the model passes on, and lie where another one goes.
        let overlaps = places.iter().flatten().any(|place| self.lends(place));
        let aside: Vec<Vec<u8>> = match overlaps {
            // SAFETY: the elements are there until the next run.
            true => self.outputs.iter().map(|lent| unsafe { lent.bytes() }.to_vec()).collect(),
            false => Vec::new(),
        };
        for (index, place) in places.iter().enumerate() {
            let lent = &mut self.outputs[index];
            let from = aside.get(index).map_or(lent.data, |bytes| bytes.as_ptr());
            match place {
                // SAFETY: the caller vouches for as many tensors.
                None => unsafe { outputs.add(index).write(lent.view()) },
                // SAFETY: the caller vouches for the memory, which is of the same type and shape, and
                // where it overlaps what is copied, that was put aside.
                Some(place) => unsafe { lent.copy(from, place) },
            }
        }
        Ok(())
    }

    /// # Safety
    /// `tensor` is null or a tensor of the caller.
    pub(crate) unsafe fn get_output(
        &mut self,
        index: usize,
        tensor: *mut Tensor,
    ) -> Result<(), Failure> {
        let count = self.loaded.outputs(self.entry).len();
        if index >= count {
            let message = format!("there is no output {index}, there are {count}");
            return Err(Failure::new(Status::BadParam, message));
        }
        if !self.has_run {
            let message = "there are no outputs: nothing has run since the session was made, \
                           prepared, or given another entry point";
            return Err(Failure::new(Status::BadParam, message));
        }
        let name = Name("output", self.output_name(index));
        // SAFETY: the caller vouches for the tensor.
        if unsafe { self.give(&name, &self.outputs[index], tensor) }? {
            // SAFETY: as above.
            unsafe { tensor.write(self.outputs[index].view()) };
        }
        Ok(())
    }

    /// Copies `lent` to the memory that `*tensor` tells of, or returns whether it is to be a view.
    ///
    /// # Safety
    /// `tensor` is null or a tensor of the caller.
    unsafe fn give(
        &self,
        name: &Name<'_>,
        lent: &Lent,
        tensor: *const Tensor,
    ) -> Result<bool, Failure> {
        if tensor.is_null() {
            return Err(Failure::null("`tensor`"));
        }
        // SAFETY: the caller vouches for the tensor.
        let Some(place) = (unsafe { self.place(name, lent, &*tensor) })? else { return Ok(true) };
        check_place(name, &place, (lent.dtype, &lent.shape))?;
        if place.overlaps(&lent.bytes) {
            // SAFETY: the elements are there until the next run.
            let aside = unsafe { lent.bytes() }.to_vec();
            // SAFETY: the memory is the caller's, and of this type and shape.
            unsafe { lent.copy(aside.as_ptr(), &place) };
        } else {
            // SAFETY: as above, and it overlaps nothing of what is copied.
            unsafe { lent.copy(lent.data, &place) };
        }
        Ok(false)
    }

    /// Where a result goes; None where the caller wants a view, or gives the last one back.
    ///
    /// # Safety
    /// `tensor` is one of the caller.
    unsafe fn place<'a>(
        &self,
        name: &Name<'_>,
        lent: &Lent,
        tensor: &Tensor,
    ) -> Result<Option<Checked<'a>>, Failure> {
        if tensor.data.is_null() || tensor.data.cast_const().cast() == lent.viewed {
            return Ok(None);
        }
        // SAFETY: the caller vouches for shape and strides.
        let place = unsafe { Checked::new(tensor, name, false) }?;
        place.check_writable(name)?;
        let mut lent = self.outputs.iter().chain(&self.states);
        if lent.any(|lent| lent.is_ours && place.overlaps(&lent.bytes)) {
            let message = format!("{name}: the memory is that of a view which the session gave");
            return Err(Failure::new(Status::BadParam, message));
        }
        Ok(Some(place))
    }

    /// Whether the elements lie where something does that was lent.
    fn lends(&self, checked: &Checked<'_>) -> bool {
        self.outputs.iter().chain(&self.states).any(|lent| checked.overlaps(&lent.bytes))
    }

    /// Copies an input, row-major, to memory of the session, and makes it the input.
    ///
    /// # Safety
    /// The elements may be read, and do not lie in the copy that the session has of this input.
    unsafe fn copy_input(
        &mut self,
        index: usize,
        given: &mut Checked<'_>,
        copied: &mut u64,
    ) -> Result<(), Failure> {
        let bytes = given.bytes();
        *copied = copied.saturating_add(bytes as u64);
        if *copied > self.memory_limit {
            let message = format!(
                "inputs that do not lie row-major take {copied} bytes to be copied, the limit is {}",
                self.memory_limit
            );
            return Err(Failure::new(Status::OutOfMemory, message));
        }
        let copy = &mut self.copies[index];
        let words = bytes.div_ceil(size_of::<u128>());
        if copy.len() < words {
            copy.clear();
            copy.try_reserve_exact(words).map_err(|_| {
                let message = format!("there is no memory for {bytes} bytes");
                Failure::new(Status::OutOfMemory, message)
            })?;
            copy.resize(words, 0);
        }
        let to = copy.as_mut_ptr().cast::<u8>();
        let size = given.dtype.size();
        // SAFETY: the caller vouches for the elements, and the copy is ours, large enough, and none
        // that is lent.
        unsafe { strided::copy(size, given.shape, (given.data, given.strides), (to, None)) };
        given.data = to;
        given.strides = None;
        (given.start, given.end) = (to.addr(), to.addr() + bytes);
        Ok(())
    }

    /// Refuses a number of outputs that is not that of the model, and none.
    fn check_outputs(&self, (outputs, count): TensorsMut) -> Result<(), Failure> {
        let ports = self.loaded.outputs(self.entry);
        check_count("output", ports.iter().map(|port| &*port.name), count)?;
        if count > 0 && outputs.is_null() {
            return Err(Failure::null("`outputs`"));
        }
        Ok(())
    }

    fn output_name(&self, index: usize) -> &str {
        self.loaded.outputs(self.entry).get(index).map_or("", |port| &port.name)
    }
}
