//! Permits taken and given back: one compare-and-swap and one subtraction each.

use divan::Bencher;
use tsunagi_benches::told::{self, HOST};
use tsunagi_proto::model;
use tsunagi_proto::wire::mesh;
use tsunagi_proxy::limits::Limit;
use tsunagi_proxy::telemetry::Telemetry;
use tsunagi_proxy::upstream::{ConnectionPermit, Registry, RetryBudget};

/// `http2MaxRequests`, by one worker and by two.
#[divan::bench(threads = [1, 2])]
fn request_permit(bencher: Bencher<'_, '_>) {
    let limit = Limit::new(100);
    bencher.bench(|| limit.acquire().is_some());
}

/// `maxConnections`: with the look at the queue of those who wait.
#[divan::bench]
fn connection_permit(bencher: Bencher<'_, '_>) {
    let wire = told::host(HOST, mesh::Protocol::Http1, told::split(HOST));
    let told = model::Host::try_from(wire).expect("a valid host");
    let cluster = Registry::new(Telemetry::new("bench"), 1).cluster(&told.clusters[0].clone().into());
    bencher.bench(|| ConnectionPermit::try_open(&cluster).is_some());
}

#[divan::bench]
fn retry_permit(bencher: Bencher<'_, '_>) {
    let wire = told::host(HOST, mesh::Protocol::Http1, told::split(HOST));
    let told = model::Host::try_from(wire).expect("a valid host");
    let budget = RetryBudget::new(&told.clusters[0]);
    bencher.bench(|| budget.acquire(10).is_some());
}
