//! Graphs of old op sets as the present one says them: one function for each old op set. The files
//! in `tests/corpus` hold every form that these functions know.

use crate::infer::find;
use crate::ir::{Attribute, Graph, Node};

/// The newest op set.
pub(crate) const OPSET: u32 = 2;

/// What the signal before noise and ADC is called now.
const PRE_NOISE: &str = "pre_noise";

/// Rewrites a graph of an older op set, which need not be right, in terms of the newest.
pub(crate) fn upgrade(graph: &mut Graph) {
    if graph.opset < 2 && find("optical_matmul_fwd").is_some() {
        graph.nodes.iter_mut().for_each(from_opset_1);
    }
}

/// Op set 1 had the training results of the optical product beside the deployed one in one op, and
/// called the signal before noise and ADC "linear".
///
/// | op set 1                                        | op set 2                                    |
/// |-------------------------------------------------|---------------------------------------------|
/// | `with_linear` false (the first files)           | `optical_matmul`                            |
/// | `with_linear` true                              | `optical_matmul_fwd`, `residual` "pre_noise"|
/// | `residual` "none", `with_peak` false            | `optical_matmul`                            |
/// | `residual` "linear", "slope", "signs", or a peak| `optical_matmul_fwd`, "linear" renamed      |
/// | `optical_matmul_grad`, `residual` "linear"      | the same, "pre_noise"                       |
fn from_opset_1(node: &mut Node) {
    match node.op.as_str() {
        "optical_matmul" => {
            if let Some(Attribute::Bool(with_linear)) = node.attributes.get("with_linear") {
                let residual = if *with_linear { "linear" } else { "none" };
                node.attributes.remove("with_linear");
                node.attributes.insert("residual".into(), Attribute::Str(residual.into()));
                node.attributes.insert("with_peak".into(), Attribute::Bool(false));
            }
            let residual = node.attributes.get("residual");
            let plain = matches!(residual, Some(Attribute::Str(text)) if text == "none");
            if plain && matches!(node.attributes.get("with_peak"), Some(Attribute::Bool(false))) {
                node.attributes.remove("residual");
                node.attributes.remove("with_peak");
            } else if residual.is_some() {
                node.op = "optical_matmul_fwd".into();
                rename_linear(node);
            }
        }
        "optical_matmul_grad" => rename_linear(node),
        _ => {}
    }
}

fn rename_linear(node: &mut Node) {
    if let Some(Attribute::Str(residual)) = node.attributes.get_mut("residual")
        && residual == "linear"
    {
        *residual = PRE_NOISE.into();
    }
}
