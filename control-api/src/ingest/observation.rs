//! What a source outside says: a cluster, which is the store there. It has happened already and cannot be refused as a
//! whole, so each document is judged alone: one that would make what no proxy takes is left out, its last good version
//! stays in force, and the rest goes on. Called by `kubernetes` through `Ingest::observe`.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{Held, Inner};
use crate::{
    config::{Document, DocumentSet, Key, Problem},
    snapshot::World,
};

/// What is another than before.
#[derive(Debug, Default)]
pub struct Observation {
    pub documents: Vec<Arc<Document>>,
    pub gone: Vec<Key>,
}

/// What became of it.
#[derive(Debug)]
pub struct Observed {
    /// Of the world that is in force now.
    pub revision: u64,
    /// Keys of documents whose meaning that revision changed.
    pub changed: HashSet<Key>,
    pub refused: Vec<(Key, Problem)>,
}

impl Inner {
    /// The first observation makes a world in any case: before it nobody can say what there is.
    pub(super) fn observe(&self, observation: Observation) -> Observed {
        let held = self.held();
        let mut rest = held.documents.clone();
        for key in &observation.gone {
            rest.remove(key);
        }
        let (documents, world, refused) = admit(&held, rest, observation.documents);
        let changed = changed(&held.documents, &documents);
        if changed.is_empty() && held.world.revision() > 0 {
            // Only what nobody is told: notes of others, a status.
            self.hold(documents, held.world);
            let revision = self.held().world.revision();
            return Observed {
                revision,
                changed,
                refused,
            };
        }
        let revision = world.revision();
        tracing::info!(revision, resources = documents.len(), "configuration in force");
        self.publish(documents, world);
        Observed {
            revision,
            changed,
            refused,
        }
    }
}

/// `rest` with as many of the new documents as can be in force together.
fn admit(held: &Held, rest: DocumentSet, new: Vec<Arc<Document>>) -> (DocumentSet, World, Vec<(Key, Problem)>) {
    let revision = held.world.revision() + 1;
    let known: BTreeSet<Problem> = held.world.problems().into_iter().collect();
    let build = |documents: &DocumentSet| World::of(documents, revision, Some(&held.world));
    let whole = with(&rest, &new);
    let world = build(&whole);
    if fresh(&world, &known).is_none() {
        return (whole, world, Vec::new());
    }
    let mut draft = Draft {
        documents: rest,
        world: held.world.as_ref().clone(),
        known,
        refused: Vec::new(),
    };
    // What went may be what others needed: that is nobody's fault here.
    draft.world = build(&draft.documents);
    draft.known.extend(draft.world.problems());
    draft.admit(&new);
    // From the world before, so that it knows of everything that is another since.
    let world = build(&draft.documents);
    (draft.documents, world, draft.refused)
}

/// A problem that was not there before.
fn fresh(world: &World, known: &BTreeSet<Problem>) -> Option<Problem> {
    world.problems().into_iter().find(|problem| !known.contains(problem))
}

fn with(documents: &DocumentSet, new: &[Arc<Document>]) -> DocumentSet {
    let mut documents = documents.clone();
    new.iter().for_each(|document| documents.insert(Arc::clone(document)));
    documents
}

/// A world to which documents are added by halves, until those that do not fit are alone.
struct Draft {
    documents: DocumentSet,
    world: World,
    known: BTreeSet<Problem>,
    refused: Vec<(Key, Problem)>,
}

impl Draft {
    fn admit(&mut self, new: &[Arc<Document>]) {
        let documents = with(&self.documents, new);
        let world = World::of(&documents, self.world.revision(), Some(&self.world));
        match (fresh(&world, &self.known), new) {
            (None, _) => {
                self.documents = documents;
                self.world = world;
            }
            (Some(problem), [one]) => self.refused.push((one.key.clone(), problem)),
            (Some(_), several) => {
                let (first, second) = several.split_at(several.len() / 2);
                self.admit(first);
                self.admit(second);
            }
        }
    }
}

