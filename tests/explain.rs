//! What is explained is what happens: each request of a corpus goes through a sidecar, which tells its decision in a
//! header, and is asked about with `tsunagi explain`; both say the same. And `tsunagi test`, as a user's CI runs it.

use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;
use tsunagi_tests::{
    CliOutput, Connection, ControlPlane, Sample, SidecarOptions, Upstream, Version, binaries, request,
};

#[path = "matching/corpus.rs"]
mod corpus;

const EXPLAIN: &str = "x-tsunagi-explain";

/// Subsets, weights, and rules for this client and for others; behind them all what the proxy answers by itself.
const RULES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - name: others
    match: [{sourceLabels: {app: other}, uri: {prefix: /mine}}]
    route: [{destination: {host: echo, subset: v2}}]
  - name: mine
    match: [{sourceLabels: {app: web}, sourceNamespace: default, uri: {prefix: /mine}}]
    route: [{destination: {host: echo, subset: v1}}]
  - name: split
    match: [{uri: {prefix: /split}}]
    route:
    - {destination: {host: echo, subset: v1}, weight: 1}
    - {destination: {host: echo, subset: v2}, weight: 3}
  - name: nowhere
    match: [{uri: {exact: /nowhere}}]
    route: [{destination: {host: echo, subset: v9}}]
  - name: empty
    match: [{uri: {exact: /empty}}]
    route: [{destination: {host: echo, subset: nobody}}]
  - match: [{uri: {exact: /named-by-place}}]
    route: [{destination: {host: echo, port: {number: 80}}}]
  - name: aborted
    match: [{uri: {exact: /aborted}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 500}}
    route: [{destination: {host: echo}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: nobody, labels: {version: v0}}
";

/// `tsunagi explain -o json`, which always answers.
async fn explained(control: &ControlPlane, method: &str, url: &str, headers: &[(&str, &str)]) -> Value {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut args = vec!["explain", "-o", "json", "-X", method, url, "--from-label", "app=web"];
    for header in &headers {
        args.extend(["-H", header]);
    }
    let output = control.cli(&args).await;
    assert_eq!(output.code, 0, "{url}: {}", output.stderr);
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// What the sidecar says of the request that it serves.
async fn told(connection: &mut Connection, method: &str, host: &str, target: &str, headers: &[(&str, &str)]) -> Value {
    let mut sent = request(method, host, target);
    sent.headers_mut()
        .insert(HeaderName::from_static(EXPLAIN), HeaderValue::from_static("1"));
    for (name, value) in headers {
        let name: HeaderName = name.parse().expect("a header name");
        sent.headers_mut()
            .append(name, HeaderValue::from_str(value).expect("a header value"));
    }
    let reply = connection.send(sent).await;
    let said = reply.header(EXPLAIN).expect("the sidecar answers");
    let said: Value = serde_json::from_str(said).expect("JSON");
    assert_eq!(said["status"], reply.status, "{said}");
    assert_eq!(said["flags"].as_str().unwrap_or_default(), reply.flags(), "{said}");
    said
}

fn same(case: &str, told: &Value, explained: &Value) {
    for field in ["host", "port"] {
        assert_eq!(told[field], explained[field], "{case}: {field}\n{told}\n{explained}");
    }
    assert_eq!(told["virtualService"], explained["virtualService"], "{case}");
    for field in ["name", "virtualService", "match"] {
        assert_eq!(
            told["rule"][field], explained["rule"][field],
            "{case}: rule.{field}\n{told}\n{explained}"
        );
    }
    let index = &told["rule"]["index"];
    if !index.is_null() {
        assert_eq!(format!("http[{index}]"), explained["rule"]["place"], "{case}");
    }
    let reply = &explained["reply"];
    if reply.is_null() {
        let drawn = &told["destination"];
        let destinations = explained["destinations"].as_array().expect("destinations");
        let same_place = |to: &&Value| {
            ["host", "port", "subset", "cluster"]
                .iter()
                .all(|field| to[field] == drawn[field])
        };
        let to = destinations.iter().find(same_place);
        let to = to.unwrap_or_else(|| unreachable!("{case}: {drawn} is none of {destinations:?}"));
        let endpoints = to["endpoints"].as_array().expect("endpoints");
        assert_eq!(drawn["endpoints"]["total"], endpoints.len(), "{case}");
        let answered = endpoints.iter().any(|endpoint| endpoint["address"] == told["endpoint"]);
        assert!(answered, "{case}: {told} {to}");
    } else {
        assert_eq!(told["status"], reply["status"], "{case}");
        assert_eq!(told["flags"].as_str().unwrap_or_default(), reply["flags"], "{case}");
    }
}

fn labelled() -> SidecarOptions {
    SidecarOptions {
        args: vec!["--labels".into(), "app=web".into()],
        ..SidecarOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_of_the_corpus_gets_what_is_explained() {
    let upstream = Upstream::start("v1").await;
    let alias = corpus::alias(upstream.address);
    let rules = format!("{alias}---\n{}", corpus::rules());
    let sample = Sample::of("http", vec![upstream], &["v1"], &rules, &labelled()).await;
    let mut connection = sample.connect(Version::Http1).await;
    for (host, method, target, headers, rule) in corpus::CASES {
        let case = format!("{method} {host}{target} {headers:?}");
        let told = told(&mut connection, method, host, target, headers).await;
        assert_eq!(told["rule"]["name"].as_str().unwrap_or_default(), *rule, "{case}");
        let explained = explained(&sample.control, method, &format!("http://{host}{target}"), headers).await;
        same(&case, &told, &explained);
        let before = corpus::RULES.iter().position(|(name, _)| name == rule);
        let passed_over = explained["passedOver"].as_array().expect("rules");
        assert_eq!(passed_over.len(), before.unwrap_or(corpus::RULES.len()), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subsets_sources_and_answers_of_the_proxy_itself_are_explained_as_they_happen() {
    let sample = Sample::with("http", &["v1", "v2", "v2"], RULES, &labelled()).await;
    let mut connection = sample.connect(Version::Http1).await;
    for (host, target, rule, status) in [
        ("echo", "/mine", "mine", 200),
        ("echo", "/split", "split", 200),
        ("echo", "/split", "split", 200),
        ("echo", "/split", "split", 200),
        ("echo.default.svc.cluster.local:80", "/split", "split", 200),
        ("echo", "/nowhere", "nowhere", 503),
        ("echo", "/empty", "empty", 503),
        ("echo", "/named-by-place", "echo.default/5", 200),
        ("echo", "/aborted", "aborted", 500),
        ("echo", "/other", "", 404),
        ("echo:81", "/mine", "", 404),
        ("unknown", "/", "", 404),
    ] {
        let case = format!("{host}{target}");
        let told = told(&mut connection, "GET", host, target, &[]).await;
        assert_eq!(told["status"], status, "{case} {told}");
        assert_eq!(told["rule"]["name"].as_str().unwrap_or_default(), rule, "{case}");
        let explained = explained(&sample.control, "GET", &format!("http://{host}{target}"), &[]).await;
        if (host == "echo" && !rule.is_empty()) || status == 200 {
            same(&case, &told, &explained);
        } else {
            assert_eq!(explained["reply"]["status"], 404, "{case}");
            assert_eq!(told["flags"], explained["reply"]["flags"], "{case}");
        }
    }
    // As for others.
    let other = sample
        .control
        .cli(&["explain", "http://echo/mine", "--from-label", "app=other"])
        .await;
    assert!(
        other.stdout.contains("rule            others (http[0].match[0])"),
        "{}",
        other.stdout
    );
    let mine = sample
        .control
        .cli(&["explain", "http://echo/mine", "--from-label", "app=web"])
        .await;
    let why = "sourceLabels: wanted app=other, the client has app=web";
    assert!(mine.stdout.contains(why), "{}", mine.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_tells_only_who_asks_and_only_where_it_may() {
    let sample = Sample::with("http", &["v1", "v2"], RULES, &labelled()).await;
    let mut connection = sample.connect(Version::Http1).await;
    let asked = told(&mut connection, "GET", "echo", "/mine", &[]).await;
    assert_eq!(asked["direction"], "outbound");
    assert_eq!(
        asked["destination"]["endpoints"],
        json!({"total": 1, "healthy": 1, "ejected": 0})
    );
    assert_eq!(asked["attempts"], 1);
    assert!(
        sample.upstreams[0].last().headers.get(EXPLAIN).is_none(),
        "the question is taken away"
    );
    let silent = connection.get("echo", "/mine").await;
    assert_eq!((silent.status, silent.header(EXPLAIN)), (200, None));

    let mut options = labelled();
    options.node_id = "closed".into();
    options.args.push("--debug-headers=false".into());
    let closed = tsunagi_tests::Sidecar::start_with(sample.control.grpc, &options)
        .ready()
        .await;
    let mut connection = Connection::open(closed.outbound, Version::Http1).await;
    for target in ["/mine", "/other"] {
        let mut sent = request("GET", "echo", target);
        sent.headers_mut()
            .insert(HeaderName::from_static(EXPLAIN), HeaderValue::from_static("1"));
        let reply = connection.send(sent).await;
        assert_eq!(reply.header(EXPLAIN), None, "{target}");
    }
    let passed = sample.upstreams[0].last();
    assert_eq!(passed.headers.get(EXPLAIN).map(HeaderValue::as_bytes), Some(&b"1"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_cannot_be_asked_fails_and_a_404_is_an_answer() {
    let control = ControlPlane::start();
    let unknown = control.cli(&["explain", "http://nobody/"]).await;
    assert_eq!(unknown.code, 0, "{}", unknown.stderr);
    assert!(
        unknown
            .stdout
            .contains("404 NR by the proxy itself: no service is called \"nobody\""),
        "{}",
        unknown.stdout
    );
    let refused = control.cli(&["explain", "ftp://nobody/"]).await;
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("url: \"ftp\" is none of http"),
        "{}",
        refused.stderr
    );
    assert_eq!(control.cli(&["explain"]).await.code, 2);
    assert_eq!(control.get("/v1/explain").await.status, 405);
    let output = offline(&["explain", "http://a/", "--server", "http://127.0.0.1:1"]).await;
    assert_eq!(output.code, 1);
    assert!(
        output.stderr.contains("cannot reach the control plane"),
        "{}",
        output.stderr
    );
}

/// `tsunagi ARGS` without a control plane.
async fn offline(args: &[&str]) -> CliOutput {
    let mut command = tokio::process::Command::new(&binaries().tsunagi);
    let output = command.args(args).output().await.expect("the command runs");
    CliOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_of_route_tests_passes_and_a_wrong_expectation_fails() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/route-tests");
    let passed = offline(&["test", root]).await;
    assert_eq!(passed.code, 0, "{}{}", passed.stdout, passed.stderr);
    assert!(passed.stdout.ends_with("passed, 0 failed\n"), "{}", passed.stdout);

    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("routes.test.yaml");
    let text = std::fs::read_to_string(format!("{root}/routes.test.yaml")).expect("the example");
    let elsewhere = text.replace("config: [", &format!("config: [{root}/"));
    std::fs::write(&file, elsewhere.replace("subset: v2", "subset: v1")).expect("written");
    let failed = offline(&["test", &file.display().to_string()]).await;
    assert_eq!(failed.code, 1, "{}{}", failed.stdout, failed.stderr);
    assert!(failed.stdout.contains("FAIL  testers see v2"), "{}", failed.stdout);
    std::fs::write(&file, elsewhere.replace("expect:", "expects:")).expect("written");
    let wrong = offline(&["test", &file.display().to_string()]).await;
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("unknown field `expects`"), "{}", wrong.stderr);
}
