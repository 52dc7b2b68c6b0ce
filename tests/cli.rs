//! The command line: what it takes, what it prints, how it refuses, and its exit codes.

use http::HeaderValue;
use serde_json::Value;
use tempfile::TempDir;
use tsunagi_tests::{
    CliOutput, Connection, ControlPlane, ISSUE_RULES, LIMIT, Sidecar, SidecarOptions, Version, body, eventually,
    request,
};

const BROKEN: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: fine
spec:
  hosts:
  - fine
  http:
  - route:
    - destination:
        host: fine
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: broken
spec:
  hosts:
  - broken
  http:
  - tiemout: 5s
    route:
    - destination:
        host: broken
";

async fn apply(control: &ControlPlane, yaml: &str) -> CliOutput {
    control.cli_with_input(&["apply", "-f", "-"], yaml).await
}

fn rule(name: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {name}
spec:
  hosts:
  - {name}
  http:
{http}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_users_yaml_is_taken_as_it_stands_and_shown_again() {
    let control = ControlPlane::start();
    let applied = apply(&control, ISSUE_RULES).await;
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    assert!(
        applied.stdout.contains("user-service") && applied.stdout.contains("created"),
        "{}",
        applied.stdout
    );

    let again = apply(&control, ISSUE_RULES).await;
    assert!(again.stdout.contains("unchanged"), "{}", again.stdout);

    for kind in [
        "VirtualService",
        "virtualservice",
        "virtualservices",
        "vs",
        "DestinationRule",
        "dr",
    ] {
        let listed = control.cli(&["get", kind]).await;
        assert!(
            listed.code == 0 && listed.stdout.contains("user-service"),
            "{kind}: {}",
            listed.stdout
        );
    }
    let yaml = control.cli(&["get", "vs", "user-service", "-o", "yaml"]).await.stdout;
    assert!(
        yaml.contains("weight: 90") && yaml.contains("kind: VirtualService"),
        "{yaml}"
    );
    let json = control.cli(&["get", "dr", "user-service", "-o", "json"]).await.stdout;
    let object: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        object["spec"]["trafficPolicy"]["outlierDetection"]["consecutiveErrors"],
        5
    );
    assert_eq!(
        object["apiVersion"]
            .as_str()
            .map(|version| version.starts_with("networking.istio.io/")),
        Some(true)
    );
    assert!(object["metadata"]["resourceVersion"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apply_printed_can_be_applied_again() {
    let control = ControlPlane::start();
    assert_eq!(apply(&control, ISSUE_RULES).await.code, 0);
    let shown = control.cli(&["get", "vs", "user-service", "-o", "yaml"]).await.stdout;
    let again = apply(&control, &shown).await;
    assert!(
        again.code == 0 && again.stdout.contains("unchanged"),
        "{}{}",
        again.stdout,
        again.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_document_is_named_with_file_line_and_field_and_nothing_is_stored() {
    let control = ControlPlane::start();
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, BROKEN).expect("a writable folder");
    let path = file.to_str().expect("a readable path");
    let refused = control.cli(&["apply", "-f", path]).await;
    assert_eq!(refused.code, 1);
    let line = refused
        .stderr
        .lines()
        .find(|line| line.contains("tiemout"))
        .unwrap_or_default();
    let parts: Vec<&str> = line.splitn(4, ": ").collect();
    assert_eq!(
        parts.len(),
        4,
        "not FILE:LINE: Kind/name: field: reason: {}",
        refused.stderr
    );
    let (place, object, field, reason) = (parts[0], parts[1], parts[2], parts[3]);
    assert_eq!(
        (object, field),
        ("VirtualService/broken", "spec.http[0].tiemout"),
        "{line}"
    );
    let number = place
        .strip_prefix(&format!("{path}:"))
        .and_then(|number| number.parse::<u32>().ok());
    // The field's own line, or its document's first.
    assert!(number.is_some_and(|number| (13..=22).contains(&number)), "{place}");
    assert!(!reason.is_empty());
    // All or nothing: the good document of the same file is not there either.
    let missing = control.cli(&["get", "vs", "fine"]).await;
    assert_eq!(missing.code, 1, "{}", missing.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_problem_of_a_transaction_is_named_at_once() {
    let control = ControlPlane::start();
    let documents = [
        rule(
            "weightless",
            "  - route:\n    - destination:\n        host: a\n      weight: 0\n    - destination:\n        host: b\n      weight: 0\n",
        ),
        rule(
            "regexless",
            "  - match:\n    - uri:\n        regex: '('\n    route:\n    - destination:\n        host: a\n",
        ),
        rule(
            "unsupported",
            "  - match:\n    - headers:\n        ':path': {}\n    route:\n    - destination:\n        host: a\n",
        ),
        rule(
            "timeless",
            "  - timeout: soon\n    route:\n    - destination:\n        host: a\n",
        ),
    ];
    let refused = apply(&control, &documents.join("---\n")).await;
    assert_eq!(refused.code, 1);
    for name in ["weightless", "regexless", "unsupported", "timeless"] {
        assert!(
            refused.stderr.contains(&format!("VirtualService/{name}: ")),
            "{name}: {}",
            refused.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_kind_that_is_not_supported_yet_says_so() {
    let control = ControlPlane::start();
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata:\n  name: door\nspec: {}\n";
    let refused = apply(&control, gateway).await;
    assert!(
        refused.code == 1 && refused.stderr.contains("Gateway/door"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("not supported yet"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_judges_and_stores_nothing() {
    let control = ControlPlane::start();
    let tried = control
        .cli_with_input(&["apply", "-f", "-", "--dry-run"], ISSUE_RULES)
        .await;
    assert!(
        tried.code == 0 && tried.stdout.contains("user-service"),
        "{}{}",
        tried.stdout,
        tried.stderr
    );
    assert_eq!(control.cli(&["get", "vs", "user-service"]).await.code, 1);
    assert_eq!(
        control
            .cli_with_input(&["apply", "-f", "-", "--dry-run"], BROKEN)
            .await
            .code,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_takes_a_name_or_a_file_and_a_missing_name_is_exit_code_1() {
    let control = ControlPlane::start();
    assert_eq!(apply(&control, ISSUE_RULES).await.code, 0);
    assert_eq!(control.cli(&["delete", "virtualservice", "user-service"]).await.code, 0);
    let missing = control.cli(&["delete", "vs", "user-service"]).await;
    assert!(
        missing.code == 1 && missing.stderr.contains("user-service"),
        "{}",
        missing.stderr
    );
    assert_eq!(apply(&control, ISSUE_RULES).await.code, 0);
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("rules.yaml");
    std::fs::write(&file, ISSUE_RULES).expect("a writable folder");
    let deleted = control
        .cli(&["delete", "-f", file.to_str().expect("a readable path")])
        .await;
    assert_eq!(deleted.code, 0, "{}", deleted.stderr);
    assert_eq!(control.cli(&["get", "dr", "user-service"]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_one_transaction_and_namespaces_are_apart() {
    let control = ControlPlane::start();
    let folder = TempDir::new().expect("a temporary folder");
    let one = rule("one", "  - route:\n    - destination:\n        host: one\n");
    std::fs::write(folder.path().join("one.yaml"), &one).expect("a writable folder");
    std::fs::write(folder.path().join("two.yml"), one.replace("one", "two")).expect("a writable folder");
    std::fs::write(folder.path().join("notes.txt"), "not YAML: [").expect("a writable folder");
    let path = folder.path().to_str().expect("a readable path");
    let applied = control.cli(&["apply", "-f", path, "-n", "shop"]).await;
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    for name in ["one", "two"] {
        assert_eq!(control.cli(&["get", "vs", name, "-n", "shop"]).await.code, 0);
        assert_eq!(
            control.cli(&["get", "vs", name]).await.code,
            1,
            "it is not in the default namespace"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_usage_is_exit_code_2_and_an_unreachable_server_exit_code_1() {
    let mut control = ControlPlane::start();
    assert_eq!(control.cli(&["apply"]).await.code, 2);
    assert_eq!(control.cli(&["get", "vs", "--no-such-flag"]).await.code, 2);
    control.kill();
    let unreachable = control.cli(&["get", "vs"]).await;
    assert_eq!(unreachable.code, 1);
    assert!(
        unreachable.stderr.contains(&control.http.to_string()),
        "{}",
        unreachable.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_lists_who_is_connected() {
    let control = ControlPlane::start();
    let options = SidecarOptions {
        node_id: "web-7".into(),
        namespace: "shop".into(),
        ..SidecarOptions::default()
    };
    let mut sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    let listed = async |wanted: bool| {
        eventually("the list of proxies is right", LIMIT, async || {
            let output = control.cli(&["proxies"]).await;
            let there = output.stdout.contains("web-7") && output.stdout.contains("shop");
            (there == wanted).then_some(())
        })
        .await;
    };
    listed(true).await;
    sidecar.process.kill();
    listed(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_with_a_stale_resource_version_is_409() {
    let control = ControlPlane::start();
    assert_eq!(apply(&control, ISSUE_RULES).await.code, 0);
    let path = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/user-service";
    let mut first: Value = serde_json::from_slice(&control.get(path).await.body).expect("JSON");
    let stale = first.clone();
    first["spec"]["http"][1]["route"][0]["weight"] = 80.into();
    assert_eq!(put(&control, path, &first).await.0, 200);
    let mut second = stale;
    second["spec"]["http"][1]["route"][0]["weight"] = 70.into();
    let (status, error) = put(&control, path, &second).await;
    assert_eq!(status, 409, "{error}");
    assert_eq!(
        (error["kind"].as_str(), error["reason"].as_str()),
        (Some("Status"), Some("Conflict")),
        "{error}"
    );
    let now: Value = serde_json::from_slice(&control.get(path).await.body).expect("JSON");
    assert_eq!(now["spec"]["http"][1]["route"][0]["weight"], 80);
}

async fn put(control: &ControlPlane, path: &str, object: &Value) -> (u16, Value) {
    let mut write = request("PUT", &control.http.to_string(), path);
    *write.body_mut() = body(object.to_string());
    write
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    let reply = Connection::open(control.http, Version::Http1).await.send(write).await;
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_a_kubernetes_status_with_404() {
    let control = ControlPlane::start();
    for path in [
        "/apis/networking.istio.io/v1/namespaces/default/virtualservices/none",
        "/api/v1/namespaces/default/services/none",
    ] {
        let reply = control.get(path).await;
        let error: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(
            (reply.status, error["kind"].as_str(), error["reason"].as_str()),
            (404, Some("Status"), Some("NotFound"))
        );
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(control.get(path).await.status, 200);
    }
}
