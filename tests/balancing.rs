//! Weights of endpoints, and requests whose key decides where they go: a header, a cookie, a query parameter, the client's
//! address. With the users' own YAML, through real sidecars.

#[path = "balancing/warmup.rs"]
mod warmup;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use http::HeaderValue;
use tsunagi_tests::{
    Behaviour, Connection, LIMIT, Reply, Sample, Sidecar, SidecarOptions, Version, binomial_bounds, eventually,
    request, require_tools, within,
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn rule(load_balancer: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: echo}}
spec:
  host: echo
  trafficPolicy:
    loadBalancer: {load_balancer}
"
    )
}

async fn sample(port_name: &str, names: &[&str], load_balancer: &str, workers: u8) -> Sample {
    let options = SidecarOptions {
        workers,
        ..SidecarOptions::default()
    };
    Sample::with(port_name, names, &rule(load_balancer), &options).await
}

fn name_of(index: usize, name: &str) -> String {
    format!("echo-{name}-{index}")
}

/// The endpoint as the sample has it, with a weight.
fn entry(sample: &Sample, index: usize, weight: u32) -> String {
    let address = sample.upstreams[index].address;
    format!(
        "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec:
  address: {ip}
  ports: {{http: {port}}}
  labels: {{app: echo, version: {version}}}
  weight: {weight}
---
",
        name = name_of(index, NAMES[index]),
        version = NAMES[index],
        ip = address.ip(),
        port = address.port(),
    )
}

