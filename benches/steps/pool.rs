//! A kept connection to an endpoint, taken from the pool and given back, as every HTTP/1 request does.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use divan::Bencher;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tsunagi_benches::told::{self, HOST};
use tsunagi_proto::model;
use tsunagi_proto::wire::mesh;
use tsunagi_proxy::telemetry::Telemetry;
use tsunagi_proxy::tls::Offer;
use tsunagi_proxy::upstream::{Need, Registry, acquire, acquire_ready};

#[divan::bench(sample_size = 1000)]
fn take_a_connection_and_give_it_back(bencher: Bencher<'_, '_>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    let listener = runtime
        .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .expect("a free port");
    let address = listener.local_addr().expect("it is bound");

    let wire = told::host(HOST, mesh::Protocol::Http1, told::split(HOST));
    let told = model::Host::try_from(wire).expect("a valid host");
    let policy = Arc::new(told.clusters[0].clone());
    let cluster = Registry::new(Telemetry::new("bench"), 1).cluster(&policy);
    let endpoints: Vec<_> = told::endpoint_set(told::endpoints(HOST, &[address]))
        .iter()
        .cloned()
        .collect();
    let members = cluster.reconcile(Arc::clone(&policy), &endpoints);
    let endpoint = &members.list[0].endpoint;

    let lease = runtime.block_on(acquire(
        &cluster,
        endpoint,
        &policy,
        &members,
        &Need::of(Offer::Http1),
        0,
        &AtomicBool::new(false),
    ));
    lease.expect("the endpoint accepts").give_back(true);
    bencher.bench_local(|| {
        let lease = acquire_ready(endpoint, &policy, &Need::of(Offer::Http1), 0).expect("it was given back");
        lease.give_back(true);
    });
}
