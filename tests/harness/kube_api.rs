//! A stand-in for the Kubernetes API: lists in pages, watches from a resource version with bookmarks, `410 Gone`,
//! disconnects and outages on demand, and statuses by server-side apply. It speaks the protocol as the API concepts of
//! Kubernetes' reference describe it, for the few resources that a mesh watches. Called by tests of Kubernetes mode.

mod cluster;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use cluster::Cluster;
pub use cluster::Patched;

/// Ends with the value.
pub struct KubeApi {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    folder: TempDir,
}

/// What every connection sees.
struct Shared {
    cluster: Mutex<Cluster>,
    /// Changes with the cluster.
    changed: watch::Sender<u64>,
    /// Changes when all connections are to be cut.
    cut: watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut Cluster) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        result
    }
}

impl KubeApi {
    /// An empty cluster in which every resource is installed.
    pub async fn start() -> KubeApi {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            cluster: Mutex::default(),
            changed: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        });
        let server = tokio::spawn(server::serve(listener, Arc::clone(&shared)));
        let folder = TempDir::new().expect("a temporary folder");
        let api = KubeApi {
            address,
            shared,
            server,
            folder,
        };
        std::fs::write(api.kubeconfig(), api.kubeconfig_text()).expect("a kubeconfig");
        api
    }

    fn kubeconfig_text(&self) -> String {
        format!(
            "apiVersion: v1
kind: Config
clusters: [{{name: stand-in, cluster: {{server: 'http://{}'}}}}]
contexts: [{{name: stand-in, context: {{cluster: stand-in, user: stand-in, namespace: tsunagi-system}}}}]
users: [{{name: stand-in, user: {{}}}}]
current-context: stand-in
",
            self.address
        )
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Creates or replaces an object by its kind, namespace and name; its status stays.
    pub fn put(&self, object: Value) {
        self.put_all(vec![object]);
    }

    pub fn put_all(&self, objects: Vec<Value>) {
        self.shared
            .change(|cluster| objects.into_iter().for_each(|object| cluster.put(object)));
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.shared.change(|cluster| cluster.delete(plural, namespace, name));
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.lock().get(plural, namespace, name).cloned()
    }

    /// Whether the cluster knows the resource, as a CustomResourceDefinition decides.
    pub fn install(&self, plural: &str, is_there: bool) {
        self.shared.change(|cluster| cluster.install(plural, is_there));
    }

    /// Whether everybody is refused at `RESOURCE` or `RESOURCE/status`.
    pub fn forbid(&self, what: &str, forbid: bool) {
        self.shared.change(|cluster| {
            if forbid {
                cluster.forbidden.insert(what.to_owned())
            } else {
                cluster.forbidden.remove(what)
            }
        });
    }

    /// How often somebody was refused.
    pub fn refusals(&self) -> usize {
        self.shared.lock().refusals
    }

    /// Watches get nothing more until they are told otherwise.
    pub fn hold_watches(&self, hold: bool) {
        self.shared.change(|cluster| cluster.held = hold);
    }

    /// Every watch ends with `410 Gone`, and no resource version from before is known any more.
    pub fn expire(&self) {
        self.shared.change(Cluster::expire);
    }

    /// Cuts every connection in the middle of whatever it carries.
    pub fn disconnect(&self) {
        self.shared.cut.send_modify(|count| *count += 1);
    }

    /// Nobody listens until `resume`.
    pub async fn stop(&mut self) {
        self.server.abort();
        (&mut self.server).await.ok();
        self.disconnect();
    }

    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still free");
        self.server = tokio::spawn(server::serve(listener, Arc::clone(&self.shared)));
    }

    /// Every write of a status, in order.
    pub fn patched(&self) -> Vec<Patched> {
        self.shared.lock().patched.clone()
    }

    /// How often the resource was listed from the beginning.
    pub fn lists(&self, plural: &str) -> usize {
        self.shared.lock().lists.get(plural).copied().unwrap_or_default()
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}
