//! When the last good config goes to disk: a while after a change, the longer the larger it is, and at the end. Off the control thread. Called by
//! `client`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tsunagi_proto::wire::discovery::DeltaDiscoveryResponse;

use super::remembered;
use super::session::{Identity, Session};

const DELAY: Duration = Duration::from_secs(1);
/// The file is written whole, so the larger it is the longer changes are gathered: no more than so much is written a second.
const BYTES_A_SECOND: usize = 1 << 20;

pub(super) struct Saver {
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
    /// Held while the file is ours.
    _lock: Option<File>,
    owner: String,
    due: Option<Instant>,
    writing: Option<JoinHandle<()>>,
}

/// `None`, and a word in the log: nothing will be remembered.
fn lock(path: &Path) -> Option<File> {
    match remembered::lock(path) {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => {
            tracing::warn!(
                path = %path.display(),
                "another sidecar with this --namespace and --node-id uses the remembered config; give each its own name"
            );
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the config will not be remembered");
            None
        }
    }
}

impl Saver {
    pub(super) fn new(state_dir: Option<&Path>, identity: &Identity) -> Self {
        let path = state_dir.map(|directory| remembered::path(directory, &identity.namespace, &identity.node_id));
        let lock = path.as_deref().and_then(lock);
        Self {
            path: path.filter(|_| lock.is_some()),
            _lock: lock,
            owner: identity.resource_name(),
            due: None,
            writing: None,
        }
    }

    /// What an earlier run left, if it is usable.
    pub(super) fn load(&self) -> Option<DeltaDiscoveryResponse> {
        let path = self.path.as_deref()?;
        remembered::read(path, &self.owner).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the remembered config is not used");
            None
        })
    }

    /// Something may have changed.
    pub(super) fn note(&mut self, session: &Session, now: Instant) {
        if self.path.is_some() && self.due.is_none() && session.has_unsaved() {
            let seconds = session.held_bytes() / BYTES_A_SECOND;
            let delay = DELAY.max(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)));
            self.due = Some(now + delay);
        }
    }

    /// Until it is time to save. Dropping it loses nothing.
    pub(super) async fn time_to_save(&mut self) {
        let Some(due) = self.due else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(due).await;
        if let Some(writing) = &mut self.writing {
            let _ = writing.await;
            self.writing = None;
        }
        self.due = None;
    }

    /// Writes in the background what has changed since the last time.
    pub(super) fn save(&mut self, session: &mut Session) {
        let Some(path) = self.path.clone() else { return };
        let Some(remembered) = session.remember() else { return };
        let owner = self.owner.clone();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = remembered::write(&path, &owner, &remembered) {
                tracing::warn!(path = %path.display(), %error, "the config cannot be remembered");
            }
        }));
    }

    /// At the end: when it returns, what is held is on disk.
    pub(super) async fn finish(mut self, session: &mut Session) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
        self.save(session);
        if let Some(writing) = self.writing.take() {
            let _ = writing.await;
        }
    }
}
