//! The admission webhook as an API server sees it: a real process, real TLS with its own authority, reviews over curl.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tsunagi_tests::{Process, binaries};

const START_LIMIT: Duration = Duration::from_secs(30);

struct ControlPlane {
    process: Process,
    webhook: String,
    http: String,
    data: PathBuf,
}

impl ControlPlane {
    fn start(data: &Path, args: &[&str]) -> ControlPlane {
        let process = Process::start("tsunagi serve", ControlPlane::command(data).args(args));
        let address = |name| process.address(name, START_LIMIT).to_string();
        ControlPlane {
            webhook: address("webhook"),
            http: address("http"),
            data: data.to_owned(),
            process,
        }
    }

    fn command(data: &Path) -> Command {
        let mut command = Command::new(&binaries().tsunagi);
        command.args(["serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"]);
        command.args([
            "--webhook-addr",
            "127.0.0.1:0",
            "--webhook-names",
            "localhost,127.0.0.1",
        ]);
        command.arg("--data-dir").arg(data);
        command
    }

    fn authority(&self) -> PathBuf {
        self.data.join("webhook/ca.crt")
    }

    /// Status and body of a POST, by a client that trusts the webhook's authority and nobody else.
    fn post(&self, path: &str, body: &str) -> (u16, String) {
        let authority = self.authority();
        // The webhook listens before its certificate is kept where this looks for it.
        let found = (0..500).any(|_| {
            let found = authority.is_file();
            if !found {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            found
        });
        assert!(found, "no certificate was kept");
        let (code, output) = curl(
            &["--cacert", &authority.to_string_lossy()],
            &format!("https://{}{path}", self.webhook),
            body,
        );
        assert_eq!(code, 0, "curl: {output}");
        let (body, status) = output.rsplit_once('\n').expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    fn review(&self, path: &str, request: Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, body) = self.post(path, &review.to_string());
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (&answer["apiVersion"], &answer["kind"]),
            (&review["apiVersion"], &review["kind"])
        );
        assert_eq!(answer["response"]["uid"], request_uid(&review));
        answer["response"].clone()
    }
}

fn request_uid(review: &Value) -> Value {
    review["request"]["uid"].clone()
}

/// Exit code, and the body with the status on a line behind it.
fn curl(args: &[&str], url: &str, body: &str) -> (i32, String) {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--write-out",
        "\n%{http_code}",
    ]);
    command.args(args).args(["--data-binary", "@-", url]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("curl starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A server that has read enough closes early.
    stdin.write_all(body.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).trim_end().to_owned(),
    )
}

/// Without curl nothing is tested here, and that is said.
fn has_curl() -> bool {
    let there = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "curl is required and not there"
        );
        eprintln!("NOT RUN: curl is not there, the webhook was not tested over TLS");
    }
    there
}

fn decode(text: &str) -> Value {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.trim_end_matches('=').bytes();
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in digits.map(|byte| DIGITS.iter().position(|known| *known == byte).expect("base64")) {
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    serde_json::from_slice(&bytes).expect("JSON")
}

fn pod_request(annotations: Value) -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop", "operation": "CREATE", "dryRun": false,
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "web-", "labels": {"app": "web"}, "annotations": annotations},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]},
        },
        "oldObject": null,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    })
}

fn rule_request(operation: &str, timeout: &str) -> Value {
    let object = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "user", "namespace": "shop", "uid": "u", "resourceVersion": "12", "generation": 2},
        "spec": {"hosts": ["user"], "http": [{"timeout": timeout, "route": [{"destination": {"host": "user"}}]}]},
    });
    let (object, old) = if operation == "DELETE" {
        (Value::Null, object)
    } else {
        (object, Value::Null)
    };
    json!({
        "uid": "u1", "kind": {"group": "networking.istio.io", "version": "v1", "kind": "VirtualService"},
        "name": "user", "namespace": "shop", "operation": operation, "object": object, "oldObject": old,
    })
}

