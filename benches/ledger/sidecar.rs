//! A real sidecar with one worker on a core of its own, under the load of wrk and h2load: processor time a request, and
//! the same load once more with its system calls counted.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use tokio::runtime::Builder;
use tokio::task::block_in_place;
use tsunagi_benches::{answers, compare_output, setting};
use tsunagi_tests::{ControlPlane, Sidecar, SidecarOptions, Version, Workload, service};

use crate::system_calls::{Tracer, print_calls};

/// The rules of README's example with limits that the load does not reach.
fn rules(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http:
  - match:
    - headers: {{version: {{exact: v2}}}}
    route:
    - {{destination: {{host: {name}, subset: v2}}}}
  - route:
    - {{destination: {{host: {name}, subset: v1}}, weight: 90}}
    - {{destination: {{host: {name}, subset: v2}}, weight: 10}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {name}
  trafficPolicy:
    connectionPool:
      tcp: {{maxConnections: 1000}}
      http: {{http1MaxPendingRequests: 500, http2MaxRequests: 1000}}
    loadBalancer: {{simple: LEAST_REQUEST}}
    outlierDetection: {{consecutive5xxErrors: 5, interval: 30s, baseEjectionTime: 30s}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
"
    )
}

const HTTP1_HOST: &str = "user-service";
const HTTP2_HOST: &str = "user-service-http2";

/// Prints the second half of the ledger.
pub fn measure() {
    pin(std::process::id(), setting("LOAD_CORE", 1));
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let control = ControlPlane::start();
        for (name, port_name, version) in [
            (HTTP1_HOST, "http", Version::Http1),
            (HTTP2_HOST, "http2", Version::Http2),
        ] {
            let addresses = answers(version, 3, crate::BODY_BYTES).expect("free ports");
            let workloads: Vec<_> = addresses
                .iter()
                .zip(["v1", "v1", "v2"])
                .map(|(address, version)| Workload {
                    version,
                    address: *address,
                })
                .collect();
            let documents = [service(name, port_name, &workloads), rules(name)];
            control.apply(&documents.join("---\n")).await;
        }
        for access_log in ["off", "on"] {
            let options = SidecarOptions {
                workers: 1,
                args: vec!["--access-log".to_owned(), access_log.to_owned()],
                ..SidecarOptions::default()
            };
            let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
            block_in_place(|| measure_one(&sidecar, access_log));
        }
    });
}

fn measure_one(sidecar: &Sidecar, access_log: &str) {
    let process = sidecar.process.id();
    pin(process, setting("PROXY_CORE", 0));
    let loads = [
        ("HTTP/1.1, 64 connections", wrk as Load),
        ("HTTP/2, 16 connections x 10 streams", h2load),
    ];
    for (name, load) in loads {
        load(sidecar.outbound, 1);
        let before = CpuTime::of(process);
        let requests = load(sidecar.outbound, seconds());
        let (user, kernel) = CpuTime::of(process).since(&before, requests);
        println!("\n{name}, access log {access_log}: {requests} requests");
        println!("| user | kernel | sum |\n|---|---|---|");
        println!("| {user:.2} us | {kernel:.2} us | {:.2} us |", user + kernel);
        if access_log == "off"
            && let Some(tracer) = Tracer::attach(process)
        {
            let requests = load(sidecar.outbound, seconds());
            print_calls(&tracer.detach(), requests);
        }
    }
}

fn seconds() -> u64 {
    setting("SECONDS", 5)
}

/// Loads an address for so many seconds; how many requests were answered.
type Load = fn(SocketAddr, u64) -> u64;

fn wrk(sidecar: SocketAddr, seconds: u64) -> u64 {
    let mut command = Command::new("wrk");
    command.args(["--latency", "-t1", "-c64", &format!("-d{seconds}s")]);
    command.args(["-H", &format!("Host: {HTTP1_HOST}"), &format!("http://{sidecar}/")]);
    let tally = compare_output::wrk(&output("wrk", command));
    tally.expect("every request was answered").requests
}

fn h2load(sidecar: SocketAddr, seconds: u64) -> u64 {
    let mut command = Command::new("h2load");
    command.args(["-t1", "-c16", "-m10", "-D", &seconds.to_string()]);
    command.args([
        "-H",
        &format!(":authority: {HTTP2_HOST}"),
        &format!("http://{sidecar}/"),
    ]);
    let tally = compare_output::h2load(&output("nghttp2-client", command));
    tally.expect("every request was answered").requests
}

fn output(package: &str, mut command: Command) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| unavailable(&command, package, &error));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[allow(clippy::panic, reason = "a benchmark ends with what is missing")]
fn unavailable(command: &Command, package: &str, error: &std::io::Error) -> ! {
    panic!("{:?}: {error}; it is in the package {package}", command.get_program())
}

fn pin(process: u32, core: u64) {
    let mut command = Command::new("taskset");
    command.args(["-acp", &core.to_string(), &process.to_string()]);
    output("util-linux", command);
}

/// The kernel's account of a process: its sum is exact, how it is split is sampled.
struct CpuTime {
    user: Duration,
    kernel: Duration,
}

impl CpuTime {
    fn of(process: u32) -> CpuTime {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // The name before may contain anything; these are fields 14 and 15.
        let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
        let mut fields = behind
            .split(' ')
            .skip(11)
            .map(|field| field.parse::<u64>().unwrap_or(0));
        let mut next = || Duration::from_secs(fields.next().unwrap_or(0)).div_f64(clock_ticks_per_second() as f64);
        CpuTime {
            user: next(),
            kernel: next(),
        }
    }

    /// Microseconds a request.
    fn since(&self, earlier: &CpuTime, requests: u64) -> (f64, f64) {
        let each = |now: Duration, before: Duration| (now - before).as_secs_f64() * 1e6 / requests.max(1) as f64;
        (each(self.user, earlier.user), each(self.kernel, earlier.kernel))
    }
}
