//! Weights that lie in a file as codes: the node `dequantize` of constants.

use std::collections::{BTreeMap, BTreeSet};

use lumina_kernels::DType;

use crate::Error;
use crate::container::{Contents, SectionKind};
use crate::ir::{Attribute, Module, Node, Region, Tensor, in_region};

/// The op that makes numbers of codes.
pub(crate) const OP: &str = "dequantize";
/// Names of its operands, in order.
const OPERANDS: [&str; 4] = ["codes", "scale", "zero_point", "table"];

/// The constants that a scope reads, by the ids that they have there.
pub(crate) type Constants<'a> = BTreeMap<u32, &'a Tensor>;

/// The constants that a region reads, of those of the scope around it.
pub(crate) fn captured<'a>(region: &Region, around: &Constants<'a>) -> Constants<'a> {
    let captures = (0..).zip(&region.captures);
    captures.filter_map(|(own, id)| Some((own, *around.get(id)?))).collect()
}

/// What a weight of codes takes.
pub(crate) struct Coded {
    pub(crate) bits: i64,
    /// What has a scale of its own: "tensor", "column", "row", "group of 64".
    pub(crate) scale: String,
    /// Whether the levels of the codes are those of a table.
    pub(crate) has_table: bool,
    /// Bytes of codes, scales, zero points and tables.
    pub(crate) bytes: u64,
    /// Bytes of the numbers that they stand for.
    pub(crate) bytes_of_numbers: u64,
}

impl Coded {
    /// What the node makes of constants; None for any other node.
    pub(crate) fn of(node: &Node, constants: &Constants<'_>) -> Option<Self> {
        let operands = operands(node, constants)?;
        let [_, scale, _, table] = operands;
        let (Attribute::Int(bits), Attribute::Int(group), Attribute::Ints(shape)) = (
            node.attributes.get("bits")?,
            node.attributes.get("group")?,
            node.attributes.get("shape")?,
        ) else {
            return None;
        };
        let scale = match *scale.stored.fact.shape {
            [1, 1] => "tensor".into(),
            [1, _] => "column".into(),
            [_, 1] if *group == 1 => "row".into(),
            _ => format!("group of {group}"),
        };
        let numbers = shape.iter().fold(4u64, |all, &n| all.saturating_mul(n.max(0) as u64));
        let bytes = operands.iter().map(|tensor| tensor.stored.range().len() as u64).sum();
        let has_table = table.stored.fact.shape.first() != Some(&0);
        Some(Self { bits: *bits, scale, has_table, bytes, bytes_of_numbers: numbers })
    }
}

/// The operands of a node that makes a weight of constants.
pub(crate) fn operands<'a>(node: &Node, constants: &Constants<'a>) -> Option<[&'a Tensor; 4]> {
    let ids: [u32; 4] = (node.op == OP).then(|| node.inputs.as_slice().try_into().ok())??;
    let [codes, scale, zero_point, table] = ids.map(|id| constants.get(&id).copied());
    Some([codes?, scale?, zero_point?, table?])
}

/// Checks that scales, zero points and tables of weights are numbers.
pub(crate) fn check_codes(module: &Module, contents: Contents<'_>) -> Result<(), Error> {
    let weights = contents.section(SectionKind::Weights);
    let mut seen = BTreeSet::new();
    let mut check = |node: &Node, constants: &Constants<'_>| {
        let Some(operands) = operands(node, constants) else { return Ok(()) };
        for (tensor, name) in operands.iter().zip(OPERANDS).skip(1) {
            if tensor.stored.fact.dtype != DType::F32 || !seen.insert(tensor.id) {
                continue;
            }
            let bytes = &weights[tensor.stored.range()];
            let values = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            if let Some((at, value)) = values.enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(format!(
                    "`{name}` has {value} as element {at}, expected finite numbers"
                ));
            }
        }
        Ok(())
    };
    for graph in &module.entries {
        check_nodes(&graph.nodes, &graph.tensors_by_id(), &mut check)
            .map_err(|error| crate::validate::of_entry(module, graph, error))?;
    }
    Ok(())
}

fn check_nodes(
    nodes: &[Node],
    constants: &Constants<'_>,
    check: &mut impl FnMut(&Node, &Constants<'_>) -> Result<(), String>,
) -> Result<(), Error> {
    for (index, node) in nodes.iter().enumerate() {
        check(node, constants).map_err(|message| Error::graph(node.place(index), message))?;
        for (name, region) in node.regions() {
            check_nodes(&region.nodes, &captured(region, constants), check)
                .map_err(|error| in_region(node, index, name, error))?;
        }
    }
    Ok(())
}
