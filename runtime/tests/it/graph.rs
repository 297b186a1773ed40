//! Faults of the graph, each on its own in an otherwise right file.

use crate::proto::{Crosstalk, Quantization, Role, Wdm};
use lumina_runtime::{DType, Fact};

use crate::build::*;

/// y = x[batch,2] + w, twice.
fn right() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let x = file.input("x", DType::F32, &[batch.clone(), fixed(&[2])[0].clone()]);
    let w = file.tensor("w", &f32s(&[2], &[1.0, 2.0]));
    let dims = [batch, fixed(&[2])[0].clone()];
    let attrs = [("shape", shape(&dims)), ("broadcast_dimensions", ints(&[1]))];
    let wide = file.node("broadcast_in_dim", &[w], &attrs);
    let y = file.node("add", &[x, wide], &[]);
    file.output(y, "y", DType::F32, &dims);
    file.test(&[&f32s(&[1, 2], &[1.0, 1.0])], &[&f32s(&[1, 2], &[2.0, 3.0])]);
    file
}

fn after(change: impl FnOnce(&mut File)) -> String {
    let mut file = right();
    change(&mut file);
    file.refusal()
}

#[test]
fn the_right_file_loads() {
    right().load().unwrap();
}

#[test]
fn op_set() {
    assert_eq!(after(|f| f.graph.opset = 0), "`opset`: must be from 1 to 6, got 0");
    assert_eq!(after(|f| f.graph.opset = 7), "`opset`: must be from 1 to 6, got 7");
}

#[test]
fn symbols() {
    assert_eq!(
        after(|f| f.graph.symbols.push("batch".into())),
        "`symbols`: `batch` is empty or appears twice"
    );
    assert_eq!(
        after(|f| f.graph.symbols.push(String::new())),
        "`symbols`: `` is empty or appears twice"
    );
    assert_eq!(
        after(|f| f.graph.symbols = (0..65).map(|n| n.to_string()).collect()),
        "`symbols`: at most 64, got 65"
    );
    assert_eq!(
        after(|f| f.graph.symbols.push("k".into())),
        "`symbols`: no input shape determines `k`"
    );
    assert_eq!(
        after(|f| f.graph.inputs[0].shape[0] = dim(&[(1, &[(0, 2)])])),
        "`symbols`: no input shape determines `batch`"
    );
}

#[test]
fn inputs_and_outputs() {
    assert_eq!(
        after(|f| {
            let copy = f.graph.inputs[0].clone();
            f.graph.inputs.push(copy);
        }),
        "input `x`: the name appears twice"
    );
    assert_eq!(after(|f| f.graph.inputs[0].dtype = 0), "input `x`: unknown dtype 0");
    assert_eq!(after(|f| f.graph.outputs[0].dtype = 99), "output `y`: unknown dtype 99");
    assert_eq!(after(|f| f.graph.outputs[0].role = 9), "output `y`: unknown role 9");
    assert_eq!(
        after(|f| f.graph.inputs[0].shape = fixed(&[1; 9])),
        "input `x`: rank 9 is above the limit of 8"
    );
    assert_eq!(
        after(|f| f.graph.inputs[0].shape[0] = dim(&[(1, &[(3, 1)])])),
        "input `x`: symbol 3 in a shape is not one of the 1"
    );
    assert_eq!(
        after(|f| f.graph.inputs[0].shape[0] = dim(&[(1, &[(0, 9)])])),
        "input `x`: a power in a shape must be from 1 to 8, got 9"
    );
    assert_eq!(
        after(|f| f.graph.inputs[0].shape[1] = dim(&[(-2, &[])])),
        "input `x`: -2 is no extent"
    );
    assert_eq!(
        after(|f| f.graph.inputs[0].shape = fixed(&[1 << 40, 1 << 40])),
        "input `x`: a tensor of f32[1099511627776,1099511627776] is too large"
    );
    assert_eq!(
        after(|f| f.graph.outputs[0].id = 9),
        "output `y`: is value 9, but the graph has 4 values"
    );
    assert_eq!(
        after(|f| f.graph.outputs[0].shape[1] = dim(&[(3, &[])])),
        "output `y`: the file says f32[batch,3], but its nodes compute f32[1,2]"
    );
    assert_eq!(
        after(|f| {
            f.graph.outputs[0].dtype = dtype_number(DType::I32);
            f.graph.tests[0].outputs[0].dtype = dtype_number(DType::I32);
        }),
        "output `y`: the file says i32[batch,2], but its nodes compute f32[1,2]"
    );
}

#[test]
fn noise_seeds() {
    let seed = Role::NoiseSeed as i32;
    assert_eq!(
        after(|f| f.graph.inputs[0].role = seed),
        "input `x`: a noise seed must be u32[2], got f32[batch,2]"
    );
    assert_eq!(
        after(|f| f.graph.outputs[0].role = seed),
        "output `y`: only an input can be a noise seed"
    );
    assert_eq!(
        after(|f| {
            for name in ["a", "b"] {
                f.input(name, DType::U32, &fixed(&[2]));
                f.graph.inputs.last_mut().unwrap().role = seed;
            }
        }),
        "input `b`: a second noise seed beside `a`"
    );
}

