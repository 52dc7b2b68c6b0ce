//! What every request carries: an id and a scheme where it had none, and everything else as it was sent.

use http::{HeaderMap, HeaderValue};
use tsunagi_tests::{
    Behaviour, Connection, ControlPlane, LIMIT, Sample, Sidecar, SidecarOptions, Upstream, Version, Workload,
    eventually, request, service,
};

/// Caller's sidecar, callee's sidecar, application.
struct Chain {
    caller: Sidecar,
    callee: Sidecar,
    app: Upstream,
    _control: ControlPlane,
}

async fn chain() -> Chain {
    let app = Upstream::start("app").await;
    let control = ControlPlane::start();
    let start = async |name: &str| {
        let options = SidecarOptions {
            node_id: name.into(),
            app: Some(app.address),
            ..SidecarOptions::default()
        };
        Sidecar::start_with(control.grpc, &options).ready().await
    };
    let callee = start("callee").await;
    let workload = Workload {
        version: "v1",
        address: callee.inbound,
    };
    control.apply(&service("echo", "http", &[workload])).await;
    Chain {
        caller: start("caller").await,
        callee,
        app,
        _control: control,
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().expect("a value in ASCII"))
}

fn is_uuid_v4(text: &str) -> bool {
    let pattern = "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx";
    text.len() == pattern.len()
        && text.chars().zip(pattern.chars()).all(|(char, wanted)| match wanted {
            'x' => char.is_ascii_hexdigit() && !char.is_ascii_uppercase(),
            _ => char == wanted,
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_id_from_its_first_sidecar_to_the_application_and_in_every_log() {
    let chain = chain().await;
    let mut ids = Vec::new();
    for version in [Version::Http1, Version::Http2] {
        let mut connection = Connection::open(chain.caller.outbound, version).await;
        for _ in 0..3 {
            assert_eq!(connection.get("echo", "/").await.status, 200);
            let headers = chain.app.last().headers;
            let id = text(&headers, "x-request-id").unwrap().to_owned();
            assert!(is_uuid_v4(&id), "{id}");
            assert_eq!(headers.get_all("x-request-id").iter().count(), 1);
            assert_eq!(text(&headers, "x-forwarded-proto"), Some("http"));
            assert_eq!(text(&headers, "x-envoy-attempt-count"), Some("1"));
            for absent in ["x-forwarded-for", "x-envoy-internal"] {
                assert_eq!(text(&headers, absent), None, "{absent}");
            }
            ids.push(id);
        }
    }
    for (index, id) in ids.iter().enumerate() {
        assert!(!ids[..index].contains(id), "{id} twice");
    }
    for sidecar in [&chain.caller, &chain.callee] {
        eventually("the log has every id", LIMIT, async || {
            let lines = sidecar.process.stdout();
            let logged = |id: &String| {
                let part = format!("\"request_id\":\"{id}\"");
                lines.iter().any(|line| line.contains(&part))
            };
            ids.iter().all(logged).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_says_of_itself_and_of_its_trace_arrives_as_it_was_sent() {
    const SENT: [(&str, &str); 13] = [
        ("x-request-id", "chosen by the caller"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "203.0.113.7, 10.1.2.3"),
        ("x-forwarded-host", "shop.example"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "congo=t61rcWkgMzE"),
        ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        ("x-b3-traceid", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("x-b3-spanid", "e457b5a2e4d86bd1"),
        ("x-b3-sampled", "1"),
        ("x-ot-span-context", "a;b;c"),
        ("grpc-trace-bin", "AABL+S81d7NNpqPOkp0ODkc2AQ=="),
        ("x-cloud-trace-context", "105445aa7843bc8bf206b12000100000/1;o=1"),
    ];
    let chain = chain().await;
    for version in [Version::Http1, Version::Http2] {
        let mut asked = request("GET", "echo", "/");
        for (name, value) in SENT {
            asked.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let mut connection = Connection::open(chain.caller.outbound, version).await;
        assert_eq!(connection.send(asked).await.status, 200);
        let headers = chain.app.last().headers;
        for (name, value) in SENT {
            let found: Vec<_> = headers.get_all(name).iter().collect();
            assert_eq!(found, [value], "{name} over {version:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_attempt_at_a_request_has_the_same_id() {
    let rules = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: echo}\nspec:\n  hosts: [echo]\n  \
                 http:\n  - retries: {attempts: 2, retryOn: 5xx}\n    route: [{destination: {host: echo}}]\n";
    let sample = Sample::with("http", &["a", "b"], rules, &SidecarOptions::default()).await;
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Status(500)));
    assert_eq!(sample.get("/").await.status, 500);
    let seen: Vec<_> = sample.upstreams.iter().flat_map(Upstream::seen).collect();
    assert_eq!(seen.len(), 3, "attempts");
    let ids: Vec<_> = seen
        .iter()
        .flat_map(|seen| seen.headers.get_all("x-request-id"))
        .collect();
    assert_eq!(ids.len(), 3, "one each");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}
