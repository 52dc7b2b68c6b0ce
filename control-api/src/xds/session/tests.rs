//! The server's machine on its own: what it sends, in which order, and what it makes of the answers.

mod departure;
mod wildcards;
mod work;

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;
use prost_types::Any;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use tsunagi_proto::wire::google::rpc;
use tsunagi_proto::wire::mesh;

use super::*;
use crate::snapshot::{Encoded, EncodedChange};

/// Versions by FQDN, and what each host reaches.
#[derive(Clone, Default)]
struct Fake {
    revision: u64,
    /// Since the revision before; `None`: not known.
    changed: Option<Vec<String>>,
    hosts: HashMap<&'static str, (String, Vec<&'static str>)>,
    endpoints: HashMap<&'static str, (String, Option<String>)>,
}

fn encoded(name: String, version: &str, base: Option<&String>) -> Arc<Encoded> {
    let change = base.map(|base| EncodedChange {
        base_version: base.clone(),
        bytes: Bytes::from("change"),
    });
    Arc::new(Encoded {
        name,
        version: version.to_owned(),
        bytes: Bytes::from(version.to_owned()),
        change,
    })
}

impl Resources for Fake {
    fn revision(&self) -> u64 {
        self.revision
    }
    fn host(&self, fqdn: &str, _: &str) -> Option<Arc<Encoded>> {
        self.hosts
            .get(fqdn)
            .map(|(version, _)| encoded(names::host(fqdn), version, None))
    }
    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        self.endpoints
            .get(fqdn)
            .map(|(version, base)| encoded(names::endpoints(fqdn), version, base.as_ref()))
    }
    fn reaches(&self, fqdn: &str, _: &str) -> Arc<[String]> {
        self.hosts[fqdn].1.iter().map(|&reached| reached.to_owned()).collect()
    }
    fn workload(&self, node: &crate::snapshot::Node) -> Arc<Encoded> {
        encoded(names::workload(&node.namespace, &node.node_id), "w1", None)
    }
    fn changed_since(&self, revision: u64) -> Option<Arc<[String]>> {
        let changed = self.changed.as_ref().filter(|_| revision + 1 == self.revision);
        changed.map(|names| names.iter().cloned().collect())
    }
}

impl Fake {
    /// `a` reaches itself and `b`; `c` stands alone.
    fn first() -> Self {
        Self {
            revision: 1,
            ..Self::default()
        }
        .host("a", "a1", &["a", "b"])
        .host("c", "c1", &["c"])
        .endpoints("a", "ea1", None)
        .endpoints("b", "eb1", None)
        .endpoints("c", "ec1", None)
    }
    fn host(mut self, fqdn: &'static str, version: &str, reach: &[&'static str]) -> Self {
        self.hosts.insert(fqdn, (version.to_owned(), reach.to_vec()));
        self
    }
    fn endpoints(mut self, fqdn: &'static str, version: &str, base: Option<&str>) -> Self {
        self.endpoints
            .insert(fqdn, (version.to_owned(), base.map(str::to_owned)));
        self
    }
    fn without(mut self, fqdn: &str) -> Self {
        self.hosts.remove(fqdn);
        self.endpoints.remove(fqdn);
        self
    }
    fn next(mut self) -> Self {
        self.revision += 1;
        self
    }
    /// It differs from the one before in these.
    fn knowing(mut self, changed: &[String]) -> Self {
        self.changed = Some(changed.to_vec());
        self
    }
}

fn first_request(subscribe: &[&str], held: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: "pod-1".to_owned(),
            ..Node::default()
        }),
        initial_resource_versions: held
            .iter()
            .map(|&(name, version)| (name.to_owned(), version.to_owned()))
            .collect(),
        ..request(subscribe, &[])
    }
}

fn request(subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    DeltaDiscoveryRequest {
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        resource_names_subscribe: owned(subscribe),
        resource_names_unsubscribe: owned(unsubscribe),
        ..DeltaDiscoveryRequest::default()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        response_nonce: response.nonce.clone(),
        ..request(&[], &[])
    }
}

