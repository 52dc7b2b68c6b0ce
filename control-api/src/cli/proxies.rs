//! `tsunagi proxies`: who is connected, and how far each proxy is.

use clap::Args;
use hyper::Method;

use super::{
    CliError, ask,
    client::{Call, Client},
    get::Format,
    output::{self, Output},
    table,
};
use crate::api::replies::{ProxiesReply, ProxyReply};

const COLUMNS: [&str; 7] = [
    "NAME",
    "NAMESPACE",
    "STATE",
    "ACKNOWLEDGED",
    "LAG",
    "SUBSCRIPTIONS",
    "LAST REFUSAL",
];

#[derive(Args, Debug)]
pub(super) struct Options {
    /// How to show it
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let call = Call::new(Method::GET, "/v1/proxies".to_owned());
    let Some(known) = ask::<ProxiesReply>(call, client, options.output, output).await? else {
        return Ok(());
    };
    if known.proxies.is_empty() {
        output::complain("no proxy is connected");
        return Ok(());
    }
    Ok(output.line(&table::render(&COLUMNS, known.proxies.into_iter().map(row).collect()))?)
}

fn row(proxy: ProxyReply) -> Vec<String> {
    vec![
        proxy.node_id,
        proxy.namespace,
        proxy.state,
        proxy.revision_acknowledged.to_string(),
        proxy.lag.to_string(),
        proxy.subscriptions.to_string(),
        proxy.last_refusal,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let cells = row(ProxyReply {
            node_id: "web".to_owned(),
            lag: 2,
            state: "leaving".to_owned(),
            ..ProxyReply::default()
        });
        assert_eq!(cells, ["web", "", "leaving", "0", "2", "0", ""]);
        assert_eq!(cells.len(), COLUMNS.len());
    }
}
