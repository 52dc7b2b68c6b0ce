//! Three pods on a bridge, a control plane beside it, and services with virtual addresses: `front` and `users` with a
//! sidecar each, `plain` without, where a packet filter does what kube-proxy would.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};

use tsunagi_tests::{Bridge, ControlPlane, LIMIT, Pod, Sidecar, SidecarOptions, binaries, eventually};

use crate::applications::Applications;

/// Of the HTTP port of each service.
pub const VIRTUAL_PORT: u16 = 80;
const PODS: [&str; 3] = ["front", "users", "plain"];
/// Port of the services, name, port of the application.
const PORTS: [(u16, &str, u16); 3] = [
    (VIRTUAL_PORT, "http", 8080),
    (50051, "grpc", 50051),
    (5432, "tcp-postgres", 5432),
];
/// Where the second version of the user service listens, beside the first one on 8080.
pub const SECOND_PORT: u16 = 8081;

pub struct Neighbourhood {
    control: ControlPlane,
    // Before the pods: processes end before their network does.
    sidecars: BTreeMap<&'static str, Sidecar>,
    _applications: Vec<Applications>,
    pods: BTreeMap<&'static str, Pod>,
    _bridge: Bridge,
}

impl Neighbourhood {
    pub async fn start() -> Neighbourhood {
        let bridge = Bridge::new();
        let control = ControlPlane::start_on(bridge.address());
        let pods: BTreeMap<_, _> = PODS.map(|name| (name, bridge.pod(name))).into();
        let mut applications = Vec::new();
        for pod in pods.values() {
            applications.push(Applications::start(pod).await);
        }
        let mut neighbourhood = Neighbourhood {
            control,
            sidecars: BTreeMap::new(),
            _applications: applications,
            pods,
            _bridge: bridge,
        };
        let documents = neighbourhood.documents();
        neighbourhood.control.apply(&documents).await;
        for name in PODS {
            neighbourhood.name_services(name);
        }
        neighbourhood.translate_addresses("plain");
        for name in ["front", "users"] {
            neighbourhood.join(name).await;
        }
        neighbourhood
    }

    /// The init step and the sidecar, as an injected pod has them.
    async fn join(&mut self, name: &'static str) {
        let pod = self.pod(name);
        let installed = pod.command(&binaries().proxy).args(["redirect", "install"]).output();
        let installed = installed.expect("the command ran");
        assert!(installed.status.success(), "{}", text(&installed.stderr));
        let options = SidecarOptions {
            node_id: name.to_owned(),
            args: vec![format!("--labels=app={name}")],
            ..SidecarOptions::default()
        };
        let sidecar = Sidecar::start_in(pod, self.control.grpc, &options);
        eventually("the sidecar is ready", LIMIT, async || {
            (sidecar.health("/healthz/ready").await == 200).then_some(())
        })
        .await;
        self.sidecars.insert(name, sidecar);
    }

    pub fn pod(&self, name: &str) -> &Pod {
        &self.pods[name]
    }

    pub fn sidecar(&self, name: &str) -> &Sidecar {
        &self.sidecars[name]
    }

    /// Of a service: nobody has it, nothing answers there but what the mesh (or kube-proxy) makes of it.
    pub fn virtual_address(&self, service: &str) -> IpAddr {
        let last = match service {
            "front" => 11,
            "users" => 12,
            "plain" => 13,
            _ => 20,
        };
        IpAddr::from([10, 255, 96, last])
    }

    fn documents(&self) -> String {
        let mut documents = Vec::new();
        for name in PODS {
            documents.push(service(name, self.virtual_address(name), &PORTS));
            documents.push(workload(name, self.pod(name).address(), &[("app", name)], &[]));
        }
        documents.push(service(
            "user-service",
            self.virtual_address("user-service"),
            &PORTS[..1],
        ));
        for (version, port) in [("v1", 8080), ("v2", SECOND_PORT)] {
            let labels = [("app", "user-service"), ("version", version)];
            let address = self.pod("users").address();
            documents.push(workload(
                &format!("users-{version}"),
                address,
                &labels,
                &[("http", port)],
            ));
        }
        documents.push(RULES.to_owned());
        documents.join("---\n")
    }

