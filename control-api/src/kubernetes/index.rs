//! What a cluster holds, joined: Pods into the EndpointSlices that name them, objects into documents by the readers that
//! also read people's YAML. Pure: news go in, and what is another than before comes out. Called by `follow`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tsunagi_proto::model::Locality;

use super::{
    object::{Address, Name, Node, Object, Pod, Slice},
    service::{self, Fit},
    watch::{Change, News, Source},
};
use crate::config::{self, Document, EndpointSlice, Key, Kind, Machine, Origin, PodState, SliceEndpoint, Spec};

/// Problems of one object that its status tells.
const MOST_TOLD: usize = 5;

/// What is another since the last batch.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub documents: BTreeMap<Key, Arc<Document>>,
    pub gone: BTreeSet<Key>,
    /// Objects that say what cannot be, with the reasons: their last good version stays.
    pub unreadable: BTreeMap<Key, String>,
    /// Every object of the mesh that was seen, whatever is another about it.
    pub seen: BTreeMap<Key, Sighting>,
}

/// What is known of an object beside its meaning.
#[derive(Debug)]
pub(super) struct Sighting {
    pub generation: i64,
    pub status: Value,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.gone.is_empty() && self.unreadable.is_empty() && self.seen.is_empty()
    }

    /// Whether anything beside endpoints is another: what was refused may be right now.
    pub(super) fn has_rules(&self) -> bool {
        let mut keys = self.documents.keys().chain(&self.gone);
        keys.any(|key| ![Kind::EndpointSlice, Kind::Node].contains(&key.kind))
    }
}

#[derive(Default)]
pub(super) struct Index {
    pods: HashMap<Name, Pod>,
    slices: HashMap<Name, Slice>,
    /// By name.
    nodes: HashMap<String, Node>,
    /// Pod -> slices that name it.
    named_by: HashMap<Name, BTreeSet<Name>>,
    /// The version that was read last of each object.
    versions: HashMap<Key, String>,
    /// What was listed once, or is not there to be listed.
    heard: BTreeSet<Source>,
    /// Slices to be joined anew.
    stale: BTreeSet<Name>,
    batch: Batch,
}

