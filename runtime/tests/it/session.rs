//! Binding of shapes, buffers, limits and threads.

use std::sync::Arc;

use lumina_kernels::exp_of_any;
use lumina_runtime::{DType, Fact, Options, Session, Tensor, View};
use proptest::prelude::*;

use crate::build::*;
use crate::proto::Attr;

/// out = tanh(x · w + b), x f32[batch,3], w f32[3,4].
fn layer() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let dims = |columns: usize| [batch.clone(), fixed(&[columns])[0].clone()];
    let x = file.input("x", DType::F32, &dims(3));
    let numbers: Vec<f32> = (0..12).map(|n| n as f32 / 10.0 - 0.5).collect();
    let w = file.tensor("w", &f32s(&[3, 4], &numbers));
    let b = file.tensor("b", &f32s(&[4], &[0.1, -0.1, 0.2, 0.0]));
    let attrs = dot(&[1], &[0], &[], &[]);
    let product = file.node("dot_general", &[x, w], &attrs);
    let attrs = [("shape", shape(&dims(4))), ("broadcast_dimensions", ints(&[1]))];
    let wide = file.node("broadcast_in_dim", &[b], &attrs);
    let sum = file.node("add", &[product, wide], &[]);
    let y = file.node("tanh", &[sum], &[]);
    file.output(y, "y", DType::F32, &dims(4));
    file
}

fn rows(batch: usize) -> Tensor {
    let numbers: Vec<f32> = (0..batch * 3).map(|n| (n as f32).sin()).collect();
    f32s(&[batch, 3], &numbers)
}

#[test]
fn any_batch_size_runs() {
    let mut session = session(&layer(), 1);
    let all = rows(9);
    let whole = session.run(&[all.view()]).unwrap()[0].data::<f32>().unwrap().to_vec();
    // More batch sizes than plans are kept, some twice, one empty.
    for batch in [1, 9, 0, 4, 1, 5, 7, 2, 9] {
        let x = rows(batch);
        let y = session.run(&[x.view()]).unwrap();
        assert_eq!(y[0].shape(), [batch, 4]);
        assert_eq!(y[0].data::<f32>().unwrap(), &whole[..batch * 4]);
    }
}

#[test]
fn a_run_is_cancelled_once() {
    let mut session = session(&layer(), 1);
    let x = rows(2);
    let want = session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap().to_vec();
    let handle = session.cancel_handle();
    // From another thread, as there is no other use of it.
    std::thread::spawn(move || handle.cancel()).join().unwrap();
    let error = session.run(&[x.view()]).unwrap_err();
    assert_eq!(error.to_string(), "the run was cancelled");
    let got = session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap().to_vec();
    assert_eq!(got, want);
}

#[test]
fn a_session_knows_its_outputs_before_it_runs() {
    let mut session = session(&layer(), 1);
    assert!(session.output_facts().is_err());
    session.prepare(&[rows(3).view().fact()]).unwrap();
    let facts: Vec<_> = session.output_facts().unwrap().collect();
    assert_eq!(facts, [(DType::F32, &[3, 4][..])]);
}

#[test]
fn what_was_prepared_runs_on_inputs_of_its_facts_alone() {
    let mut session = session(&layer(), 1);
    let (x, other) = (rows(3), rows(2));
    assert!(session.run_prepared(&[x.view()]).is_err());
    session.prepare(&[x.view().fact()]).unwrap();
    let got = session.run_prepared(&[x.view()]).unwrap()[0].data::<f32>().unwrap().to_vec();
    assert_eq!(got, session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap());
    for inputs in [&[][..], &[other.view()], &[x.view(), x.view()]] {
        assert_eq!(
            session.run_prepared(inputs).unwrap_err().to_string(),
            "the inputs are not of the types and shapes that were prepared last"
        );
    }
}

#[test]
fn prepared_buffers_stay() {
    let mut session = session(&layer(), 1);
    let x = rows(50);
    session.prepare(&[x.view().fact()]).unwrap();
    let first = session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap().as_ptr();
    let second = session.run(&[x.view()]).unwrap()[0].data::<f32>().unwrap().as_ptr();
    assert_eq!(first, second);
    assert_eq!(first as usize % 64, 0);
}

