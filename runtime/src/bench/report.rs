//! What was measured, for programs.

use std::fs;
use std::ops::Add as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::limits::Limits;
use super::nodes::NodeCost;
use crate::{Model, Session};

/// What [`bench`](super::bench) has measured.
#[derive(Clone, Debug)]
pub struct Benchmark {
    /// Name of the entry point; empty where it has none.
    pub entry: String,
    /// Name and value of each symbol.
    pub symbols: Vec<(String, u64)>,
    /// That of them which is axis 0 of the first input that has one there.
    pub batch: Option<(String, u64)>,
    /// What the model ran on.
    pub inputs: Vec<InputUsed>,
    /// Number of states, which go from run to run, and begin anew after [`ROUND`](super::ROUND) runs.
    pub states: usize,
    /// From the file to the first outputs.
    pub start: Start,
    /// Runs after some to warm up; None where it was interrupted before there was one.
    pub steady: Option<Latency>,
    /// Bytes.
    pub memory: Memory,
    /// What a run computes and moves, beside what the machine can do.
    pub limit: Limit,
    /// Nodes of the file that take no time: views, and what was computed once for all runs.
    pub idle_nodes: usize,
    /// The steps of a run in order, where they were asked for.
    pub nodes: Vec<NodeCost>,
    /// Runs in which steps were counted and timed.
    pub profiled_runs: usize,
    /// How long these runs took together, with what is between the steps.
    pub profiled: Duration,
    /// Whether whoever watched ended it early.
    pub interrupted: bool,
}

/// An input of the runs.
#[derive(Clone, Debug)]
pub struct InputUsed {
    /// Its name.
    pub name: String,
    /// Its type: "f32\[4,64\]".
    pub fact: String,
    /// Its bytes.
    pub bytes: usize,
    /// Where its elements come from: "test vector 0", "normal deviates".
    pub from: String,
}

/// From the file to the first outputs.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The bytes of the file are read, and their checksums compared.
    pub read: Duration,
    /// The graph is decoded and checked.
    pub check: Duration,
    /// Threads start.
    pub session: Duration,
    /// Shapes are inferred, buffers allocated and weights prepared.
    pub plan: Duration,
    /// The first run.
    pub first_run: Duration,
}

/// How long runs take, one like the other.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Runs that were measured, and those before them to warm up.
    pub runs: usize,
    /// Runs before them to warm up.
    pub warm_up_runs: usize,
    /// Sum over runs.
    pub total: Duration,
    /// The shortest.
    pub min: Duration,
    /// Half of the runs take no longer.
    pub p50: Duration,
    /// 90 % of the runs take no longer.
    pub p90: Duration,
    /// 99 % of the runs take no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of the file.
    pub file: usize,
    /// Of the values of a run.
    pub buffers: usize,
    /// Of the states.
    pub states: usize,
    /// Of what the session keeps of constants beside the file.
    pub kept: usize,
    /// That the process took at most until the limits were measured; None where the system does not
    /// tell.
    pub peak_rss: Option<u64>,
}

/// What a run computes and moves, beside what all threads of the session can do.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Threads of the session.
    pub threads: usize,
    /// Arithmetic operations of a run.
    pub flops: f64,
    /// Bytes that the steps of a run move.
    pub bytes: f64,
    /// Operations per second with float32.
    pub float32: f64,
    /// Operations per second with codes of 8 bits.
    pub int8: f64,
    /// Bytes per second that are read from beyond the caches.
    pub memory: f64,
    /// Bytes of the buffer by which that was measured.
    pub memory_buffer: usize,
    /// Bytes that runs go over.
    pub working_set: usize,
    /// Bytes per second of a buffer of that size that is read over and over.
    pub bandwidth: f64,
    /// Seconds that a run takes at least: of each step the longer one of its operations at their peak
    /// and its bytes at that bandwidth.
    pub seconds: f64,
    /// The part of the median that this is; None where no run was measured.
    pub share: Option<f64>,
}

impl Start {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.read + self.check + self.session + self.plan + self.first_run
    }
}

impl Latency {
    pub(super) fn of(times: &mut [Duration], warm_up_runs: usize) -> Option<Self> {
        times.sort_unstable();
        let (&min, &max) = (times.first()?, times.last()?);
        // The smallest time that so many percent of the runs do not exceed.
        let percentile = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
        Some(Self {
            runs: times.len(),
            warm_up_runs,
            total: times.iter().sum(),
            min,
            p50: percentile(50),
            p90: percentile(90),
            p99: percentile(99),
            max,
        })
    }

    /// Mean over runs, in seconds.
    pub fn mean(&self) -> f64 {
        self.total.as_secs_f64() / self.runs as f64
    }
}

impl Memory {
    pub(super) fn of(model: &Model, session: &Session) -> Self {
        let memory = session.memory();
        Self {
            file: model.file_len(),
            buffers: memory.buffers,
            states: memory.states,
            kept: memory.kept,
            peak_rss: peak_rss(),
        }
    }
}

/// The most bytes of memory that the process had, as Linux counts them.
fn peak_rss() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

