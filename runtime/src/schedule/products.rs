//! Which products an optical node is, by its operands.

use lumina_kernels::Fact;

use crate::ir::{Attribute, Node};

/// The size of a product, x\[rows, inputs\] times w\[inputs, outputs\], and how often it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) calls: u64,
    pub(super) rows: u64,
    pub(super) inputs: u64,
    pub(super) outputs: u64,
}

/// How many products on the processor a node of that op is; 0 for an op that runs none.
pub(super) fn count(op: &str) -> usize {
    match op {
        "optical_matmul"
        | "optical_matmul_fwd"
        | "complex_optical_matmul"
        | "complex_optical_matmul_fwd"
        | "optical_conv"
        | "optical_conv_fwd" => 1,
        "optical_attention" => 2,
        _ => 0,
    }
}

/// Whether it computes with complex numbers, each of which is two inputs and two outputs.
pub(super) fn is_complex(op: &str) -> bool {
    op.starts_with("complex_")
}

/// The sizes of these products, where the node has operands and results of these facts, which its op
/// has accepted; None where one is too large for a number.
pub(super) fn sizes(node: &Node, operands: &[&Fact], results: &[&Fact]) -> Option<Vec<Size>> {
    let extents = |facts: &[&Fact], index: usize| -> Vec<u64> {
        facts[index].shape.iter().map(|&extent| extent as u64).collect()
    };
    let operand = |index| extents(operands, index);
    let product = |factors: &[u64]| factors.iter().try_fold(1u64, |p, &f| p.checked_mul(f));
    Some(match node.op.as_str() {
        "optical_conv" | "optical_conv_fwd" => {
            let groups = match node.attributes.get("feature_group_count") {
                Some(&Attribute::Int(groups)) => groups.max(1) as u64,
                _ => 1,
            };
            let (kernel, out) = (operand(1), extents(results, 0));
            vec![Size {
                calls: groups,
                rows: product(&out[..3])?,
                inputs: product(&kernel[..3])?,
                outputs: kernel[3] / groups,
            }]
        }
        "optical_attention" => {
            let (q, v) = (operand(0), operand(2));
            let (calls, rows) = (q[0].checked_mul(q[2])?, q[1]);
            let size = |inputs, outputs| Size { calls, rows, inputs, outputs };
            vec![size(q[3], v[1]), size(v[1], v[3])]
        }
        op => {
            let (x, w) = (operand(0), operand(1));
            let is_transposed =
                matches!(node.attributes.get("transpose_weight"), Some(Attribute::Bool(true)));
            let parts = if is_complex(op) { 2 } else { 1 };
            let outputs = w[if is_transposed { 0 } else { 1 }];
            vec![Size {
                calls: 1,
                rows: x[0],
                inputs: x[1].checked_mul(parts)?,
                outputs: outputs.checked_mul(parts)?,
            }]
        }
    })
}
