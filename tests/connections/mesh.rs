//! A control plane that is told what users write, and a pod whose connections the packet filter gives to its sidecar: for
//! services that other pods' processes serve at virtual addresses.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::task::block_in_place;
use tsunagi_tests::{Bridge, ControlPlane, Pod, Sidecar, SidecarOptions, require_root};

use crate::world::{redirect, to_tokio};

pub(crate) struct Mesh {
    pub(crate) control: ControlPlane,
    pub(crate) app: Pod,
    pub(crate) server: Pod,
    pub(crate) sidecar: Sidecar,
    _bridge: Bridge,
}

impl Mesh {
    /// `None`: this machine lets the test make no pods, and it has said so.
    pub(crate) async fn start() -> Option<Mesh> {
        if !require_root() {
            return None;
        }
        let bridge = Bridge::new();
        let (app, server) = (bridge.pod("app"), bridge.pod("server"));
        let control = ControlPlane::start_on(bridge.address());
        block_in_place(|| redirect(&app));
        let sidecar = Sidecar::start_in(&app, control.grpc, &SidecarOptions::default());
        Some(Mesh {
            sidecar: sidecar.ready().await,
            control,
            app,
            server,
            _bridge: bridge,
        })
    }

    /// Of the application.
    pub(crate) async fn connect(&self, to: SocketAddr) -> TcpStream {
        to_tokio(block_in_place(|| self.app.connect(to)).expect("the sidecar accepts"))
    }
}

/// A `ServiceEntry` of these hosts (`a, b`) at an address and port. `protocol`: of the port, or nothing. The endpoints have
/// the label `version`.
pub(crate) fn entry(hosts: &str, at: SocketAddr, protocol: &str, endpoints: &[(&str, SocketAddr)]) -> String {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(version, endpoint)| {
            let (ip, port) = (endpoint.ip(), endpoint.port());
            format!("{{address: {ip}, ports: {{main: {port}}}, labels: {{version: {version}}}}}")
        })
        .collect();
    let name = hosts.split(',').next().unwrap_or(hosts).replace('.', "-");
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{hosts}]
  addresses: [{address}]
  resolution: STATIC
  ports: [{{number: {port}, name: main, {protocol}}}]
  endpoints: [{endpoints}]
---
",
        address = at.ip(),
        port = at.port(),
        endpoints = endpoints.join(", "),
    )
}

/// The subsets `v1` and `v2` of a host.
pub(crate) fn subsets(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {host}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
---
",
        name = host.replace('.', "-"),
    )
}
