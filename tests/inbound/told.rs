//! A control plane that knows one thing: what the ports of one workload are. Called by `redirected`.

use std::net::{IpAddr, SocketAddr};

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tsunagi_proto::names::{self, RESOURCE_TYPE_URL};
use tsunagi_proto::wire::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use tsunagi_proto::wire::mesh::{self, resource::Kind};
use tsunagi_tests::{LIMIT, eventually};

pub const NODE: &str = "user-1";

pub struct Told {
    pub address: SocketAddr,
    workload: watch::Sender<(u64, mesh::Workload)>,
    /// The last that the proxy acknowledged.
    acknowledged: watch::Sender<u64>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Service {
    workload: watch::Receiver<(u64, mesh::Workload)>,
    acknowledged: watch::Sender<u64>,
}

impl Told {
    pub async fn start(address: IpAddr, ports: Vec<mesh::InboundPort>) -> Told {
        let listener = TcpListener::bind((address, 0))
            .await
            .expect("an address of this machine");
        let address = listener.local_addr().expect("a bound socket");
        let (workload, current) = watch::channel((1, of(ports)));
        let acknowledged = watch::Sender::new(0);
        let service = Service {
            workload: current,
            acknowledged: acknowledged.clone(),
        };
        let server = Server::builder()
            .add_service(AggregatedDiscoveryServiceServer::new(service))
            .serve_with_incoming(TcpIncoming::from(listener));
        Told {
            address,
            workload,
            acknowledged,
            server: tokio::spawn(async move { server.await.expect("the control plane serves") }),
        }
    }

    /// In force when this returns.
    pub async fn push(&self, ports: Vec<mesh::InboundPort>) {
        let version = self.workload.borrow().0 + 1;
        self.workload.send_replace((version, of(ports)));
        eventually("the proxy has acknowledged", LIMIT, async || {
            (*self.acknowledged.borrow() >= version).then_some(())
        })
        .await;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn of(inbound_ports: Vec<mesh::InboundPort>) -> mesh::Workload {
    mesh::Workload {
        namespace: "default".into(),
        node_id: NODE.into(),
        inbound_ports,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream = BoxStream<DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (responses, stream) = mpsc::channel(8);
        tokio::spawn(self.clone().serve(request.into_inner(), responses));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Service {
    async fn serve(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        self.workload.mark_changed();
        loop {
            let response = tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.answer(request),
                    _ => return,
                },
                Ok(()) = self.workload.changed() => Some(self.workload()),
            };
            if let Some(response) = response
                && responses.send(Ok(response)).await.is_err()
            {
                return;
            }
        }
    }

    /// No other name leads anywhere.
    fn answer(&self, request: DeltaDiscoveryRequest) -> Option<DeltaDiscoveryResponse> {
        if let (Ok(version), None) = (request.response_nonce.parse(), request.error_detail) {
            self.acknowledged.send_replace(version);
        }
        let own = names::workload("default", NODE);
        let wanted = request.resource_names_subscribe;
        let removed_resources: Vec<_> = wanted.into_iter().filter(|name| *name != own).collect();
        (!removed_resources.is_empty()).then(|| DeltaDiscoveryResponse {
            type_url: RESOURCE_TYPE_URL.into(),
            nonce: "nothing there".into(),
            removed_resources,
            ..Default::default()
        })
    }

    fn workload(&mut self) -> DeltaDiscoveryResponse {
        let (version, workload) = self.workload.borrow_and_update().clone();
        let mut resource = Resource {
            version: version.to_string(),
            name: names::workload("default", NODE),
            resource: Some(Default::default()),
            ..Default::default()
        };
        if let Some(any) = &mut resource.resource {
            any.type_url = RESOURCE_TYPE_URL.into();
            let kind = Some(Kind::Workload(workload));
            any.value = mesh::Resource { kind }.encode_to_vec();
        }
        DeltaDiscoveryResponse {
            system_version_info: version.to_string(),
            resources: vec![resource],
            type_url: RESOURCE_TYPE_URL.into(),
            nonce: version.to_string(),
            ..Default::default()
        }
    }
}