fn nack(response: &DeltaDiscoveryResponse, refused: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let detail = |&(name, reason): &(&str, &str)| {
        let refusal = mesh::Refusal {
            resource_name: name.to_owned(),
            version: String::new(),
            reason: reason.to_owned(),
        };
        Any {
            type_url: names::REFUSAL_TYPE_URL.to_owned(),
            value: refusal.encode_to_vec(),
        }
    };
    let details = refused.iter().map(detail).collect();
    let error = rpc::Status {
        code: 3,
        message: "all of it".to_owned(),
        details,
    };
    DeltaDiscoveryRequest {
        error_detail: Some(error),
        ..ack(response)
    }
}

fn start(world: Fake, subscribe: &[&str]) -> Session<Fake> {
    Session::new(Arc::new(world), &first_request(subscribe, &[])).unwrap()
}

/// `name=bytes` of what is sent and `-name` of what is removed, sorted.
fn shown(response: &DeltaDiscoveryResponse) -> Vec<String> {
    let bytes = |resource: &tsunagi_proto::wire::discovery::Resource| {
        let value = resource.resource.as_ref().unwrap().value.clone();
        format!("{}={}", resource.name, String::from_utf8(value).unwrap())
    };
    let removed = response.removed_resources.iter().map(|name| format!("-{name}"));
    let mut lines: Vec<String> = response.resources.iter().map(bytes).chain(removed).collect();
    lines.sort();
    lines
}

/// Takes the next response and acknowledges it.
fn acknowledged(session: &mut Session<Fake>) -> Vec<String> {
    let Some(response) = session.response() else {
        return Vec::new();
    };
    session.request(&ack(&response)).unwrap();
    shown(&response)
}

#[test]
fn a_host_comes_with_the_endpoints_of_all_that_it_reaches() {
    let mut session = start(Fake::first(), &["host/a", "workload/default/pod-1"]);
    let expected = [
        "endpoints/a=ea1",
        "endpoints/b=eb1",
        "host/a=a1",
        "workload/default/pod-1=w1",
    ];
    assert_eq!(acknowledged(&mut session), expected);
    assert_eq!(session.response(), None);
    let progress = session.progress();
    assert_eq!(
        (progress.answered, progress.acknowledged, progress.subscriptions),
        (1, 1, 2)
    );
}

#[test]
fn what_does_not_exist_is_answered_and_sent_once_it_does() {
    let subscribe = ["host/x", "nonsense", "*", "workload/default/other", "endpoints/c"];
    let mut session = start(Fake::first(), &subscribe);
    assert_eq!(
        acknowledged(&mut session),
        ["-*", "-endpoints/c", "-host/x", "-nonsense", "-workload/default/other"]
    );
    assert_eq!(session.response(), None);
    let world = Fake::first().next().host("x", "x1", &["x"]).endpoints("x", "ex1", None);
    assert_eq!(session.world(Arc::new(world)), Some(Span { after: 1, upto: 2 }));
    assert_eq!(acknowledged(&mut session), ["endpoints/x=ex1", "host/x=x1"]);
}

#[test]
fn while_a_response_is_in_flight_newer_worlds_coalesce() {
    let mut session = start(Fake::first(), &["host/a"]);
    let response = session.response().unwrap();
    for version in ["a2", "a3"] {
        session.world(Arc::new(Fake::first().next().host("a", version, &["a", "b"])));
        assert_eq!(session.response(), None);
    }
    assert_eq!(session.progress().answered, 0);
    session.request(&ack(&response)).unwrap();
    assert_eq!(session.progress().answered, 1);
    assert_eq!(acknowledged(&mut session), ["host/a=a3"]);
    assert_eq!(session.progress().answered, 2);
}

