//! Weights that lie in a file as codes give the bits of those that lie in it as numbers, whoever reads
//! them.

use std::sync::Arc;

use lumina_runtime::{DType, Error, Options, Session, Tensor};
use proptest::prelude::*;

use crate::build::*;
use crate::proto::{Attr, Region, attr};

/// Weights by their codes.
#[derive(Clone, Debug)]
struct Weights {
    bits: usize,
    depth: usize,
    columns: usize,
    transpose: bool,
    group: usize,
    /// Rows and columns of scale and zero point.
    by_group: [usize; 2],
    tables: usize,
    codes: Vec<u8>,
    numbers: Vec<f32>,
}

impl Weights {
    fn scale(&self) -> &[f32] {
        &self.numbers[..self.by_group[0] * self.by_group[1]]
    }

    fn zero_point(&self) -> Vec<f32> {
        self.scale().iter().rev().map(|number| (number * 4.0).round() / 2.0).collect()
    }

    fn table(&self) -> &[f32] {
        &self.numbers[..self.tables << self.bits]
    }

    fn shape(&self) -> [usize; 2] {
        if self.transpose { [self.columns, self.depth] } else { [self.depth, self.columns] }
    }

    /// The numbers, one by one.
    fn values(&self) -> Tensor {
        let [first, second] = self.shape();
        let zero_points = self.zero_point();
        let mut values = Vec::new();
        for (i, j) in (0..first).flat_map(|i| (0..second).map(move |j| (i, j))) {
            let (row, column) = if self.transpose { (j, i) } else { (i, j) };
            let code = self.codes[row * self.columns + column];
            let level = match self.tables {
                0 => f32::from(code),
                tables => self.table()[(column.min(tables - 1) << self.bits) + usize::from(code)],
            };
            let [groups, width] = self.by_group;
            let at = (row / self.group).min(groups - 1) * width + column.min(width - 1);
            values.push((level - zero_points[at]) * self.scale()[at]);
        }
        f32s(&self.shape(), &values)
    }

    /// The codes as words.
    fn words(&self) -> Tensor {
        let (mut words, mut rows, mut shift) = (Vec::new(), 0, 0);
        for width in [8, 4, 2, 1].into_iter().filter(|width| self.bits & width != 0) {
            let per_word = 32 / width;
            for first in (0..self.depth).step_by(per_word) {
                for column in 0..self.columns {
                    let mut word = 0u32;
                    for row in first..self.depth.min(first + per_word) {
                        let value = self.codes[row * self.columns + column] >> shift;
                        let value = u32::from(value) & ((1 << width) - 1);
                        let j = row - first;
                        word |= value << (j % 4 * 8 + j / 4 * width);
                    }
                    words.push(word);
                }
                rows += 1;
            }
            shift += width;
        }
        u32s(&[rows, self.columns], &words)
    }

    fn write(&self, file: &mut File, coded: bool) -> u32 {
        if !coded {
            return file.tensor("w", &self.values());
        }
        let operands = [
            file.tensor("w", &self.words()),
            file.tensor("scale", &f32s(&self.by_group, self.scale())),
            file.tensor("zero_point", &f32s(&self.by_group, &self.zero_point())),
            file.tensor("table", &f32s(&[self.tables, 1 << self.bits], self.table())),
        ];
        let attrs = [
            ("bits", int(self.bits as i64)),
            ("shape", ints(&self.shape().map(|extent| extent as i64))),
            ("transpose", flag(self.transpose)),
            ("group", int(self.group as i64)),
        ];
        file.node("dequantize", &operands, &attrs)
    }
}

fn weights() -> impl Strategy<Value = Weights> {
    let extents = (1usize..=8, 1usize..70, 1usize..70, any::<bool>(), any::<bool>(), any::<bool>());
    let all = (extents, prop_oneof![Just(0usize), Just(1), Just(2)], 1usize..40);
    all.prop_flat_map(|((bits, depth, columns, transpose, grouped, by_column), tables, group)| {
        let group = if grouped { group } else { depth };
        let by_group = [depth.div_ceil(group), if by_column { columns } else { 1 }];
        let tables = if tables == 2 { columns } else { tables };
        let count = (by_group[0] * by_group[1]).max(tables << bits);
        let codes = prop::collection::vec(0..=(255u8 >> (8 - bits)), depth * columns);
        let numbers = prop::collection::vec(-2.0f32..2.0, count);
        (codes, numbers).prop_map(move |(codes, numbers)| Weights {
            bits,
            depth,
            columns,
            transpose,
            group,
            by_group,
            tables,
            codes,
            numbers,
        })
    })
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| ((index * 7919 % 1013) as f32 - 506.0) / 97.0).collect()
}

