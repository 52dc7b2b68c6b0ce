//! What the connected proxies have said of endpoints, by the place where each is told: what they say of places where none is
//! told is never looked up. Called by `endpoints` and `explain`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::replies::SeenReply;
use crate::status::{HealthReport, Identity, SeenEndpoint, SeenName, SeenState};

/// One of the host's endpoints: told by address, or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Empty: it is told by address.
    pub name: &'a str,
}

/// How one proxy sees an endpoint.
pub(super) struct Sighting {
    pub state: SeenState,
    pub reply: SeenReply,
}

type Said<'r, T> = (&'r Identity, &'r HealthReport, &'r T);

pub(super) struct Sightings<'r> {
    endpoints: HashMap<Place<'r>, Vec<Said<'r, SeenEndpoint>>>,
    names: HashMap<(&'r str, &'r str), Vec<Said<'r, SeenName>>>,
}

impl<'r> Sightings<'r> {
    pub(super) fn of(reports: &'r [(Identity, Arc<HealthReport>)]) -> Self {
        let (mut endpoints, mut names) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for (identity, report) in reports {
            for seen in &report.endpoints {
                let place = Place {
                    host: &seen.host,
                    port: seen.port,
                    name: &seen.hostname,
                };
                endpoints.entry(place).or_default().push((identity, &**report, seen));
            }
            for seen in &report.names {
                let name = (seen.host.as_str(), seen.name.as_str());
                names.entry(name).or_default().push((identity, &**report, seen));
            }
        }
        Self { endpoints, names }
    }

    /// How the endpoint at the address is seen where it is not seen healthy.
    pub(super) fn at(&self, place: Place<'_>, address: SocketAddr) -> Vec<Sighting> {
        let said = self.endpoints.get(&place).into_iter().flatten();
        said.filter(|(_, _, seen)| seen.address == address)
            .map(|(identity, report, seen)| of_endpoint(identity, report, seen))
            .collect()
    }

    /// What the proxies that have looked a name up say of it.
    pub(super) fn of_name<'s>(&'s self, host: &'s str, name: &'s str) -> Looked<'s> {
        let said = self.names.get(&(host, name));
        Looked(said.map(Vec::as_slice).unwrap_or_default())
    }

    /// The addresses of a name of which something is said, besides those that it is said to have.
    pub(super) fn addresses_at(&self, place: Place<'_>, port: u16) -> Vec<IpAddr> {
        let said = self.endpoints.get(&place).into_iter().flatten();
        let addresses = said.map(|(_, _, seen)| seen.address);
        let own = addresses.filter(|address| address.port() == port && !address.ip().is_unspecified());
        own.map(|address| address.ip()).collect()
    }
}

/// By which proxies a name was looked up.
#[derive(Clone, Copy)]
pub(super) struct Looked<'s>(&'s [Said<'s, SeenName>]);

impl Looked<'_> {
    pub(super) fn by_none(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn addresses(self) -> BTreeSet<IpAddr> {
        self.0
            .iter()
            .flat_map(|(_, _, seen)| seen.addresses.iter().copied())
            .collect()
    }

    /// All of the addresses are one endpoint.
    pub(super) fn is_in_turns(self) -> bool {
        self.0.iter().any(|(_, _, seen)| seen.in_turns)
    }

    /// The proxies for which it has no address, and why.
    pub(super) fn unresolved(self) -> Vec<Sighting> {
        let without = self.0.iter().filter(|(_, _, seen)| seen.addresses.is_empty());
        let sighting = |(identity, _, seen): &Said<'_, SeenName>| {
            let reason = match seen.failure.as_str() {
                "" => "it has no usable address",
                failure => failure,
            };
            said(identity, SeenState::Unresolved, reason)
        };
        without.map(sighting).collect()
    }

    /// The proxies that go on with this address although the last lookup brought none.
    pub(super) fn outdated(self, address: IpAddr) -> Vec<Sighting> {
        let old = self
            .0
            .iter()
            .filter(|(_, _, seen)| !seen.failure.is_empty() && seen.addresses.contains(&address));
        let sighting = |(identity, _, seen): &Said<'_, SeenName>| {
            let reason = format!("{}: its last address is used on", seen.failure);
            said(identity, SeenState::Healthy, &reason)
        };
        old.map(sighting).collect()
    }
}

fn said(identity: &Identity, state: SeenState, reason: &str) -> Sighting {
    let reply = SeenReply {
        node_id: identity.node_id.clone(),
        namespace: identity.namespace.clone(),
        state: state.as_str().to_owned(),
        reason: reason.to_owned(),
        ..SeenReply::default()
    };
    Sighting { state, reply }
}

fn of_endpoint(identity: &Identity, report: &HealthReport, endpoint: &SeenEndpoint) -> Sighting {
    let reason = match endpoint.state {
        SeenState::Failing => format!("{}: not ejected, the pool cannot spare it", endpoint.cause),
        _ if endpoint.in_panic => format!(
            "{}; gets requests all the same: fewer than minHealthPercent are healthy",
            endpoint.cause
        ),
        _ => endpoint.cause.to_owned(),
    };
    let Sighting { state, reply } = said(identity, endpoint.state, &reason);
    let reply = SeenReply {
        subset: endpoint.subset.clone(),
        seconds_left: report.left(endpoint).map(|left| left.as_secs_f64().ceil() as u64),
        ejections: endpoint.ejections,
        ..reply
    };
    Sighting { state, reply }
}
