//! Pages of other origins, as the browser asks for them, through real processes.

use http::HeaderValue;
use tsunagi_tests::{Behaviour, Body, Reply, Sample, Version, request};

async fn sample(more: &str) -> Sample {
    Sample::start(&format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - corsPolicy:
      allowOrigins: [{{exact: 'https://shop.example'}}, {{regex: 'https://[a-z]+[.]shop[.]example'}}]
      allowMethods: [GET, PUT]
      allowHeaders: [x-a]
      exposeHeaders: [x-b]
      maxAge: 24h
      allowCredentials: true
{more}
    route: [{{destination: {{host: echo}}}}]
"
    ))
    .await
}

fn asked(method: &str, fields: &[(&'static str, &'static str)]) -> http::Request<Body> {
    let mut request = request(method, "echo", "/");
    for (name, value) in fields {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    request
}

fn allowed(reply: &Reply) -> Option<&str> {
    reply.header("access-control-allow-origin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preflight_is_answered_without_the_endpoint() {
    let sample = sample("").await;
    for version in [Version::Http1, Version::Http2] {
        let preflight = asked(
            "OPTIONS",
            &[
                ("origin", "https://eu.shop.example"),
                ("access-control-request-method", "PUT"),
            ],
        );
        let reply = sample.connect(version).await.send(preflight).await;
        assert_eq!((reply.status, reply.body.len()), (200, 0));
        assert_eq!(allowed(&reply), Some("https://eu.shop.example"));
        for (name, value) in [
            ("access-control-allow-methods", "GET,PUT"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "86400"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{name}");
        }
    }
    assert_eq!(sample.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_sees_answers_of_the_endpoint_and_of_the_proxy() {
    let sample = sample("").await;
    // What the endpoint says of it does not count.
    sample
        .upstream()
        .set(Behaviour::Head(200, "access-control-allow-origin", "*"));
    let page = || asked("GET", &[("origin", "https://shop.example")]);
    let reply = sample.connect(Version::Http1).await.send(page()).await;
    assert_eq!(allowed(&reply), Some("https://shop.example"));
    assert_eq!(reply.header("access-control-expose-headers"), Some("x-b"));
    sample.upstream().set(Behaviour::Close);
    let reply = sample.connect(Version::Http1).await.send(page()).await;
    assert_eq!((reply.status, allowed(&reply)), (503, Some("https://shop.example")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_origin_gets_the_endpoints_answer_as_it_is() {
    let sample = sample("").await;
    let other = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "PUT"),
    ];
    for method in ["GET", "OPTIONS"] {
        let reply = sample.connect(Version::Http1).await.send(asked(method, &other)).await;
        assert_eq!((reply.status, allowed(&reply)), (200, None), "{method}");
    }
    assert_eq!(sample.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmatched_preflight_can_be_kept_from_the_endpoint() {
    let sample = sample("      unmatchedPreflights: IGNORE").await;
    let other = [
        ("origin", "https://evil.example"),
        ("access-control-request-method", "PUT"),
    ];
    let reply = sample
        .connect(Version::Http1)
        .await
        .send(asked("OPTIONS", &other))
        .await;
    assert_eq!((reply.status, allowed(&reply)), (200, None));
    assert_eq!(sample.requests(), 0);
}
