//! Attention and its gradient against the ops that they are made of, head by head.

use lumina_kernels::{Attr, Serial, ThreadPool};

use crate::support::{
    Attributes, FORWARD, GRADIENT, NOISE, QUIET, Tensor, attrs, bits_of, numbers, run, with,
};

const ATTENTION: &str = "optical_attention";
const ATTENTION_GRADIENT: &str = "optical_attention_grad";
const BATCH: usize = 2;
const HEADS: usize = 2;
/// Queries, depth, keys and width: one block and less, several, sums side by side, and no depth.
const SIZES: [[usize; 4]; 5] =
    [[1, 1, 1, 1], [5, 7, 9, 3], [70, 16, 300, 33], [150, 5, 40, 260], [3, 0, 4, 2]];
const RANGES: [f32; 6] = [0.9, 0.8, 0.7, 0.9, 1.5, 0.5];
const SEED: u64 = 0xFFFF_FFFF_0000_0007;
const SEED_STEP: u64 = 0xD134_2543_DE82_EF95;
const SCALE: f32 = 1.5;

/// A call: attributes, and operands from q to rows.
struct Call {
    size: [usize; 4],
    attrs: Attributes,
    inputs: Vec<Tensor>,
    bits: [i64; 2],
    noise: [f32; 4],
}

fn words(seed: u64) -> Tensor {
    Tensor::U32(vec![1, 2], vec![(seed >> 32) as u32, seed as u32])
}

impl Call {
    fn new(size: [usize; 4], bits: [i64; 2], noise: [f32; 4]) -> Self {
        let [queries, depth, keys, width] = size;
        let tensor = |rows: usize, width: usize, salt: u64| {
            let shape = vec![BATCH, rows, HEADS, width];
            Tensor::F32(shape, numbers(BATCH * rows * HEADS * width, salt))
        };
        let seen: Vec<i32> = (0..BATCH * HEADS * queries)
            .map(|row| (row * 29 + 3) as i32 % (keys as i32 + 3) - 1)
            .collect();
        let mut inputs = vec![
            tensor(queries, depth, 1),
            tensor(keys, depth, 2),
            tensor(keys, width, 3),
            Tensor::I32(vec![BATCH, HEADS, queries], seen),
            Tensor::F32(vec![1], vec![SCALE]),
        ];
        inputs.extend(RANGES.map(|range| Tensor::F32(vec![1, 1], vec![range])));
        inputs.push(Tensor::F32(vec![1, 1, 2, 4], [noise, noise].concat()));
        inputs.push(words(SEED));
        let rows = (0..BATCH * HEADS).map(|head| (head * queries) as u32).collect();
        inputs.push(Tensor::U32(vec![BATCH, HEADS], rows));
        let attrs = vec![
            ("dac_bits", Attr::Int(bits[0])),
            ("adc_bits", Attr::Int(bits[1])),
            ("noisy", Attr::Bool(noise != QUIET)),
            ("with_peaks", Attr::Bool(false)),
            ("with_ranges", Attr::Bool(true)),
        ];
        Self { size, attrs, inputs, bits, noise }
    }

    /// What an operand holds for a head, a row after the other.
    fn of_head(tensor: &Tensor, [example, head]: [usize; 2]) -> Vec<f32> {
        let [_, rows, _, width] = *tensor.shape() else { panic!("not by head") };
        let row = |row: usize| ((example * rows + row) * HEADS + head) * width;
        (0..rows).flat_map(|at| tensor.f32()[row(at)..row(at) + width].to_vec()).collect()
    }

    /// How many keys the queries of a head see.
    fn seen(&self, [example, head]: [usize; 2]) -> Vec<i32> {
        let Tensor::I32(_, seen) = &self.inputs[3] else { panic!("not i32") };
        let queries = self.size[0];
        let given = &seen[(example * HEADS + head) * queries..][..queries];
        given.iter().map(|count| (*count).clamp(0, self.size[2] as i32)).collect()
    }

    /// Attributes and operands of one of the two products of a head, but for the bias.
    fn product(
        &self,
        [example, head]: [usize; 2],
        index: usize,
        x: Tensor,
        w: Tensor,
    ) -> (Attributes, Vec<Tensor>) {
        let [dac, adc] = self.bits;
        let attrs = attrs([dac, dac, adc], index == 0, self.noise != QUIET, "pre_noise");
        let [queries, _, keys, width] = self.size;
        let columns = if index == 0 { keys } else { width };
        let [x_range, w_range, y_range] = [[0, 1, 4], [2, 3, 5]][index].map(|at| RANGES[at]);
        let first = (example * HEADS + head) * queries;
        let one = |value: f32| Tensor::F32(vec![1], vec![value]);
        let operands = vec![
            x,
            w,
            one(x_range),
            one(w_range),
            one(y_range),
            Tensor::F32(vec![1, 4], self.noise.to_vec()),
            words(SEED.wrapping_add(SEED_STEP.wrapping_mul(index as u64))),
            Tensor::U32(vec![queries], (first as u32..).take(queries).collect()),
            Tensor::U32(vec![columns], (0..columns as u32).collect()),
        ];
        (attrs, operands)
    }

