//! What was measured, for people.

use std::fmt::Write;
use std::time::Duration;

use super::report::share;
use super::{Benchmark, NodeCost, ROUND};
use crate::inspect::{printable, size};

impl Benchmark {
    /// All of it as lines of text.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { start, memory, limit, .. } = self;
        let mut what = Vec::new();
        if !self.entry.is_empty() {
            what.push(format!("entry point {}", printable(&self.entry)));
        }
        what.extend(self.symbols.iter().map(|(name, n)| format!("{} = {n}", printable(name))));
        let threads = limit.threads;
        what.push(format!("{threads} thread{}", if threads == 1 { "" } else { "s" }));
        writeln!(out, "{}", what.join(", "))?;
        for input in &self.inputs {
            let (name, bytes) = (printable(&input.name), size(input.bytes as u64));
            writeln!(out, "  input  {name}: {}, {bytes}, {}", input.fact, input.from)?;
        }
        if self.states > 0 {
            let states = self.states;
            writeln!(out, "  states: {states}, which begin anew after {ROUND} runs")?;
        }
        writeln!(out, "\nstart   {}", time(start.total()))?;
        writeln!(
            out,
            "        read {}, check {}, threads {}, plan {}, first run {}",
            time(start.read),
            time(start.check),
            time(start.session),
            time(start.plan),
            time(start.first_run)
        )?;
        match &self.steady {
            None => writeln!(out, "steady  interrupted before a run was measured")?,
            Some(it) => {
                let rows = self.batch.as_ref().map_or(String::new(), |(_, rows)| {
                    format!(", {} rows/s", figure(*rows as f64 / it.mean()))
                });
                writeln!(
                    out,
                    "steady  median {}, mean {}, 90 % {}, 99 % {}, {} to {}",
                    time(it.p50),
                    seconds(it.mean()),
                    time(it.p90),
                    time(it.p99),
                    time(it.min),
                    time(it.max)
                )?;
                let (each, runs) = (figure(1.0 / it.mean()), it.runs);
                let stop = if self.interrupted { "; interrupted" } else { "" };
                let before = it.warm_up_runs;
                writeln!(out, "        {each} runs/s{rows}; {runs} runs after {before}{stop}")?;
            }
        }
        let peak = memory
            .peak_rss
            .map_or(String::new(), |bytes| format!("; process at most {}", size(bytes)));
        let [file, buffers, states, kept] =
            [memory.file, memory.buffers, memory.states, memory.kept].map(|n| size(n as u64));
        writeln!(
            out,
            "memory  file {file}, buffers {buffers}, states {states}, kept of weights {kept}{peak}"
        )?;
        let rates = self.steady.as_ref().map_or(String::new(), |it| {
            let median = it.p50.as_secs_f64();
            let (flops, bytes) = (limit.flops / median, limit.bytes / median);
            format!(": {}, {}", rate(flops, "FLOP/s"), rate(bytes, "B/s"))
        });
        let (flops, bytes) = (rate(limit.flops, "FLOP"), rate(limit.bytes, "B"));
        writeln!(out, "work    {flops} and {bytes} a run{rates}")?;
        let share =
            limit.share.map_or(String::new(), |share| format!(", {} of it", percent(share)));
        writeln!(out, "limit   {} a run{share}", seconds(limit.seconds))?;
        writeln!(
            out,
            "        {} float32, {} int8, {} from memory, {} from the {} that a run goes over",
            rate(limit.float32, "FLOP/s"),
            rate(limit.int8, "FLOP/s"),
            rate(limit.memory, "B/s"),
            rate(limit.bandwidth, "B/s"),
            size(limit.working_set as u64)
        )?;
        if self.nodes.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nnodes   of {} runs", self.profiled_runs)?;
        self.write_nodes(out)?;
        match self.idle_nodes {
            0 => Ok(()),
            idle => writeln!(out, "  {idle} more take no time: views, and what was computed once"),
        }
    }

    fn write_nodes(&self, out: &mut String) -> std::fmt::Result {
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.nodes.iter().map(|node| row(node, self)));
        let between = self.profiled.saturating_sub(self.nodes.iter().map(|node| node.time).sum());
        let mut last = [(); COLUMNS].map(|()| String::new());
        last[1] = "between them".into();
        last[4] = seconds(between.as_secs_f64() / self.profiled_runs as f64);
        last[5] = share(between, self.profiled).map_or_else(String::new, percent);
        rows.push(last);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
        for row in &rows {
            let cell = |(column, cell): (usize, &String)| match column {
                // Words on the left, numbers on the right.
                0..3 | LAST => format!("{cell:<0$}", widths[column]),
                _ => format!("{cell:>0$}", widths[column]),
            };
            let line: Vec<String> = row.iter().enumerate().map(cell).collect();
            writeln!(out, "  {}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

const COLUMNS: usize = 12;
const LAST: usize = COLUMNS - 1;
const HEAD: [&str; COLUMNS] = [
    "node", "op", "outputs", "calls", "time", "share", "FLOP", "bytes", "FLOP/s", "B/s",
    "of limit", "source",
];

fn row(node: &NodeCost, of: &Benchmark) -> [String; COLUMNS] {
    let runs = of.profiled_runs;
    let none = || "-".to_owned();
    let of_call = |amount: u64, unit| match amount {
        0 => none(),
        amount => rate(amount as f64, unit),
    };
    let per_second = |amount: u64| match node.rate(amount as f64) {
        Some(per_second) if amount > 0 => rate(per_second, ""),
        _ => none(),
    };
    let limit = node.rate(node.limit_seconds).filter(|_| node.limit_seconds > 0.0);
    [
        printable(&node.node),
        printable(&node.op),
        node.outputs.clone(),
        figure(node.calls as f64 / runs as f64),
        seconds(node.time.as_secs_f64() / runs as f64),
        share(node.time, of.profiled).map_or_else(none, percent),
        of_call(node.flops, ""),
        of_call(node.bytes, ""),
        per_second(node.flops),
        per_second(node.bytes),
        limit.map_or_else(none, percent),
        printable(&node.source),
    ]
}

fn time(time: Duration) -> String {
    seconds(time.as_secs_f64())
}

/// Seconds with a unit: `12.3 ms`.
fn seconds(seconds: f64) -> String {
    let (number, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    format!("{} {unit}", figure(number))
}

/// A number with the prefix of a unit: `12.3 GFLOP/s`.
fn rate(number: f64, unit: &str) -> String {
    let (number, prefix) = match number {
        n if n >= 999.5e9 => (n / 1e12, "T"),
        n if n >= 999.5e6 => (n / 1e9, "G"),
        n if n >= 999.5e3 => (n / 1e6, "M"),
        n if n >= 999.5 => (n / 1e3, "k"),
        n => (n, ""),
    };
    format!("{} {prefix}{unit}", figure(number)).trim_end().to_owned()
}

fn percent(share: f64) -> String {
    format!("{} %", figure(share * 100.0))
}

/// Three digits, or all that stand before the point, behind which nothing stands that is zero.
fn figure(number: f64) -> String {
    match number.abs() {
        n if n.fract() == 0.0 || n >= 99.95 => format!("{number:.0}"),
        n if n >= 9.995 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let numbers = [0.0, 0.001, 1.0, 9.994, 9.996, 99.94, 99.96, 123_456.7];
        let texts = ["0", "0.00", "1", "9.99", "10.0", "99.9", "100", "123457"];
        assert_eq!(numbers.map(figure), texts);
    }

    #[test]
    fn units_have_prefixes() {
        assert_eq!(rate(999.4, "B"), "999 B");
        assert_eq!(rate(999.6, "B"), "1.00 kB");
        assert_eq!(rate(2.5e12, "FLOP/s"), "2.50 TFLOP/s");
        assert_eq!(rate(12.0, ""), "12");
        let times = [0.0, 1.5e-6, 0.0123, 2.0].map(seconds);
        assert_eq!(times, ["0 µs", "1.50 µs", "12.3 ms", "2 s"]);
        assert_eq!(percent(0.4123), "41.2 %");
    }
}
