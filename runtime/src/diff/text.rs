//! Differences for people.

use std::fmt;

use serde_json::Value;

use super::numbers::Numeric;
use super::{Change, Diff, Kind};
use crate::printable;

/// Characters of a value that are shown.
const MAX_WORD: usize = 120;

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str(match self.is_same {
                true => "the files are the same",
                false => "alike: only what a run does not see differs, such as lines of sources",
            });
        }
        for (index, (name, changes)) in self.parts.iter().enumerate() {
            let before = if index == 0 { "" } else { "\n\n" };
            write!(f, "{before}{}", printable(name))?;
            for change in changes {
                write!(f, "\n  {change}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{sign} {}", printable(&self.what))?;
        let details =
            self.details.iter().map(|(name, a, b)| format!("{name} {} → {}", word(a), word(b)));
        let parts: Vec<String> =
            details.chain(self.numeric.as_ref().map(Numeric::to_string)).collect();
        match parts.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", printable(&parts.join("; "))),
        }
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, differ, nonfinite, max_abs, rms, sqnr_db } = self;
        write!(f, "{differ} of {count} numbers differ")?;
        if *nonfinite > 0 {
            write!(f, ", {nonfinite} of them not finite")?;
        }
        if *max_abs > 0.0 {
            write!(f, ", max |Δ| {max_abs:.3e}, rms Δ {rms:.3e}, SQNR {sqnr_db:.1} dB")?;
        }
        Ok(())
    }
}

/// A value as a word, of a long one the beginning.
fn word(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".into(),
        Value::String(text) if text.is_empty() => "\"\"".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(MAX_WORD) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
