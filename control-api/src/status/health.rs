//! How the connected proxies see the endpoints that they call, as each has reported last. Gone with the proxy's connection.
//! Written by `api`'s gRPC door, read by `tsunagi endpoints`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Identity, Status};

/// The later, the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeenState {
    #[default]
    Healthy,
    /// It should have been ejected, and the pool cannot spare it.
    Failing,
    /// The time of its ejection is over: the next request that chooses it is the probe.
    AwaitingProbe,
    Probing,
    Ejected,
    /// A name without an address.
    Unresolved,
}

impl SeenState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Failing => "failing",
            Self::AwaitingProbe => "awaiting probe",
            Self::Probing => "probing",
            Self::Ejected => "ejected",
            Self::Unresolved => "unresolved",
        }
    }
}

/// An endpoint of one cluster that a proxy sends no requests, or not their share, or that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEndpoint {
    /// Of the cluster.
    pub host: String,
    pub port: u16,
    pub subset: String,
    /// The name that has the address; empty: it is told by address.
    pub hostname: String,
    /// Unspecified: the whole of a name whose connections take turns.
    pub address: SocketAddr,
    pub state: SeenState,
    /// Of an ejection, or why it would have been ejected, as in metrics.
    pub cause: &'static str,
    /// Until it may return, when the report came. `None`: that does not depend on time.
    pub left: Option<Duration>,
    pub ejections: u32,
    /// It gets its part of the requests all the same: too few are healthy.
    pub in_panic: bool,
}

/// What DNS says to a proxy of an endpoint that is told by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenName {
    /// FQDN of its service.
    pub host: String,
    pub name: String,
    /// Those in force; none: requests find nobody there.
    pub addresses: Vec<IpAddr>,
    /// Why the last lookup brought none.
    pub failure: String,
    /// All of them are one endpoint, whose connections take turns.
    pub in_turns: bool,
}

/// What one proxy has reported.
#[derive(Clone, Debug)]
pub struct HealthReport {
    pub endpoints: Vec<SeenEndpoint>,
    pub names: Vec<SeenName>,
    /// There are so many more.
    pub omitted: u32,
    received: Instant,
}

impl HealthReport {
    pub fn new(endpoints: Vec<SeenEndpoint>, names: Vec<SeenName>, omitted: u32) -> Self {
        Self {
            endpoints,
            names,
            omitted,
            received: Instant::now(),
        }
    }

    /// Until the endpoint may return, from now on.
    pub fn left(&self, endpoint: &SeenEndpoint) -> Option<Duration> {
        endpoint.left.map(|left| left.saturating_sub(self.received.elapsed()))
    }
}

impl Status {
    /// Replaces what the proxy said before; false: it is not connected.
    pub fn report_health(&self, identity: &Identity, report: HealthReport) -> bool {
        let mut connected = self.lock();
        let range = (identity.clone(), 0)..=(identity.clone(), u64::MAX);
        // Of two with one name the newer: the older one is about to be gone.
        let Some((_, connection)) = connected.proxies.range_mut(range).next_back() else {
            return false;
        };
        connection.health = Some(Arc::new(report));
        true
    }

    /// What each connected proxy has reported, by namespace and name.
    pub fn health(&self) -> Vec<(Identity, Arc<HealthReport>)> {
        let connected = self.lock();
        let reported = connected
            .proxies
            .iter()
            .filter_map(|((identity, _), connection)| Some((identity.clone(), connection.health.clone()?)));
        reported.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Progress;
    use super::*;

    fn identity() -> Identity {
        Identity {
            namespace: "shop".to_owned(),
            node_id: "web-1".to_owned(),
        }
    }

    fn ejected(left: u64) -> HealthReport {
        let endpoint = SeenEndpoint {
            host: "user".to_owned(),
            port: 80,
            subset: String::new(),
            hostname: String::new(),
            address: ([10, 0, 0, 1], 8080).into(),
            state: SeenState::Ejected,
            cause: "",
            left: Some(Duration::from_secs(left)),
            ejections: 1,
            in_panic: false,
        };
        HealthReport::new(vec![endpoint], Vec::new(), 0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_replaces_the_one_before_ages_and_goes_with_the_connection() {
        let status = Status::new();
        assert!(!status.report_health(&identity(), ejected(9)), "it is not connected");
        let reporter = status.connect(identity(), Progress::default());
        assert!(status.health().is_empty());
        assert!(status.report_health(&identity(), ejected(9)) && status.report_health(&identity(), ejected(30)));
        tokio::time::advance(Duration::from_secs(12)).await;
        let [(of, report)] = &status.health()[..] else {
            unreachable!("one proxy")
        };
        assert_eq!(*of, identity());
        assert_eq!(report.left(&report.endpoints[0]), Some(Duration::from_secs(18)));
        drop(reporter);
        assert!(status.health().is_empty());
    }
}
