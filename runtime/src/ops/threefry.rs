//! Derivation of random keys, exactly as `jax.random` derives threefry keys. A key is u32[2],
//! high word first.

use lumina_kernels::{Attrs, DType, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{natural, operands};

pub(super) static OPS: &[Entry] = &[Entry::of::<FoldIn>(), Entry::of::<Split>()];

/// Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let schedule = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    let [mut a, mut b] = [counter[0].wrapping_add(key[0]), counter[1].wrapping_add(key[1])];
    for group in 0..5 {
        for rotation in ROTATIONS[group % 2] {
            a = a.wrapping_add(b);
            b = b.rotate_left(rotation) ^ a;
        }
        a = a.wrapping_add(schedule[(group + 1) % 3]);
        b = b.wrapping_add(schedule[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    [a, b]
}

/// `jax.random.fold_in`.
pub fn fold_in(key: [u32; 2], data: u32) -> [u32; 2] {
    threefry2x32(key, [0, data])
}

fn check_key(op: &'static str, key: &Fact) -> Result<(), Error> {
    if *key != Fact::new(DType::U32, [2]) {
        return Err(Error::invalid(op, format!("`key` must be u32[2], got {key}")));
    }
    Ok(())
}

fn key_of(view: &View<'_>) -> Result<[u32; 2], Error> {
    let words = view.data::<u32>()?;
    Ok([words[0], words[1]])
}

/// `jax.random.fold_in(key, data)`: key u32[2], data u32[] -> u32[2].
struct FoldIn;

impl Op for FoldIn {
    const NAME: &'static str = "threefry_fold_in";

    fn from_attrs(_: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self)
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [key, data] = operands(Self::NAME, inputs)?;
        check_key(Self::NAME, key)?;
        if *data != Fact::new(DType::U32, []) {
            return Err(Error::invalid(Self::NAME, format!("`data` must be u32[], got {data}")));
        }
        Ok(vec![key.clone()])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        let (key, data) = (key_of(&inputs[0])?, inputs[1].data::<u32>()?[0]);
        outputs[0].data_mut()?.copy_from_slice(&fold_in(key, data));
        Ok(())
    }
}

/// `jax.random.split(key, num)` as jax_threefry_partitionable has it: u32[2] -> u32[num,2].
struct Split {
    num: usize,
}

impl Op for Split {
    const NAME: &'static str = "threefry_split";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        Ok(Self { num: natural(Self::NAME, "num", attrs.int(Self::NAME, "num")?)? })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        let [key] = operands(Self::NAME, inputs)?;
        check_key(Self::NAME, key)?;
        Ok(vec![Fact::new(DType::U32, [self.num, 2])])
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        let key = key_of(&inputs[0])?;
        for (index, words) in outputs[0].data_mut()?.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let index = index as u64;
            *words = threefry2x32(key, [(index >> 32) as u32, index as u32]);
        }
        Ok(())
    }
}
