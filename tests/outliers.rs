//! What counts as an error of an endpoint, and what its ejection does: each setting of `outlierDetection`, from its YAML to
//! the endpoints that get requests.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tsunagi_tests::{
    Behaviour, BlackHole, Connection, ControlPlane, LIMIT, RawConnection, Sample, Sidecar, SidecarOptions, Version,
    Workload, eventually, request, service,
};

/// A rule for `echo` with these fields of `outlierDetection`, one a line.
fn rule(annotations: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("      {field}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
  annotations: {{{annotations}}}
spec:
  host: echo
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
    outlierDetection:
      interval: 50ms
{fields}"
    )
}

/// Each worker takes turns by itself.
fn one_worker() -> SidecarOptions {
    SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    }
}

async fn two(fields: &[&str]) -> Sample {
    Sample::with("http", &["a", "b"], &rule("", fields), &one_worker()).await
}

/// Requests, each on a connection of its own because the endpoint may break it off.
async fn send(sample: &Sample, count: usize) {
    for _ in 0..count {
        let mut connection = sample.connect(Version::Http1).await;
        let _ = connection.try_send(request("GET", "echo", "/")).await;
    }
}

async fn ejections(sidecar: &Sidecar, cause: &str) -> f64 {
    let labels = [("cause", cause)];
    sidecar.metrics().await.sum("tsunagi_outlier_ejections_total", &labels)
}

