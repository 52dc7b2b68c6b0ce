//! `tsunagi serve`: opens the store, binds the sockets, wires the rooms together and ends in order. Called by `cli`.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tonic::service::Routes;

use crate::{
    api::{self, Api},
    bootstrap::ServeOptions,
    ca::CaError,
    ingest::{Folder, FolderError, Ingest, StartError},
    inject::{Settings, SettingsError},
    kubernetes::{Cluster, KubernetesError},
    snapshot::World,
    status::Status,
    store::{Store, StoreError},
    telemetry::{self, TelemetryError},
    webhook, xds,
};

/// For requests under way when shutdown begins.
const HTTP_GRACE: Duration = Duration::from_secs(5);
/// For the proxies' streams to end after that.
const GRPC_GRACE: Duration = Duration::from_secs(2);
/// Histograms keep every sample until they are folded; a scrape folds them too.
const METRICS_UPKEEP_INTERVAL: Duration = Duration::from_secs(30);
/// The control plane pushes, it does not compute much: two threads, whatever the machine.
const WORKER_THREADS: usize = 2;
/// For parsing and for the one writer. Each has a heap of its own that stays as large as its largest transaction, so few.
const BLOCKING_THREADS: usize = 2;
/// For a process that ends (it was killed and is started again) to let go of its store.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// `timeout` of GNU sends SIGTERM to its child and again to the group that the child is in: within this, two are one.
const ECHO_TIME: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("cannot listen on {flag} {address}: {source}")]
    Bind {
        flag: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the webhook cannot start: {0}")]
    Webhook(#[from] CaError),
    #[error("cannot read {path}: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("{path}: {source}")]
    Settings { path: String, source: SettingsError },
    #[error("cannot start threads or watch signals: {0}")]
    Runtime(#[source] io::Error),
    #[error("the gRPC server failed: {0}")]
    Grpc(#[source] tonic::transport::Error),
    #[error("stopped at once by a second signal; what was acknowledged is stored")]
    Interrupted,
}

/// Runs the control plane until a signal ends it.
pub fn run(options: &ServeOptions) -> Result<(), ServeError> {
    telemetry::install_log(&options.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("tsunagi")
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(serve(options));
    // A transaction that is being written either is durable or leaves no trace: nothing to wait for.
    runtime.shutdown_background();
    result
}

/// Dropping the future ends the control plane at once.
async fn serve(options: &ServeOptions) -> Result<(), ServeError> {
    let mut signals = Signals::watch().map_err(ServeError::Runtime)?;
    let metrics = telemetry::install_metrics()?;
    tokio::spawn(upkeep(metrics.clone()));
    let (ingest, world, cluster) = source(options).await?;
    let http = bind("--http-addr", options.http_addr).await?;
    let grpc = bind("--grpc-addr", options.grpc_addr).await?;
    let folder = follow(options.config_dir.as_deref(), &ingest).await?;
    tell("http", &http);
    tell("grpc", &grpc);
    let stopping = Arc::new(AtomicBool::new(false));
    // In a cluster nobody knows whether another one ran before; its proxies may be on their way here.
    let has_run_before = cluster.is_some() || world.borrow().revision() > 0;
    let api = Api {
        ingest,
        status: if has_run_before {
            Status::after_restart()
        } else {
            Status::new()
        },
        metrics,
        stopping,
    };
    let ingest = api.ingest.clone();
    let client = cluster.as_ref().map(Cluster::client);
    let plane = Plane::start(api, world, (http, grpc), folder, cluster);
    let webhook = admit(options, ingest, client, plane.stop.subscribe()).await?;
    plane.run(&mut signals).await?;
    if let Some(webhook) = webhook {
        // Reviews under way are answered; what is not by then is not waited for.
        drop(timeout(HTTP_GRACE, webhook).await);
    }
    Ok(())
}

/// Where config comes from, and what is in force already: of a cluster nothing is known yet.
async fn source(options: &ServeOptions) -> Result<(Ingest, watch::Receiver<Arc<World>>, Option<Cluster>), ServeError> {
    if !options.kubernetes {
        let (ingest, world) = load(&options.data_dir, &options.root_namespace).await?;
        return Ok((ingest, world, None));
    }
    let cluster = Cluster::find(options.replica.as_deref()).await?;
    let (ingest, world) = Ingest::without_store(SystemTime::now, &options.root_namespace);
    ingest.await_source(Some("nothing was listed yet".to_owned()));
    Ok((ingest, world, Some(cluster)))
}

async fn load(data_dir: &Path, root_namespace: &str) -> Result<(Ingest, watch::Receiver<Arc<World>>), ServeError> {
    let store = open(data_dir).await?;
    let (ingest, world) = Ingest::start(store, SystemTime::now, root_namespace)?;
    let (revision, resources) = (world.borrow().revision(), ingest.held().documents.len());
    tracing::info!("store={} revision={revision} resources={resources}", data_dir.display());
    Ok((ingest, world))
}

async fn open(data_dir: &Path) -> Result<Store, ServeError> {
    for _ in 1..LOCK_TRIES {
        match Store::open(data_dir) {
            Err(StoreError::InUse(_)) => tokio::time::sleep(LOCK_PAUSE).await,
            opened => return Ok(opened?),
        }
    }
    Ok(Store::open(data_dir)?)
}

/// What is in the folder is in force, or told to be unfit, when this returns.
async fn follow(config_dir: Option<&Path>, ingest: &Ingest) -> Result<Option<Folder>, FolderError> {
    match config_dir {
        Some(path) => Folder::start(path, ingest.clone()).await.map(Some),
        None => Ok(None),
    }
}

/// Opens the admission webhook, where it is wanted; `cluster` in Kubernetes mode. The task ends with `stop`.
async fn admit(
    options: &ServeOptions,
    ingest: Ingest,
    cluster: Option<kube::Client>,
    stop: watch::Receiver<bool>,
) -> Result<Option<JoinHandle<()>>, ServeError> {
    let settings = match &options.inject_config {
        Some(path) => settings(path)?,
        None => Settings::default(),
    };
    let Some(address) = options.webhook_addr else {
        return Ok(None);
    };
    let listener = bind("--webhook-addr", address).await?;
    tell("webhook", &listener);
    let setup = webhook::Setup {
        listener,
        ingest,
        settings,
        names: options.webhook_names.clone(),
        data_dir: options.data_dir.clone(),
        cluster,
        clock: SystemTime::now,
    };
    Ok(Some(webhook::start(setup, stop).await?))
}

fn settings(path: &Path) -> Result<Settings, ServeError> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ServeError::Unreadable { path: name(), source })?;
    Settings::parse(&text).map_err(|source| ServeError::Settings { path: name(), source })
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| ServeError::Bind { flag, address, source })
}

/// The line that tells a script the port it got.
fn tell(name: &str, listener: &TcpListener) {
    if let Ok(address) = listener.local_addr() {
        tracing::info!("listening {name}={address}");
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(METRICS_UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

type GrpcTask = JoinHandle<Result<(), tonic::transport::Error>>;

/// The control plane while it runs.
struct Plane {
    api: Api,
    stop: watch::Sender<bool>,
    http: JoinHandle<()>,
    grpc: GrpcTask,
}

impl Plane {
    fn start(
        api: Api,
        world: watch::Receiver<Arc<World>>,
        (http, grpc): (TcpListener, TcpListener),
        folder: Option<Folder>,
        cluster: Option<Cluster>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut known = world.clone();
        let is_store_elsewhere = cluster.is_some();
        let discovery = xds::service(world, Arc::clone(&api.status), api.ingest.clone());
        let routes = Routes::new(discovery)
            .add_service(api::grpc_service(api.clone()))
            .add_service(api::health_service(api.clone()));
        if let Some(folder) = folder {
            tokio::spawn(folder.watch(stopped.clone()));
        }
        if let Some(cluster) = cluster {
            let (ingest, status) = (api.ingest.clone(), Arc::clone(&api.status));
            tokio::spawn(cluster.follow(ingest, status, SystemTime::now, stopped.clone()));
        }
        let http = tokio::spawn(api::serve_http(http, api::router(api.clone()), stopped.clone()));
        let grpc = tokio::spawn(async move {
            // Before the cluster is listed nobody can say which hosts there are: proxies wait with what they have.
            let listed = known.wait_for(|world| !is_store_elsewhere || world.revision() > 0);
            if listed.await.is_err() {
                return Ok(());
            }
            api::serve_grpc(grpc, routes, stopped).await
        });
        Self { api, stop, http, grpc }
    }

    async fn run(mut self, signals: &mut Signals) -> Result<(), ServeError> {
        let first = tokio::select! {
            first = signals.next() => Some(first),
            failed = &mut self.grpc => {
                if let Ok(Err(error)) = failed {
                    return Err(ServeError::Grpc(error));
                }
                None
            }
        };
        tracing::info!("shutting down; a second signal stops at once");
        tokio::select! {
            () = self.end() => Ok(()),
            () = signals.next_but_echoes(first) => Err(ServeError::Interrupted),
        }
    }

    /// First no new work, then what is under way ends, then the proxies are let go: they serve on with what they have.
    async fn end(self) {
        self.api.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        if timeout(HTTP_GRACE, self.http).await.is_err() {
            tracing::warn!("requests still open after {}s are cut off", HTTP_GRACE.as_secs());
        }
        self.api.ingest.close();
        if timeout(GRPC_GRACE, self.grpc).await.is_err() {
            tracing::warn!("gRPC streams still open after {}s are cut off", GRPC_GRACE.as_secs());
        }
    }
}

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Terminate,
    Interrupt,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    request: Request,
    at: Instant,
}

impl Received {
    /// Whoever presses Ctrl-C twice means it, however fast.
    fn is_echo_of(self, first: Received) -> bool {
        let both = [self.request, first.request];
        both == [Request::Terminate; 2] && self.at.duration_since(first.at) < ECHO_TIME
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Received {
        let request = tokio::select! {
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.interrupt.recv() => Request::Interrupt,
        };
        let at = Instant::now();
        Received { request, at }
    }

    async fn next_but_echoes(&mut self, first: Option<Received>) {
        loop {
            let next = self.next().await;
            if !first.is_some_and(|first| next.is_echo_of(first)) {
                return;
            }
        }
    }
}

impl From<StoreError> for ServeError {
    fn from(error: StoreError) -> Self {
        Self::Start(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sigterm_within_a_second_is_the_first_and_a_second_ctrl_c_is_not() {
        let begin = Instant::now();
        let after = |request, milliseconds| Received {
            request,
            at: begin + Duration::from_millis(milliseconds),
        };
        let (terminate, interrupt) = (Request::Terminate, Request::Interrupt);
        for (first, second, milliseconds, is_echo) in [
            (terminate, terminate, 0, true),
            (terminate, terminate, 999, true),
            (terminate, terminate, 1_000, false),
            (interrupt, interrupt, 10, false),
            (terminate, interrupt, 10, false),
            (interrupt, terminate, 10, false),
        ] {
            let found = after(second, milliseconds).is_echo_of(after(first, 0));
            assert_eq!(found, is_echo, "{first:?} {second:?} {milliseconds}");
        }
    }
}
