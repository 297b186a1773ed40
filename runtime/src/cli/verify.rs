//! `lumina verify`: do the test vectors come out as training computed them?

use std::process::ExitCode;
use std::sync::Arc;

use lumina_runtime::{Comparison, printable, verify};
use serde_json::json;

use crate::console::print;
use crate::model_file::ModelFile;
use crate::{Failure, Resources};

pub(crate) const EXAMPLES: &str = "\
Examples:
  lumina verify net.lmn
  lumina verify net.lmn --json --threads 1";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelFile,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    resources: Resources,
}

impl Arguments {
    pub(crate) fn execute(&self) -> Result<ExitCode, Failure> {
        let model = Arc::new(self.model.load()?);
        let comparisons =
            verify(&model, self.resources.options()).map_err(Failure::of(&self.model.path))?;
        let passed = comparisons.iter().all(|comparison| comparison.passed);
        let text = if self.json { as_json(&comparisons, passed) } else { as_text(&comparisons) };
        print(&(text + "\n")).map_err(Failure::Usage)?;
        Ok(ExitCode::from(u8::from(!passed)))
    }
}

fn as_json(comparisons: &[Comparison], passed: bool) -> String {
    let outputs: Vec<_> = comparisons
        .iter()
        .map(|comparison| {
            json!({
                "vector": comparison.vector,
                "output": comparison.output,
                // JSON has no infinity; it becomes null.
                "max_abs_diff": comparison.max_abs_diff,
                "passed": comparison.passed,
            })
        })
        .collect();
    json!({ "passed": passed, "outputs": outputs }).to_string()
}

fn as_text(comparisons: &[Comparison]) -> String {
    let lines: Vec<String> = comparisons
        .iter()
        .map(|comparison| {
            let verdict = if comparison.passed { "PASS" } else { "FAIL" };
            format!(
                "{verdict}  vector {}  output `{}`  max |Δ| = {:e}",
                comparison.vector,
                printable(&comparison.output),
                comparison.max_abs_diff
            )
        })
        .collect();
    lines.join("\n")
}
