//! The `EndpointHealth` service of `config.proto`: proxies say which endpoints they do not send what they would.

use std::time::Duration;

use tonic::{Request, Response, Status};
use tsunagi_proto::wire::mesh::{
    self,
    endpoint_health_server::{EndpointHealth, EndpointHealthServer},
};

use super::Api;
use crate::status::{HealthReport, Identity, SeenEndpoint};

/// A thousand endpoints with long names.
const LARGEST_REPORT_BYTES: usize = 1 << 20;
const MOST_ENDPOINTS: usize = 1_000;
/// No ejection lasts longer; keeps sums of times far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

pub fn service(api: Api) -> EndpointHealthServer<impl EndpointHealth> {
    EndpointHealthServer::new(Service(api)).max_decoding_message_size(LARGEST_REPORT_BYTES)
}

struct Service(Api);

#[tonic::async_trait]
impl EndpointHealth for Service {
    async fn report(&self, request: Request<mesh::HealthReport>) -> Result<Response<mesh::HealthReply>, Status> {
        let mesh::HealthReport {
            namespace,
            node_id,
            endpoints,
            omitted,
        } = request.into_inner();
        if endpoints.len() > MOST_ENDPOINTS {
            return Err(Status::invalid_argument(format!(
                "endpoints: at most {MOST_ENDPOINTS} in one report"
            )));
        }
        let endpoints = endpoints.into_iter().map(seen).collect::<Result<_, _>>()?;
        let identity = Identity { namespace, node_id };
        if !self
            .0
            .status
            .report_health(&identity, HealthReport::new(endpoints, omitted))
        {
            return Err(Status::not_found("this proxy has no discovery stream here"));
        }
        Ok(Response::new(mesh::HealthReply {}))
    }
}

fn seen(wire: mesh::SeenEndpoint) -> Result<SeenEndpoint, Status> {
    let port = u16::try_from(wire.port).map_err(|_| Status::invalid_argument("endpoints.port: is not a port"))?;
    let left = wire.left.map(Duration::try_from).transpose();
    let left = left.map_err(|_| Status::invalid_argument("endpoints.left: must not be negative"))?;
    Ok(SeenEndpoint {
        host: wire.host,
        port,
        subset: wire.subset,
        address: wire.address,
        state: wire.state,
        cause: wire.cause,
        left: left.map(|left| left.min(LONGEST)),
        ejections: wire.ejections,
    })
}