#[test]
fn an_answer_to_another_response_settles_nothing() {
    let mut session = start(Fake::first(), &["host/a"]);
    let response = session.response().unwrap();
    let mut stale = ack(&response);
    stale.response_nonce = "77".to_owned();
    session.request(&stale).unwrap();
    assert!(session.in_flight.is_some());
}

#[test]
fn a_world_that_changes_nothing_here_is_acknowledged_at_once() {
    let mut session = start(Fake::first(), &["host/a"]);
    acknowledged(&mut session);
    assert_eq!(session.response(), None);
    assert_eq!(
        session.world(Arc::new(Fake::first().next().host("c", "c2", &["c"]))),
        None
    );
    assert_eq!(session.response(), None);
    assert_eq!(session.progress().acknowledged, 2);
}

#[test]
fn a_change_of_endpoints_goes_only_to_who_holds_its_base() {
    let world = Fake::first().next().endpoints("b", "eb2", Some("eb1"));
    let mut session = start(Fake::first(), &["host/a"]);
    acknowledged(&mut session);
    session.world(Arc::new(world.clone()));
    assert_eq!(acknowledged(&mut session), ["endpoints/b=change"]);
    let mut session = start(world.clone(), &["host/a"]);
    assert_eq!(
        acknowledged(&mut session),
        ["endpoints/a=ea1", "endpoints/b=eb2", "host/a=a1"]
    );
    let later = world.next().endpoints("b", "eb4", Some("eb3"));
    session.world(Arc::new(later));
    assert_eq!(acknowledged(&mut session), ["endpoints/b=eb4"]);
}

#[test]
fn a_lost_base_brings_the_whole_again() {
    let mut session = start(Fake::first(), &["host/a"]);
    acknowledged(&mut session);
    session.world(Arc::new(Fake::first().next().endpoints("b", "eb2", Some("eb1"))));
    let response = session.response().unwrap();
    assert_eq!(shown(&response), ["endpoints/b=change"]);
    let mut lost = ack(&response);
    lost.resource_names_subscribe = vec!["endpoints/b".to_owned()];
    session.request(&lost).unwrap();
    assert_eq!(acknowledged(&mut session), ["endpoints/b=eb2"]);
    assert_eq!(session.response(), None);
}

#[test]
fn a_refused_version_is_not_sent_again_and_the_rest_is_in_force() {
    let mut session = start(Fake::first(), &["host/a", "host/c"]);
    acknowledged(&mut session);
    let world = Fake::first().next().host("a", "a2", &["a"]).host("c", "c2", &["c"]);
    session.world(Arc::new(world.clone()));
    let response = session.response().unwrap();
    session.request(&nack(&response, &[("host/a", "bad regex")])).unwrap();
    assert_eq!(session.response(), None);
    let progress = session.progress();
    assert_eq!((progress.answered, progress.acknowledged), (2, 1));
    let refused = &progress.refused[0];
    assert_eq!(
        (refused.resource.as_str(), refused.reason.as_str()),
        ("host/a", "bad regex")
    );
    // The version in force still reaches b, so b's endpoints stay, and stay up to date.
    session.world(Arc::new(world.clone().next().endpoints("b", "eb2", None)));
    assert_eq!(acknowledged(&mut session), ["endpoints/b=eb2"]);
    assert_eq!(session.progress().acknowledged, 1);
    // The next version is another matter; with it b is no longer reached, and is removed once that is in force.
    session.world(Arc::new(world.next().next().host("a", "a3", &["a"])));
    assert!(session.progress().refused.is_empty());
    assert!(acknowledged(&mut session).contains(&"host/a=a3".to_owned()));
    assert_eq!(acknowledged(&mut session), ["-endpoints/b"]);
    assert_eq!(session.progress().acknowledged, 4);
}

