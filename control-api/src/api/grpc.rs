//! The `Config` service of `config.proto`: the HTTP API's operations over gRPC. A problem is INVALID_ARGUMENT with the
//! lines that `tsunagi apply` would print; a stale version is ABORTED.

use std::time::Duration;

use tonic::{Request, Response, Status};
use tsunagi_proto::wire::mesh::{
    self,
    config_server::{Config, ConfigServer},
};

use super::{
    Api, BODY_LIMIT_BYTES, documents,
    replies::{AcknowledgementReply, ChangeReply, ProxyReply},
    request::WAIT_LIMIT,
};
use crate::{
    config::{self, Key, Kind},
    error,
    ingest::{Operation, Refused},
    telemetry,
};

/// A status message travels in a header, and clients limit those.
const MESSAGE_LIMIT_BYTES: usize = 4 * 1024;

pub fn service(api: Api) -> ConfigServer<impl Config> {
    ConfigServer::new(Service(api)).max_decoding_message_size(BODY_LIMIT_BYTES)
}

struct Service(Api);

#[tonic::async_trait]
impl Config for Service {
    async fn apply(&self, request: Request<mesh::ApplyRequest>) -> Result<Response<mesh::ApplyReply>, Status> {
        let request = request.into_inner();
        if request.dry_run && request.wait_milliseconds > 0 {
            return Err(Status::invalid_argument(
                "dry_run changes nothing that could be waited for",
            ));
        }
        let limit = Duration::from_millis(request.wait_milliseconds.into());
        if limit > WAIT_LIMIT {
            return Err(Status::invalid_argument(format!(
                "wait_milliseconds must be at most {}",
                WAIT_LIMIT.as_millis()
            )));
        }
        let (text, namespace) = (request.documents, or_default(&request.namespace).to_owned());
        config::check_namespace(&namespace).map_err(Status::invalid_argument)?;
        let room = documents::room_for(&text).await;
        let parsed = tokio::task::spawn_blocking(move || {
            let _room = room;
            documents::parse_all(&text, &namespace)
        })
        .await;
        let documents = parsed
            .map_err(|_| Status::internal("the documents could not be read; the log says why"))?
            .inspect_err(|_| telemetry::record_unparsable_transaction())
            .map_err(|problems| status(Refused::Invalid(problems)))?;
        let applied = self.0.ingest.apply(documents, request.dry_run).await.map_err(status)?;
        let mut acknowledgements = Vec::new();
        if !limit.is_zero() {
            acknowledgements = self.0.status.wait(applied.last_change(), limit).await;
        }
        Ok(Response::new(mesh::ApplyReply {
            revision: applied.revision,
            changes: applied
                .changes
                .iter()
                .map(|change| wire_change(ChangeReply::from(change)))
                .collect(),
            warnings: applied.warnings,
            acknowledgements: acknowledgements
                .into_iter()
                .map(|one| wire_answer(one.into()))
                .collect(),
        }))
    }

    async fn get(&self, request: Request<mesh::GetRequest>) -> Result<Response<mesh::GetReply>, Status> {
        let mesh::GetRequest { kind, namespace, name } = request.into_inner();
        let key = key(&kind, &namespace, name)?;
        let held = self.0.ingest.held();
        let document = held.documents.get(&key).ok_or_else(|| no_such(&key))?;
        Ok(Response::new(mesh::GetReply {
            json: document.object.to_string(),
        }))
    }

    async fn list(&self, request: Request<mesh::ListRequest>) -> Result<Response<mesh::ListReply>, Status> {
        let mesh::ListRequest { kind, namespace } = request.into_inner();
        let kind = parse_kind(&kind)?;
        if !namespace.is_empty() {
            config::check_namespace(&namespace).map_err(Status::invalid_argument)?;
        }
        let held = self.0.ingest.held();
        let wanted = |key: &Key| key.kind == kind && (namespace.is_empty() || key.namespace == namespace);
        let documents = held.documents.iter().filter(|(key, _)| wanted(key));
        let json = documents.map(|(_, document)| document.object.to_string()).collect();
        Ok(Response::new(mesh::ListReply { json }))
    }

