//! Where a redirect sends its client: the `Location` of the answer.
//!
//! Source: Envoy's RouteEntryImplBase::newUri as Istio's ApplyRedirect programs it. Ours on purpose, because Istio's
//! reference says so: a port that is asked for replaces the request's, also where it is the scheme's own and so not written.

use super::rewrite::replaced_prefix;
use super::{Fields, RequestHead};
use crate::model::{HttpMatch, Redirect, RedirectPath, RedirectPort};

/// Of an answer to `head`, which met `item` (see `matched_item`). Without a redirect: the request's own.
pub fn location<F: Fields>(redirect: Option<&Redirect>, head: &RequestHead<'_, F>, item: Option<&HttpMatch>) -> String {
    let path = path(redirect.and_then(|redirect| redirect.path.as_ref()), head, item);
    let authority = redirect.and_then(|redirect| redirect.authority.as_ref());
    let authority = authority.and_then(|authority| authority.to_str().ok());
    let wanted = authority.unwrap_or(head.authority);
    if wanted.is_empty() {
        // A client that names nobody means the one that it has asked.
        return path;
    }
    let scheme = redirect
        .and_then(|redirect| redirect.scheme.as_deref())
        .unwrap_or(head.scheme);
    let (host, port) = split(wanted);
    let default = default_port(scheme);
    let port = match redirect.and_then(|redirect| redirect.port) {
        Some(RedirectPort::Number(number)) => shown(number, default),
        Some(RedirectPort::Request) => shown(head.port, default),
        Some(RedirectPort::ProtocolDefault) => None,
        // The default of the scheme that the client leaves does not fit the one that it is sent to.
        None if authority.is_none() && scheme != head.scheme && port == default_port(head.scheme) => None,
        None => port.map(str::to_owned),
    };
    match port {
        Some(port) => format!("{scheme}://{host}:{port}{path}"),
        None => format!("{scheme}://{host}{path}"),
    }
}

/// The request's query is kept unless the redirect has its own. As from Envoy, it follows a fragment, for an application in
/// the client that routes by it.
fn path<F: Fields>(wanted: Option<&RedirectPath>, head: &RequestHead<'_, F>, item: Option<&HttpMatch>) -> String {
    let (path, has_query) = match wanted {
        None => (head.path.to_owned(), false),
        Some(RedirectPath::Whole(text)) => (text.clone(), text.contains('?')),
        Some(RedirectPath::Prefix(prefix)) => (replaced_prefix(prefix, head.path, item), false),
    };
    let slash = if path.starts_with('/') { "" } else { "/" };
    match head.query.filter(|_| !has_query) {
        Some(query) => format!("{slash}{path}?{query}"),
        None => format!("{slash}{path}"),
    }
}

fn default_port(scheme: &str) -> Option<&'static str> {
    match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    }
}

fn shown(port: u16, default: Option<&str>) -> Option<String> {
    let port = port.to_string();
    (default != Some(&port)).then_some(port)
}

