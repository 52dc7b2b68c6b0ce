//! What the proxy answers by itself: the status, the flag, a sentence; and what it refuses to pass on at all.

use std::time::Duration;

use http::HeaderValue;
use tokio::io::AsyncWriteExt;
use tsunagi_tests::{
    Behaviour, LIMIT, RawConnection, Sample, SidecarOptions, Version, eventually, request, service, within,
};

const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

fn rule(fields: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - {fields}
    route:
    - destination:
        host: echo
"
    )
}

async fn raw(sample: &Sample) -> RawConnection {
    RawConnection::open(sample.sidecar.outbound).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_host_404_nr_unknown_subset_503_nc_no_endpoints_503_uh() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - match:
    - uri:
        exact: /no-subset
    route:
    - destination:
        host: echo
        subset: none
  - match:
    - uri:
        exact: /no-host
    route:
    - destination:
        host: none
  - match:
    - uri:
        exact: /empty
    route:
    - destination:
        host: empty
";
    let sample = Sample::start(rules).await;
    sample.control.apply(&service("empty", "http", &[])).await;
    for version in BOTH {
        let mut connection = sample.connect(version).await;
        let cases = [
            ("nobody", "/", 404, "NR"),
            ("echo", "/no-such-rule", 404, "NR"),
            ("echo", "/no-subset", 503, "NC"),
            ("echo", "/no-host", 503, "NC"),
            ("echo", "/empty", 503, "UH"),
            ("empty", "/", 503, "UH"),
        ];
        for (host, path, status, flags) in cases {
            let reply = connection.get(host, path).await;
            assert_eq!(
                (reply.status, reply.flags()),
                (status, flags),
                "{host}{path} {version:?}: {}",
                reply.text()
            );
            assert!(
                reply
                    .header("content-type")
                    .is_some_and(|kind| kind.starts_with("text/plain")),
                "{path}"
            );
            assert!(!reply.body.is_empty());
        }
    }
    assert_eq!(sample.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_closes_is_503_and_one_that_is_slow_504() {
    let sample = Sample::start(&rule("timeout: 300ms\n    retries:\n      attempts: 0")).await;
    for version in BOTH {
        let mut connection = sample.connect(version).await;
        sample.upstream().set(Behaviour::Close);
        let reply = connection.get("echo", "/").await;
        assert!(
            reply.status == 503 && ["UC", "UR"].contains(&reply.flags()),
            "{} {}",
            reply.status,
            reply.flags()
        );
        sample.upstream().set(Behaviour::Hold);
        let reply = connection.get("echo", "/").await;
        assert_eq!((reply.status, reply.flags()), (504, "UT"));
        assert!(
            (Duration::from_millis(300)..Duration::from_secs(3)).contains(&reply.elapsed),
            "{:?}",
            reply.elapsed
        );
        sample.upstream().set(Behaviour::Answer);
        assert_eq!(connection.get("echo", "/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_breaks_off_breaks_off_for_the_client_too() {
    let sample = Sample::start("").await;
    sample.upstream().set(Behaviour::CloseInBody);
    for version in BOTH {
        let mut connection = sample.connect(version).await;
        let outcome = within("an end", LIMIT, connection.try_send(request("GET", "echo", "/"))).await;
        assert!(outcome.is_err(), "a cut body looked whole: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_request_gets_a_grpc_status_and_no_body() {
    let sample = Sample::with("grpc", &["v1"], "", &SidecarOptions::default()).await;
    let mut connection = sample.connect(Version::Http2).await;
    let mut call = request("POST", "nobody", "/pkg.Service/Call");
    call.headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let reply = connection.send(call).await;
    assert_eq!((reply.status, reply.flags()), (200, "NR"));
    assert_eq!(reply.header("content-type"), Some("application/grpc"));
    // 12 is UNIMPLEMENTED: what gRPC's own mapping makes of 404.
    assert_eq!(reply.header("grpc-status"), Some("12"));
    assert!(reply.header("grpc-message").is_some());
    assert!(reply.body.is_empty() && reply.trailers.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ambiguous_or_malformed_request_is_400_and_the_connection_closes() {
    let sample = Sample::start("").await;
    assert_eq!(sample.get("/").await.status, 200);
    let smuggling = [
        (
            "both lengths",
            "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "a length that is no number",
            "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: +0\r\n\r\n",
        ),
        (
            "an unknown coding",
            "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked in 1.0",
            "POST / HTTP/1.0\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a space before the colon",
            "GET / HTTP/1.1\r\nHost: echo\r\nContent-Length : 5\r\n\r\n",
        ),
        (
            "a folded header",
            "GET / HTTP/1.1\r\nHost: echo\r\nX-A: 1\r\n Content-Length: 5\r\n\r\n",
        ),
        ("two hosts", "GET / HTTP/1.1\r\nHost: echo\r\nHost: other\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("no request", "hello there\r\n\r\n"),
        ("a space in the target", "GET /a b HTTP/1.1\r\nHost: echo\r\n\r\n"),
    ];
    for (name, bytes) in smuggling {
        let mut connection = raw(&sample).await;
        connection
            .write(format!("{bytes}GET /smuggled HTTP/1.1\r\nHost: echo\r\n\r\n"))
            .await;
        let response = connection.response().await;
        assert_eq!(response.status, 400, "{name}: {}", response.head);
        assert!(connection.is_closed_within(LIMIT).await, "{name}: still open");
    }
    let uris: Vec<String> = sample.upstream().seen().into_iter().map(|seen| seen.uri).collect();
    assert_eq!(uris, ["/"], "something got through");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_block_that_is_too_large_is_431() {
    let sample = Sample::start("").await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: echo\r\nX-Large: {}\r\n\r\n",
        "x".repeat(512 * 1024)
    );
    let mut connection = raw(&sample).await;
    connection.write(large).await;
    assert_eq!(connection.response().await.status, 431);
    assert_eq!(sample.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_its_answer_has_no_status_and_a_malformed_body_has_400() {
    let sample = Sample::start("").await;
    let whole = "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 10\r\n\r\nabc";
    let chunked = "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
    for (number, sent) in [whole, chunked].into_iter().enumerate() {
        let mut connection = RawConnection::open(sample.sidecar.outbound).await;
        connection.write(sent).await;
        connection.stream.shutdown().await.expect("open");
        assert_eq!(connection.read_to_end().await, b"");
        let labels = [("status_code", "0"), ("response_flags", "DC")];
        eventually("it is counted", LIMIT, async || {
            let metrics = sample.sidecar.metrics().await;
            (metrics.sum("http_requests_total", &labels) == (number + 1) as f64).then_some(())
        })
        .await;
    }
    eventually("both are logged", LIMIT, async || {
        let lines = sample.sidecar.process.stdout();
        let left = |line: &&String| line.contains("\"response_code\":0") && line.contains("\"DC\"");
        (lines.iter().filter(left).count() == 2).then_some(())
    })
    .await;
    let mut connection = RawConnection::open(sample.sidecar.outbound).await;
    connection.write(format!("{chunked}not a size\r\n")).await;
    assert_eq!(connection.response().await.status, 400);
    assert!(connection.is_closed_within(LIMIT).await);
    let labels = [("status_code", "400"), ("response_flags", "DPE")];
    let metrics = sample.sidecar.metrics().await;
    assert_eq!(metrics.sum("http_requests_total", &labels), 1.0);
}
