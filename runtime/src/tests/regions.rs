//! Regions are decoded, checked, inferred, planned and run.

use std::sync::Arc;

use super::build::*;
use super::prepared::float;
use super::proto::{Attr, Region, attr};
use crate::{DType, Fact, Options, Session, verify};

fn region(region: Region) -> Attr {
    Attr { value: Some(attr::Value::Region(region)) }
}

/// x · w + b in the values 0 (w), 1 (b) and 2 (x).
fn affine() -> Region {
    let contracted = dot(&[1], &[1], &[], &[]);
    let turned = [("permutation", ints(&[1, 0]))];
    let wide = [("shape", ints(&[2, 2])), ("broadcast_dimensions", ints(&[1]))];
    Region {
        captures: vec![1, 3],
        inputs: 1,
        nodes: vec![
            node("transpose", &[0], &[3], &turned),
            node("dot_general", &[2, 3], &[4], &contracted),
            node("broadcast_in_dim", &[1], &[5], &wide),
            node("add", &[4, 5], &[6], &[]),
        ],
        outputs: vec![6],
    }
}

/// y = affine(affine(...affine(x))), where b is computed outside of the loop.
fn file(trips: i64, body: Region) -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2, 2]));
    let w = file.tensor("w", &f32s(&[2, 2], &[0.0, 1.0, -1.0, 0.5]));
    let b = file.tensor("b", &f32s(&[2], &[1.0, 2.0]));
    let negated = file.node("neg", &[b], &[]);
    assert_eq!((x, w, negated), (0, 1, 3));
    let attrs = [("trips", int(trips)), ("body", region(body))];
    let y = file.node("repeat", &[x], &attrs);
    let again = file.node("neg", &[y], &[]);
    file.output(y, "y", DType::F32, &fixed(&[2, 2]));
    file.output(again, "again", DType::F32, &fixed(&[2, 2]));
    file
}

fn affine_by_hand(x: &[f32], trips: i64) -> Vec<f32> {
    let [w, b] = [&[0.0f32, 1.0, -1.0, 0.5][..], &[-1.0, -2.0]];
    (0..trips).fold(x.to_vec(), |x, _| {
        let element = |index: usize| {
            let (row, column) = (index / 2, index % 2);
            x[2 * row] * w[column] + x[2 * row + 1] * w[2 + column] + b[column]
        };
        (0..4).map(element).collect()
    })
}

fn refusal(change: impl FnOnce(&mut Region)) -> String {
    let mut body = affine();
    change(&mut body);
    file(3, body).refusal()
}

#[test]
fn a_loop_runs_its_body() {
    let x = [0.5f32, -1.0, 2.0, 0.25];
    for trips in [0, 1, 2, 7] {
        let mut session = session(&file(trips, affine()), 1);
        let input = f32s(&[2, 2], &x);
        let outputs = session.run(&[input.view()]).unwrap();
        let expected = affine_by_hand(&x, trips);
        assert_eq!(outputs[0].data::<f32>().unwrap(), expected);
        let negated: Vec<f32> = expected.iter().map(|x| -x).collect();
        assert_eq!(outputs[1].data::<f32>().unwrap(), negated);
    }
}

/// A region that repeats another one, which captures what the first captured.
#[test]
fn regions_nest() {
    let mut inner = affine();
    inner.captures = vec![0, 1];
    let attrs = [("trips", int(2)), ("body", region(inner))];
    let outer = Region {
        captures: vec![1, 3],
        inputs: 1,
        nodes: vec![node("repeat", &[2], &[3], &attrs)],
        outputs: vec![3],
    };
    let x = [0.5f32, -1.0, 2.0, 0.25];
    let mut file = file(3, outer);
    let expected = affine_by_hand(&x, 6);
    let negated: Vec<f32> = expected.iter().map(|x| -x).collect();
    let [x, y, z] = [&x[..], &expected, &negated].map(|data| f32s(&[2, 2], data));
    file.test(&[&x], &[&y, &z]);
    let model = Arc::new(file.load().unwrap());
    assert!(verify(&model, Options::default()).unwrap().iter().all(|c| c.max_abs_diff == 0.0));
    let text = model.describe();
    assert!(text.contains("body(%2) captures (%1, %3)"), "{text}");
    assert!(text.contains("        %3 = transpose(%0)"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&model.to_json()).unwrap();
    let body = &json["nodes"][1]["attrs"]["body"];
    assert_eq!(body["nodes"][0]["attrs"]["body"]["outputs"], serde_json::json!([6]));
}

/// Two ops that differ by an attribute alone, on one constant.
#[test]
fn ops_of_one_region_are_prepared_apart() {
    let factor = |value| [("factor", float(value))];
    let body = Region {
        captures: vec![1],
        inputs: 1,
        nodes: vec![
            node("add_row", &[1, 0], &[2], &factor(1.0)),
            node("add_row", &[2, 0], &[3], &factor(10.0)),
        ],
        outputs: vec![3],
    };
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1, 2]));
    file.tensor("row", &f32s(&[2], &[1.0, 2.0]));
    let y = file.node("repeat", &[x], &[("trips", int(3)), ("body", region(body))]);
    file.output(y, "y", DType::F32, &fixed(&[1, 2]));
    let mut session = session(&file, 1);
    let x = f32s(&[1, 2], &[0.0, 0.5]);
    assert_eq!(session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap(), [33.0, 66.5]);
}

