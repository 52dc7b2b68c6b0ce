//! A control plane that says exactly what a test wants said, on the wire: named resources, changed at will.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::Stream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

/// By resource name, encoded.
type World = BTreeMap<String, Vec<u8>>;

pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    world: watch::Sender<World>,
    /// Open streams end with it.
    running: watch::Sender<bool>,
    server: JoinSet<()>,
}

struct Service {
    world: watch::Receiver<World>,
    running: watch::Receiver<bool>,
}

impl Plane {
    /// On a free port of an address of this machine. It knows the workload `default/sidecar`, and nothing else.
    pub(crate) async fn start(address: IpAddr) -> Plane {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (world, seen) = watch::channel(World::new());
        let (running, is_running) = watch::channel(true);
        let service = AggregatedDiscoveryServiceServer::new(Service {
            world: seen,
            running: is_running,
        });
        let serve = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let mut server = JoinSet::new();
        server.spawn(async move {
            serve.await.ok();
        });
        let plane = Plane {
            address,
            world,
            running,
            server,
        };
        plane.workload(mesh::OutboundTrafficPolicy::AllowAny);
        plane
    }

    /// Dead: streams end, nobody listens.
    pub(crate) async fn stop(&mut self) {
        self.running.send_replace(false);
        self.server.shutdown().await;
    }

    pub(crate) fn workload(&self, policy: mesh::OutboundTrafficPolicy) {
        let workload = mesh::Workload {
            namespace: "default".to_owned(),
            node_id: "sidecar".to_owned(),
            outbound_traffic_policy: policy.into(),
            ..Default::default()
        };
        self.set(names::workload("default", "sidecar"), Kind::Workload(workload));
    }

    pub(crate) fn set(&self, name: String, kind: Kind) {
        let resource = mesh::Resource { kind: Some(kind) };
        self.world.send_modify(|world| {
            world.insert(name, resource.encode_to_vec());
        });
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send + 'static>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, outgoing) = mpsc::channel(16);
        let mut running = self.running.clone();
        let answer = answer(request.into_inner(), self.world.clone(), responses);
        tokio::spawn(async move {
            tokio::select! {
                () = answer => {}
                _ = running.wait_for(|running| !running) => {}
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

async fn answer(
    mut requests: Streaming<DeltaDiscoveryRequest>,
    mut world: watch::Receiver<World>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut wanted = BTreeSet::new();
    // `None`: said to be absent.
    let mut said: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    let mut nonce = 0;
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                for name in request.resource_names_subscribe {
                    // Endpoints come with their host.
                    wanted.extend(name.strip_prefix("host/").map(names::endpoints));
                    wanted.insert(name);
                }
                for name in request.resource_names_unsubscribe {
                    wanted.remove(&name);
                    said.remove(&name);
                }
            }
            changed = world.changed() => if changed.is_err() { return },
        }
        let response = news(&wanted, &mut said, &world.borrow_and_update());
        if let Some(mut response) = response {
            nonce += 1;
            response.nonce = nonce.to_string();
            if responses.send(Ok(response)).await.is_err() {
                return;
            }
        }
    }
}

fn news(
    wanted: &BTreeSet<String>,
    said: &mut BTreeMap<String, Option<Vec<u8>>>,
    world: &World,
) -> Option<DeltaDiscoveryResponse> {
    let mut response = DeltaDiscoveryResponse {
        system_version_info: "1".to_owned(),
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        ..Default::default()
    };
    for name in wanted {
        let current = world.get(name).cloned();
        if said.get(name) == Some(&current) {
            continue;
        }
        match &current {
            Some(bytes) => response.resources.push(Resource {
                name: name.clone(),
                version: names::version_of(bytes),
                resource: Some(prost_types::Any {
                    type_url: names::RESOURCE_TYPE_URL.to_owned(),
                    value: bytes.clone(),
                }),
                aliases: Vec::new(),
            }),
            None => response.removed_resources.push(name.clone()),
        }
        said.insert(name.clone(), current);
    }
    let says = !response.resources.is_empty() || !response.removed_resources.is_empty();
    says.then_some(response)
}
