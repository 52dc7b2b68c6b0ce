//! The `EndpointHealth` service of `config.proto`: proxies say which endpoints they do not send what they would, and what DNS
//! says to them. Whoever reaches the port may say anything: what is kept is bounded, and made of known words and of names.
//! Whether there is such an endpoint, `sightings` looks up when somebody asks.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tonic::{Request, Response, Status};
use tsunagi_proto::wire::mesh::{
    self, EjectionCause,
    endpoint_health_server::{EndpointHealth, EndpointHealthServer},
};

use super::Api;
use crate::status::{HealthReport, Identity, SeenEndpoint, SeenName, SeenState};

/// As many endpoints and names as there may be, with long names.
const LARGEST_REPORT_BYTES: usize = 2 << 20;
const MOST_ENDPOINTS: usize = 1_000;
const MOST_NAMES: usize = 500;
const MOST_ADDRESSES: usize = 32;
/// Of a name of DNS.
const LONGEST_NAME: usize = 253;
/// Why a lookup failed, in characters.
const LONGEST_REASON: usize = 200;
/// No ejection lasts longer; keeps sums of times far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

pub fn service(api: Api) -> EndpointHealthServer<impl EndpointHealth> {
    EndpointHealthServer::new(Service(api)).max_decoding_message_size(LARGEST_REPORT_BYTES)
}

struct Service(Api);

#[tonic::async_trait]
impl EndpointHealth for Service {
    async fn report(&self, request: Request<mesh::HealthReport>) -> Result<Response<mesh::HealthReply>, Status> {
        let mut report = request.into_inner();
        let identity = Identity {
            namespace: std::mem::take(&mut report.namespace),
            node_id: std::mem::take(&mut report.node_id),
        };
        if !self.0.status.report_health(&identity, checked(report)?) {
            return Err(Status::not_found("this proxy has no discovery stream here"));
        }
        Ok(Response::new(mesh::HealthReply {}))
    }
}

fn checked(report: mesh::HealthReport) -> Result<HealthReport, Status> {
    let most = |what: &str, count, most| {
        let refusal = || Status::invalid_argument(format!("{what}: at most {most} in one report"));
        if count > most { Err(refusal()) } else { Ok(()) }
    };
    most("endpoints", report.endpoints.len(), MOST_ENDPOINTS)?;
    most("names", report.names.len(), MOST_NAMES)?;
    let endpoints = report.endpoints.into_iter().map(endpoint);
    let mut endpoints: Vec<SeenEndpoint> = endpoints.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let mut names = report.names.into_iter().map(name).collect::<Result<Vec<_>, _>>()?;
    // Of what is there twice the first counts.
    let mut places = HashSet::new();
    endpoints.retain(|one| places.insert(place(one)));
    let mut known = HashSet::new();
    names.retain(|one| known.insert((one.host.clone(), one.name.clone())));
    Ok(HealthReport::new(endpoints, names, report.omitted))
}

fn place(one: &SeenEndpoint) -> impl Eq + Hash + use<> {
    let texts = [&one.host, &one.subset, &one.hostname].map(String::clone);
    (texts, one.port, one.address)
}

/// `None`: it is in a state of which only newer proxies know.
fn endpoint(wire: mesh::SeenEndpoint) -> Result<Option<SeenEndpoint>, Status> {
    let wrong = |what: &str| Status::invalid_argument(format!("endpoints.{what}"));
    for (field, text) in [
        ("host", &wire.host),
        ("subset", &wire.subset),
        ("hostname", &wire.hostname),
    ] {
        if !is_name(text) {
            return Err(wrong(&format!("{field}: is not a name")));
        }
    }
    let state = match wire.state() {
        mesh::SeenState::Unspecified => return Ok(None),
        mesh::SeenState::Ejected => SeenState::Ejected,
        mesh::SeenState::AwaitingProbe => SeenState::AwaitingProbe,
        mesh::SeenState::Probing => SeenState::Probing,
        mesh::SeenState::Failing => SeenState::Failing,
    };
    let cause = cause(wire.cause());
    let left = wire.left.map(Duration::try_from).transpose();
    let left = left.map_err(|_| wrong("left: must not be negative"))?;
    let address: SocketAddr = wire
        .address
        .parse()
        .map_err(|_| wrong("address: is not address:port"))?;
    Ok(Some(SeenEndpoint {
        port: u16::try_from(wire.port).map_err(|_| wrong("port: is not a port"))?,
        host: wire.host,
        subset: wire.subset,
        hostname: wire.hostname,
        address,
        state,
        cause,
        left: left.map(|left| left.min(LONGEST)),
        ejections: wire.ejections,
        in_panic: wire.in_panic,
    }))
}

/// As in metrics.
fn cause(cause: EjectionCause) -> &'static str {
    match cause {
        EjectionCause::Unspecified => "",
        EjectionCause::Consecutive5xx => "consecutive_5xx",
        EjectionCause::ConsecutiveGatewayErrors => "consecutive_gateway_errors",
        EjectionCause::ConsecutiveLocalOrigin => "consecutive_local_origin",
        EjectionCause::FailedProbe => "failed_probe",
    }
}