    /// Output and y of one of the products.
    fn chain(attrs: &Attributes, operands: &[Tensor]) -> [Tensor; 2] {
        let mut inputs = operands.to_vec();
        inputs.insert(2, Tensor::F32(vec![1], vec![0.0]));
        run(FORWARD, attrs, &inputs, &Serial).unwrap().try_into().unwrap()
    }

    /// Outputs, and for `g` the gradients of q, k, v, scale, the ranges and the noise of a head.
    fn by_other_ops(&self, place: [usize; 2], g: &Tensor) -> (Vec<f32>, Vec<Vec<f32>>) {
        let [queries, depth, keys, width] = self.size;
        let of = |index: usize, rows: usize, width: usize| {
            Tensor::F32(vec![rows, width], Self::of_head(&self.inputs[index], place))
        };
        let seen = self.seen(place);
        let (attrs, of_scores) = self.product(place, 0, of(0, queries, depth), of(1, keys, depth));
        let [scores, y_of_scores] = Self::chain(&attrs, &of_scores);
        let sees = Tensor::I32(vec![queries], seen.clone());
        let scale = Tensor::F32(vec![1], vec![SCALE]);
        let inputs = [scores.clone(), sees.clone(), scale];
        let p = run("causal_softmax", &[], &inputs, &Serial).unwrap().remove(0);
        let (attrs_of_out, of_out) = self.product(place, 1, p.clone(), of(2, keys, width));
        let [mut out, y] = Self::chain(&attrs_of_out, &of_out);
        let mut upstream = Self::of_head(g, place);
        // Nor is there noise where nothing is seen.
        if let Tensor::F32(_, out) = &mut out {
            for (row, seen) in seen.iter().enumerate().filter(|(_, seen)| **seen == 0) {
                assert_eq!(*seen, 0);
                out[row * width..][..width].fill(0.0);
                upstream[row * width..][..width].fill(0.0);
            }
        }
        let g = Tensor::F32(vec![queries, width], upstream);
        let inputs = [&[g, y][..], &of_out].concat();
        let back_of_out = run(GRADIENT, &attrs_of_out, &inputs, &Serial).unwrap();
        let one = Tensor::F32(vec![1], vec![1.0]);
        let inputs = [back_of_out[0].clone(), p, sees, one];
        let ds = run("causal_softmax_grad", &[], &inputs, &Serial).unwrap().remove(0);
        let by_scale: f32 = ds.f32().iter().zip(scores.f32()).map(|(ds, s)| ds * s).sum();
        let scaled: Vec<f32> = ds.f32().iter().map(|ds| SCALE * ds).collect();
        let inputs =
            [&[Tensor::F32(vec![queries, keys], scaled), y_of_scores][..], &of_scores].concat();
        let back = run(GRADIENT, &attrs, &inputs, &Serial).unwrap();
        let sum = |tensor: &Tensor| vec![tensor.f32().iter().sum::<f32>()];
        let noise = |back: &[Tensor]| -> Vec<f32> {
            (0..4).map(|at| back[6].f32().iter().skip(at).step_by(4).sum()).collect()
        };
        let mut gradients =
            vec![back[0].f32().to_vec(), back[1].f32().to_vec(), back_of_out[1].f32().to_vec()];
        gradients.push(vec![by_scale]);
        for (of_product, at) in [(0, 3), (0, 4), (1, 3), (1, 4), (0, 5), (1, 5)] {
            gradients.push(sum(&[&back, &back_of_out][of_product][at]));
        }
        gradients.push([noise(&back), noise(&back_of_out)].concat());
        (out.f32().to_vec(), gradients)
    }
}

const CHAINS: [([i64; 2], [f32; 4]); 5] =
    [([0, 0], QUIET), ([0, 0], NOISE), ([8, 8], QUIET), ([5, 6], NOISE), ([12, 0], QUIET)];

#[test]
fn attention_is_made_of_the_other_ops_on_any_number_of_threads() {
    for size in SIZES {
        for (bits, noise) in CHAINS {
            let call = Call::new(size, bits, noise);
            let label = format!("{size:?} {bits:?} {noise:?}");
            let [queries, _, _, width] = size;
            let count = BATCH * queries * HEADS * width;
            let g = Tensor::F32(vec![BATCH, queries, HEADS, width], numbers(count, 9));
            let out = run(ATTENTION, &call.attrs, &call.inputs, &Serial).unwrap();
            let inputs = [&[g.clone()][..], &call.inputs].concat();
            let back = run(ATTENTION_GRADIENT, &call.attrs, &inputs, &Serial).unwrap();
            for index in 0..BATCH * HEADS {
                let place = [index / HEADS, index % HEADS];
                let (want, gradients) = call.by_other_ops(place, &g);
                // Every query has the bits that it has among all others.
                let got = Call::of_head(&out[0], place);
                assert!(got.iter().zip(&want).all(|(a, b)| a == b), "{label}");
                for (at, (got, want)) in back.iter().zip(&gradients).enumerate() {
                    let got = match at {
                        0..3 => Call::of_head(got, place),
                        _ => got.f32()[index * want.len()..][..want.len()].to_vec(),
                    };
                    // Sums of up to 45,000 terms in another order, some of which cancel.
                    let largest = want.iter().fold(1.0f32, |most, v| most.max(v.abs()));
                    for (got, want) in got.iter().zip(want) {
                        assert!((got - want).abs() <= 4e-5 * largest, "{label} {at} {got} {want}");
                    }
                }
            }
            for threads in [2, 7] {
                let pool = ThreadPool::new(threads).unwrap();
                let again = run(ATTENTION, &call.attrs, &call.inputs, &pool).unwrap();
                assert_eq!(bits_of(&again), bits_of(&out), "{label} {threads}");
                let again = run(ATTENTION_GRADIENT, &call.attrs, &inputs, &pool).unwrap();
                assert_eq!(bits_of(&again), bits_of(&back), "{label} {threads}");
            }
        }
    }
}

