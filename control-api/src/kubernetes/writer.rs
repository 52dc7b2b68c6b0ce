//! Writes the statuses: by server-side apply under a name of this replica's own, only what is another than what stands
//! there, at most once a second, a few at a time. What is gone meanwhile or was written by another first is no failure:
//! the next round compares again.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use kube::{
    Api, Client, Error as ClientError,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    conditions::{self, Replica, Writing},
    index::{self, Index},
    object::{Name, Object},
    records::{Count, Records, Usage},
};
use crate::{clock::Clock, config::Key, error, status::Status};

/// Between the beginnings of two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// A push and its acknowledgements are one thing to tell.
const SETTLE: Duration = Duration::from_millis(200);
/// For the proxies of an earlier run to come back, once there is something to serve them.
const RETURN_TIME: Duration = Duration::from_secs(5);
/// At once.
const WRITES: usize = 8;
/// For replicas that are gone, where nothing else happens.
const LOOK: Duration = Duration::from_secs(10);
/// While the cluster does not answer, and while it does not allow it.
const PAUSE: Duration = Duration::from_secs(5);
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    pub client: Client,
    pub records: Arc<Records>,
    pub status: Arc<Status>,
    pub replica: Replica,
    pub index: Arc<Mutex<Index>>,
    pub clock: Clock,
    /// When there was something to write first.
    pub begun: Option<Instant>,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Written,
    Unanswered,
    Forbidden,
}

impl Writer {
    /// Until it is dropped.
    pub(super) async fn run(mut self) {
        let mut reports = self.status.reports();
        let mut told = Outcome::Written;
        loop {
            tokio::select! {
                () = self.records.changed() => {}
                changed = reports.changed() => if changed.is_err() { return },
                // Replicas go without a word.
                () = tokio::time::sleep(LOOK) => {}
            }
            let begun = Instant::now();
            sleep_until(begun + SETTLE).await;
            reports.mark_unchanged();
            let (outcome, reason) = self.round().await;
            if outcome > told {
                tracing::warn!("the status of VirtualServices and DestinationRules is not written: {reason}");
            }
            told = outcome;
            let pause = match outcome {
                Outcome::Written => ROUND,
                Outcome::Unanswered => PAUSE,
                Outcome::Forbidden => FORBIDDEN_PAUSE,
            };
            sleep_until(begun + pause).await;
            if outcome != Outcome::Written {
                // What was to be written still is.
                reports.mark_changed();
            }
        }
    }

    /// Everything that is another than what stands there, once.
    async fn round(&mut self) -> (Outcome, String) {
        self.find_own_pod();
        let proxies = self.status.uses();
        let usage = Usage::of(&proxies);
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let settled = begun.elapsed() >= RETURN_TIME;
        let now = (self.clock)();
        let is_there = |pod: &str| pod_name(pod).is_some_and(|name| self.is_pod(&name));
        let mut due = Vec::new();
        for (key, record) in self.records.all() {
            let count = record
                .in_force
                .as_ref()
                .map_or_else(Count::default, |version| usage.count(version));
            let writing = conditions::writing(&record, &count, &self.replica, is_there, (now, settled));
            due.extend(writing.map(|writing| (key, writing)));
        }
        let writes = stream::iter(due).map(|(key, writing)| self.write(key, writing));
        let mut outcomes = writes.buffer_unordered(WRITES);
        let mut worst = (Outcome::Written, String::new());
        while let Some(outcome) = outcomes.next().await {
            if outcome.0 > worst.0 {
                worst = outcome;
            }
            if worst.0 != Outcome::Written {
                // The rest would fare no better.
                break;
            }
        }
        worst
    }

    fn is_pod(&self, name: &Name) -> bool {
        index::lock(&self.index).has_pod(name)
    }

    /// The replica's name is that of its Pod where there is such a Pod.
    fn find_own_pod(&mut self) {
        if self.replica.pod.is_none() {
            let own = Name {
                namespace: self.client.default_namespace().to_owned(),
                name: self.replica.name.clone(),
            };
            self.replica.pod = self.is_pod(&own).then(|| format!("{}/{}", own.namespace, own.name));
        }
    }

    async fn write(&self, key: Key, writing: Writing) -> (Outcome, String) {
        let api: Api<Object> = Api::namespaced_with(self.client.clone(), &key.namespace, &key.kind);
        let body = json!({
            "apiVersion": format!("{}/v1", key.kind.group()),
            "kind": key.kind.as_str(),
            "metadata": {"name": key.name, "namespace": key.namespace},
            "status": writing.status,
        });
        let params = PatchParams::apply(&format!("tsunagi-{}", self.replica.name)).force();
        let mut result = api.patch_status(&key.name, &params, &Patch::Apply(body)).await;
        if let (Ok(_), false) = (&result, writing.dropped.is_empty()) {
            let gone: serde_json::Map<String, Value> =
                writing.dropped.into_iter().map(|name| (name, Value::Null)).collect();
            let body = json!({"status": {"replicas": gone}});
            result = api
                .patch_status(&key.name, &PatchParams::default(), &Patch::Merge(body))
                .await;
        }
        match result {
            Ok(mut object) => {
                let status = object.take_status();
                self.records.correct(&key, |record| record.status = status);
                (Outcome::Written, String::new())
            }
            Err(ClientError::Api(status)) if matches!(status.code, 404 | 409) => (Outcome::Written, String::new()),
            Err(ClientError::Api(status)) if status.code == 403 => (Outcome::Forbidden, status.message.clone()),
            Err(error) => (Outcome::Unanswered, format!("{key}: {}", error::sentence(&error))),
        }
    }
}

fn pod_name(pod: &str) -> Option<Name> {
    let (namespace, name) = pod.split_once('/')?;
    Some(Name {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
