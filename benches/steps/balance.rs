//! Which endpoint gets the request, and what is learned from how it answers.

use std::sync::Arc;

use divan::Bencher;
use tsunagi_benches::told::{self, HOST};
use tsunagi_proto::model::{self, LoadBalancer};
use tsunagi_proto::wire::mesh;
use tsunagi_proxy::telemetry::Telemetry;
use tsunagi_proxy::upstream::{Caller, Cluster, Members, Outcome, Registry, choose};

use crate::sequence;

const ENDPOINTS: [usize; 3] = [3, 100, 10_000];

type Joined = (Arc<model::Cluster>, Arc<Cluster>, Arc<Members>);

fn cluster(endpoints: usize, load_balancer: LoadBalancer, registry: &Registry) -> Joined {
    let wire = told::endpoints(HOST, &told::addresses(endpoints));
    joined(wire, load_balancer, registry)
}

fn joined(endpoints: mesh::Endpoints, load_balancer: LoadBalancer, registry: &Registry) -> Joined {
    let wire = told::host(HOST, mesh::Protocol::Http1, told::split(HOST));
    let told = model::Host::try_from(wire).expect("a valid host");
    let mut policy = told.clusters[0].clone();
    policy.load_balancer = load_balancer;
    let policy = Arc::new(policy);
    let cluster = registry.cluster(&policy);
    let endpoints: Vec<_> = told::endpoint_set(endpoints).iter().cloned().collect();
    let members = cluster.reconcile(Arc::clone(&policy), &endpoints);
    (policy, cluster, members)
}

fn bench_choice(bencher: Bencher<'_, '_>, endpoints: usize, load_balancer: LoadBalancer) {
    let registry = Registry::new(Telemetry::new("bench"), 1);
    let (policy, _cluster, members) = cluster(endpoints, load_balancer, &registry);
    let mut random = sequence();
    bencher.bench_local(|| choose(&policy, &members, &Caller::default(), &mut random).is_some());
}

#[divan::bench(args = ENDPOINTS, sample_size = 100)]
fn choose_by_least_request(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_choice(bencher, endpoints, LoadBalancer::LeastRequest);
}

#[divan::bench(args = ENDPOINTS)]
fn choose_by_round_robin(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_choice(bencher, endpoints, LoadBalancer::RoundRobin);
}

#[divan::bench(args = ENDPOINTS)]
fn choose_by_random(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_choice(bencher, endpoints, LoadBalancer::Random);
}

/// As above, with weights that differ.
#[divan::bench(args = ENDPOINTS)]
fn choose_by_weight(bencher: Bencher<'_, '_>, endpoints: usize) {
    let registry = Registry::new(Telemetry::new("bench"), 1);
    let mut wire = told::endpoints(HOST, &told::addresses(endpoints));
    wire.upserts[0].weight = 2;
    wire.checksum = model::endpoints_checksum(&wire.upserts);
    let (policy, _cluster, members) = joined(wire, LoadBalancer::LeastRequest, &registry);
    let mut random = sequence();
    bencher.bench_local(|| choose(&policy, &members, &Caller::default(), &mut random).is_some());
}

/// Outlier detection hears of an answer; the endpoint is healthy.
#[divan::bench]
fn observe_an_answer(bencher: Bencher<'_, '_>) {
    let registry = Registry::new(Telemetry::new("bench"), 1);
    let (policy, cluster, members) = cluster(3, LoadBalancer::LeastRequest, &registry);
    let mut active = members.list[0].endpoint.begin();
    let detection = policy.outlier_detection.as_ref();
    assert!(detection.is_some());
    bencher.bench_local(|| active.observe(&cluster, detection, Outcome::Status(200)));
}