impl Index {
    /// Kinds of which nothing was heard yet.
    pub(super) fn awaited(&self) -> Vec<&'static str> {
        let silent = Source::all().filter(|source| !self.heard.contains(source));
        silent.map(Source::plural).collect()
    }

    pub(super) fn has_pod(&self, name: &Name) -> bool {
        self.pods.contains_key(name)
    }

    /// What is another since it was asked last.
    pub(super) fn take(&mut self) -> Batch {
        for name in std::mem::take(&mut self.stale) {
            let key = slice_key(&name);
            match self.slices.get(&name).filter(|slice| !slice.service.is_empty()) {
                Some(slice) => {
                    let document = self.join(&name, slice);
                    self.batch.set(key, document);
                }
                None => self.batch.remove(key),
            }
        }
        std::mem::take(&mut self.batch)
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Pods(Change::Listed(all)) => {
                self.heard.insert(Source::Pods);
                let old = std::mem::take(&mut self.pods);
                self.pods = all.into_iter().collect();
                let gone = old.keys().filter(|name| !self.pods.contains_key(*name));
                let other = self.pods.iter().filter(|(name, pod)| old.get(*name) != Some(pod));
                let names: Vec<Name> = gone.chain(other.map(|(name, _)| name)).cloned().collect();
                names.iter().for_each(|name| self.touch_pod(name));
            }
            News::Pods(Change::Set((name, pod))) => {
                if self.pods.get(&name) != Some(&pod) {
                    self.touch_pod(&name);
                    self.pods.insert(name, pod);
                }
            }
            News::Pods(Change::Gone((name, _))) => {
                self.pods.remove(&name);
                self.touch_pod(&name);
            }
            News::Slices(Change::Listed(all)) => {
                self.heard.insert(Source::Slices);
                let there: BTreeSet<Name> = all.iter().map(|(name, _)| name.clone()).collect();
                let gone: Vec<Name> = self
                    .slices
                    .keys()
                    .filter(|name| !there.contains(name))
                    .cloned()
                    .collect();
                gone.iter().for_each(|name| self.remove_slice(name));
                all.into_iter().for_each(|(name, slice)| self.set_slice(name, slice));
            }
            News::Slices(Change::Set((name, slice))) => self.set_slice(name, slice),
            News::Slices(Change::Gone((name, _))) => self.remove_slice(&name),
            News::Nodes(Change::Listed(all)) => {
                self.heard.insert(Source::Nodes);
                let gone = self.nodes.keys().map(|name| (name.clone(), None));
                let mut changes: BTreeMap<String, Option<Node>> = gone.collect();
                changes.extend(all.into_iter().map(|(name, node)| (name.name, Some(node))));
                self.set_nodes(changes);
            }
            News::Nodes(Change::Set((name, node))) => self.set_nodes([(name.name, Some(node))]),
            News::Nodes(Change::Gone((name, _))) => self.set_nodes([(name.name, None)]),
            News::Objects(kind, change) => match *change {
                Change::Listed(all) => {
                    self.heard.insert(Source::Objects(kind));
                    self.list_objects(kind, all);
                }
                Change::Set(object) => self.set_object(kind, object),
                Change::Gone(object) => self.remove_object(object_key(kind, object.name())),
            },
            News::Absent(source) => drop(self.heard.insert(source)),
            News::Failing(source, _) if !source.is_vital() => drop(self.heard.insert(source)),
            News::Failing(..) => {}
        }
    }

    /// `None`: it is gone.
    fn set_nodes(&mut self, nodes: impl IntoIterator<Item = (String, Option<Node>)>) {
        let mut moved = BTreeSet::new();
        for (name, node) in nodes {
            let before = self
                .nodes
                .get(&name)
                .map(|node| node.locality.as_str())
                .unwrap_or_default();
            if before != node.as_ref().map(|node| node.locality.as_str()).unwrap_or_default() {
                moved.insert(name.clone());
            }
            match node {
                Some(node) => self.nodes.insert(name, node),
                None => self.nodes.remove(&name),
            };
        }
        for name in &moved {
            let key = object_key(
                Kind::Node,
                Name {
                    namespace: String::new(),
                    name: name.clone(),
                },
            );
            match self.nodes.get(name) {
                Some(node) => self.batch.set(key.clone(), machine(key, node)),
                None => self.batch.remove(key),
            }
        }
        // Machines come and go seldom: all slices are looked at, rather than an index of them kept.
        if !moved.is_empty() {
            let on_moved = |(name, slice): &(&Name, &Slice)| {
                let mut endpoints = slice.endpoints.iter();
                endpoints.any(|endpoint| moved.contains(self.node_name(name, endpoint)))
            };
            let stale: Vec<Name> = self
                .slices
                .iter()
                .filter(on_moved)
                .map(|(name, _)| name.clone())
                .collect();
            self.stale.extend(stale);
        }
    }

    fn pod(&self, slice: &Name, address: &Address) -> Option<&Pod> {
        self.pods.get(&Name {
            namespace: slice.namespace.clone(),
            name: address.pod.clone(),
        })
    }

    /// Of the machine that an endpoint is on; empty: not known.
    fn node_name<'a>(&'a self, slice: &Name, address: &'a Address) -> &'a str {
        if address.node_name.is_empty() {
            self.pod(slice, address)
                .map(|pod| pod.node_name.as_str())
                .unwrap_or_default()
        } else {
            &address.node_name
        }
    }

    /// What the Pod's label says, else its machine, else the slice, which knows the zone alone.
    fn locality(&self, pod: Option<&Pod>, node_name: &str, zone: &str) -> String {
        let label = |key: &str| pod?.labels.get(key).map(String::as_str);
        let said = Locality::of_whole_label(label);
        if !said.is_empty() {
            return said;
        }
        let node = self.nodes.get(node_name).filter(|node| !node.locality.is_empty());
        match node {
            Some(node) => node.locality.clone(),
            None if zone.is_empty() => String::new(),
            None => Locality {
                zone,
                ..Locality::default()
            }
            .to_string(),
        }
    }

    fn touch_pod(&mut self, name: &Name) {
        self.stale
            .extend(self.named_by.get(name).into_iter().flatten().cloned());
    }

    fn set_slice(&mut self, name: Name, slice: Slice) {
        if self.slices.get(&name) == Some(&slice) {
            return;
        }
        self.unname(&name);
        for pod in pods_of(&name, &slice) {
            self.named_by.entry(pod).or_default().insert(name.clone());
        }
        self.slices.insert(name.clone(), slice);
        self.stale.insert(name);
    }

    fn remove_slice(&mut self, name: &Name) {
        self.unname(name);
        self.slices.remove(name);
        self.stale.insert(name.clone());
    }

    fn unname(&mut self, name: &Name) {
        let Some(old) = self.slices.get(name) else { return };
        for pod in pods_of(name, old) {
            if let Some(slices) = self.named_by.get_mut(&pod) {
                slices.remove(name);
                if slices.is_empty() {
                    self.named_by.remove(&pod);
                }
            }
        }
    }

    fn join(&self, name: &Name, slice: &Slice) -> Document {
        let endpoint = |address: &Address| {
            let pod = self.pod(name, address);
            let node_name = self.node_name(name, address);
            let leaving = pod.is_some_and(|pod| pod.leaving);
            SliceEndpoint {
                pod: address.pod.clone(),
                address: address.address,
                state: if leaving { PodState::Leaving } else { address.state },
                labels: pod.map(|pod| pod.labels.clone()).unwrap_or_default(),
                service_account: pod.map(|pod| pod.service_account.clone()).unwrap_or_default(),
                ready_since: pod.map_or(0, |pod| pod.ready_since),
                node_name: node_name.to_owned(),
                locality: self.locality(pod, node_name, &address.zone),
            }
        };
        let spec = EndpointSlice {
            service: slice.service.clone(),
            ports: slice.ports.clone(),
            endpoints: slice.endpoints.iter().map(endpoint).collect(),
        };
        made(slice_key(name), Spec::EndpointSlice(spec))
    }

    fn list_objects(&mut self, kind: Kind, all: Vec<Object>) {
        let there: BTreeSet<Key> = all.iter().map(|object| object_key(kind, object.name())).collect();
        let known = self.versions.keys().filter(|key| key.kind == kind);
        let gone: Vec<Key> = known.filter(|key| !there.contains(*key)).cloned().collect();
        gone.into_iter().for_each(|key| self.remove_object(key));
        all.into_iter().for_each(|object| self.set_object(kind, object));
    }

    fn set_object(&mut self, kind: Kind, mut object: Object) {
        let key = object_key(kind, object.name());
        let version = object.version();
        if self.versions.get(&key).is_some_and(|known| *known == version) {
            return;
        }
        self.versions.insert(key.clone(), version);
        if kind != Kind::Service && kind != Kind::WorkloadEntry {
            let sighting = Sighting {
                generation: object.generation(),
                status: object.take_status(),
            };
            self.batch.seen.insert(key.clone(), sighting);
        }
        let document = object.into_document(kind);
        let document = if kind == Kind::Service {
            match service::fit(document) {
                Fit::Taken(document, lost) => {
                    for lost in lost {
                        tracing::info!("{key}: {lost}");
                    }
                    document
                }
                Fit::Left(reason) => {
                    tracing::debug!("{key} is left out: {reason}");
                    return self.batch.remove(key);
                }
            }
        } else {
            document
        };
        match config::from_object(document) {
            Ok(document) => self.batch.set(key, document),
            Err(problems) => {
                let told: Vec<String> = problems.iter().take(MOST_TOLD).map(reason).collect();
                self.batch.documents.remove(&key);
                self.batch.unreadable.insert(key, told.join("; "));
            }
        }
    }

    fn remove_object(&mut self, key: Key) {
        self.versions.remove(&key);
        self.batch.remove(key);
    }
}

