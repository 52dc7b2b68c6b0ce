//! What a request of a web page is answered: a preflight by the policy alone, any other with what its page may see.
//!
//! Source: Envoy's CORS filter (source/extensions/filters/http/cors/cors_filter.cc).

use http::{HeaderName, HeaderValue, header};

use super::{Fields, RequestHead};
use crate::model::CorsPolicy;

/// What the policy makes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// It goes on, and its response is left as it is.
    Silent,
    /// It goes on; its response gets these in place of what it has.
    Allowed(Vec<(HeaderName, HeaderValue)>),
    /// A preflight, which is answered 200 with these.
    Preflight(Vec<(HeaderName, HeaderValue)>),
}

const TRUE: HeaderValue = HeaderValue::from_static("true");

pub fn cors<F: Fields>(policy: &CorsPolicy, head: &RequestHead<'_, F>) -> Cors {
    let Some(origin) = first(head.headers, &header::ORIGIN) else {
        return Cors::Silent;
    };
    let allowed = policy.allow_origins.iter();
    let allowed = allowed
        .clone()
        .any(|wanted| wanted.matches(b"*") || wanted.matches(origin.as_bytes()));
    let method = first(head.headers, &header::ACCESS_CONTROL_REQUEST_METHOD).filter(|_| head.method == "OPTIONS");
    match method {
        Some(_) if !allowed && policy.forward_unmatched_preflights => Cors::Silent,
        Some(method) => Cors::Preflight(preflight(policy, head.headers, allowed.then_some(origin), method)),
        None if allowed => Cors::Allowed(granted(policy, origin)),
        None => Cors::Silent,
    }
}

fn first<F: Fields>(headers: &F, name: &HeaderName) -> Option<HeaderValue> {
    let value = headers.values(name).next().filter(|value| !value.is_empty());
    value.and_then(|value| HeaderValue::from_bytes(value).ok())
}

fn granted(policy: &CorsPolicy, origin: HeaderValue) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = vec![(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)];
    if policy.allow_credentials {
        fields.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
    }
    let exposed = policy.expose_headers.clone();
    fields.extend(exposed.map(|names| (header::ACCESS_CONTROL_EXPOSE_HEADERS, names)));
    fields
}

