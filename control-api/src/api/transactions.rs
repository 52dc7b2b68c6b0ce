//! `POST /v1/transactions`: many documents, all or nothing. `operation=delete` deletes what the documents name; `strict`
//! refuses what it would warn of; `wait` waits for the proxies that use what was changed.

use std::collections::HashSet;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use super::{
    Api, documents,
    failure::Failure,
    replies::{AcknowledgementReply, TransactionReply},
    request::{Format, Query},
};
use crate::{
    config::{self, Document},
    ingest::{Applied, Removal},
};

const PARAMETERS: [&str; 5] = ["dryRun", "strict", "wait", "namespace", "operation"];
const DEFAULT_NAMESPACE: &str = "default";

pub(super) async fn transact(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    let query = Query::of(request.uri(), &PARAMETERS)?;
    let (mode, wait) = (query.mode()?, query.wait()?);
    if mode.dry_run && wait.is_some() {
        return Err(Failure::bad_request(
            "dryRun changes nothing that could be waited for: leave wait out",
        ));
    }
    let delete = match query.text("operation") {
        None | Some("apply") => false,
        Some("delete") => true,
        Some(other) => {
            return Err(Failure::bad_request(format!(
                "operation must be apply or delete, not {other:?}"
            )));
        }
    };
    let namespace = query
        .text("namespace")
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT_NAMESPACE);
    config::check_namespace(namespace).map_err(Failure::bad_request)?;
    let format = Format::wanted(request.headers());
    let documents = documents::read(request, namespace).await?;
    let applied = if delete {
        api.ingest.delete(removals(documents), mode).await?
    } else {
        api.ingest.apply(documents, mode).await?
    };
    let mut reply = TransactionReply::new(&applied, mode.dry_run);
    if let Some(limit) = wait {
        let answers = api.status.wait(applied.last_change(), limit).await;
        reply.hosts_unused = Some(answers.is_empty() && are_unused(&api, &applied));
        reply.acknowledgements = Some(answers.into_iter().map(AcknowledgementReply::from).collect());
        reply.connected_proxies = Some(api.status.count());
    }
    Ok(format.reply(StatusCode::OK, &reply))
}

/// Has none of the connected proxies asked for a host in which one of these documents has a part?
fn are_unused(api: &Api, applied: &Applied) -> bool {
    let world = api.ingest.held().world;
    let documents = applied.changes.iter().filter_map(|change| change.document.as_ref());
    let hosts: HashSet<String> = documents.flat_map(|document| world.concerns(document)).collect();
    let proxies = api.status.uses();
    let mut used = proxies.iter().flat_map(|(_, progress)| progress.hosts.iter());
    !hosts.is_empty() && !used.any(|host| hosts.contains(&**host))
}

/// A document that says which version it was made from is not deleted in another one.
fn removals(documents: Vec<Document>) -> Vec<Removal> {
    let removal = |document: Document| Removal {
        key: document.key,
        expected: document.object,
        origin: document.origin,
    };
    documents.into_iter().map(removal).collect()
}
