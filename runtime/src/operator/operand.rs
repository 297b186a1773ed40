//! Tensors in memory of the caller.

use lumina_kernels::{DType, Fact, Layout, is_nested, reach};

use crate::Error;
use crate::infer::check_size;
use crate::plan::{Place, Root};

/// Where the elements of a tensor lie: any strides, counted in elements, 0 and negative ones too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    fact: Fact,
    layout: Layout,
    /// All from the first element in memory to behind the last.
    stored: Fact,
}

impl Operand {
    /// A tensor of these strides; row-major where there are none.
    pub fn new(dtype: DType, shape: &[usize], strides: Option<&[isize]>) -> Result<Self, Error> {
        let fact = Fact::new(dtype, shape);
        let refuse = |message: String| Error::Input(format!("a tensor of {fact} {message}"));
        check_size(&fact).map_err(Error::Input)?;
        if let Some(strides) = strides.filter(|strides| strides.len() != shape.len()) {
            let (axes, count) = (shape.len(), strides.len());
            return Err(refuse(format!("has {axes} axes and {count} strides")));
        }
        let Some(strides) = strides.filter(|_| !fact.is_empty()) else {
            let layout = Layout::row_major(shape);
            let stored = Fact::new(dtype, [fact.len()]);
            return Ok(Self { fact, layout, stored });
        };
        // In memory, the element of index 0 comes behind those that negative strides lead to.
        let (before, behind) = reach(shape, strides)
            .ok_or_else(|| refuse(format!("cannot have strides {strides:?}")))?;
        let span = before.checked_add(behind).and_then(|reach| reach.checked_add(1));
        let bytes = span.and_then(|span| span.checked_mul(dtype.size()));
        match (span, bytes.map(isize::try_from)) {
            (Some(span), Some(Ok(_))) => {
                let layout = Layout::strided(shape, strides, before);
                Ok(Self { fact, layout, stored: Fact::new(dtype, [span]) })
            }
            _ => Err(refuse(format!("cannot have strides {strides:?}"))),
        }
    }

    /// Element type and shape.
    pub fn fact(&self) -> &Fact {
        &self.fact
    }

    /// Elements from one index of each axis to the next.
    pub fn strides(&self) -> &[isize] {
        self.layout.strides()
    }

    /// Bytes from the first element in memory to behind the last.
    pub fn span(&self) -> usize {
        self.stored.len() * self.fact.dtype.size()
    }

    /// Bytes from the first element in memory to that of index 0.
    pub fn offset(&self) -> usize {
        self.layout.start() * self.fact.dtype.size()
    }

    /// Whether the elements are row-major and next to each other.
    pub fn is_row_major(&self) -> bool {
        self.layout.is_row_major()
    }

    /// Whether every step along an axis leads beyond all that smaller steps reach, so that no two
    /// elements share memory.
    pub fn is_nested(&self) -> bool {
        self.fact.is_empty() || is_nested(self.layout.shape(), self.layout.strides())
    }

    /// The axes with more than one index, extents and strides, from the widest stride on.
    pub(super) fn axes(&self) -> Vec<(usize, usize, isize)> {
        let (shape, strides) = (self.layout.shape(), self.layout.strides());
        let axes = shape.iter().zip(strides).enumerate();
        let mut axes: Vec<(usize, usize, isize)> = axes
            .filter(|&(_, (&extent, _))| extent > 1)
            .map(|(axis, (&extent, &stride))| (axis, extent, stride))
            .collect();
        axes.sort_by_key(|&(_, _, stride)| std::cmp::Reverse(stride.unsigned_abs()));
        axes
    }

    /// Where each element lies, row-major, in elements from the first one in memory on.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        let (shape, strides) = (self.layout.shape(), self.layout.strides());
        (0..self.fact.len()).map(move |index| {
            let (mut rest, mut at) = (index, self.layout.start() as isize);
            for (&extent, &stride) in shape.iter().zip(strides).rev() {
                at += (rest % extent) as isize * stride;
                rest /= extent;
            }
            at as usize
        })
    }

    /// Its place, where the memory from its first element on is given as number `index`.
    pub(super) fn place(&self, index: usize) -> Place {
        let (stored, layout) = (self.stored.clone(), self.layout.clone());
        Place { root: Root::Given(index), stored, layout }
    }

    pub(super) fn stored(&self) -> &Fact {
        &self.stored
    }
}