#[test]
fn inputs_that_do_not_fit() {
    let mut session = session(&layer(), 1);
    let mut refusal = |inputs: &[&Tensor]| {
        let views: Vec<View<'_>> = inputs.iter().map(|tensor| tensor.view()).collect();
        session.run(&views).expect_err("the inputs are wrong").to_string()
    };
    let x = rows(2);
    assert_eq!(refusal(&[]), "expected 1 inputs (`x`), got 0");
    assert_eq!(refusal(&[&x, &x]), "expected 1 inputs (`x`), got 2");
    assert_eq!(refusal(&[&i32s(&[2, 3], &[0; 6])]), "input `x` must be f32[batch,3], got i32[2,3]");
    assert_eq!(refusal(&[&f32s(&[3], &[0.0; 3])]), "input `x` must be f32[batch,3], got f32[3]");
    assert_eq!(refusal(&[&f32s(&[2, 4], &[0.0; 8])]), "input `x`: axis 1 must be 3, got 4");
}

/// A graph whose only work is to bind: the inputs have these shapes, the output is `2*n*m`.
fn binder(shapes: &[&[crate::proto::Dim]]) -> File {
    let mut file = File::new();
    file.graph.symbols = vec!["n".into(), "m".into()];
    for (index, dims) in shapes.iter().enumerate() {
        file.input(&format!("x{index}"), DType::F32, dims);
    }
    let product = dim(&[(2, &[(0, 1), (1, 1)])]);
    let y = file.node("dim_as_value", &[], &[("dim", shape(&[product]))]);
    file.output(y, "y", DType::I32, &[]);
    file
}

#[test]
fn symbols_are_solved() {
    let n = dim(&[(1, &[(0, 1)])]);
    let odd = dim(&[(2, &[(1, 1)]), (1, &[])]);
    // n*m comes first and is of use only once both are known.
    let product = dim(&[(1, &[(0, 1), (1, 1)])]);
    let mut session = session(&binder(&[&[product, odd], &[n]]), 1);
    let mut bind = |a: usize, b: usize, c: usize| {
        let tensors = [f32s(&[a, b], &vec![0.0; a * b]), f32s(&[c], &vec![0.0; c])];
        let views: Vec<View<'_>> = tensors.iter().map(Tensor::view).collect();
        let result = session.run(&views).map(|y| y[0].data::<i32>().unwrap()[0]);
        result.map_err(|error| error.to_string())
    };
    assert_eq!(bind(6, 7, 2), Ok(12));
    assert_eq!(bind(0, 7, 0), Ok(0));
    assert_eq!(bind(6, 6, 2), Err("input `x0`: axis 1 must be 2*m + 1, got 6".into()));
    assert_eq!(
        bind(5, 7, 2),
        Err("input `x0`: axis 0 must be n*m = 6 as the other axes have it, got 5".into())
    );
}

#[test]
fn a_symbol_can_stay_open() {
    // With n = 0 the extent n*m says nothing about m.
    let n = dim(&[(1, &[(0, 1)])]);
    let product = dim(&[(1, &[(0, 1), (1, 1)])]);
    let mut session = session(&binder(&[&[n, product]]), 1);
    let x = f32s(&[0, 0], &[]);
    assert_eq!(
        session.run(&[x.view()]).unwrap_err().to_string(),
        "input `x0`: axis 1 must be n*m, which the other axes leave without a value, got 0"
    );
    let x = f32s(&[2, 6], &[0.0; 12]);
    assert_eq!(session.run(&[x.view()]).unwrap()[0].data::<i32>().unwrap(), [12]);
}

#[test]
fn memory_has_a_limit() {
    let attrs = [("shape", ints(&[1 << 20, 1 << 14])), ("broadcast_dimensions", ints(&[]))];
    let scalar = Fact::new(DType::F32, []);
    let file = one_node(
        "broadcast_in_dim",
        &attrs,
        &[scalar],
        &[Fact::new(DType::F32, [1 << 20, 1 << 14])],
    );
    let x = f32s(&[], &[1.0]);
    assert_eq!(
        session(&file, 1).run(&[x.view()]).unwrap_err().to_string(),
        "these input shapes need 68719476736 bytes of buffers, the limit is 4294967296"
    );
}

