//! What is made of codes, against loops over their definition.

use proptest::prelude::*;

use super::{ByGroup, Coded, Codes, Levels, coded_matmul, planes, rows_of_words};
use crate::gemm::{Columns, Matrix, matmul};
use crate::{Data, Serial, ThreadPool, View};

/// Numbers that look random and are always the same.
fn random(count: usize, salt: u64) -> impl Iterator<Item = u32> {
    (0..count as u64).map(move |index| {
        let mut z = (index + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z >> 32) as u32
    })
}

fn floats(count: usize, salt: u64) -> Vec<f32> {
    random(count, salt).map(|word| word as f32 / (1u64 << 31) as f32 - 1.0).collect()
}

/// Which operands of `dequantize` one row or column stands for, and what the levels are.
#[derive(Clone, Copy, Debug)]
struct Kind {
    group: usize,
    by_column: [bool; 2],
    by_row: [bool; 2],
    /// Columns of the table; 0 where there is none.
    tables: usize,
    whole_zero_points: bool,
    /// Numbers that are not finite among the scales, zero points and levels.
    hostile: bool,
}

fn kinds() -> impl Strategy<Value = Kind> {
    let flags = (any::<[bool; 2]>(), any::<[bool; 2]>(), any::<bool>(), prop::bool::weighted(0.1));
    let group = prop_oneof![1..70usize, Just(32usize), Just(64usize), Just(1usize << 40)];
    (group, 0..3usize, flags).prop_map(
        |(group, tables, (by_column, by_row, whole_zero_points, hostile))| Kind {
            group,
            by_column,
            by_row,
            tables,
            whole_zero_points,
            hostile,
        },
    )
}

/// Operands of `dequantize`, of a matrix of random codes.
#[derive(Clone, Debug)]
struct Sample {
    bits: usize,
    depth: usize,
    columns: usize,
    group: usize,
    words: Vec<u32>,
    scale: ([usize; 2], Vec<f32>),
    zero_point: ([usize; 2], Vec<f32>),
    table: Option<([usize; 2], Vec<f32>)>,
}

impl Sample {
    fn new(bits: usize, [depth, columns]: [usize; 2], kind: Kind) -> Self {
        let groups = depth.div_ceil(kind.group).max(1);
        let extents = |of: usize| {
            [
                if kind.by_row[of] { groups } else { 1 },
                if kind.by_column[of] { columns.max(1) } else { 1 },
            ]
        };
        let matrix = |shape: [usize; 2], salt: u64| {
            let mut values = floats(shape[0] * shape[1], salt);
            if kind.hostile {
                let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 1e-42, 3e38];
                for (index, value) in values.iter_mut().enumerate().step_by(3) {
                    *value = bad[index / 3 % bad.len()];
                }
            }
            (shape, values)
        };
        let mut zero_point = matrix(extents(1), 2);
        if kind.whole_zero_points {
            let most = ((1 << bits) - 1) as f32;
            zero_point.1.iter_mut().for_each(|z| *z = ((*z + 1.0) / 2.0 * most).round());
        }
        let tables = [0, 1, columns.max(1)][kind.tables];
        Self {
            bits,
            depth,
            columns,
            group: kind.group,
            // What is behind the last row may be anything in a hostile file.
            words: random(rows_of_words(bits, depth) * columns, 3).collect(),
            scale: matrix(extents(0), 4),
            zero_point,
            table: (tables > 0).then(|| matrix([tables, 1 << bits], 5)),
        }
    }

    fn coded(&self) -> Coded<'_> {
        fn of((shape, data): &([usize; 2], Vec<f32>)) -> ByGroup<'_> {
            ByGroup::of(&View::new(shape, Data::F32(data)).unwrap()).unwrap()
        }
        let Self { bits, depth, columns, group, .. } = *self;
        Coded {
            codes: Codes { words: &self.words, bits, depth, columns },
            levels: Levels {
                scale: of(&self.scale),
                zero_point: of(&self.zero_point),
                table: self.table.as_ref().map(of),
                group,
            },
        }
    }

    /// The code of an element, bit by bit.
    fn code(&self, row: usize, column: usize) -> usize {
        let mut code = 0;
        for plane in planes(self.bits, self.depth) {
            let per_word = 32 / plane.width;
            let word = self.words[(plane.first + row / per_word) * self.columns + column];
            let value = row % per_word;
            let start = value % 4 * 8 + value / 4 * plane.width;
            code |= (word as usize >> start & ((1 << plane.width) - 1)) << plane.shift;
        }
        code
    }

    /// All numbers, as they are defined.
    fn numbers(&self) -> Vec<f32> {
        let at = |([rows, columns], data): &([usize; 2], Vec<f32>), row: usize, column: usize| {
            data[row.min(rows - 1) * columns + column.min(columns - 1)]
        };
        let mut numbers = Vec::new();
        for row in 0..self.depth {
            for column in 0..self.columns {
                let code = self.code(row, column);
                let level = match &self.table {
                    None => code as f32,
                    Some(([1, _], levels)) => levels[code],
                    Some((_, levels)) => levels[(column << self.bits) + code],
                };
                let group = row / self.group;
                let difference = level - at(&self.zero_point, group, column);
                numbers.push(difference * at(&self.scale, group, column));
            }
        }
        numbers
    }
}

