//! From `apply` to in force on every proxy: a real control plane, 100 simulated proxies that speak the real protocol.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::{Duration, Instant};

use tsunagi_benches::{Fleet, Writer, percentile, setting};
use tsunagi_tests::{ControlPlane, Workload, service};

fn rule(name: &str, weight: u64) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {name}
spec:
  hosts: [{name}]
  http:
  - route:
    - {{destination: {{host: {name}, subset: v1}}, weight: {weight}}}
    - {{destination: {{host: {name}, subset: v2}}, weight: {}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: {name}
spec:
  host: {name}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
",
        100 - weight
    )
}

#[tokio::main]
async fn main() {
    let (proxies, changes) = (setting("PROXIES", 100), setting("CHANGES", 300));
    let services = setting("SERVICES", 50);
    let control = ControlPlane::start();
    let mut writer = Writer::open(&control).await;
    let names: Vec<String> = (0..services).map(|number| format!("service-{number}")).collect();
    for name in &names {
        let endpoint = |index: u16| ([127, 0, 0, 1], 20_000 + index).into();
        let workloads: Vec<Workload<'_>> = (0..10)
            .map(|index| Workload {
                version: if index % 2 == 0 { "v1" } else { "v2" },
                address: endpoint(index),
            })
            .collect();
        writer
            .apply([service(name, "http", &workloads), rule(name, 90)].join("---\n"), false)
            .await;
    }
    let hosts: Vec<String> = names
        .iter()
        .map(|name| format!("{name}.default.svc.cluster.local"))
        .collect();
    let mut fleet = Fleet::connect(control.grpc, proxies as usize, &hosts).await;

    let (mut all, mut last) = (Vec::new(), Vec::new());
    for change in 0..changes {
        let name = &names[(change % services) as usize];
        let started = Instant::now();
        let revision = writer.apply(rule(name, 10 + change % 80), false).await;
        let times = fleet.latencies(revision, started).await;
        last.push(times.iter().max().copied().unwrap_or_default());
        all.extend(times);
    }
    let (p50, p99) = (percentile(&mut all, 0.5), percentile(&mut all, 0.99));
    let worst = percentile(&mut last, 0.99);
    println!("{changes} changes to {proxies} proxies that hold {services} services each");
    println!("apply -> in force: p50 {p50:?}, p99 {p99:?}; slowest proxy of a change: p99 {worst:?}");
    assert!(
        p99 < Duration::from_millis(100),
        "the promise is 100 ms at the 99th percentile"
    );
}
