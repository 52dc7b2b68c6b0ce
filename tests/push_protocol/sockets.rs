//! Client and server over sockets: what only the wire and the clock can show.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::{StreamExt, iter};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tsunagi::snapshot;
use tsunagi::status::{State, Status};
use tsunagi::xds::Departures;
use tsunagi_proto::wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, Node};
use tsunagi_proxy::drain::Drain;
use tsunagi_proxy::snapshot::Update;
use tsunagi_proxy::telemetry::Telemetry;
use tsunagi_proxy::xds::{Client, ClientConfig, Sink};
use tsunagi_tests::{LIMIT, eventually, within};

use crate::mesh::{Host, Mesh};

/// Nobody has endpoints, so whoever leaves may go at once.
#[derive(Clone)]
struct NoEndpoints;

impl Departures for NoEndpoints {
    async fn leave(&self, _: snapshot::Node) -> Option<u64> {
        None
    }
    async fn stay(&self, _: snapshot::Node) {}
    async fn forget(&self, _: snapshot::Node, _: impl Fn() -> bool + Send) {}
}

/// A control plane without a store.
struct ControlPlane {
    address: SocketAddr,
    world: watch::Sender<Arc<Mesh>>,
    status: Arc<Status>,
    task: JoinHandle<()>,
}

impl ControlPlane {
    async fn start(mesh: Mesh) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), mesh).await
    }

    async fn start_at(address: SocketAddr, mesh: Mesh) -> Self {
        let listen = async || TcpListener::bind(address).await.ok();
        let listener = eventually("the address is free", LIMIT, listen).await;
        let address = listener.local_addr().unwrap();
        let status = Status::new();
        let (world, receiver) = watch::channel(Arc::new(mesh));
        let service = tsunagi::xds::service(receiver, Arc::clone(&status), NoEndpoints);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().add_service(service).serve_with_incoming(incoming);
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self {
            address,
            world,
            status,
            task,
        }
    }

    /// Nobody says goodbye.
    async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }

    /// Publishes the next revision and returns it.
    fn change(&self, change: impl FnOnce(&mut Mesh)) -> u64 {
        let mut next = self.world.borrow().next();
        change(&mut next);
        let revision = next.revision;
        self.world.send_replace(Arc::new(next));
        revision
    }

    async fn acknowledged(&self, proxies: usize, revision: u64) {
        let all = async || {
            let shown = self.status.proxies();
            let done = shown
                .iter()
                .filter(|proxy| proxy.revision_acknowledged >= revision)
                .count();
            (done == proxies).then_some(())
        };
        eventually("the proxies have acknowledged", LIMIT, all).await;
    }
}

/// A proxy without traffic: what it would put in force comes out of a channel.
struct Proxy {
    wants: mpsc::Sender<String>,
    updates: mpsc::UnboundedReceiver<Update>,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

struct Recorder(mpsc::UnboundedSender<Update>);

impl Sink for Recorder {
    fn apply(&mut self, update: Update) {
        let _ = self.0.send(update);
    }
    fn forget(&mut self, _: &[String]) {}
    fn idle(&mut self) -> Vec<String> {
        Vec::new()
    }
    fn surplus(&mut self) -> Vec<String> {
        Vec::new()
    }
}

impl Proxy {
    fn start(address: SocketAddr, node_id: &str, state_dir: Option<PathBuf>) -> Self {
        let config = ClientConfig {
            control_plane: format!("http://localhost:{}", address.port()).parse().unwrap(),
            node_id: node_id.to_owned(),
            namespace: "default".to_owned(),
            service_account: "default".to_owned(),
            node_name: String::new(),
            labels: Vec::new(),
            instance_ips: Vec::new(),
            state_dir,
        };
        let (wants, wanted) = mpsc::channel(16);
        let (sender, updates) = mpsc::unbounded_channel();
        let (shutdown, ends) = oneshot::channel::<()>();
        let ends = async move { ends.await.unwrap_or_default() };
        let task = tokio::spawn(Client::run(
            config,
            wanted,
            Recorder(sender),
            Telemetry::new(node_id),
            Drain::new(),
            ends,
        ));
        Self {
            wants,
            updates,
            shutdown,
            task,
        }
    }

