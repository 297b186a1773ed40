//! Array tiles: a call whose arrays have a limited number of inputs is its tiles, each a call of its
//! own with its own seed, added up.

use lumina_kernels::{Attr, Serial, ThreadPool};

use crate::support::{
    Attributes, DBIAS, DEPLOYED, DW, DX, FORWARD, GRADIENT, NOISE, PRECISIONS, QUIET, Tensor,
    attrs, bits_of, grad_operands, operands, precise, run, run_prepared, with, with_peak,
};

const BITS: [[i64; 3]; 5] = [[0, 0, 0], [8, 8, 8], [5, 6, 0], [0, 7, 6], [12, 0, 9]];
/// Sizes, and inputs of an array: fewer than a word holds, whole words, with a rest, and one more
/// than there are.
const CASES: [([usize; 3], usize); 7] = [
    ([0, 9, 5], 4),
    ([3, 0, 4], 4),
    ([1, 17, 300], 1),
    ([5, 63, 31], 16),
    ([70, 30, 257], 11),
    ([300, 40, 9], 20),
    ([3, 12, 20], 13),
];

/// Inputs `range` of an operand in which they lie along `axis`.
fn part(tensor: &Tensor, axis: usize, range: &std::ops::Range<usize>) -> Tensor {
    let &[rows, columns] = tensor.shape() else { panic!("no matrix") };
    let data = tensor.f32();
    if axis == 0 {
        let data = data[range.start * columns..range.end * columns].to_vec();
        return Tensor::F32(vec![range.len(), columns], data);
    }
    let data = (0..rows).flat_map(|row| data[row * columns..][range.clone()].to_vec()).collect();
    Tensor::F32(vec![rows, range.len()], data)
}

/// The operands of tile `tile` on its own, whose x and w these are in `operands`.
fn of_tile(
    operands: &[Tensor],
    [x, w]: [usize; 2],
    transposed: bool,
    tile: usize,
    rows: usize,
) -> Vec<Tensor> {
    let depth = operands[x].shape()[1];
    let range = tile * rows..depth.min((tile + 1) * rows);
    let mut inputs = operands.to_vec();
    inputs[x] = part(&operands[x], 1, &range);
    inputs[w] = part(&operands[w], usize::from(transposed), &range);
    let seed = (3u64 << 32 | 17).wrapping_add(0xD134_2543_DE82_EF95u64.wrapping_mul(tile as u64));
    let index = inputs.len() - 3;
    inputs[index] = Tensor::U32(vec![1, 2], vec![(seed >> 32) as u32, seed as u32]);
    inputs
}

fn tiled(attrs: Attributes, rows: usize) -> Attributes {
    with(attrs, &[("array_rows", Attr::Int(rows as i64))])
}

fn count(depth: usize, rows: usize) -> usize {
    depth.div_ceil(rows).max(1)
}

fn add(sum: &mut [f32], part: &[f32]) {
    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
}

