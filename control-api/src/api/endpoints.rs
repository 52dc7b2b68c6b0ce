//! `GET /v1/endpoints`: every endpoint of the hosts that are asked for, as it is told and as the connected proxies see it.

use std::collections::BTreeMap;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use tsunagi_proto::model::Health;

use super::{
    Api,
    failure::Failure,
    replies::{EndpointReply, EndpointsReply, SeenReply},
    request::{Format, Query},
};
use crate::snapshot::World;
use crate::status::{HealthReport, Identity, SeenEndpoint};

/// In one answer.
const MOST_ENDPOINTS: usize = 10_000;

/// Host, port and address.
type Place = (String, u16, String);

pub(super) async fn list(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    let query = Query::of(request.uri(), &["host"])?;
    let format = Format::wanted(request.headers());
    let wanted = query.text("host").unwrap_or_default().to_owned();
    let world = api.ingest.held().world;
    let hosts: Vec<String> = world
        .host_names()
        .into_iter()
        .filter(|fqdn| is_meant(fqdn, &wanted))
        .collect();
    if hosts.is_empty() && !wanted.is_empty() {
        return Err(Failure::not_found(format!("no service is called {wanted}")));
    }
    let mut seen = seen(&api.status.health(), &wanted);
    let mut reply = EndpointsReply {
        revision: world.revision(),
        endpoints: Vec::new(),
        omitted: 0,
    };
    for fqdn in &hosts {
        reply.endpoints.extend(told(&world, fqdn, &mut seen));
    }
    // Addresses of which only the proxies know, as those that a name resolves to.
    for ((host, port, address), seen_by) in seen {
        reply.endpoints.push(EndpointReply {
            host,
            port,
            address,
            seen_by,
            ..EndpointReply::default()
        });
    }
    reply.omitted = reply.endpoints.len().saturating_sub(MOST_ENDPOINTS);
    reply.endpoints.truncate(MOST_ENDPOINTS);
    Ok(format.reply(StatusCode::OK, &reply))
}

/// Its FQDN, or the beginning of it up to a dot; an empty name means all.
fn is_meant(fqdn: &str, wanted: &str) -> bool {
    let rest = fqdn.strip_prefix(wanted);
    wanted.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn seen(reports: &[(Identity, HealthReport)], wanted: &str) -> BTreeMap<Place, Vec<SeenReply>> {
    let mut seen: BTreeMap<Place, Vec<SeenReply>> = BTreeMap::new();
    for (identity, report) in reports {
        for endpoint in report.endpoints.iter().filter(|one| is_meant(&one.host, wanted)) {
            let place = (endpoint.host.clone(), endpoint.port, endpoint.address.clone());
            seen.entry(place).or_default().push(by(identity, report, endpoint));
        }
    }
    seen
}

fn by(identity: &Identity, report: &HealthReport, endpoint: &SeenEndpoint) -> SeenReply {
    SeenReply {
        node_id: identity.node_id.clone(),
        namespace: identity.namespace.clone(),
        subset: endpoint.subset.clone(),
        state: endpoint.state.clone(),
        cause: endpoint.cause.clone(),
        seconds_left: report.left(endpoint).map(|left| left.as_secs_f64().ceil()),
        ejections: endpoint.ejections,
    }
}

fn told(world: &World, fqdn: &str, seen: &mut BTreeMap<Place, Vec<SeenReply>>) -> Vec<EndpointReply> {
    let set = world.endpoints(fqdn).and_then(|encoded| encoded.endpoints());
    let mut replies = Vec::new();
    for endpoint in set.iter().flat_map(|set| set.iter()) {
        for (port, number) in &endpoint.ports {
            let address = match &endpoint.hostname {
                Some(name) => format!("{name}:{number}"),
                None => std::net::SocketAddr::new(endpoint.address, *number).to_string(),
            };
            let place = (fqdn.to_owned(), *port, address);
            let seen_by = seen.remove(&place).unwrap_or_default();
            let (host, port, address) = place;
            replies.push(EndpointReply {
                host,
                port,
                address,
                locality: endpoint.locality.clone(),
                weight: endpoint.weight,
                state: state(endpoint.health).to_owned(),
                seen_by,
            });
        }
    }
    replies.sort_by(|one, other| (one.port, &one.address).cmp(&(other.port, &other.address)));
    replies
}

fn state(health: Health) -> &'static str {
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
    fn a_host_is_meant_by_its_name_or_the_beginning_of_it() {
        for wanted in ["", "user", "user.shop", "user.shop.svc.cluster.local"] {
            assert!(is_meant("user.shop.svc.cluster.local", wanted), "{wanted}");
        }
        for wanted in ["use", "user.sho", "shop", "*"] {
            assert!(!is_meant("user.shop.svc.cluster.local", wanted), "{wanted}");
        }
    }
}
