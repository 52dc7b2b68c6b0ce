//! Tsunagi: a control plane on the load's core, a sidecar on the proxies', and the rules of the demo as they stand. Metrics,
//! limits and outlier detection are on, as they always are; the access log is off, as with every peer.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tsunagi_tests::{Workload, service};

use super::{Running, first_line};
use crate::Outcome;
use crate::plan::{Endpoints, Plan, Protocol, Rules, free_address, rule_path};
use crate::settings::Settings;
use crate::started::Started;

const DEMO: &str = include_str!("../../../deploy/demo/user-service.yaml");
/// Services in one transaction.
const BATCH: usize = 500;
const APPLY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct Builds {
    pub(super) control: PathBuf,
    pub(super) proxy: PathBuf,
}

impl Builds {
    pub(super) fn in_folder(folder: &Path) -> Builds {
        Builds {
            control: folder.join("tsunagi"),
            proxy: folder.join("tsunagi-proxy"),
        }
    }

    pub(super) fn version(&self) -> Outcome<String> {
        let said = first_line(&self.proxy, "--version")?;
        Ok(said.rsplit(' ').next().unwrap_or_default().to_owned())
    }
}

pub(super) fn start(
    settings: &Settings,
    folder: &Path,
    builds: &Builds,
    plan: &Plan,
    endpoints: &Endpoints,
) -> Outcome<Running> {
    let mesh = Mesh {
        settings,
        folder,
        builds,
        http: free_address()?,
        grpc: free_address()?,
    };
    let mut processes = vec![mesh.control_plane()?];
    let mut accounted = Vec::new();
    let mut endpoints = endpoints.clone();
    if plan.two_in_line {
        let app = *endpoints.v1.first().ok_or("no endpoint")?;
        let (process, inbound) = mesh.sidecar("second", "inbound", plan.workers, Some(app))?;
        accounted.push(process.id());
        processes.push(process);
        endpoints = Endpoints {
            v1: vec![inbound],
            v2: vec![inbound],
        };
    }
    for (index, documents) in configuration(plan, &endpoints).iter().enumerate() {
        mesh.apply(index, documents)?;
    }
    let (process, address) = mesh.sidecar("first", "outbound", plan.workers, None)?;
    accounted.push(process.id());
    processes.push(process);
    Ok(Running {
        address,
        accounted,
        processes,
    })
}

struct Mesh<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    builds: &'a Builds,
    http: SocketAddr,
    grpc: SocketAddr,
}

impl Mesh<'_> {
    fn control_plane(&self) -> Outcome<Started> {
        let mut command = self.settings.on_load_core(&self.builds.control);
        command.args([
            "serve",
            "--http-addr",
            &self.http.to_string(),
            "--grpc-addr",
            &self.grpc.to_string(),
        ]);
        command.arg("--data-dir").arg(self.folder.join("control-plane"));
        let mut process = Started::start("control-plane", &mut command, self.folder)?;
        process.wait_for(self.http)?;
        process.wait_for(self.grpc)?;
        Ok(process)
    }

    /// The sidecar, once its listener for `direction` accepts, and the address of that.
    fn sidecar(
        &self,
        name: &str,
        direction: &str,
        workers: u8,
        app: Option<SocketAddr>,
    ) -> Outcome<(Started, SocketAddr)> {
        let mut command = self.settings.on_proxy_core(&self.builds.proxy);
        command.args([
            "run",
            "--control-plane",
            &format!("http://{}", self.grpc),
            "--access-log",
            "off",
        ]);
        let mut address = None;
        for listener in ["outbound", "inbound", "admin", "metrics", "health"] {
            let at = free_address()?;
            command.args([format!("--{listener}-addr"), at.to_string()]);
            address = if listener == direction { Some(at) } else { address };
        }
        if let Some(app) = app {
            command.args(["--app-addr", &app.to_string()]);
        }
        command.args([
            "--node-id",
            name,
            "--namespace",
            "default",
            "--workers",
            &workers.to_string(),
        ]);
        command
            .arg("--state-dir")
            .arg(self.folder.join(format!("{name}-state")));
        let mut process = Started::start(name, &mut command, self.folder)?;
        let address = address.ok_or("a sidecar has no such listener")?;
        process.wait_for(address)?;
        Ok((process, address))
    }

    fn apply(&self, index: usize, documents: &str) -> Outcome<()> {
        let file = self.folder.join(format!("configuration-{index}.yaml"));
        std::fs::write(&file, documents).map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.builds.control);
        command
            .args(["apply", "--server", &format!("http://{}", self.http), "-f"])
            .arg(file);
        Started::start("apply", &mut command, self.folder)?.finish(APPLY_LIMIT)?;
        Ok(())
    }
}

/// Transactions, in order.
fn configuration(plan: &Plan, endpoints: &Endpoints) -> Vec<String> {
    let port = match plan.protocol {
        Protocol::Http1 => "http",
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
    };
    let of = |version, addresses: &[SocketAddr]| -> Vec<Workload<'static>> {
        addresses
            .iter()
            .map(|address| Workload {
                version,
                address: *address,
            })
            .collect()
    };
    let workloads = [of("v1", &endpoints.v1), of("v2", &endpoints.v2)].concat();
    let own = [service(plan.host(), port, &workloads), rules(plan)].join("---\n");
    let mut transactions = Vec::new();
    if let Rules::AmongServices(count) = plan.rules {
        let others: Vec<usize> = (1..count).collect();
        for batch in others.chunks(BATCH) {
            let documents = batch
                .iter()
                .map(|number| service(&format!("service-{number}"), port, &workloads[..1]));
            transactions.push(documents.collect::<Vec<_>>().join("---\n"));
        }
    }
    transactions.push(own);
    transactions
}

/// No VirtualService: least request is the default.
fn one_slow(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {host}}}
spec:
  host: {host}
  trafficPolicy:
    loadBalancer: {{simple: LEAST_REQUEST}}
    outlierDetection: {{consecutive5xxErrors: 5}}
"
    )
}

/// The demo's documents; under another name and with larger limits for HTTP/2; with other rules where they are many.
fn rules(plan: &Plan) -> String {
    let limits = plan.limits();
    let demo = DEMO
        .replace("user-service", plan.host())
        .replace(
            "maxConnections: 100",
            &format!("maxConnections: {}", limits.connections),
        )
        .replace(
            "http1MaxPendingRequests: 50",
            &format!("http1MaxPendingRequests: {}", limits.pending),
        )
        .replace(
            "http2MaxRequests: 100",
            &format!("http2MaxRequests: {}", limits.requests),
        );
    let host = plan.host();
    let count = match plan.rules {
        Rules::Paths(count) => count,
        Rules::OneSlow => return one_slow(host),
        Rules::UserService | Rules::AmongServices(_) | Rules::Forward => return demo,
    };
    let mut text = format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}}}
spec:
  hosts: [{host}]
  http:
"
    );
    for number in 1..=count {
        let (kind, version) = if number.is_multiple_of(2) {
            ("prefix", "v2")
        } else {
            ("exact", "v1")
        };
        let path = rule_path(number);
        let _ = writeln!(text, "  - match: [{{uri: {{{kind}: {path}}}}}]");
        let _ = writeln!(
            text,
            "    route: [{{destination: {{host: {host}, subset: {version}}}}}]"
        );
    }
    let destination_rule = demo.split_once("---\n").map_or("", |(_, rule)| rule);
    [text.as_str(), destination_rule].join("---\n")
}
