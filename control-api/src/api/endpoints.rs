//! `GET /v1/endpoints`: every endpoint of the hosts that are asked for, as it is told and as the connected proxies see it.
//! The addresses of an endpoint that is told by name are what the proxies that have looked it up say.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use tsunagi_proto::model::{Endpoint, Health, keep_one_an_address};

use super::{
    Api,
    failure::Failure,
    replies::{EndpointReply, EndpointsReply},
    request::{Format, Query},
    sightings::{Place, Sighting, Sightings},
};
use crate::snapshot::World;

/// In one answer.
const MOST_ENDPOINTS: usize = 10_000;
const NOBODY_ASKED: &str = "resolved by the sidecars: none has used it yet";

pub(super) async fn list(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    let query = Query::of(request.uri(), &["host"])?;
    let format = Format::wanted(request.headers());
    let wanted = Wanted::of(query.text("host").unwrap_or_default());
    let world = api.ingest.held().world;
    let hosts = wanted.among(world.host_names());
    if hosts.is_empty() && !wanted.host.is_empty() {
        return Err(Failure::not_found(format!("no service is called {}", wanted.host)));
    }
    let reports = api.status.health();
    let sightings = Sightings::of(&reports);
    let endpoints = hosts
        .iter()
        .flat_map(|fqdn| of_host(&world, fqdn, wanted.port, &sightings));
    let mut reply = EndpointsReply {
        revision: world.revision(),
        endpoints: endpoints.collect(),
        omitted: 0,
    };
    reply.omitted = reply.endpoints.len().saturating_sub(MOST_ENDPOINTS);
    reply.endpoints.truncate(MOST_ENDPOINTS);
    Ok(format.reply(StatusCode::OK, &reply))
}

/// A host as it is shown, or the beginning of its name, in any case. An empty name means all.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    host: String,
    port: Option<u16>,
}

impl Wanted {
    fn of(text: &str) -> Self {
        let text = text.trim();
        let (host, port) = match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, Some(port)),
            _ => (text, None),
        };
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        Self { host, port }
    }

    /// Those that it means: where it is the name of some up to a dot, not those that only begin with it.
    fn among<T: AsRef<str>>(&self, mut hosts: Vec<T>) -> Vec<T> {
        let is_whole = hosts.iter().any(|fqdn| self.means(fqdn.as_ref()));
        hosts.retain(|fqdn| {
            let fqdn = fqdn.as_ref();
            self.means(fqdn) || !is_whole && fqdn.starts_with(&self.host)
        });
        hosts
    }

    /// Up to a dot.
    fn means(&self, fqdn: &str) -> bool {
        let rest = fqdn.strip_prefix(&self.host);
        self.host.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

fn of_host(world: &World, fqdn: &str, wanted: Option<u16>, sightings: &Sightings<'_>) -> Vec<EndpointReply> {
    let set = world.endpoints(fqdn).and_then(|encoded| encoded.endpoints());
    let told: Vec<Arc<Endpoint>> = set.iter().flat_map(|set| set.iter()).cloned().collect();
    let ports = told.iter().flat_map(|endpoint| &endpoint.ports).map(|(port, _)| *port);
    let ports: BTreeSet<u16> = ports
        .filter(|port| wanted.is_none_or(|wanted| wanted == *port))
        .collect();
    let mut replies = Vec::new();
    for port in ports {
        // As proxies do.
        let mut at_port = told.clone();
        keep_one_an_address(&mut at_port, port);
        for endpoint in &at_port {
            let Some(address) = endpoint.socket_address(port) else {
                continue;
            };
            let place = Place {
                host: fqdn,
                port,
                name: endpoint.hostname.as_deref().unwrap_or_default(),
            };
            let one = One {
                endpoint,
                place,
                number: address.port(),
            };
            match &endpoint.hostname {
                None => replies.push(one.by_address(sightings)),
                Some(_) => replies.extend(one.by_name(sightings)),
            }
        }
    }
    replies.sort_by(|one, other| {
        (one.port, &one.address, &one.resolved).cmp(&(other.port, &other.address, &other.resolved))
    });
    replies
}

/// An endpoint at one port of its host.
struct One<'a> {
    endpoint: &'a Endpoint,
    place: Place<'a>,
    /// Of the endpoint.
    number: u16,
}

