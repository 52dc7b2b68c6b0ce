//! From what the watches see to the world in force: news that come closely together are one batch, and before every
//! kind was heard of there is no world at all, so that no proxy is told of a host that it is gone when it was only not
//! listed yet. Called by the room's start; the world is made by `ingest`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    index::{self, Batch, Index},
    records::{InForce, Records, Verdict, has_status},
    watch::{News, Source},
};
use crate::{
    config::{Document, Key, Kind},
    ingest::{Ingest, Observation, Observed, Refused},
    telemetry,
};

/// Without news for so long, what came is a batch; at the latest after the longest.
const QUIET: Duration = Duration::from_millis(3);
const LONGEST: Duration = Duration::from_millis(30);
/// Refused documents that are tried again with what is new: each costs a world.
const MOST_RETRIED: usize = 32;

pub(super) struct Follower {
    pub ingest: Ingest,
    pub records: Arc<Records>,
    pub index: Arc<Mutex<Index>>,
    pub news: mpsc::Receiver<News>,
    /// Documents that the world refused: it may take them when something else is another.
    refused: BTreeMap<Key, Arc<Document>>,
    /// What was said last of each watch that is not in step.
    troubles: BTreeMap<Source, String>,
    is_complete: bool,
}

impl Follower {
    pub(super) fn new(
        ingest: Ingest,
        records: Arc<Records>,
        index: Arc<Mutex<Index>>,
        news: mpsc::Receiver<News>,
    ) -> Self {
        Self {
            ingest,
            records,
            index,
            news,
            refused: BTreeMap::new(),
            troubles: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// Until the control plane stops. Dropping it leaves what is in force.
    pub(super) async fn run(mut self) {
        while self.hear_batch().await {
            let (awaited, batch) = {
                let mut index = index::lock(&self.index);
                let awaited = index.awaited();
                let batch = if awaited.is_empty() {
                    index.take()
                } else {
                    Batch::default()
                };
                (awaited, batch)
            };
            if !awaited.is_empty() {
                self.ingest.await_source(Some(self.reason(&awaited)));
                continue;
            }
            if batch.is_empty() && self.is_complete {
                continue;
            }
            match self.bring_into_force(batch).await {
                Ok(()) => {}
                Err(Refused::Stopped) => return,
                // What was observed is lost to this process: a restart lists it again.
                Err(refused) => tracing::error!("what the cluster says cannot be brought into force: {refused}"),
            }
        }
    }

    /// False: no watch is there any more.
    async fn hear_batch(&mut self) -> bool {
        let Some(first) = self.news.recv().await else {
            return false;
        };
        self.hear(first);
        let latest = Instant::now() + LONGEST;
        while let Ok(Some(news)) = timeout_at(latest.min(Instant::now() + QUIET), self.news.recv()).await {
            self.hear(news);
            if Instant::now() >= latest {
                break;
            }
        }
        true
    }

    fn hear(&mut self, news: News) {
        match &news {
            News::Absent(source) => {
                let plural = source.plural();
                self.say(
                    *source,
                    format!("{plural} are not installed in this cluster; looked for again"),
                );
            }
            News::Failing(source, reason) => {
                let plural = source.plural();
                self.say(
                    *source,
                    format!("{plural} cannot be watched, what is known of them stays: {reason}"),
                );
            }
            News::Pods(_) => self.in_step(Source::Pods),
            News::Slices(_) => self.in_step(Source::Slices),
            News::Nodes(_) => self.in_step(Source::Nodes),
            News::Objects(kind, _) => self.in_step(Source::Objects(*kind)),
        }
        index::lock(&self.index).hear(news);
    }

    /// Once, however often it is tried again.
    fn say(&mut self, source: Source, trouble: String) {
        telemetry::record_watch(source.plural(), false);
        if self.troubles.get(&source) != Some(&trouble) {
            tracing::warn!("{trouble}");
            self.troubles.insert(source, trouble);
        }
    }

    fn in_step(&mut self, source: Source) {
        if self.troubles.remove(&source).is_some() {
            tracing::info!("{} are watched again", source.plural());
        }
        telemetry::record_watch(source.plural(), true);
    }

    fn reason(&self, awaited: &[&str]) -> String {
        let troubles: BTreeSet<&str> = self.troubles.values().map(String::as_str).collect();
        let troubles: Vec<&str> = troubles.into_iter().collect();
        let mut reason = format!("not listed yet: {}", awaited.join(", "));
        if !troubles.is_empty() {
            reason.push_str(&format!(" ({})", troubles.join("; ")));
        }
        reason
    }

    async fn bring_into_force(&mut self, mut batch: Batch) -> Result<(), Refused> {
        for key in &batch.gone {
            self.records.forget(key);
            self.refused.remove(key);
        }
        for (key, sighting) in std::mem::take(&mut batch.seen) {
            self.records.note(&key, |record| {
                if record.generation != sighting.generation {
                    record.verdict = Verdict::Pending;
                }
                record.generation = sighting.generation;
                record.status = sighting.status;
            });
        }
        for (key, reason) in &batch.unreadable {
            self.refused.remove(key);
            self.refuse(key, reason);
        }
        let mut documents = batch.documents.clone();
        let has_rules = batch.has_rules();
        if has_rules {
            for (key, document) in self.refused.iter().take(MOST_RETRIED) {
                documents.entry(key.clone()).or_insert_with(|| Arc::clone(document));
            }
        }
        let observation = Observation {
            documents: documents.values().cloned().collect(),
            gone: batch.gone.into_iter().collect(),
        };
        let observed = self.ingest.observe(observation).await?;
        if !self.is_complete {
            self.is_complete = true;
            self.ingest.await_source(None);
            tracing::info!(
                revision = observed.revision,
                "the cluster is listed, and its world in force"
            );
        }
        self.settle(documents, &observed);
        if has_rules {
            // Another rule may lead to the host of a DestinationRule now.
            let held = self.ingest.held();
            let hosts = |key: &Key| held.documents.get(key).map(|document| held.world.concerns(document));
            self.records.relocate(Kind::DestinationRule, hosts);
        }
        Ok(())
    }

    fn settle(&mut self, documents: BTreeMap<Key, Arc<Document>>, observed: &Observed) {
        let refused: BTreeMap<&Key, String> = observed
            .refused
            .iter()
            .map(|(key, problem)| (key, index::reason(problem)))
            .collect();
        for (key, document) in documents {
            match refused.get(&key) {
                Some(reason) => {
                    self.refuse(&key, reason);
                    self.refused.insert(key, document);
                }
                None => {
                    self.refused.remove(&key);
                    if has_status(key.kind) {
                        self.accept(&key, &document, observed);
                    }
                }
            }
        }
    }

    fn refuse(&self, key: &Key, reason: &str) {
        tracing::warn!("{key} is refused, its last good version stays in force: {reason}");
        self.records
            .note(key, |record| record.verdict = Verdict::Refused(reason.to_owned()));
    }

    fn accept(&self, key: &Key, document: &Document, observed: &Observed) {
        let hosts = self.ingest.held().world.concerns(document);
        self.records.note(key, |record| {
            let before = record.in_force.as_ref().filter(|_| !observed.changed.contains(key));
            record.in_force = Some(InForce {
                generation: record.generation,
                revision: before.map_or(observed.revision, |before| before.revision),
                hosts,
            });
            record.verdict = Verdict::Accepted;
        });
    }
}
