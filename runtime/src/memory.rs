//! Which buffer each value lives in: values that are never needed at the same time share one.

use std::collections::BTreeSet;

/// The values that one step reads and writes.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) reads: Vec<usize>,
    pub(crate) writes: Vec<usize>,
}

/// Buffers by number.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// The buffer of each value that a step writes.
    pub(crate) buffers: Vec<Option<usize>>,
    /// Bytes of each buffer.
    pub(crate) sizes: Vec<usize>,
}

/// Assigns buffers to what the steps write, in order.
///
/// The smallest free buffer that is large enough is taken, else the largest free one grows, else
/// there is a new one. What a step writes first shares no buffer with what it reads.
///
/// Args:
///   steps: what each step reads and writes; a value may be written again.
///   bytes: the size of each value.
///   kept: values that are needed after the last step.
pub(crate) fn assign(steps: &[Access], bytes: &[usize], kept: &[usize]) -> Assignment {
    let mut last_use = vec![0; bytes.len()];
    for (time, step) in steps.iter().enumerate() {
        for &id in step.reads.iter().chain(&step.writes) {
            last_use[id] = time;
        }
    }
    for &id in kept {
        last_use[id] = usize::MAX;
    }
    let mut buffers = vec![None; bytes.len()];
    let mut sizes: Vec<usize> = Vec::new();
    // By size, then number.
    let mut free: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (time, step) in steps.iter().enumerate() {
        for &id in &step.writes {
            if buffers[id].is_some() {
                continue;
            }
            let needed = bytes[id];
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
            buffers[id] = Some(buffer);
        }
        for &id in step.reads.iter().chain(&step.writes) {
            if last_use[id] == time
                && let Some(buffer) = buffers[id]
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

    /// What each step reads and writes, the size of each value, and which values are kept.
    type Case = (Vec<Access>, Vec<usize>, Vec<usize>);

    /// Steps that each read two earlier values and write one or two, after two inputs; some write
    /// the first that they read again.
    fn graphs() -> impl Strategy<Value = Case> {
        let step = (any::<[usize; 2]>(), 1..3usize, 0..4usize, any::<[bool; 2]>());
        proptest::collection::vec(step, 1..30).prop_map(|choices| {
            let (mut steps, mut bytes, mut kept) = (Vec::new(), vec![8, 8], Vec::new());
            for (reads, writes, size, [keep, again]) in choices {
                let known = bytes.len();
                let reads = reads.map(|read| read % known).to_vec();
                let mut writes: Vec<usize> = (known..known + writes).collect();
                bytes.extend(writes.iter().map(|_| size * 10));
                kept.extend(writes.iter().take(usize::from(keep)));
                if again && reads[0] >= 2 {
                    writes.push(reads[0]);
                }
                steps.push(Access { reads, writes });
            }
            (steps, bytes, kept)
        })
    }

    proptest! {
        /// The plain rule: run the steps, and see that what is read is what was written.
        #[test]
        fn no_value_is_overwritten_while_needed((steps, bytes, kept) in graphs()) {
            let Assignment { buffers, sizes } = assign(&steps, &bytes, &kept);
            let mut holds = vec![None; sizes.len()];
            let check = |holds: &[Option<usize>], id: usize| {
                buffers[id].is_none_or(|buffer| holds[buffer] == Some(id))
            };
            for Access { reads, writes } in &steps {
                for &id in reads {
                    prop_assert!(check(&holds, id));
                }
                for &id in writes {
                    let buffer = buffers[id].unwrap();
                    prop_assert!(sizes[buffer] >= bytes[id]);
                    let shares = |read: &usize| *read != id && buffers[*read] == Some(buffer);
                    prop_assert!(!reads.iter().any(shares));
                    holds[buffer] = Some(id);
                }
                for &id in writes {
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
        let steps: Vec<Access> =
            (0..10).map(|step| Access { reads: vec![step], writes: vec![step + 1] }).collect();
        assert_eq!(assign(&steps, &[100; 11], &[10]).sizes, [100, 100]);
    }
}