impl One<'_> {
    fn by_address(&self, sightings: &Sightings<'_>) -> EndpointReply {
        let address = SocketAddr::new(self.endpoint.address, self.number);
        self.reply(address.to_string(), Vec::new(), sightings.at(self.place, address))
    }

    /// A reply for each of its addresses, and one for the proxies for which it has none.
    fn by_name(&self, sightings: &Sightings<'_>) -> Vec<EndpointReply> {
        let address = format!("{}:{}", self.place.name, self.number);
        let looked = sightings.of_name(self.place.host, self.place.name);
        if looked.by_none() {
            return vec![EndpointReply {
                state: "unknown".to_owned(),
                reason: NOBODY_ASKED.to_owned(),
                ..self.reply(address, Vec::new(), Vec::new())
            }];
        }
        let mut addresses = looked.addresses();
        let unresolved = looked.unresolved();
        if looked.is_in_turns() {
            let all = SocketAddr::new(self.endpoint.address, self.number);
            let seen = sightings.at(self.place, all).into_iter().chain(unresolved);
            return vec![self.reply(address, addresses.into_iter().collect(), seen.collect())];
        }
        addresses.extend(sightings.addresses_at(self.place, self.number));
        let each = addresses.into_iter().map(|ip| {
            let mut seen = sightings.at(self.place, SocketAddr::new(ip, self.number));
            seen.extend(looked.outdated(ip));
            self.reply(address.clone(), vec![ip], seen)
        });
        let mut replies: Vec<EndpointReply> = each.collect();
        if !unresolved.is_empty() {
            replies.push(self.reply(address.clone(), Vec::new(), unresolved));
        }
        replies
    }

    /// In the worst of the states in which it is seen; where nobody says anything, as it is told.
    fn reply(&self, address: String, resolved: Vec<IpAddr>, seen: Vec<Sighting>) -> EndpointReply {
        let told = told(self.endpoint.health);
        let worst = seen
            .iter()
            .max_by_key(|sighting| (sighting.state, sighting.reply.seconds_left));
        let worst = worst.map(|sighting| sighting.reply.clone()).unwrap_or_default();
        EndpointReply {
            host: self.place.host.to_owned(),
            port: self.place.port,
            address,
            resolved: resolved.iter().map(ToString::to_string).collect(),
            locality: self.endpoint.locality.clone(),
            weight: self.endpoint.weight,
            state: if seen.is_empty() { told.to_owned() } else { worst.state },
            reason: worst.reason,
            seconds_left: worst.seconds_left,
            told: told.to_owned(),
            seen_by: seen.into_iter().map(|sighting| sighting.reply).collect(),
        }
    }
}

fn told(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Draining => "draining",
        Health::Unhealthy => "unhealthy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_meant_by_its_name_or_the_beginning_of_it_in_any_case_and_with_a_port() {
        for wanted in [
            "",
            "user",
            "user.shop",
            "user.shop.svc.cluster.local",
            "user.shop.svc.cluster.local:80",
            "USER.Shop",
            "user.shop.svc.cluster.local.",
            "User:80",
        ] {
            assert!(Wanted::of(wanted).means("user.shop.svc.cluster.local"), "{wanted}");
        }
        for wanted in ["use", "user.sho", "shop", "*", "user:x"] {
            assert!(!Wanted::of(wanted).means("user.shop.svc.cluster.local"), "{wanted}");
        }
        let hosts = || vec!["user.shop", "user-service.shop", "usage.shop"];
        for (wanted, found) in [
            ("user", vec!["user.shop"]),
            ("use", vec!["user.shop", "user-service.shop"]),
            ("USER-", vec!["user-service.shop"]),
            ("shop", vec![]),
            ("", hosts()),
        ] {
            assert_eq!(Wanted::of(wanted).among(hosts()), found, "{wanted}");
        }
        assert_eq!(Wanted::of("user:80").port, Some(80));
        assert_eq!(Wanted::of("user").port, None);
    }
}
