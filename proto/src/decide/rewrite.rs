//! How a request's path and host are written anew on the way to its destination.
//!
//! Source: Envoy's prefix_rewrite and regex_rewrite (RE2::GlobalReplace on the path without its query) as Istio's
//! applyHTTPRouteDestination programs them: a rule without a match of the path is one with the prefix `/`.

use http::HeaderValue;

use super::{Fields, RequestHead};
use crate::model::{HttpMatch, PathRewrite, Rewrite, RouteAction, StringMatch, Substitution, SubstitutionPart};

/// As long as a head may be: a substitution that repeats groups could make more of every byte.
const MAX_PATH_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rewritten path is longer than 64 KiB")]
pub struct TooLong;

/// The path and query of a request that met `item` (see `matched_item`); `None`: as they were sent.
pub fn rewritten_path<F: Fields>(
    rewrite: &Rewrite,
    head: &RequestHead<'_, F>,
    item: Option<&HttpMatch>,
) -> Result<Option<String>, TooLong> {
    let mut path = match &rewrite.path {
        None => return Ok(None),
        Some(PathRewrite::Literal(text)) => replaced_prefix(text, head.path, item),
        Some(PathRewrite::Regex { pattern, substitution }) => replaced_matches(pattern, substitution, head.path)?,
    };
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if let Some(query) = head.query {
        path.push('?');
        path.push_str(query);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(TooLong);
    }
    Ok(Some(path))
}

/// What the destination is called by, in place of what the client wrote. The rule's goes before the destination's.
pub fn rewritten_authority(action: &RouteAction, destination: usize) -> Option<&HeaderValue> {
    let of_rule = action.rewrite.as_ref().and_then(|rewrite| rewrite.authority.as_ref());
    of_rule.or_else(|| action.destinations.get(destination)?.authority.as_ref())
}

/// What the item's prefix has matched is replaced; an exact match or a regex has matched all of the path.
pub(super) fn replaced_prefix(new: &str, path: &str, item: Option<&HttpMatch>) -> String {
    let matched = match item.and_then(|item| item.uri.as_ref()) {
        None => usize::from(path.starts_with('/')),
        Some(StringMatch::Prefix(prefix)) => prefix.len(),
        Some(StringMatch::Exact(_) | StringMatch::Regex(_)) => path.len(),
    };
    format!("{new}{}", path.get(matched..).unwrap_or_default())
}

fn replaced_matches(pattern: &regex::bytes::Regex, new: &Substitution, path: &str) -> Result<String, TooLong> {
    let (mut out, mut end) = (Vec::with_capacity(path.len()), 0);
    for found in pattern.captures_iter(path.as_bytes()) {
        let Some(whole) = found.get(0) else { continue };
        out.extend_from_slice(&path.as_bytes()[end..whole.start()]);
        for part in &new.0 {
            match part {
                SubstitutionPart::Literal(text) => out.extend_from_slice(text.as_bytes()),
                SubstitutionPart::Group(number) => {
                    out.extend_from_slice(found.get(*number).map_or(b"", |group| group.as_bytes()));
                }
            }
        }
        end = whole.end();
        if out.len() > MAX_PATH_BYTES {
            return Err(TooLong);
        }
    }
    out.extend_from_slice(&path.as_bytes()[end..]);
    // A pattern may cut a character of several bytes in two.
    Ok(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::wire::mesh;

    fn item(kind: mesh::string_match::Kind) -> HttpMatch {
        let wire = mesh::HttpMatch {
            uri: Some(mesh::StringMatch { kind: Some(kind) }),
            ignore_uri_case: true,
            ..Default::default()
        };
        HttpMatch::try_from(wire).unwrap()
    }

    fn rewritten(path: mesh::rewrite::Path, target: &str, item: Option<&HttpMatch>) -> Result<String, TooLong> {
        let wire = mesh::Rewrite {
            path: Some(path),
            ..Default::default()
        };
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
            authority: "a",
            headers: &headers,
            port: 80,
        };
        rewritten_path(&Rewrite::try_from(wire).unwrap(), &head, item).map(Option::unwrap)
    }

    fn uri(text: &str) -> mesh::rewrite::Path {
        mesh::rewrite::Path::Uri(text.to_owned())
    }

    fn regex(pattern: &str, substitution: &str) -> mesh::rewrite::Path {
        mesh::rewrite::Path::UriRegex(mesh::RegexRewrite {
            pattern: pattern.to_owned(),
            substitution: substitution.to_owned(),
        })
    }

    #[test]
    fn a_matched_prefix_is_replaced_and_nothing_is_tidied_up() {
        use mesh::string_match::Kind::{Exact, Prefix, Regex};
        for (kind, new, target, wanted) in [
            (Prefix("/api".into()), "/v2", "/api/x?y=1", "/v2/x?y=1"),
            (Prefix("/api/".into()), "/", "/api/x", "/x"),
            (Prefix("/api".into()), "/", "/api/x", "//x"),
            (Prefix("/API".into()), "/v2", "/aPi/x", "/v2/x"),
            (Prefix("/api/".into()), "", "/api/x", "/x"),
            (Exact("/api".into()), "/new", "/api?y", "/new?y"),
            (Regex("/a.*".into()), "/new", "/api/x?y", "/new?y"),
            (Prefix("/api".into()), "v2", "/api/x", "/v2/x"),
        ] {
            let told = format!("{kind:?} {new} {target}");
            if new.is_empty() {
                continue;
            }
            assert_eq!(
                rewritten(uri(new), target, Some(&item(kind))).as_deref(),
                Ok(wanted),
                "{told}"
            );
        }
    }

    #[test]
    fn without_a_match_of_the_path_the_first_slash_is_replaced() {
        assert_eq!(rewritten(uri("/v2/"), "/x?y", None).as_deref(), Ok("/v2/x?y"));
        assert_eq!(
            rewritten(uri("/"), "/x", Some(&HttpMatch::default())).as_deref(),
            Ok("/x")
        );
    }

    #[test]
    fn a_regex_replaces_every_match_in_the_path_and_none_in_the_query() {
        let swapped = rewritten(regex("/([a-z]+)/([0-9]+)", r"/\2/\1"), "/user/7/item/8?a=/b/9", None);
        assert_eq!(swapped.as_deref(), Ok("/7/user/8/item?a=/b/9"));
        assert_eq!(rewritten(regex("^/api", ""), "/api", None).as_deref(), Ok("/"));
        assert_eq!(rewritten(regex("nothing", "/x"), "/api", None).as_deref(), Ok("/api"));
        assert_eq!(rewritten(regex("b*", "-"), "/abc", None).as_deref(), Ok("/-/-a-c-"));
    }

    #[test]
    fn a_path_does_not_grow_without_bound() {
        let long = format!("/{}", "x".repeat(40_000));
        assert_eq!(rewritten(regex("x", r"\0\0"), &long, None), Err(TooLong));
        assert_eq!(rewritten(uri(&long), &format!("{long}{long}"), None), Err(TooLong));
    }
}