#[test]
fn buffers_of_several_plans_keep_to_the_limit() {
    let mut file = File::new();
    for (index, name) in ["n", "m"].into_iter().enumerate() {
        let extent = file.symbol(name);
        let x = file.input(&format!("x{index}"), DType::F32, std::slice::from_ref(&extent));
        let y = file.node("neg", &[x], &[]);
        file.output(y, &format!("y{index}"), DType::F32, &[extent]);
    }
    let options = Options { threads: 1, memory_limit: 4 * 100, ..Options::default() };
    let mut session = Session::new(Arc::new(file.load().unwrap()), options).unwrap();
    let mut run = |n: usize, m: usize| {
        let tensors = [f32s(&[n], &vec![1.0; n]), f32s(&[m], &vec![2.0; m])];
        let views: Vec<View<'_>> = tensors.iter().map(Tensor::view).collect();
        let outputs = session.run(&views).map_err(|error| error.to_string())?;
        assert_eq!(outputs[0].data::<f32>().unwrap(), vec![-1.0; n]);
        assert_eq!(outputs[1].data::<f32>().unwrap(), vec![-2.0; m]);
        Ok::<(), String>(())
    };
    for (n, m) in [(80, 20), (20, 80), (80, 20), (50, 50), (20, 80)] {
        assert_eq!(run(n, m), Ok(()));
    }
    let expected = "these input shapes need 404 bytes of buffers, the limit is 400";
    assert_eq!(run(80, 21), Err(expected.into()));
}

#[test]
fn outputs_may_be_inputs_weights_and_the_same_value() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2]));
    let w = file.tensor("w", &f32s(&[2], &[3.0, 4.0]));
    let y = file.node("neg", &[x], &[]);
    for (index, id) in [x, w, y, y].into_iter().enumerate() {
        file.output(id, &format!("out{index}"), DType::F32, &fixed(&[2]));
    }
    let mut session = session(&file, 1);
    let x = f32s(&[2], &[1.0, 2.0]);
    let outputs = session.run(&[x.view()]).unwrap();
    let outputs: Vec<_> = outputs.iter().map(|view| view.data::<f32>().unwrap()).collect();
    assert_eq!(outputs, [[1.0, 2.0], [3.0, 4.0], [-1.0, -2.0], [-1.0, -2.0]]);
}

#[test]
fn tensors_check_their_length() {
    assert_eq!(
        Tensor::new(&[2, 3], &[0f32; 5]).unwrap_err().to_string(),
        "a tensor of shape [2, 3] needs 6 elements, got 5"
    );
    let fact = Fact::new(DType::U32, [3]);
    assert_eq!(
        Tensor::from_bytes(fact, &[0; 8]).unwrap_err().to_string(),
        "a tensor of shape [3] needs 3 elements, got 2"
    );
    assert!(Tensor::new(&[usize::MAX, usize::MAX], &[0f32; 1]).is_err());
}

/// A random graph of elementwise nodes and views; all values, or only the last, are outputs.
fn random_graph(choices: &[(u8, [usize; 2])], all: bool) -> File {
    let mut file = File::new();
    let mut ids = vec![file.input("x", DType::F32, &fixed(&[33]))];
    for (op, reads) in choices {
        let [a, b] = reads.map(|read| ids[read % ids.len()]);
        let id = match op % 5 {
            0 => file.node("add", &[a, b], &[]),
            1 => file.node("sub", &[a, b], &[]),
            2 => file.node("tanh", &[a], &[]),
            3 => file.node("rev", &[a], &[("dimensions", ints(&[0]))]),
            _ => file.node("reshape", &[a], &[("new_sizes", ints(&[33]))]),
        };
        ids.push(id);
    }
    let kept = if all { &ids[..] } else { &ids[ids.len() - 1..] };
    for id in kept {
        file.output(*id, &format!("v{id}"), DType::F32, &fixed(&[33]));
    }
    file
}

proptest! {
    /// Where every value is an output, none can share a buffer: the plain way to run.
    #[test]
    fn shared_buffers_change_nothing(
        choices in proptest::collection::vec((any::<u8>(), any::<[usize; 2]>()), 1..40),
    ) {
        let numbers: Vec<f32> = (0..33).map(|n| (n as f32).cos()).collect();
        let x = f32s(&[33], &numbers);
        let (plain, shared) = (random_graph(&choices, true), random_graph(&choices, false));
        let (mut plain, mut shared) = (session(&plain, 1), session(&shared, 1));
        let expected = plain.run(&[x.view()]).unwrap();
        let got = shared.run(&[x.view()]).unwrap();
        same("shared", &got[0], expected.last().unwrap());
    }
}

