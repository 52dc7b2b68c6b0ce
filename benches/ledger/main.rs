//! What a whole request costs. First in this process, on one thread: nanoseconds, allocations and bytes of each pair of
//! protocols, counted by the allocator. Then a real sidecar under load: processor time in the application and in the
//! kernel, and the system calls that it makes, a request. Called by `cargo bench`; the README beside it shows the figures.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

mod client;
mod path;
mod sidecar;
mod system_calls;

use divan::{AllocProfiler, Bencher};
use path::Path;
use tsunagi_benches::setting;
use tsunagi_tests::Version::{self, Http1, Http2};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
    // A filter or `--list` is for the part above.
    let whole = std::env::args().skip(1).all(|argument| argument == "--bench");
    if whole && setting("LOAD", 1) == 1 {
        sidecar::measure();
    }
}

const BODY_BYTES: usize = 1024;

fn requests(bencher: Bencher<'_, '_>, client: Version, upstream: Version, body_bytes: usize) {
    let mut path = Path::open(client, upstream, body_bytes);
    bencher.bench_local(|| path.get());
}

#[divan::bench(sample_count = 50, sample_size = 100)]
fn http1_to_http1(bencher: Bencher<'_, '_>) {
    requests(bencher, Http1, Http1, BODY_BYTES);
}

#[divan::bench(sample_count = 50, sample_size = 100)]
fn http2_to_http2(bencher: Bencher<'_, '_>) {
    requests(bencher, Http2, Http2, BODY_BYTES);
}

#[divan::bench(sample_count = 50, sample_size = 100)]
fn http1_to_http2(bencher: Bencher<'_, '_>) {
    requests(bencher, Http1, Http2, BODY_BYTES);
}

#[divan::bench(sample_count = 50, sample_size = 100)]
fn http2_to_http1(bencher: Bencher<'_, '_>) {
    requests(bencher, Http2, Http1, BODY_BYTES);
}

#[divan::bench(sample_count = 50, sample_size = 100)]
fn http1_to_http1_100_kb(bencher: Bencher<'_, '_>) {
    requests(bencher, Http1, Http1, 100_000);
}

#[divan::bench(sample_count = 50, sample_size = 100)]
fn http2_to_http2_100_kb(bencher: Bencher<'_, '_>) {
    requests(bencher, Http2, Http2, 100_000);
}

/// The client and the endpoint alone, to be taken off.
#[divan::bench(args = [Http1, Http2], sample_count = 50, sample_size = 100)]
fn without_a_proxy(bencher: Bencher<'_, '_>, version: Version) {
    let mut path = Path::direct(version, BODY_BYTES);
    bencher.bench_local(|| path.get());
}
