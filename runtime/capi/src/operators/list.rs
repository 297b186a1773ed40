//! The list of operators. Of `Add(c; a, b) = define`, with the outputs first, follow
//!
//! ```c
//! Status infiniopCreateAddDescriptor(handle, desc_ptr, c, a, b);
//! Status infiniopGetAddWorkspaceSize(desc, size);
//! Status infiniopAdd(desc, workspace, workspace_size, c, a, b, stream);
//! Status infiniopDestroyAddDescriptor(desc);
//! ```
//!
//! Parameters behind the inputs are those of the creation. `run(…)` are numbers of a call, `again(…)`
//! parameters of the creation that a call has to repeat, and `direct` an operator without workspace.

use std::ffi::{c_int, c_void};

use super::define::{attention, elementwise, optical, products, rows, shapes};
use super::descriptor::{InfiniopDescriptor, Signature, create, destroy, workspace_size};
use super::device::{infiniopHandle_t, infinirtStream_t};
use super::tensor::infiniopTensorDescriptor_t;
use crate::Status;

/// The functions around the call of an operator.
macro_rules! creation {
    ($name:ident($($output:ident),+; $($input:ident),*; $($param:ident: $type:ty),*)
     has_workspace($has_workspace:literal) again($again:expr) = $define:path) => {
        const SIGNATURE: &Signature = &Signature {
            name: stringify!($name),
            outputs: [$(stringify!($output)),+].len(),
            tensors: &[$(stringify!($output),)+ $(stringify!($input)),*],
            has_workspace: $has_workspace,
        };

        /// Creates the operator for tensors of these layouts.
        ///
        /// # Safety
        ///
        /// Handles are null or valid, pointers null or to as much as they are to hold.
        #[unsafe(export_name = concat!("infiniopCreate", stringify!($name), "Descriptor"))]
        pub unsafe extern "C" fn create_descriptor(
            handle: infiniopHandle_t,
            desc_ptr: *mut *mut InfiniopDescriptor,
            $($output: infiniopTensorDescriptor_t,)+
            $($input: infiniopTensorDescriptor_t,)*
            $($param: $type),*
        ) -> Status {
            let tensors = [$($output.cast_const(),)+ $($input.cast_const()),*];
            // SAFETY: the caller says so.
            unsafe {
                create(SIGNATURE, handle, desc_ptr, &tensors, || $again, |tensors| {
                    $define(tensors, $($param),*)
                })
            }
        }

        /// Frees the operator.
        ///
        /// # Safety
        ///
        /// `desc` is null or an operator that was not destroyed.
        #[unsafe(export_name = concat!("infiniopDestroy", stringify!($name), "Descriptor"))]
        pub unsafe extern "C" fn destroy_descriptor(desc: *mut InfiniopDescriptor) -> Status {
            // SAFETY: the caller says so.
            unsafe { destroy(SIGNATURE, desc) }
        }
    };
}

macro_rules! operator {
    (direct $name:ident($($output:ident),+; $($input:ident),*) = $define:path) => {
        #[doc = concat!("Functions of the operator ", stringify!($name), ".")]
        #[allow(non_snake_case)]
        pub mod $name {
            use super::*;

            creation! {
                $name($($output),+; $($input),*;) has_workspace(false) again(Ok(Vec::new())) = $define
            }

            /// Runs the operator on this memory.
            ///
            /// # Safety
            ///
            /// `desc` is null or an operator; the memory is as its tensors were described, and nobody
            /// else writes what is read, or looks at what is written, meanwhile.
            #[unsafe(export_name = concat!("infiniop", stringify!($name)))]
            pub unsafe extern "C" fn run(
                desc: *mut InfiniopDescriptor,
                $($output: *mut c_void,)+
                $($input: *const c_void,)*
                _stream: infinirtStream_t,
            ) -> Status {
                let pointers = [$($output,)+ $($input.cast_mut()),*];
                let none = std::ptr::null_mut();
                // SAFETY: the caller says so.
                unsafe {
                    call(SIGNATURE, desc, none, 0, &pointers, &[], || Ok(Vec::new()))
                }
            }
        }
    };
    ($name:ident($($output:ident),+; $($input:ident),*
     $(; $($param:ident: $type:ty),*)?)
     $(run($($scalar:ident),*))? $(again($($repeated:ident: $repeated_type:ty),*) by $again:path)?
     = $define:path) => {
        #[doc = concat!("Functions of the operator ", stringify!($name), ".")]
        #[allow(non_snake_case)]
        pub mod $name {
            use super::*;

            creation! {
                $name($($output),+; $($input),*; $($($param: $type),*)?) has_workspace(true)
                again(again!($($again => $($repeated),*)?)) = $define
            }

            /// Writes how many bytes of workspace a call takes, which may begin anywhere.
            ///
            /// # Safety
            ///
            /// `desc` is null or an operator, `size` null or writable.
            #[unsafe(export_name = concat!("infiniopGet", stringify!($name), "WorkspaceSize"))]
            pub unsafe extern "C" fn get_workspace_size(
                desc: *mut InfiniopDescriptor,
                size: *mut usize,
            ) -> Status {
                // SAFETY: the caller says so.
                unsafe { workspace_size(SIGNATURE, desc, size) }
            }

            /// Runs the operator on this memory.
            ///
            /// # Safety
            ///
            /// `desc` is null or an operator; the memory is as its tensors were described, `workspace` has
            /// `workspace_size` bytes, and nobody else writes what is read, or looks at what is written,
            /// meanwhile.
            #[unsafe(export_name = concat!("infiniop", stringify!($name)))]
            pub unsafe extern "C" fn run(
                desc: *mut InfiniopDescriptor,
                workspace: *mut c_void,
                workspace_size: usize,
                $($output: *mut c_void,)+
                $($input: *const c_void,)*
                $($($scalar: f32,)*)?
                $($($repeated: $repeated_type,)*)?
                _stream: infinirtStream_t,
            ) -> Status {
                let pointers = [$($output,)+ $($input.cast_mut()),*];
                // SAFETY: the caller says so.
                unsafe {
                    call(
                        SIGNATURE,
                        desc,
                        workspace,
                        workspace_size,
                        &pointers,
                        &[$($($scalar),*)?],
                        || again!($($again => $($repeated),*)?),
                    )
                }
            }
        }
    };
}

