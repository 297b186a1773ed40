//! Graphs of old op sets as the present one says them: one function for each old op set. The files
//! in `tests/corpus` hold every form that these functions know.

use crate::ir::{Attribute, Module, Node};

/// The newest op set.
pub(crate) const OPSET: u32 = 6;

/// Rewrites graphs of an older op set, which need not be right, in terms of the newest.
pub(crate) fn upgrade(module: &mut Module) {
    let steps: [fn(&mut Node); 3] = [from_opset_1, from_opset_2, from_opset_3];
    for step in steps.iter().skip((module.opset as usize).saturating_sub(1)) {
        module.entries.iter_mut().for_each(|graph| upgrade_nodes(&mut graph.nodes, step));
    }
}

/// Upgrades the nodes of a scope, and those of the regions in it.
fn upgrade_nodes(nodes: &mut [Node], step: &fn(&mut Node)) {
    for node in nodes {
        step(node);
        for region in node.attributes.regions_mut() {
            upgrade_nodes(&mut region.nodes, step);
        }
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
                node.attributes.set("residual", Attribute::Str(residual.into()));
                node.attributes.set("with_peak", Attribute::Bool(false));
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
        *residual = "pre_noise".into();
    }
}

/// Op set 2 had no peaks of x and w, and gave the ops every full scale.
fn from_opset_2(node: &mut Node) {
    if node.op == "optical_matmul_fwd" {
        node.attributes.set("with_x_peak", Attribute::Bool(false));
        node.attributes.set("with_w_peak", Attribute::Bool(false));
    }
}

/// Op set 3 had arrays with as many inputs as there are.
fn from_opset_3(node: &mut Node) {
    if node.op.starts_with("optical_matmul") {
        node.attributes.set("array_rows", Attribute::Int(0));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::ir::Attributes;

    /// The op and the attributes that say what it returns, after the upgrade from an op set.
    fn upgraded(opset: usize, op: &str, attributes: &[(&str, Attribute)]) -> (String, String) {
        let attributes =
            attributes.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let attributes = Attributes::new(attributes);
        let (inputs, outputs) = (vec![], vec![]);
        let (source, fused) = (String::new(), vec![]);
        let execution = None;
        let mut node =
            Node { op: op.into(), inputs, outputs, attributes, source, fused, execution };
        for step in &[from_opset_1, from_opset_2, from_opset_3][opset - 1..] {
            step(&mut node);
        }
        let attributes: BTreeMap<&str, &Attribute> = node.attributes.iter().collect();
        (node.op.clone(), format!("{attributes:?}"))
    }

    #[test]
    fn every_row_of_the_table() {
        let text = |value: &str| ("residual", Attribute::Str(value.into()));
        let peak = |value| ("with_peak", Attribute::Bool(value));
        let linear = |value| ("with_linear", Attribute::Bool(value));
        let deployed = ("optical_matmul".to_string(), r#"{"array_rows": Int(0)}"#.to_string());
        let training = |residual: &str, peak: bool| {
            let others = r#""with_w_peak": Bool(false), "with_x_peak": Bool(false)"#;
            let attributes = format!(
                r#"{{"array_rows": Int(0), "residual": Str("{residual}"), "with_peak": Bool({peak}), {others}}}"#
            );
            ("optical_matmul_fwd".to_string(), attributes)
        };
        let op = "optical_matmul";
        assert_eq!(upgraded(1, op, &[linear(false)]), deployed);
        assert_eq!(upgraded(1, op, &[linear(true)]), training("pre_noise", false));
        assert_eq!(upgraded(1, op, &[text("none"), peak(false)]), deployed);
        assert_eq!(upgraded(1, op, &[text("none"), peak(true)]), training("none", true));
        for (old, new) in [("linear", "pre_noise"), ("slope", "slope"), ("signs", "signs")] {
            assert_eq!(upgraded(1, op, &[text(old), peak(false)]), training(new, false));
            assert_eq!(upgraded(1, op, &[text(old), peak(true)]), training(new, true));
        }
        let (op, attributes) = upgraded(1, "optical_matmul_grad", &[text("linear")]);
        assert_eq!(
            (&*op, &*attributes),
            ("optical_matmul_grad", r#"{"array_rows": Int(0), "residual": Str("pre_noise")}"#)
        );
        assert_eq!(upgraded(3, "optical_matmul", &[]), deployed);
        let fwd = "optical_matmul_fwd";
        assert_eq!(upgraded(2, fwd, &[text("slope"), peak(true)]), training("slope", true));
        // What no writer has written is left to the op, which refuses it.
        assert_eq!(upgraded(1, "optical_matmul", &[]), deployed);
    }
}