fn name(wire: mesh::SeenName) -> Result<SeenName, Status> {
    let wrong = |what: &str| Status::invalid_argument(format!("names.{what}"));
    if !is_name(&wire.host) || !is_name(&wire.name) {
        return Err(wrong("name: is not a name"));
    }
    if wire.addresses.len() > MOST_ADDRESSES {
        return Err(wrong(&format!("addresses: at most {MOST_ADDRESSES} of one name")));
    }
    let addresses: Result<Vec<IpAddr>, _> = wire.addresses.iter().map(|text| text.parse()).collect();
    let shown = wire.failure.chars().filter(|character| !character.is_control());
    Ok(SeenName {
        addresses: addresses.map_err(|_| wrong("addresses: is not an address"))?,
        failure: shown.take(LONGEST_REASON).collect(),
        host: wire.host,
        name: wire.name,
        in_turns: wire.in_turns,
    })
}

/// Of a host, of a subset or of an endpoint; what is not named is empty.
fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ejected() -> mesh::SeenEndpoint {
        mesh::SeenEndpoint {
            host: "user".to_owned(),
            port: 80,
            address: "10.0.0.1:8080".to_owned(),
            state: mesh::SeenState::Ejected.into(),
            cause: EjectionCause::FailedProbe.into(),
            ..mesh::SeenEndpoint::default()
        }
    }

    fn resolved() -> mesh::SeenName {
        mesh::SeenName {
            host: "db".to_owned(),
            name: "db.example.com".to_owned(),
            addresses: vec!["10.0.0.1".to_owned()],
            ..mesh::SeenName::default()
        }
    }

    fn report(endpoints: Vec<mesh::SeenEndpoint>, names: Vec<mesh::SeenName>) -> Result<HealthReport, String> {
        let report = mesh::HealthReport {
            endpoints,
            names,
            ..mesh::HealthReport::default()
        };
        checked(report).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn a_report_is_made_of_known_words_and_of_names() {
        let failing = mesh::SeenName {
            addresses: Vec::new(),
            failure: format!("no \u{1b}[31manswer{}", "!".repeat(9_000)),
            ..resolved()
        };
        let kept = report(vec![ejected()], vec![failing]).expect("a good report");
        let seen = &kept.endpoints[0];
        assert_eq!((seen.state, seen.cause), (SeenState::Ejected, "failed_probe"));
        let failure = &kept.names[0].failure;
        assert!(
            failure.starts_with("no [31manswer!") && failure.len() == LONGEST_REASON,
            "{failure}"
        );
        // Newer proxies know more words.
        let newer = |state, cause| mesh::SeenEndpoint {
            state,
            cause,
            ..ejected()
        };
        let kept = report(vec![newer(99, 0)], Vec::new()).expect("a good report");
        assert!(kept.endpoints.is_empty());
        let kept = report(vec![newer(1, 99)], Vec::new()).expect("a good report");
        assert_eq!(kept.endpoints[0].cause, "");
    }

    #[test]
    fn what_is_no_name_or_no_address_or_too_much_is_refused() {
        type Change = fn(&mut mesh::SeenEndpoint);
        let changes: [(&str, Change); 8] = [
            ("host", |one| one.host = "a\u{1b}[2J".to_owned()),
            ("host", |one| one.host = "a".repeat(300)),
            ("host", |one| one.host = "a b".to_owned()),
            ("subset", |one| one.subset = "\n".to_owned()),
            ("hostname", |one| one.hostname = "\u{202e}".to_owned()),
            ("address", |one| one.address = "evil".to_owned()),
            ("port", |one| one.port = 70_000),
            ("left", |one| {
                one.left = Some(prost_types::Duration { seconds: -1, nanos: 0 })
            }),
        ];
        for (field, change) in changes {
            let mut endpoint = ejected();
            change(&mut endpoint);
            let refused = report(vec![endpoint], Vec::new()).expect_err(field);
            assert!(refused.starts_with(&format!("endpoints.{field}: ")), "{refused}");
        }
        for (field, wrong) in [
            (
                "name",
                mesh::SeenName {
                    name: "a\tb".to_owned(),
                    ..resolved()
                },
            ),
            (
                "addresses",
                mesh::SeenName {
                    addresses: vec!["x".to_owned()],
                    ..resolved()
                },
            ),
            (
                "addresses",
                mesh::SeenName {
                    addresses: vec!["10.0.0.1".to_owned(); 33],
                    ..resolved()
                },
            ),
        ] {
            let refused = report(Vec::new(), vec![wrong]).expect_err(field);
            assert!(refused.starts_with(&format!("names.{field}: ")), "{refused}");
        }
        assert!(report(vec![ejected(); 1_001], Vec::new()).is_err());
        assert!(report(Vec::new(), vec![resolved(); 501]).is_err());
    }
    #[test]
    fn what_is_there_twice_counts_once() {
        let other = mesh::SeenEndpoint {
            subset: "v2".to_owned(),
            ..ejected()
        };
        let again = mesh::SeenEndpoint {
            ejections: 7,
            ..ejected()
        };
        let kept = report(vec![ejected(), again, other], vec![resolved(), resolved()]).expect("a good report");
        let seen: Vec<_> = kept
            .endpoints
            .iter()
            .map(|one| (one.subset.as_str(), one.ejections))
            .collect();
        assert_eq!((seen, kept.names.len()), (vec![("", 0), ("v2", 0)], 1));
    }
}
