//! Configuration that many tests share: the users' rules, and services whose endpoints are this test's own upstreams.

use std::net::SocketAddr;

/// The rules of a real user, verbatim: an old API version, the old `consecutiveErrors`.
pub const ISSUE_RULES: &str = include_str!("user-service.yaml");

/// One endpoint of a service.
#[derive(Clone, Copy)]
pub struct Workload<'a> {
    pub version: &'a str,
    pub address: SocketAddr,
}

/// A `Service` with port 80 and a `WorkloadEntry` for each endpoint. The port's name says the protocol.
pub fn service(name: &str, port_name: &str, workloads: &[Workload<'_>]) -> String {
    let mut documents = vec![format!(
        "apiVersion: v1
kind: Service
metadata:
  name: {name}
spec:
  selector:
    app: {name}
  ports:
  - name: {port_name}
    port: 80
    targetPort: 8080
"
    )];
    for (index, workload) in workloads.iter().enumerate() {
        let Workload { version, address } = workload;
        documents.push(format!(
            "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {name}-{version}-{index}
spec:
  address: {ip}
  ports:
    {port_name}: {port}
  labels:
    app: {name}
    version: {version}
",
            ip = address.ip(),
            port = address.port(),
        ));
    }
    documents.join("---\n")
}
