//! Proxies without a data path: the session machine of the real proxy on a real gRPC stream, nothing else. Called by the
//! benchmark of the push path.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tsunagi_proto::wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tsunagi_proxy::xds::Session;
use tsunagi_proxy::xds::session::Identity;

/// The latest revision that a proxy has in force, and since when.
type InForce = (u64, Instant);

pub struct Fleet {
    proxies: Vec<watch::Receiver<InForce>>,
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Returns once every proxy holds every host.
    pub async fn connect(control_plane: SocketAddr, count: usize, hosts: &[String]) -> Fleet {
        let mut tasks = JoinSet::new();
        let mut proxies = Vec::new();
        for number in 0..count {
            let (told, in_force) = watch::channel((0, Instant::now()));
            let identity = Identity {
                node_id: format!("simulated-{number}"),
                namespace: "default".to_owned(),
                service_account: "default".to_owned(),
                ..Identity::default()
            };
            tasks.spawn(run(control_plane, identity, hosts.to_vec(), told));
            proxies.push(in_force);
        }
        for proxy in &mut proxies {
            proxy
                .wait_for(|(revision, _)| *revision > 0)
                .await
                .expect("a simulated proxy ended");
        }
        Fleet { proxies, _tasks: tasks }
    }

    /// For each proxy, the time from `since` until `revision` was in force.
    pub async fn latencies(&mut self, revision: u64, since: Instant) -> Vec<Duration> {
        let mut latencies = Vec::new();
        for proxy in &mut self.proxies {
            let reached = proxy.wait_for(|(at, _)| *at >= revision);
            let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
            let (_, when) = *reached
                .expect("a push took half a minute")
                .expect("a simulated proxy ended");
            latencies.push(when.saturating_duration_since(since));
        }
        latencies
    }
}

async fn run(control_plane: SocketAddr, identity: Identity, hosts: Vec<String>, told: watch::Sender<InForce>) {
    let endpoint = Endpoint::from_shared(format!("http://{control_plane}")).expect("an address is a URI");
    let channel = endpoint
        .tcp_nodelay(true)
        .connect()
        .await
        .expect("the control plane accepts");
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut session = Session::new(identity);
    let (requests, outgoing) = mpsc::channel(16);
    session.connected();
    for host in &hosts {
        session.want(host, tokio::time::Instant::now());
    }
    let say = async |session: &mut Session| {
        while let Some(request) = session.request() {
            requests.send(request).await.expect("the stream is open");
        }
    };
    say(&mut session).await;
    let stream = client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await;
    let mut responses = stream.expect("the control plane takes a stream").into_inner();
    while let Ok(Some(response)) = responses.message().await {
        let outcome = session.response(response, tokio::time::Instant::now());
        assert!(!outcome.refused, "the control plane sent what the proxy refuses");
        if let Some(update) = outcome.update
            && update.hosts.iter().all(|(_, host)| host.is_some())
        {
            told.send_replace((update.version.parse().unwrap_or(1), Instant::now()));
        }
        say(&mut session).await;
    }
}