fn bits_of_floats(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Residual of tile `tile` in what the op saved.
fn saved_of_tile(saved: &Tensor, tile: usize) -> Tensor {
    let &[rows, tiles, columns] = saved.shape() else { panic!("not by tile") };
    let of = |row: usize| (row * tiles + tile) * columns..(row * tiles + tile + 1) * columns;
    match saved {
        Tensor::F32(_, data) => {
            let data = (0..rows).flat_map(|row| data[of(row)].to_vec()).collect();
            Tensor::F32(vec![rows, columns], data)
        }
        Tensor::I8(_, data) => {
            let data = (0..rows).flat_map(|row| data[of(row)].to_vec()).collect();
            Tensor::I8(vec![rows, columns], data)
        }
        _ => panic!("no residual"),
    }
}

#[test]
fn outputs_are_those_of_the_tiles_added_up() {
    for (size @ [_, depth, columns], rows) in CASES {
        for bits in BITS {
            for transposed in [false, true] {
                for noise in [QUIET, NOISE] {
                    for residual in ["pre_noise", "slope", "signs"] {
                        let label =
                            format!("{size:?} {rows} {bits:?} {transposed} {noise:?} {residual}");
                        let inputs = operands(size, transposed, noise);
                        let plain = with_peak(attrs(bits, transposed, noise != QUIET, residual));
                        let attrs = tiled(plain.clone(), rows);
                        let got = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
                        let mut out = vec![0.0; got[0].f32().len()];
                        let mut peak = vec![0.0f32; got[2].f32().len()];
                        for tile in 0..count(depth, rows) {
                            let mut inputs = of_tile(&inputs, [0, 1], transposed, tile, rows);
                            if tile > 0 {
                                inputs[2] = Tensor::F32(vec![columns], vec![0.0; columns]);
                            }
                            let one = run(FORWARD, &plain, &inputs, &Serial).unwrap();
                            if tile == 0 {
                                out = one[0].f32().to_vec();
                            } else {
                                add(&mut out, one[0].f32());
                            }
                            assert_eq!(
                                saved_of_tile(&got[1], tile).bits(),
                                one[1].bits(),
                                "{label}"
                            );
                            for (peak, of_tile) in peak.iter_mut().zip(one[2].f32()) {
                                *peak = peak.max(*of_tile);
                            }
                        }
                        assert_eq!(got[0].bits(), bits_of_floats(&out), "{label}");
                        assert_eq!(got[2].f32(), peak, "{label}");
                        for threads in [1, 3] {
                            let pool = ThreadPool::new(threads).unwrap();
                            let again = run(FORWARD, &attrs, &inputs, &pool).unwrap();
                            assert_eq!(bits_of(&again), bits_of(&got), "{label}");
                        }
                        let deployed = run(DEPLOYED, &attrs, &inputs, &Serial).unwrap();
                        assert_eq!(deployed[0].bits(), got[0].bits(), "{label}");
                        let prepared = run_prepared(DEPLOYED, &attrs, &inputs, &[1, 4], 1);
                        let prepared = prepared.unwrap_or(deployed);
                        assert_eq!(prepared[0].bits(), got[0].bits(), "{label}");
                    }
                }
            }
        }
    }
}

#[test]
fn ranges_that_are_found_are_those_of_all_inputs() {
    for transposed in [false, true] {
        let mut inputs = operands([9, 30, 40], transposed, QUIET);
        let attrs = tiled(attrs([6, 5, 8], transposed, false, "none"), 7);
        let attrs =
            with(attrs, &[("with_x_peak", Attr::Bool(true)), ("with_w_peak", Attr::Bool(true))]);
        for index in [3, 4] {
            inputs[index] = Tensor::F32(vec![0], vec![]);
        }
        let found = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
        let largest = found[1].f32().iter().fold(0.0f32, |largest, peak| largest.max(*peak));
        inputs[3] = Tensor::F32(vec![1], vec![largest]);
        inputs[4] = Tensor::F32(vec![40], found[2].f32().to_vec());
        let given = run(FORWARD, &attrs, &inputs, &Serial).unwrap();
        assert_eq!(bits_of(&given), bits_of(&found));
    }
}

#[test]
fn gradients_are_those_of_the_tiles() {
    for (size @ [rows_of_x, depth, columns], rows) in CASES {
        for bits in BITS {
            for transposed in [false, true] {
                for noise in [QUIET, NOISE] {
                    for precision in PRECISIONS {
                        let label =
                            format!("{size:?} {rows} {bits:?} {transposed} {noise:?} {precision}");
                        let forward = operands(size, transposed, noise);
                        let plain = precise(
                            attrs(bits, transposed, noise != QUIET, "pre_noise"),
                            precision,
                        );
                        let attrs = tiled(plain.clone(), rows);
                        let saved = run(FORWARD, &attrs, &forward, &Serial).unwrap().remove(1);
                        let mut inputs = grad_operands(&forward, saved.clone());
                        inputs[0] = Tensor::F32(
                            vec![rows_of_x, columns],
                            inputs[0].f32()[..rows_of_x * columns].to_vec(),
                        );
                        let got = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
                        let mut sums: Vec<Vec<f32>> = vec![];
                        for tile in 0..count(depth, rows) {
                            let mut of_tile = of_tile(&inputs, [2, 3], transposed, tile, rows);
                            of_tile[1] = saved_of_tile(&saved, tile);
                            let one = run(GRADIENT, &plain, &of_tile, &Serial).unwrap();
                            let range = tile * rows..depth.min((tile + 1) * rows);
                            assert_eq!(part(&got[DX], 1, &range).bits(), one[DX].bits(), "{label}");
                            let dw = part(&got[DW], usize::from(transposed), &range);
                            assert_eq!(dw.bits(), one[DW].bits(), "{label}");
                            if tile == 0 {
                                assert_eq!(got[DBIAS].bits(), one[DBIAS].bits(), "{label}");
                                sums = one[3..].iter().map(|sum| sum.f32().to_vec()).collect();
                            } else {
                                for (sum, one) in sums.iter_mut().zip(&one[3..]) {
                                    add(sum, one.f32());
                                }
                            }
                        }
                        for (sum, got) in sums.iter().zip(&got[3..]) {
                            assert_eq!(got.bits(), bits_of_floats(sum), "{label}");
                        }
                        let pool = ThreadPool::new(3).unwrap();
                        let again = run(GRADIENT, &attrs, &inputs, &pool).unwrap();
                        assert_eq!(bits_of(&again), bits_of(&got), "{label}");
                    }
                }
            }
        }
    }
}
