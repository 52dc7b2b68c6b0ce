//! Resident memory of the sidecar, idle and over minutes of load: it may not grow.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::Duration;

use tokio::time::{Instant, interval};
use tsunagi_benches::{Load, setting};
use tsunagi_tests::{Sample, SidecarOptions};

#[tokio::main]
async fn main() {
    let (minutes, rate) = (setting("MINUTES", 10), setting("RATE", 2000));
    let args = vec!["--access-log".to_owned(), "off".to_owned()];
    let options = SidecarOptions {
        args,
        ..SidecarOptions::default()
    };
    let sample = Sample::with("http", &["v1", "v2"], "", &options).await;
    let megabytes = || sample.sidecar.process.resident_bytes() as f64 / 1e6;
    println!("idle: {:.1} MB resident", megabytes());
    let load = Load::start(sample.sidecar.outbound, "echo", rate, 64).await;
    let started = Instant::now();
    let mut tick = interval(Duration::from_secs(15));
    tick.tick().await;
    let mut readings = Vec::new();
    while started.elapsed() < Duration::from_secs(minutes * 60) {
        tick.tick().await;
        let now = megabytes();
        readings.push(now);
        println!(
            "{:>4} s, {:>9} requests: {now:.1} MB",
            started.elapsed().as_secs(),
            load.sent()
        );
    }
    let (failures, _) = load.end().await;
    assert!(failures.is_empty(), "{:?}", &failures[..failures.len().min(10)]);
    // The first quarter fills pools and buffers.
    let steady = &readings[readings.len() / 4..];
    let (low, high) = steady
        .iter()
        .fold((f64::MAX, 0.0_f64), |(low, high), now| (low.min(*now), high.max(*now)));
    println!("steady: {low:.1} to {high:.1} MB");
}
