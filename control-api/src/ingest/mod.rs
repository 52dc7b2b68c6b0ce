//! The first half of the push path, one linear function: documents -> admit (build the world that would be) -> store
//! (durable) -> publish. Writers take turns; readers never wait. Called by `api` with documents that parse; `xds` receives
//! each published world. The config folder is a writer like any other, whose documents are its own.
//!
//! A transaction runs whole on a blocking thread: a caller that goes away neither stops it halfway nor loses it.

mod departures;
mod folder;
mod observation;
mod ownership;
mod transaction;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
};

use crate::{
    clock::{self, Clock},
    config::{self, Document, DocumentSet, Key, Kind, Origin, Problem},
    snapshot::World,
    store::{self, Store, StoreError, metadata},
    telemetry::{self, Outcome},
};
use transaction::{Intent, Plan};

pub use folder::{Folder, FolderError};
pub use observation::{Observation, Observed};

/// What is in force: the documents by key and the world made of them. Immutable, replaced whole.
#[derive(Clone)]
pub struct Held {
    pub documents: DocumentSet,
    pub world: Arc<World>,
}

/// What a transaction did, or in a dry run would do.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Of the store after it.
    pub revision: u64,
    /// One for each document or key, in the order of the request.
    pub changes: Vec<Change>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Change {
    pub key: Key,
    pub operation: Operation,
    /// As it stands after the transaction; `None` when it is gone.
    pub document: Option<Arc<Document>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Created,
    Configured,
    Unchanged,
    Deleted,
    /// It was to be deleted and was not there.
    NotFound,
}

impl Applied {
    /// The newest revision that changed one of these documents: what a proxy must acknowledge for all to be in force,
    /// also when this very transaction found them unchanged.
    pub fn last_change(&self) -> u64 {
        let changed_at = |change: &Change| match (&change.document, change.operation.writes()) {
            (Some(document), false) => metadata::changed_at(&document.object),
            (_, true) => self.revision,
            (None, false) => 0,
        };
        self.changes.iter().map(changed_at).max().unwrap_or(0)
    }
}

impl Operation {
    fn writes(self) -> bool {
        match self {
            Self::Created | Self::Configured | Self::Deleted => true,
            Self::Unchanged | Self::NotFound => false,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
            Self::NotFound => "notFound",
        }
    }
}

/// A document to delete.
#[derive(Clone, Debug)]
pub struct Removal {
    pub key: Key,
    /// An object whose `metadata` may say a `resourceVersion` and a `uid`: if another one is stored, that is a conflict.
    pub expected: Value,
    /// Where its author says so.
    pub origin: Origin,
}

impl From<Key> for Removal {
    /// Whatever is stored there.
    fn from(key: Key) -> Self {
        let (expected, origin) = (Value::Null, Origin::default());
        Self { key, expected, origin }
    }
}

/// How far a transaction goes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// Only says what would change.
    pub dry_run: bool,
    /// A warning that it brings about refuses it.
    pub strict: bool,
}

impl From<bool> for Mode {
    /// A dry run or not; warnings are no obstacle.
    fn from(dry_run: bool) -> Self {
        let strict = false;
        Self { dry_run, strict }
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{}", Lines(.0))]
    Invalid(Vec<Problem>),
    /// What a strict transaction would bring about.
    #[error("{}", Lines(.0))]
    Warned(Vec<String>),
    #[error("{origin}{key}: {reason}")]
    Conflict { key: Key, reason: String, origin: Origin },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "configuration comes from the Kubernetes API here and is not changed through this one: use kubectl apply or kubectl delete"
    )]
    Elsewhere,
    #[error("the control plane is shutting down, nothing was changed")]
    Stopped,
    #[error("the transaction failed inside the control plane, nothing was changed; its log says where")]
    Failed,
}

struct Lines<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Lines<'_, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{problem}")?;
        }
        Ok(())
    }
}

/// Why the control plane cannot start from what is stored.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "this version does not take what the store holds; use the version that wrote it to delete or mend:\n{}",
        Lines(.0)
    )]
    Stored(Vec<Problem>),
}

/// The one door to the store. Cheap to clone.
#[derive(Clone)]
pub struct Ingest(Arc<Inner>);

struct Inner {
    /// `None`: what is in force is kept elsewhere, and only observed here.
    store: Option<Mutex<Store>>,
    held: RwLock<Held>,
    /// `None` once closed.
    world: Mutex<Option<watch::Sender<Arc<World>>>>,
    /// Whose turn it is to write, in the order of arrival.
    turn: Arc<Semaphore>,
    /// Proxies that leave or are back, until that is in force.
    passages: departures::Passages,
    clock: Clock,
    /// Set once there is a config folder: what is its own is written by nobody else.
    folder: OnceLock<PathBuf>,
    /// A content of it was in force.
    folder_taken: AtomicBool,
    /// Why what is outside is not known yet.
    awaited: RwLock<Option<String>>,
}