/// Host and port of an authority; brackets belong to the host.
pub(super) fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => {
            (host, Some(port))
        }
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::wire::mesh;

    fn redirect(change: impl FnOnce(&mut mesh::Redirect)) -> Redirect {
        let mut wire = mesh::Redirect::default();
        change(&mut wire);
        Redirect::try_from(wire).unwrap()
    }

    fn prefix(text: &str) -> HttpMatch {
        let kind = Some(mesh::string_match::Kind::Prefix(text.to_owned()));
        let wire = mesh::HttpMatch {
            uri: Some(mesh::StringMatch { kind }),
            ..Default::default()
        };
        HttpMatch::try_from(wire).unwrap()
    }

    fn sent_to(redirect: &Redirect, authority: &str, target: &str, item: Option<&HttpMatch>) -> String {
        let headers = HeaderMap::new();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let head = RequestHead {
            method: "GET",
            scheme: "http",
            path,
            query,
            authority,
            headers: &headers,
            port: 8080,
        };
        location(Some(redirect), &head, item)
    }

    #[test]
    fn what_a_redirect_does_not_change_stays_as_the_client_wrote_it() {
        let none = redirect(|_| {});
        assert_eq!(sent_to(&none, "a:8080", "/x?y=1", None), "http://a:8080/x?y=1");
        assert_eq!(sent_to(&none, "[::1]:8080", "/", None), "http://[::1]:8080/");
        assert_eq!(sent_to(&none, "", "/x?y", None), "/x?y");
        let host = redirect(|wire| wire.authority = "b:9".into());
        assert_eq!(sent_to(&host, "a:8080", "/x", None), "http://b:9/x");
    }

    #[test]
    fn the_query_is_kept_unless_the_redirect_has_one() {
        let whole = |text: &str| redirect(|wire| wire.path = Some(mesh::redirect::Path::Uri(text.into())));
        assert_eq!(sent_to(&whole("/new"), "a", "/x?y=1", None), "http://a/new?y=1");
        assert_eq!(sent_to(&whole("/new?z"), "a", "/x?y=1", None), "http://a/new?z");
        assert_eq!(sent_to(&whole("new"), "a", "/x", None), "http://a/new");
    }

    #[test]
    fn a_fragment_is_sent_and_the_query_follows_it() {
        let whole = |text: &str| redirect(|wire| wire.path = Some(mesh::redirect::Path::Uri(text.into())));
        assert_eq!(sent_to(&whole("/#/login"), "a", "/x", None), "http://a/#/login");
        assert_eq!(sent_to(&whole("/#/login"), "a", "/x?y=1", None), "http://a/#/login?y=1");
        assert_eq!(sent_to(&whole("/?z#/login"), "a", "/x?y=1", None), "http://a/?z#/login");
        let app = redirect(|wire| wire.path = Some(mesh::redirect::Path::PrefixRewrite("/#/".into())));
        assert_eq!(sent_to(&app, "a", "/old/x?y", Some(&prefix("/old/"))), "http://a/#/x?y");
    }

    #[test]
    fn a_prefix_is_replaced_where_a_prefix_matched_and_else_the_whole_path() {
        let new = redirect(|wire| wire.path = Some(mesh::redirect::Path::PrefixRewrite("/v2".into())));
        assert_eq!(sent_to(&new, "a", "/v1/x?y", Some(&prefix("/v1"))), "http://a/v2/x?y");
        let exact = HttpMatch {
            uri: Some(crate::model::StringMatch::Exact("/v1/x".into())),
            ..HttpMatch::default()
        };
        assert_eq!(sent_to(&new, "a", "/v1/x?y", Some(&exact)), "http://a/v2?y");
    }

    #[test]
    fn a_port_that_is_asked_for_is_written_unless_it_is_the_schemes_own() {
        use mesh::redirect::RedirectPort::{DerivePort, Port};
        let with = |scheme: &str, port| {
            redirect(|wire| {
                wire.scheme = scheme.into();
                wire.redirect_port = Some(port);
            })
        };
        assert_eq!(sent_to(&with("", Port(9090)), "a:1", "/", None), "http://a:9090/");
        assert_eq!(sent_to(&with("", Port(80)), "a:1", "/", None), "http://a/");
        assert_eq!(sent_to(&with("https", Port(443)), "a", "/", None), "https://a/");
        assert_eq!(sent_to(&with("https", Port(80)), "a", "/", None), "https://a:80/");
        let request = DerivePort(mesh::DerivePort::FromRequestPort as i32);
        assert_eq!(sent_to(&with("https", request), "a", "/", None), "https://a:8080/");
        let default = DerivePort(mesh::DerivePort::FromProtocolDefault as i32);
        assert_eq!(sent_to(&with("https", default), "a:8080", "/", None), "https://a/");
        assert_eq!(sent_to(&with("", Port(9)), "[::1]:80", "/", None), "http://[::1]:9/");
    }

    #[test]
    fn the_default_port_of_the_scheme_that_is_left_is_not_taken_along() {
        let secure = redirect(|wire| wire.scheme = "https".into());
        assert_eq!(sent_to(&secure, "a:80", "/", None), "https://a/");
        assert_eq!(sent_to(&secure, "a:8080", "/", None), "https://a:8080/");
        assert_eq!(sent_to(&redirect(|_| {}), "a:80", "/", None), "http://a:80/");
    }
}
