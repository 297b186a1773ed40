//! Which buffer each value lives in: values that are never needed at the same time share one.

use std::collections::BTreeSet;

/// What one node reads and writes, as value ids.
pub(crate) struct Access<'a> {
    pub(crate) inputs: &'a [u32],
    pub(crate) outputs: &'a [u32],
}

/// Buffers by number.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// The buffer of each value that a node computes.
    pub(crate) buffers: Vec<Option<usize>>,
    /// Bytes of each buffer.
    pub(crate) sizes: Vec<usize>,
}

/// Assigns buffers to what the nodes compute, in order.
///
/// The smallest free buffer that is large enough is taken, else the largest free one grows, else
/// there is a new one. A node's outputs never share a buffer with its inputs.
///
/// Args:
///   nodes: what each node reads and writes.
///   bytes: the size of each value.
///   kept: values that are needed after the last node.
pub(crate) fn assign(nodes: &[Access<'_>], bytes: &[usize], kept: &[u32]) -> Assignment {
    let mut last_use = vec![0; bytes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for &id in node.inputs.iter().chain(node.outputs) {
            last_use[id as usize] = index;
        }
    }
    for &id in kept {
        last_use[id as usize] = usize::MAX;
    }
    let mut buffers = vec![None; bytes.len()];
    let mut sizes: Vec<usize> = Vec::new();
    // By size, then number.
    let mut free: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (index, node) in nodes.iter().enumerate() {
        for &id in node.outputs {
            let needed = bytes[id as usize];
            let best = free.range((needed, 0)..).next().or(free.last()).copied();
            let buffer = match best {
                Some((size, buffer)) => {
                    free.remove(&(size, buffer));
                    buffer
                }
                None => {
                    sizes.push(0);
                    sizes.len() - 1
                }
            };
            sizes[buffer] = sizes[buffer].max(needed);
            buffers[id as usize] = Some(buffer);
        }
        for &id in node.inputs.iter().chain(node.outputs) {
            if last_use[id as usize] == index
                && let Some(buffer) = buffers[id as usize]
            {
                free.insert((sizes[buffer], buffer));
            }
        }
    }
    Assignment { buffers, sizes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What each node reads and writes, the size of each value, and which values are kept.
    type Case = (Vec<(Vec<u32>, Vec<u32>)>, Vec<usize>, Vec<u32>);

    /// Nodes that each read two earlier values and write one or two, after two inputs.
    fn graphs() -> impl Strategy<Value = Case> {
        proptest::collection::vec((any::<[u32; 2]>(), 1..3u32, 0..4usize, any::<bool>()), 1..30)
            .prop_map(|choices| {
                let (mut nodes, mut bytes, mut kept) = (Vec::new(), vec![8, 8], Vec::new());
                for (reads, writes, size, keep) in choices {
                    let known = bytes.len() as u32;
                    let outputs: Vec<u32> = (known..known + writes).collect();
                    bytes.extend(outputs.iter().map(|_| size * 10));
                    kept.extend(outputs.iter().take(usize::from(keep)));
                    nodes.push((reads.map(|read| read % known).to_vec(), outputs));
                }
                (nodes, bytes, kept)
            })
    }

    proptest! {
        /// The plain rule: run the nodes, and see that what is read is what was written.
        #[test]
        fn no_value_is_overwritten_while_needed((nodes, bytes, kept) in graphs()) {
            let accesses: Vec<Access<'_>> = nodes
                .iter()
                .map(|(inputs, outputs)| Access { inputs, outputs })
                .collect();
            let Assignment { buffers, sizes } = assign(&accesses, &bytes, &kept);
            let mut holds = vec![None; sizes.len()];
            let check = |holds: &[Option<u32>], id: u32| {
                buffers[id as usize].is_none_or(|buffer| holds[buffer] == Some(id))
            };
            for (inputs, outputs) in &nodes {
                for &id in outputs {
                    let buffer = buffers[id as usize].unwrap();
                    prop_assert!(sizes[buffer] >= bytes[id as usize]);
                    prop_assert!(inputs.iter().all(|&input| buffers[input as usize] != Some(buffer)));
                    holds[buffer] = Some(id);
                }
                for &id in inputs.iter().chain(outputs) {
                    prop_assert!(check(&holds, id));
                }
            }
            for id in kept {
                prop_assert!(check(&holds, id));
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let ids: Vec<u32> = (0..=10).collect();
        let nodes: Vec<Access<'_>> = (0..10)
            .map(|node| Access { inputs: &ids[node..node + 1], outputs: &ids[node + 1..node + 2] })
            .collect();
        assert_eq!(assign(&nodes, &[100; 11], &[10]).sizes, [100, 100]);
    }
}
