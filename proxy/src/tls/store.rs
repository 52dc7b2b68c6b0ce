//! The files of every `tls` block in force, each set of them read once however many clusters name it, and looked at once a
//! second for changes. Lives on the control thread; whoever connects only reads what was compiled last.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::SystemTime;

use tsunagi_proto::model::UpstreamTls;

use super::files::{Contents, Paths, Stamp, Trusted};
use super::material::Material;
use super::{Client, Failure};

#[derive(Debug)]
pub struct Store {
    credentials: PathBuf,
    watched: Mutex<HashMap<Paths, Watched>>,
}

/// One set of files.
#[derive(Debug)]
struct Watched {
    stamp: Stamp,
    fingerprint: Option<u128>,
    /// The files in force, or, as long as there are none, those that are waited for.
    files: String,
    /// In force.
    material: Result<Arc<Material>, Failure>,
    /// Of a newer version that cannot be used.
    refused: Option<Failure>,
    clients: Vec<Weak<Client>>,
}

/// What an operator sees of one set of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub files: String,
    /// When the client's certificate ends.
    pub expires: Option<SystemTime>,
    /// Why the files, as they are now, cannot be used. What was read before is in force, if there was anything.
    pub refused: Option<String>,
    pub in_force: bool,
}

impl Store {
    /// `credentials`: the folder whose folders are what `credentialName` means.
    pub fn new(credentials: PathBuf) -> Self {
        Self {
            credentials,
            watched: Mutex::default(),
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Paths, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// TLS to a cluster of this host. `generation` is raised whenever its files have changed.
    pub fn client(&self, told: &UpstreamTls, host: &str, generation: Arc<AtomicU64>) -> Arc<Client> {
        let paths = Paths::new(told, &self.credentials);
        let mut all = self.watched();
        let watched = all.entry(paths.clone()).or_insert_with(|| Watched::read(&paths));
        let client = Arc::new(Client::new(told.clone(), host, generation, &watched.material));
        watched.clients.push(Arc::downgrade(&client));
        client
    }

    /// Looks whether files have changed, and forgets those that nobody needs any more. Blocks for as long as reading takes.
    pub fn refresh(&self) {
        self.watched().retain(|paths, watched| {
            watched.clients.retain(|client| client.strong_count() > 0);
            if watched.clients.is_empty() {
                return false;
            }
            watched.refresh(paths);
            true
        });
    }

    /// Sorted by files.
    pub fn states(&self) -> Vec<State> {
        let state = |watched: &Watched| State {
            files: watched.files.clone(),
            expires: watched.material.as_ref().ok().and_then(|material| material.expires),
            refused: watched.failure().map(ToString::to_string),
            in_force: watched.material.is_ok(),
        };
        let mut states: Vec<State> = self.watched().values().map(state).collect();
        states.sort_by(|a, b| a.files.cmp(&b.files));
        states
    }
}

impl Watched {
    fn read(paths: &Paths) -> Self {
        let stamp = paths.stamp();
        let Found {
            files,
            fingerprint,
            material,
        } = read(paths);
        if let Err(failure) = &material {
            tracing::warn!(%failure, "TLS to endpoints waits for files");
        }
        Self {
            stamp,
            fingerprint,
            files: material.as_ref().map_or_else(|_| paths.to_string(), |_| files),
            material,
            refused: None,
            clients: Vec::new(),
        }
    }

    fn failure(&self) -> Option<&Failure> {
        self.refused.as_ref().or(self.material.as_ref().err())
    }

    fn refresh(&mut self, paths: &Paths) {
        let stamp = paths.stamp();
        // The system's authorities are not among the files.
        let waits_for_system = self.material.is_err() && paths.trust == Trusted::System;
        if stamp == self.stamp && !waits_for_system {
            return;
        }
        self.stamp = stamp;
        let Found {
            files,
            fingerprint,
            material,
        } = read(paths);
        if fingerprint.is_some() && fingerprint == self.fingerprint && material.is_ok() {
            (self.refused, self.files) = (None, files);
            return;
        }
        match material {
            Ok(material) => {
                tracing::info!(%files, "TLS to endpoints uses new certificates");
                (self.fingerprint, self.refused, self.material) = (fingerprint, None, Ok(material));
                self.files = files;
            }
            Err(failure) => {
                if self.failure() != Some(&failure) {
                    tracing::warn!(%failure, in_force = self.material.is_ok(), "new certificates cannot be used");
                }
                match &mut self.material {
                    // What worked stays.
                    Ok(_) => {
                        self.refused = Some(failure);
                        return;
                    }
                    Err(before) => *before = failure,
                }
            }
        }
        for client in self.clients.iter().filter_map(Weak::upgrade) {
            client.renew(&self.material);
        }
    }
}

/// What was read just now.
struct Found {
    files: String,
    fingerprint: Option<u128>,
    material: Result<Arc<Material>, Failure>,
}

fn read(paths: &Paths) -> Found {
    let (files, fingerprint, material) = match paths.read() {
        Ok(contents) => (
            contents.named(&paths.trust),
            Some(Contents::fingerprint(&contents)),
            Material::new(paths, &contents).map(Arc::new),
        ),
        Err(failure) => (String::new(), None, Err(failure)),
    };
    Found {
        files,
        fingerprint,
        material,
    }
}
