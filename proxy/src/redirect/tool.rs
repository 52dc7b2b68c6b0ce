//! Running one of the packet filter's tools: its text in, its text out, its complaint as an error of this room.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Output, Stdio};

use super::error::RedirectError;

/// Where administrators' tools lie, for a user whose search path leaves them out.
const ADMIN_FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";
const LOCK_FILE: &str = "/run/xtables.lock";
/// Can be locked, and is there on a file system that cannot be written.
const SPARE_LOCK_FILE: &str = "/dev/null";

/// What the tool wrote to stdout.
pub(super) fn run(tool: &str, arguments: &[&str], input: &str) -> Result<String, RedirectError> {
    let output = output(tool, arguments, input).map_err(|source| RedirectError::Start {
        tool: tool.to_owned(),
        source,
    })?;
    if !output.status.success() {
        return Err(RedirectError::from_tool(tool, &String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn is_installed(tool: &str) -> bool {
    output(tool, &["--version"], "").is_ok_and(|output| output.status.success())
}

/// Of `iptables-save v1.8.9 (nf_tables)`; before 1.8 there was only the legacy kind, which said nothing.
pub(super) fn speaks_to_nf_tables(tool: &str) -> bool {
    output(tool, &["--version"], "").is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("nf_tables"))
}

fn output(tool: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new(tool);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .args(arguments)
        .env("PATH", format!("{path}:{ADMIN_FOLDERS}"))
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if !can_lock() {
        command.env("XTABLES_LOCKFILE", SPARE_LOCK_FILE);
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that stops reading says why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

/// As iptables itself opens it. Its processes wait for each other there; in a pod there are none besides us.
fn can_lock() -> bool {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(LOCK_FILE)
        .is_ok()
}
