//! `--config-dir`: a folder of YAML that is one transaction, applied at start and whenever its content changes. Whatever
//! is wrong in it leaves the last good content in force and is told once. Started and driven by `app`.
//!
//! A look a second, by content: notifications of the kernel are lost on network file systems and say nothing about
//! when a checkout is complete, so they would not spare the looks.

mod content;
mod steady;

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use xxhash_rust::xxh3::xxh3_128;

use super::{Applied, Held, Ingest, Operation, Refused, ownership};
use crate::{
    config::{self, Document, Problem},
    error, telemetry,
};
use content::Content;
use steady::{Standing, Steady};

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Where documents are that say no namespace.
const DEFAULT_NAMESPACE: &str = "default";
/// Of one content; a log is not the place for more.
const MOST_PROBLEMS_TOLD: usize = 50;

#[derive(Debug, thiserror::Error)]
#[error("cannot read --config-dir {path}: {source}; name a folder that is there and that this user may read")]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

/// The folder and what became of it so far.
pub struct Folder {
    path: PathBuf,
    ingest: Ingest,
    steady: Steady,
    /// What the log says of which content, so that it says it once.
    told: Option<(u128, Vec<String>)>,
}

/// Why a content is not in force.
struct Unfit {
    lines: Vec<String>,
    standing: Standing,
}

impl Folder {
    /// Applies the folder as it is. From here on its documents are its own. Content that is not fit for use is no error:
    /// what was stored before stays in force.
    pub async fn start(path: &Path, ingest: Ingest) -> Result<Self, FolderError> {
        let mut folder = Self {
            path: path.to_owned(),
            ingest,
            steady: Steady::default(),
            told: None,
        };
        let content = folder.look().await.map_err(|source| FolderError {
            path: path.to_owned(),
            source,
        })?;
        folder.ingest.belongs_to(path);
        folder.act(content.digest, Ok(content)).await;
        Ok(folder)
    }

    /// Looks and applies until `stop` is true. Dropping the future ends it between two transactions.
    pub async fn watch(mut self, mut stop: watch::Receiver<bool>) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.reset();
        let stopped = stop.wait_for(|stop| *stop);
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                () = async { looks.tick().await; self.follow().await } => {}
            }
        }
    }

    /// One look, and what follows from it.
    async fn follow(&mut self) {
        let look = self.look().await;
        let digest = match &look {
            Ok(content) => content.digest,
            Err(error) => xxh3_128(error.to_string().as_bytes()),
        };
        if self.steady.is_due(digest, self.ingest.held().world.revision()) {
            self.act(digest, look).await;
        }
    }

    async fn look(&self) -> io::Result<Content> {
        let path = self.path.clone();
        spawn_blocking(move || content::read(&path)).await?
    }

    async fn act(&mut self, digest: u128, look: io::Result<Content>) {
        let before = self.ingest.held();
        let outcome = match look {
            Ok(content) => self.apply(content).await,
            Err(error) => Err(Unfit {
                lines: vec![format!("{}: cannot be read: {error}", self.path.display())],
                standing: Standing::Failed,
            }),
        };
        telemetry::record_config_dir(outcome.is_ok());
        match outcome {
            Ok(applied) => {
                self.steady.acted(digest, Standing::InForce);
                self.told = None;
                self.tell_applied(&applied, &before);
            }
            Err(unfit) => {
                self.steady.acted(digest, unfit.standing);
                self.tell_unfit(digest, unfit.lines);
            }
        }
    }

    /// An empty folder is a volume that is not mounted rather than the wish to delete everything, as long as it was
    /// never seen with anything in it.
    fn mistake(&self, content: &Content, held: &Held) -> Option<String> {
        if !self.ingest.folder_is_new() || !content.files.is_empty() || !content.problems.is_empty() {
            return None;
        }
        let owned = held.documents.values();
        let owned = owned.filter(|document| ownership::owner(&document.object).is_some());
        let consequence = match owned.count() {
            0 => "waiting for the first".to_owned(),
            count => format!(
                "the resources that came from it ({count}) stay (is a volume not mounted? a file with nothing but a comment \
                 says that they are meant to go)"
            ),
        };
        Some(format!(
            "{}: holds no *.yaml, *.yml or *.json file: {consequence}",
            self.path.display()
        ))
    }

    async fn apply(&self, content: Content) -> Result<Applied, Unfit> {
        let held = self.ingest.held();
        let revision = held.world.revision();
        let standing = Standing::Refused { revision };
        if let Some(mistake) = self.mistake(&content, &held) {
            let lines = vec![mistake];
            return Err(Unfit { lines, standing });
        }
        let refused = |problems: &[Problem]| Unfit {
            lines: lines(problems),
            standing,
        };
        let failed = |reason: String| Unfit {
            lines: vec![format!("{}: {reason}", self.path.display())],
            standing: Standing::Failed,
        };
        let documents = match spawn_blocking(move || documents(content)).await {
            Ok(Ok(documents)) => documents,
            Ok(Err(problems)) => {
                telemetry::record_unparsable_transaction();
                return Err(refused(&problems));
            }
            Err(error) => return Err(failed(error.to_string())),
        };
        let applied = self.ingest.follow_folder(documents).await;
        applied.map_err(|reason| match reason {
            Refused::Invalid(problems) => refused(&problems),
            other => failed(error::sentence(&other)),
        })
    }

    fn tell_applied(&self, applied: &Applied, before: &Held) {
        for warning in &applied.warnings {
            tracing::warn!("{warning}");
        }
        let is_others = |document: &&std::sync::Arc<Document>| ownership::owner(&document.object).is_none();
        for change in &applied.changes {
            if before.documents.get(&change.key).filter(is_others).is_some() {
                tracing::info!("{} was applied otherwise and is the config folder's now", change.key);
            }
        }
        let count = |wanted| {
            let changes = applied.changes.iter();
            changes.filter(|change| change.operation == wanted).count()
        };
        tracing::info!(
            revision = applied.revision,
            created = count(Operation::Created),
            configured = count(Operation::Configured),
            unchanged = count(Operation::Unchanged),
            deleted = count(Operation::Deleted),
            "config folder {} is in force",
            self.path.display()
        );
    }

    fn tell_unfit(&mut self, digest: u128, lines: Vec<String>) {
        let told = Some((digest, lines));
        if self.told == told {
            return;
        }
        self.told = told;
        for line in self.told.iter().flat_map(|(_, lines)| lines) {
            tracing::error!("{line}");
        }
        tracing::error!(
            "config folder {} is not in force; what was in force stays until the above is mended",
            self.path.display()
        );
    }
}

/// Every document of every file, claimed; or everything that is wrong in any of them.
fn documents(content: Content) -> Result<Vec<Document>, Vec<Problem>> {
    let (mut documents, mut problems) = (Vec::new(), content.problems);
    for file in &content.files {
        match config::parse(&file.shown, &file.text, DEFAULT_NAMESPACE) {
            Ok(mut parsed) => {
                for document in &mut parsed {
                    ownership::claim(&mut document.object, &file.path);
                }
                documents.extend(parsed);
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        return Ok(documents);
    }
    problems.sort();
    Err(problems)
}

fn lines(problems: &[impl Display]) -> Vec<String> {
    let mut lines: Vec<String> = problems
        .iter()
        .take(MOST_PROBLEMS_TOLD)
        .map(ToString::to_string)
        .collect();
    if problems.len() > MOST_PROBLEMS_TOLD {
        lines.push(format!("and {} more problems", problems.len() - MOST_PROBLEMS_TOLD));
    }
    lines
}

#[cfg(test)]
mod tests;
