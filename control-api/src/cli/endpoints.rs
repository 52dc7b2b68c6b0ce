//! `tsunagi endpoints`: where requests can go, as it is told and as the proxies see it.

use clap::Args;
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    CliError,
    client::{Call, Client},
    get::Format,
    output::{self, Output},
    refusal, table,
};
use crate::api::replies::{EndpointReply, EndpointsReply, SeenReply};

const COLUMNS: [&str; 9] = [
    "HOST",
    "ENDPOINT",
    "LOCALITY",
    "WEIGHT",
    "STATE",
    "SEEN BY",
    "REASON",
    "LEFT",
    "EJECTIONS",
];

#[derive(Args, Debug)]
pub(super) struct Options {
    /// The host, or the beginning of its name: user-service, user-service.shop [default: all]
    host: Option<String>,

    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let host = options.host.as_deref().unwrap_or_default();
    let path = format!("/v1/endpoints?host={}", utf8_percent_encode(host, NON_ALPHANUMERIC));
    let reply = client.call(Call::new(Method::GET, path)).await?;
    if !reply.status.is_success() {
        return Err(refusal(&reply, client));
    }
    let not_understood = |error| CliError::Failed(format!("the control plane's answer is not understood: {error}"));
    if options.output != Format::Table {
        let value = serde_json::from_slice(&reply.body).map_err(not_understood)?;
        return Ok(output.line(&options.output.write(&value)?)?);
    }
    let known: EndpointsReply = serde_json::from_slice(&reply.body).map_err(not_understood)?;
    if known.endpoints.is_empty() {
        output::complain("there are no endpoints");
        return Ok(());
    }
    let rows = known.endpoints.iter().flat_map(rows).collect();
    output.line(&table::render(&COLUMNS, rows))?;
    if known.omitted > 0 {
        output::complain(&format!("and {} more: name a host", known.omitted));
    }
    Ok(())
}

/// One; of an endpoint that proxies see otherwise than it is told, one for each of them.
fn rows(endpoint: &EndpointReply) -> Vec<Vec<String>> {
    let start = [
        format!("{}:{}", endpoint.host, endpoint.port),
        endpoint.address.clone(),
        endpoint.locality.clone(),
        endpoint.weight.to_string(),
    ];
    if endpoint.seen_by.is_empty() {
        let rest = [
            endpoint.state.clone(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
        ];
        return vec![start.into_iter().chain(rest).collect()];
    }
    let row = |seen: &SeenReply| {
        let subset = match seen.subset.as_str() {
            "" => String::new(),
            subset => format!(" (subset {subset})"),
        };
        let left = seen
            .seconds_left
            .map(|seconds| format!("{seconds}s"))
            .unwrap_or_default();
        let rest = [
            seen.state.clone(),
            format!("{}/{}{subset}", seen.namespace, seen.node_id),
            seen.cause.clone(),
            left,
            seen.ejections.to_string(),
        ];
        start.clone().into_iter().chain(rest).collect()
    };
    endpoint.seen_by.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_a_row_and_one_for_each_proxy_that_sees_it_otherwise() {
        let mut endpoint = EndpointReply {
            host: "user".to_owned(),
            port: 80,
            address: "10.0.0.1:8080".to_owned(),
            weight: 1,
            state: "healthy".to_owned(),
            ..EndpointReply::default()
        };
        assert_eq!(
            rows(&endpoint),
            [["user:80", "10.0.0.1:8080", "", "1", "healthy", "", "", "", ""]]
        );
        let seen = SeenReply {
            node_id: "web-1".to_owned(),
            namespace: "shop".to_owned(),
            subset: "v1".to_owned(),
            state: "ejected".to_owned(),
            cause: "consecutive_5xx".to_owned(),
            seconds_left: Some(12.0),
            ejections: 2,
        };
        let other = SeenReply {
            state: "warming up".to_owned(),
            seconds_left: None,
            ..SeenReply::default()
        };
        endpoint.seen_by = vec![seen, other];
        let rows = rows(&endpoint);
        let expected = ["ejected", "shop/web-1 (subset v1)", "consecutive_5xx", "12s", "2"];
        assert_eq!(rows[0][4..], expected);
        assert_eq!((rows[1][4].as_str(), rows[1][7].as_str()), ("warming up", ""));
        assert!(rows.iter().all(|row| row.len() == COLUMNS.len()));
    }
}
