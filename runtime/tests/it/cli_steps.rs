//! `lumina run --steps`: a model is run once for each step along an axis of its own.

use lumina_runtime::DType;

use crate::build::*;
use crate::program::{Folder, KEYS, keyed, lumina, read, refusal, stdout};

/// y = a + b f32[n], and the sum of y.
fn pair() -> File {
    let mut file = File::new();
    let dims = [file.symbol("n")];
    let [a, b] = ["a", "b"].map(|name| file.input(name, DType::F32, &dims));
    let y = file.node("add", &[a, b], &[]);
    let sum = file.node("reduce_sum", &[y], &[("axes", ints(&[0]))]);
    file.output(y, "y", DType::F32, &dims);
    file.output(sum, "sum", DType::F32, &[]);
    file
}

/// A folder with that model, and its arguments: a and b of three steps, f32[3,2].
fn folder() -> (Folder, Vec<String>) {
    let folder = Folder::new();
    let mut arguments = vec!["run".into(), folder.model(&pair()), "--steps".into()];
    for (name, data) in [("a", [1f32, 2.0, 3.0, 4.0, 5.0, 6.0]), ("b", [0.5; 6])] {
        let path = folder.array(name, &[3, 2], &data);
        arguments.extend(["--input".into(), format!("{name}={path}")]);
    }
    (folder, arguments)
}

fn with<'a>(arguments: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    arguments.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[test]
fn each_step_is_a_run_of_its_own() {
    let (folder, arguments) = folder();
    let [y, sum] = ["y", "sum"].map(|name| format!("{name}={}", folder.string(name)));
    let output = lumina(&with(&arguments, &["--output", &y, "--output", &sum]));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read::<f32>(&folder.path("y")), (vec![3, 2], vec![1.5, 2.5, 3.5, 4.5, 5.5, 6.5]));
    assert_eq!(read::<f32>(&folder.path("sum")), (vec![3], vec![4.0, 8.0, 12.0]));
}

#[test]
fn the_largest_values_are_those_of_each_step() {
    let (_folder, arguments) = folder();
    let output = lumina(&with(&arguments, &["--top", "1"]));
    assert_eq!(stdout(&output), "y[0]: 1 (2.5)\ny[1]: 1 (4.5)\ny[2]: 1 (6.5)\nsum: 2 (12.0)\n");
    let output = lumina(&with(&arguments, &["--top", "1", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(
        shown["top"]["sum"],
        serde_json::json!([{"row": [], "indices": [2], "values": [12.0]}])
    );
    assert_eq!(
        shown["top"]["y"][2],
        serde_json::json!(
            {"row": [2], "indices": [1], "values": [6.5]}
        )
    );
}

#[test]
fn each_step_draws_noise_of_its_own() {
    let folder = Folder::new();
    let model = folder.model(&keyed());
    let x = folder.array("x.npy", &[3, 1, 2], &[0u32; 6]);
    let y = folder.string("y.npy");
    let run = ["run", &model, "--input", &x, "--output", &y, "--noise-seed", "7", "--steps"];
    assert!(lumina(&run).status.success());
    assert_eq!(read::<u32>(&folder.path("y.npy")), (vec![3, 1, 2], KEYS.concat()));
}

#[test]
fn steps_that_do_not_fit_are_refused() {
    let (folder, arguments) = folder();
    let text = |b: &str| {
        let b = format!("b={b}");
        refusal(&[&with(&arguments[..5], &["--top", "1", "--input"])[..], &[&b]].concat())
    };
    assert_eq!(
        text(&folder.array("two", &[2, 2], &[1f32; 4])),
        "input `b` has 2 steps, and input `a` 3: there must be as many in all"
    );
    let flat = text(&folder.array("flat", &[3], &[1f32; 3]));
    assert!(flat.ends_with("m.lmn: input `b` must be f32[n], got f32[]"), "{flat}");
    let integers = folder.array("integers", &[3, 2], &[1i32, 1, 1, (1 << 24) + 1, 1, 1]);
    let wrong = format!("input `b`, from `{integers}`: int32 16777217 at [1, 1] is no float32");
    assert!(text(&integers).starts_with(&wrong), "{}", text(&integers));
    let a = folder.array::<f32>("a", &[0, 2], &[]);
    let b = folder.array::<f32>("b", &[0, 2], &[]);
    assert_eq!(a, folder.string("a"));
    assert_eq!(text(&b), "--steps: axis 0 of input `a` has no steps");
    let both = lumina(&with(&arguments, &["--top", "1", "--batch", "2"]));
    assert_eq!(both.status.code(), Some(2));
}
