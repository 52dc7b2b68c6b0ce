//! Tells the control plane how this proxy sees the endpoints that it calls, when that has changed: people ask there, not
//! at each proxy. Nothing waits for it. Called by `client`.

use std::time::Duration;

use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tsunagi_proto::wire::mesh::{self, endpoint_health_client::EndpointHealthClient};

use super::Seen;
use super::session::Identity;
use crate::snapshot::SeenName;
use crate::upstream::{Cause, SeenEndpoint, Standing};

/// Of one name: that it has more, nobody needs to know.
const MOST_ADDRESSES: usize = 32;
/// A report is small.
const LIMIT: Duration = Duration::from_secs(5);

/// Dropping it ends a report on its way.
#[derive(Default)]
pub(super) struct Reporter {
    /// What the control plane knows, but for the times, which change by themselves. `None`: who knows.
    told: Option<mesh::HealthReport>,
    sending: Option<JoinHandle<Result<(), tonic::Status>>>,
}

impl Reporter {
    /// A new stream: the control plane knows nothing yet.
    pub(super) fn connected(&mut self) {
        if let Some(sending) = self.sending.take() {
            sending.abort();
        }
        self.told = Some(mesh::HealthReport::default());
    }

    /// Sends what is seen now unless it is known, or a report is still on its way.
    pub(super) fn report(&mut self, channel: &Channel, identity: &Identity, seen: &Seen) {
        if self.sending.as_ref().is_some_and(|sending| !sending.is_finished()) {
            return;
        }
        let report = wire(seen);
        let timeless = without_times(&report);
        if self.told.as_ref() == Some(&timeless) {
            return;
        }
        let report = mesh::HealthReport {
            namespace: identity.namespace.clone(),
            node_id: identity.node_id.clone(),
            ..report
        };
        self.told = Some(timeless);
        self.sending = Some(tokio::spawn(send(channel.clone(), report)));
    }

    /// One that failed is made anew.
    pub(super) async fn check(&mut self) {
        let Some(sending) = self.sending.take_if(|sending| sending.is_finished()) else {
            return;
        };
        if let Ok(Err(status)) = sending.await {
            tracing::debug!(%status, "the control plane was not told of the endpoints");
            self.told = None;
        }
    }
}

async fn send(channel: Channel, report: mesh::HealthReport) -> Result<(), tonic::Status> {
    let mut client = EndpointHealthClient::new(channel);
    let sent = tokio::time::timeout(LIMIT, client.report(report)).await;
    sent.map_err(|_| tonic::Status::deadline_exceeded("no answer"))?
        .map(|_| ())
}

fn wire(seen: &Seen) -> mesh::HealthReport {
    mesh::HealthReport {
        endpoints: seen.endpoints.iter().map(endpoint).collect(),
        names: seen.names.iter().map(name).collect(),
        omitted: u32::try_from(seen.omitted).unwrap_or(u32::MAX),
        ..mesh::HealthReport::default()
    }
}

fn without_times(report: &mesh::HealthReport) -> mesh::HealthReport {
    let mut report = report.clone();
    report.endpoints.iter_mut().for_each(|endpoint| endpoint.left = None);
    report
}

fn endpoint(seen: &SeenEndpoint) -> mesh::SeenEndpoint {
    mesh::SeenEndpoint {
        host: seen.key.host.clone(),
        port: seen.key.port.into(),
        subset: seen.key.subset.clone(),
        hostname: seen.hostname.clone().unwrap_or_default(),
        address: seen.address.to_string(),
        state: state(seen.standing).into(),
        cause: seen.cause.map_or(mesh::EjectionCause::Unspecified, cause).into(),
        left: seen.left.and_then(|left| left.try_into().ok()),
        ejections: seen.ejections,
        in_panic: seen.in_panic,
    }
}

fn state(standing: Standing) -> mesh::SeenState {
    match standing {
        Standing::Healthy => mesh::SeenState::Failing,
        Standing::Ejected => mesh::SeenState::Ejected,
        Standing::AwaitingProbe => mesh::SeenState::AwaitingProbe,
        Standing::Probing => mesh::SeenState::Probing,
    }
}

fn cause(cause: Cause) -> mesh::EjectionCause {
    match cause {
        Cause::Consecutive5xx => mesh::EjectionCause::Consecutive5xx,
        Cause::ConsecutiveGatewayErrors => mesh::EjectionCause::ConsecutiveGatewayErrors,
        Cause::ConsecutiveLocalOrigin => mesh::EjectionCause::ConsecutiveLocalOrigin,
        Cause::FailedProbe => mesh::EjectionCause::FailedProbe,
    }
}

fn name(seen: &SeenName) -> mesh::SeenName {
    let addresses = seen.addresses.iter().take(MOST_ADDRESSES);
    mesh::SeenName {
        host: seen.host.clone(),
        name: seen.name.clone(),
        addresses: addresses.map(ToString::to_string).collect(),
        failure: seen.failure.as_deref().unwrap_or_default().to_owned(),
        in_turns: seen.in_turns,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tsunagi_proto::model::ClusterKey;

    use super::*;

    #[test]
    fn a_report_changes_with_what_is_seen_and_not_with_time() {
        let ejected = |left: u64| SeenEndpoint {
            key: ClusterKey {
                host: "user".into(),
                port: 80,
                subset: String::new(),
            },
            hostname: None,
            address: ([10, 0, 0, 1], 8080).into(),
            standing: Standing::Ejected,
            cause: Some(Cause::FailedProbe),
            left: Some(Duration::from_secs(left)),
            ejections: 2,
            in_panic: false,
        };
        let many = SeenName {
            host: "user".to_owned(),
            name: "db.example.com".to_owned(),
            addresses: (0..100).map(|last| IpAddr::from([10, 0, 0, last])).collect(),
            failure: None,
            in_turns: false,
        };
        let seen = |left| Seen {
            endpoints: vec![ejected(left)],
            names: vec![many.clone()],
            omitted: 0,
        };
        let report = wire(&seen(9));
        let [endpoint] = &report.endpoints[..] else {
            unreachable!("{report:?}")
        };
        assert_eq!(endpoint.left.map(|left| left.seconds), Some(9));
        assert_eq!(
            (endpoint.state(), endpoint.cause()),
            (mesh::SeenState::Ejected, mesh::EjectionCause::FailedProbe)
        );
        assert_eq!(report.names[0].addresses.len(), MOST_ADDRESSES);
        assert_eq!(without_times(&report), without_times(&wire(&seen(8))));
        assert_ne!(without_times(&report), wire(&Seen::default()));
    }
}