async fn is_ejected(sample: &Sample, cause: &str) -> bool {
    ejections(&sample.sidecar, cause).await == 1.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateway_errors_eject_where_other_errors_do_not() {
    let sample = two(&["consecutive5xxErrors: 0", "consecutiveGatewayErrors: 2"]).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(500));
    send(&sample, 20).await;
    assert_eq!(first.requests(), 10, "500 is no gateway error");
    first.set(Behaviour::Status(502));
    send(&sample, 20).await;
    assert_eq!(first.requests(), 12);
    assert!(is_ejected(&sample, "consecutive_gateway_errors").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_statuses_eject_and_others_do_not() {
    let sample = two(&["consecutive5xxErrors: 3", "outlierDetectionHttpErrorCodes: [429]"]).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(500));
    send(&sample, 20).await;
    assert_eq!(first.requests(), 10, "500 is not on the list");
    first.set(Behaviour::Status(429));
    send(&sample, 20).await;
    assert_eq!(first.requests(), 13);
    assert!(is_ejected(&sample, "consecutive_5xx").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn split_off_resets_have_a_count_of_their_own() {
    let split = [
        "consecutive5xxErrors: 0",
        "splitExternalLocalOriginErrors: true",
        "consecutiveLocalOriginFailures: 3",
    ];
    let sample = two(&split).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(503));
    send(&sample, 20).await;
    assert_eq!(first.requests(), 10, "an answer is no local failure");
    first.set(Behaviour::Close);
    send(&sample, 20).await;
    assert_eq!(first.requests(), 13);
    assert!(is_ejected(&sample, "consecutive_local_origin").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_breaks_off_its_answers_is_ejected_although_each_begins_with_200() {
    let sample = two(&["consecutive5xxErrors: 3"]).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::CloseInBody);
    send(&sample, 20).await;
    assert_eq!(first.requests(), 3);
    assert!(is_ejected(&sample, "consecutive_5xx").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_nobody_answers_at_is_ejected_although_requests_give_up_before_connecting_does() {
    let hole = BlackHole::start().await;
    let live = tsunagi_tests::Upstream::start("live").await;
    let workloads = [hole.address, live.address].map(|address| Workload { version: "v1", address });
    let route = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - timeout: 200ms
    route:
    - destination: {host: echo}
";
    let rules = rule("", &["consecutive5xxErrors: 3", "baseEjectionTime: 60s"]);
    let control = ControlPlane::start();
    let documents = format!("{}---\n{rules}---\n{route}", service("echo", "http", &workloads));
    control.apply(&documents).await;
    let sidecar = Sidecar::start(&control).ready().await;
    eventually("it is ejected", LIMIT, async || {
        let reply = sidecar.get("echo", "/").await;
        assert!(matches!(reply.status, 200 | 504), "{}", reply.status);
        (ejections(&sidecar, "consecutive_5xx").await == 1.0).then_some(())
    })
    .await;
    for _ in 0..10 {
        assert_eq!(sidecar.get("echo", "/").await.status, 200);
    }
}

/// A TCP service with these endpoints.
async fn tcp(addresses: &[SocketAddr], fields: &[&str]) -> (ControlPlane, Sidecar) {
    let workloads: Vec<_> = addresses
        .iter()
        .map(|address| Workload {
            version: "v1",
            address: *address,
        })
        .collect();
    let control = ControlPlane::start();
    let rules = rule("", fields);
    control
        .apply(&format!("{}---\n{rules}", service("echo", "tcp", &workloads)))
        .await;
    let sidecar = Sidecar::start(&control).ready().await;
    (control, sidecar)
}

/// Does a connection through the sidecar bring what the live endpoint says?
async fn is_greeted(sidecar: &Sidecar) -> bool {
    let mut connection = RawConnection::open(sidecar.outbound).await;
    connection
        .write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n")
        .await;
    assert_eq!(connection.head_response().await.status, 200);
    connection.next_through(&[7]).await.is_some()
}

/// A server that greets every connection, or resets it without a word.
async fn serve(aborts: bool) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            if aborts {
                stream.set_zero_linger().expect("a socket");
            } else {
                let _ = tokio::io::AsyncWriteExt::write_u8(&mut stream, 7).await;
            }
        }
    });
    (address, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_endpoints_that_refuse_or_reset_every_connection_are_ejected() {
    let (live, live_server) = serve(false).await;
    let (aborting, aborting_server) = serve(true).await;
    let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let refused = refusing.local_addr().expect("bound");
    drop(refusing);
    for bad in [aborting, refused] {
        let fields = ["consecutive5xxErrors: 3", "baseEjectionTime: 60s"];
        let (_control, sidecar) = tcp(&[bad, live], &fields).await;
        eventually("it is ejected", LIMIT, async || {
            is_greeted(&sidecar).await;
            (ejections(&sidecar, "consecutive_5xx").await == 1.0).then_some(())
        })
        .await;
        for _ in 0..10 {
            assert!(is_greeted(&sidecar).await);
        }
    }
    live_server.abort();
    aborting_server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_endpoint_that_takes_its_probe_and_resets_it_has_no_second_chance() {
    let (live, live_server) = serve(false).await;
    let (aborting, aborting_server) = serve(true).await;
    let fields = ["consecutive5xxErrors: 5", "baseEjectionTime: 500ms"];
    let (_control, sidecar) = tcp(&[aborting, live], &fields).await;
    eventually("three probes have failed", LIMIT, async || {
        is_greeted(&sidecar).await;
        (ejections(&sidecar, "failed_probe").await >= 3.0).then_some(())
    })
    .await;
    assert_eq!(ejections(&sidecar, "consecutive_5xx").await, 1.0);
    live_server.abort();
    aborting_server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_panic_ejected_endpoints_get_requests_and_a_success_brings_one_back() {
    let fields = [
        "consecutive5xxErrors: 2",
        "minHealthPercent: 60",
        "baseEjectionTime: 500ms",
    ];
    let sample = two(&fields).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(500));
    send(&sample, 4).await;
    assert!(is_ejected(&sample, "consecutive_5xx").await);
    let before = first.requests();
    send(&sample, 40).await;
    assert!(first.requests() > before + 5, "one of two is below 60 %");
    eventually("the control plane tells of it", LIMIT, async || {
        send(&sample, 4).await;
        let line = told(&sample, first.address).await;
        (line.contains("ejected") && line.contains("fewer than minHealthPercent")).then_some(())
    })
    .await;
    let page = sample.sidecar.admin("GET", "/clusters").await.text();
    assert!(page.contains("::panic::true"), "{page}");
    let panic = async || sample.sidecar.metrics().await.sum("tsunagi_upstream_panic", &[]);
    assert_eq!(panic().await, 1.0);
    first.set(Behaviour::Answer);
    eventually("it returns", LIMIT, async || {
        send(&sample, 1).await;
        let metrics = sample.sidecar.metrics().await;
        let probed = metrics.sum("tsunagi_outlier_unejections_total", &[("reason", "probe")]);
        (probed == 1.0 && metrics.sum("tsunagi_outlier_ejected_endpoints", &[]) == 0.0).then_some(())
    })
    .await;
    assert_eq!(panic().await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_ejection_lasts_longer_and_the_admin_page_says_why_and_how_long_yet() {
    let sample = two(&["consecutive5xxErrors: 2", "baseEjectionTime: 400ms"]).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(503));
    let mut connection = sample.connect(Version::Http1).await;
    let mut arrived = Vec::new();
    let started = Instant::now();
    while arrived.len() < 4 {
        let before = first.requests();
        connection.get("echo", "/").await;
        if first.requests() > before {
            arrived.push(Instant::now());
        }
        assert!(started.elapsed() < LIMIT, "no probe came");
    }
    // The second error ejects; then come the probes.
    for (index, times) in [(2, 1), (3, 2)] {
        let gap = arrived[index] - arrived[index - 1];
        assert!(gap >= Duration::from_millis(400) * times, "probe {times} after {gap:?}");
    }
    let page = sample.sidecar.admin("GET", "/clusters").await.text();
    let address = first.address;
    let value = |what: &str| {
        let mark = format!("::{address}::{what}::");
        let line = page.lines().find(|line| line.contains(&mark));
        line.and_then(|line| line.rsplit("::").next()).map(str::to_owned)
    };
    assert_eq!(value("health").as_deref(), Some("ejected"), "{page}");
    assert_eq!(value("ejections").as_deref(), Some("3"));
    assert_eq!(value("ejection_cause").as_deref(), Some("failed_probe"));
    let left: f64 = value("ejection_left_seconds")
        .expect("a time")
        .parse()
        .expect("a number");
    assert!(left > 0.0 && left <= 1.2, "{left} seconds of the third ejection");
    assert!(value("ejected_seconds").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_is_left_to_a_request_that_can_be_sent_again() {
    let fields = ["consecutive5xxErrors: 2", "baseEjectionTime: 500ms", "interval: 5s"];
    let rules = rule("", &fields).replace("      interval: 50ms\n", "");
    let sample = Sample::with("http", &["a", "b"], &rules, &one_worker()).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(503));
    let mut connection = sample.connect(Version::Http1).await;
    while first.requests() < 2 {
        connection.get("echo", "/").await;
    }
    first.set(Behaviour::Answer);
    eventually("it awaits a probe", LIMIT, async || {
        let page = sample.sidecar.admin("GET", "/clusters").await.text();
        page.contains("awaiting probe").then_some(())
    })
    .await;
    for _ in 0..20 {
        connection.send(request("POST", "echo", "/")).await;
    }
    assert_eq!(first.requests(), 2, "a POST is not repeated, and no probe");
    for _ in 0..3 {
        connection.get("echo", "/").await;
    }
    assert!(first.requests() > 2, "a GET is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_rules_can_be_asked_for() {
    let annotation = "tsunagi.io/outlier-detection: envoy";
    let fields = ["consecutive5xxErrors: 2", "baseEjectionTime: 500ms"];
    let rules = rule(annotation, &fields);
    let sample = Sample::with("http", &["a", "b"], &rules, &one_worker()).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(500));
    send(&sample, 20).await;
    assert_eq!(first.requests(), 10, "one of two is more than 10 %");
    let metrics = sample.sidecar.metrics().await;
    assert_eq!(metrics.sum("tsunagi_outlier_ejections_overflow_total", &[]), 5.0);

    let half = rule(annotation, &[fields[0], fields[1], "maxEjectionPercent: 50"]);
    sample.control.apply(&half).await;
    eventually("it is ejected", LIMIT, async || {
        send(&sample, 2).await;
        is_ejected(&sample, "consecutive_5xx").await.then_some(())
    })
    .await;
    first.set(Behaviour::Hold);
    // With no probe before: all at once.
    let mut held = tokio::task::JoinSet::new();
    let started = Instant::now();
    while first.live_requests() < 3 {
        let outbound = sample.sidecar.outbound;
        held.spawn(async move {
            let mut connection = Connection::open(outbound, Version::Http1).await;
            connection.get("echo", "/").await.status
        });
        tokio::task::yield_now().await;
        while held.len() > 8 && first.live_requests() < 3 {
            held.join_next().await;
        }
        assert!(started.elapsed() < LIMIT, "it does not return");
    }
    let metrics = sample.sidecar.metrics().await;
    let by_time = [("reason", "time")];
    assert_eq!(metrics.sum("tsunagi_outlier_unejections_total", &by_time), 1.0);
    first.set(Behaviour::Answer);
    assert!(held.join_all().await.into_iter().all(|status| status == 200));
}

/// Of `tsunagi endpoints echo`, the line of the endpoint at this address.
async fn told(sample: &Sample, address: SocketAddr) -> String {
    let shown = sample.control.cli(&["endpoints", "echo"]).await.stdout;
    let line = shown.lines().find(|line| line.contains(&address.to_string()));
    line.unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_shows_each_endpoint_and_which_sidecar_has_ejected_it_why_and_for_how_long() {
    let sample = two(&["consecutive5xxErrors: 3", "baseEjectionTime: 60s"]).await;
    let [first, second] = [0, 1].map(|index| sample.upstreams[index].address);
    assert!(told(&sample, first).await.contains(" healthy "));
    sample.upstreams[0].set(Behaviour::Status(500));
    send(&sample, 6).await;
    let line = eventually("the control plane knows of the ejection", LIMIT, async || {
        Some(told(&sample, first).await).filter(|line| line.contains(" ejected "))
    })
    .await;
    let cells: Vec<&str> = line.split_whitespace().collect();
    let [.., state, by, cause, left, ejections] = cells[..] else {
        panic!("too few cells: {line}")
    };
    assert_eq!((state, cause, ejections), ("ejected", "consecutive_5xx", "1"), "{line}");
    assert!(by.starts_with("default/"), "{line}");
    let left: u64 = left.parse().unwrap();
    assert!((1..=60).contains(&left), "{line}");
    assert!(told(&sample, second).await.contains(" healthy "));
    // For a script the same words, and one state.
    let json = sample.control.cli(&["endpoints", "ECHO:80", "-o", "json"]).await.stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let endpoints = json["endpoints"].as_array().unwrap();
    let of = |address: SocketAddr| endpoints.iter().find(|one| one["address"] == address.to_string());
    let ejected = of(first).unwrap();
    assert_eq!(
        (&ejected["state"], &ejected["reason"], &ejected["told"]),
        (&"ejected".into(), &"consecutive_5xx".into(), &"healthy".into())
    );
    assert_eq!(ejected["seenBy"][0]["state"], "ejected");
    assert!(ejected["secondsLeft"].is_u64(), "{ejected}");
    assert_eq!(of(second).unwrap()["state"], "healthy");
    let elsewhere = sample.control.cli(&["endpoints", "echo:81"]).await;
    assert!(elsewhere.stderr.contains("there are no endpoints"), "{elsewhere:?}");
    let unknown = sample.control.cli(&["endpoints", "nobody"]).await;
    assert!(
        unknown.code == 1 && unknown.stderr.contains("no service is called nobody"),
        "{unknown:?}"
    );
    // The last one is kept although it fails, which is said, too.
    sample.upstreams[1].set(Behaviour::Status(500));
    let line = eventually(
        "the control plane knows whom the pool cannot spare",
        LIMIT,
        async || {
            send(&sample, 6).await;
            Some(told(&sample, second).await).filter(|line| line.contains(" failing "))
        },
    )
    .await;
    assert!(
        line.contains("consecutive_5xx: not ejected, the pool cannot spare it"),
        "{line}"
    );
    let page = sample.sidecar.admin("GET", "/clusters").await.text();
    assert!(page.contains(&format!("::{second}::health::failing")), "{page}");
    let explained = sample.control.cli(&["explain", "http://echo/"]).await.stdout;
    assert!(
        explained.contains("HEALTHY, failing and kept by default/"),
        "{explained}"
    );
    sample.upstreams[1].set(Behaviour::Answer);
    eventually("it is well again", LIMIT, async || {
        send(&sample, 2).await;
        told(&sample, second).await.contains(" healthy ").then_some(())
    })
    .await;
    // What a sidecar has said goes with it.
    drop(sample.sidecar);
    let control = &sample.control;
    let shown = async || control.cli(&["endpoints", "echo"]).await.stdout;
    eventually("the sidecar's word is gone", LIMIT, async || {
        (!shown().await.contains("ejected")).then_some(())
    })
    .await;
}
