//! Counts the system calls of a process with strace, which slows it down: what is counted is right, the times are not.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tsunagi_benches::strace::calls;

pub struct Tracer(Child);

impl Tracer {
    /// `None`, after saying why: the ledger goes on without.
    pub fn attach(process: u32) -> Option<Tracer> {
        let mut command = Command::new("strace");
        command.args(["-c", "-f", "-p", &process.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => Some(Tracer(child)),
            Err(error) => {
                println!("system calls are not counted: strace: {error}");
                None
            }
        }
    }

    /// What it printed.
    pub fn detach(mut self) -> String {
        if let Some(id) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(id, Signal::INT).ok();
        }
        let mut output = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut output).ok();
        }
        self.0.wait().ok();
        output
    }
}

/// The calls that one request in a hundred makes, or more.
pub fn print_calls(output: &str, requests: u64) {
    let calls = calls(output);
    if calls.is_empty() {
        println!("strace counted nothing:\n{output}");
        return;
    }
    println!("| system call | a request |\n|---|---|");
    let a_request = |count: u64| count as f64 / requests.max(1) as f64;
    for (name, count) in calls.iter().filter(|(_, count)| a_request(*count) >= 0.01) {
        println!("| {name} | {:.2} |", a_request(*count));
    }
    let all = calls.iter().map(|(_, count)| count).sum();
    println!("| all | {:.2} |", a_request(all));
}