#[test]
fn a_pod_is_injected_over_tls_that_the_api_server_can_trust() {
    if !has_curl() {
        return;
    }
    let data = TempDir::new().expect("a temporary folder");
    let settings = data.path().join("settings.yaml");
    std::fs::write(&settings, "image: example.org/proxy:7\n").expect("written");
    let control = ControlPlane::start(data.path(), &["--inject-config", &settings.to_string_lossy()]);
    let answer = control.review("/inject", pod_request(json!({})));
    assert_eq!(
        (&answer["allowed"], &answer["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
    let patch = decode(answer["patch"].as_str().expect("a patch"));
    let added = patch
        .as_array()
        .into_iter()
        .flatten()
        .find(|operation| operation["path"] == "/spec/initContainers");
    let added = &added.expect("init containers")["value"];
    assert_eq!(
        (&added[0]["name"], &added[1]["name"]),
        (&json!("tsunagi-init"), &json!("tsunagi-proxy"))
    );
    assert_eq!(added[1]["image"], "example.org/proxy:7");
    let denied = control.review("/inject", pod_request(json!({"sidecar.istio.io/proxyMemory": "much"})));
    assert_eq!(denied["allowed"], false);
    let message = denied["status"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("metadata.annotations[sidecar.istio.io/proxyMemory]"),
        "{message}"
    );
    let left = control.review("/inject", pod_request(json!({"sidecar.istio.io/inject": "false"})));
    assert_eq!((&left["allowed"], left.get("patch")), (&json!(true), None));
    // 60: the peer's certificate cannot be authenticated.
    assert_eq!(curl(&[], &format!("https://{}/inject", control.webhook), "{}").0, 60);
    let log = control.process.log();
    assert!(!log.contains("PRIVATE"), "{log}");
}

#[test]
fn what_apply_would_refuse_is_refused_and_a_review_changes_nothing() {
    if !has_curl() {
        return;
    }
    let data = TempDir::new().expect("a temporary folder");
    let control = ControlPlane::start(data.path(), &[]);
    for operation in ["CREATE", "UPDATE", "DELETE"] {
        assert_eq!(
            control.review("/validate", rule_request(operation, "5s"))["allowed"],
            true,
            "{operation}"
        );
    }
    let denied = control.review("/validate", rule_request("UPDATE", "soon"));
    assert_eq!(denied["allowed"], false);
    let message = denied["status"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("VirtualService/user: spec.http[0].timeout: "),
        "{message}"
    );
    let mut status = rule_request("UPDATE", "soon");
    status["subResource"] = "status".into();
    assert_eq!(
        control.review("/validate", status)["allowed"],
        true,
        "a status was judged"
    );
    let mut gateway = rule_request("CREATE", "5s");
    gateway["kind"]["kind"] = "Gateway".into();
    let answer = control.review("/validate", gateway);
    assert_eq!(answer["allowed"], true);
    assert!(
        answer["warnings"][0]
            .as_str()
            .is_some_and(|warning| warning.contains("Gateway")),
        "{answer}"
    );
    let mut get = Command::new(&binaries().tsunagi);
    let get = get.args([
        "get",
        "vs",
        "user",
        "-n",
        "shop",
        "--server",
        &format!("http://{}", control.http),
    ]);
    assert_eq!(
        get.output().expect("it runs").status.code(),
        Some(1),
        "a review was stored"
    );
}

#[test]
fn what_is_no_review_is_refused_within_bounds() {
    if !has_curl() {
        return;
    }
    let data = TempDir::new().expect("a temporary folder");
    let control = ControlPlane::start(data.path(), &[]);
    for (path, body, status) in [
        ("/inject", "rubbish".to_owned(), 400),
        ("/validate", "{}".to_owned(), 400),
        ("/inject", " ".repeat(9 << 20), 413),
        ("/nowhere", "{}".to_owned(), 404),
    ] {
        assert_eq!(control.post(path, &body).0, status, "{path}");
    }
    let metrics = curl(&["--request", "GET"], &format!("http://{}/metrics", control.http), "").1;
    let counted = r#"tsunagi_admission_reviews_total{webhook="inject",result="malformed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn the_certificate_survives_a_restart_and_its_keys_are_for_this_user_alone() {
    if !has_curl() {
        return;
    }
    let data = TempDir::new().expect("a temporary folder");
    let mut control = ControlPlane::start(data.path(), &[]);
    assert_eq!(control.review("/inject", pod_request(json!({})))["allowed"], true);
    let first = std::fs::read(control.authority()).expect("kept");
    for name in ["ca.key", "tls.key"] {
        let mode = std::fs::metadata(data.path().join("webhook").join(name))
            .expect("kept")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    control.process.kill();
    let again = ControlPlane::start(data.path(), &[]);
    assert_eq!(again.review("/inject", pod_request(json!({})))["allowed"], true);
    assert_eq!(std::fs::read(again.authority()).expect("kept"), first);
}

#[test]
fn settings_that_cannot_work_end_the_start_by_name() {
    let data = TempDir::new().expect("a temporary folder");
    let settings = data.path().join("settings.yaml");
    std::fs::write(&settings, "nativeSidecars: perhaps\n").expect("written");
    let mut command = ControlPlane::command(&data.path().join("data"));
    let output = command.arg("--inject-config").arg(&settings).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("settings.yaml: ") && said.contains("auto, true, false"),
        "{said}"
    );
}