fn changed(before: &DocumentSet, after: &DocumentSet) -> HashSet<Key> {
    let difference = after.since(before);
    let documents = difference.added.iter().chain(&difference.removed);
    documents.map(|document| document.key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        config::parse,
        ingest::{Ingest, Refused},
    };

    fn service(name: &str, port: u16) -> Arc<Document> {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: {port}}}]}}}}"
        );
        Arc::new(parse("", &text, "").unwrap().remove(0))
    }

    /// A proxy takes no destination without a host.
    fn rule(name: &str, good: bool) -> Arc<Document> {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}}}, spec: {{hosts: [{name}], http: [{{route: [{{destination: {{host: {name}}}}}]}}]}}}}"
        );
        let mut document = parse("", &text, "").unwrap().remove(0);
        if let (false, crate::config::Spec::VirtualService(rule)) = (good, &mut document.spec) {
            rule.http[0].route[0].host.clear();
        }
        Arc::new(document)
    }

    fn observation(documents: Vec<Arc<Document>>) -> Observation {
        Observation {
            documents,
            gone: Vec::new(),
        }
    }

    #[tokio::test]
    async fn what_a_cluster_says_is_in_force_and_what_goes_is_gone() {
        let (ingest, world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        assert_eq!(world.borrow().revision(), 0);
        let observed = ingest
            .observe(observation(vec![service("a", 1), service("b", 1)]))
            .await
            .unwrap();
        assert_eq!((observed.revision, observed.changed.len()), (1, 2));
        assert_eq!(world.borrow().host_names().len(), 2);
        let gone = Observation {
            documents: Vec::new(),
            gone: vec![service("a", 1).key.clone()],
        };
        let observed = ingest.observe(gone).await.unwrap();
        assert_eq!((observed.revision, observed.changed.len()), (2, 1));
        assert_eq!(world.borrow().host_names(), ["b.default.svc.cluster.local"]);
    }

    #[tokio::test]
    async fn what_means_the_same_is_no_new_revision_and_an_empty_cluster_is_a_world() {
        let (ingest, world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        ingest.observe(Observation::default()).await.unwrap();
        assert_eq!(world.borrow().revision(), 1);
        ingest.observe(observation(vec![service("a", 1)])).await.unwrap();
        let mut noted = service("a", 1).as_ref().clone();
        noted.object["metadata"]["annotations"] = serde_json::json!({"note": "x"});
        let observed = ingest.observe(observation(vec![Arc::new(noted)])).await.unwrap();
        assert_eq!((observed.revision, observed.changed.len()), (2, 0));
        let shown = ingest.held().documents.values().next().unwrap().object.clone();
        assert_eq!(shown["metadata"]["annotations"]["note"], "x");
    }

    #[tokio::test]
    async fn of_many_documents_only_the_one_that_no_proxy_takes_is_left_out() {
        let (ingest, world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        let names = ["a", "b", "c", "d", "e"];
        let all = |bad: &str| {
            let rules = names.iter().map(|name| rule(name, *name != bad));
            names.iter().map(|name| service(name, 1)).chain(rules).collect()
        };
        let observed = ingest.observe(observation(all("c"))).await.unwrap();
        let refused: Vec<String> = observed.refused.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(refused, ["VirtualService/default/c"]);
        assert_eq!(ingest.held().documents.len(), 9);
        assert_eq!(world.borrow().host_names().len(), 5);
        assert!(world.borrow().problems().is_empty());
        // Everything is new to who had the world before.
        assert!(
            world
                .borrow()
                .changed()
                .iter()
                .any(|name| name == "host/e.default.svc.cluster.local")
        );
    }

    #[tokio::test]
    async fn the_last_good_version_of_what_is_refused_stays() {
        let (ingest, _world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        ingest
            .observe(observation(vec![service("a", 1), rule("a", true)]))
            .await
            .unwrap();
        let observed = ingest.observe(observation(vec![rule("a", false)])).await.unwrap();
        assert_eq!((observed.revision, observed.refused.len()), (1, 1));
        let held = ingest.held();
        let kept = held.documents.get(&rule("a", true).key).unwrap();
        assert!(kept.means_the_same(&rule("a", true)));
    }

    #[tokio::test]
    async fn a_dry_run_is_not_blamed_for_what_was_wrong_before() {
        let (ingest, _world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        let documents = with(&DocumentSet::default(), &[service("a", 1), rule("a", false)]);
        let world = World::build(documents.values().cloned(), 1, None);
        assert_eq!(world.problems().len(), 1);
        ingest.0.hold(documents, Arc::new(world));
        let tried = ingest.apply(vec![service("b", 1).as_ref().clone()], true).await;
        assert_eq!(tried.unwrap().changes.len(), 1);
    }

    #[tokio::test]
    async fn a_proxy_that_leaves_is_a_revision_of_its_own_and_the_next_observation_another() {
        let (ingest, world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        let text = "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: a-1}, spec: {address: 10.0.0.1}}";
        let workload = Arc::new(parse("", text, "").unwrap().remove(0));
        ingest.observe(observation(vec![workload])).await.unwrap();
        let node = crate::snapshot::Node {
            namespace: "default".into(),
            node_id: "a-1".into(),
            ..Default::default()
        };
        assert_eq!(ingest.leave(node.clone()).await.unwrap(), Some(2));
        let observed = ingest.observe(observation(vec![service("b", 1)])).await.unwrap();
        assert_eq!(
            (observed.revision, world.borrow().leaving_since("default", "a-1")),
            (3, Some(2))
        );
        ingest.stay(node).await.unwrap();
        assert_eq!(
            (
                world.borrow().revision(),
                world.borrow().leaving_since("default", "a-1")
            ),
            (4, None)
        );
    }

    #[tokio::test]
    async fn writing_is_for_others_and_a_dry_run_is_not() {
        let (ingest, _world) = Ingest::without_store(|| SystemTime::UNIX_EPOCH, "root");
        ingest.observe(Observation::default()).await.unwrap();
        let document = || vec![service("a", 1).as_ref().clone()];
        let refused = ingest.apply(document(), false).await;
        assert!(matches!(refused, Err(Refused::Elsewhere)), "{refused:?}");
        assert_eq!(ingest.apply(document(), true).await.unwrap().changes.len(), 1);
        let refused = ingest.delete(vec![service("a", 1).key.clone()], false).await;
        assert!(matches!(refused, Err(Refused::Elsewhere)), "{refused:?}");
    }
}
