//! A rolling restart under load: application and sidecar of one endpoint after the other are told to end at the same time,
//! end, and start again. Nobody sleeps in a hook, and not one request fails.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{MissedTickBehavior, interval};
use tsunagi_tests::{
    Bridge, Connection, ControlPlane, LIMIT, Pod, Process, Sidecar, SidecarOptions, Version, binaries, eventually,
    request, require_root,
};

const ENDPOINTS: usize = 3;
const ROUNDS: usize = 20;
const REQUESTS_PER_SECOND: u32 = 1000;
const CONNECTIONS: u32 = 50;
const VIRTUAL: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(10, 255, 96, 10)), 80);
/// One connection of ten asks for what takes half a second, so that there always is something in flight.
const SLOW_SHARE: u32 = 10;
const SERVICE: &str = "web.default.svc.cluster.local";

/// nginx as the application, and its sidecar.
struct Endpoint<'a> {
    pod: &'a Pod,
    folder: TempDir,
    application: Process,
    sidecar: Sidecar,
}

fn start_application(pod: &Pod, folder: &Path) -> Process {
    let config = format!(
        "daemon off; master_process on; worker_processes 1; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 0.0.0.0:8080;
    location / {{ return 200 '{name}'; }}
    location /slow {{ root {folder}; limit_rate 1000; }}
  }}
}}",
        folder = folder.display(),
        name = pod.name(),
    );
    std::fs::write(folder.join("nginx.conf"), config).expect("a temporary folder");
    std::fs::write(folder.join("slow"), vec![b'x'; 1500]).expect("a temporary folder");
    let mut nginx = pod.command("nginx");
    nginx.arg("-c").arg(folder.join("nginx.conf"));
    Process::start(&format!("nginx of {}", pod.name()), &mut nginx)
}

fn start_sidecar(pod: &Pod, control: &ControlPlane) -> Sidecar {
    let options = SidecarOptions {
        workers: 1,
        node_id: pod.name().to_owned(),
        args: [
            &format!("--labels=app={}", pod.name()),
            "--await-application=true",
            "--access-log=off",
        ]
        .map(str::to_owned)
        .into(),
        ..SidecarOptions::default()
    };
    Sidecar::start_in(pod, control.grpc, &options)
}

async fn until_ready(sidecar: &Sidecar) {
    eventually("the sidecar is ready", LIMIT, async || {
        (sidecar.health("/healthz/ready").await == 200).then_some(())
    })
    .await;
}

/// What the kubelet would ask.
async fn until_listening(pod: &Pod) {
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    eventually("the application listens", LIMIT, async || {
        block_in_place(|| pod.connect(address)).ok().map(drop)
    })
    .await;
}

impl Endpoint<'_> {
    async fn start<'a>(pod: &'a Pod, control: &ControlPlane) -> Endpoint<'a> {
        redirect(pod);
        let folder = TempDir::new().expect("a temporary folder");
        let sidecar = start_sidecar(pod, control);
        until_ready(&sidecar).await;
        let application = start_application(pod, folder.path());
        until_listening(pod).await;
        Endpoint {
            pod,
            folder,
            application,
            sidecar,
        }
    }

    /// As the kubelet does where there are no native sidecars: both are told at once, whoever ends first.
    async fn restart(&mut self, control: &ControlPlane) {
        self.application.signal("QUIT");
        self.sidecar.process.signal("TERM");
        ended("nginx", &mut self.application).await;
        ended("the sidecar", &mut self.sidecar.process).await;
        self.sidecar = start_sidecar(self.pod, control);
        until_ready(&self.sidecar).await;
        self.application = start_application(self.pod, self.folder.path());
        until_listening(self.pod).await;
    }
}

async fn ended(what: &str, process: &mut Process) {
    let status = eventually(&format!("{what} ends"), LIMIT, async || process.exit_status()).await;
    assert!(status.success(), "{what}: {status}");
}

fn redirect(pod: &Pod) {
    let installed = pod.command(&binaries().proxy).args(["redirect", "install"]).output();
    let installed = installed.expect("the command ran");
    assert!(
        installed.status.success(),
        "{}",
        String::from_utf8_lossy(&installed.stderr)
    );
}

#[derive(Default)]
struct Tally {
    good: AtomicU64,
    failures: std::sync::Mutex<Vec<String>>,
}

