//! The kernels as nodes of a graph.

use std::sync::Arc;

use lumina_kernels::{OPS, ThreadPool, ViewMut};
use lumina_runtime::{DType, Fact, Options, Session, Tensor, View};

use crate::build::*;
use crate::proto::Attr;

const ROWS: usize = 5;
const DEPTH: usize = 7;
const COLUMNS: usize = 6;

fn wave(shape: &[usize], step: f32) -> Tensor {
    let count: usize = shape.iter().product();
    f32s(shape, &(0..count).map(|n| (n as f32 * step).sin()).collect::<Vec<_>>())
}

fn eight_bits<'a>(noisy: bool) -> [(&'a str, Attr); 6] {
    [
        ("array_rows", int(0)),
        ("dac_bits", int(8)),
        ("weight_bits", int(8)),
        ("adc_bits", int(8)),
        ("transpose_weight", flag(false)),
        ("noisy", flag(noisy)),
    ]
}

fn operands() -> Vec<Tensor> {
    vec![
        wave(&[ROWS, DEPTH], 0.7),
        wave(&[DEPTH, COLUMNS], 0.3),
        wave(&[COLUMNS], 0.1),
        f32s(&[1], &[1.0]),
        f32s(&[1], &[1.0]),
        f32s(&[1], &[4.0]),
        f32s(&[1, 4], &[0.01, 0.0, 0.1, 0.0]),
        u32s(&[1, 2], &[0, 7]),
        u32s(&[ROWS], &[0, 1, 2, 3, 4]),
        u32s(&[COLUMNS], &[0, 1, 2, 3, 4, 5]),
    ]
}

/// What the kernel computes without a file around it.
struct Constants;

impl lumina_kernels::Attrs for Constants {
    fn get(&self, name: &str) -> Option<lumina_kernels::Attr<'_>> {
        use lumina_kernels::Attr;
        Some(match name {
            "array_rows" => Attr::Int(0),
            "dac_bits" | "weight_bits" | "adc_bits" => Attr::Int(8),
            "noisy" => Attr::Bool(true),
            "transpose_weight" => Attr::Bool(false),
            _ => return None,
        })
    }
}

#[test]
fn a_node_is_the_kernel_bit_for_bit() {
    let operands = operands();
    let entry = OPS.iter().find(|entry| entry.name == "optical_matmul").unwrap();
    let kernel = (entry.make)(&Constants).unwrap();
    let views: Vec<View<'_>> = operands.iter().map(Tensor::view).collect();
    let mut expected = vec![0f32; ROWS * COLUMNS];
    let shape = [ROWS, COLUMNS];
    let out = ViewMut::new(&shape, lumina_kernels::DataMut::F32(&mut expected)).unwrap();
    let pool = ThreadPool::new(1).unwrap();
    kernel.run(&views, &mut [out], &pool).unwrap();

    let attrs = eight_bits(true);
    let operands: Vec<&Tensor> = operands.iter().collect();
    check("optical_matmul", &attrs, &operands, &f32s(&shape, &expected));
}

/// The packed weights of a deployed layer count as its buffers do.
#[test]
fn packed_weights_count() {
    let attrs = eight_bits(true);
    let mut file = File::new();
    let operands = operands();
    let mut ids = vec![file.input("x", DType::F32, &fixed(&[ROWS, DEPTH]))];
    ids.extend(operands[1..].iter().enumerate().map(|(n, x)| file.tensor(&n.to_string(), x)));
    let y = file.node("optical_matmul", &ids, &attrs);
    file.output(y, "y", DType::F32, &fixed(&[ROWS, COLUMNS]));
    let model = Arc::new(file.load().unwrap());
    let run = |memory_limit| {
        let options = Options { threads: 1, memory_limit, ..Options::default() };
        let mut session = Session::new(Arc::clone(&model), options).unwrap();
        session.run(&[operands[0].view()]).map(|outputs| raw(&outputs[0]))
    };
    let output = 4 * (ROWS * COLUMNS) as u64;
    let refused = run(output).unwrap_err().to_string();
    let needed: u64 = refused.split(' ').nth(4).unwrap().parse().unwrap();
    // At least a byte for each code, and the step and the sum of each column.
    assert!(needed >= output + (DEPTH * COLUMNS + 8 * COLUMNS) as u64, "{refused}");
    assert_eq!(
        run(needed - 1).unwrap_err().to_string(),
        format!("these input shapes need {needed} bytes of buffers, the limit is {}", needed - 1)
    );
    let views: Vec<&Tensor> = operands.iter().collect();
    let shape = Fact::new(DType::F32, [ROWS, COLUMNS]);
    let expected = lumina_run(&attrs, &views, &shape);
    assert_eq!(run(needed).unwrap(), expected);
}

/// The bytes that the op gives without constants.
fn lumina_run(attrs: Attrs<'_>, operands: &[&Tensor], result: &Fact) -> Vec<u8> {
    raw(&run("optical_matmul", attrs, operands, std::slice::from_ref(result))[0].view())
}

/// Weights without depth have any number of columns and no bytes.
#[test]
fn nothing_is_prepared_where_nothing_is_computed() {
    let columns = 1 << 40;
    let attrs = eight_bits(false);
    let mut file = File::new();
    let mut ids = vec![file.input("x", DType::F32, &fixed(&[0, 0]))];
    let one = |value: f32| f32s(&[1], &[value]);
    let w = Tensor::from_bytes(Fact::new(DType::F32, [0, columns]), &[]).unwrap();
    let noise = f32s(&[1, 4], &[0.0; 4]);
    let (seed, index) = (u32s(&[1, 2], &[0, 7]), u32s(&[1], &[0]));
    let constants =
        [w, one(0.0), one(1.0), one(1.0), one(4.0), noise, seed, index, u32s(&[1], &[0])];
    ids.extend(constants.iter().enumerate().map(|(n, x)| file.tensor(&n.to_string(), x)));
    let y = file.node("optical_matmul", &ids, &attrs);
    file.output(y, "y", DType::F32, &fixed(&[0, columns]));
    let mut session = session(&file, 1);
    let x = Tensor::from_bytes(Fact::new(DType::F32, [0, 0]), &[]).unwrap();
    assert_eq!(session.run(&[x.view()]).unwrap()[0].shape(), [0, columns]);
}

#[test]
fn a_kernel_says_which_attribute_is_wrong() {
    let facts: Vec<Fact> = operands().iter().map(|operand| operand.view().fact()).collect();
    let attrs = [
        ("array_rows", int(0)),
        ("dac_bits", text("8")),
        ("weight_bits", int(8)),
        ("adc_bits", int(8)),
        ("transpose_weight", flag(false)),
        ("noisy", flag(true)),
    ];
    let text = refusal("optical_matmul", &attrs, &facts);
    assert_eq!(
        text,
        "node 0 (`optical_matmul`): optical_matmul: attribute `dac_bits` must be an integer, got \
         Str(\"8\")"
    );
    let seed = Fact::new(DType::U32, [2]);
    assert!(refusal("optical_noise", &[], &[seed]).starts_with("node 0 (`optical_noise`): "));
}

#[test]
fn op_names_are_unique() {
    let mut names: Vec<&str> = lumina_runtime::op_names().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(names.contains(&"optical_matmul") && names.contains(&"dot_general"));
}