fn keyed(header: (&'static str, &str), path: &str) -> http::Request<tsunagi_tests::Body> {
    let mut keyed = request("GET", "echo", path);
    keyed
        .headers_mut()
        .append(header.0, HeaderValue::from_str(header.1).expect("a header value"));
    keyed
}

/// Where the users' requests go, each on a connection of its own, so that every worker serves some.
async fn places(sidecar: &Sidecar, users: usize) -> Vec<String> {
    let mut places = Vec::new();
    for user in 0..users {
        let reply = sidecar.send(keyed(("x-user", &format!("user-{user}")), "/")).await;
        assert_eq!(reply.status, 200);
        places.push(reply.text());
    }
    places
}

/// Until the sidecar knows that many endpoints.
async fn knows(sidecar: &Sidecar, endpoints: usize) {
    eventually("the sidecar knows of the change", LIMIT, async || {
        let page = sidecar.admin("GET", "/clusters").await.text();
        let of_echo = |line: &&str| line.contains("echo.default") && line.contains("::health::");
        (page.lines().filter(of_echo).count() == endpoints).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_of_endpoints_are_kept_exactly_in_turns_and_within_bounds_by_chance() {
    for (policy, requests) in [("ROUND_ROBIN", 160), ("LEAST_REQUEST", 3_000), ("RANDOM", 3_000)] {
        let sample = sample("http", &NAMES[..3], &format!("{{simple: {policy}}}"), 1).await;
        let weights = [1, 2, 5];
        let entries = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| entry(&sample, index, *weight));
        sample.control.apply(&entries.collect::<String>()).await;
        let mut connection = sample.connect(Version::Http1).await;
        for _ in 0..requests {
            assert_eq!(connection.get("echo", "/").await.status, 200);
        }
        let counts: Vec<u64> = sample.upstreams.iter().map(|upstream| upstream.requests()).collect();
        for (count, weight) in counts.iter().zip(weights) {
            let share = f64::from(weight) / 8.0;
            let (low, high) = match policy {
                "ROUND_ROBIN" => (requests * u64::from(weight) / 8, requests * u64::from(weight) / 8),
                _ => binomial_bounds(requests, share, 1e-7),
            };
            assert!((low..=high).contains(count), "{policy}: {counts:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_decides_in_every_sidecar_alike_and_only_the_keys_of_a_removed_endpoint_move() {
    const USERS: usize = 60;
    for table in ["", ", maglev: {tableSize: 65537}"] {
        let policy = format!("{{consistentHash: {{httpHeaderName: X-User{table}}}}}");
        let sample = sample("http", &NAMES, &policy, 2).await;
        let before = places(&sample.sidecar, USERS).await;
        assert_eq!(places(&sample.sidecar, USERS).await, before);
        assert_eq!(before.iter().collect::<HashSet<_>>().len(), NAMES.len(), "{before:?}");

        let options = SidecarOptions {
            node_id: "another".into(),
            ..SidecarOptions::default()
        };
        let another = Sidecar::start_with(sample.control.grpc, &options).ready().await;
        assert_eq!(places(&another, USERS).await, before);

        let removed = name_of(2, NAMES[2]);
        let deleted = sample.control.cli(&["delete", "WorkloadEntry", &removed]).await;
        assert_eq!(deleted.code, 0, "{}", deleted.stderr);
        knows(&sample.sidecar, NAMES.len() - 1).await;
        let after = places(&sample.sidecar, USERS).await;
        let mut moved_besides = 0;
        for (before, after) in before.iter().zip(&after) {
            assert_ne!(after, NAMES[2]);
            moved_besides += usize::from(before != after && before != NAMES[2]);
        }
        // A Maglev table moves a few of the others' keys: at most 2 % are expected, of 48.
        assert!(
            moved_besides <= if table.is_empty() { 0 } else { 6 },
            "{before:?} {after:?}"
        );

        sample.control.apply(&entry(&sample, 2, 1)).await;
        knows(&sample.sidecar, NAMES.len()).await;
        assert_eq!(places(&sample.sidecar, USERS).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_the_key_go_anywhere_and_a_query_parameter_counts_with_its_first_value() {
    let sample = sample("http", &NAMES, "{consistentHash: {httpQueryParameterName: user}}", 2).await;
    let mut connection = sample.connect(Version::Http2).await;
    let mut anywhere = HashSet::new();
    for _ in 0..60 {
        anywhere.insert(connection.get("echo", "/?other=1").await.text());
    }
    assert_eq!(
        anywhere.len(),
        NAMES.len(),
        "each is missed by chance less than once in 100,000 times"
    );
    let mut places = HashMap::new();
    for round in 0..3 {
        for user in 0..20 {
            let path = format!("/?round={round}&user={user}&user={round}");
            let text = connection.get("echo", &path).await.text();
            assert_eq!(*places.entry(user).or_insert_with(|| text.clone()), text, "{path}");
        }
    }
    assert!(places.values().collect::<HashSet<_>>().len() > 2, "{places:?}");
}

/// The attempts at the key's own endpoint, which fails, and at all others, of one request; and its status.
async fn retried(rule: &str) -> (u64, u64, u16) {
    let sample = sample("http", &NAMES, "{consistentHash: {httpHeaderName: x-user}}", 1).await;
    let retried = format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo}}
spec:
  hosts: [echo]
  http:
  - route: [{{destination: {{host: echo}}}}]
    retries: {{attempts: 3, retryOn: '503'{rule}}}
"
    );
    sample.control.apply(&retried).await;
    let place = places(&sample.sidecar, 1).await.remove(0);
    let index = NAMES.iter().position(|name| *name == place).expect("one of them");
    let before: Vec<u64> = sample.upstreams.iter().map(|upstream| upstream.requests()).collect();
    sample.upstreams[index].set(Behaviour::Status(503));
    let reply = sample.sidecar.send(keyed(("x-user", "user-0"), "/")).await;
    let made = |number: usize| sample.upstreams[number].requests() - before[number];
    let elsewhere = (0..NAMES.len()).filter(|number| *number != index).map(made).sum();
    (made(index), elsewhere, reply.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_of_a_request_with_a_key_stay_with_its_endpoint_unless_the_rule_says_otherwise() {
    assert_eq!(retried("").await, (4, 0, 503));
    assert_eq!(retried(", retryIgnorePreviousHosts: false").await, (4, 0, 503));
    assert_eq!(retried(", retryIgnorePreviousHosts: true").await, (1, 1, 200));
}

const CURL: [(&str, &[&str]); 1] = [("curl", &["curl", "--version"])];

/// What curl says: the response's heads and body.
async fn curl(arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new("curl");
    command
        .args(["-s", "-S", "-i", "--max-time", "20", "--noproxy", ""])
        .args(arguments);
    let output = within("curl ends", LIMIT, command.output()).await.expect("curl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("what curl prints is text")
}

fn body(answer: &str) -> &str {
    answer.rsplit("\r\n\r\n").next().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_the_cookie_is_given_one_with_its_attributes_and_stays_where_it_leads() {
    if !require_tools(&CURL) {
        return;
    }
    let cookie =
        "{consistentHash: {httpCookie: {name: stay, path: /, ttl: 90s, attributes: [{name: SameSite, value: Lax}]}}}";
    let sample = sample("http", &NAMES, cookie, 2).await;
    let url = format!("http://{}/", sample.sidecar.outbound);
    let folder = tempfile::tempdir().unwrap();
    let get = async |jar: &Path| {
        let jar = jar.to_str().unwrap();
        curl(&["-b", jar, "-c", jar, "-H", "Host: echo", &url]).await
    };
    let mut seen = HashSet::new();
    for client in 0..12 {
        let jar = folder.path().join(client.to_string());
        let first = get(&jar).await;
        let given = first.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let given = given.unwrap_or_else(|| panic!("no cookie: {first}")).trim();
        let (value, attributes) = given.split_once("; ").unwrap();
        assert_eq!(attributes, "Max-Age=90; Path=/; SameSite=Lax; HttpOnly");
        let value = value
            .strip_prefix("stay=\"")
            .and_then(|value| value.strip_suffix('"'))
            .unwrap();
        assert!(
            value.len() == 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{value}"
        );
        for _ in 0..4 {
            let again = get(&jar).await;
            assert_eq!(body(&again), body(&first));
            assert!(!again.to_ascii_lowercase().contains("set-cookie"), "{again}");
        }
        seen.insert(body(&first).to_owned());
    }
    assert!(seen.len() > 1, "clients spread");
    // Streams of one connection are given the same, and one of another client's is as good as any.
    let mut connection = Connection::open(sample.sidecar.outbound, Version::Http2).await;
    let mut given = HashSet::new();
    let mut places = HashSet::new();
    for _ in 0..5 {
        let reply: Reply = connection.get("echo", "/").await;
        given.insert(reply.header("set-cookie").unwrap().to_owned());
        places.insert(reply.text());
    }
    assert_eq!((given.len(), places.len()), (1, 1));
    let mut places = HashSet::new();
    for stay in ["b=1; stay=mine", "stay=\"mine\"; stay=other", "xstay=1; stay=mine "] {
        let reply = connection.send(keyed(("cookie", stay), "/")).await;
        assert_eq!(reply.header("set-cookie"), None);
        places.insert(reply.text());
    }
    assert_eq!(places.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_time_no_cookie_is_given() {
    let sample = sample("http", &NAMES[..2], "{consistentHash: {httpCookie: {name: stay}}}", 1).await;
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.header("set-cookie")), (200, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_says_for_whom_it_asks_has_that_address_decide() {
    let sample = sample("http", &NAMES, "{consistentHash: {useSourceIp: true}}", 1).await;
    let asked = async |forwarded: &str| {
        let mut asking = request("GET", "echo", "/");
        let forwarded = HeaderValue::from_str(forwarded).expect("a value");
        asking.headers_mut().insert("x-forwarded-for", forwarded);
        sample.sidecar.send(asking).await.text()
    };
    let mut places = HashSet::new();
    for user in 1..=12 {
        let place = asked(&format!("10.0.0.{user}")).await;
        assert_eq!(
            asked(&format!("192.0.2.7, 10.0.0.{user}")).await,
            place,
            "the last is whom the gateway saw"
        );
        places.insert(place);
    }
    assert!(places.len() > 1, "{places:?}");
    assert_eq!(asked("unknown").await, sample.get("/").await.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_address_decides_for_requests_and_for_tcp_connections() {
    if !require_tools(&CURL) {
        return;
    }
    for port_name in ["http", "tcp"] {
        let sample = sample(port_name, &NAMES, "{consistentHash: {useSourceIp: true}}", 2).await;
        let outbound = format!("http://{}", sample.sidecar.outbound);
        let mut places = HashSet::new();
        for client in 1..=12 {
            let address = format!("127.0.1.{client}");
            let mut of_client = HashSet::new();
            for _ in 0..3 {
                let answer = match port_name {
                    "http" => curl(&["--interface", &address, "-H", "Host: echo", &outbound]).await,
                    // Through a tunnel, whose bytes nobody looks at.
                    _ => curl(&["--interface", &address, "-p", "-x", &outbound, "http://echo:80/"]).await,
                };
                of_client.insert(body(&answer).to_owned());
            }
            assert_eq!(of_client.len(), 1, "{port_name} from {address}");
            places.extend(of_client);
        }
        assert!(
            places.len() > 1 && places.iter().all(|place| NAMES.contains(&place.as_str())),
            "{places:?}"
        );
    }
}
