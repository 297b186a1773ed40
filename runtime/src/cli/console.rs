//! What is printed.

use std::io::{self, Write as _};

/// Prints on standard output, and says whether there is a reader: one that closes the pipe has seen
/// enough.
pub(crate) fn print(text: &str) -> Result<bool, String> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result
            .map(|()| true)
            .map_err(|error| format!("cannot write to standard output: {error}")),
    }
}

/// Prints a line on standard error; where that takes none, nobody reads it.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
