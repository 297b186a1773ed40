//! What stays from one run to the next: the values, and the memory that they are written in.

use std::sync::Arc;

use lumina_kernels::ThreadPool;
use proptest::prelude::*;

use super::build::*;
use super::proto::{Attr, Entry, Region, TestVector, attr};
use crate::plan::{Plan, Work};
use crate::{DType, Model, Options, Session, Tensor, View, verify};

fn opened(file: &File) -> Session {
    session(file, 1)
}

/// A cache of four lines, into which each run writes x at the line that it counts.
fn cache() -> File {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1, 2]));
    let lines = file.state("lines", DType::F32, &[4, 2]);
    let count = file.state("count", DType::I32, &[]);
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let one = file.tensor("one", &i32s(&[], &[1]));
    let written = file.node("dynamic_update_slice", &[lines, x, count, zero], &[]);
    let counted = file.node("add", &[count, one], &[]);
    let sum = file.node("reduce_sum", &[written], &[("axes", ints(&[0]))]);
    file.becomes(lines, written);
    file.becomes(count, counted);
    file.output(sum, "sum", DType::F32, &fixed(&[2]));
    file
}

fn floats(view: &View<'_>) -> Vec<f32> {
    view.data::<f32>().unwrap().to_vec()
}

#[test]
fn a_cache_grows_with_each_run_and_starts_again() {
    let mut session = opened(&cache());
    for _ in 0..2 {
        let mut sum = [0.0, 0.0];
        for step in 1..4 {
            let x = [step as f32, -0.5];
            sum = [sum[0] + x[0], sum[1] + x[1]];
            let input = f32s(&[1, 2], &x);
            assert_eq!(floats(&session.run(&[input.view()]).unwrap()[0]), sum);
            assert_eq!(session.state("count").unwrap().data::<i32>().unwrap(), [step]);
        }
        let lines = [1.0, -0.5, 2.0, -0.5, 3.0, -0.5, 0.0, 0.0];
        assert_eq!(floats(&session.state("lines").unwrap()), lines);
        session.reset();
        assert_eq!(floats(&session.state("lines").unwrap()), [0.0; 8]);
    }
}

/// Nothing of the size of the cache is copied or allocated beside it.
#[test]
fn a_state_is_written_in_place() {
    let model = cache().load().unwrap();
    let input = f32s(&[1, 2], &[1.0, 2.0]);
    let facts = [input.view().fact()];
    let (mut kept, pool) = (crate::kept::Kept::default(), ThreadPool::new(1).unwrap());
    let plan = Plan::new(&model, 0, &facts, 1 << 20, &mut kept, &pool).unwrap();
    assert!(plan.block.steps.iter().all(|step| !matches!(step.work, Work::Copy)));
    assert_eq!(plan.block.buffers, [32, 4, 8]);
    let mut session = opened(&cache());
    let address = |session: &mut Session| floats_at(&session.state("lines").unwrap());
    let before = address(&mut session);
    session.run(&[input.view()]).unwrap();
    assert_eq!(address(&mut session), before);
}

fn floats_at(view: &View<'_>) -> *const f32 {
    view.data::<f32>().unwrap().as_ptr()
}

#[test]
fn a_state_can_be_set_and_begins_as_the_file_says() {
    let mut file = cache();
    let initial = file.tensor("initial", &f32s(&[4, 2], &[1.0; 8]));
    let two = file.tensor("two", &i32s(&[], &[2]));
    file.graph.states[0].initial = Some(initial);
    file.graph.states[1].initial = Some(two);
    let mut session = opened(&file);
    let x = f32s(&[1, 2], &[5.0, 6.0]);
    assert_eq!(floats(&session.run(&[x.view()]).unwrap()[0]), [8.0, 9.0]);
    // One element fills a state.
    let mut file = cache();
    file.graph.states[0].initial = Some(file.tensor("all", &f32s(&[], &[0.5])));
    let mut session = opened(&file);
    assert_eq!(floats(&session.state("lines").unwrap()), [0.5; 8]);
    session.set_state("lines", &f32s(&[4, 2], &[2.0; 8]).view()).unwrap();
    assert_eq!(floats(&session.run(&[x.view()]).unwrap()[0]), [11.0, 12.0]);
    let mut refusal = |name: &str, value: &Tensor| {
        session.set_state(name, &value.view()).unwrap_err().to_string()
    };
    assert_eq!(refusal("line", &x), "there is no state `line`; the model has `lines`, `count`");
    assert_eq!(refusal("lines", &x), "state `lines` must be f32[4,2], got f32[1,2]");
}