/// Regions of one node have captures and buffers of their own, and one that is refused is named.
#[test]
fn one_of_two_regions_runs() {
    let sum = |id, result| node("reduce_sum", &[id], &[result], &[("axes", ints(&[0]))]);
    // sum(exp(x) + w) and sum(x) - b, of buffers that differ in size and number.
    let yes = Region {
        captures: vec![2],
        inputs: 1,
        nodes: vec![node("exp", &[1], &[2], &[]), node("add", &[2, 0], &[3], &[]), sum(3, 4)],
        outputs: vec![4],
    };
    let no = Region {
        captures: vec![4],
        inputs: 1,
        nodes: vec![sum(1, 2), node("sub", &[2, 0], &[3], &[])],
        outputs: vec![3],
    };
    let file = |no: Region| {
        let mut file = File::new();
        let which = file.input("which", DType::I32, &[]);
        let x = file.input("x", DType::F32, &fixed(&[100]));
        file.tensor("w", &f32s(&[100], &[2.0; 100]));
        let b = file.tensor("b", &f32s(&[], &[3.0]));
        file.node("neg", &[b], &[]);
        let attrs = [("no", region(no)), ("yes", region(yes.clone()))];
        let y = file.node("choose", &[which, x], &attrs);
        file.output(y, "y", DType::F32, &[]);
        file
    };
    let mut session = session(&file(no.clone()), 1);
    let x = f32s(&[100], &[0.0; 100]);
    for (which, expected) in [(1, 300.0), (0, 3.0), (2, 300.0)] {
        let which = i32s(&[], &[which]);
        let outputs = session.run(&[which.view(), x.view()]).unwrap();
        assert_eq!(outputs[0].data::<f32>().unwrap(), [expected]);
    }
    let wrong = Region { outputs: vec![9], ..no };
    assert_eq!(
        file(wrong).refusal(),
        "node 1 (`choose`), region `no`: interface: value 9 is an output, but the region has 4 \
         values"
    );
}

#[test]
fn a_result_may_be_an_input_a_capture_or_twice_the_same() {
    let body = Region { captures: vec![2, 0], inputs: 2, nodes: vec![], outputs: vec![1, 1] };
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let y = file.input("y", DType::F32, &fixed(&[2]));
    file.node("neg", &[y], &[]);
    let attrs = [("trips", int(3)), ("body", region(body))];
    let results = file.node_of("repeat", &[y, x], 2, &attrs);
    for (name, id) in ["a", "b"].into_iter().zip(results) {
        file.output(id, name, DType::F32, &fixed(&[2]));
    }
    let mut session = session(&file, 1);
    let inputs = [f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[3.0, 4.0])];
    let outputs = session.run(&[inputs[0].view(), inputs[1].view()]).unwrap();
    for output in outputs {
        assert_eq!(output.data::<f32>().unwrap(), [1.0, 2.0]);
    }
}

