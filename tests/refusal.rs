//! A proxy that refuses a change is named with its reason, and keeps what it had. A real proxy accepts whatever the
//! control plane admitted, so this one is simulated: the real session machine, fed a resource that broke on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tsunagi_proto::wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tsunagi_proxy::xds::Session;
use tsunagi_proxy::xds::session::Identity;
use tsunagi_tests::{ControlPlane, LIMIT, Sidecar, Upstream, Workload, eventually, service};

const ECHO: &str = "echo.default.svc.cluster.local";

fn rule(timeout: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - timeout: {timeout}
    route: [{{destination: {{host: echo}}}}]
"
    )
}

/// A proxy called `picky` that uses `echo` and, once told to, finds every host it is sent broken.
async fn picky(control: &ControlPlane, refusing: Arc<AtomicBool>) {
    let endpoint = Endpoint::from_shared(format!("http://{}", control.grpc)).expect("an address is a URI");
    let channel = endpoint.connect().await.expect("the control plane accepts");
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let identity = Identity {
        node_id: "picky".to_owned(),
        namespace: "default".to_owned(),
        ..Identity::default()
    };
    let mut session = Session::new(identity);
    session.connected();
    session.want(ECHO, Instant::now());
    let (requests, outgoing) = mpsc::channel(16);
    requests
        .send(session.request().expect("it greets"))
        .await
        .expect("the stream is open");
    let stream = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await;
    let mut responses = stream.expect("the control plane takes a stream").into_inner();
    tokio::spawn(async move {
        while let Ok(Some(mut response)) = responses.message().await {
            let hosts = response
                .resources
                .iter_mut()
                .filter(|resource| resource.name.starts_with("host/"));
            for resource in hosts.filter(|_| refusing.load(Ordering::SeqCst)) {
                resource.resource.iter_mut().for_each(|any| any.value.truncate(3));
            }
            session.response(response, Instant::now());
            while let Some(request) = session.request() {
                requests.send(request).await.expect("the stream is open");
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_wait_names_the_proxy_that_refused_and_why_and_the_others_have_the_change() {
    let upstream = Upstream::start("v1").await;
    let control = ControlPlane::start();
    let echo = service(
        "echo",
        "http",
        &[Workload {
            version: "v1",
            address: upstream.address,
        }],
    );
    control.apply(&[echo, rule("10s")].join("---\n")).await;
    let sidecar = Sidecar::start(&control).ready().await;
    assert_eq!(sidecar.get("echo", "/").await.status, 200);
    let refusing = Arc::new(AtomicBool::new(false));
    picky(&control, refusing.clone()).await;
    // It uses the host, and takes changes of it as long as it is not picky.
    control.apply(&rule("20s")).await;

    refusing.store(true, Ordering::SeqCst);
    let output = control
        .cli_with_input(&["apply", "-f", "-", "--wait=10s"], &rule("30s"))
        .await;
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stderr.contains("picky") && output.stderr.contains("refused"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains(ECHO),
        "it does not say what was refused: {}",
        output.stderr
    );
    assert!(
        !output.stderr.contains("sidecar"),
        "the other proxy took it: {}",
        output.stderr
    );
    let dump = sidecar.admin("GET", "/config_dump").await.text();
    assert!(dump.contains("30"), "{dump}");

    let listed = async || {
        let output = control.cli(&["proxies"]).await.stdout;
        output
            .lines()
            .any(|line| line.contains("picky") && line.contains(ECHO))
            .then_some(())
    };
    eventually("the list of proxies shows the refusal", LIMIT, listed).await;
}
