//! Operators on tensors of the caller, with the names and the calling conventions of infiniop.
//!
//! `list.rs` has one line for each operator; its functions follow from there. What an operator computes
//! is a program of the runtime's ops, in `define/`.

mod call;
mod define;
mod descriptor;
mod device;
mod list;
mod memory;
mod tensor;
mod unavailable;

pub use descriptor::{
    InfiniopDescriptor, infiniopGetDescriptorDeviceId, infiniopGetDescriptorDeviceType,
};
pub use device::*;
pub use list::*;
pub use memory::*;
pub use tensor::{
    InfiniopTensorDescriptor, infiniopCreateTensorDescriptor, infiniopDestroyTensorDescriptor,
    infiniopTensorDescriptor_t,
};
