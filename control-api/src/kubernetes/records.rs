//! What is to be said in the status of each VirtualService and DestinationRule. `follow` notes what it sees and what
//! became of it, `writer` compares that with what stands in the cluster. Shared between the two; held for moments.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::Notify;
use tsunagi_proto::names;

use crate::{
    config::{Key, Kind},
    status::{Identity, Progress},
};

/// One object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Of its newest version.
    pub generation: i64,
    /// As it stands in the cluster.
    pub status: Value,
    pub verdict: Verdict,
    pub in_force: Option<InForce>,
}

/// What became of the newest version.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Verdict {
    #[default]
    Pending,
    Accepted,
    Refused(String),
}

/// The version that proxies are told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct InForce {
    pub generation: i64,
    /// The first revision of the world that has it.
    pub revision: u64,
    /// Hosts that it has a part in.
    pub hosts: Vec<String>,
}

/// How many of this replica's proxies use an object's hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Count {
    pub proxies: u64,
    pub acknowledged: u64,
    /// Of one that refuses.
    pub refusal: Option<String>,
}

#[derive(Default)]
pub(super) struct Records {
    all: Mutex<BTreeMap<Key, Record>>,
    changed: Notify,
}

/// Kinds in whose status something is said.
pub(super) fn has_status(kind: Kind) -> bool {
    matches!(kind, Kind::VirtualService | Kind::DestinationRule)
}

impl Records {
    /// Changes the record of an object, which is made where there is none.
    pub(super) fn note(&self, key: &Key, note: impl FnOnce(&mut Record)) {
        if has_status(key.kind) {
            note(self.lock().entry(key.clone()).or_default());
            self.changed.notify_one();
        }
    }

    /// Changes the record of an object that is still there.
    pub(super) fn correct(&self, key: &Key, note: impl FnOnce(&mut Record)) {
        if let Some(record) = self.lock().get_mut(key) {
            note(record);
        }
    }

    /// Says anew in which hosts the objects of a kind have a part.
    pub(super) fn relocate(&self, kind: Kind, hosts: impl Fn(&Key) -> Option<Vec<String>>) {
        let mut changed = false;
        for (key, record) in self.lock().iter_mut().filter(|(key, _)| key.kind == kind) {
            if let (Some(version), Some(hosts)) = (&mut record.in_force, hosts(key)) {
                changed |= version.hosts != hosts;
                version.hosts = hosts;
            }
        }
        if changed {
            self.changed.notify_one();
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    pub(super) fn all(&self) -> Vec<(Key, Record)> {
        let all = self.lock();
        all.iter().map(|(key, record)| (key.clone(), record.clone())).collect()
    }

    /// Once something was noted. Dropping it loses nothing.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Record>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who uses which host, as far as this replica knows.
pub(super) struct Usage<'a> {
    proxies: &'a [(Identity, Progress)],
    by_host: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Usage<'a> {
    pub(super) fn of(proxies: &'a [(Identity, Progress)]) -> Self {
        let mut by_host: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, (_, progress)) in proxies.iter().enumerate() {
            for host in progress.hosts.iter() {
                by_host.entry(host).or_default().push(index);
            }
        }
        Self { proxies, by_host }
    }

    /// A proxy has acknowledged a version when it has answered the revision that brought it, and refuses none of its
    /// hosts: what else it may refuse is another object's business.
    pub(super) fn count(&self, version: &InForce) -> Count {
        let mut using: BTreeSet<usize> = BTreeSet::new();
        for host in &version.hosts {
            using.extend(self.by_host.get(host.as_str()).into_iter().flatten());
        }
        let resources: BTreeSet<String> = version.hosts.iter().map(|host| names::host(host)).collect();
        let mut count = Count::default();
        for (identity, progress) in using.into_iter().filter_map(|index| self.proxies.get(index)) {
            count.proxies += 1;
            let refused = progress
                .refused
                .iter()
                .find(|refused| resources.contains(&refused.resource));
            match refused {
                Some(refused) => {
                    let Identity { namespace, node_id } = identity;
                    count.refusal = Some(format!("{namespace}/{node_id} refuses it: {}", refused.reason));
                }
                None if progress.answered >= version.revision => count.acknowledged += 1,
                None => {}
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Refused, Span};

    fn proxy(node_id: &str, hosts: &[&str], answered: u64) -> (Identity, Progress) {
        let identity = Identity {
            namespace: "n".to_owned(),
            node_id: node_id.to_owned(),
        };
        let progress = Progress {
            answered,
            hosts: hosts.iter().map(|host| (*host).into()).collect(),
            ..Progress::default()
        };
        (identity, progress)
    }

    #[test]
    fn a_proxy_counts_when_it_uses_a_host_and_acknowledges_when_it_answered_the_revision() {
        let mut refusing = proxy("d", &["a"], 9);
        refusing.1.refused.push(Refused {
            resource: "host/a".to_owned(),
            version: "v".to_owned(),
            reason: "bad regex".to_owned(),
            span: Span::default(),
        });
        let mut refusing_another = proxy("e", &["b", "z"], 9);
        refusing_another.1.refused.push(Refused {
            resource: "host/z".to_owned(),
            version: "v".to_owned(),
            reason: "bad".to_owned(),
            span: Span::default(),
        });
        let proxies = [
            proxy("a", &["a", "b"], 7),
            proxy("b", &["a"], 6),
            proxy("c", &["z"], 9),
            refusing,
            refusing_another,
        ];
        let version = InForce {
            generation: 1,
            revision: 7,
            hosts: vec!["a".to_owned(), "b".to_owned()],
        };
        let count = Usage::of(&proxies).count(&version);
        assert_eq!((count.proxies, count.acknowledged), (4, 2));
        assert_eq!(count.refusal.as_deref(), Some("n/d refuses it: bad regex"));
    }
}
