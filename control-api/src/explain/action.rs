//! What a rule makes of a request: how it is written anew, or what answers it. By the computations of the proxies.

use http::HeaderMap;
use tsunagi_proto::decide::{self, RequestHead};
use tsunagi_proto::model::{DirectResponse, HttpMatch, Redirect, RouteAction};

use super::answer::{Policies, Reply};

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
