//! What the control plane tells a proxy of its own workload, and that it tells it again when it changes; virtual
//! addresses; the Sidecar kind on the command line.

use std::fs;
use std::process::Command;

use tempfile::TempDir;
use tokio::task::block_in_place;
use tsunagi_proto::wire::mesh::{self, OutboundTrafficPolicy, resource::Kind};
use tsunagi_tests::{AdsClient, ControlPlane, LIMIT, Process, binaries};

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1}
spec: {address: 10.0.0.1, labels: {app: web}}
";

const SIDECAR: &str = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  inboundConnectionPool: {tcp: {maxConnections: 7}}
";

async fn workload(client: &mut AdsClient) -> mesh::Workload {
    let told = match client.resource("workload/default/web-1").await {
        Kind::Workload(workload) => Some(workload),
        _ => None,
    };
    told.expect("a workload")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_told_of_its_ports_and_of_its_sidecar_and_again_when_that_changes() {
    let control = ControlPlane::start();
    let mut client = AdsClient::connect(control.grpc, "web-1", &["workload/default/web-1"]).await;
    let first = workload(&mut client).await;
    assert_eq!(
        (first.inbound_ports.len(), first.outbound_traffic_policy()),
        (0, OutboundTrafficPolicy::AllowAny)
    );

    // Not `apply --wait`, which waits for this very client.
    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], SERVICE).await.code, 0);
    let second = workload(&mut client).await;
    let port = &second.inbound_ports[0];
    assert_eq!(
        (port.port, port.service.as_str(), port.service_port, port.protocol()),
        (8080, "web.default.svc.cluster.local", 80, mesh::Protocol::Http1)
    );
    assert_eq!(port.connection_pool, None);

    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], SIDECAR).await.code, 0);
    let third = workload(&mut client).await;
    assert_eq!(third.outbound_traffic_policy(), OutboundTrafficPolicy::RegistryOnly);
    for pool in [&third.inbound_connection_pool, &third.inbound_ports[0].connection_pool] {
        assert_eq!(pool.as_ref().map(|pool| pool.max_connections), Some(7));
    }
    assert_eq!(control.cli(&["delete", "sidecar", "default"]).await.code, 0);
    assert_eq!(workload(&mut client).await, second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_of_the_root_namespace_is_for_all_that_have_none() {
    let (store, folder) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let text = SIDECAR.replace("name: default", "name: default, namespace: mesh");
    fs::write(folder.path().join("sidecar.yaml"), text).expect("written");
    for (root, expected) in [
        (Some("mesh"), OutboundTrafficPolicy::RegistryOnly),
        (None, OutboundTrafficPolicy::AllowAny),
    ] {
        let mut command = Command::new(&binaries().tsunagi);
        command.args(["serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(store.path());
        command.arg("--config-dir").arg(folder.path());
        command.args(root.map(|root| format!("--root-namespace={root}")));
        let process = Process::start("tsunagi serve", &mut command);
        let grpc = block_in_place(|| process.address("grpc", LIMIT));
        let mut client = AdsClient::connect(grpc, "web-1", &["workload/default/web-1"]).await;
        assert_eq!(
            workload(&mut client).await.outbound_traffic_policy(),
            expected,
            "{root:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_of_a_service_is_told_as_its_name() {
    let control = ControlPlane::start();
    control.apply(SERVICE).await;
    let subscribed = ["host/10.96.0.10", "host/10.0.0.1"];
    let mut client = AdsClient::connect(control.grpc, "caller", &subscribed).await;
    let response = client.next().await;
    assert_eq!(response.removed_resources, ["host/10.0.0.1"]);
    assert_eq!(response.resources.len(), 1);
    // A service that is gone is gone by its address too, and is back by it.
    assert_eq!(control.cli(&["delete", "service", "web"]).await.code, 0);
    assert_eq!(client.next().await.removed_resources, ["host/10.96.0.10"]);
    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], SERVICE).await.code, 0);
    let Kind::Host(host) = client.resource("host/10.96.0.10").await else {
        panic!("no host")
    };
    assert_eq!(
        (host.fqdn.as_str(), host.alias_of.as_str()),
        ("10.96.0.10", "web.default.svc.cluster.local")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_applied_shown_found_at_its_path_deleted_and_refused_by_field() {
    let control = ControlPlane::start();
    control.apply(SIDECAR).await;
    for kind in ["sidecar", "sidecars", "Sidecar"] {
        let shown = control.cli(&["get", kind]).await;
        assert!(
            shown.code == 0 && shown.stdout.contains("REGISTRY_ONLY"),
            "{kind}: {}{}",
            shown.stdout,
            shown.stderr
        );
    }
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let path = format!("/apis/networking.istio.io/{version}/namespaces/default/sidecars/default");
        assert_eq!(control.get(&path).await.status, 200, "{path}");
    }
    for (field, reason) in [
        ("egress: [{hosts: ['*/*']}]", "spec.egress: known but not supported yet"),
        (
            "ingress: [{defaultEndpoint: 'x'}]",
            "spec.ingress: known but not supported yet",
        ),
        ("outboundTrafficPolicy: {mode: ALL}", "spec.outboundTrafficPolicy.mode"),
        ("outbound: {}", "spec.outbound: unknown field"),
    ] {
        let text =
            format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: bad}}\nspec:\n  {field}\n");
        let refused = control.cli_with_input(&["apply", "-f", "-"], &text).await;
        assert!(
            refused.code == 1 && refused.stderr.contains("Sidecar/bad") && refused.stderr.contains(reason),
            "{field}: {}",
            refused.stderr
        );
    }
    assert_eq!(control.cli(&["delete", "sidecars", "default"]).await.code, 0);
    assert_eq!(control.cli(&["get", "sidecar", "default"]).await.code, 1);
}