impl Batch {
    fn set(&mut self, key: Key, document: Document) {
        self.gone.remove(&key);
        self.unreadable.remove(&key);
        self.documents.insert(key, Arc::new(document));
    }

    fn remove(&mut self, key: Key) {
        self.documents.remove(&key);
        self.unreadable.remove(&key);
        self.seen.remove(&key);
        self.gone.insert(key);
    }
}

/// For a moment: `writer` asks for Pods while `follow` goes on.
pub(super) fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A status is about one object: its name says nothing new there.
pub(super) fn reason(problem: &config::Problem) -> String {
    if problem.field.is_empty() {
        problem.reason.clone()
    } else {
        format!("{}: {}", problem.field, problem.reason)
    }
}

fn pods_of(slice: &Name, of: &Slice) -> BTreeSet<Name> {
    let named = of.endpoints.iter().filter(|endpoint| !endpoint.pod.is_empty());
    let name = |pod: &String| Name {
        namespace: slice.namespace.clone(),
        name: pod.clone(),
    };
    named.map(|endpoint| name(&endpoint.pod)).collect()
}

fn machine(key: Key, node: &Node) -> Document {
    let locality = node.locality.clone();
    made(key, Spec::Node(Machine { locality }))
}

/// A document that nobody wrote.
fn made(key: Key, spec: Spec) -> Document {
    Document {
        key,
        object: Value::Null,
        spec,
        origin: Origin::default(),
        labels: BTreeMap::new(),
        created: None,
        remarks: Vec::new(),
    }
}

fn slice_key(name: &Name) -> Key {
    object_key(Kind::EndpointSlice, name.clone())
}

