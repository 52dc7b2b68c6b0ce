//! `tsunagi apply`: all files are one transaction. With `--wait` it says which proxies have it in force.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use hyper::Method;

use super::{
    CliError,
    client::{Call, Client},
    files,
    output::{self, Output},
    refusal, resource_word,
};
use crate::api::replies::{AcknowledgementReply, TransactionReply};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// A file, a directory (its *.yaml, *.yml and *.json, not its subdirectories) or - for stdin; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,

    /// The namespace of documents that name none
    #[arg(short, long, env = "TSUNAGI_NAMESPACE", default_value = "default")]
    namespace: String,

    /// Check everything and say what would change, without changing it
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,

    /// Refuse what would be warned of: a warning that this newly causes is exit code 1, and nothing is stored
    #[arg(long)]
    strict: bool,

    /// Return once every connected proxy that uses the change has acknowledged it; fail when one refuses it or does not
    /// answer in time (a duration such as 500ms or 1m, at most 1h; 10s when none is given). In the first 5 s after a
    /// restart of the control plane it first gives the proxies time to return
    #[arg(long, value_name = "LIMIT", num_args = 0..=1, require_equals = true, default_missing_value = "10s",
          value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let files = files::read(&options.files)?;
    let mut call = Call::new(Method::POST, path(options));
    call.wait = options.wait.unwrap_or_default();
    files::attach(&mut call, &files)?;
    let reply = client.call(call).await?;
    if !reply.status.is_success() {
        let refused = refusal(&reply, client);
        if options.strict && matches!(refused, CliError::Told) {
            output::complain("tsunagi: nothing was changed");
        }
        return Err(refused);
    }
    let transaction: TransactionReply = serde_json::from_slice(&reply.body)
        .map_err(|error| CliError::Failed(format!("the control plane's answer is not understood: {error}")))?;
    output::warn(&transaction.warnings);
    print_changes(&transaction, output)?;
    match (&transaction.acknowledgements, options.wait) {
        (Some(answers), Some(limit)) => print_answers(&transaction, answers, limit, output),
        (None, Some(_)) => Err(CliError::Failed(
            "the control plane did not say who has acknowledged the change".to_owned(),
        )),
        (_, None) => Ok(()),
    }
}

fn path(options: &Options) -> String {
    let namespace = percent_encoding::utf8_percent_encode(&options.namespace, percent_encoding::NON_ALPHANUMERIC);
    let mut path = format!("/v1/transactions?namespace={namespace}");
    if options.dry_run {
        path.push_str("&dryRun=true");
    }
    if options.strict {
        path.push_str("&strict=true");
    }
    if let Some(limit) = options.wait {
        path.push_str(&format!("&wait={}ms", limit.as_millis()));
    }
    path
}

/// `virtualservice.networking.istio.io/user-service configured`, as kubectl prints it.
fn print_changes(transaction: &TransactionReply, output: &mut Output) -> Result<(), CliError> {
    let suffix = if transaction.dry_run { " (dry run)" } else { "" };
    for change in &transaction.changes {
        let resource = resource_word(&change.kind);
        output.line(&format!("{resource}/{} {}{suffix}", change.name, change.operation))?;
    }
    Ok(output.flush()?)
}

fn print_answers(
    transaction: &TransactionReply,
    answers: &[AcknowledgementReply],
    limit: Duration,
    output: &mut Output,
) -> Result<(), CliError> {
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.state == "acknowledged");
    output.line(&summary(good.len(), answers.len(), transaction))?;
    output.flush()?;
    for answer in &bad {
        let proxy = format!("{}/{}", answer.namespace, answer.node_id);
        let limit = humantime::format_duration(limit);
        output::complain(&match answer.state.as_str() {
            "refused" => format!("proxy {proxy} refused it: {}", answer.reason),
            _ => format!("proxy {proxy} did not answer within {limit}: {}", answer.reason),
        });
    }
    if bad.is_empty() { Ok(()) } else { Err(CliError::Told) }
}

/// An older control plane does not say how many proxies are connected, nor what they use.
fn summary(good: usize, all: usize, transaction: &TransactionReply) -> String {
    match (good, all) {
        (_, 0) if transaction.connected_proxies == Some(0) => "no proxy is connected".to_owned(),
        (_, 0) if transaction.hosts_unused == Some(true) => {
            "no connected proxy uses these hosts yet: each is told at its first request".to_owned()
        }
        (_, 0) => "nothing changes for any connected proxy".to_owned(),
        (1, 1) => "acknowledged by the 1 proxy that uses it".to_owned(),
        (good, all) if good == all => format!("acknowledged by all {all} proxies that use it"),
        (good, all) => format!("acknowledged by {good} of {all} proxies that use it; it stays applied"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_carries_what_was_asked_for() {
        let mut options = Options {
            files: Vec::new(),
            namespace: "a&b".to_owned(),
            dry_run: true,
            strict: false,
            wait: None,
        };
        assert_eq!(path(&options), "/v1/transactions?namespace=a%26b&dryRun=true");
        options.dry_run = false;
        options.wait = Some(Duration::from_millis(1_500));
        options.strict = true;
        assert_eq!(
            path(&options),
            "/v1/transactions?namespace=a%26b&strict=true&wait=1500ms"
        );
    }

    #[test]
    fn a_summary_says_how_many_of_how_many() {
        let wait = |connected_proxies, hosts_unused| TransactionReply {
            connected_proxies,
            hosts_unused,
            ..TransactionReply::default()
        };
        assert_eq!(summary(0, 0, &wait(Some(0), Some(true))), "no proxy is connected");
        for nothing in [wait(Some(2), Some(false)), wait(None, None)] {
            assert_eq!(summary(0, 0, &nothing), "nothing changes for any connected proxy");
        }
        let unused = wait(Some(2), Some(true));
        let expected = "no connected proxy uses these hosts yet: each is told at its first request";
        assert_eq!(summary(0, 0, &unused), expected);
        let used = wait(Some(4), Some(false));
        assert_eq!(summary(3, 3, &used), "acknowledged by all 3 proxies that use it");
        assert!(summary(2, 3, &used).starts_with("acknowledged by 2 of 3"));
    }
}
