//! A proxy without traffic, as the control plane sees one: a discovery stream that is driven by hand, over the wire.

use std::net::SocketAddr;

use prost::Message;
use prost_types::{Struct, Value, value};
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use crate::eventually::{LIMIT, eventually, within};

/// Dropping it disconnects.
pub struct AdsClient {
    namespace: String,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    replies: Streaming<DeltaDiscoveryResponse>,
}

fn request(subscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: names::RESOURCE_TYPE_URL.to_owned(),
        resource_names_subscribe: subscribe.iter().map(|&name| name.to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn metadata(texts: &[(&str, &str)]) -> Struct {
    let value = |text: &str| Value {
        kind: Some(value::Kind::StringValue(text.to_owned())),
    };
    let fields = texts.iter().map(|(name, text)| ((*name).to_owned(), value(text)));
    Struct {
        fields: fields.collect(),
    }
}

impl AdsClient {
    /// A proxy of namespace `default` that begins with these subscriptions.
    pub async fn connect(control_plane: SocketAddr, node_id: &str, subscribe: &[&str]) -> AdsClient {
        AdsClient::connect_in(control_plane, ("default", node_id), "", subscribe).await
    }

    /// The same in another namespace, on a machine with these addresses.
    pub async fn connect_in(
        control_plane: SocketAddr,
        (namespace, node_id): (&str, &str),
        instance_ips: &str,
        subscribe: &[&str],
    ) -> AdsClient {
        let endpoint = Endpoint::from_shared(format!("http://{control_plane}")).expect("an address");
        let channel: Channel = eventually("the control plane is there", LIMIT, async || {
            endpoint.connect().await.ok()
        })
        .await;
        let (requests, stream) = mpsc::channel(16);
        let first = DeltaDiscoveryRequest {
            node: Some(Node {
                id: node_id.to_owned(),
                metadata: Some(metadata(&[("NAMESPACE", namespace), ("INSTANCE_IPS", instance_ips)])),
                ..Node::default()
            }),
            ..request(subscribe)
        };
        requests.send(first).await.expect("the stream is ours");
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let replies = client.delta_aggregated_resources(ReceiverStream::new(stream)).await;
        AdsClient {
            namespace: namespace.to_owned(),
            requests,
            replies: replies.expect("a stream").into_inner(),
        }
    }

    pub async fn subscribe(&self, name: &str) {
        let sent = self.requests.send(request(&[name])).await;
        sent.expect("the stream is open");
    }

    /// The next response, without an answer to it.
    pub async fn next_unanswered(&mut self) -> DeltaDiscoveryResponse {
        let next = within("a response comes", LIMIT, self.replies.message()).await;
        next.expect("the stream lives").expect("the stream goes on")
    }

    /// The next response, acknowledged.
    pub async fn next(&mut self) -> DeltaDiscoveryResponse {
        let response = self.next_unanswered().await;
        let answer = DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            ..request(&[])
        };
        self.requests.send(answer).await.expect("the stream is open");
        response
    }

    /// The next version of a resource of this name; whatever comes before it is acknowledged too.
    pub async fn resource(&mut self, name: &str) -> Kind {
        loop {
            let response = self.next().await;
            let found = response.resources.into_iter().find(|resource| resource.name == name);
            if let Some(any) = found.and_then(|resource| resource.resource) {
                let resource = mesh::Resource::decode(any.value.as_ref()).expect("a resource");
                return resource.kind.expect("of a known kind");
            }
        }
    }

    /// As `resource`, of its own departure.
    pub async fn departure(&mut self, node_id: &str) -> mesh::Departure {
        match self.resource(&names::departure(&self.namespace, node_id)).await {
            Kind::Departure(departure) => departure,
            other => panic!("no departure: {other:?}"),
        }
    }
}