/// A run that fails after it has written a state must not go on from there.
#[test]
fn states_of_a_failed_run_are_refused_until_reset() {
    let region = |nodes, outputs| Region { captures: vec![], inputs: 1, nodes, outputs };
    let always = region(vec![node("le", &[0, 0], &[1], &[])], vec![1]);
    let same = region(vec![], vec![0]);
    let attribute = |region| Attr { value: Some(attr::Value::Region(region)) };
    let mut file = cache();
    let n = file.input("n", DType::I32, &[]);
    let attrs = [("body", attribute(same)), ("cond", attribute(always)), ("limit", int(3))];
    let end = file.node("while", &[n], &attrs);
    file.output(end, "end", DType::I32, &[]);
    let mut session = opened(&file);
    let (x, n) = (f32s(&[1, 2], &[1.0, 2.0]), i32s(&[], &[0]));
    let failed =
        |session: &mut Session| session.run(&[x.view(), n.view()]).unwrap_err().to_string();
    assert!(failed(&mut session).contains("the loop has not ended after 3 trips"));
    let lost = "the states were lost in a run that failed; reset the session, or begin a new one";
    assert_eq!(failed(&mut session), lost);
    assert_eq!(session.state("lines").unwrap_err().to_string(), lost);
    session.reset();
    assert_eq!(session.state("count").unwrap().data::<i32>().unwrap(), [0]);
}

#[test]
fn a_run_that_is_cancelled_before_it_begins_leaves_the_states() {
    let mut session = opened(&cache());
    let x = f32s(&[1, 2], &[1.0, 2.0]);
    session.run(&[x.view()]).unwrap();
    session.cancel_handle().cancel();
    let cancelled = session.run(&[x.view()]).unwrap_err();
    assert_eq!(cancelled.to_string(), "the run was cancelled");
    assert_eq!(floats(&session.run(&[x.view()]).unwrap()[0]), [2.0, 4.0]);
    assert_eq!(session.state("count").unwrap().data::<i32>().unwrap(), [2]);
}

/// A second entry point of `file`, which takes nothing and returns the count.
fn with_peek(mut file: File) -> File {
    let tensors = file.graph.tensors.clone();
    file.graph.name = "write".into();
    let last = tensors.iter().map(|tensor| tensor.id).max().unwrap() + 1;
    // Ids are dense in each entry point, and tensors have the same ones in all.
    let mut free = (0..).filter(|id| tensors.iter().all(|tensor| tensor.id != *id));
    let mut count = file.graph.states[1].clone();
    (count.id, count.next) = (free.next().unwrap(), None);
    let ids: Vec<u32> = free.take_while(|&id| id <= last).collect();
    let nodes = ids.iter().map(|&id| node("neg", &[count.id], &[id], &[])).collect();
    file.graph.entries.push(Entry {
        name: "peek".into(),
        outputs: vec![value(count.id, "count", DType::I32, &[])],
        states: vec![count],
        nodes,
        ..Entry::default()
    });
    file
}

#[test]
fn entry_points_share_states_and_weights() {
    let model = Arc::new(with_peek(cache()).load().unwrap());
    assert_eq!(model.entries().collect::<Vec<_>>(), ["write", "peek"]);
    assert_eq!(model.inputs_of(1).unwrap().len(), 0);
    let mut session = Session::new(Arc::clone(&model), Options::default()).unwrap();
    let x = f32s(&[1, 2], &[1.0, 2.0]);
    for count in 0..3 {
        let seen = session.run_entry(1, &[]).unwrap();
        assert_eq!(seen[0].data::<i32>().unwrap(), [count]);
        session.run_entry(0, &[x.view()]).unwrap();
    }
    assert_eq!(
        session.run_entry(2, &[]).unwrap_err().to_string(),
        "there is no entry point 2, the file has 2"
    );
}

