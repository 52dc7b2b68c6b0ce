//! What a rule makes of a request: how it is written anew, or what answers it. By the computations of the proxies.

use http::HeaderMap;
use tsunagi_proto::decide::RequestHead;
use tsunagi_proto::model::{DirectResponse, HttpMatch, Redirect, RouteAction};

use super::answer::{Policies, Reply};

/// Of a body that is shown.
const LONGEST_BODY: usize = 200;

/// `item` is the match that holds.
pub(super) fn rewrite(
    policies: &mut Policies,
    route: &RouteAction,
    item: Option<&HttpMatch>,
    head: &RequestHead<'_, HeaderMap>,
) {
    let _ = (policies, route, item, head);
}

pub(super) fn redirect(redirect: &Redirect, item: Option<&HttpMatch>, head: &RequestHead<'_, HeaderMap>) -> Reply {
    let _ = (item, head);
    Reply {
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
