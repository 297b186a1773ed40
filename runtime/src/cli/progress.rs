//! How far a long run is: a line on the terminal, which is written over and goes when the run ends.

use std::io::{self, IsTerminal as _, Stderr, Write};
use std::time::{Duration, Instant};

use crate::pieces::Whole;

/// A run that takes no longer says nothing.
const LONG: Duration = Duration::from_secs(1);
/// Time from line to line.
const PAUSE: Duration = Duration::from_millis(100);
const WIDTH: usize = 24;

/// The line.
pub(crate) struct Progress<W: Write> {
    /// None where nobody looks.
    sink: Option<W>,
    total: usize,
    /// What is counted.
    unit: &'static str,
    begin: Instant,
    next: Duration,
    is_shown: bool,
}

impl Progress<Stderr> {
    /// Of a run that makes that whole, on standard error where that is a terminal.
    pub(crate) fn on_terminal(whole: Whole, is_wanted: bool) -> Self {
        let sink = (is_wanted && io::stderr().is_terminal()).then(io::stderr);
        match whole {
            Whole::Piece => Self::new(None, 0, "", LONG),
            Whole::Rows(total) => Self::new(sink, total, "rows", LONG),
            Whole::Steps(total) => Self::new(sink, total, "steps", LONG),
        }
    }

    /// Of what is counted in percent, on standard error where that is a terminal.
    pub(crate) fn of_percent(is_wanted: bool) -> Self {
        let sink = (is_wanted && io::stderr().is_terminal()).then(io::stderr);
        Self::new(sink, 100, "%", LONG)
    }
}

impl<W: Write> Progress<W> {
    fn new(sink: Option<W>, total: usize, unit: &'static str, long: Duration) -> Self {
        Self { sink, total, unit, begin: Instant::now(), next: long, is_shown: false }
    }

    /// Says that so many are done.
    pub(crate) fn at(&mut self, done: usize) {
        let Some(sink) = &mut self.sink else { return };
        let time = self.begin.elapsed();
        if time < self.next || done == 0 {
            return;
        }
        self.next = time + PAUSE;
        self.is_shown = true;
        let share = done as f64 / self.total as f64;
        let left = time.as_secs_f64() * (1.0 / share - 1.0);
        let bar = "=".repeat((share * WIDTH as f64) as usize);
        let (total, unit) = (self.total, self.unit);
        // To the first column, and, once it is written, what is behind it goes.
        let line = format!("\r[{bar:<WIDTH$}] {done}/{total} {unit}, {} left\x1b[K", time_of(left));
        let _ = sink.write_all(line.as_bytes()).and_then(|()| sink.flush());
    }

    /// Takes the line away, for something else to be written there.
    pub(crate) fn clear(&mut self) {
        if let Some(sink) = self.sink.as_mut().filter(|_| self.is_shown) {
            let _ = sink.write_all(b"\r\x1b[K").and_then(|()| sink.flush());
        }
        self.is_shown = false;
    }
}

impl<W: Write> Drop for Progress<W> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Seconds in words: `3 h 20 min`.
fn time_of(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(long: Duration) -> String {
        let mut terminal = Vec::new();
        let mut progress = Progress::new(Some(&mut terminal), 4, "rows", long);
        progress.at(0);
        progress.at(1);
        progress.next = long;
        progress.at(3);
        progress.clear();
        drop(progress);
        String::from_utf8(terminal).unwrap()
    }

    #[test]
    fn lines_write_over_each_other_and_go() {
        let text = written(Duration::ZERO);
        let lines: Vec<&str> = text.split('\r').collect();
        let [first, second, last] = ["", "[======                  ] 1/4 rows, ", "\x1b[K"];
        assert_eq!((lines[0], lines.len(), lines[3]), (first, 4, last), "{text:?}");
        assert!(lines[1].starts_with(second) && lines[1].ends_with(" s left\x1b[K"), "{text:?}");
        assert!(lines[2].starts_with("[==================      ] 3/4 rows, "), "{text:?}");
    }

    #[test]
    fn a_short_run_says_nothing() {
        assert_eq!(written(Duration::from_secs(3600)), "");
    }

    #[test]
    fn times_are_told_in_words() {
        let times = [0.2, 59.0, 61.0, 12_000.0].map(time_of);
        assert_eq!(times, ["1 s", "59 s", "1 min 1 s", "3 h 20 min"]);
    }
}
