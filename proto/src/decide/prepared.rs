//! What a sidecar does to a request's headers before rules see them: an id and a scheme where there are none, and nothing by
//! which Envoy's clients steer its retries and timeouts.
//!
//! The proxy does it to the bytes of the request (`proxy/src/http/request_id.rs`, `control_headers.rs`); what explains or tests
//! routes does it to a map.

use http::{HeaderMap, HeaderName, HeaderValue, header};

const PREFIX: &[u8] = b"x-envoy-";

/// By which Envoy's clients steer it, behind `x-envoy-`.
pub const CONTROLS: [&[u8]; 15] = [
    b"retry-on",
    b"retry-grpc-on",
    b"max-retries",
    b"retriable-status-codes",
    b"retriable-header-names",
    b"hedge-on-per-try-timeout",
    b"upstream-rq-timeout-ms",
    b"upstream-rq-per-try-timeout-ms",
    b"upstream-rq-timeout-alt-response",
    b"upstream-alt-stat-name",
    b"expected-rq-timeout-ms",
    b"force-trace",
    b"internal",
    b"ip-tags",
    b"original-url",
];

/// Is it taken out of every request?
pub fn is_control(name: &[u8]) -> bool {
    let Some((prefix, rest)) = name.split_at_checked(PREFIX.len()) else {
        return false;
    };
    prefix.eq_ignore_ascii_case(PREFIX) && CONTROLS.iter().any(|control| rest.eq_ignore_ascii_case(control))
}

/// The headers as rules see them. An id is random where the client says none: here it is any.
pub fn prepare(headers: &mut HeaderMap, authority: &str) {
    let controls: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_control(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in controls {
        headers.remove(name);
    }
    headers.remove("x-tsunagi-unprocessed");
    let id = HeaderValue::from_static("00000000-0000-4000-8000-000000000000");
    headers.entry("x-request-id").or_insert(id);
    headers
        .entry("x-forwarded-proto")
        .or_insert(HeaderValue::from_static("http"));
    if let Ok(host) = HeaderValue::from_str(authority) {
        headers.entry(header::HOST).or_insert(host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_see_what_a_sidecar_adds_and_not_what_it_takes_out() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-retry-on", HeaderValue::from_static("5xx"));
        headers.insert("x-request-id", HeaderValue::from_static("mine"));
        prepare(&mut headers, "shop:80");
        let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(said("x-envoy-retry-on"), None);
        assert_eq!(
            [said("x-request-id"), said("x-forwarded-proto"), said("host")],
            [Some("mine"), Some("http"), Some("shop:80")]
        );
    }
}