/// A view of a constant that a region captures, and turns once more for a reader that takes no strides.
#[test]
fn a_view_of_a_constant_can_be_captured() {
    let turned = [("permutation", ints(&[1, 0]))];
    let rows = [("dimensions", ints(&[0]))];
    let sums = [("axis", int(1)), ("reverse", flag(false))];
    let body = Region {
        captures: vec![2],
        inputs: 1,
        nodes: vec![
            node("rev", &[0], &[2], &rows),
            node("cumsum", &[2], &[3], &sums),
            node("cumsum", &[0], &[4], &sums),
            node("add", &[3, 4], &[5], &[]),
            node("add", &[1, 5], &[6], &[]),
        ],
        outputs: vec![6],
    };
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2, 2]));
    let w = file.tensor("w", &f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    file.node("transpose", &[w], &turned);
    let attrs = [("trips", int(2)), ("body", region(body))];
    let y = file.node("repeat", &[x], &attrs);
    file.output(y, "y", DType::F32, &fixed(&[2, 2]));
    let mut session = session(&file, 1);
    let x = f32s(&[2, 2], &[0.0, 0.0, 0.0, 100.0]);
    for _ in 0..2 {
        let outputs = session.run(&[x.view()]).unwrap();
        // Twice the sums along the rows of [[2, 4], [1, 3]] and of [[1, 3], [2, 4]].
        assert_eq!(outputs[0].data::<f32>().unwrap(), [6.0, 20.0, 6.0, 120.0]);
    }
}

/// What a region needs counts, and it is freed when the loop is over.
#[test]
fn buffers_of_a_region_are_planned() {
    let body = Region {
        captures: vec![],
        inputs: 1,
        nodes: vec![
            node("exp", &[0], &[1], &[]),
            node("sin", &[0], &[2], &[]),
            node("add", &[1, 2], &[3], &[]),
        ],
        outputs: vec![3],
    };
    let attrs = [("trips", int(2)), ("body", region(body))];
    let fact = [Fact::new(DType::F32, [1000])];
    let file = one_node("repeat", &attrs, &fact, &fact);
    let run = |memory_limit| {
        let options = Options { threads: 1, memory_limit, ..Options::default() };
        let mut session = Session::new(Arc::new(file.load().unwrap()), options).unwrap();
        let x = f32s(&[1000], &[0.0; 1000]);
        session.run(&[x.view()]).map(|outputs| outputs[0].data::<f32>().unwrap()[0])
    };
    // The carry twice, exp, which the sum is written over, and sin.
    assert_eq!(run(16000).unwrap(), 1.0f32.exp() + 1.0f32.sin());
    assert_eq!(
        run(15999).unwrap_err().to_string(),
        "these input shapes need 16000 bytes of buffers, the limit is 15999"
    );
}

#[test]
fn a_wrong_region_is_refused() {
    let place = "node 1 (`repeat`), region `body`: ";
    let inside = |text: &str| format!("{place}{text}");
    assert_eq!(
        refusal(|body| body.captures[0] = 9),
        "node 1 (`repeat`): region `body` reads value 9, but the graph has 6 values"
    );
    // Its own result, and one of a later node.
    for id in [4, 5] {
        assert_eq!(
            refusal(|body| body.captures[1] = id),
            format!(
                "node 1 (`repeat`): region `body` reads value {id}, which is not defined before it"
            )
        );
    }
    assert_eq!(
        refusal(|body| body.nodes[0].inputs = vec![6]),
        inside("node 0 (`transpose`): reads value 6, which is not defined before it")
    );
    assert_eq!(
        refusal(|body| body.nodes[0].inputs = vec![7]),
        inside("node 0 (`transpose`): reads value 7, but the region has 7 values")
    );
    assert_eq!(
        refusal(|body| body.nodes[3].outputs = vec![2]),
        inside("node 3 (`add`): defines value 2, which is defined already")
    );
    assert_eq!(
        refusal(|body| body.outputs = vec![7]),
        inside("interface: value 7 is an output, but the region has 7 values")
    );
    assert_eq!(refusal(|body| body.nodes[0].op = "warp".into()), "unknown ops: `warp`");
    assert_eq!(
        refusal(|body| {
            body.nodes[0].attrs.clear();
        }),
        inside(
            "node 0 (`transpose`): transpose: attribute `permutation` is missing, expected a list \
             of integers"
        )
    );
    assert_eq!(
        refusal(|body| {
            body.nodes[0].attrs.insert("a".into(), Attr::default());
        }),
        inside("node 0 (`transpose`): attribute `a` has no value")
    );
}

