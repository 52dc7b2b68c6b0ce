//! Tells the control plane how this proxy sees the endpoints that it calls, when that has changed: people ask there, not
//! at each proxy. Nothing waits for it. Called by `client`.

use std::time::Duration;

use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tsunagi_proto::wire::mesh::{self, endpoint_health_client::EndpointHealthClient};

use super::session::Identity;
use crate::upstream::SeenEndpoint;

/// What the control plane takes in one report.
pub(super) const MOST_ENDPOINTS: usize = 1_000;
/// A report is small.
const LIMIT: Duration = Duration::from_secs(5);

/// Dropping it ends a report on its way.
#[derive(Default)]
pub(super) struct Reporter {
    /// What the control plane knows, but for the times, which change by themselves.
    told: Vec<mesh::SeenEndpoint>,
    sending: Option<JoinHandle<Result<(), tonic::Status>>>,
}

impl Reporter {
    /// A new stream: the control plane knows nothing yet.
    pub(super) fn connected(&mut self) {
        if let Some(sending) = self.sending.take() {
            sending.abort();
        }
        self.told.clear();
    }

    /// Sends what is seen now unless it is known, or a report is still on its way. `omitted`: there are so many more.
    pub(super) fn report(&mut self, channel: &Channel, identity: &Identity, seen: &[SeenEndpoint], omitted: usize) {
        if self.sending.as_ref().is_some_and(|sending| !sending.is_finished()) {
            return;
        }
        let timeless = seen.iter().map(|one| wire(one, None)).collect();
        if timeless == self.told {
            return;
        }
        let report = mesh::HealthReport {
            namespace: identity.namespace.clone(),
            node_id: identity.node_id.clone(),
            endpoints: seen.iter().map(|one| wire(one, one.left)).collect(),
            omitted: u32::try_from(omitted).unwrap_or(u32::MAX),
        };
        self.told = timeless;
        self.sending = Some(tokio::spawn(send(channel.clone(), report)));
    }

    /// One that failed is made anew.
    pub(super) async fn check(&mut self) {
        let Some(sending) = self.sending.take_if(|sending| sending.is_finished()) else {
            return;
        };
        if let Ok(Err(status)) = sending.await {
            tracing::debug!(%status, "the control plane was not told of the endpoints");
            self.told = vec![mesh::SeenEndpoint::default()];
        }
    }
}

async fn send(channel: Channel, report: mesh::HealthReport) -> Result<(), tonic::Status> {
    let mut client = EndpointHealthClient::new(channel);
    let sent = tokio::time::timeout(LIMIT, client.report(report)).await;
    sent.map_err(|_| tonic::Status::deadline_exceeded("no answer"))?
        .map(|_| ())
}

fn wire(seen: &SeenEndpoint, left: Option<Duration>) -> mesh::SeenEndpoint {
    mesh::SeenEndpoint {
        host: seen.key.host.clone(),
        port: seen.key.port.into(),
        subset: seen.key.subset.clone(),
        address: seen.address.to_string(),
        state: seen.state.to_owned(),
        cause: seen.cause.to_owned(),
        left: left.and_then(|left| left.try_into().ok()),
        ejections: seen.ejections,
    }
}