#[test]
fn tensors() {
    assert_eq!(after(|f| f.graph.tensors[0].dtype = 99), "tensor 1 `w`: unknown dtype 99");
    assert_eq!(
        after(|f| f.graph.tensors[0].offset = 4),
        "tensor 1 `w`: `offset` must be a multiple of 64, got 4"
    );
    assert_eq!(
        after(|f| f.graph.tensors[0].offset = 64),
        "tensor 1 `w`: f32[2] at offset 64 reaches beyond section WEIGHTS of 8 bytes"
    );
    assert_eq!(
        after(|f| f.graph.tensors[0].offset = u64::MAX - 63),
        format!(
            "tensor 1 `w`: f32[2] at offset {} reaches beyond section WEIGHTS of 8 bytes",
            u64::MAX - 63
        )
    );
    assert_eq!(
        after(|f| f.graph.tensors[0].shape = vec![1 << 62, 4]),
        "tensor 1 `w`: a tensor of f32[4611686018427387904,4] is too large"
    );
    assert_eq!(
        after(|f| {
            f.graph.tensors[0].dtype = dtype_number(DType::Bool);
            f.weights[1] = 2;
        }),
        "tensor 1 `w`: a truth value must be 0 or 1"
    );
}

#[test]
fn quantization() {
    let wrong = |quantization: Quantization| {
        after(|f| f.graph.tensors[0].quantization = Some(quantization))
    };
    let whole = Quantization { bits: 8, axis: Some(0), scales: vec![1.0; 2], ..Default::default() };
    let mut file = right();
    file.graph.tensors[0].quantization = Some(whole.clone());
    file.load().unwrap();
    assert_eq!(
        wrong(Quantization { bits: 33, ..whole.clone() }),
        "tensor 1 `w`: quantization: `bits` must be from 1 to 32, got 33"
    );
    assert_eq!(
        wrong(Quantization { axis: Some(1), ..whole.clone() }),
        "tensor 1 `w`: quantization: `axis` 1 is not an axis of f32[2]"
    );
    assert_eq!(
        wrong(Quantization { axis: None, ..whole.clone() }),
        "tensor 1 `w`: quantization: expected 1 `scales`, got 2"
    );
    assert_eq!(
        wrong(Quantization { zero_points: vec![0.0], ..whole.clone() }),
        "tensor 1 `w`: quantization: expected 0 or 2 `zero_points`, got 1"
    );
    assert_eq!(
        wrong(Quantization { lut_offset: Some(0), lut_length: 4, ..whole.clone() }),
        "tensor 1 `w`: quantization: f32[4] at offset 0 reaches beyond section LUTS of 0 bytes"
    );
    file.luts = vec![0; 16];
    file.graph.tensors[0].quantization =
        Some(Quantization { lut_offset: Some(0), lut_length: 4, ..whole });
    file.load().unwrap();
}

#[test]
fn ids() {
    assert_eq!(
        after(|f| f.graph.tensors[0].id = 0),
        "tensor 0 `w`: defines value 0, which is defined already"
    );
    assert_eq!(
        after(|f| f.graph.nodes[1].outputs = vec![4]),
        "node 1 (`add`): defines value 4, but the graph has 4 values"
    );
    assert_eq!(
        after(|f| {
            f.graph.nodes[0].inputs = vec![3];
            f.graph.nodes[0].source = "model.py:12".into();
        }),
        "node 0 (`broadcast_in_dim`, model.py:12): reads value 3, which is not defined before it"
    );
    assert_eq!(
        after(|f| f.graph.nodes[1].inputs[1] = 3),
        "node 1 (`add`): reads value 3, which is not defined before it"
    );
    assert_eq!(
        after(|f| f.graph.nodes[1].inputs[1] = 77),
        "node 1 (`add`): reads value 77, but the graph has 4 values"
    );
}

#[test]
fn unknown_ops_are_all_named() {
    assert_eq!(
        after(|f| {
            f.graph.nodes[0].op = "warp".into();
            f.graph.nodes[1].op = "conv".into();
        }),
        "unknown ops: `conv`, `warp`"
    );
}

#[test]
fn attributes() {
    assert_eq!(
        after(|f| {
            f.graph.nodes[1].attrs.insert("b".into(), int(1));
            f.graph.nodes[1].attrs.insert("a".into(), int(1));
        }),
        "node 1 (`add`): unknown attributes: `a`, `b`"
    );
    assert_eq!(
        after(|f| {
            f.graph.nodes[1].attrs.insert("a".into(), Default::default());
        }),
        "node 1 (`add`): attribute `a` has no value"
    );
    assert_eq!(
        after(|f| {
            f.graph.nodes[0].attrs.remove("shape");
        }),
        "node 0 (`broadcast_in_dim`): broadcast_in_dim: attribute `shape` is missing, expected a \
         list of integers"
    );
    assert_eq!(
        after(|f| {
            f.graph.nodes[0].attrs.insert("shape".into(), shape(&[dim(&[(1, &[(5, 1)])])]));
        }),
        "node 0 (`broadcast_in_dim`): attribute `shape`: symbol 5 in a shape is not one of the 1"
    );
    assert_eq!(
        after(|f| {
            let minus = dim(&[(1, &[(0, 1)]), (-5, &[])]);
            f.graph.nodes[0].attrs.insert("shape".into(), shape(&[minus]));
        }),
        "node 0 (`broadcast_in_dim`): attribute `shape` is [batch + -5], which is no shape for \
         these inputs"
    );
}

