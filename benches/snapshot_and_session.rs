//! What a push costs the control thread, and what its size costs a request: a response taken by the session, compiled into
//! a snapshot, and a host found in it.

use std::sync::Arc;

use divan::{AllocProfiler, Bencher, black_box};
use prost::Message;
use tokio::time::Instant;
use tsunagi_benches::told::{self, fqdn};
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryResponse, Resource};
use tsunagi_proto::wire::mesh::{self, resource::Kind};
use tsunagi_proxy::snapshot::{Publisher, Reader, Shared, Update};
use tsunagi_proxy::telemetry::Telemetry;
use tsunagi_proxy::upstream::Registry;
use tsunagi_proxy::xds::Session;
use tsunagi_proxy::xds::session::Identity;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const ENDPOINTS: usize = 3;

fn publisher() -> (Publisher, Arc<Shared>) {
    let telemetry = Telemetry::new("bench");
    let shared = Shared::new("default");
    let registry = Registry::new(telemetry.clone(), 2);
    (Publisher::new(registry, telemetry, Arc::clone(&shared)), shared)
}

fn service(number: usize) -> mesh::Host {
    let fqdn = fqdn(number);
    told::host(&fqdn, mesh::Protocol::Http1, told::split(&fqdn))
}

fn endpoints(number: usize, count: usize) -> mesh::Endpoints {
    told::endpoints(&fqdn(number), &told::addresses(count))
}

fn services(count: usize) -> Update {
    let hosts = (0..count).map(service).collect();
    told::update(hosts, (0..count).map(|number| endpoints(number, ENDPOINTS)).collect())
}

/// One host with so many rules, checked already.
#[divan::bench(args = [1, 100, 10_000], sample_count = 20)]
fn compile_one_host_with_rules(bencher: Bencher<'_, '_>, rules: usize) {
    let name = fqdn(0);
    let host = told::host(&name, mesh::Protocol::Http1, told::many_rules(&name, rules, false));
    bencher
        .with_inputs(|| {
            (
                publisher().0,
                told::update(vec![host.clone()], vec![endpoints(0, ENDPOINTS)]),
            )
        })
        .bench_local_values(|(mut publisher, update)| {
            publisher.apply(update);
            publisher
        });
}

/// The rules checked and their index built, as they come from the wire.
#[divan::bench(args = [1, 100, 10_000], sample_count = 20)]
fn check_a_route_table(bencher: Bencher<'_, '_>, rules: usize) {
    use tsunagi_proto::model::RouteTable;
    bencher
        .with_inputs(|| told::many_rules(&fqdn(0), rules, false))
        .bench_local_values(|wire| RouteTable::try_from(wire).expect("valid rules"));
}

#[divan::bench(args = [1, 100, 1_000], sample_count = 20)]
fn compile_hosts(bencher: Bencher<'_, '_>, hosts: usize) {
    bencher
        .with_inputs(|| (publisher().0, services(hosts)))
        .bench_local_values(|(mut publisher, update)| {
            publisher.apply(update);
            publisher
        });
}

/// Among so many hosts, the rules of one are told anew.
#[divan::bench(args = [1, 100, 1_000, 10_000], sample_count = 50)]
fn compile_a_change_of_one_host(bencher: Bencher<'_, '_>, hosts: usize) {
    let mut publisher = publisher().0;
    publisher.apply(services(hosts));
    bencher
        .with_inputs(|| told::update(vec![service(hosts / 2)], Vec::new()))
        .bench_local_values(|update| publisher.apply(update));
}

/// Among so many hosts, one gets or loses an endpoint.
#[divan::bench(args = [1, 100, 1_000, 10_000], sample_count = 50)]
fn compile_a_change_of_endpoints(bencher: Bencher<'_, '_>, hosts: usize) {
    let mut publisher = publisher().0;
    publisher.apply(services(hosts));
    let mut count = ENDPOINTS;
    bencher
        .with_inputs(|| {
            count = 2 * ENDPOINTS + 1 - count;
            told::update(Vec::new(), vec![endpoints(hosts / 2, count)])
        })
        .bench_local_values(|update| publisher.apply(update));
}

