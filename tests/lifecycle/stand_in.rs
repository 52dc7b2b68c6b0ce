//! A control plane that knows no hosts, and tells callers of a departure when, and as, the test says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tsunagi_proto::names::{self, ResourceName, version_of};
use tsunagi_proto::wire::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use tsunagi_proto::wire::mesh::{self, resource::Kind};
use tsunagi_tests::{LIMIT, eventually};

/// What becomes of a departure that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Departures {
    Withheld,
    Told,
    /// As by a control plane that has never heard of them.
    Unknown,
}

/// Ends with the value.
pub struct StandIn {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

struct Shared {
    departures: watch::Sender<Departures>,
    /// One more breaks every stream that is open.
    breaks: watch::Sender<u64>,
    /// Streams that have asked for a departure.
    leaving: AtomicUsize,
    /// First requests.
    greetings: Mutex<Vec<DeltaDiscoveryRequest>>,
}

impl StandIn {
    pub async fn start(departures: Departures) -> StandIn {
        StandIn::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), departures).await
    }

    pub async fn start_at(address: SocketAddr, departures: Departures) -> StandIn {
        let listener = TcpListener::bind(address).await.expect("an address of this machine");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            departures: watch::Sender::new(departures),
            breaks: watch::Sender::new(0),
            leaving: AtomicUsize::new(0),
            greetings: Mutex::default(),
        });
        let service = AggregatedDiscoveryServiceServer::new(Discovery(Arc::clone(&shared)));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
        let mut server = JoinSet::new();
        server.spawn(async move { serving.await.expect("it serves") });
        StandIn {
            address,
            shared,
            server,
        }
    }

    /// Nobody listens any more, and every stream has ended.
    pub async fn stop(mut self) {
        self.server.shutdown().await;
        self.break_streams();
    }

    pub fn set(&self, departures: Departures) {
        self.shared.departures.send_replace(departures);
    }

    pub fn break_streams(&self) {
        self.shared.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// Until so many streams have asked for a departure.
    pub async fn asked(&self, streams: usize) {
        eventually("the sidecar asks for its departure", LIMIT, async || {
            (self.shared.leaving.load(Ordering::SeqCst) >= streams).then_some(())
        })
        .await;
    }

    pub fn greetings(&self) -> Vec<DeltaDiscoveryRequest> {
        let greetings = self.shared.greetings.lock();
        greetings.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Discovery(Arc<Shared>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, outgoing) = mpsc::channel(16);
        tokio::spawn(serve(Arc::clone(&self.0), request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

type Responses = mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>;

async fn serve(shared: Arc<Shared>, mut requests: Streaming<DeltaDiscoveryRequest>, responses: Responses) {
    let (mut departures, mut breaks) = (shared.departures.subscribe(), shared.breaks.subscribe());
    let mut asked: Option<String> = None;
    loop {
        let request = tokio::select! {
            request = requests.message() => request.ok().flatten(),
            _ = departures.changed() => Some(DeltaDiscoveryRequest::default()),
            _ = breaks.changed() => None,
        };
        let Some(request) = request else { return };
        if request.node.is_some() {
            let mut greetings = shared.greetings.lock().unwrap_or_else(PoisonError::into_inner);
            greetings.push(request.clone());
        }
        for name in request.resource_names_subscribe {
            let answer = match names::parse(&name) {
                Some(ResourceName::Workload { namespace, node_id }) => one(&name, workload(namespace, node_id)),
                Some(ResourceName::Departure { .. }) => {
                    shared.leaving.fetch_add(1, Ordering::SeqCst);
                    asked = Some(name);
                    continue;
                }
                _ => none(&name),
            };
            responses.send(Ok(answer)).await.ok();
        }
        let now = *departures.borrow_and_update();
        if now != Departures::Withheld
            && let Some(name) = asked.take()
        {
            let answer = match (now, names::parse(&name)) {
                (Departures::Told, Some(ResourceName::Departure { namespace, node_id })) => {
                    one(&name, departure(namespace, node_id))
                }
                _ => none(&name),
            };
            responses.send(Ok(answer)).await.ok();
        }
    }
}

fn workload(namespace: &str, node_id: &str) -> Kind {
    Kind::Workload(mesh::Workload {
        namespace: namespace.to_owned(),
        node_id: node_id.to_owned(),
        ..mesh::Workload::default()
    })
}

fn departure(namespace: &str, node_id: &str) -> Kind {
    Kind::Departure(mesh::Departure {
        namespace: namespace.to_owned(),
        node_id: node_id.to_owned(),
        unanswered: vec!["default/slow-caller".to_owned()],
    })
}

fn one(name: &str, kind: Kind) -> DeltaDiscoveryResponse {
    let value = mesh::Resource { kind: Some(kind) }.encode_to_vec();
    let mut resource = Resource {
        name: name.to_owned(),
        version: version_of(&value),
        ..Resource::default()
    };
    let any = resource.resource.get_or_insert_default();
    (any.type_url, any.value) = (names::RESOURCE_TYPE_URL.to_owned(), value);
    DeltaDiscoveryResponse {
        resources: vec![resource],
        removed_resources: Vec::new(),
        ..none(name)
    }
}

/// There is no such resource.
fn none(name: &str) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        system_version_info: "1".to_owned(),
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        nonce: name.to_owned(),
        removed_resources: vec![name.to_owned()],
        ..DeltaDiscoveryResponse::default()
    }
}
