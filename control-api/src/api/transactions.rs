//! `POST /v1/transactions`: many documents, all or nothing. `operation=delete` deletes what the documents name; `strict`
//! refuses what it would warn of; `wait` waits for the proxies that use what was changed.

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
    ingest::Removal,
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
        reply.acknowledgements = Some(answers.into_iter().map(AcknowledgementReply::from).collect());
        reply.connected_proxies = Some(api.status.count());
    }
    Ok(format.reply(StatusCode::OK, &reply))
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