fn preflight<F: Fields>(
    policy: &CorsPolicy,
    headers: &F,
    origin: Option<HeaderValue>,
    method: HeaderValue,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::with_capacity(5);
    fields.extend(origin.map(|origin| (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin)));
    if policy.allow_credentials {
        fields.push((header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
    }
    // `*` is whatever the page asks for.
    let methods = match &policy.allow_methods {
        Some(any) if any == "*" => Some(method),
        others => others.clone(),
    };
    fields.extend(methods.map(|methods| (header::ACCESS_CONTROL_ALLOW_METHODS, methods)));
    let names = match &policy.allow_headers {
        Some(any) if any == "*" => first(headers, &header::ACCESS_CONTROL_REQUEST_HEADERS),
        others => others.clone(),
    };
    fields.extend(names.map(|names| (header::ACCESS_CONTROL_ALLOW_HEADERS, names)));
    let age = policy.max_age.clone();
    fields.extend(age.map(|age| (header::ACCESS_CONTROL_MAX_AGE, age)));
    fields
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::wire::mesh;

    fn policy(change: impl FnOnce(&mut mesh::CorsPolicy)) -> CorsPolicy {
        let kind = |kind| mesh::StringMatch { kind: Some(kind) };
        let mut wire = mesh::CorsPolicy {
            allow_origins: vec![
                kind(mesh::string_match::Kind::Exact("https://shop".into())),
                kind(mesh::string_match::Kind::Prefix("http://dev".into())),
                kind(mesh::string_match::Kind::Regex(r"https://[a-z]+\.shop".into())),
            ],
            allow_methods: vec!["GET".into(), "PUT".into()],
            allow_headers: vec!["x-a".into()],
            expose_headers: vec!["x-b".into(), "x-c".into()],
            ..Default::default()
        };
        change(&mut wire);
        CorsPolicy::try_from(wire).unwrap()
    }

    fn decided(policy: &CorsPolicy, method: &str, fields: &[(&'static str, &'static str)]) -> Cors {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let head = RequestHead {
            method,
            scheme: "http",
            path: "/",
            query: None,
            authority: "a",
            headers: &headers,
            port: 80,
        };
        cors(policy, &head)
    }

    fn shown(fields: &[(HeaderName, HeaderValue)]) -> Vec<String> {
        let line = |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        fields.iter().map(line).collect()
    }

    const ASKED: [(&str, &str); 3] = [
        ("origin", "https://shop"),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "x-z"),
    ];

    #[test]
    fn a_preflight_of_an_allowed_origin_is_answered_by_the_policy() {
        let policy = policy(|wire| {
            wire.allow_credentials = true;
            wire.max_age = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        });
        let Cors::Preflight(fields) = decided(&policy, "OPTIONS", &ASKED) else {
            panic!("it is a preflight");
        };
        let wanted = [
            "access-control-allow-origin: https://shop",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-headers: x-a",
            "access-control-max-age: 60",
        ];
        assert_eq!(shown(&fields), wanted);
    }

    #[test]
    fn a_star_allows_what_the_page_asks_for() {
        let policy = policy(|wire| {
            wire.allow_methods = vec!["*".into()];
            wire.allow_headers = vec!["*".into()];
        });
        let Cors::Preflight(fields) = decided(&policy, "OPTIONS", &ASKED) else {
            panic!("it is a preflight");
        };
        assert!(shown(&fields).contains(&"access-control-allow-methods: PATCH".to_owned()));
        assert!(shown(&fields).contains(&"access-control-allow-headers: x-z".to_owned()));
    }

    #[test]
    fn another_request_of_an_allowed_origin_goes_on_and_may_be_seen() {
        for origin in ["https://shop", "http://dev.local:3000", "https://eu.shop"] {
            let Cors::Allowed(fields) = decided(&policy(|_| {}), "GET", &[("origin", origin)]) else {
                panic!("{origin} is allowed");
            };
            let origin = format!("access-control-allow-origin: {origin}");
            assert_eq!(shown(&fields), [&origin, "access-control-expose-headers: x-b,x-c"]);
        }
        let options = [("origin", "https://shop")];
        assert!(matches!(
            decided(&policy(|_| {}), "OPTIONS", &options),
            Cors::Allowed(_)
        ));
    }

    #[test]
    fn what_no_page_sent_or_another_origin_is_left_alone() {
        for fields in [&[][..], &[("origin", "")], &[("origin", "https://shop.evil")]] {
            assert_eq!(decided(&policy(|_| {}), "GET", fields), Cors::Silent);
        }
    }

    #[test]
    fn a_preflight_of_another_origin_goes_on_unless_that_is_ignored() {
        let asked = [("origin", "https://evil"), ("access-control-request-method", "GET")];
        assert_eq!(decided(&policy(|_| {}), "OPTIONS", &asked), Cors::Silent);
        let ignore = policy(|wire| wire.set_unmatched_preflights(mesh::UnmatchedPreflights::Ignore));
        let Cors::Preflight(fields) = decided(&ignore, "OPTIONS", &asked) else {
            panic!("it is answered");
        };
        assert!(
            !shown(&fields)
                .iter()
                .any(|line| line.starts_with("access-control-allow-origin"))
        );
    }

    #[test]
    fn a_star_among_the_origins_allows_any_and_still_names_the_one_that_asked() {
        let any = policy(|wire| {
            let kind = Some(mesh::string_match::Kind::Exact("*".into()));
            wire.allow_origins = vec![mesh::StringMatch { kind }];
        });
        let Cors::Allowed(fields) = decided(&any, "GET", &[("origin", "https://any")]) else {
            panic!("any is allowed");
        };
        assert_eq!(shown(&fields)[0], "access-control-allow-origin: https://any");
    }
}