    async fn delete(&self, request: Request<mesh::DeleteRequest>) -> Result<Response<mesh::DeleteReply>, Status> {
        let mesh::DeleteRequest { kind, namespace, name } = request.into_inner();
        let key = key(&kind, &namespace, name)?;
        let applied = self.0.ingest.delete(vec![key.clone()], false).await.map_err(status)?;
        if applied
            .changes
            .iter()
            .any(|change| change.operation == Operation::NotFound)
        {
            return Err(no_such(&key));
        }
        Ok(Response::new(mesh::DeleteReply {
            revision: applied.revision,
        }))
    }

    async fn list_proxies(
        &self,
        _: Request<mesh::ListProxiesRequest>,
    ) -> Result<Response<mesh::ListProxiesReply>, Status> {
        let proxies = self
            .0
            .status
            .proxies()
            .into_iter()
            .map(|proxy| wire_proxy(proxy.into()))
            .collect();
        Ok(Response::new(mesh::ListProxiesReply { proxies }))
    }
}

fn or_default(namespace: &str) -> &str {
    if namespace.is_empty() { "default" } else { namespace }
}

fn parse_kind(kind: &str) -> Result<Kind, Status> {
    Kind::parse(kind).ok_or_else(|| Status::invalid_argument(format!("{kind:?} is not a kind that is supported")))
}

fn key(kind: &str, namespace: &str, name: String) -> Result<Key, Status> {
    let key = Key {
        kind: parse_kind(kind)?,
        namespace: or_default(namespace).to_owned(),
        name,
    };
    key.check().map_err(Status::invalid_argument)?;
    Ok(key)
}

fn no_such(key: &Key) -> Status {
    Status::not_found(format!("{key} not found"))
}

fn status(refused: Refused) -> Status {
    let message = shortened(error::sentence(&refused));
    match refused {
        Refused::Invalid(_) | Refused::Warned(_) => Status::invalid_argument(message),
        Refused::Conflict { .. } => Status::aborted(message),
        Refused::Elsewhere => Status::failed_precondition(message),
        Refused::Store(_) | Refused::Failed => Status::internal(message),
        Refused::Stopped => Status::unavailable(message),
    }
}

/// Whole lines up to the limit, and how many are left out.
fn shortened(message: String) -> String {
    if message.len() <= MESSAGE_LIMIT_BYTES {
        return message;
    }
    let mut kept = String::new();
    for (index, line) in message.lines().enumerate() {
        if kept.len() + line.len() > MESSAGE_LIMIT_BYTES && index > 0 {
            let left = message.lines().count() - index;
            kept.push_str(&format!("and {left} more problems"));
            return kept;
        }
        kept.extend(line.chars().take(MESSAGE_LIMIT_BYTES / 4));
        kept.push('\n');
    }
    kept
}

fn wire_change(change: ChangeReply) -> mesh::Change {
    let ChangeReply {
        kind,
        namespace,
        name,
        operation,
    } = change;
    mesh::Change {
        kind,
        namespace,
        name,
        operation,
    }
}

fn wire_answer(answer: AcknowledgementReply) -> mesh::Acknowledgement {
    let AcknowledgementReply {
        node_id,
        namespace,
        state,
        reason,
    } = answer;
    mesh::Acknowledgement {
        node_id,
        namespace,
        state,
        reason,
    }
}

fn wire_proxy(proxy: ProxyReply) -> mesh::Proxy {
    mesh::Proxy {
        node_id: proxy.node_id,
        namespace: proxy.namespace,
        revision_acknowledged: proxy.revision_acknowledged,
        lag: proxy.lag,
        last_refusal: proxy.last_refusal,
        subscriptions: proxy.subscriptions,
        state: proxy.state,
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_long_message_is_cut_at_a_line_and_says_so() {
        let message: String = (0..1_000).map(|index| format!("file:{index}: wrong\n")).collect();
        let short = shortened(message);
        assert!(short.len() < 5_000, "{}", short.len());
        assert!(short.starts_with("file:0: wrong\nfile:1: wrong\n"));
        assert!(short.ends_with("more problems"), "{short}");
        assert_eq!(shortened("one".to_owned()), "one");
    }
}
