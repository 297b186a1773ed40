//! `lumina schedule`: what the program shows and refuses.

use serde_json::Value;

use crate::device::*;
use crate::program::{Folder, lumina, negation, refusal, stdout};
use crate::schedule::schedule;

#[test]
fn the_program_shows_it() {
    let folder = Folder::new();
    let model = folder.model(&on_a_device());
    let output = lumina(&["schedule", &model, "--symbol", "batch=32", "--json"]);
    let json: Value = serde_json::from_str(stdout(&output)).unwrap();
    let expected = schedule(&on_a_device(), 32).to_json();
    assert_eq!(json, expected, "{json:#}");
    assert_eq!(json["entries"][0]["layers"][0]["slots"], serde_json::json!([3, 1, 0, 2, 4, 1]));
    assert_eq!(json["crosstalk"]["matrix"][0], serde_json::json!([1.0, 0.5]));
    let output = lumina(&["schedule", &model, "--symbol", "batch=32", "--passes"]);
    assert_eq!(
    stdout(&output),
    "\
device chip: 1 bank of 4 inputs x 2 outputs, 5.00 GHz, weights settle in 10.0 µs
5 wavelengths on a bus, from 1550.000 nm on slot 0 to 1551.600 nm
crosstalk among 2 slots, compensated by fold, condition number 3.0000
the array is the one that layers simulate: each part of an output is read once
batch = 32

     layer                            rows x inputs x outputs    tiles  settings     reuse    used    latency     energy
0    Dense_0                          32 x 6 x 5                 2 x 3         6   32 rows  62.5 %    60.0 µs    25.0 µJ
     total                                                                     6            62.5 %    60.0 µs    25.0 µJ

6 settings of the banks in 6 turns, of which weights settle in 60.0 µs (99.9 %) and take 25.0 µJ (99.9 %)
conversions: 576 of inputs, 30 of weights, 320 of outputs; 960 multiply-accumulates
  input DACs        2.95 nJ    0.0 %
  modulators        28.8 pJ    0.0 %
  weight DACs        154 pJ    0.0 %
  ADCs              1.02 nJ    0.0 %
  lasers            24.0 µJ   96.1 %
  ring tuning        720 nJ    2.9 %
  amplifiers         240 nJ    1.0 %

passes of layer 0, Dense_0
  turn 0      bank 0    inputs 0 to 3, outputs 0 to 1
  turn 1      bank 0    inputs 4 to 5, outputs 0 to 1
  turn 2      bank 0    inputs 0 to 3, outputs 2 to 3
  turn 3      bank 0    inputs 4 to 5, outputs 2 to 3
  turn 4      bank 0    inputs 0 to 3, outputs 4 to 4
  turn 5      bank 0    inputs 4 to 5, outputs 4 to 4
"
);
    let inspected = stdout(&lumina(&["inspect", &model])).to_string();
    for line in [
        "device chip: 1 bank of 4 inputs x 2 outputs, 5.00 GHz, weights settle in 10.0 µs",
        "crosstalk among 2 slots, compensated by fold, condition number 3.0000",
        "    6 x 5 weights in tiles of 4 x 2, inputs first, as `Dense_0` of the plan",
    ] {
        assert!(inspected.lines().any(|other| other == line), "{inspected}");
    }
    let output = lumina(&["inspect", &model, "--json"]);
    let json: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(json["device"]["bank_rows"], 4);
    assert_eq!(json["nodes"][0]["execution"][0]["tile_columns"], 2);
}

#[test]
fn what_the_program_refuses() {
    let folder = Folder::new();
    let model = folder.model(&negation());
    assert_eq!(
        refusal(&["schedule", &model]),
        format!(
            "{model}: the file has no schedule, as it was exported for no device: name one when it is \
             exported, `export(..., profile=\"lumina_nano_v1\")`"
        )
    );
    let model = folder.model(&on_a_device());
    assert_eq!(
        refusal(&["schedule", &model, "--symbol", "time=2"]),
        format!("{model}: there is no symbol `time`; the model has `batch`")
    );
    let output = lumina(&["schedule", &model, "--symbol", "batch"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("expected NAME=N, such as batch=8, got `batch`"), "{text}");
}
