//! What the demo shows. On a terminal a table is drawn again while its numbers change, and there are colours unless
//! `NO_COLOR` is set; anywhere else only final lines are written, plainly. Called by the acts.

use std::io::{self, IsTerminal, Write};

use super::super::table;

const INDENT: &str = "   ";
/// Narrower, and a line that is drawn again might have been wrapped.
const LIVE_WIDTH: u16 = 80;
const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

pub(super) struct Screen {
    output: Box<dyn Write>,
    live: bool,
    colour: bool,
    /// Lines of the table that the next one replaces.
    drawn_lines: usize,
}

pub(super) struct Rows {
    pub(super) header: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
}

impl Screen {
    pub(super) fn stdout() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let live = terminal && width() >= LIVE_WIDTH;
        Self::new(Box::new(io::stdout()), live, terminal && !no_color)
    }

    pub(super) fn new(output: Box<dyn Write>, live: bool, colour: bool) -> Self {
        Self {
            output,
            live,
            colour,
            drawn_lines: 0,
        }
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        self.erase()?;
        writeln!(self.output, "{text}")?;
        self.output.flush()
    }

    /// A line that belongs to an act.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        self.line(&format!("{INDENT}{text}"))
    }

    /// A remark besides.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        let text = self.painted(DIM, text);
        self.say(&text)
    }

    pub(super) fn act(&mut self, number: u8, title: &str) -> io::Result<()> {
        let title = self.painted(BOLD, title);
        self.line(&format!("\n{number}  {title}"))
    }

    pub(super) fn verdict(&mut self, kept: bool, text: &str) -> io::Result<()> {
        let word = match kept {
            true => self.painted(GREEN, "ok"),
            false => self.painted(RED, "NOT AS TOLD"),
        };
        self.say(&format!("{word}: {text}"))
    }

    /// A table whose numbers still change: drawn on a terminal only, and replaced by whatever is shown next.
    pub(super) fn draw(&mut self, rows: Rows) -> io::Result<()> {
        if !self.live {
            return Ok(());
        }
        self.erase()?;
        let text = rows.text();
        self.drawn_lines = text.lines().count();
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    pub(super) fn table(&mut self, rows: Rows) -> io::Result<()> {
        self.erase()?;
        self.output.write_all(rows.text().as_bytes())?;
        self.output.flush()
    }

    fn erase(&mut self) -> io::Result<()> {
        match std::mem::take(&mut self.drawn_lines) {
            0 => Ok(()),
            // Up to the first line, and clear from there.
            lines => write!(self.output, "\x1b[{lines}A\r\x1b[J"),
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        match self.colour {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

impl Rows {
    fn text(self) -> String {
        let table = table::render(self.header, self.rows);
        table.lines().map(|line| format!("{INDENT}{line}\n")).collect()
    }
}

fn width() -> u16 {
    rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| size.ws_col)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("one thread").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(terminal: bool) -> String {
        let written = Written::default();
        let mut screen = Screen::new(Box::new(written.clone()), terminal, terminal);
        let rows = |number: &str| Rows {
            header: &["N"],
            rows: vec![vec![number.to_owned()]],
        };
        screen.act(2, "Counting").expect("memory takes it");
        screen.draw(rows("1")).expect("memory takes it");
        screen.table(rows("2")).expect("memory takes it");
        screen.verdict(true, "counted").expect("memory takes it");
        let bytes = written.0.lock().expect("one thread").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_pipe_gets_final_lines_without_colours() {
        assert_eq!(shown(false), "\n2  Counting\n   N\n   2\n   ok: counted\n");
    }

    #[test]
    fn a_terminal_gets_a_table_that_is_drawn_again() {
        let text = shown(true);
        assert!(text.contains("   N\n   1\n\x1b[2A\r\x1b[J   N\n   2\n"), "{text:?}");
        assert!(text.contains("\x1b[32mok\x1b[0m: counted"), "{text:?}");
    }
}