/// What a call has to say again, as numbers.
macro_rules! again {
    () => {
        Ok(Vec::new())
    };
    ($again:path => $($repeated:ident),*) => {
        $again($($repeated),*)
    };
}

macro_rules! operators {
    ($({ $($operator:tt)* })*) => {
        use super::call::call;

        $(operator! { $($operator)* })*
    };
}

operators! {
    /* Element by element */
    { Add(c; a, b) = elementwise::add }
    { Sub(c; a, b) = elementwise::sub }
    { Mul(c; a, b) = elementwise::mul }
    { Relu(y; x) = elementwise::relu }
    { Gelu(y; x) = elementwise::gelu }
    { GeluTanh(y; x) = elementwise::gelu_tanh }
    { QuickGelu(y; x) = elementwise::quick_gelu }
    { Silu(y; x) = elementwise::silu }
    { Sigmoid(y; x) = elementwise::sigmoid }
    { Tanh(y; x) = elementwise::tanh }
    { Softplus(y; x; beta: f32, threshold: f32) = elementwise::softplus }
    { Clip(y; x, min, max) = elementwise::clip }
    { SwiGLU(c; a, b) = elementwise::swiglu }
    /* Of rows */
    { Softmax(y; x; axis: c_int) = rows::softmax }
    { LogSoftmax(y; x; dim: c_int) = rows::log_softmax }
    { CausalSoftmax(y; x) = rows::causal_softmax }
    {
        LayerNorm(y, standardized, deviation; x, weight, bias; eps: f32) = rows::layer_norm
    }
    { RMSNorm(y; x, w; eps: f32) = rows::rms_norm }
    { AddRMSNorm(y, residual_out; a, b, weight; eps: f32) = rows::add_rms_norm }
    {
        Sum(output; input; dims: *const usize, count: usize, keepdim: bool)
        again(dims: *const usize, count: usize, keepdim: bool) by shapes::axes_again
        = shapes::sum
    }
    {
        TopK(values, indices; input; k: usize, dim: usize, largest: bool, sorted: bool)
        again(k: usize, dim: usize, largest: bool, sorted: bool) by shapes::top_k_again
        = shapes::top_k
    }
    /* Products */
    { Gemm(c; a, b) run(alpha, beta) = products::gemm }
    {
        Conv(y; x, w, bias; pads: *const i64, strides: *const i64, dilations: *const i64, n: usize)
        = products::conv
    }
    { ComplexMatmul(c; a, b) = products::complex_matmul }
    /* What moves elements */
    { direct Rearrange(y; x) = shapes::rearrange }
    { direct Embedding(output; indices, weight) = shapes::embedding }
    { Zeros(y; x) = shapes::zeros }
    { Ones(y; x) = shapes::ones }
    { RoPE(y; x, pos_ids, sin_table, cos_table; algo: c_int) = rows::rope }
    /* Through the signal chain of a photonic processor */
    {
        OpticalMatmul(
            out; x, w, bias, x_full_scale, w_full_scale, y_full_scale, noise, seed;
            dac_bits: c_int, weight_bits: c_int, adc_bits: c_int, array_rows: usize
        ) = optical::matmul
    }
    {
        OpticalConv(
            out; x, kernel, bias, x_full_scale, w_full_scale, y_full_scale, noise, seed;
            dac_bits: c_int, weight_bits: c_int, adc_bits: c_int, array_rows: usize,
            pads: *const i64, strides: *const i64, dilations: *const i64, groups: usize
        ) = optical::conv
    }
    {
        CausalAttention(
            out; q, k, v, q_full_scale, k_full_scale, p_full_scale, v_full_scale,
            scores_full_scale, out_full_scale, noise, seed;
            dac_bits: c_int, adc_bits: c_int, scale: f32
        ) = attention::causal
    }
}