/// Many queries, whose gradients are several sums.
#[test]
fn sums_of_many_queries_do_not_depend_on_threads_nor_on_other_heads() {
    let call = Call::new([1100, 3, 20, 2], [0, 0], QUIET);
    let shape = vec![BATCH, 1100, HEADS, 2];
    let g = Tensor::F32(shape, numbers(BATCH * 1100 * HEADS * 2, 9));
    let inputs = [&[g.clone()][..], &call.inputs].concat();
    let back = run(ATTENTION_GRADIENT, &call.attrs, &inputs, &Serial).unwrap();
    let pool = ThreadPool::new(3).unwrap();
    let again = run(ATTENTION_GRADIENT, &call.attrs, &inputs, &pool).unwrap();
    assert_eq!(bits_of(&again), bits_of(&back));
    let first = |tensor: &Tensor| match tensor {
        Tensor::F32(shape, data) if shape.first() == Some(&BATCH) => {
            let shape = [&[1], &shape[1..]].concat();
            Tensor::F32(shape, data[..data.len() / BATCH].to_vec())
        }
        Tensor::I32(shape, data) => {
            let shape = [&[1], &shape[1..]].concat();
            Tensor::I32(shape, data[..data.len() / BATCH].to_vec())
        }
        Tensor::U32(shape, data) if shape.first() == Some(&BATCH) => {
            let shape = [&[1], &shape[1..]].concat();
            Tensor::U32(shape, data[..data.len() / BATCH].to_vec())
        }
        other => other.clone(),
    };
    let inputs: Vec<Tensor> = inputs.iter().map(first).collect();
    let alone = run(ATTENTION_GRADIENT, &call.attrs, &inputs, &Serial).unwrap();
    let expected: Vec<Tensor> = back.iter().map(first).collect();
    assert_eq!(bits_of(&alone), bits_of(&expected));
}

#[test]
fn other_operands_are_refused() {
    let call = Call::new([2, 3, 4, 5], [8, 8], NOISE);
    let changed = |index: usize, tensor: Tensor| {
        let mut inputs = call.inputs.clone();
        inputs[index] = tensor;
        inputs
    };
    let zeros = |shape: &[usize]| Tensor::F32(shape.to_vec(), vec![0.0; shape.iter().product()]);
    let attrs = &call.attrs;
    let one_bit = with(call.attrs.clone(), &[("dac_bits", Attr::Int(1))]);
    let cases = [
        (attrs, call.inputs[..9].to_vec(), "expected 14 operands, got 9"),
        (attrs, call.inputs[..2].to_vec(), "expected 14 operands, got 2"),
        (attrs, changed(0, zeros(&[2, 3])), "`q` must be f32[m,t,h,d], got f32[2,3]"),
        (attrs, changed(1, zeros(&[2, 4, 2, 4])), "`k` must be f32[2,4,2,3], got f32[2,4,2,4]"),
        (attrs, changed(2, zeros(&[2, 3, 2, 5])), "`v` must be f32[2,4,2,5], got f32[2,3,2,5]"),
        (attrs, changed(3, zeros(&[2, 2, 2])), "`seen` must be i32[1|2,1|2,2], got f32[2,2,2]"),
        (attrs, changed(7, zeros(&[0, 1])), "`p_full_scale` must be f32[1|2,1|2], got f32[0,1]"),
        (
            attrs,
            changed(13, Tensor::U32(vec![1, 1], vec![0])),
            "`rows` must be u32[2,2], got u32[1,1]",
        ),
        (
            &one_bit,
            call.inputs.clone(),
            "`dac_bits` must not be 1, which has no level for a probability of 0",
        ),
    ];
    for (attrs, inputs, text) in cases {
        let error = run(ATTENTION, attrs, &inputs, &Serial).unwrap_err().to_string();
        assert_eq!(error, format!("{ATTENTION}: {text}"));
    }
    let inputs = [&[zeros(&[2, 2, 2, 4])][..], &call.inputs].concat();
    let error = run(ATTENTION_GRADIENT, attrs, &inputs, &Serial).unwrap_err().to_string();
    let text = "`g` must be f32[2,2,2,5], got f32[2,2,2,4]";
    assert_eq!(error, format!("{ATTENTION_GRADIENT}: {text}"));
}