#[test]
fn test_vectors_go_on_from_one_to_the_next() {
    let mut file = with_peek(cache());
    let x = f32s(&[1, 2], &[1.0, 2.0]);
    file.test(&[&x], &[&f32s(&[2], &[1.0, 2.0])]);
    file.test(&[&x], &[&f32s(&[2], &[2.0, 4.0])]);
    file.test(&[], &[&i32s(&[], &[2])]);
    file.test(&[], &[&i32s(&[], &[0])]);
    for (test, (entry, continues)) in
        file.graph.tests.iter_mut().zip([(0, false), (0, true), (1, true), (1, false)])
    {
        *test = TestVector { entry, continues, ..test.clone() };
    }
    let compared =
        |file: &File| verify(&Arc::new(file.load().unwrap()), Options::default()).unwrap();
    assert!(compared(&file).iter().all(|comparison| comparison.passed));
    file.graph.tests[2].continues = false;
    assert!(!compared(&file)[2].passed);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let refusal = |change: &dyn Fn(&mut File)| {
        let mut file = with_peek(cache());
        change(&mut file);
        file.refusal()
    };
    type Case<'a> = (&'a dyn Fn(&mut File), &'a str);
    let cases: [Case<'_>; 13] = [
        (
            &|f| f.graph.states[0].next = Some(99),
            "entry point `write`: state `lines`: becomes value 99",
        ),
        (
            &|f| f.graph.states[0].next = Some(0),
            "state `lines`: is f32[4,2], but its nodes make it f32[1,2]",
        ),
        (&|f| f.graph.states[0].initial = Some(0), "its initial value 0 is no tensor"),
        (&|f| f.graph.states[0].initial = Some(3), "is f32[4,2], but its initial value is i32[]"),
        (&|f| f.graph.states[0].dtype = 99, "state `lines`: unknown dtype 99"),
        (&|f| f.graph.states[0].shape = vec![u64::MAX, 3], "is too large"),
        (&|f| f.graph.states[1].name = "lines".into(), "state `lines`: the name appears twice"),
        (&|f| f.graph.entries[0].states[0].shape = vec![2], "entry points give it different types"),
        (
            &|f| f.graph.entries[0].name = "write".into(),
            "the name `write` is empty or appears twice",
        ),
        (&|f| f.graph.entries[0].name.clear(), "the name `` is empty or appears twice"),
        (&|f| f.graph.entries[0].outputs[0].id = 99, "entry point `peek`: output `count`"),
        (&|f| f.graph.entries = vec![Entry::default(); 64], "entry points: at most 64, got 65"),
        (
            &|f| {
                f.test(&[], &[]);
                f.graph.tests[0].entry = 2;
            },
            "test vector 0: entry point 2 is not one of the 2",
        ),
    ];
    for (change, expected) in cases {
        let text = refusal(change);
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let text = refusal(&|f| {
        f.test(&[], &[]);
        f.graph.tests[0].continues = true;
    });
    assert!(text.contains("test vector 0: continues, but is the first"), "{text}");
}

/// How one value of a random program is made of earlier ones.
#[derive(Clone, Debug)]
struct Made {
    op: usize,
    of: [usize; 2],
}

const STATES: usize = 3;
const SIDE: usize = 2;

/// A program of states and one input, all f32[2,2], or with the states as inputs and outputs.
fn program(made: &[Made], after: &[usize], shown: &[usize], stateless: bool) -> File {
    let mut file = File::new();
    let mut values = vec![file.input("x", DType::F32, &fixed(&[SIDE, SIDE]))];
    let names: Vec<String> = (0..STATES).map(|n| format!("s{n}")).collect();
    for name in &names {
        values.push(match stateless {
            true => file.input(name, DType::F32, &fixed(&[SIDE, SIDE])),
            false => file.state(name, DType::F32, &[SIDE as u64; 2]),
        });
    }
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let one = file.tensor("one", &i32s(&[], &[1]));
    for Made { op, of } in made {
        let [a, b] = of.map(|value| values[value % values.len()]);
        let value = match op {
            0 => file.node("add", &[a, b], &[]),
            1 => file.node("neg", &[a], &[]),
            2 => file.node("transpose", &[a], &[("permutation", ints(&[1, 0]))]),
            3 => file.node("rev", &[a], &[("dimensions", ints(&[0]))]),
            4 => {
                let attrs = [
                    ("start_indices", ints(&[0, 0])),
                    ("limit_indices", ints(&[1, 2])),
                    ("strides", ints(&[1, 1])),
                ];
                let line = file.node("slice", &[b], &attrs);
                file.node("dynamic_update_slice", &[a, line, one, zero], &[])
            }
            _ => file.node("max", &[a, b], &[]),
        };
        values.push(value);
    }
    for (number, value) in shown.iter().enumerate() {
        let id = values[value % values.len()];
        file.output(id, &format!("y{number}"), DType::F32, &fixed(&[SIDE, SIDE]));
    }
    for (state, value) in after.iter().enumerate() {
        let id = values[value % values.len()];
        match stateless {
            true => file.output(id, &names[state], DType::F32, &fixed(&[SIDE, SIDE])),
            false => file.becomes(values[1 + state], id),
        }
    }
    file
}

fn programs() -> impl Strategy<Value = (Vec<Made>, Vec<usize>, Vec<usize>)> {
    let made = (0..6usize, any::<[usize; 2]>()).prop_map(|(op, of)| Made { op, of });
    (
        proptest::collection::vec(made, 0..8),
        proptest::collection::vec(any::<usize>(), STATES),
        proptest::collection::vec(any::<usize>(), 0..3),
    )
}

proptest! {
    /// States that lie in place give what the same program gives that is handed them in each run.
    #[test]
    fn states_are_as_if_they_were_inputs((made, after, shown) in programs()) {
        let mut kept = opened(&program(&made, &after, &shown, false));
        let mut handed = opened(&program(&made, &after, &shown, true));
        let mut states: Vec<Tensor> = (0..STATES).map(|_| f32s(&[SIDE, SIDE], &[0.0; 4])).collect();
        for run in 0..4 {
            let x = f32s(&[SIDE, SIDE], &[1.0, run as f32, -2.0, 0.5]);
            let inputs: Vec<View<'_>> =
                std::iter::once(&x).chain(&states).map(Tensor::view).collect();
            let expected: Vec<Vec<f32>> = handed.run(&inputs).unwrap().iter().map(floats).collect();
            let got: Vec<Vec<f32>> = kept.run(&[x.view()]).unwrap().iter().map(floats).collect();
            let (outputs, after) = expected.split_at(shown.len());
            prop_assert_eq!(&got[..], outputs);
            for (number, value) in after.iter().enumerate() {
                prop_assert_eq!(&floats(&kept.state(&format!("s{number}")).unwrap()), value);
            }
            states = after.iter().map(|value| f32s(&[SIDE, SIDE], value)).collect();
        }
    }
}

/// A state of no elements, and an entry point without a node.
#[test]
fn the_least_of_everything() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[3]));
    let last = file.state("last", DType::F32, &[3]);
    file.state("nothing", DType::F32, &[0, 5]);
    file.becomes(last, x);
    file.output(last, "before", DType::F32, &fixed(&[3]));
    let mut session = opened(&file);
    let (one, two) = (f32s(&[3], &[1.0; 3]), f32s(&[3], &[2.0; 3]));
    assert_eq!(floats(&session.run(&[one.view()]).unwrap()[0]), [0.0; 3]);
    assert_eq!(floats(&session.run(&[two.view()]).unwrap()[0]), [1.0; 3]);
    assert!(floats(&session.state("nothing").unwrap()).is_empty());
}

/// States count against the limit before they are allocated.
#[test]
fn states_keep_to_the_memory_limit() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[1]));
    file.state("huge", DType::F32, &[1 << 40]);
    file.output(x, "y", DType::F32, &fixed(&[1]));
    let mut session = opened(&file);
    let x = f32s(&[1], &[1.0]);
    let text = session.run(&[x.view()]).unwrap_err().to_string();
    assert!(text.contains("bytes of buffers, the limit is"), "{text}");
    let text = session.state("huge").unwrap_err().to_string();
    assert!(text.contains("bytes of buffers, the limit is"), "{text}");
    assert!(Model::from_bytes(&file.bytes()).is_ok());
}
