//! The proxy's machine on its own: what it asks for, what it takes, and what it refuses.

use prost::Message;
use tsunagi_proto::model::endpoints_checksum;
use tsunagi_proto::names::version_of;
use tsunagi_proto::wire::mesh::resource::Kind;

use super::*;

const OWN: &str = "workload/default/pod-1";
const DEPARTURE: &str = "departure/default/pod-1";

fn session() -> Session {
    let identity = Identity {
        node_id: "pod-1".to_owned(),
        namespace: "default".to_owned(),
        service_account: "default".to_owned(),
        labels: vec![("app".to_owned(), "shop".to_owned())],
        node_name: "machine-1".to_owned(),
        instance_ips: ["10.0.0.7", "fd00::7"].map(|ip| ip.parse().unwrap()).to_vec(),
    };
    Session::new(identity)
}

/// Connected, greeted, and subscribed to these hosts.
fn connected(fqdns: &[&str]) -> Session {
    let mut session = session();
    for fqdn in fqdns {
        session.want(fqdn, Instant::now());
    }
    session.connected();
    session.request().unwrap();
    session
}

fn resource(name: &str, kind: Kind) -> Resource {
    let value = mesh::Resource { kind: Some(kind) }.encode_to_vec();
    let version = version_of(&value);
    let any = Any {
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        value,
    };
    Resource {
        name: name.to_owned(),
        version,
        resource: Some(any),
        aliases: Vec::new(),
    }
}

fn host(fqdn: &str) -> Resource {
    let port = mesh::Port {
        number: 80,
        name: "http".to_owned(),
        protocol: mesh::Protocol::Http1.into(),
    };
    let host = mesh::Host {
        fqdn: fqdn.to_owned(),
        ports: vec![port],
        ..mesh::Host::default()
    };
    resource(&names::host(fqdn), Kind::Host(host))
}

fn bad_host(fqdn: &str) -> Resource {
    let port = mesh::Port {
        number: 70_000,
        ..mesh::Port::default()
    };
    let host = mesh::Host {
        fqdn: fqdn.to_owned(),
        ports: vec![port],
        ..mesh::Host::default()
    };
    resource(&names::host(fqdn), Kind::Host(host))
}

fn endpoint(id: &str) -> mesh::Endpoint {
    mesh::Endpoint {
        id: id.to_owned(),
        address: "10.0.0.1".to_owned(),
        ..mesh::Endpoint::default()
    }
}

fn whole(fqdn: &str, ids: &[&str]) -> mesh::Endpoints {
    let upserts: Vec<mesh::Endpoint> = ids.iter().map(|id| endpoint(id)).collect();
    let checksum = endpoints_checksum(&upserts);
    mesh::Endpoints {
        fqdn: fqdn.to_owned(),
        upserts,
        checksum,
        ..mesh::Endpoints::default()
    }
}

fn endpoints(wire: mesh::Endpoints) -> Resource {
    resource(&names::endpoints(&wire.fqdn), Kind::Endpoints(wire))
}

fn workload() -> Resource {
    let workload = mesh::Workload {
        namespace: "default".to_owned(),
        node_id: "pod-1".to_owned(),
        ..mesh::Workload::default()
    };
    resource(OWN, Kind::Workload(workload))
}

fn departure(node_id: &str, unanswered: &[&str]) -> Resource {
    let departure = mesh::Departure {
        namespace: "default".to_owned(),
        node_id: node_id.to_owned(),
        unanswered: unanswered.iter().map(|&name| name.to_owned()).collect(),
    };
    resource(DEPARTURE, Kind::Departure(departure))
}