/// The attributes of a view of a tensor of this shape, and the shape of the view.
fn view_of(choice: u8, shape: &[usize]) -> (&'static str, Vec<(&'static str, Attr)>, Vec<usize>) {
    let rank = shape.len();
    let ints = |values: &[usize]| ints(&values.iter().map(|&v| v as i64).collect::<Vec<_>>());
    match choice % 5 {
        0 => {
            let permutation: Vec<usize> = (0..rank).rev().collect();
            let result = shape.iter().rev().copied().collect();
            ("transpose", vec![("permutation", ints(&permutation))], result)
        }
        1 => ("rev", vec![("dimensions", ints(&[rank - 1]))], shape.to_vec()),
        2 => {
            let (mut starts, mut steps) = (vec![0; rank], vec![1; rank]);
            (starts[0], steps[0]) = (usize::from(shape[0] > 1), 2);
            let attrs = vec![
                ("start_indices", ints(&starts)),
                ("limit_indices", ints(shape)),
                ("strides", ints(&steps)),
            ];
            let mut result = shape.to_vec();
            result[0] = (shape[0] - starts[0]).div_ceil(2);
            ("slice", attrs, result)
        }
        3 => {
            let count = shape.iter().product();
            ("reshape", vec![("new_sizes", ints(&[count, 1]))], vec![count, 1])
        }
        _ => {
            let result = [&[2], &shape[..rank.min(3)]].concat();
            let dimensions: Vec<usize> = (1..result.len()).collect();
            let attrs = vec![("shape", ints(&result)), ("broadcast_dimensions", ints(&dimensions))];
            ("broadcast_in_dim", if rank > 3 { return view_of(1, shape) } else { attrs }, result)
        }
    }
}

proptest! {
    /// Views of views, read by ops that take any layout and by one that does not, against each op
    /// on its own.
    #[test]
    fn views_of_views_are_what_copies_of_copies_are(
        choices in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut shape = vec![3, 4, 2];
        let numbers: Vec<f32> = (0..24).map(|n| n as f32).collect();
        let mut expected = f32s(&shape, &numbers);
        let mut file = File::new();
        let x = file.input("x", DType::F32, &fixed(&shape));
        let mut id = x;
        for choice in choices {
            let (op, attrs, result) = view_of(choice, &shape);
            expected = run(op, &attrs, &[&expected], &[Fact::new(DType::F32, &result[..])])
                .remove(0);
            id = file.node(op, &[id], &attrs);
            shape = result;
        }
        let cumsum = [("axis", int(0)), ("reverse", flag(false))];
        let negated = file.node("neg", &[id], &[]);
        let difference = file.node("sub", &[negated, id], &[]);
        let sums = file.node("cumsum", &[id], &cumsum);
        for (name, id) in [("view", id), ("difference", difference), ("sums", sums)] {
            file.output(id, name, DType::F32, &fixed(&shape));
        }
        let mut session = session(&file, 1);
        let x = f32s(&[3, 4, 2], &numbers);
        let got = session.run(&[x.view()]).unwrap();
        same("view", &got[0], &expected.view());
        let fact = [expected.view().fact()];
        let negated = run("neg", &[], &[&expected], &fact).remove(0);
        let difference = run("sub", &[], &[&negated, &expected], &fact).remove(0);
        same("difference", &got[1], &difference.view());
        let sums = run("cumsum", &cumsum, &[&expected], &fact).remove(0);
        same("sums", &got[2], &sums.view());
    }
}

/// Bytes of the buffers that a file of fixed shapes needs.
fn needed(file: &File, inputs: &[&Tensor]) -> u64 {
    let options = Options { threads: 1, memory_limit: 0, ..Options::default() };
    let mut session = Session::new(Arc::new(file.load().unwrap()), options).unwrap();
    let views: Vec<View<'_>> = inputs.iter().map(|tensor| tensor.view()).collect();
    match session.run(&views) {
        Ok(_) => 0,
        Err(error) => error.to_string().split(' ').nth(4).unwrap().parse().unwrap(),
    }
}

#[test]
fn views_take_no_memory() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[10, 20]));
    let w = file.tensor("w", &f32s(&[20], &[1.0; 20]));
    let turned = file.node("transpose", &[x], &[("permutation", ints(&[1, 0]))]);
    let attrs = [("shape", ints(&[20, 10])), ("broadcast_dimensions", ints(&[0]))];
    let wide = file.node("broadcast_in_dim", &[w], &attrs);
    let sum = file.node("add", &[turned, wide], &[]);
    file.output(sum, "sum", DType::F32, &fixed(&[20, 10]));
    assert_eq!(needed(&file, &[&f32s(&[10, 20], &[0.0; 200])]), 800);
    // An output is row-major, so it is a copy here, but for parts that lie together.
    file.output(turned, "turned", DType::F32, &fixed(&[20, 10]));
    let attrs = [
        ("start_indices", ints(&[3, 0])),
        ("limit_indices", ints(&[5, 20])),
        ("strides", ints(&[1, 1])),
    ];
    let rows = file.node("slice", &[x], &attrs);
    file.output(rows, "rows", DType::F32, &fixed(&[2, 20]));
    assert_eq!(needed(&file, &[&f32s(&[10, 20], &[0.0; 200])]), 1600);
}

