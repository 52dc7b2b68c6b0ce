//! What a rule makes of a request: how it is written anew, or what answers it. By the computations of the proxies.

use http::HeaderMap;
use tsunagi_proto::decide::{self, Cors, RequestHead};
use tsunagi_proto::model::{Abort, AbortKind, Action, DirectResponse, HttpMatch, HttpRule, Redirect, RouteAction};

use super::answer::{Answer, Outcome, Policies, Reply, Sometimes};
use super::policies::percent;

/// Of a body that is shown.
const LONGEST_BODY: usize = 200;

/// `item` is the match that holds. Where destinations have authorities of their own, they are told with the destination's
/// number.
pub(super) fn rewrite(
    policies: &mut Policies,
    route: &RouteAction,
    item: Option<&HttpMatch>,
    head: &RequestHead<'_, HeaderMap>,
) {
    if let Some(rewrite) = &route.rewrite {
        policies.path = match decide::rewritten_path(rewrite, head, item) {
            Ok(path) => path,
            Err(too_long) => Some(too_long.to_string()),
        };
    }
    let authority = |number| decide::rewritten_authority(route, number);
    let mut authorities = (0..route.destinations.len()).map(authority);
    let first = authorities.next().flatten();
    if authorities.all(|other| other == first) {
        policies.authority = first.map(text);
        return;
    }
    let each = (0..route.destinations.len()).filter_map(|number| {
        let authority = text(authority(number)?);
        Some(format!("{authority} (route[{number}])"))
    });
    policies.authority = Some(each.collect::<Vec<_>>().join(", "));
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

pub(super) fn redirect(redirect: &Redirect, item: Option<&HttpMatch>, head: &RequestHead<'_, HeaderMap>) -> Reply {
    Reply {
        location: Some(decide::location(Some(redirect), head, item)),
        ..Reply::new(redirect.status.as_u16(), "", "the rule redirects")
    }
}

pub(super) fn direct_response(response: &DirectResponse) -> Reply {
    let text = String::from_utf8_lossy(&response.body);
    Reply {
        body: Some(text.chars().take(LONGEST_BODY).collect()),
        ..Reply::new(response.status.as_u16(), "", "the rule answers")
    }
}

/// What a rule does before its action, in the order of the proxies: faults, then CORS, which is for routes alone.
pub(super) fn before(answer: &mut Answer, rule: &HttpRule, head: &RequestHead<'_, HeaderMap>) {
    if let Some(abort) = rule.fault.as_ref().and_then(|fault| fault.abort.as_ref()) {
        let reply = aborted(abort, is_grpc(head.headers));
        match abort.per_million {
            0 => {}
            1_000_000.. => return answered(answer, Outcome::FaultAbort, reply),
            some => {
                let percentage = percent(some);
                answer.sometimes = Some(Sometimes { percentage, reply });
            }
        }
    }
    if let (Some(policy), Action::Route(_)) = (&rule.cors, &rule.action)
        && let Cors::Preflight(_) = decide::cors(policy, head)
    {
        answered(answer, Outcome::CorsPreflight, Reply::new(200, "", "CORS preflight"));
    }
}

/// Nobody else is asked, and nothing of the rule that is for an endpoint or its response counts.
fn answered(answer: &mut Answer, outcome: Outcome, reply: Reply) {
    answer.outcome = outcome;
    answer.reply = Some(reply);
    answer.destinations.clear();
    answer.policies = answer.policies.take().map(|policies| Policies {
        faults: policies.faults,
        cors: policies.cors.filter(|_| outcome == Outcome::CorsPreflight),
        ..Policies::default()
    });
}

fn aborted(abort: &Abort, grpc: bool) -> Reply {
    const REASON: &str = "fault abort";
    let (status, code) = match abort.kind {
        AbortKind::HttpStatus(status) => (status, decide::grpc_status_of_rule(status)),
        AbortKind::GrpcStatus(code) => (decide::http_status(code), u16::from(code)),
        AbortKind::Http2Error(code) => {
            let reason = format!("{REASON}, HTTP/2 error {code}; an HTTP/1 connection is closed");
            return Reply::new(0, "FI", reason);
        }
    };
    if grpc {
        return Reply {
            grpc_status: Some(code),
            ..Reply::new(200, "FI", REASON)
        };
    }
    Reply::new(status.as_u16(), "FI", REASON)
}

/// As a proxy tells: `application/grpc`, or `application/grpc+proto` and its like.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}
