//! A client that stays: it is told things, a line each, and what it says is read as it comes. It ends with the value.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::mpsc;
use tsunagi_tests::{LIMIT, Pod, within};

pub(crate) struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Session {
    /// Of a program in a pod. Its lines come one by one, although its output is no terminal.
    pub(crate) fn start(pod: &Pod, program: &str, arguments: &[&str]) -> Session {
        let mut command: Command = pod.command("stdbuf");
        command.args(["-oL", program]).args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let (sender, lines) = mpsc::unbounded_channel();
        keep(child.stdout.take().expect("stdout is piped"), sender.clone());
        keep(child.stderr.take().expect("stderr is piped"), sender);
        Session {
            stdin: child.stdin.take().expect("stdin is piped"),
            child,
            lines,
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the client reads");
    }

    /// Reads on to a line that contains this.
    pub(crate) async fn hear(&mut self, expected: &str) -> String {
        let mut heard = Vec::new();
        let reading = async {
            while let Some(line) = self.lines.recv().await {
                if line.contains(expected) {
                    return Some(line);
                }
                heard.push(line);
            }
            None
        };
        let line = within(&format!("{expected:?} from a client"), LIMIT, reading).await;
        assert!(line.is_some(), "a client ended without {expected:?}: {heard:?}");
        line.unwrap_or_default()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child").is_none()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn keep(stream: impl Read + Send + 'static, sender: mpsc::UnboundedSender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            sender.send(line).ok();
        }
    });
}
