//! `tsunagi endpoints`: where requests can go, as it is told and as the proxies see it.

use clap::Args;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    CliError, ask,
    client::{Call, Client},
    get::Format,
    output::{self, Output},
    table,
};
use crate::api::replies::{EndpointReply, EndpointsReply, SeenReply};

const COLUMNS: [&str; 10] = [
    "HOST",
    "ENDPOINT",
    SUBSET,
    "LOCALITY",
    "WEIGHT",
    "STATE",
    "SEEN BY",
    "REASON",
    "SECONDS LEFT",
    "EJECTIONS",
];
/// Shown where a sidecar sees something: each subset of a host has a state of its own, and so has the whole.
const SUBSET: &str = "SUBSET";
/// Of an endpoint that is all addresses of a name.
const MOST_ADDRESSES: usize = 4;

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The host as it is shown, or the beginning of its name: user-service, user-service.shop, lb.example.com:443. Where a
    /// service is called just `user`, `user` does not mean user-service [default: all]
    host: Option<String>,

    /// How to show it. In YAML and JSON `state` is the worst that is seen, and `seenBy` says who sees what
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let host = options.host.as_deref().unwrap_or_default();
    let path = format!("/v1/endpoints?host={}", utf8_percent_encode(host, NON_ALPHANUMERIC));
    let call = Call::new(Method::GET, path);
    let Some(known) = ask::<EndpointsReply>(call, client, options.output, output).await? else {
        return Ok(());
    };
    if known.endpoints.is_empty() {
        output::complain(
            "there are no endpoints (with resolution NONE there never are: connections go where their client connects to)",
        );
        return Ok(());
    }
    output.line(&shown(&known.endpoints))?;
    if known.omitted > 0 {
        output::complain(&format!("and {} more: name a host", known.omitted));
    }
    Ok(())
}

fn shown(endpoints: &[EndpointReply]) -> String {
    let with_subset = endpoints.iter().any(|endpoint| !endpoint.seen_by.is_empty());
    let of_subset = COLUMNS.iter().position(|column| *column == SUBSET);
    let left_out = of_subset.filter(|_| !with_subset);
    let mut columns = COLUMNS.to_vec();
    let mut rows: Vec<Vec<String>> = endpoints.iter().flat_map(rows).collect();
    if let Some(index) = left_out {
        columns.remove(index);
        rows.iter_mut().for_each(|row| drop(row.remove(index)));
    }
    table::render(&columns, rows)
}

/// One; of an endpoint that proxies see otherwise than it is told, one for each of them.
fn rows(endpoint: &EndpointReply) -> Vec<Vec<String>> {
    let place = format!("{}:{}", endpoint.host, endpoint.port);
    let address = with_resolved(&endpoint.address, &endpoint.resolved);
    let row = |subset: &str, rest: [String; 5]| {
        let start = [place.clone(), address.clone(), subset.to_owned()];
        let told = [endpoint.locality.clone(), endpoint.weight.to_string()];
        start.into_iter().chain(told).chain(rest).collect()
    };
    if endpoint.seen_by.is_empty() {
        let (state, reason) = (endpoint.state.clone(), endpoint.reason.clone());
        return vec![row("", [state, String::new(), reason, String::new(), String::new()])];
    }
    let seen = |seen: &SeenReply| {
        let rest = [
            seen.state.clone(),
            format!("{}/{}", seen.namespace, seen.node_id),
            seen.reason.clone(),
            seen.seconds_left.map(|seconds| seconds.to_string()).unwrap_or_default(),
            seen.ejections.to_string(),
        ];
        row(&seen.subset, rest)
    };
    endpoint.seen_by.iter().map(seen).collect()
}

/// The address of an endpoint and, of a name, what it is resolved to.
pub(super) fn with_resolved(address: &str, resolved: &[String]) -> String {
    if resolved.is_empty() {
        return address.to_owned();
    }
    let more = match resolved.len().saturating_sub(MOST_ADDRESSES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let first = resolved.iter().take(MOST_ADDRESSES).map(String::as_str);
    format!("{address} ({}{more})", first.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> EndpointReply {
        EndpointReply {
            host: "user".to_owned(),
            port: 80,
            address: "10.0.0.1:8080".to_owned(),
            weight: 1,
            state: "healthy".to_owned(),
            ..EndpointReply::default()
        }
    }

    #[test]
    fn an_endpoint_has_a_row_and_one_for_each_proxy_that_sees_it_otherwise() {
        let mut endpoint = endpoint();
        assert_eq!(
            rows(&endpoint),
            [["user:80", "10.0.0.1:8080", "", "", "1", "healthy", "", "", "", ""]]
        );
        let seen = SeenReply {
            node_id: "web-1".to_owned(),
            namespace: "shop".to_owned(),
            subset: "v1".to_owned(),
            state: "ejected".to_owned(),
            reason: "consecutive_5xx".to_owned(),
            seconds_left: Some(12),
            ejections: 2,
        };
        let other = SeenReply {
            state: "probing".to_owned(),
            seconds_left: None,
            ..SeenReply::default()
        };
        endpoint.seen_by = vec![seen, other];
        let rows = rows(&endpoint);
        let expected = ["ejected", "shop/web-1", "consecutive_5xx", "12", "2"];
        assert_eq!(
            (rows[0][2].as_str(), &rows[0][5..]),
            ("v1", &expected.map(String::from)[..])
        );
        assert_eq!((rows[1][5].as_str(), rows[1][8].as_str()), ("probing", ""));
        assert!(shown(&[endpoint.clone()]).contains("10.0.0.1:8080   v1 "));
        endpoint.seen_by.iter_mut().for_each(|seen| seen.subset.clear());
        assert!(shown(&[endpoint.clone()]).contains("SUBSET"), "of the whole host");
        endpoint.seen_by.clear();
        assert!(!shown(&[endpoint]).contains("SUBSET"));
        assert!(rows.iter().all(|row| row.len() == COLUMNS.len()));
    }

    #[test]
    fn an_address_of_a_name_is_shown_under_its_name_and_an_unknown_state_with_its_reason() {
        let named = EndpointReply {
            address: "lb.example.com:443".to_owned(),
            state: "unknown".to_owned(),
            reason: "nobody asked".to_owned(),
            ..endpoint()
        };
        let row = rows(&named).remove(0);
        assert_eq!(
            row[1..],
            ["lb.example.com:443", "", "", "1", "unknown", "", "nobody asked", "", ""]
        );
        let with = |addresses: u8| {
            let resolved: Vec<String> = (1..=addresses).map(|last| format!("10.0.0.{last}")).collect();
            with_resolved("lb:443", &resolved)
        };
        assert_eq!(with(1), "lb:443 (10.0.0.1)");
        assert_eq!(with(9), "lb:443 (10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 5 more)");
    }
}
