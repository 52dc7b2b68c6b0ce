//! One child process: its log is kept for failure messages, its addresses are read from its `listening NAME=ADDR` lines,
//! and it ends with the value. Called by `mesh`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines kept of each process.
const KEPT_LINES: usize = 400;

pub struct Process {
    name: String,
    child: Child,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

#[derive(Default)]
struct Seen {
    addresses: BTreeMap<String, SocketAddr>,
    stderr: Vec<String>,
    stdout: Vec<String>,
    ended: bool,
}

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Process {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
        let stderr = child.stderr.take().expect("stderr is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        keep(stderr, seen.clone(), true);
        keep(stdout, seen.clone(), false);
        Process {
            name: name.to_owned(),
            child,
            seen,
        }
    }

    /// The address that the process said it listens on. Blocks the caller, at most `limit`.
    pub fn address(&self, listener: &str, limit: Duration) -> SocketAddr {
        let started = Instant::now();
        let (seen, changed) = &*self.seen;
        let mut seen = lock(seen);
        loop {
            if let Some(address) = seen.addresses.get(listener) {
                return *address;
            }
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() || seen.ended {
                let log = seen.stderr.join("\n");
                drop(seen);
                panic!("{} did not say where `{listener}` listens; its log:\n{log}", self.name);
            }
            seen = changed
                .wait_timeout(seen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        lock(&self.seen.0).stderr.join("\n")
    }

    pub fn stdout(&self) -> Vec<String> {
        lock(&self.seen.0).stdout.clone()
    }

    /// Sends `TERM`, `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.id().to_string()])
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{} is not there any more",
            self.name
        );
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Resident memory, from the kernel's own account.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        line.split_whitespace()
            .next()
            .and_then(|kb| kb.parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.log());
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(stream: impl Read + Send + 'static, seen: Arc<(Mutex<Seen>, Condvar)>, is_stderr: bool) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let line = without_colour(&line);
            let mut kept = lock(&seen.0);
            kept.addresses.extend(addresses(&line));
            let lines = if is_stderr { &mut kept.stderr } else { &mut kept.stdout };
            if lines.len() == KEPT_LINES {
                lines.remove(0);
            }
            lines.push(line);
            drop(kept);
            seen.1.notify_all();
        }
        if is_stderr {
            lock(&seen.0).ended = true;
            seen.1.notify_all();
        }
    });
}

fn addresses(line: &str) -> Vec<(String, SocketAddr)> {
    let Some((_, said)) = line.split_once("listening ") else {
        return Vec::new();
    };
    let pairs = said.split_whitespace().filter_map(|word| word.split_once('='));
    pairs
        .filter_map(|(name, address)| Some((name.to_owned(), address.trim_matches('"').parse().ok()?)))
        .collect()
}

fn without_colour(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_a_coloured_log_line() {
        let line = without_colour("\u{1b}[2m2026\u{1b}[0m INFO x: listening http=127.0.0.1:80 grpc=127.0.0.1:81");
        let found = addresses(&line);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].1.port(), 81);
    }
}
