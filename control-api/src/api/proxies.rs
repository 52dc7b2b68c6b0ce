//! `GET /v1/proxies`: the connected proxies and how far each of them is.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use super::{
    Api,
    failure::Failure,
    replies::{ProxiesReply, ProxyReply},
    request::{Format, Query},
};

pub(super) async fn list(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    Query::of(request.uri(), &[])?;
    let reply = ProxiesReply {
        revision: api.ingest.held().world.revision(),
        proxies: api.status.proxies().into_iter().map(ProxyReply::from).collect(),
    };
    Ok(Format::wanted(request.headers()).reply(StatusCode::OK, &reply))
}
