//! `lumina bench`: what it counts, and what it refuses. How long things take is not asked.

use std::sync::Arc;

use lumina_runtime::bench::{self, Benchmark, Request};
use lumina_runtime::{DType, Model, Options};
use serde_json::Value;

use crate::build::*;
use crate::looping::looping;
use crate::program::{Folder, keyed, lumina, negation, refusal, stdout};

/// Ten runs, and no longer.
fn request() -> Request {
    let options = Options { threads: 1, ..Options::default() };
    Request { seconds: 0.0, nodes: true, options, ..Request::default() }
}

fn measured(model: &Arc<Model>, request: &Request) -> Benchmark {
    bench::bench(model, request, &mut |_| true).unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = lumina(&[&["bench"], arguments, &["--json", "--seconds", "0"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(stdout(&output)).unwrap()
}

/// y f32[batch,3] = (x·w), transposed and back, plus 1, where x is f32[batch,4].
fn product() -> File {
    let mut file = File::new();
    let batch = file.symbol("batch");
    let w = file.tensor("w", &f32s(&[4, 3], &[0.5; 12]));
    let one = file.tensor("one", &f32s(&[], &[1.0]));
    let x = file.input("x", DType::F32, &[batch.clone(), fixed(&[4])[0].clone()]);
    let product = file.node("dot_general", &[x, w], &dot(&[1], &[0], &[], &[]));
    let view = file.node("transpose", &[product], &[("permutation", ints(&[1, 0]))]);
    let view = file.node("transpose", &[view], &[("permutation", ints(&[1, 0]))]);
    let y = file.node("add", &[view, one], &[]);
    file.graph.nodes[0].source = "model.py:3".into();
    file.output(y, "y", DType::F32, &[batch, fixed(&[3])[0].clone()]);
    file.test(&[&f32s(&[2, 4], &[1.0; 8])], &[&f32s(&[2, 3], &[3.0; 6])]);
    file
}

#[test]
fn json_has_every_figure() {
    let folder = Folder::new();
    let model = folder.model(&product());
    let found = report(&[&model, "--nodes", "--threads", "1", "--batch", "5"]);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let expected = "entry threads symbols batch inputs states start steady memory work limit \
                    idle_nodes profiled_runs profiled_ms_per_run nodes interrupted model";
    assert_eq!(keys(&found).join(" "), expected);
    for (group, expected) in [
        ("start", "read_ms check_ms session_ms plan_ms first_run_ms total_ms"),
        (
            "steady",
            "runs warm_up_runs mean_ms min_ms p50_ms p90_ms p99_ms max_ms runs_per_s rows_per_s",
        ),
        ("memory", "file_bytes buffer_bytes state_bytes kept_bytes process_peak_bytes"),
        ("work", "flops bytes gflop_per_s gb_per_s"),
        (
            "limit",
            "float32_gflop_per_s int8_gflop_per_s memory_gb_per_s memory_buffer_bytes \
             working_set_bytes working_set_gb_per_s run_ms share",
        ),
    ] {
        assert_eq!(keys(&found[group]).join(" "), expected);
        let numbers = found[group].as_object().unwrap().values();
        let is_known = |value: &Value| value.as_f64().is_some_and(|number| number >= 0.0);
        // Only Linux tells the memory of a process.
        assert!(numbers.filter(|value| !value.is_null()).all(is_known), "{found}");
    }
    let expected = "node op source outputs calls_per_run ms_per_run share flops_per_call \
                    bytes_per_call numbers gflop_per_s gb_per_s limit_ms_per_call limit_share";
    assert_eq!(keys(&found["nodes"][0]).join(" "), expected);
    assert_eq!(found["model"], model.as_str());
    assert_eq!(found["threads"], 1);
    assert_eq!(found["symbols"]["batch"], 5);
    assert_eq!(found["batch"]["rows"], 5);
    assert!(found["steady"]["runs"].as_u64().unwrap() >= 10);
    let names = ["min_ms", "p50_ms", "p90_ms", "p99_ms", "max_ms"];
    let times = names.map(|name| found["steady"][name].as_f64().unwrap());
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(report(&[&model])["nodes"], Value::Array(vec![]));
}

#[test]
fn work_is_what_one_counts_by_hand() {
    let model = Arc::new(product().load().unwrap());
    let found = measured(&model, &Request { batch: Some(5), ..request() });
    let [dot, add] = &found.nodes[..] else { panic!("{:?}", found.nodes) };
    assert_eq!((dot.node.as_str(), dot.op.as_str()), ("0", "dot_general"));
    assert_eq!((dot.source.as_str(), dot.outputs.as_str()), ("model.py:3", "f32[5,3]"));
    // 2·5·4·3, and x, w and y.
    assert_eq!((dot.flops, dot.bytes), (120, 4 * (5 * 4 + 4 * 3 + 5 * 3)));
    // The 1 is read once for all elements.
    assert_eq!((add.flops, add.bytes), (15, 4 * (15 + 1 + 15)));
    // The transpositions are views.
    assert_eq!(found.idle_nodes, 2);
    assert_eq!(found.limit.flops, 135.0);
    assert_eq!(found.limit.bytes, (dot.bytes + add.bytes) as f64);
    for node in &found.nodes {
        assert_eq!(node.calls, found.profiled_runs as u64);
        assert_eq!(node.numbers.name(), "float32");
    }
    assert!(found.steady.unwrap().runs >= 10 && found.profiled_runs >= 10);
}

#[test]
fn tables_and_caches_count_what_is_read_and_written() {
    let mut file = File::new();
    let table = file.tensor("table", &f32s(&[100, 8], &[0.5; 800]));
    let at = file.input("at", DType::I32, &[]);
    let zero = file.tensor("zero", &i32s(&[], &[0]));
    let lines = file.state("lines", DType::F32, &[50, 8]);
    let line = file.node("dynamic_slice", &[table, at, zero], &[("slice_sizes", ints(&[1, 8]))]);
    let written = file.node("dynamic_update_slice", &[lines, line, at, zero], &[]);
    file.becomes(lines, written);
    file.output(line, "line", DType::F32, &fixed(&[1, 8]));
    let found = measured(&Arc::new(file.load().unwrap()), &request());
    let bytes: Vec<(&str, u64)> =
        found.nodes.iter().map(|node| (node.op.as_str(), node.bytes)).collect();
    // A line is read and written, where two numbers say.
    assert_eq!(bytes, [("dynamic_slice", 72), ("dynamic_update_slice", 72)]);
    assert_eq!(found.memory.states, 50 * 8 * 4);
    // No more than what is moved counts of what runs go over.
    assert_eq!(found.limit.working_set, 144);
}

#[test]
fn copies_of_the_plan_are_steps_of_their_own() {
    let mut file = File::new();
    let x = file.input("x", DType::F32, &fixed(&[2, 3]));
    let turned = file.node("transpose", &[x], &[("permutation", ints(&[1, 0]))]);
    file.output(turned, "y", DType::F32, &fixed(&[3, 2]));
    let found = measured(&Arc::new(file.load().unwrap()), &request());
    let [copy] = &found.nodes[..] else { panic!("{:?}", found.nodes) };
    assert_eq!((copy.op.as_str(), copy.flops, copy.bytes), ("copy", 0, 2 * 24));
    assert_eq!(found.idle_nodes, 1);
}

/// States go from run to run: the loop of run k makes k trips.
#[test]
fn nodes_of_regions_count_each_time_they_run() {
    let model = Arc::new(Model::from_bytes(&looping()).unwrap());
    let found = measured(&model, &Request { entry: Some("write".into()), ..request() });
    let runs = found.profiled_runs as u64;
    let calls = |node: &str| {
        let mut steps = found.nodes.iter().filter(|step| step.node == node);
        (steps.next_back().map(|step| (step.op.as_str(), step.calls))).unwrap()
    };
    let trips = (1..=runs).map(|run| (run - 1) % bench::ROUND as u64 + 1).sum::<u64>();
    assert_eq!(calls("2"), ("scan", runs));
    assert_eq!(calls("2.body.0"), ("add", 4 * runs));
    assert_eq!(calls("3.body.0"), ("add", trips));
    assert_eq!(calls("3.cond.0"), ("lt", trips + runs));
    assert_eq!((found.entry.as_str(), found.states), ("write", 2));
    let text = found.describe();
    assert!(text.contains("states: 2, which begin anew after 64 runs"), "{text}");
    assert!(text.contains("2.body.0 "), "{text}");
}

#[test]
fn inputs_are_those_of_the_test_vector_or_made() {
    let folder = Folder::new();
    let from = |found: &Value| {
        let inputs = found["inputs"].as_array().unwrap().iter();
        inputs.map(|it| format!("{} {}", it["type"], it["from"])).collect::<Vec<_>>().join("; ")
    };
    let model = folder.model(&negation());
    assert_eq!(from(&report(&[&model])), r#""f32[1,2]" "test vector 0""#);
    let repeated = r#""f32[3,2]" "elements of test vector 0, repeated""#;
    assert_eq!(from(&report(&[&model, "--symbol", "batch=3"])), repeated);
    let model = folder.model(&keyed());
    let zeros = r#""u32[2]" "zeros"; "u32[2,2]" "zeros""#;
    assert_eq!(from(&report(&[&model, "--batch", "2"])), zeros);
    let mut bare = negation();
    bare.graph.tests.clear();
    let model = folder.model(&bare);
    let made = r#""f32[2,2]" "normal deviates""#;
    assert_eq!(from(&report(&[&model, "--batch", "2"])), made);
    // Nothing is an extent, too.
    assert_eq!(report(&[&model, "--batch", "0"])["symbols"]["batch"], 0);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let folder = Folder::new();
    let model = folder.model(&product());
    let refused = |arguments: &[&str]| {
        refusal(&[&["bench", &model], arguments].concat()).replace(&model, "m.lmn")
    };
    assert_eq!(
        refused(&["--symbol", "time=3"]),
        "m.lmn: there is no symbol `time`; the model has `batch`"
    );
    assert_eq!(
        refused(&["--entry", "decode"]),
        "m.lmn: there is no entry point `decode`; the file has none"
    );
    assert_eq!(
        refused(&["--batch", "2", "--symbol", "batch=3"]),
        "m.lmn: symbol `batch` is given two values, 2 and 3"
    );
    assert_eq!(
        refused(&["--seconds", "inf"]),
        "m.lmn: the time to measure must be 0 to 86400 seconds, got inf"
    );
    assert_eq!(
        refused(&["--batch", "4000000000"]),
        "m.lmn: these input shapes need 64000000000 bytes of buffers, the limit is 4294967296"
    );
    for (option, value) in [("--batch", "-1"), ("--seconds", "x")] {
        let output = lumina(&["bench", &model, option, value]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            text.starts_with(&format!("error: invalid value '{value}' for '{option} ")),
            "{text}"
        );
    }
    assert_eq!(
        refused(&["--seconds", "-1"]),
        "m.lmn: the time to measure must be 0 to 86400 seconds, got -1"
    );
    assert_eq!(refusal(&["bench", "no.lmn"]).matches("no.lmn").count(), 1);
    let output = lumina(&["bench", &model, "--symbol", "batch=-1"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("expected NAME=N, such as batch=8, got `batch=-1`"), "{text}");
    let mut bare = product();
    bare.graph.tests.clear();
    let model = folder.model(&bare);
    assert_eq!(report(&[&model])["symbols"]["batch"], 1);
    let mut fixed_shapes = File::new();
    let x = fixed_shapes.input("x", DType::F32, &fixed(&[2]));
    fixed_shapes.output(x, "y", DType::F32, &fixed(&[2]));
    let model = folder.model(&fixed_shapes);
    assert_eq!(
        refusal(&["bench", &model, "--batch", "2"]),
        format!(
            "{model}: there is no batch to set: no input has a symbol as axis 0; the symbols are none"
        )
    );
}

#[test]
fn whoever_watches_may_end_it() {
    let model = Arc::new(product().load().unwrap());
    let mut told = Vec::new();
    let found = bench::bench(&model, &request(), &mut |share| {
        told.push(share);
        false
    });
    let found = found.unwrap();
    assert_eq!(told, [0.0]);
    assert!(found.interrupted && found.steady.is_none());
    assert_eq!(found.profiled_runs, 1);
    assert!(found.describe().contains("interrupted before a run was measured"));
    assert!(found.to_json()["steady"].is_null());
}

#[test]
fn text_names_what_it_tells() {
    let folder = Folder::new();
    let model = folder.model(&product());
    let output = lumina(&["bench", &model, "--seconds", "0", "--nodes"]);
    let text = stdout(&output);
    let words = [
        "start ",
        "steady ",
        "memory ",
        "work ",
        "limit ",
        "nodes ",
        "dot_general",
        "between them",
    ];
    for word in words {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(output.stderr, b"");
}
