//! Where commands write: stdout through a buffer, stderr line by line. Called by every command.

use std::io::{self, BufWriter, Write};

/// What a command prints. Errors come back: a closed pipe is not a failure, `main` knows.
pub(super) struct Output(BufWriter<Box<dyn Write>>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::new(Box::new(io::stdout())))
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.0, "{}", text.trim_end_matches('\n'))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// To whoever watches stderr; if nobody does, there is nobody to tell.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}