#[test]
fn a_refusal_without_details_refuses_the_whole_response() {
    let mut session = start(Fake::first(), &["host/a", "host/x"]);
    let response = session.response().unwrap();
    session.request(&nack(&response, &[])).unwrap();
    assert_eq!(session.response(), None);
    let refused: Vec<String> = session
        .progress()
        .refused
        .iter()
        .map(|refused| refused.resource.clone())
        .collect();
    assert_eq!(refused, ["host/a", "endpoints/a", "endpoints/b"]);
}

#[test]
fn a_refusal_of_what_was_not_sent_refuses_the_whole_response() {
    for named in ["host/c", "endpoints/z", "host/x", ""] {
        let mut session = start(Fake::first(), &["host/a", "host/x"]);
        let response = session.response().unwrap();
        assert!(shown(&response).contains(&"-host/x".to_owned()));
        session.request(&nack(&response, &[(named, "bad")])).unwrap();
        let refused = session.progress().refused;
        assert_eq!(refused.len(), 3, "{named}");
        assert!(refused.iter().all(|refused| refused.reason == "all of it"));
        assert_eq!(session.progress().acknowledged, 0);
    }
    // One that was sent is enough for the rest to be in force.
    let mut session = start(Fake::first(), &["host/a"]);
    let response = session.response().unwrap();
    session
        .request(&nack(&response, &[("host/c", "bad"), ("endpoints/b", "bad")]))
        .unwrap();
    let refused: Vec<String> = session.progress().refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused, ["endpoints/b: bad"]);
}

#[test]
fn what_is_kept_of_a_refusal_is_short() {
    let long = "x".repeat(2 << 20);
    for details in [vec![], vec![("host/a", long.as_str())]] {
        let mut session = start(Fake::first(), &["host/a"]);
        let response = session.response().unwrap();
        let mut answer = nack(&response, &details);
        answer.error_detail.as_mut().unwrap().message = long.clone();
        session.request(&answer).unwrap();
        assert_eq!(session.progress().refused[0].reason.len(), 1_024);
    }
}

#[test]
fn resuming_sends_only_what_differs() {
    let held = [
        ("host/a", "a1"),
        ("endpoints/a", "ea1"),
        ("endpoints/b", "old"),
        ("endpoints/gone", "g1"),
        ("workload/default/pod-1", "w1"),
    ];
    let first = first_request(&["host/a", "workload/default/pod-1"], &held);
    let mut session = Session::new(Arc::new(Fake::first()), &first).unwrap();
    assert_eq!(acknowledged(&mut session), ["-endpoints/gone", "endpoints/b=eb1"]);
    assert_eq!(session.response(), None);
}

#[test]
fn resuming_with_an_old_host_keeps_its_endpoints_until_the_new_one_is_in_force() {
    let held = [("host/a", "a0"), ("endpoints/a", "ea1"), ("endpoints/c", "ec1")];
    let mut session = Session::new(Arc::new(Fake::first()), &first_request(&["host/a"], &held)).unwrap();
    assert_eq!(acknowledged(&mut session), ["endpoints/b=eb1", "host/a=a1"]);
    assert_eq!(acknowledged(&mut session), ["-endpoints/c"]);
}

#[test]
fn unsubscribing_takes_along_what_only_that_host_reached() {
    let mut session = start(Fake::first().host("c", "c1", &["b", "c"]), &["host/a", "host/c"]);
    acknowledged(&mut session);
    session.request(&request(&[], &["host/a"])).unwrap();
    assert_eq!(acknowledged(&mut session), ["-endpoints/a"]);
    assert_eq!(session.progress().subscriptions, 1);
    session.request(&request(&["host/a"], &[])).unwrap();
    assert_eq!(acknowledged(&mut session), ["endpoints/a=ea1", "host/a=a1"]);
}

#[test]
fn a_host_that_goes_takes_its_endpoints_in_the_same_response() {
    let mut session = start(Fake::first(), &["host/a"]);
    acknowledged(&mut session);
    session.world(Arc::new(Fake::first().next().without("a")));
    assert_eq!(acknowledged(&mut session), ["-endpoints/a", "-endpoints/b", "-host/a"]);
    assert_eq!(session.response(), None);
}