/// Bits, of which those of all NaN are alike: payload and sign of one depend on the order of operands.
fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN } else { *v }.to_bits()).collect()
}

fn product(pool: &ThreadPool, sample: &Sample, [rows, from]: [usize; 2], add: bool) {
    let Sample { depth, columns, .. } = *sample;
    let range = from.min(depth)..depth;
    let numbers = &sample.numbers()[range.start * columns..];
    let a = floats(rows * range.len(), 6);
    let stride = columns + 3;
    let before = floats(rows * stride, 7);
    for strides in [[range.len(), 1], [1, rows]] {
        let a = Matrix { data: &a, strides };
        let mut want = before.clone();
        let c = Columns { data: &mut want, stride, first: 2 };
        let b = Matrix { data: numbers, strides: [columns, 1] };
        matmul(&Serial, c, [rows, range.len(), columns], a, b, add);
        let mut got = before.clone();
        let c = Columns { data: &mut got, stride, first: 2 };
        coded_matmul(&Serial, c, rows, a, &sample.coded(), range.clone(), add);
        assert_eq!(bits_of(&got), bits_of(&want), "{sample:?} {rows} {range:?}");
        let mut shared = before.clone();
        let c = Columns { data: &mut shared, stride, first: 2 };
        coded_matmul(pool, c, rows, a, &sample.coded(), range.clone(), add);
        assert_eq!(bits_of(&shared), bits_of(&want), "{sample:?} {rows} {range:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn rows_and_columns_are_those_of_the_definition(
        bits in 1..9usize,
        extents in [0..70usize, 0..300usize],
        kind in kinds(),
    ) {
        let sample = Sample::new(bits, extents, kind);
        let [depth, columns] = extents;
        let (coded, want) = (sample.coded(), bits_of(&sample.numbers()));
        let (first, last) = (columns / 3, columns - columns / 7);
        for row in 0..depth {
            let mut got = vec![0.0; last - first];
            coded.write_row(row, first..last, &mut got);
            prop_assert_eq!(bits_of(&got), &want[row * columns + first..row * columns + last]);
        }
        for column in first..last {
            let mut got = vec![0.0; depth - depth / 5];
            coded.write_column(column, depth / 5..depth, &mut got);
            let want: Vec<u32> =
                (depth / 5..depth).map(|row| want[row * columns + column]).collect();
            prop_assert_eq!(bits_of(&got), want);
        }
    }

    #[test]
    fn products_have_the_bits_of_those_of_the_numbers(
        bits in prop_oneof![1..9usize, prop::sample::select(vec![1usize, 2, 4, 8])],
        extents in [0..300usize, 0..600usize],
        rows in prop_oneof![0..9usize, 8..30usize],
        from in prop_oneof![Just(0usize), 0..70usize],
        kind in kinds(),
        add: bool,
    ) {
        let pool = ThreadPool::new(3).unwrap();
        product(&pool, &Sample::new(bits, extents, kind), [rows, from], add);
    }
}

#[test]
fn products_of_few_rows_have_them_whatever_registers_hold() {
    let pool = ThreadPool::new(2).unwrap();
    for bits in 1..9 {
        for (tables, by_column) in [(0, false), (0, true), (1, false), (1, true)] {
            for (group, whole_zero_points) in [(32, true), (1 << 40, false)] {
                let kind = Kind {
                    group,
                    by_column: [true, by_column],
                    by_row: [true; 2],
                    tables,
                    whole_zero_points,
                    hostile: false,
                };
                let sample = Sample::new(bits, [70, 150], kind);
                for rows in [1, 3, 6] {
                    product(&pool, &sample, [rows, 0], rows == 3);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "the lhs is too short")]
fn a_short_lhs_is_refused() {
    let kind = Kind {
        group: 4,
        by_column: [false; 2],
        by_row: [false; 2],
        tables: 0,
        whole_zero_points: true,
        hostile: false,
    };
    let a = Matrix { data: &[1.0; 5], strides: [3, 1] };
    let c = Columns { data: &mut [0.0; 4], stride: 2, first: 0 };
    coded_matmul(&Serial, c, 2, a, &Sample::new(4, [3, 2], kind).coded(), 0..3, false);
}