impl Limit {
    pub(super) fn of(
        limits: &Limits,
        nodes: &[NodeCost],
        runs: usize,
        steady: Option<&Latency>,
    ) -> Self {
        let sum = |of: &dyn Fn(&NodeCost) -> f64| {
            // Of no numbers the sum would be -0.
            let all = nodes.iter().map(|node| of(node) * node.calls as f64).fold(0.0, f64::add);
            all / runs as f64
        };
        let seconds = sum(&|node| node.limit_seconds);
        Self {
            threads: limits.threads,
            flops: sum(&|node| node.flops as f64),
            bytes: sum(&|node| node.bytes as f64),
            float32: limits.float32,
            int8: limits.int8,
            memory: limits.memory.rate,
            memory_buffer: limits.memory.buffer,
            working_set: limits.working_set,
            bandwidth: limits.bandwidth,
            seconds,
            share: steady.map(|steady| seconds / steady.p50.as_secs_f64()),
        }
    }
}

impl Benchmark {
    /// All of it as JSON, with units in the names; what was not measured is null.
    pub fn to_json(&self) -> Value {
        let Self { start, memory, limit, .. } = self;
        let symbols: Map<String, Value> =
            self.symbols.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let inputs = self.inputs.iter().map(|input| {
            let InputUsed { name, fact, bytes, from } = input;
            json!({ "name": name, "type": fact, "bytes": bytes, "from": from })
        });
        let steady = self.steady.as_ref().map(|steady| {
            json!({
                "runs": steady.runs,
                "warm_up_runs": steady.warm_up_runs,
                "mean_ms": steady.mean() * 1e3,
                "min_ms": ms(steady.min),
                "p50_ms": ms(steady.p50),
                "p90_ms": ms(steady.p90),
                "p99_ms": ms(steady.p99),
                "max_ms": ms(steady.max),
                "runs_per_s": 1.0 / steady.mean(),
                "rows_per_s": self.batch.as_ref().map(|(_, rows)| *rows as f64 / steady.mean()),
            })
        });
        let rate = |amount: f64| self.steady.as_ref().map(|it| amount / it.p50.as_secs_f64() / 1e9);
        let nodes = self.nodes.iter().map(|node| node_json(node, self));
        json!({
            "entry": self.entry,
            "threads": limit.threads,
            "symbols": symbols,
            "batch": self.batch.as_ref().map(|(name, rows)| json!({ "name": name, "rows": rows })),
            "inputs": inputs.collect::<Vec<_>>(),
            "states": self.states,
            "start": {
                "read_ms": ms(start.read),
                "check_ms": ms(start.check),
                "session_ms": ms(start.session),
                "plan_ms": ms(start.plan),
                "first_run_ms": ms(start.first_run),
                "total_ms": ms(start.total()),
            },
            "steady": steady,
            "memory": {
                "file_bytes": memory.file,
                "buffer_bytes": memory.buffers,
                "state_bytes": memory.states,
                "kept_bytes": memory.kept,
                "process_peak_bytes": memory.peak_rss,
            },
            "work": {
                "flops": limit.flops,
                "bytes": limit.bytes,
                "gflop_per_s": rate(limit.flops),
                "gb_per_s": rate(limit.bytes),
            },
            "limit": {
                "float32_gflop_per_s": limit.float32 / 1e9,
                "int8_gflop_per_s": limit.int8 / 1e9,
                "memory_gb_per_s": limit.memory / 1e9,
                "memory_buffer_bytes": limit.memory_buffer,
                "working_set_bytes": limit.working_set,
                "working_set_gb_per_s": limit.bandwidth / 1e9,
                "run_ms": limit.seconds * 1e3,
                "share": limit.share,
            },
            "idle_nodes": self.idle_nodes,
            "profiled_runs": self.profiled_runs,
            "profiled_ms_per_run": ms(self.profiled) / self.profiled_runs as f64,
            "nodes": nodes.collect::<Vec<_>>(),
            "interrupted": self.interrupted,
        })
    }
}

fn node_json(node: &NodeCost, of: &Benchmark) -> Value {
    let runs = of.profiled_runs;
    json!({
        "node": node.node,
        "op": node.op,
        "source": node.source,
        "outputs": node.outputs,
        "calls_per_run": node.calls as f64 / runs as f64,
        "ms_per_run": ms(node.time) / runs as f64,
        "share": share(node.time, of.profiled),
        "flops_per_call": node.flops,
        "bytes_per_call": node.bytes,
        "numbers": node.numbers.name(),
        "gflop_per_s": node.rate(node.flops as f64).map(|rate| rate / 1e9),
        "gb_per_s": node.rate(node.bytes as f64).map(|rate| rate / 1e9),
        "limit_ms_per_call": node.limit_seconds * 1e3,
        "limit_share": node.rate(node.limit_seconds),
    })
}

impl NodeCost {
    /// What each call does, per second.
    pub(super) fn rate(&self, each: f64) -> Option<f64> {
        (!self.time.is_zero()).then(|| each * self.calls as f64 / self.time.as_secs_f64())
    }
}

/// The part of the whole; None where that is nothing.
pub(super) fn share(part: Duration, whole: Duration) -> Option<f64> {
    (!whole.is_zero()).then(|| part.as_secs_f64() / whole.as_secs_f64())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