#[test]
fn results_are_written_over_operands_that_die() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[100]));
    let a = file.node("exp", &[x], &[]);
    let b = file.node("sin", &[a], &[]);
    let c = file.node("sub", &[x, b], &[]);
    let d = file.node("mul", &[c, c], &[]);
    file.output(d, "d", DType::F32, &fixed(&[100]));
    let numbers: Vec<f32> = (0..100).map(|n| n as f32 / 50.0).collect();
    let input = f32s(&[100], &numbers);
    // One for all but the square, which reads its operand twice.
    assert_eq!(needed(&file, &[&input]), 800);
    let expected: Vec<f32> =
        numbers.iter().map(|&x| x - libm::sinf(exp_of_any(x))).map(|c| c * c).collect();
    let mut session = session(&file, 1);
    let got = session.run(&[input.view()]).unwrap();
    assert_eq!(got[0].data::<f32>().unwrap(), expected);
    // The input is the caller's, and what is an output stays.
    assert_eq!(input.view().data::<f32>().unwrap(), numbers);
    file.output(a, "a", DType::F32, &fixed(&[100]));
    assert_eq!(needed(&file, &[&input]), 1200);
}

#[test]
fn a_chain_takes_one_buffer_and_no_longer_than_it_is_needed() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1000]));
    let last = ["exp", "sin", "cos"].iter().fold(x, |last, op| file.node(op, &[last], &[]));
    file.output(last, "last", DType::F32, &fixed(&[1000]));
    let input = f32s(&[1000], &(0..1000).map(|n| n as f32 / 500.0).collect::<Vec<_>>());
    assert_eq!(needed(&file, &[&input]), 4000);

    // A part of what dies is not written over: its result would keep the whole.
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1000]));
    let whole = file.node("exp", &[x], &[]);
    let attrs =
        [("start_indices", ints(&[500])), ("limit_indices", ints(&[510])), ("strides", ints(&[1]))];
    let part = file.node("slice", &[whole], &attrs);
    let small = file.node("sin", &[part], &[]);
    let other = file.node("cos", &[x], &[]);
    file.output(small, "small", DType::F32, &fixed(&[10]));
    file.output(other, "other", DType::F32, &fixed(&[1000]));
    assert_eq!(needed(&file, &[&input]), 4040);
    let mut session = session(&file, 1);
    let got = session.run(&[input.view()]).unwrap();
    let expected: Vec<f32> = (500..510).map(|n| libm::sinf(exp_of_any(n as f32 / 500.0))).collect();
    assert_eq!(got[0].data::<f32>().unwrap(), expected);
}

#[test]
fn a_result_of_another_type_is_not_written_over_an_operand() {
    let mut file = File::new();
    let x = file.input("x", DType::I8, &fixed(&[3]));
    let negated = file.node("neg", &[x], &[]);
    let less = file.node("lt", &[negated, x], &[]);
    file.output(less, "less", DType::Bool, &fixed(&[3]));
    let mut session = session(&file, 1);
    let x = Tensor::new(&[3], &[1i8, -1, 0]).unwrap();
    same("less", &session.run(&[x.view()]).unwrap()[0], &bools(&[3], &[1, 0, 0]).view());
}

#[test]
fn threads_change_no_bit() {
    let mut file = File::new();
    let dims = fixed(&[200, 3]);
    let x = file.input("x", DType::F32, &dims);
    let attrs = dot(&[1], &[1], &[], &[]);
    let gram = file.node("dot_general", &[x, x], &attrs);
    let wave = file.node("sin", &[gram], &[]);
    let sums = file.node("reduce_sum", &[wave], &[("axes", ints(&[0]))]);
    let total = file.node("reduce_sum", &[wave], &[("axes", ints(&[0, 1]))]);
    let best = file.node("argmax", &[wave], &[("axes", ints(&[1])), ("index_dtype", text("i32"))]);
    file.output(wave, "wave", DType::F32, &fixed(&[200, 200]));
    file.output(sums, "sums", DType::F32, &fixed(&[200]));
    file.output(total, "total", DType::F32, &[]);
    file.output(best, "best", DType::I32, &fixed(&[200]));
    let x = rows(200);
    let run = |threads: usize| {
        let mut session = session(&file, threads);
        session.run(&[x.view()]).unwrap().iter().map(raw).collect::<Vec<_>>()
    };
    let one = run(1);
    for threads in [2, 7] {
        assert_eq!(run(threads), one);
    }
}