/// Products with the weights, on either side of them, with as many rows as the symbol says.
fn products(of: &Weights, coded: bool) -> File {
    let mut file = File::new();
    let w = of.write(&mut file, coded);
    let batch = file.symbol("batch");
    let extent = |extent: usize| fixed(&[extent])[0].clone();
    // What is summed over is the depth of the codes, or not.
    for (side, summed, kept) in [("x", of.depth, of.columns), ("z", of.columns, of.depth)] {
        let x = file.input(side, DType::F32, &[batch.clone(), extent(summed)]);
        let axis = i64::from(of.transpose == (side == "x"));
        let product = file.node("dot_general", &[x, w], &dot(&[1], &[axis], &[], &[]));
        let dims = [batch.clone(), extent(kept)];
        file.output(product, &format!("{side}w"), DType::F32, &dims);
        let turned = file.node("dot_general", &[w, x], &dot(&[axis], &[1], &[], &[]));
        file.output(turned, &format!("w{side}"), DType::F32, &[dims[1].clone(), dims[0].clone()]);
        let bias = file.tensor("bias", &f32s(&[kept], &numbers(kept)));
        let attrs = [("shape", shape(&dims)), ("broadcast_dimensions", ints(&[1]))];
        let bias = file.node("broadcast_in_dim", &[bias], &attrs);
        let [lhs, rhs, left, right] = dot(&[1], &[axis], &[], &[]);
        let attrs = [lhs, rhs, left, right, ("activation", text("relu"))];
        let fused = file.node("fused_dot_general", &[x, w, bias], &attrs);
        file.output(fused, &format!("fused {side}w"), DType::F32, &dims);
    }
    file
}

fn lookup(offset: i64, mode: &str, length: usize) -> Vec<(&'static str, Attr)> {
    vec![
        ("slice_sizes", ints(&[1, length as i64])),
        ("mode", text(mode)),
        ("offset_dims", ints(&[offset])),
        ("collapsed_slice_dims", ints(&[0])),
        ("operand_batching_dims", ints(&[])),
        ("start_indices_batching_dims", ints(&[])),
        ("start_index_map", ints(&[0])),
    ]
}

/// Everything else that may be done with weights.
fn others(of: &Weights, coded: bool) -> File {
    let mut file = File::new();
    let w = of.write(&mut file, coded);
    let [lines, length] = of.shape();
    let indices = file.input("indices", DType::I32, &fixed(&[5, 1]));
    let fill = file.tensor("fill", &f32s(&[], &[-7.5]));
    for (name, offset, dims) in [("lines", 1, [5, length]), ("columns", 0, [length, 5])] {
        for mode in ["clip", "fill_or_drop"] {
            let lines = file.node("gather", &[w, indices, fill], &lookup(offset, mode, length));
            file.output(lines, &format!("{name} {mode}"), DType::F32, &fixed(&dims));
        }
    }
    // A branch that captures them, and does with them what the scope does not.
    let body = vec![node("gather", &[0, 1, 2], &[3], &lookup(1, "clip", length))];
    let captures = [w, indices, fill];
    let region = |nodes, outputs: &[u32]| {
        let (captures, outputs) = (captures.to_vec(), outputs.to_vec());
        Attr { value: Some(attr::Value::Region(Region { captures, inputs: 0, nodes, outputs })) }
    };
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let chosen = file.node("cond", &[zero], &[("branch_000", region(body, &[3]))]);
    file.output(chosen, "chosen", DType::F32, &fixed(&[5, length]));
    let inside = file.node("cond", &[zero], &[("branch_000", region(vec![], &[0]))]);
    file.output(inside, "inside", DType::F32, &fixed(&[lines, length]));
    let flat = [("new_sizes", ints(&[(lines * length) as i64]))];
    let flat = file.node("reshape", &[w], &flat);
    file.output(flat, "flat", DType::F32, &fixed(&[lines * length]));
    let sum = file.node("add", &[w, w], &[]);
    file.output(sum, "sum", DType::F32, &fixed(&[lines, length]));
    file.output(w, "itself", DType::F32, &fixed(&[lines, length]));
    file
}

