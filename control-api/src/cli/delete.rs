//! `tsunagi delete`: by kind and names, or what files name; everything in one transaction.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use super::{
    CliError,
    client::{Call, Client},
    files,
    output::{self, Output},
    parse_kind, refusal, resource_word,
};
use crate::{
    api::{failure::StatusObject, replies::TransactionReply},
    config::Kind,
};

#[derive(Args, Debug)]
pub(super) struct Options {
    /// virtualservice, destinationrule, serviceentry, workloadentry, sidecar or service, also plural or short (vs, dr, se, we, svc)
    #[arg(value_parser = parse_kind, required_unless_present = "files", requires = "names")]
    kind: Option<Kind>,

    /// What to delete
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Delete what a file, a directory or - (stdin) names; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE|DIR|-", conflicts_with_all = ["kind", "names"])]
    files: Vec<PathBuf>,

    /// The namespace; with -f that of documents that name none
    #[arg(short, long, env = "TSUNAGI_NAMESPACE", default_value = "default")]
    namespace: String,

    /// What is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
}

pub(super) async fn run(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    match options.kind {
        Some(kind) => delete_named(kind, options, client, output).await,
        None => delete_files(options, client, output).await,
    }
}

async fn delete_named(kind: Kind, options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let mut missing = false;
    for name in &options.names {
        let path = super::get::path(kind, Some(&options.namespace), Some(name));
        let reply = client.call(Call::new(Method::DELETE, path)).await?;
        if reply.status.is_success() {
            let status: StatusObject = serde_json::from_slice(&reply.body).unwrap_or_default();
            output::warn(&status.warnings);
            output.line(&format!("{} {name:?} deleted", resource_word(kind.as_str())))?;
            continue;
        }
        let status: StatusObject = serde_json::from_slice(&reply.body).unwrap_or_default();
        if status.code != 404 || status.details.is_none() {
            return Err(refusal(&reply, client));
        }
        if !options.ignore_not_found {
            missing = true;
            output::complain(&format!(
                "tsunagi: error from server ({}): {}",
                status.reason, status.message
            ));
        }
    }
    output.flush()?;
    if missing { Err(CliError::Told) } else { Ok(()) }
}

async fn delete_files(options: &Options, client: &Client, output: &mut Output) -> Result<(), CliError> {
    let namespace = percent_encoding::utf8_percent_encode(&options.namespace, percent_encoding::NON_ALPHANUMERIC);
    let path = format!("/v1/transactions?operation=delete&namespace={namespace}");
    let mut call = Call::new(Method::POST, path);
    files::attach(&mut call, &files::read(&options.files)?)?;
    let reply = client.call(call).await?;
    if !reply.status.is_success() {
        return Err(refusal(&reply, client));
    }
    let transaction: TransactionReply = serde_json::from_slice(&reply.body)
        .map_err(|error| CliError::Failed(format!("the control plane's answer is not understood: {error}")))?;
    output::warn(&transaction.warnings);
    let mut missing = false;
    for change in &transaction.changes {
        let resource = resource_word(&change.kind);
        if change.operation == "deleted" {
            output.line(&format!("{resource} {:?} deleted", change.name))?;
        } else if !options.ignore_not_found {
            missing = true;
            output::complain(&format!("tsunagi: {resource} {:?} not found", change.name));
        }
    }
    output.flush()?;
    if missing { Err(CliError::Told) } else { Ok(()) }
}