#[test]
fn shapes_that_do_not_fit() {
    assert_eq!(
        after(|f| f.graph.nodes[1].inputs[1] = 1),
        "node 1 (`add`): add: operands must have equal shapes or rank 0, got f32[1,2] and f32[2]"
    );
    assert_eq!(
        after(|f| {
            f.graph.nodes[0].outputs.push(4);
        }),
        "node 0 (`broadcast_in_dim`): the op has 1 outputs, the node 2"
    );
    let huge = [("shape", ints(&[1 << 40, 1 << 40])), ("broadcast_dimensions", ints(&[]))];
    assert_eq!(
        refusal("broadcast_in_dim", &huge, &[Fact::new(DType::F32, [])]),
        "node 0 (`broadcast_in_dim`): a tensor of f32[1099511627776,1099511627776] is too large"
    );
    let deep = [("shape", ints(&[1; 9])), ("broadcast_dimensions", ints(&[]))];
    assert_eq!(
        refusal("broadcast_in_dim", &deep, &[Fact::new(DType::F32, [])]),
        "node 0 (`broadcast_in_dim`): rank 9 is above the limit of 8"
    );
}

#[test]
fn test_vectors() {
    let change =
        |change: fn(&mut crate::proto::TestVector)| after(|f| change(&mut f.graph.tests[0]));
    assert_eq!(change(|test| test.inputs.clear()), "test vector 0: expected 1 inputs, got 0");
    assert_eq!(change(|test| test.outputs.clear()), "test vector 0: expected 1 outputs, got 0");
    assert_eq!(
        change(|test| test.inputs[0].dtype = dtype_number(DType::I32)),
        "test vector 0, input `x`: expected f32[batch,2], got i32"
    );
    assert_eq!(
        change(|test| test.inputs[0].offset = 1 << 20),
        "test vector 0, input `x`: f32[1,2] at offset 1048576 reaches beyond section META of 72 \
         bytes"
    );
    assert_eq!(
        change(|test| test.inputs[0].shape = vec![2]),
        "test vector 0: input `x` must be f32[batch,2], got f32[2]"
    );
    assert_eq!(
        change(|test| test.outputs[0].shape = vec![2, 1]),
        "test vector 0, output `y`: expected f32[1,2], got shape [2, 1]"
    );
    assert_eq!(
        change(|test| test.absolute_tolerance = f64::NAN),
        "test vector 0: `absolute_tolerance` must be finite and not negative, got NaN"
    );
    assert_eq!(
        change(|test| test.relative_tolerance = -1.0),
        "test vector 0: `relative_tolerance` must be finite and not negative, got -1"
    );
    assert_eq!(
        after(|f| {
            let test = f.graph.tests[0].clone();
            f.graph.tests = vec![test; 65];
        }),
        "`tests`: at most 64, got 65"
    );
}

#[test]
fn hardware() {
    let wdm = Wdm { wavelengths_nm: vec![1550.0], slot_of_stream: vec![1] };
    assert_eq!(
        after(|f| f.graph.wdm = Some(wdm.clone())),
        "wdm: `slot_of_stream` 1 is not one of 1 wavelengths"
    );
    assert_eq!(
        after(|f| f.graph.wdm = Some(Wdm { wavelengths_nm: vec![-1.0], ..wdm })),
        "wdm: a wavelength must be positive, got -1 nm"
    );
    assert_eq!(
        after(|f| {
            let wavelengths_nm = vec![1550.0, 1551.0, 1550.0];
            f.graph.wdm = Some(Wdm { wavelengths_nm, slot_of_stream: vec![] });
        }),
        "wdm: two slots have the wavelength 1550 nm"
    );
    assert_eq!(
        after(|f| {
            let wavelengths_nm = vec![1.0; 65537];
            f.graph.wdm = Some(Wdm { wavelengths_nm, slot_of_stream: vec![] });
        }),
        "wdm: at most 65536 wavelengths, got 65537"
    );
    let crosstalk = Crosstalk { size: 1 << 31, compensation: "none".into(), ..Default::default() };
    assert_eq!(
        after(|f| f.graph.crosstalk = Some(crosstalk.clone())),
        "crosstalk: `matrix` must have 2147483648 x 2147483648 elements, got 0"
    );
    assert_eq!(
        after(|f| {
            let compensation = "magic".into();
            f.graph.crosstalk = Some(Crosstalk { size: 0, compensation, ..crosstalk });
        }),
        "crosstalk: `compensation` must be one of none, fold, readout, wiener, feedback, got `magic`"
    );
}
