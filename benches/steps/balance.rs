//! Which endpoint gets the request, and what is learned from how it answers.

use std::sync::Arc;

use divan::Bencher;
use tsunagi_benches::told::{self, HOST};
use tsunagi_proto::model::{self, ConsistentHash, HashKey, HashTable, LoadBalancer};
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
fn bench_weighted_choice(bencher: Bencher<'_, '_>, endpoints: usize, load_balancer: LoadBalancer) {
    let registry = Registry::new(Telemetry::new("bench"), 1);
    let mut wire = told::endpoints(HOST, &told::addresses(endpoints));
    for (weight, endpoint) in (1..=7).cycle().zip(&mut wire.upserts) {
        endpoint.weight = weight;
    }
    wire.checksum = model::endpoints_checksum(&wire.upserts);
    let (policy, _cluster, members) = joined(wire, load_balancer, &registry);
    let mut random = sequence();
    bencher.bench_local(|| choose(&policy, &members, &Caller::default(), &mut random).is_some());
}

#[divan::bench(args = ENDPOINTS)]
fn choose_by_weighted_least_request(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_weighted_choice(bencher, endpoints, LoadBalancer::LeastRequest);
}

#[divan::bench(args = ENDPOINTS)]
fn choose_by_weighted_round_robin(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_weighted_choice(bencher, endpoints, LoadBalancer::RoundRobin);
}

/// The keys differ from one request to the next.
fn bench_keyed_choice(bencher: Bencher<'_, '_>, endpoints: usize, table: HashTable) {
    let registry = Registry::new(Telemetry::new("bench"), 1);
    let (policy, _cluster, members) = cluster(endpoints, hashed(table), &registry);
    let (mut random, mut keys) = (sequence(), sequence());
    bencher.bench_local(|| {
        let caller = Caller {
            hash: Some(keys()),
            ..Caller::default()
        };
        choose(&policy, &members, &caller, &mut random).is_some()
    });
}

#[divan::bench(args = ENDPOINTS)]
fn choose_on_a_ring(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_keyed_choice(bencher, endpoints, HashTable::Ring(1024));
}

#[divan::bench(args = ENDPOINTS)]
fn choose_in_a_maglev_table(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_keyed_choice(bencher, endpoints, HashTable::Maglev(65_537));
}

fn hashed(table: HashTable) -> LoadBalancer {
    LoadBalancer::ConsistentHash(ConsistentHash {
        key: HashKey::SourceAddress,
        table,
    })
}

/// What the control thread pays when an endpoint has come or gone.
fn bench_table(bencher: Bencher<'_, '_>, endpoints: usize, table: HashTable) {
    bencher.bench_local(|| {
        let registry = Registry::new(Telemetry::new("bench"), 1);
        cluster(endpoints, hashed(table), &registry)
    });
}

#[divan::bench(args = ENDPOINTS, sample_count = 10, sample_size = 1)]
fn build_a_ring(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_table(bencher, endpoints, HashTable::Ring(1024));
}

#[divan::bench(args = ENDPOINTS, sample_count = 10, sample_size = 1)]
fn build_a_maglev_table(bencher: Bencher<'_, '_>, endpoints: usize) {
    bench_table(bencher, endpoints, HashTable::Maglev(65_537));
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
