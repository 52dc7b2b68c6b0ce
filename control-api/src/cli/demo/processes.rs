//! The demo's children and their folder: started, watched, ended. Called by `mesh` and the demo itself.
//!
//! Each child is in a process group of its own, so that Ctrl-C reaches only the demo, which then ends them in order. What
//! they write goes into files of the folder. A child ends with the demo in every way: told by `end`, by being dropped, and
//! through `bound` when the demo is killed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use super::super::CliError;

/// For a child to say where it listens, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(15);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Of a dead child's log that are shown.
const LAST_LINES: usize = 15;

pub(super) struct Processes {
    folder: TempDir,
    program: PathBuf,
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
    deaths: mpsc::UnboundedSender<String>,
}

/// News of children that ended without being told to.
pub(super) struct Deaths(mpsc::UnboundedReceiver<String>);

/// A child that runs.
pub(super) struct Process {
    pub(super) name: String,
    pub(super) pid: u32,
    /// Its stderr.
    pub(super) log: PathBuf,
    /// Its stdout.
    pub(super) output: PathBuf,
}

impl Processes {
    pub(super) fn new() -> Result<(Self, Deaths), CliError> {
        let folder = tempfile::Builder::new()
            .prefix("tsunagi-demo-")
            .tempdir()
            .map_err(|error| CliError::Failed(format!("cannot make a folder for the demo: {error}")))?;
        let program = std::env::current_exe()
            .map_err(|error| CliError::Failed(format!("cannot find this program's own file: {error}")))?;
        let (deaths, news) = mpsc::unbounded_channel();
        let processes = Self {
            folder,
            program,
            running: JoinSet::new(),
            stop: watch::channel(false).0,
            deaths,
        };
        Ok((processes, Deaths(news)))
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of this program.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts a program; `file` names its logs in the folder.
    pub(super) fn start(&mut self, name: &str, file: &str, command: &[OsString]) -> Result<Process, CliError> {
        let (log, output) = (self.file(file, "log"), self.file(file, "out"));
        let child = self
            .spawn(command, &log, &output)
            .map_err(|error| CliError::Failed(format!("cannot start the {name}: {error}")))?;
        let process = Process {
            name: name.to_owned(),
            pid: child.id().unwrap_or_default(),
            log,
            output,
        };
        let describe = {
            let (name, pid, log) = (process.name.clone(), process.pid, process.log.clone());
            move |status: io::Result<ExitStatus>| obituary(&name, pid, &log, status)
        };
        let (stopped, deaths) = (self.stop.subscribe(), self.deaths.clone());
        self.running.spawn(watch_over(child, stopped, deaths, describe));
        Ok(process)
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{extension}"))
    }

    fn spawn(&self, program: &[OsString], log: &Path, output: &Path) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(["demo-process", "--parent", &std::process::id().to_string(), "--"])
            .args(program)
            .stdin(Stdio::null())
            .stdout(File::create(output)?)
            .stderr(File::create(log)?)
            .process_group(0)
            .kill_on_drop(true);
        // The user's own settings are for the user's own mesh.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TSUNAGI_") {
                command.env_remove(name);
            }
        }
        command.spawn()
    }

    /// Ends every child and removes the folder; how many there were. Dropping it half-way leaves the rest to `Drop`.
    pub(super) async fn end(mut self) -> usize {
        let count = self.running.len();
        self.stop.send_replace(true);
        while self.running.join_next().await.is_some() {}
        drop(self.folder.close());
        count
    }
}

impl Deaths {
    /// Never returns while all is well.
    pub(super) async fn next(&mut self) -> String {
        match self.0.recv().await {
            Some(death) => death,
            None => std::future::pending().await,
        }
    }
}

impl Process {
    /// The addresses that it says it listens on, by name.
    pub(super) async fn addresses<const N: usize>(&self, names: [&str; N]) -> Result<[SocketAddr; N], CliError> {
        let started = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let found: Vec<SocketAddr> = names.iter().filter_map(|name| address(&log, name)).collect();
            if let Ok(addresses) = found.try_into() {
                return Ok(addresses);
            }
            if started.elapsed() > START_LIMIT {
                let limit = START_LIMIT.as_secs();
                return Err(CliError::Failed(format!(
                    "the {} did not say within {limit} s where it listens; its log ends:\n{}",
                    self.name,
                    last_lines(&log)
                )));
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Until the child dies, which is news, or is told to.
async fn watch_over(
    mut child: Child,
    mut stopped: watch::Receiver<bool>,
    deaths: mpsc::UnboundedSender<String>,
    describe: impl FnOnce(io::Result<ExitStatus>) -> String,
) {
    tokio::select! {
        _ = stopped.changed() => {
            // What it keeps is thrown away with the folder: nothing to wait for.
            drop(child.kill().await);
        }
        status = child.wait() => {
            // Without a receiver the demo is over.
            drop(deaths.send(describe(status)));
        }
    }
}

fn obituary(name: &str, pid: u32, log: &Path, status: io::Result<ExitStatus>) -> String {
    let how = match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let log = fs::read_to_string(log).unwrap_or_default();
    let end = last_lines(&log);
    format!("the {name} (pid {pid}) ended by itself: {how}; its log ends:\n{end}")
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// From a complete line with `listening NAME=ADDRESS`.
fn address(log: &str, name: &str) -> Option<SocketAddr> {
    let complete = &log[..=log.rfind('\n')?];
    complete.lines().find_map(|line| {
        let (_, said) = line.split_once("listening ")?;
        let mut pairs = said.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.find(|(found, _)| *found == name)?.1.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_once_its_line_is_complete() {
        let log = "INFO x: listening http=127.0.0.1:80\nlistening grpc=127.0.0.1:81 control=127.0.0.1:8";
        assert_eq!(address(log, "http"), Some(SocketAddr::from(([127, 0, 0, 1], 80))));
        assert_eq!(address(log, "control"), None);
        let whole = format!("{log}2\n");
        assert_eq!(address(&whole, "control"), Some(SocketAddr::from(([127, 0, 0, 1], 82))));
        assert_eq!(address("", "http"), None);
    }

    #[test]
    fn only_the_end_of_a_log_is_shown() {
        let log: String = (1..=40).map(|line| format!("{line}\n")).collect();
        let shown = last_lines(&log);
        assert!(shown.starts_with("26\n") && shown.ends_with("\n40"), "{shown}");
    }
}
