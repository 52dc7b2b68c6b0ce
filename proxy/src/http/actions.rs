//! What a rule does before any endpoint is asked: faults, then CORS, then a redirect or an answer of its own. The order is
//! that of the filters that Istio programs: fault, CORS, router.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tsunagi_proto::decide::{Cors, cors, http_status, location};
use tsunagi_proto::model::{AbortKind, Action, HttpRule};

use super::downstream::Downstream;
use super::exchange::Exchange;
use super::fault::{ABORT_BODY, ABORT_DETAILS, inject};
use super::formatted::{Formatted, edit_response};
use super::local_reply::Cause;
use super::own_answer::{own_answer, send_own};
use super::route::{Route, seen};
use crate::codec::{RequestHead, ResponseHead};

/// `true`: the request is answered. `authority` and `port` as the rule was found by them.
pub async fn act_first<D: Downstream>(
    route: &Route<'_>,
    head: &RequestHead,
    (authority, port): (&str, u16),
    formatted: &Formatted<'_>,
    client: &mut D,
    exchange: &mut Exchange<'_>,
) -> Result<bool, Cause> {
    let Some(rule) = route.rule() else { return Ok(false) };
    if let Some(fault) = &rule.fault
        && let Some(kind) = inject(fault, &mut exchange.flags, client, rand::random).await?
    {
        abort(kind, client, exchange).await;
        return Ok(true);
    }
    if let (Some(policy), Action::Route(_)) = (&rule.cors, &rule.action) {
        match cors(policy, &seen(head, authority, port)) {
            Cors::Silent => {}
            Cors::Allowed(fields) => exchange.cors = fields,
            Cors::Preflight(fields) => {
                let mut answer = ResponseHead::local(StatusCode::OK);
                for (name, value) in &fields {
                    answer.headers.set(name, value);
                }
                exchange.details("cors_response");
                send_own(answer, Bytes::new(), client, exchange).await;
                return Ok(true);
            }
        }
    }
    let Some((mut answer, body)) = answered(rule, route, head, (authority, port), exchange.grpc) else {
        return Ok(false);
    };
    const DETAILS: &str = "direct_response";
    exchange.details(DETAILS);
    edit_response(route, formatted, head, &mut answer, None, (exchange.flags, DETAILS));
    send_own(answer, body, client, exchange).await;
    Ok(true)
}

async fn abort<D: Downstream>(kind: AbortKind, client: &mut D, exchange: &mut Exchange<'_>) {
    exchange.details(ABORT_DETAILS);
    let body = Bytes::from_static(ABORT_BODY);
    let (answer, body) = match kind {
        AbortKind::HttpStatus(status) => own_answer(status, &body, exchange.grpc, None),
        AbortKind::GrpcStatus(code) => own_answer(http_status(code), &body, exchange.grpc, Some(code)),
        AbortKind::Http2Error(code) => {
            exchange.finish(0);
            return client.reset(code);
        }
    };
    send_own(answer, body, client, exchange).await;
}

/// What a rule without destinations answers. As in Envoy, an answer of a status that wants a `Location` has one.
fn answered(
    rule: &HttpRule,
    route: &Route<'_>,
    head: &RequestHead,
    (authority, port): (&str, u16),
    grpc: bool,
) -> Option<(ResponseHead, Bytes)> {
    let (status, body, redirect) = match &rule.action {
        Action::Route(_) => return None,
        Action::Redirect(redirect) => (redirect.status, Bytes::new(), Some(redirect)),
        Action::DirectResponse(response) => (response.status, response.body.clone(), None),
    };
    let (mut answer, body) = own_answer(status, &body, grpc, None);
    if status == StatusCode::CREATED || status.is_redirection() {
        let location = location(redirect, &seen(head, authority, port), route.item());
        if let Ok(location) = HeaderValue::from_bytes(location.as_bytes()) {
            answer.headers.set(&header::LOCATION, &location);
        }
    }
    Some((answer, body))
}