fn response(resources: Vec<Resource>, removed: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: "7".to_owned(),
        resources,
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        nonce: "n1".to_owned(),
        removed_resources: removed.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn receive(session: &mut Session, resources: Vec<Resource>, removed: &[&str]) -> Option<Update> {
    session.response(response(resources, removed), Instant::now()).update
}

/// What an update says: `a` is there, `-a` is not.
fn shown(update: &Update) -> Vec<String> {
    let line = |kind: &str, fqdn: &str, there: bool| format!("{}{kind} {fqdn}", if there { "" } else { "-" });
    let hosts = update
        .hosts
        .iter()
        .map(|(fqdn, host)| line("host", fqdn, host.is_some()));
    let sets = update
        .endpoints
        .iter()
        .map(|(fqdn, set)| line("endpoints", fqdn, set.is_some()));
    hosts.chain(sets).collect()
}

#[test]
fn a_stream_begins_with_who_it_is_and_all_that_it_wants_and_holds() {
    let mut session = session();
    session.want("a", Instant::now());
    assert!(!session.has_request());
    session.connected();
    let first = session.request().unwrap();
    assert_eq!(first.resource_names_subscribe, ["host/a", OWN]);
    assert!(first.initial_resource_versions.is_empty());
    let metadata = first.node.as_ref().unwrap().metadata.as_ref().unwrap();
    assert!(metadata.fields.contains_key("NAMESPACE") && metadata.fields.contains_key("LABELS"));
    let instance_ips = metadata.fields["INSTANCE_IPS"].kind.clone();
    assert_eq!(
        instance_ips,
        Some(ValueKind::StringValue("10.0.0.7,fd00::7".to_owned()))
    );
    let resources = vec![host("a"), endpoints(whole("a", &["1"])), workload()];
    let versions: Vec<String> = resources.iter().map(|resource| resource.version.clone()).collect();
    receive(&mut session, resources, &[]).unwrap();
    session.disconnected();
    assert!(!session.has_request());
    session.connected();
    let again = session.request().unwrap();
    assert_eq!(again.resource_names_subscribe, ["host/a", OWN]);
    let held = ["host/a", "endpoints/a", OWN]
        .map(str::to_owned)
        .into_iter()
        .zip(versions)
        .collect();
    assert_eq!(again.initial_resource_versions, held);
    assert!(again.response_nonce.is_empty());
}

#[test]
fn a_response_is_one_update_and_its_answer_the_next_request() {
    let mut session = connected(&["a"]);
    let resources = vec![
        host("a"),
        endpoints(whole("a", &["1"])),
        endpoints(whole("b", &[])),
        workload(),
    ];
    let update = receive(&mut session, resources, &[]).unwrap();
    assert_eq!(shown(&update), ["host a", "endpoints a", "endpoints b"]);
    assert!(update.workload.is_some());
    assert_eq!(update.version, "7");
    let answer = session.request().unwrap();
    assert_eq!(
        (answer.response_nonce.as_str(), &answer.error_detail, &answer.node),
        ("n1", &None, &None)
    );
    assert!(!session.has_request());
}

#[test]
fn a_bad_resource_is_refused_alone_and_what_was_in_force_stays() {
    let mut session = connected(&["a", "b"]);
    let good = host("a");
    let version = good.version.clone();
    receive(&mut session, vec![good], &[]).unwrap();
    session.request().unwrap();
    let bad = bad_host("a");
    let bad_version = bad.version.clone();
    let outcome = session.response(response(vec![bad, host("b")], &[]), Instant::now());
    assert!(outcome.refused);
    assert_eq!(shown(&outcome.update.unwrap()), ["host b"]);
    let error = session.request().unwrap().error_detail.unwrap();
    assert_eq!(error.code, 3);
    assert!(error.message.starts_with("host/a: ports"), "{}", error.message);
    let refusal = mesh::Refusal::decode(error.details[0].value.as_slice()).unwrap();
    assert_eq!(
        (refusal.resource_name.as_str(), refusal.version),
        ("host/a", bad_version)
    );
    assert_eq!(error.details.len(), 1);
    assert_eq!(session.versions()["host/a"], version);
}

#[test]
fn a_resource_that_is_not_what_its_name_says_is_refused() {
    let mut session = connected(&["a"]);
    let mut garbage = host("a");
    garbage.resource.as_mut().unwrap().value = vec![0xff; 9];
    let mut other_type = host("a");
    other_type.resource.as_mut().unwrap().type_url = "type.googleapis.com/x".to_owned();
    let mut renamed = host("b");
    renamed.name = "host/a".to_owned();
    let mut nonsense = host("a");
    nonsense.name = "nonsense".to_owned();
    let mut endpoints_as_host = endpoints(whole("a", &[]));
    endpoints_as_host.name = "host/a".to_owned();
    let bad = vec![garbage, other_type, renamed, nonsense, endpoints_as_host];
    let count = bad.len();
    assert!(receive(&mut session, bad, &[]).is_none());
    assert_eq!(session.request().unwrap().error_detail.unwrap().details.len(), count);
}

#[test]
fn what_nobody_asked_for_is_acknowledged_and_not_kept() {
    let mut session = connected(&["a"]);
    let mut stranger = workload();
    stranger.name = "workload/default/pod-2".to_owned();
    assert!(
        receive(
            &mut session,
            vec![host("z"), stranger],
            &["host/y", "endpoints/y", "nonsense", OWN]
        )
        .is_none()
    );
    assert_eq!(session.request().unwrap().error_detail, None);
    assert!(session.versions().is_empty());
}

#[test]
fn a_change_of_endpoints_is_applied_to_what_is_held() {
    let mut session = connected(&["a"]);
    let before = whole("a", &["1", "2"]);
    receive(&mut session, vec![host("a"), endpoints(before.clone())], &[]).unwrap();
    let after = whole("a", &["2", "3"]);
    let change = mesh::Endpoints {
        change: true,
        base_checksum: before.checksum,
        upserts: vec![endpoint("3")],
        removals: vec!["1".to_owned()],
        ..after.clone()
    };
    let mut change = endpoints(change);
    change.version = endpoints(after.clone()).version;
    let update = receive(&mut session, vec![change], &[]).unwrap();
    assert_eq!(update.endpoints[0].1.as_ref().unwrap().checksum(), after.checksum);
    // What is remembered is the whole, under the version that the control plane gave it.
    let remembered = session.remember().unwrap();
    let kept = remembered
        .resources
        .iter()
        .find(|resource| resource.name == "endpoints/a")
        .unwrap();
    assert_eq!(*kept, endpoints(after));
}

#[test]
fn a_lost_base_is_asked_for_again_with_the_answer_and_the_old_endpoints_stay() {
    let mut session = connected(&["a"]);
    receive(&mut session, vec![host("a"), endpoints(whole("a", &["1"]))], &[]).unwrap();
    session.request().unwrap();
    let change = mesh::Endpoints {
        change: true,
        base_checksum: 5,
        ..whole("a", &["2"])
    };
    let outcome = session.response(response(vec![endpoints(change)], &[]), Instant::now());
    assert!(outcome.update.is_none() && !outcome.refused);
    let answer = session.request().unwrap();
    assert_eq!(answer.response_nonce, "n1");
    assert_eq!(answer.error_detail, None);
    assert_eq!(answer.resource_names_subscribe, ["endpoints/a"]);
    // No version to resume from, yet the control plane must know that something is held.
    assert_eq!(session.versions()["endpoints/a"], "");
    let update = receive(&mut session, vec![endpoints(whole("a", &["2"]))], &[]).unwrap();
    assert_eq!(shown(&update), ["endpoints a"]);
}

#[test]
fn a_host_that_is_not_there_is_told_once_and_comes_when_it_exists() {
    let mut session = connected(&["a"]);
    assert_eq!(
        shown(&receive(&mut session, Vec::new(), &["host/a"]).unwrap()),
        ["-host a"]
    );
    assert!(receive(&mut session, Vec::new(), &["host/a"]).is_none());
    assert_eq!(shown(&receive(&mut session, vec![host("a")], &[]).unwrap()), ["host a"]);
    let gone = receive(&mut session, Vec::new(), &["host/a", "endpoints/a"]).unwrap();
    assert_eq!(shown(&gone), ["-host a"]);
    assert!(session.expire(Instant::now()).is_empty());
}

#[test]
fn a_name_that_is_not_there_is_given_up_after_a_minute_without_a_request() {
    let mut session = connected(&["a", "b"]);
    receive(&mut session, Vec::new(), &["host/a", "host/b"]).unwrap();
    session.request().unwrap();
    let later = Instant::now() + Duration::from_secs(50);
    session.want("b", later);
    assert!(session.expire(later).is_empty());
    assert_eq!(session.expire(later + Duration::from_secs(20)), ["a"]);
    assert_eq!(session.request().unwrap().resource_names_unsubscribe, ["host/a"]);
}

#[test]
fn names_that_are_not_there_are_bounded_and_the_oldest_makes_room() {
    let mut session = connected(&[]);
    let start = Instant::now();
    for index in 0..MOST_UNRESOLVED {
        let now = start + Duration::from_millis(index as u64);
        assert!(session.want(&format!("h{index}"), now).is_empty());
    }
    let now = start + Duration::from_secs(30);
    session.want("h0", now);
    assert_eq!(session.want("new", now), ["h1"]);
    assert_eq!(session.unresolved.len(), MOST_UNRESOLVED);
    assert!(session.want("", now).is_empty() && session.want(&"x".repeat(300), now).is_empty());
    assert_eq!(session.unresolved.len(), MOST_UNRESOLVED);
}

#[test]
fn an_unwanted_host_is_unsubscribed_and_asked_for_anew_when_wanted_again() {
    let mut session = connected(&["a"]);
    receive(&mut session, vec![host("a"), endpoints(whole("a", &["1"]))], &[]).unwrap();
    session.request().unwrap();
    session.unwant("a");
    session.want("a", Instant::now());
    let request = session.request().unwrap();
    assert_eq!(request.resource_names_subscribe, ["host/a"]);
    assert!(request.resource_names_unsubscribe.is_empty());
    session.unwant("a");
    assert_eq!(session.request().unwrap().resource_names_unsubscribe, ["host/a"]);
    // What is on its way is not taken any more.
    assert!(receive(&mut session, vec![host("a")], &[]).is_none());
}

#[test]
fn what_is_remembered_is_in_force_after_a_restart_and_resumed_from() {
    let mut before = connected(&["a"]);
    receive(
        &mut before,
        vec![host("a"), endpoints(whole("a", &["1"])), workload()],
        &["endpoints/x"],
    )
    .unwrap();
    let remembered = before.remember().unwrap();
    assert!(before.remember().is_none());
    let mut after = session();
    let update = after.restore(remembered, Instant::now()).unwrap();
    assert_eq!(shown(&update), ["host a", "endpoints a"]);
    assert!(update.workload.is_some() && update.version == "7");
    assert!(!after.has_unsaved());
    after.connected();
    let first = after.request().unwrap();
    assert_eq!(first.resource_names_subscribe, ["host/a", OWN]);
    assert_eq!(
        first.initial_resource_versions.into_iter().collect::<BTreeMap<_, _>>(),
        before.versions()
    );
}

#[test]
fn who_leaves_asks_for_its_departure_once_and_again_on_every_later_stream() {
    let mut session = connected(&["a"]);
    session.leave();
    session.leave();
    assert_eq!(session.request().unwrap().resource_names_subscribe, [DEPARTURE]);
    assert!(!session.has_request());
    session.disconnected();
    session.connected();
    let first = session.request().unwrap();
    assert_eq!(first.resource_names_subscribe, [DEPARTURE, "host/a", OWN]);
    // Told before, it still leaves: the next stream may be another replica's.
    session.response(response(vec![departure("pod-1", &[])], &[]), Instant::now());
    session.connected();
    let again = session.request().unwrap();
    assert_eq!(again.resource_names_subscribe, first.resource_names_subscribe);
    assert!(again.initial_resource_versions.is_empty());
}

#[test]
fn who_begins_to_leave_without_a_stream_says_so_in_the_first_request() {
    let mut session = session();
    session.leave();
    assert!(!session.has_request());
    session.connected();
    assert_eq!(session.request().unwrap().resource_names_subscribe, [DEPARTURE, OWN]);
}

#[test]
fn the_departure_says_who_has_not_answered_and_is_acknowledged_like_any_resource() {
    let mut session = connected(&[]);
    session.leave();
    session.request().unwrap();
    let arrived = response(vec![departure("pod-1", &["shop/web-1"])], &[]);
    let outcome = session.response(arrived, Instant::now());
    let unanswered = vec!["shop/web-1".to_owned()];
    assert_eq!(outcome.callers, Some(Callers::Told { unanswered }));
    assert!(outcome.update.is_none() && !outcome.refused);
    let answer = session.request().unwrap();
    assert_eq!((answer.response_nonce.as_str(), answer.error_detail), ("n1", None));
    // It changes nothing that is in force, and the next process of this name must not find it.
    assert!(!session.has_unsaved() && session.versions().is_empty());
}

#[test]
fn a_departure_that_is_not_ours_or_was_not_asked_for_tells_nothing() {
    let mut session = connected(&[]);
    let early = session.response(response(vec![departure("pod-1", &[])], &[DEPARTURE]), Instant::now());
    assert!(early.callers.is_none() && !early.refused);
    session.leave();
    let mut others = departure("pod-2", &[]);
    let wrong = session.response(response(vec![others.clone()], &[]), Instant::now());
    assert!(wrong.callers.is_none() && wrong.refused);
    others.name = "departure/default/pod-2".to_owned();
    let strange = session.response(response(vec![others], &["departure/default/pod-2"]), Instant::now());
    assert!(strange.callers.is_none() && !strange.refused);
}

#[test]
fn a_control_plane_that_knows_no_departures_says_so_by_removing_it() {
    let mut session = connected(&[]);
    session.leave();
    let outcome = session.response(response(Vec::new(), &[DEPARTURE]), Instant::now());
    assert!(
        matches!(outcome.callers, Some(Callers::NotTold { .. })),
        "{:?}",
        outcome.callers
    );
}
