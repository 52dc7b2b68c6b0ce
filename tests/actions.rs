//! What a rule does besides choosing a destination, through real processes: redirects, direct responses, rewrites, header
//! values with formatters, `statPrefix`.

use http::HeaderValue;
use tsunagi_tests::{LIMIT, RawConnection, Sample, SidecarOptions, Version, body, eventually, request};

fn rules(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
{http}
"
    )
}

const ROUTE: &str = "route: [{destination: {host: echo}}]";

async fn location(sample: &Sample, version: Version, host: &str, path: &str) -> (u16, String) {
    let reply = sample.connect(version).await.get(host, path).await;
    (reply.status, reply.header("location").unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_says_where_to_go_and_asks_no_endpoint() {
    let sample = Sample::start(&rules(
        "  - match: [{uri: {prefix: /v1/}}]
    redirect: {prefixRewrite: /v2/, redirectCode: 308}
    name: moved
  - match: [{uri: {exact: /old}}]
    redirect: {uri: /new, authority: other.example, scheme: https}
    headers: {response: {set: {x-why: moved}, remove: [date]}}
  - match: [{uri: {prefix: /port}}]
    redirect: {port: 8443, scheme: https, redirectCode: 302}
  - match: [{uri: {prefix: /request-port}}]
    redirect: {derivePort: FROM_REQUEST_PORT, scheme: https, redirectCode: 307}
  - match: [{uri: {prefix: /login}}]
    redirect: {uri: '/#/login'}
  - redirect: {authority: rest.example, redirectCode: 303}",
    ))
    .await;
    for version in [Version::Http1, Version::Http2] {
        for (host, path, status, wanted) in [
            ("echo", "/v1/a?b=c", 308, "http://echo/v2/a?b=c"),
            ("echo:80", "/old?b", 301, "https://other.example/new?b"),
            ("echo:80", "/port", 302, "https://echo:8443/port"),
            ("echo", "/request-port", 307, "https://echo:80/request-port"),
            ("echo", "/login", 301, "http://echo/#/login"),
            ("echo:80", "/any", 303, "http://rest.example/any"),
        ] {
            let answer = location(&sample, version, host, path).await;
            assert_eq!(answer, (status, wanted.to_owned()), "{version:?} {host}{path}");
        }
    }
    let reply = sample.get("/old").await;
    assert_eq!((reply.header("x-why"), reply.body.len()), (Some("moved"), 0));
    assert_eq!(sample.requests(), 0);
    let metrics = sample.sidecar.metrics().await;
    let counted = [("route", "moved"), ("status_code", "308")];
    assert!(metrics.sum("http_requests_total", &counted) >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_response_is_the_rules_own_whatever_the_client_speaks() {
    let sample = Sample::start(&rules(
        "  - match: [{uri: {exact: /bytes}}]
    directResponse: {status: 200, body: {bytes: AAEC/w==}}
    headers: {response: {set: {content-type: application/octet-stream, x-path: '%REQ(:path)%'}}}
  - match: [{uri: {exact: /empty}}]
    directResponse: {status: 204}
  - directResponse: {status: 503, body: {string: closed for today}}",
    ))
    .await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = sample.connect(version).await;
        let reply = connection.get("echo", "/bytes").await;
        assert_eq!((reply.status, &reply.body[..]), (200, &[0, 1, 2, 255][..]));
        assert_eq!(reply.header("content-type"), Some("application/octet-stream"));
        assert_eq!(reply.header("x-path"), Some("/bytes"));
        assert_eq!(connection.get("echo", "/empty").await.status, 204);
        // The request's body is nobody's, and the connection goes on.
        let mut upload = request("POST", "echo", "/any");
        *upload.body_mut() = body(vec![b'x'; 10_000]);
        let reply = connection.send(upload).await;
        assert_eq!((reply.status, &*reply.text()), (503, "closed for today"));
        assert_eq!(reply.header("content-type"), Some("text/plain"));
    }
    let mut connection = RawConnection::open(sample.sidecar.outbound).await;
    connection.write("HEAD /any HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    let head = connection.head_response().await;
    assert_eq!(head.header("content-length"), Some("16"));
    let mut call = request("POST", "echo", "/any");
    let kind = HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", kind);
    let reply = sample.connect(Version::Http2).await.send(call).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("14")));
    assert_eq!(reply.header("grpc-message"), Some("closed for today"));
    assert_eq!(sample.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_sees_the_path_and_the_host_that_the_rule_writes() {
    let sample = Sample::start(&rules(&format!(
        "  - match: [{{uri: {{prefix: /api/}}}}]
    rewrite: {{uri: /}}
    {ROUTE}
  - match: [{{uri: {{exact: /exact}}}}]
    rewrite: {{uri: /whole, authority: inner.example}}
    {ROUTE}
  - match: [{{uri: {{prefix: /swap/}}}}]
    rewrite: {{uriRegexRewrite: {{match: '/([a-z]+)/([0-9]+)', rewrite: '/\\2/\\1'}}}}
    {ROUTE}
  - {ROUTE}"
    )))
    .await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = sample.connect(version).await;
        for (sent, uri, host) in [
            ("/api/users?x=1", "/users?x=1", "echo"),
            ("/exact?y", "/whole?y", "inner.example"),
            ("/swap/17?z", "/17/swap?z", "echo"),
        ] {
            assert_eq!(connection.get("echo", sent).await.status, 200);
            let seen = sample.upstream().last();
            assert_eq!(seen.uri, uri, "{version:?} {sent}");
            let value = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok());
            assert_eq!(value("host"), Some(host), "{version:?} {sent}");
            assert_eq!(value("x-envoy-original-path"), Some(sent));
            assert_eq!(value("x-envoy-original-host"), (host != "echo").then_some("echo"));
        }
        assert_eq!(connection.get("echo", "/as/it/is").await.status, 200);
        let seen = sample.upstream().last();
        assert_eq!(seen.uri, "/as/it/is");
        assert!(!seen.headers.contains_key("x-envoy-original-path"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_values_say_what_only_the_request_knows() {
    let sample = Sample::start(&rules(
        "  - name: told
    headers:
      request:
        set: {x-from: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%', x-was: '%REQ(:method)% %REQ(:path)%', x-share: 100%%}
        add: {x-none: '%REQ(x-absent)%', x-first: '%REQ(x-list?x-absent):3%'}
    route:
    - destination: {host: echo}
      headers:
        request: {set: {x-share: from the destination}}
        response: {set: {x-endpoint: '%UPSTREAM_HOST%', x-route: '%ROUTE_NAME% %RESPONSE_CODE%'}}",
    ))
    .await;
    let mut sent = request("GET", "echo", "/a?b");
    sent.headers_mut().insert("x-list", HeaderValue::from_static("abcdef"));
    let reply = sample.connect(Version::Http1).await.send(sent).await;
    let seen = sample.upstream().last();
    let value = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(value("x-from"), Some("127.0.0.1"));
    assert_eq!(value("x-was"), Some("GET /a?b"));
    assert_eq!((value("x-none"), value("x-first")), (None, Some("abc")));
    assert_eq!(value("x-share"), Some("from the destination"));
    assert_eq!(
        reply.header("x-endpoint"),
        Some(&*sample.upstream().address.to_string())
    );
    assert_eq!(reply.header("x-route"), Some("told 200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_meet_a_match_with_a_stat_prefix_are_counted_under_it() {
    let rules = rules(&format!(
        "  - match: [{{uri: {{prefix: /a}}, statPrefix: first}}, {{uri: {{prefix: /b}}, statPrefix: second}}, {{uri: {{prefix: /}}}}]
    {ROUTE}"
    ));
    let sample = Sample::with("http", &["v1"], &rules, &SidecarOptions::default()).await;
    for path in ["/a", "/a/status", "/b", "/c", "/status/404"] {
        sample.get(path).await;
    }
    let metrics = sample.sidecar.metrics().await;
    let count = |prefix: &str| {
        metrics.sum(
            "tsunagi_route_requests_total",
            &[("stat_prefix", prefix), ("status_code", "200")],
        )
    };
    assert_eq!((count("first"), count("second")), (2.0, 1.0));
    assert_eq!(metrics.sum("tsunagi_route_requests_total", &[]), 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_names_the_match_behind_the_rule() {
    let rules = rules(&format!(
        "  - name: shop
    match: [{{uri: {{prefix: /a}}, name: first}}, {{uri: {{prefix: /b}}, name: second}}, {{uri: {{prefix: /}}}}]
    {ROUTE}"
    ));
    let sample = Sample::with("http", &["v1"], &rules, &SidecarOptions::default()).await;
    for (path, name) in [("/a", "shop.first"), ("/b", "shop.second"), ("/c", "shop")] {
        sample.get(path).await;
        let wanted = [format!("\"path\":\"{path}\""), format!("\"route_name\":\"{name}\"")];
        eventually("it is logged", LIMIT, async || {
            let lines = sample.sidecar.process.stdout();
            let says = |line: &&String| wanted.iter().all(|part| line.contains(part.as_str()));
            lines.iter().find(says).map(drop)
        })
        .await;
    }
}