/// The outputs of a session that has as little memory as it can do with, or all that there is.
fn outputs(file: &File, threads: usize, little: bool, inputs: &[Tensor]) -> Vec<Vec<u8>> {
    let model = Arc::new(file.load().unwrap());
    let mut memory_limit = if little { 0 } else { u64::MAX };
    loop {
        let options = Options { threads, memory_limit, ..Options::default() };
        let mut session = Session::new(model.clone(), options).unwrap();
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        match session.run(&views) {
            Err(Error::Memory { needed, .. }) => memory_limit = needed as u64,
            outputs => return outputs.unwrap().iter().map(raw).collect(),
        }
    }
}

/// A product and a look-up read the codes: there is no room for the numbers.
#[test]
fn readers_of_codes_make_no_numbers_of_them() {
    let (depth, columns) = (300, 200);
    for transpose in [false, true] {
        let of = Weights {
            bits: 4,
            depth,
            columns,
            transpose,
            group: depth,
            by_group: [1, 1],
            tables: 0,
            codes: (0..depth * columns).map(|index| (index % 13) as u8).collect(),
            numbers: vec![0.5],
        };
        let mut file = File::new();
        let w = of.write(&mut file, true);
        let x = file.input("x", DType::F32, &fixed(&[2, depth]));
        let axis = i64::from(transpose);
        let product = file.node("dot_general", &[x, w], &dot(&[1], &[axis], &[], &[]));
        let indices = file.tensor("indices", &i32s(&[3, 1], &[0, 5, 7]));
        let fill = file.tensor("fill", &f32s(&[], &[0.0]));
        let length = of.shape()[1];
        let lines = file.node("gather", &[w, indices, fill], &lookup(1, "clip", length));
        file.output(product, "y", DType::F32, &fixed(&[2, columns]));
        file.output(lines, "lines", DType::F32, &fixed(&[3, length]));
        let options = Options { threads: 1, memory_limit: 64 << 10, ..Options::default() };
        let mut session = Session::new(Arc::new(file.load().unwrap()), options).unwrap();
        session.run(&[f32s(&[2, depth], &numbers(2 * depth)).view()]).unwrap();
    }
}

/// Regions that need the numbers one after the other, where there is no room to keep all of them.
#[test]
fn regions_read_numbers_of_codes_in_little_memory() {
    let (depth, columns) = (64, 64);
    let of = Weights {
        bits: 4,
        depth,
        columns,
        transpose: false,
        group: depth,
        by_group: [1, 1],
        tables: 0,
        codes: (0..depth * columns).map(|index| (index % 13) as u8).collect(),
        numbers: vec![0.5],
    };
    let mut file = File::new();
    let which = file.input("which", DType::I32, &[]);
    for name in ["first", "second", "third"] {
        let w = of.write(&mut file, true);
        let nodes = vec![node("reduce_max", &[0], &[1], &[("axes", ints(&[0, 1]))])];
        let (captures, inputs, outputs) = (vec![w], 0, vec![1]);
        let region = Region { captures, inputs, nodes, outputs };
        let region = Attr { value: Some(attr::Value::Region(region)) };
        let largest = file.node("cond", &[which], &[("branch_000", region)]);
        file.output(largest, name, DType::F32, &[]);
    }
    let largest = of.values().view().data::<f32>().unwrap().iter().copied().fold(0.0, f32::max);
    // Room for the numbers of one of them, and of all.
    for memory_limit in [20 << 10, 1 << 20] {
        let options = Options { threads: 1, memory_limit, ..Options::default() };
        let mut session = Session::new(Arc::new(file.load().unwrap()), options).unwrap();
        for output in session.run(&[i32s(&[], &[0]).view()]).unwrap() {
            assert_eq!(output.data::<f32>().unwrap(), [largest], "{memory_limit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn products_of_codes_are_those_of_numbers(
        of in weights(),
        rows in prop_oneof![1usize..9, 9usize..40],
        threads in 1usize..3,
    ) {
        let input = |extent: usize| f32s(&[rows, extent], &numbers(rows * extent));
        let inputs = [input(of.depth), input(of.columns)];
        let [got, want] =
            [true, false].map(|coded| outputs(&products(&of, coded), threads, false, &inputs));
        prop_assert_eq!(got, want);
    }

    #[test]
    fn codes_are_numbers_to_all_others(of in weights(), little in any::<bool>()) {
        let indices: Vec<i32> = [0, 3, -1, 1000, 1].to_vec();
        let inputs = [i32s(&[5, 1], &indices)];
        // Numbers that there is no room to keep are made in each run.
        let [got, want] =
            [true, false].map(|coded| outputs(&others(&of, coded), 1, little, &inputs));
        prop_assert_eq!(got, want);
    }
}
