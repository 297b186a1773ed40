//! States of a session, on memory of the caller.

use lumina_runtime::{Data, Fact, View};

use super::Runner;
use crate::lent::Name;
use crate::status::{Failure, Status};
use crate::tensor::{Checked, Tensor};

impl Runner {
    /// # Safety
    /// `tensor` is null or a tensor of the caller.
    pub(crate) unsafe fn get_state(
        &mut self,
        state: &str,
        tensor: *mut Tensor,
    ) -> Result<(), Failure> {
        let bad = |error| Failure::of(error, Status::BadParam);
        let view = self.session.state(state).map_err(bad)?;
        let bytes = view.bytes().map_err(|error| bad(error.into()))?;
        let number = self.loaded.model.state_facts().position(|(name, _)| name == state);
        let number = number.expect("the session has a state of that name");
        let lent = &mut self.states[number];
        lent.set(view.dtype(), view.shape(), Some(bytes));
        lent.is_ours = true;
        // SAFETY: the caller vouches for the tensor.
        if unsafe { self.give(&Name("state", state), &self.states[number], tensor) }? {
            // SAFETY: as above.
            unsafe { tensor.write(self.states[number].view()) };
        }
        Ok(())
    }

    /// # Safety
    /// `tensor` is null or a tensor of the caller.
    pub(crate) unsafe fn set_state(
        &mut self,
        state: &str,
        tensor: *const Tensor,
    ) -> Result<(), Failure> {
        if tensor.is_null() {
            return Err(Failure::null("`tensor`"));
        }
        // SAFETY: the caller vouches for the tensor.
        let mut given = unsafe { Checked::new(&tensor.read(), &Name("state", state), false) }?;
        let states = self.loaded.model.state_facts();
        let fact =
            states.into_iter().find(|(name, _)| *name == state).map(|(_, fact)| fact.clone());
        let got = Fact::new(given.dtype, given.shape);
        if let Some(fact) = fact.filter(|fact| *fact != got) {
            let status = match fact.dtype == got.dtype {
                true => Status::BadTensorShape,
                false => Status::BadTensorDtype,
            };
            let message = format!("state `{state}` must be {fact}, got {got}");
            return Err(Failure::new(status, message));
        }
        if self.lends(&given) || !given.is_usable() {
            let last = self.copies.len() - 1;
            let retired = std::mem::take(&mut self.copies[last]);
            // SAFETY: the elements are the caller's, or lent to it.
            unsafe { self.copy_input(last, &mut given, &mut 0) }?;
            drop(retired);
        }
        // SAFETY: the elements are row-major, aligned, and no memory of the session that is written.
        let data = unsafe { Data::from_raw_parts(given.dtype, given.data, given.len) };
        let view = View::new(given.shape, data)
            .map_err(|error| Failure::new(Status::InternalError, error.to_string()))?;
        self.session.set_state(state, &view).map_err(|error| Failure::of(error, Status::BadParam))
    }
}
