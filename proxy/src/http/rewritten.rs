//! The request as its destination is to see it: headers first, then host and path, as Envoy's finalizeRequestHeaders does.
//! What the path and the host were before is said in `x-envoy-original-path` and `x-envoy-original-host`.

use http::{HeaderName, HeaderValue};
use tsunagi_proto::decide::{rewritten_authority, rewritten_path};

use super::formatted::Formatted;
use super::local_reply::Cause;
use super::route::{Route, seen};
use crate::codec::{Known, RequestHead};

static ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
static ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");

/// Applies what the rule says. Nothing is allocated where it says nothing.
pub fn rewrite(route: &Route<'_>, head: &mut RequestHead, port: u16, formatted: &Formatted<'_>) -> Result<(), Cause> {
    let path = new_path(route, head, port)?;
    let (method, version, target) = (&head.method, head.version, &head.target);
    route.edit_request(&mut head.headers, |formatter, fields, out| {
        formatted
            .of_request(method, version, target, fields)
            .write(formatter, out);
    });
    let authority = route
        .action()
        .and_then(|(action, drawn)| rewritten_authority(action, drawn));
    if let Some(authority) = authority {
        let sent = match head.authority() {
            Some(text) => HeaderValue::from_str(text).ok(),
            None => head
                .headers
                .known(Known::Host)
                .and_then(|host| HeaderValue::from_bytes(host).ok()),
        };
        if let Some(sent) = sent {
            head.headers.set(&ORIGINAL_HOST, &sent);
        }
        head.set_authority(authority);
    }
    if let Some(path) = path {
        let sent = HeaderValue::from_bytes(head.path_and_query().as_bytes());
        if !head.target.set_path_and_query(&path) {
            return Err(Cause::BadRequest("the rewritten path is not one"));
        }
        if let Ok(sent) = sent {
            head.headers.set(&ORIGINAL_PATH, &sent);
        }
    }
    Ok(())
}

fn new_path(route: &Route<'_>, head: &RequestHead, port: u16) -> Result<Option<String>, Cause> {
    let rewrite = route.action().and_then(|(action, _)| action.rewrite.as_ref());
    let Some(rewrite) = rewrite.filter(|rewrite| rewrite.path.is_some() && head.path() != "*") else {
        return Ok(None);
    };
    rewritten_path(rewrite, &seen(head, "", port), route.item())
        .map_err(|_| Cause::BadRequest("the rewritten path is longer than 64 KiB"))
}