/// The load, until told to end.
fn load(client: &Arc<Pod>, stop: &watch::Receiver<bool>) -> (JoinSet<()>, Arc<Tally>) {
    let (mut tasks, tally) = (JoinSet::new(), Arc::<Tally>::default());
    for number in 0..CONNECTIONS {
        tasks.spawn(ask(Arc::clone(client), number, stop.clone(), Arc::clone(&tally)));
    }
    (tasks, tally)
}

async fn ask(client: Arc<Pod>, number: u32, stop: watch::Receiver<bool>, tally: Arc<Tally>) {
    let version = if number.is_multiple_of(2) {
        Version::Http1
    } else {
        Version::Http2
    };
    let path = if number.is_multiple_of(SLOW_SHARE) {
        "/slow"
    } else {
        "/"
    };
    let mut connection = Connection::open_in(&client, VIRTUAL, version).await;
    let mut ticks = interval(Duration::from_secs(1) * CONNECTIONS / REQUESTS_PER_SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !*stop.borrow() {
        ticks.tick().await;
        match connection.try_send(request("GET", "web", path)).await {
            Ok(reply) if reply.status == 200 => {
                tally.good.fetch_add(1, Ordering::Relaxed);
            }
            Ok(reply) => tally.fail(format!(
                "{path}: {} {:?}: {}",
                reply.status,
                reply.flags(),
                reply.text()
            )),
            Err(error) => {
                tally.fail(format!("{path}: {error}"));
                connection = Connection::open_in(&client, VIRTUAL, version).await;
            }
        }
    }
}

impl Tally {
    fn fail(&self, what: String) {
        self.failures.lock().expect("nobody panics with it").push(what);
    }
}

fn documents(pods: &[Pod]) -> String {
    let mut documents = vec![format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  clusterIP: {}\n  selector: {{app: web}}\n  \
         ports: [{{name: http, port: 80, targetPort: 8080}}]\n",
        VIRTUAL.ip()
    )];
    for pod in pods {
        documents.push(format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {}}}\nspec:\n  address: {}\n  \
             labels: {{app: web}}\n",
            pod.name(),
            pod.address()
        ));
    }
    documents.join("---\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rolling_restarts_at_a_thousand_requests_a_second_fail_no_request() {
    let has_nginx = Command::new("nginx").arg("-v").output().is_ok();
    if !has_nginx {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "nginx is missing"
        );
        eprintln!("NOT RUN: nginx is missing");
    }
    if !has_nginx || !require_root() {
        return;
    }
    let bridge = Bridge::new();
    let control = ControlPlane::start_on(bridge.address());
    let pods: Vec<Pod> = (0..ENDPOINTS)
        .map(|number| bridge.pod(&format!("web-{number}")))
        .collect();
    let client = Arc::new(bridge.pod("client"));
    control.apply(&documents(&pods)).await;
    let mut endpoints = Vec::new();
    for pod in &pods {
        endpoints.push(Endpoint::start(pod, &control).await);
    }
    redirect(&client);
    let caller = start_sidecar(&client, &control);
    until_ready(&caller).await;

    let (stop, stopped) = watch::channel(false);
    let (mut tasks, tally) = load(&client, &stopped);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for endpoint in &mut endpoints {
            endpoint.restart(&control).await;
            // The next one goes when this one is back, as a Deployment does it.
            eventually("the caller knows that it is back", LIMIT, async || {
                let labels = [("destination_service", SERVICE)];
                let healthy = caller.metrics().await.sum("tsunagi_endpoints_healthy", &labels);
                (healthy == ENDPOINTS as f64).then_some(())
            })
            .await;
        }
    }
    let took = begun.elapsed();
    stop.send_replace(true);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("the load ran");
    }
    // Killed, it would leave its worker behind.
    for endpoint in &mut endpoints {
        endpoint.application.signal("QUIT");
        ended("nginx", &mut endpoint.application).await;
    }
    let good = tally.good.load(Ordering::Relaxed);
    let failures = tally.failures.lock().expect("nobody panics with it").clone();
    eprintln!(
        "{} restarts in {took:?}: {good} requests answered, {} failed",
        ROUNDS * ENDPOINTS,
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {good}: {:#?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    assert!(
        good as f64 > took.as_secs_f64() * f64::from(REQUESTS_PER_SECOND) / 4.0,
        "too little load: {good} in {took:?}"
    );
}