#[test]
fn what_does_not_fit_the_op_is_refused() {
    let place = "node 1 (`repeat`), region `body`: ";
    assert_eq!(
        refusal(|body| body.inputs = u32::MAX),
        format!("{place}interface: at most 2 inputs, one more than the node has, got 4294967295")
    );
    assert_eq!(
        refusal(|body| {
            *body = Region { captures: vec![], inputs: 2, nodes: vec![], outputs: vec![0] };
        }),
        format!("{place}interface: the op gives it 1 inputs, it has 2")
    );
    assert_eq!(
        refusal(|body| body.outputs = vec![6, 6]),
        "node 1 (`repeat`): repeat: region `body` must give (f32[2,2]), got (f32[2,2], f32[2,2])"
    );
    assert_eq!(
        refusal(|body| body.outputs = vec![1]),
        "node 1 (`repeat`): repeat: region `body` must give (f32[2,2]), got (f32[2])"
    );
    assert_eq!(
        refusal(|body| body.nodes[3].inputs = vec![4, 1]),
        format!(
            "{place}node 3 (`add`): add: operands must have equal shapes or rank 0, got f32[2,2] \
             and f32[2]"
        )
    );
    let fact = [Fact::new(DType::F32, [2])];
    let of = |attrs: Attrs<'_>| one_node("repeat", attrs, &fact, &fact).refusal();
    assert_eq!(
        of(&[("trips", int(1))]),
        "node 0 (`repeat`): attribute `body` is missing, expected a region"
    );
    let empty = || region(Region { captures: vec![], inputs: 1, nodes: vec![], outputs: vec![0] });
    assert_eq!(
        of(&[("trips", int(1)), ("body", empty()), ("cond", empty())]),
        "node 0 (`repeat`): unknown attributes: `cond`"
    );
    assert_eq!(
        of(&[("trips", empty()), ("body", empty())]),
        "node 0 (`repeat`): repeat: attribute `trips` is missing, expected an integer"
    );
    assert_eq!(
        one_node("neg", &[("body", empty())], &fact, &fact).refusal(),
        "node 0 (`neg`): unknown attributes: `body`"
    );
}

#[test]
fn deep_regions_are_refused_before_they_are_decoded() {
    let nested = |depth: usize| {
        let mut body = Region { captures: vec![], inputs: 1, nodes: vec![], outputs: vec![0] };
        for _ in 1..depth {
            let attrs = [("trips", int(1)), ("body", region(body))];
            let nodes = vec![node("repeat", &[0], &[1], &attrs)];
            body = Region { captures: vec![], inputs: 1, nodes, outputs: vec![1] };
        }
        let attrs = [("trips", int(1)), ("body", region(body))];
        let fact = [Fact::new(DType::F32, [2])];
        one_node("repeat", &attrs, &fact, &fact)
    };
    let x = f32s(&[2], &[1.0, 2.0]);
    let mut deepest = session(&nested(8), 1);
    assert_eq!(deepest.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap(), [1.0, 2.0]);
    for depth in [9, 1000] {
        assert_eq!(
            nested(depth).refusal(),
            "section GRAPH cannot be decoded: regions are nested more than 8 deep"
        );
    }
}

/// Flipped bits of a graph with regions: an error or a model that runs, never a panic.
#[test]
fn mutants_do_no_harm() {
    let mut inner = affine();
    inner.captures = vec![0, 1];
    let attrs = [("trips", int(2)), ("body", region(inner))];
    let outer = Region {
        captures: vec![1, 3],
        inputs: 1,
        nodes: vec![node("repeat", &[2], &[3], &attrs)],
        outputs: vec![3],
    };
    let file = file(3, outer).bytes();
    let options = Options { threads: 1, memory_limit: 1 << 16, ..Options::default() };
    let x = f32s(&[2, 2], &[0.5, -1.0, 2.0, 0.25]);
    for bit in 0..file.len() * 8 {
        let mut mutant = file.clone();
        mutant[bit / 8] ^= 1 << (bit % 8);
        fix_checksums(&mut mutant);
        if let Ok(model) = crate::Model::from_bytes(&mutant)
            && let Ok(mut session) = Session::new(Arc::new(model), options)
        {
            // An error is fine: the shapes may be what was changed.
            let _ = session.run(&[x.view()]);
        }
    }
}

/// A file may ask for more trips than anybody waits for.
#[test]
fn trips_of_a_run_are_bounded() {
    let options = Options { threads: 1, trip_limit: 5, ..Options::default() };
    let run = |trips| {
        let model = Arc::new(file(trips, affine()).load().unwrap());
        let mut session = Session::new(model, options).unwrap();
        let input = f32s(&[2, 2], &[0.0; 4]);
        session.run(&[input.view()]).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(run(5), Ok(()));
    let text = "the loops of this run make more than 5 trips together, the limit";
    assert_eq!(run(6), Err(text.to_string()));
}