#[test]
fn a_name_asked_for_again_is_sent_again() {
    let mut session = start(Fake::first(), &["host/c"]);
    acknowledged(&mut session);
    session.request(&request(&["host/c"], &[])).unwrap();
    assert_eq!(acknowledged(&mut session), ["host/c=c1"]);
    session.request(&request(&["endpoints/c"], &[])).unwrap();
    assert_eq!(acknowledged(&mut session), ["endpoints/c=ec1"]);
}

#[test]
fn names_beyond_the_limit_are_answered_as_absent_and_not_kept() {
    let names: Vec<String> = (0..=MOST_SUBSCRIPTIONS).map(|index| format!("host/{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut session = start(Fake::first(), &names);
    assert_eq!(acknowledged(&mut session).len(), MOST_SUBSCRIPTIONS + 1);
    assert_eq!(session.progress().subscriptions, MOST_SUBSCRIPTIONS);
}

#[test]
fn a_large_push_comes_in_parts_and_is_answered_with_the_last() {
    const LARGE: usize = 3 << 20;
    let names = ["h1", "h2", "h3"];
    let mut world = Fake {
        revision: 1,
        ..Fake::default()
    };
    for name in names {
        world = world
            .host(name, &name.repeat(LARGE / 2), &[name])
            .endpoints(name, "e", None);
    }
    let mut session = start(world, &["host/h1", "host/h2", "host/h3"]);
    let response = session.response().unwrap();
    assert_eq!(response.resources.len(), 4);
    session.request(&ack(&response)).unwrap();
    assert_eq!(session.progress().answered, 0);
    assert_eq!(acknowledged(&mut session).len(), 2);
    assert_eq!(session.progress().answered, 1);
}

#[test]
fn who_does_not_say_who_it_is_or_wants_another_type_is_turned_away() {
    let world = Arc::new(Fake::first());
    let nobody = Session::new(Arc::clone(&world), &request(&["host/a"], &[]));
    assert_eq!(nobody.err(), Some(Misuse::NoIdentity));
    let mut large = first_request(&[], &[]);
    large.node.as_mut().unwrap().user_agent_name = "x".repeat(LARGEST_NODE_BYTES);
    assert_eq!(Session::new(Arc::clone(&world), &large).err(), Some(Misuse::LargeNode));
    let mut talkative = first_request(&[], &[]);
    talkative.resource_names_subscribe = vec!["*".to_owned(); MOST_NAMES + 1];
    assert_eq!(
        Session::new(Arc::clone(&world), &talkative).err(),
        Some(Misuse::TooManyNames)
    );
    let mut other = first_request(&[], &[]);
    other.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned();
    assert_eq!(
        Session::new(world, &other).err(),
        Some(Misuse::OtherType(other.type_url))
    );
}

#[test]
fn a_proxy_is_behind_when_it_comes_with_something_else_than_there_is() {
    let is_behind = |subscribe: &[&str], held: &[(&str, &str)]| {
        let session = Session::new(Arc::new(Fake::first()), &first_request(subscribe, held)).unwrap();
        session.is_behind()
    };
    let all = [("host/c", "c1"), ("endpoints/c", "ec1")];
    assert!(!is_behind(&["host/c"], &all));
    assert!(!is_behind(&["host/c", "host/nobody"], &all));
    assert!(!is_behind(&["workload/default/pod-1"], &[]));
    assert!(is_behind(&["host/c"], &[("host/c", "c0"), ("endpoints/c", "ec1")]));
    assert!(is_behind(&["host/c"], &[("host/c", "c1"), ("endpoints/c", "ec0")]));
    assert!(is_behind(&["host/nobody"], &[("host/nobody", "n1")]));
    // It has asked for something that was made meanwhile.
    assert!(is_behind(&["host/c"], &[]));
}
