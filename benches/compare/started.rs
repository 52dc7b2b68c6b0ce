//! A process that this benchmark started: its output goes to a file, and it ends with the value, its children too. All of
//! them are listed, so that Ctrl-C ends them as well.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::Outcome;

static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// A process that has read ten thousand clusters listens within this.
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Started {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Started {
    /// `folder` gets NAME.log.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Outcome<Started> {
        let output = folder.join(format!("{name}.log"));
        let describe = |error: std::io::Error| format!("{name} does not start: {error}");
        let file = File::create(&output).map_err(describe)?;
        command
            .stdin(Stdio::null())
            .stderr(file.try_clone().map_err(describe)?)
            .stdout(file);
        // Held until the process is listed: Ctrl-C in between must not miss it.
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.spawn().map_err(describe)?;
        running.push(child.id());
        Ok(Started {
            name: name.to_owned(),
            child,
            output,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Worker processes, where it has any.
    pub fn children(&self) -> Vec<u32> {
        children(self.id())
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Returns once `address` accepts connections.
    pub fn wait_for(&mut self, address: SocketAddr) -> Outcome<()> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || started.elapsed() > START_LIMIT {
                return Err(format!("{} does not listen; its log:\n{}", self.name, self.output()));
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until it ends by itself, which must be within `limit`, and returns its output.
    pub fn finish(mut self, limit: Duration) -> Outcome<String> {
        let started = Instant::now();
        loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) if status.success() => return Ok(self.output()),
                Some(status) => return Err(format!("{}: {status}\n{}", self.name, self.output())),
                None if started.elapsed() > limit => return Err(format!("{} did not end in {limit:?}", self.name)),
                None => sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|id| *id != self.child.id());
        // The identifier of a process that ended and was waited for may be someone else's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            end(self.child.id());
            self.child.wait().ok();
        }
    }
}

/// For Ctrl-C, which runs no destructor.
pub fn end_all() {
    let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    for id in running.iter() {
        end(*id);
        // Nobody else will, and not every first process of a container does.
        waitpid(pid(*id), WaitOptions::empty()).ok();
    }
}

fn end(id: u32) {
    let workers = children(id);
    if !workers.is_empty() {
        // Asked first, so that it ends its workers itself and waits for them.
        send(id, Signal::TERM);
        let ended = (0..100).any(|_| {
            sleep(Duration::from_millis(10));
            children(id).is_empty()
        });
        if !ended {
            workers.into_iter().for_each(|worker| send(worker, Signal::KILL));
        }
    }
    send(id, Signal::KILL);
}

fn send(id: u32, signal: Signal) {
    if let Some(pid) = pid(id) {
        kill_process(pid, signal).ok();
    }
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

fn children(id: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}
