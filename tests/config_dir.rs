//! A folder of YAML is followed without anybody's command: whole or not at all, in deletions too, and as the only writer
//! of what is in it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use http::{HeaderValue, Method};
use tempfile::TempDir;
use tokio::task::block_in_place;
use tsunagi_tests::{
    Connection, LIMIT, Process, Reply, Sidecar, SidecarOptions, Upstream, Version, Workload, binaries, body,
    eventually, request, service,
};

const RULE: &str = "/apis/networking.istio.io/v1/namespaces/default/virtualservices/echo";
/// A process answers within this, on a machine that is building something else.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A control plane that follows a folder. The store outlives a restart.
struct Followed {
    process: Process,
    http: SocketAddr,
    grpc: SocketAddr,
    store: TempDir,
    folder: TempDir,
}

fn serve(store: &Path, folder: &Path) -> Command {
    let mut command = Command::new(&binaries().tsunagi);
    command
        .args(["serve", "--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(store)
        .arg("--config-dir")
        .arg(folder);
    command
}

impl Followed {
    fn start(files: &[(&str, String)]) -> Followed {
        let temporary = || TempDir::new().expect("a temporary folder");
        let (store, folder) = (temporary(), temporary());
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("written");
        }
        Followed::spawn(store, folder)
    }

    fn spawn(store: TempDir, folder: TempDir) -> Followed {
        let process = Process::start("tsunagi serve", &mut serve(store.path(), folder.path()));
        let address = |name| block_in_place(|| process.address(name, START_LIMIT));
        Followed {
            http: address("http"),
            grpc: address("grpc"),
            process,
            store,
            folder,
        }
    }

    /// SIGKILL, then the same store and folder again.
    fn restart(self) -> Followed {
        let Followed {
            mut process,
            store,
            folder,
            ..
        } = self;
        process.kill();
        Followed::spawn(store, folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    async fn send(&self, method: Method, path: &str, text: &str) -> Reply {
        let mut call = request(method.as_str(), &self.http.to_string(), path);
        *call.body_mut() = body(text.to_owned());
        let yaml = HeaderValue::from_static("application/yaml");
        call.headers_mut().insert("content-type", yaml);
        Connection::open(self.http, Version::Http1).await.send(call).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, "").await
    }

    async fn synced(&self) -> Option<bool> {
        let text = self.get("/metrics").await.text();
        assert!(text.contains("# HELP tsunagi_config_dir_synced "), "{text}");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("tsunagi_config_dir_synced "))?;
        Some(value == "1")
    }

    async fn becomes_synced(&self, wanted: bool) {
        let what = format!("the metric says {wanted}");
        let asked = async || (self.synced().await == Some(wanted)).then_some(());
        eventually(&what, LIMIT, asked).await;
    }

    /// An error in the log; how often it is there.
    fn told(&self, line: &str) -> usize {
        let log = self.process.log();
        log.lines()
            .filter(|told| told.contains("ERROR") && told.contains(line))
            .count()
    }
}

fn rule(subset: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  subsets:
  - name: v1
    labels: {{version: v1}}
  - name: v2
    labels: {{version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - route:
    - destination: {{host: echo, subset: {subset}}}
"
    )
}

async fn serves(sidecar: &Sidecar, host: &str, answer: &str) {
    let what = format!("{host} is served by {answer}");
    let asked = async || (sidecar.get(host, "/").await.text() == answer).then_some(());
    eventually(&what, LIMIT, asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_in_force_on_a_sidecar_from_the_start_and_with_every_change() {
    let (v1, v2) = (Upstream::start("v1").await, Upstream::start("v2").await);
    let of = |version, upstream: &Upstream| Workload {
        version,
        address: upstream.address,
    };
    let control = Followed::start(&[
        ("echo.yaml", service("echo", "http", &[of("v1", &v1), of("v2", &v2)])),
        ("extra.yml", service("extra", "http", &[of("v2", &v2)])),
        ("rules.yaml", rule("v1")),
    ]);
    assert_eq!(control.synced().await, Some(true));
    let sidecar = Sidecar::start_with(control.grpc, &SidecarOptions::default())
        .ready()
        .await;
    assert_eq!(sidecar.get("echo", "/").await.text(), "v1");
    assert_eq!(sidecar.get("extra", "/").await.text(), "v2");

    control.write("rules.yaml", &rule("v2"));
    serves(&sidecar, "echo", "v2").await;

    // A problem in one file keeps every other change out of force as well.
    control.write("rules.yaml", &rule("v1").replace("  - route:", "  - rout:"));
    fs::remove_file(control.path("extra.yml")).expect("removed");
    control.becomes_synced(false).await;
    let place = format!(
        "{}:20: VirtualService/echo: spec.http[0].rout: unknown field",
        control.path("rules.yaml").display()
    );
    let told = async || (control.told(&place) == 1).then_some(());
    eventually(&format!("the log says {place}"), LIMIT, told).await;
    assert_eq!(sidecar.get("echo", "/").await.text(), "v2");
    assert_eq!(sidecar.get("extra", "/").await.text(), "v2");

    control.write("rules.yaml", &rule("v1"));
    serves(&sidecar, "echo", "v1").await;
    control.becomes_synced(true).await;
    assert_eq!(control.told(&place), 1, "told once");
    assert_eq!(
        control.get("/api/v1/namespaces/default/services/extra").await.status,
        404
    );
    let gone = async || (sidecar.get("extra", "/").await.status == 404).then_some(());
    eventually("the sidecar does not know it any more", LIMIT, gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_folder_holds_is_written_by_nobody_else_and_what_others_wrote_stays() {
    let control = Followed::start(&[("rules.yaml", rule("v1")), ("more.yaml", service("more", "http", &[]))]);
    let others = service("others", "http", &[]);
    let applied = control.send(Method::POST, "/v1/transactions", &others).await;
    assert_eq!(applied.status, 200, "{}", applied.text());

    let control = control.restart();
    let file = control.path("rules.yaml").display().to_string();
    let only_rule = rule("v2").split_once("---\n").expect("two documents").1.to_owned();
    for (method, path, text) in [
        (Method::PUT, RULE, only_rule.as_str()),
        (Method::DELETE, RULE, ""),
        (Method::POST, "/v1/transactions", &rule("v2")),
        (Method::POST, "/v1/transactions?operation=delete", &rule("v2")),
    ] {
        let reply = control.send(method.clone(), path, text).await;
        let status: serde_json::Value = serde_json::from_slice(&reply.body).expect("a Status object");
        assert_eq!(
            (reply.status, &status["kind"], &status["reason"]),
            (409, &"Status".into(), &"Conflict".into()),
            "{method} {path}: {status}"
        );
        assert!(
            status["message"].as_str().is_some_and(|text| text.contains(&file)),
            "{status}"
        );
    }
    assert!(control.get(RULE).await.text().contains("v1"));

    fs::remove_file(control.path("more.yaml")).expect("removed");
    let service = |name: &str| format!("/api/v1/namespaces/default/services/{name}");
    let gone = async || (control.get(&service("more")).await.status == 404).then_some(());
    eventually("what the folder no longer holds is deleted", LIMIT, gone).await;
    assert_eq!(control.get(&service("others")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_not_there_at_start_is_exit_code_1_with_a_sentence() {
    let store = TempDir::new().expect("a temporary folder");
    let missing = store.path().join("missing");
    let mut process = Process::start("tsunagi serve", &mut serve(store.path(), &missing));
    let status = eventually("it ends", START_LIMIT, async || process.exit_status()).await;
    assert_eq!(status.code(), Some(1));
    let said = async || {
        let expected = format!("cannot read --config-dir {}: ", missing.display());
        process.log().contains(&expected).then_some(())
    };
    eventually("it says why", LIMIT, said).await;
}