impl Ingest {
    /// Loads the store and publishes the world that is in it. `root_namespace`: whose DestinationRules and Sidecars are for
    /// all namespaces.
    pub fn start(
        store: Store,
        clock: Clock,
        root_namespace: &str,
    ) -> Result<(Self, watch::Receiver<Arc<World>>), StartError> {
        let contents = store.load()?;
        let (mut documents, mut problems) = (Vec::new(), Vec::new());
        for object in &contents.objects {
            match config::from_stored(object) {
                Ok(document) => documents.push(Arc::new(document)),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(StartError::Stored(problems));
        }
        let documents = documents.into_iter().collect();
        let world = World::of(&documents, contents.revision, Some(&World::empty(root_namespace)));
        record(contents.revision, &documents);
        Ok(Self::holding(documents, world, Some(store), clock))
    }

    /// For a source outside that is the store: nothing is in force until the first observation.
    pub fn without_store(clock: Clock, root_namespace: &str) -> (Self, watch::Receiver<Arc<World>>) {
        Self::holding(DocumentSet::default(), World::empty(root_namespace), None, clock)
    }

    fn holding(
        documents: DocumentSet,
        world: World,
        store: Option<Store>,
        clock: Clock,
    ) -> (Self, watch::Receiver<Arc<World>>) {
        let world = Arc::new(world);
        let (sender, receiver) = watch::channel(Arc::clone(&world));
        let held = Held { documents, world };
        let inner = Inner {
            store: store.map(Mutex::new),
            held: RwLock::new(held),
            world: Mutex::new(Some(sender)),
            turn: Arc::new(Semaphore::new(1)),
            passages: departures::Passages::default(),
            clock,
            folder: OnceLock::new(),
            folder_taken: AtomicBool::new(false),
            awaited: RwLock::new(None),
        };
        (Self(Arc::new(inner)), receiver)
    }

    /// What is in force now.
    pub fn held(&self) -> Held {
        self.0.held()
    }

    /// Writes all documents or none. Dropping the future before its turn cancels it; after that it runs to its end.
    pub async fn apply(&self, mut documents: Vec<Document>, mode: impl Into<Mode>) -> Result<Applied, Refused> {
        for document in &mut documents {
            ownership::disown(&mut document.object);
        }
        self.transact(Intent::Put(documents), mode.into()).await
    }

    /// Deletes what is there of `removals`. Dropping the future before its turn cancels it; after that it runs to its end.
    pub async fn delete(&self, removals: Vec<impl Into<Removal>>, mode: impl Into<Mode>) -> Result<Applied, Refused> {
        let removals = removals.into_iter().map(Into::into).collect();
        self.transact(Intent::Remove(removals), mode.into()).await
    }

    /// Writes the documents of the config folder and deletes those that it no longer holds. Dropping it is as with `apply`.
    async fn follow_folder(&self, documents: Vec<Document>) -> Result<Applied, Refused> {
        let applied = self.transact(Intent::Folder(documents), Mode::default()).await?;
        self.0.folder_taken.store(true, Ordering::Relaxed);
        Ok(applied)
    }

    /// Whether nothing of the config folder was ever in force here.
    fn folder_is_new(&self) -> bool {
        !self.0.folder_taken.load(Ordering::Relaxed)
    }

    /// The config folder, as long as all that is to be in force here is to come from it and none of it did.
    pub fn awaits_folder(&self) -> Option<&Path> {
        let folder = self.0.folder.get()?;
        (self.folder_is_new() && self.held().documents.is_empty()).then_some(folder)
    }

    /// Brings into force what a source outside says, as far as it can be. Dropping the future before its turn cancels it;
    /// after that it runs to its end.
    pub async fn observe(&self, observation: Observation) -> Result<Observed, Refused> {
        let turn = Arc::clone(&self.0.turn);
        let turn = turn.acquire_owned().await.map_err(|_| Refused::Stopped)?;
        let inner = Arc::clone(&self.0);
        let work = spawn_blocking(move || {
            let _turn = turn;
            inner.observe(observation)
        });
        work.await.map_err(|_| Refused::Failed)
    }

    /// Says what of the source outside is not known yet, or, with `None`, that all is.
    pub fn await_source(&self, reason: Option<String>) {
        *self.0.awaited.write().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Why nothing can be said yet of what there is.
    pub fn awaits_source(&self) -> Option<String> {
        self.0.awaited.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on the documents of the config folder are written by nobody else.
    fn belongs_to(&self, folder: &Path) {
        self.0.folder.get_or_init(|| folder.to_owned());
    }

    /// No further transaction is taken, and every receiver of worlds sees the end.
    pub fn close(&self) {
        self.0.turn.close();
        lock(&self.0.world).take();
    }

    async fn transact(&self, intent: Intent, mode: Mode) -> Result<Applied, Refused> {
        let turn = Arc::clone(&self.0.turn);
        let turn = turn.acquire_owned().await.map_err(|_| Refused::Stopped)?;
        let inner = Arc::clone(&self.0);
        let work = spawn_blocking(move || {
            let _turn = turn;
            let begun = Instant::now();
            let result = inner.run(&intent, mode);
            telemetry::record_transaction(outcome(&result, mode.dry_run), begun.elapsed());
            result
        });
        work.await.unwrap_or(Err(Refused::Failed))
    }
}

impl Inner {
    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn run(&self, intent: &Intent, mode: Mode) -> Result<Applied, Refused> {
        if self.store.is_none() && !mode.dry_run {
            return Err(Refused::Elsewhere);
        }
        let held = self.held();
        let now = clock::timestamp((self.clock)());
        let base = held.world.revision();
        let plan = transaction::plan(
            intent,
            &held.documents,
            base,
            &now,
            self.folder.get().map(PathBuf::as_path),
        )?;
        if plan.is_empty() {
            let warnings = Warnings::of(&held.world, &held.world, &plan);
            return Ok(plan.applied(base, warnings.relevant));
        }
        let documents = plan.upon(&held.documents);
        let world = World::of(&documents, base + 1, Some(&held.world));
        let mut problems = world.problems();
        if !problems.is_empty() {
            // What is in force has none here; where it is only observed, what went may have left some.
            let known = held.world.problems();
            problems.retain(|problem| !known.contains(problem));
        }
        if !problems.is_empty() {
            return Err(Refused::Invalid(intent.locate(problems)));
        }
        let warnings = Warnings::of(&world, &held.world, &plan);
        if mode.strict && !warnings.new.is_empty() {
            return Err(Refused::Warned(warnings.new));
        }
        if mode.dry_run {
            return Ok(plan.applied(base, warnings.relevant));
        }
        let revision = self.store(base, &plan)?;
        tracing::info!(revision, resources = documents.len(), "configuration stored");
        self.publish(documents, world);
        Ok(plan.applied(revision, warnings.relevant))
    }

    fn store(&self, base: u64, plan: &Plan) -> Result<u64, Refused> {
        let store = self.store.as_ref().ok_or(Refused::Elsewhere)?;
        let named: Vec<(String, Option<&Arc<Document>>)> = plan
            .writes()
            .map(|(key, document)| (key.to_string(), document))
            .collect();
        let changes: Vec<store::Change<'_>> = named
            .iter()
            .map(|(key, document)| match document {
                Some(document) => store::Change::Put(key, &document.object),
                None => store::Change::Remove(key),
            })
            .collect();
        Ok(lock(store).commit(base, &changes)?)
    }

    fn publish(&self, documents: DocumentSet, world: World) {
        let world = Arc::new(world);
        record(world.revision(), &documents);
        self.hold(documents, Arc::clone(&world));
        if let Some(sender) = &*lock(&self.world) {
            sender.send_replace(world);
        }
    }

    fn hold(&self, documents: DocumentSet, world: Arc<World>) {
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Held { documents, world };
    }
}

struct Warnings {
    /// Those that the transaction brings about.
    new: Vec<String>,
    /// Those that its author can do something about: the new ones, and those that name one of its documents.
    relevant: Vec<String>,
}

impl Warnings {
    fn of(after: &World, before: &World, plan: &Plan) -> Self {
        let known: HashSet<String> = before.warnings().into_iter().collect();
        let own: HashSet<String> = plan.keys().map(Key::to_string).collect();
        let about_own = |warning: &str| words(warning).any(|word| own.contains(word));
        let mut relevant = after.warnings();
        relevant.retain(|warning| !known.contains(warning) || about_own(warning));
        let new = relevant.iter().filter(|warning| !known.contains(*warning));
        Self {
            new: new.cloned().collect(),
            relevant,
        }
    }
}

/// Of a warning; a document's key is one.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| char.is_whitespace() || matches!(char, ':' | ',' | ';' | '(' | ')'))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn outcome(result: &Result<Applied, Refused>, dry_run: bool) -> Outcome {
    let changes = |applied: &Applied| applied.changes.iter().any(|change| change.operation.writes());
    match result {
        Ok(_) if dry_run => Outcome::DryRun,
        Ok(applied) if changes(applied) => Outcome::Applied,
        Ok(_) => Outcome::Unchanged,
        Err(Refused::Invalid(_) | Refused::Warned(_)) => Outcome::Refused,
        Err(Refused::Conflict { .. } | Refused::Elsewhere) => Outcome::Conflict,
        Err(Refused::Store(_) | Refused::Stopped | Refused::Failed) => Outcome::Failed,
    }
}

fn record(revision: u64, documents: &DocumentSet) {
    let mut counts: BTreeMap<&'static str, usize> = Kind::ALL.iter().map(|kind| (kind.as_str(), 0)).collect();
    counts.extend(documents.counts().iter().map(|(kind, count)| (kind.as_str(), *count)));
    telemetry::record_store(revision, &counts);
}

#[cfg(test)]
mod tests;