    async fn want(&self, fqdn: &str) {
        self.wants.send(fqdn.to_owned()).await.unwrap();
    }

    /// Updates up to the first that has something of this host, which is returned.
    async fn update_of(&mut self, fqdn: &str) -> Update {
        let next = async {
            loop {
                let update = self.updates.recv().await.expect("the client runs");
                let hosts = update.hosts.iter().map(|(name, _)| name);
                if hosts
                    .chain(update.endpoints.iter().map(|(name, _)| name))
                    .any(|name| name == fqdn)
                {
                    return update;
                }
            }
        };
        within("an update of the host", LIMIT, next).await
    }

    async fn stop(self) {
        drop(self.shutdown);
        within("the client ends", LIMIT, self.task).await.unwrap();
    }
}

fn mesh() -> Mesh {
    let mut mesh = Mesh {
        revision: 1,
        ..Mesh::default()
    };
    for (fqdn, reaches) in [("a", vec!["b".to_owned()]), ("b", Vec::new())] {
        let service = mesh.service(fqdn);
        service.host = Some(Host {
            generation: 1,
            reaches,
            bad: false,
        });
        service.add_endpoint("0");
    }
    mesh
}

fn names(update: &Update) -> (Vec<&str>, Vec<&str>) {
    let hosts = update.hosts.iter().map(|(name, _)| name.as_str()).collect();
    (hosts, update.endpoints.iter().map(|(name, _)| name.as_str()).collect())
}

#[tokio::test]
async fn a_wanted_host_comes_whole_and_its_change_is_acknowledged() {
    let plane = ControlPlane::start(mesh()).await;
    let mut proxy = Proxy::start(plane.address, "pod-1", None);
    proxy.want("a").await;
    assert_eq!(names(&proxy.update_of("a").await), (vec!["a"], vec!["a", "b"]));
    plane.acknowledged(1, 1).await;
    let revision = plane.change(|mesh| mesh.service("b").add_endpoint("1"));
    let found = plane.status.wait(revision, LIMIT).await;
    assert_eq!(
        found.iter().map(|one| one.state).collect::<Vec<_>>(),
        [State::Acknowledged]
    );
    // It was in force before it was acknowledged.
    assert_eq!(names(&proxy.updates.try_recv().unwrap()), (vec![], vec!["b"]));
    // What it does not use does not concern it.
    let revision = plane.change(|mesh| mesh.service("z").add_endpoint("1"));
    assert!(plane.status.wait(revision, LIMIT).await.is_empty());
    plane.acknowledged(1, revision).await;
    proxy.stop().await;
    eventually("the proxy is gone", LIMIT, async || {
        plane.status.proxies().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refused_change_is_named_and_leaves_the_last_good_one_in_force() {
    let plane = ControlPlane::start(mesh()).await;
    let mut proxy = Proxy::start(plane.address, "pod-1", None);
    proxy.want("a").await;
    proxy.update_of("a").await;
    plane.acknowledged(1, 1).await;
    let revision = plane.change(|mesh| {
        mesh.service("a").host = Some(Host {
            generation: 2,
            reaches: Vec::new(),
            bad: true,
        });
        mesh.service("a").add_endpoint("1");
    });
    let found = plane.status.wait(revision, LIMIT).await;
    assert_eq!(found[0].state, State::Refused);
    assert!(found[0].reason.starts_with("host/a: ports"), "{}", found[0].reason);
    assert_eq!(names(&proxy.updates.try_recv().unwrap()), (vec![], vec!["a"]));
    let shown = &plane.status.proxies()[0];
    assert_eq!((shown.revision_acknowledged, shown.lag), (1, 1));
    proxy.stop().await;
}

#[tokio::test]
async fn after_a_control_plane_died_proxies_resume_without_a_resend() {
    let plane = ControlPlane::start(mesh()).await;
    let mut proxy = Proxy::start(plane.address, "pod-1", None);
    proxy.want("a").await;
    proxy.want("nobody").await;
    proxy.update_of("a").await;
    plane.acknowledged(1, 1).await;
    while proxy.updates.try_recv().is_ok() {}
    let address = plane.kill().await;
    let plane = ControlPlane::start_at(address, mesh()).await;
    plane.acknowledged(1, 1).await;
    assert!(proxy.updates.try_recv().is_err(), "it was sent what it held");
    plane.change(|mesh| mesh.service("b").add_endpoint("1"));
    assert_eq!(names(&proxy.update_of("b").await), (vec![], vec!["b"]));
    proxy.stop().await;
}

#[tokio::test]
async fn a_start_without_a_control_plane_serves_what_was_remembered() {
    let state = tempfile::tempdir().unwrap();
    let plane = ControlPlane::start(mesh()).await;
    let mut proxy = Proxy::start(plane.address, "pod-1", Some(state.path().to_owned()));
    proxy.want("a").await;
    proxy.update_of("a").await;
    plane.acknowledged(1, 1).await;
    proxy.stop().await;
    let address = plane.kill().await;

    let mut proxy = Proxy::start(address, "pod-1", Some(state.path().to_owned()));
    let update = proxy.update_of("a").await;
    assert_eq!(names(&update), (vec!["a"], vec!["a", "b"]));
    assert!(update.workload.is_some());
    let plane = ControlPlane::start_at(address, mesh()).await;
    plane.acknowledged(1, 1).await;
    assert!(proxy.updates.try_recv().is_err(), "it was sent what it held");
    proxy.stop().await;

    let mut other = Proxy::start(plane.address, "pod-2", Some(state.path().to_owned()));
    let update = within("the first update", LIMIT, other.updates.recv()).await.unwrap();
    assert_eq!(names(&update), (vec![], vec![]), "another's state is not its own");
    other.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_half_closed_ends_cleanly_and_one_without_a_node_is_refused() {
    let plane = ControlPlane::start(mesh()).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", plane.address)).unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(endpoint.connect().await.unwrap());
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            id: "pod-1".to_owned(),
            ..Node::default()
        }),
        type_url: tsunagi_proto::names::RESOURCE_TYPE_URL.to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    for (node, code) in [(first.node.clone(), None), (None, Some(tonic::Code::InvalidArgument))] {
        let request = DeltaDiscoveryRequest { node, ..first.clone() };
        let stream = client.delta_aggregated_resources(iter([request])).await.unwrap();
        let end = within("the stream ends", LIMIT, stream.into_inner().next()).await;
        assert_eq!(end.map(|reply| reply.unwrap_err().code()), code);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_a_hundred_proxies() {
    const PROXIES: usize = 100;
    let plane = ControlPlane::start(mesh()).await;
    let mut proxies: Vec<Proxy> = (0..PROXIES)
        .map(|index| Proxy::start(plane.address, &format!("pod-{index}"), None))
        .collect();
    for proxy in &mut proxies {
        proxy.want("a").await;
        proxy.update_of("a").await;
    }
    plane.acknowledged(PROXIES, 1).await;
    let mut slowest = Duration::ZERO;
    for generation in 2..20 {
        let started = std::time::Instant::now();
        let revision = plane.change(|mesh| {
            mesh.service("a").host = Some(Host {
                generation,
                reaches: Vec::new(),
                bad: false,
            });
        });
        let found = plane.status.wait(revision, LIMIT).await;
        slowest = slowest.max(started.elapsed());
        assert_eq!(found.len(), PROXIES);
        assert!(found.iter().all(|one| one.state == State::Acknowledged));
    }
    // The benchmark holds the number; this shows it.
    println!("from change to acknowledged by {PROXIES} proxies: at most {slowest:?}");
    for proxy in proxies {
        proxy.stop().await;
    }
}
