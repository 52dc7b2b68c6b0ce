//! The admission webhook of several replicas: one certificate in a Secret, the API server's trust in it, and reviews that
//! are judged against what the cluster holds.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{block_in_place, spawn_blocking};
use tsunagi_tests::{KubeApi, Process, binaries, eventually, within};

use super::LONG;
use super::objects::{NAMESPACE, route_to, service, subsets};

const KINDS: [(&str, &str); 2] = [
    ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
];

struct Replica {
    _process: Process,
    webhook: SocketAddr,
    _data: TempDir,
}

impl Replica {
    fn start(api: &KubeApi, name: &str) -> Replica {
        let data = TempDir::new().expect("a temporary folder");
        let mut command = Command::new(&binaries().tsunagi);
        command.args(["serve", "--kubernetes", "--replica", name]);
        for flag in ["--http-addr", "--grpc-addr", "--webhook-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        command.args(["--webhook-names", "localhost,127.0.0.1"]);
        command
            .arg("--data-dir")
            .arg(data.path())
            .env("KUBECONFIG", api.kubeconfig());
        let process = Process::start("tsunagi serve", &mut command);
        let webhook = block_in_place(|| process.address("webhook", Duration::from_secs(30)));
        Replica {
            _process: process,
            webhook,
            _data: data,
        }
    }

    /// `None`: it cannot judge yet.
    async fn review(&self, authority: &Path, object: Value) -> Option<Value> {
        let name = object["metadata"]["name"].clone();
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u1", "kind": {"group": "networking.istio.io", "version": "v1", "kind": object["kind"]},
            "name": name, "namespace": NAMESPACE, "operation": "UPDATE", "object": object, "oldObject": null,
        }});
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--fail",
                "--max-time",
                "20",
                "--data-binary",
                "@-",
                "--cacert",
            ])
            .arg(authority)
            .arg(format!("https://{}/validate", self.webhook));
        let text = review.to_string();
        let asked = spawn_blocking(move || {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("curl starts");
            let mut stdin = child.stdin.take().expect("piped");
            stdin.write_all(text.as_bytes()).ok();
            drop(stdin);
            child.wait_with_output().expect("our own child")
        });
        let output = within("curl", LONG, asked).await.expect("it was asked");
        let answer: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(answer["response"].clone())
    }
}

/// As the manifests install it.
fn configuration(kind: &str) -> Value {
    let webhook = |name: &str| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"service": {"name": "tsunagi", "namespace": "tsunagi-system", "path": "/validate"}},
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": "tsunagi"},
        "webhooks": [webhook("one.tsunagi.dev"), webhook("two.tsunagi.dev")],
    })
}

/// In which each webhook of all configurations trusts, once they agree.
async fn trusted(api: &KubeApi) -> String {
    eventually("the API server trusts the webhooks", LONG, async || {
        let mut bundles = Vec::new();
        for (_, plural) in KINDS {
            let found = api.get(plural, "", "tsunagi")?;
            let webhooks = found["webhooks"].as_array()?.clone();
            assert_eq!(webhooks.len(), 2, "{found}");
            for webhook in webhooks {
                assert_eq!(webhook["clientConfig"]["service"]["name"], "tsunagi");
                bundles.push(webhook["clientConfig"]["caBundle"].as_str()?.to_owned());
            }
        }
        bundles.dedup();
        (bundles.len() == 1).then(|| bundles.remove(0))
    })
    .await
}

fn curl_is_there() -> bool {
    let there = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !there {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "curl is not installed"
        );
        eprintln!("NOT RUN: curl is not installed; no review was asked for");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_the_certificate_of_a_secret_that_the_api_server_is_told_to_trust() {
    let api = KubeApi::start().await;
    api.put_all(KINDS.map(|(kind, _)| configuration(kind)).to_vec());
    let replicas = [Replica::start(&api, "a"), Replica::start(&api, "b")];
    let bundle = trusted(&api).await;
    let secret = api
        .get("secrets", "tsunagi-system", "tsunagi-webhook")
        .expect("a Secret");
    assert_eq!(secret["data"]["ca.crt"], *bundle);
    // Manifests that are applied again take the trust away.
    api.put(configuration("ValidatingWebhookConfiguration"));
    assert_eq!(trusted(&api).await, bundle);

    if !curl_is_there() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let authority = folder.path().join("ca.crt");
    std::fs::write(&authority, decode(&bundle)).expect("written");
    api.put(service("user"));
    for replica in &replicas {
        // The subset that it leads to is in the cluster or not.
        let judged = async |wanted: bool| {
            eventually("the rule is judged by what the cluster holds", LONG, async || {
                let answer = replica.review(&authority, route_to("v1")).await?;
                assert_eq!(answer["allowed"], true, "{answer}");
                let warned = answer["warnings"].to_string().contains("v1");
                (warned == wanted).then_some(())
            })
            .await;
        };
        judged(true).await;
        api.put(subsets(&["v1"]));
        judged(false).await;
        api.delete("destinationrules", NAMESPACE, "user");
        let mut bad = route_to("v1");
        bad["spec"]["http"][0]["timeout"] = "soon".into();
        let denied = replica.review(&authority, bad).await.expect("an answer");
        assert_eq!(denied["allowed"], false);
        let said = denied["status"]["message"].as_str().unwrap_or_default();
        assert!(said.contains("spec.http[0].timeout"), "{said}");
    }
    assert!(api.get("virtualservices", NAMESPACE, "user").is_none());
}

fn decode(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |byte: u8| DIGITS.iter().position(|known| *known == byte).expect("base64") as u32;
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(digit).collect();
    let group = |four: &[u32]| {
        let bits = (0..4).fold(0, |bits, index| bits << 6 | four.get(index).copied().unwrap_or(0));
        let [_, bytes @ ..] = u32::to_be_bytes(bits);
        bytes.into_iter().take(four.len() - 1).collect::<Vec<u8>>()
    };
    digits.chunks(4).flat_map(group).collect()
}
