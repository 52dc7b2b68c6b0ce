//! What every test here has: the files of a proxy, and a control plane with a sidecar that calls nginx.

use std::path::Path;

use tempfile::TempDir;
use tsunagi_tests::{ControlPlane, Reply, Sidecar, SidecarOptions, Workload, service};

use crate::pki::{Authority, REVOKED, write};

/// Of the service `echo`.
pub(crate) const NAME: &str = "echo.default.svc.cluster.local";

/// A proxy's files: an authority with whatever it has signed, and another one that nobody knows.
pub(crate) struct Files {
    folder: TempDir,
    pub(crate) authority: Authority,
}

impl Files {
    pub(crate) fn new() -> Files {
        let (folder, authority) = (TempDir::new().expect("a temporary folder"), Authority::new("ours"));
        authority.issue(folder.path(), "server", &[NAME, "*.example.com"], 1);
        authority.issue(folder.path(), "revoked", &[NAME], REVOKED);
        authority.issue(folder.path(), "client", &["client.example.com"], 2);
        Authority::new("theirs").issue(folder.path(), "stranger", &[NAME], 3);
        write(folder.path(), "ca.pem", &authority.pem());
        write(folder.path(), "crl.pem", &authority.revoke(&[REVOKED]));
        Files { folder, authority }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn named(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// How nginx is told to have this certificate.
    pub(crate) fn served(&self, name: &str) -> String {
        format!(
            "ssl_certificate {}; ssl_certificate_key {};",
            self.named(&format!("{name}.crt")),
            self.named(&format!("{name}.key"))
        )
    }

    pub(crate) fn verified(&self, name: &str) -> String {
        let ours = self.named("ca.pem");
        format!(
            "{} ssl_client_certificate {ours}; ssl_verify_client on;",
            self.served(name)
        )
    }
}

/// A control plane, a sidecar and the service `echo`, whose endpoints are these listeners of nginx.
pub(crate) struct Mesh {
    control: ControlPlane,
    pub(crate) sidecar: Sidecar,
}

impl Mesh {
    pub(crate) async fn start(port_name: &str, endpoints: &[std::net::SocketAddr], options: SidecarOptions) -> Mesh {
        let control = ControlPlane::start();
        let workloads: Vec<Workload<'_>> = endpoints
            .iter()
            .map(|address| Workload {
                version: "v1",
                address: *address,
            })
            .collect();
        control.apply(&service("echo", port_name, &workloads)).await;
        let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
        Mesh { control, sidecar }
    }

    /// One sidecar thread, so that what is kept is found again.
    pub(crate) async fn single(port_name: &str, endpoint: std::net::SocketAddr) -> Mesh {
        let options = SidecarOptions {
            workers: 1,
            ..SidecarOptions::default()
        };
        Mesh::start(port_name, &[endpoint], options).await
    }

    /// `policy`: the trafficPolicy, in one line.
    pub(crate) async fn policy(&self, policy: &str) {
        let rule = format!(
            "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy: {policy}
"
        );
        self.control.apply(&rule).await;
    }

    pub(crate) async fn get(&self) -> Reply {
        self.sidecar.get("echo", "/").await
    }

    /// What nginx saw of a request that it answered.
    pub(crate) async fn seen(&self) -> String {
        let reply = self.get().await;
        assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
        reply.text()
    }

    /// Why a request was not answered.
    pub(crate) async fn refused(&self) -> String {
        let reply = self.get().await;
        // It was tried again, to no avail.
        assert!(
            reply.status == 503 && reply.flags().ends_with("UF"),
            "{} {}",
            reply.flags(),
            reply.text()
        );
        reply.text()
    }

    pub(crate) async fn failures(&self, cause: &str) -> f64 {
        let labels = [("destination_service", NAME), ("cause", cause)];
        let metrics = self.sidecar.metrics().await;
        metrics.sum("tsunagi_upstream_tls_failures_total", &labels)
    }
}
