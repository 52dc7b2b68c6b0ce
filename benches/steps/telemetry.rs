//! What is written down of each request.

use std::time::{Duration, Instant};

use divan::{Bencher, black_box};
use http::Method;
use tsunagi_benches::told::HOST;
use tsunagi_proxy::telemetry::{AccessLog, Direction, Flags, Telemetry};

/// By one worker and by two, which share the cells.
#[divan::bench(threads = [1, 2], sample_size = 1000)]
fn record_a_request(bencher: Bencher<'_, '_>) {
    let telemetry = Telemetry::new("bench");
    let series = telemetry.request_series(Direction::Outbound, "user-service.default/1", HOST, "v1");
    let elapsed = Duration::from_millis(3);
    // The first makes the cells.
    series.record(&Method::GET, 200, Flags::default(), elapsed);
    bencher.bench(|| series.record(black_box(&Method::GET), black_box(200), Flags::default(), elapsed));
}

/// Two readings a request: of its beginning and of its end.
#[divan::bench]
fn read_the_clock() -> Instant {
    Instant::now()
}

#[divan::bench]
fn ask_whether_the_access_log_is_on(bencher: Bencher<'_, '_>) {
    let log = AccessLog::off();
    bencher.bench(|| black_box(&log).enabled());
}