/// Every request another host, in no order.
#[divan::bench(args = [1, 100, 10_000], sample_size = 1000)]
fn find_a_host_by_its_name(bencher: Bencher<'_, '_>, hosts: usize) {
    find(bencher, hosts, fqdn);
}

#[divan::bench(args = [1, 100, 10_000], sample_size = 1000)]
fn find_a_host_by_its_short_name(bencher: Bencher<'_, '_>, hosts: usize) {
    find(bencher, hosts, |number| format!("service-{number:05}"));
}

fn find(bencher: Bencher<'_, '_>, hosts: usize, name: impl Fn(usize) -> String) {
    let (mut publisher, shared) = publisher();
    publisher.apply(services(hosts));
    let reader = Reader::new(shared);
    let names: Vec<_> = (0..10_000).map(|number| name(number * 7_919 % hosts)).collect();
    let mut names = names.iter().cycle();
    bencher.bench_local(|| {
        let name = names.next().map_or("", String::as_str);
        reader.with(|snapshot| snapshot.known(black_box(name))).is_some()
    });
}

fn resource(name: String, kind: Kind) -> Resource {
    let value = mesh::Resource { kind: Some(kind) }.encode_to_vec();
    Resource {
        name,
        version: names::version_of(&value),
        resource: Some(prost_types::Any {
            type_url: names::RESOURCE_TYPE_URL.to_owned(),
            value,
        }),
        aliases: Vec::new(),
    }
}

fn response(resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: "1".to_owned(),
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        nonce: "1".to_owned(),
        resources,
        ..DeltaDiscoveryResponse::default()
    }
}

/// Subscribed to so many hosts, which it holds with their endpoints.
fn session(hosts: usize) -> Session {
    let mut session = Session::new(Identity {
        node_id: "bench".to_owned(),
        namespace: "default".to_owned(),
        ..Identity::default()
    });
    session.connected();
    for chunk in (0..hosts).collect::<Vec<_>>().chunks(500) {
        chunk
            .iter()
            .for_each(|number| drop(session.want(&fqdn(*number), Instant::now())));
        let host = |number: &usize| resource(names::host(&fqdn(*number)), Kind::Host(service(*number)));
        let set = |number: &usize| {
            let wire = endpoints(*number, ENDPOINTS);
            resource(names::endpoints(&fqdn(*number)), Kind::Endpoints(wire))
        };
        let resources = chunk.iter().map(host).chain(chunk.iter().map(set)).collect();
        let outcome = session.response(response(resources), Instant::now());
        assert!(!outcome.refused && outcome.update.is_some());
    }
    while session.request().is_some() {}
    session
}

/// A response with one host that changed, and the acknowledgement.
#[divan::bench(args = [1, 1_000], sample_count = 50)]
fn take_a_response_with_one_host(bencher: Bencher<'_, '_>, hosts: usize) {
    let mut session = session(hosts);
    let name = fqdn(hosts / 2);
    bencher
        .with_inputs(|| response(vec![resource(names::host(&name), Kind::Host(service(hosts / 2)))]))
        .bench_local_values(|response| {
            let outcome = session.response(response, Instant::now());
            (outcome.update, session.request())
        });
}

/// A response with the endpoints of one host, whole.
#[divan::bench(args = [3, 100, 10_000], sample_count = 20)]
fn take_a_response_with_endpoints(bencher: Bencher<'_, '_>, count: usize) {
    let mut session = session(1);
    let wire = endpoints(0, count);
    bencher
        .with_inputs(|| {
            response(vec![resource(
                names::endpoints(&fqdn(0)),
                Kind::Endpoints(wire.clone()),
            )])
        })
        .bench_local_values(|response| {
            let outcome = session.response(response, Instant::now());
            (outcome.update, session.request())
        });
}
