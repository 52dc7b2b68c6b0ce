//! Whether the application of this pod still runs, by what it leaves in the kernel's tables: the sockets of this network
//! namespace that belong to another user than the proxy, and, where the pod shares its processes, the processes.
//!
//! Called by `leaving` and `ending` (sockets), and by `app` for `--exit-with-application` (processes). Only while the
//! proxy ends are sockets looked at; processes once a second.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

/// Without any socket: a worker that calls somebody now and then has none in between.
const ABSENCE: Duration = Duration::from_secs(1);
/// How often sockets are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// One part of so many of the time goes into looking at very many sockets, at most.
const LOOK_SHARE: u32 = 4;
const PROCESS_INTERVAL: Duration = Duration::from_secs(1);
/// Looks at processes in a row that must find nobody: the next container of a pod may just be starting.
const LOOKS_WITHOUT_ANYBODY: u32 = 5;
/// In `/proc/net/tcp`: both sides have ended it.
const TIME_WAIT: &str = "06";
/// This program, also as a hook (`tsunagi-proxy wait`) in the application's container.
const OWN_NAME: &str = "tsunagi-proxy";

/// The sockets of everybody else in this network namespace.
#[derive(Debug, Clone)]
pub(super) struct Application {
    tables: Vec<PathBuf>,
    own_uid: u32,
}

impl Application {
    pub(super) fn of_this_pod() -> Application {
        Application {
            tables: ["/proc/net/tcp", "/proc/net/tcp6"].map(PathBuf::from).to_vec(),
            own_uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// That has never been there.
    #[cfg(test)]
    pub(super) fn absent() -> Application {
        Application {
            tables: Vec::new(),
            own_uid: 0,
        }
    }

    /// It neither listens nor has a connection, be it half open or half closed. What cannot be read says nothing about that.
    pub(super) fn is_gone(&self) -> bool {
        let has_sockets = |table: &PathBuf| match open(table).and_then(|table| has_foreign_socket(table, self.own_uid))
        {
            Ok(found) => found,
            // Without IPv6 there is no table of it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::debug!(table = %table.display(), %error, "cannot tell whether the application has exited");
                true
            }
        };
        !self.tables.iter().any(has_sockets)
    }

    /// Returns once it has been gone for a while. Dropping this changes nothing.
    pub(super) async fn gone(&self) {
        let mut gone_since = None;
        loop {
            let began = Instant::now();
            if !self.is_gone() {
                gone_since = None;
            } else if began.duration_since(*gone_since.get_or_insert(began)) >= ABSENCE {
                return;
            }
            sleep_until(began + LOOK_INTERVAL.max(began.elapsed() * LOOK_SHARE)).await;
        }
    }
}

fn open(table: &Path) -> io::Result<BufReader<File>> {
    File::open(table).map(BufReader::new)
}

/// One line for each socket; the first is the heading.
fn has_foreign_socket(mut table: impl BufRead, own_uid: u32) -> io::Result<bool> {
    let mut line = String::new();
    loop {
        line.clear();
        if table.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let mut words = line.split_whitespace();
        let (state, uid, inode) = (words.nth(3), words.nth(3), words.nth(1));
        let alive = state.is_some_and(|state| state != TIME_WAIT);
        // A connection that nobody has accepted yet, or that its owner has closed, belongs to nobody: to whom it did is not
        // told any more, and it may have been the proxy.
        if alive
            && inode != Some("0")
            && uid
                .and_then(|uid| uid.parse::<u32>().ok())
                .is_some_and(|uid| uid != own_uid)
        {
            return Ok(true);
        }
    }
}

/// Returns when processes of others have come and all of them have gone. Dropping this changes nothing.
pub(super) async fn come_and_gone() {
    if std::process::id() == 1 {
        tracing::warn!(
            "--exit-with-application sees no other process: the pod needs shareProcessNamespace: true; nothing is waited for"
        );
        return std::future::pending().await;
    }
    let others = || has_others(Path::new("/proc"), std::process::id());
    watch(others).await;
}

async fn watch(others: impl Fn() -> io::Result<bool>) {
    let (mut came, mut looks) = (false, 0);
    while looks < LOOKS_WITHOUT_ANYBODY {
        match others() {
            Ok(true) => (came, looks) = (true, 0),
            Ok(false) if came => looks += 1,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot see the processes of this pod"),
        }
        sleep(PROCESS_INTERVAL).await;
    }
}

/// Whether anybody runs here but the pod's first process, this program, and the children of this process.
fn has_others(proc: &Path, own: u32) -> io::Result<bool> {
    for entry in fs::read_dir(proc)? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if process == 1 || process == own {
            continue;
        }
        // Whoever ends between the list and this look is not there.
        let stat = fs::read_to_string(proc.join(&name).join("stat")).unwrap_or_default();
        if runs_for_itself(&stat, own) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// By its line `PID (NAME) STATE PARENT ...`; the name may hold anything.
fn runs_for_itself(stat: &str, own: u32) -> bool {
    let Some((before, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    if before.split_once('(').is_some_and(|(_, name)| name == OWN_NAME) {
        return false;
    }
    let mut words = rest.split_whitespace();
    let (state, parent) = (words.next(), words.next());
    !matches!(state, None | Some("Z" | "X")) && parent.and_then(|parent| parent.parse().ok()) != Some(own)
}

#[cfg(test)]
#[path = "application_tests.rs"]
mod tests;