    fn name_services(&self, pod: &str) {
        let mut hosts = Vec::new();
        for service in PODS.into_iter().chain(["user-service"]) {
            hosts.push((service.to_owned(), self.virtual_address(service)));
            hosts.push((
                format!("{service}.default.svc.cluster.local"),
                self.virtual_address(service),
            ));
        }
        let hosts: Vec<(&str, IpAddr)> = hosts.iter().map(|(name, address)| (name.as_str(), *address)).collect();
        self.pod(pod).set_hosts(&hosts);
    }

    /// What kube-proxy does for a pod without a sidecar.
    fn translate_addresses(&self, pod: &str) {
        let mut rules = String::from("table ip nat {\nchain output {\ntype nat hook output priority -100;\n");
        for name in PODS {
            for (port, _, target) in PORTS {
                let (from, to) = (self.virtual_address(name), self.pod(name).address());
                rules.push_str(&format!("ip daddr {from} tcp dport {port} dnat to {to}:{target}\n"));
            }
        }
        rules.push_str("}\n}\n");
        let mut nft = self.pod(pod).command("nft");
        let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
        let mut stdin = nft.stdin.take().expect("stdin is piped");
        stdin.write_all(rules.as_bytes()).expect("nft reads");
        drop(stdin);
        assert!(nft.wait().expect("our own child").success());
    }

    /// What `curl` in a pod prints.
    pub fn curl(&self, pod: &str, arguments: &[&str]) -> String {
        let mut curl = self.pod(pod).command("curl");
        curl.args(["-sS", "--fail-with-body", "--max-time", "20"])
            .args(arguments);
        said(&format!("curl {arguments:?} in {pod}"), &mut curl)
    }

    /// The answers to `count` requests, one connection each.
    pub fn curl_many(&self, pod: &str, url: &str, count: usize, arguments: &[&str]) -> Vec<String> {
        (0..count)
            .map(|_| self.curl(pod, &[arguments, &[url]].concat()))
            .collect()
    }

    pub fn grpc(&self, pod: &str, service: &str, count: usize) -> String {
        let mut client = self.pod(pod).command("/usr/bin/python3");
        // grpcio's own resolver would ask a name server too, and there is none.
        client.env("GRPC_DNS_RESOLVER", "native");
        client.args([
            crate::applications::GRPC,
            "call",
            &format!("{service}:50051"),
            &count.to_string(),
        ]);
        said(&format!("gRPC from {pod} to {service}"), &mut client)
    }

    pub fn psql(&self, pod: &str, service: &str, query: &str) -> String {
        let mut client = self.pod(pod).command("psql");
        client.env("PGCONNECT_TIMEOUT", "20");
        client.args(["-h", service, "-U", "postgres", "-d", "postgres", "-At", "-c", query]);
        said(&format!("psql from {pod} to {service}"), &mut client)
    }
}

fn said(what: &str, command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect(what);
    assert!(status.success(), "{what}: {status}\n{}{}", text(&stdout), text(&stderr));
    text(&stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn service(name: &str, address: IpAddr, ports: &[(u16, &str, u16)]) -> String {
    let ports: Vec<String> = ports
        .iter()
        .map(|(port, name, target)| format!("{{name: {name}, port: {port}, targetPort: {target}}}"))
        .collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  clusterIP: {address}\n  \
         selector: {{app: {name}}}\n  ports: [{}]\n",
        ports.join(", ")
    )
}

fn workload(name: &str, address: IpAddr, labels: &[(&str, &str)], ports: &[(&str, u16)]) -> String {
    let pairs = |pairs: Vec<String>| pairs.join(", ");
    let labels = pairs(labels.iter().map(|(key, value)| format!("{key}: {value}")).collect());
    let ports = pairs(ports.iter().map(|(key, value)| format!("{key}: {value}")).collect());
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec:\n  \
         address: {address}\n  labels: {{{labels}}}\n  ports: {{{ports}}}\n"
    )
}

const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: user-service}
spec:
  host: user-service
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user-service}
spec:
  hosts: [user-service]
  http:
  - match: [{headers: {version: {exact: v2}}}]
    route: [{destination: {host: user-service, subset: v2}}]
  - route:
    - {destination: {host: user-service, subset: v1}, weight: 90}
    - {destination: {host: user-service, subset: v2}, weight: 10}
";