fn object_key(kind: Kind, name: Name) -> Key {
    let Name { namespace, name } = name;
    Key { kind, namespace, name }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::object::{PodObject, SliceObject};

    fn pod(name: &str, version: &str) -> (Name, Pod) {
        let object = json!({"metadata": {"name": name, "namespace": "n", "labels": {"version": version}}});
        serde_json::from_value::<PodObject>(object).unwrap().into_parts()
    }

    fn slice(name: &str, pods: &[&str]) -> (Name, Slice) {
        let endpoint = |pod: &&str| json!({"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": pod}});
        let object = json!({
            "metadata": {"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": "user"}},
            "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 8080}],
        });
        serde_json::from_value::<SliceObject>(object).unwrap().into_parts()
    }

    fn rule(version: &str, host: Value) -> Object {
        let object = json!({
            "metadata": {"name": "r", "namespace": "n", "resourceVersion": version, "generation": 2},
            "spec": {"host": host},
            "status": {"note": version},
        });
        serde_json::from_value(object).unwrap()
    }

    fn versions(batch: &Batch) -> Vec<String> {
        let of = |document: &Arc<Document>| match &document.spec {
            Spec::EndpointSlice(slice) => slice
                .endpoints
                .iter()
                .map(|one| one.labels["version"].clone())
                .collect(),
            _ => Vec::new(),
        };
        batch.documents.values().flat_map(of).collect()
    }

    fn joined() -> Index {
        let mut index = Index::default();
        index.hear(News::Slices(Change::Listed(vec![
            slice("s", &["a", "b"]),
            slice("t", &["c"]),
        ])));
        index.hear(News::Pods(Change::Listed(vec![
            pod("a", "v1"),
            pod("b", "v1"),
            pod("c", "v1"),
        ])));
        assert_eq!(versions(&index.take()), ["v1", "v1", "v1"]);
        index
    }

    #[test]
    fn a_changed_label_makes_only_the_slices_anew_that_name_the_pod() {
        let mut index = joined();
        index.hear(News::Pods(Change::Set(pod("a", "v2"))));
        let batch = index.take();
        assert_eq!(versions(&batch), ["v2", "v1"]);
        assert_eq!(batch.documents.len(), 1);
        index.hear(News::Pods(Change::Set(pod("a", "v2"))));
        assert!(index.take().is_empty());
    }

    #[test]
    fn a_list_after_a_gap_says_what_went_meanwhile_and_nothing_else() {
        let mut index = joined();
        index.hear(News::Slices(Change::Listed(vec![slice("s", &["a", "b"])])));
        let batch = index.take();
        let gone: Vec<String> = batch.gone.iter().map(Key::to_string).collect();
        assert_eq!(gone, ["EndpointSlice/n/t"]);
        assert!(batch.documents.is_empty());
        index.hear(News::Pods(Change::Listed(vec![pod("a", "v1"), pod("b", "v3")])));
        assert_eq!(versions(&index.take()), ["v1", "v3"]);
    }

    fn node(name: &str, region: &str) -> (Name, Node) {
        let object = json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/region": region}}});
        Node::of(serde_json::from_value(object).unwrap())
    }

    /// Machine and locality of every endpoint that is another.
    fn places(batch: &Batch) -> Vec<(String, String)> {
        let of = |document: &Arc<Document>| match &document.spec {
            Spec::EndpointSlice(slice) => slice
                .endpoints
                .iter()
                .map(|one| (one.node_name.clone(), one.locality.clone()))
                .collect(),
            _ => Vec::new(),
        };
        batch.documents.values().flat_map(of).collect()
    }

    #[test]
    fn an_endpoint_is_where_its_node_is_and_moves_with_it() {
        let mut index = joined();
        let on = |name: &str, machine: &str| {
            let (name, pod) = pod(name, "v1");
            let node_name = machine.to_owned();
            News::Pods(Change::Set((name, Pod { node_name, ..pod })))
        };
        index.hear(on("a", "m1"));
        index.hear(on("c", "m2"));
        assert_eq!(places(&index.take())[0], ("m1".to_owned(), String::new()));
        index.hear(News::Nodes(Change::Listed(vec![node("m1", "eu"), node("m2", "us")])));
        let place = |machine: &str, locality: &str| (machine.to_owned(), locality.to_owned());
        let batch = index.take();
        assert_eq!(places(&batch), [place("m1", "eu"), place("", ""), place("m2", "us")]);
        // The machines themselves are told, too: of Pods that no slice names.
        assert_eq!(batch.documents.keys().filter(|key| key.kind == Kind::Node).count(), 2);
        index.hear(News::Nodes(Change::Set(node("m2", "us"))));
        assert!(index.take().is_empty());
        index.hear(News::Nodes(Change::Listed(vec![node("m1", "eu")])));
        let batch = index.take();
        assert_eq!(places(&batch), [place("m2", "")]);
        assert_eq!(batch.gone.len(), 1);
    }

    #[test]
    fn a_pods_label_goes_over_its_node_and_the_slices_zone_is_better_than_nothing() {
        let mut index = joined();
        let (name, mut labelled) = pod("c", "v1");
        labelled.node_name = "m1".to_owned();
        index.hear(News::Nodes(Change::Set(node("m1", "eu"))));
        labelled
            .labels
            .insert("istio-locality".to_owned(), "mars.base".to_owned());
        index.hear(News::Pods(Change::Set((name, labelled))));
        assert_eq!(places(&index.take()), [("m1".to_owned(), "mars/base".to_owned())]);
        let (name, mut zoned) = slice("t", &["nobody"]);
        zoned.endpoints[0].zone = "eu-a".to_owned();
        index.hear(News::Slices(Change::Set((name, zoned))));
        assert_eq!(places(&index.take()), [(String::new(), "/eu-a".to_owned())]);
    }

    #[test]
    fn nobody_waits_for_nodes_that_may_not_be_watched() {
        let mut index = Index::default();
        let all = index.awaited().len();
        index.hear(News::Failing(Source::Nodes, "forbidden".to_owned()));
        index.hear(News::Failing(Source::Pods, "forbidden".to_owned()));
        assert_eq!(index.awaited().len(), all - 1);
    }

    #[test]
    fn a_pod_is_ready_since_its_condition_says_so() {
        let object = |status: &str| {
            let condition = json!({"type": "Ready", "status": status, "lastTransitionTime": "2023-11-14T22:13:20Z"});
            let object = json!({
                "metadata": {"name": "c", "namespace": "n"},
                "status": {"conditions": [{"type": "Initialized", "status": "True"}, condition]},
            });
            serde_json::from_value::<PodObject>(object).unwrap().into_parts()
        };
        let mut index = joined();
        for (status, expected) in [("True", 1_700_000_000), ("False", 0)] {
            index.hear(News::Pods(Change::Set(object(status))));
            let batch = index.take();
            let Some(Spec::EndpointSlice(slice)) = batch.documents.values().next().map(|document| &document.spec)
            else {
                panic!("no slice");
            };
            assert_eq!(slice.endpoints[0].ready_since, expected);
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_leaves() {
        let mut index = joined();
        let (name, mut leaving) = pod("c", "v1");
        leaving.leaving = true;
        index.hear(News::Pods(Change::Set((name, leaving))));
        let batch = index.take();
        let Some(Spec::EndpointSlice(slice)) = batch.documents.values().next().map(|document| &document.spec) else {
            panic!("no slice");
        };
        assert_eq!(slice.endpoints[0].state, PodState::Leaving);
    }

    #[test]
    fn an_object_that_does_not_parse_is_named_and_its_status_is_seen() {
        let kind = Kind::DestinationRule;
        let mut index = Index::default();
        index.hear(News::Objects(kind, Box::new(Change::Set(rule("1", json!("a"))))));
        assert_eq!(index.take().documents.len(), 1);
        index.hear(News::Objects(kind, Box::new(Change::Set(rule("2", json!(7))))));
        let batch = index.take();
        assert!(batch.documents.is_empty() && batch.gone.is_empty());
        let (key, reason) = batch.unreadable.first_key_value().unwrap();
        assert_eq!(key.to_string(), "DestinationRule/n/r");
        assert_eq!(reason, "spec.host: must be text: write \"7\" in quotes");
        assert_eq!(batch.seen[key].generation, 2);
        assert_eq!(batch.seen[key].status["note"], "2");
        // The same version again, as after a new list, is nothing new.
        index.hear(News::Objects(kind, Box::new(Change::Listed(vec![rule("2", json!(7))]))));
        assert!(index.take().is_empty());
        index.hear(News::Objects(kind, Box::new(Change::Listed(Vec::new()))));
        assert_eq!(index.take().gone.len(), 1);
    }

    #[test]
    fn a_kind_that_is_not_installed_is_not_waited_for() {
        let mut index = Index::default();
        let all = index.awaited().len();
        index.hear(News::Absent(Source::Objects(Kind::VirtualService)));
        index.hear(News::Pods(Change::Listed(Vec::new())));
        index.hear(News::Failing(Source::Slices, "down".to_owned()));
        assert_eq!(index.awaited().len(), all - 2);
        assert!(index.awaited().contains(&"endpointslices"));
    }
}
