//! Where commands write: stdout through a buffer, stderr line by line; no terminal obeys what is in it. Called by every
//! command.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};

/// What a command prints. Errors come back: a closed pipe is not a failure, `main` knows.
pub(super) struct Output(BufWriter<Box<dyn Write>>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::new(Box::new(io::stdout())))
    }

    #[cfg(test)]
    pub(super) fn to(writer: impl Write + 'static) -> Self {
        Self(BufWriter::new(Box::new(writer)))
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.0, "{}", printable(text.trim_end_matches('\n')))
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Of one command; who can do something about them begins with the first.
const MOST_WARNINGS: usize = 50;

/// A line each.
pub(super) fn warn(warnings: &[String]) {
    for line in warning_lines(warnings) {
        complain(&line);
    }
}

fn warning_lines(warnings: &[String]) -> Vec<String> {
    let first = warnings.iter().take(MOST_WARNINGS);
    let mut lines: Vec<String> = first.map(|warning| format!("warning: {warning}")).collect();
    if warnings.len() > lines.len() {
        lines.push(format!("warning: and {} more", warnings.len() - lines.len()));
    }
    lines
}

/// To whoever watches stderr; if nobody does, there is nobody to tell.
pub(super) fn complain(text: &str) {
    drop(writeln!(io::stderr(), "{}", printable(text)));
}

/// What others wrote is shown and not obeyed: control characters become `\u001b` and the like, as JSON and YAML write them.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(commands) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if commands(character) {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Does a terminal obey it, rather than show it?
fn commands(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_a_line_each_up_to_a_limit() {
        let warnings: Vec<String> = (0..60).map(|index| format!("Service/default/{index}: idle")).collect();
        assert_eq!(warning_lines(&warnings[..1]), ["warning: Service/default/0: idle"]);
        let lines = warning_lines(&warnings);
        assert_eq!(lines.len(), MOST_WARNINGS + 1);
        assert_eq!(lines.last().map(String::as_str), Some("warning: and 10 more"));
    }

    #[test]
    fn nothing_of_what_is_shown_moves_the_cursor() {
        let shown = printable("a\u{1b}[2Jb\u{9b}1Ad\re\tf\ng\u{7f} é");
        assert_eq!(shown, "a\\u001b[2Jb\\u009b1Ad\\u000de\tf\ng\\u007f é");
        assert!(matches!(printable("as it is\n"), Cow::Borrowed(_)));
    }
}
