//! The kernels as nodes of a graph.

use lumina_kernels::{OPS, RayonPool, ViewMut};
use lumina_runtime::{DType, Fact, Tensor, View};

use crate::build::*;

const ROWS: usize = 5;
const DEPTH: usize = 7;
const COLUMNS: usize = 6;

fn wave(shape: &[usize], step: f32) -> Tensor {
    let count: usize = shape.iter().product();
    f32s(shape, &(0..count).map(|n| (n as f32 * step).sin()).collect::<Vec<_>>())
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
    let pool = RayonPool::new(1).unwrap();
    pool.install(|| kernel.run(&views, &mut [out], &pool)).unwrap();

    let attrs = [
        ("dac_bits", int(8)),
        ("weight_bits", int(8)),
        ("adc_bits", int(8)),
        ("transpose_weight", flag(false)),
        ("noisy", flag(true)),
    ];
    let operands: Vec<&Tensor> = operands.iter().collect();
    check("optical_matmul", &attrs, &operands, &f32s(&shape, &expected));
}

#[test]
fn a_kernel_says_which_attribute_is_wrong() {
    let facts: Vec<Fact> = operands().iter().map(|operand| operand.view().fact()).collect();
    let attrs = [
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
