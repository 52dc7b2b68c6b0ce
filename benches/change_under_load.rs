//! 500 changes of route, subset, endpoint and policy under 2,000 requests a second: no request may fail.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

use tsunagi_benches::{Load, Writer, percentile, setting};
use tsunagi_tests::{ControlPlane, ISSUE_RULES, Sidecar, Upstream, Workload, service};

fn rules(change: u64) -> String {
    let extra = change % 2 == 1;
    let (route, subset) = if extra {
        (
            "    - {destination: {host: user-service, subset: any}, weight: 5}\n",
            "  - {name: any, labels: {app: user-service}}\n",
        )
    } else {
        ("", "")
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: user-service
spec:
  hosts: [user-service]
  http:
  - route:
    - {{destination: {{host: user-service, subset: v1}}, weight: {weight}}}
    - {{destination: {{host: user-service, subset: v2}}, weight: 10}}
{route}---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: user-service
spec:
  host: user-service
  trafficPolicy:
    connectionPool: {{tcp: {{maxConnections: {limit}}}}}
    outlierDetection: {{consecutive5xxErrors: {errors}}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
{subset}",
        weight = 50 + change % 40,
        limit = 100 + change % 7,
        errors = 5 + change % 3,
    )
}

#[tokio::main]
async fn main() {
    let (rate, changes) = (setting("RATE", 2000), setting("CHANGES", 500));
    let upstreams = [
        Upstream::start("v1").await,
        Upstream::start("v2").await,
        Upstream::start("v1").await,
    ];
    let workload = |version, index: usize| Workload {
        version,
        address: upstreams[index].address,
    };
    let (two, late) = ([workload("v1", 0), workload("v2", 1)], [workload("v1", 2)]);
    let three = [two[0], two[1], late[0]];
    let control = ControlPlane::start();
    let mut writer = Writer::open(&control).await;
    writer
        .apply(
            [&service("user-service", "http", &two), ISSUE_RULES].join("---\n"),
            false,
        )
        .await;
    let sidecar = Sidecar::start(&control).ready().await;
    let load = Load::start(sidecar.outbound, "user-service", rate, 32).await;

    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: user-service-v1-2\nspec:\n  address: 127.0.0.1\n";
    for change in 0..changes {
        match change % 4 {
            0 | 2 => writer.apply(rules(change / 2), true).await,
            1 => writer.apply(service("user-service", "http", &three), true).await,
            _ => writer.delete(entry.to_owned()).await,
        };
    }
    let sent = load.sent();
    let (failures, mut times) = load.end().await;
    println!(
        "{changes} changes, {sent} requests at {rate}/s, {} failed",
        failures.len()
    );
    println!(
        "latency: p50 {:?}, p99 {:?}",
        percentile(&mut times, 0.5),
        percentile(&mut times, 0.99)
    );
    assert!(failures.is_empty(), "{:?}", &failures[..failures.len().min(10)]);
}
