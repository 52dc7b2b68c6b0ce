//! Every answer that the proxy invents. Flags and the phrases that people search for are Envoy's.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tsunagi_proto::decide::grpc_status;

use crate::codec::{Headers, Known, ResponseHead};
use crate::telemetry::Flags;

/// Why the proxy answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    BadRequest(&'static str),
    HeadTooLarge,
    /// On a connection that is the application's.
    NoTunnel,
    NoRoute(Cow<'static, str>),
    ClusterNotFound(Cow<'static, str>),
    NoHealthyUpstream,
    /// The names of its endpoints have no address.
    Unresolved(String),
    /// Its endpoints are where the client connected to, and that was nowhere.
    NoDestination(String),
    Overflow(&'static str),
    ConnectFailure(String),
    UpstreamReset {
        remote: bool,
    },
    UpstreamProtocol,
    NoUpgrade,
    Timeout,
    /// Of one attempt, and there is no other.
    TryTimeout,
    /// Malformed. Of a client that left in the midst of it nobody is there to answer.
    BrokenRequestBody,
    /// The user's policy lets nothing out that is not registered.
    Blocked,
    /// Nobody to answer.
    ClientGone,
}

#[derive(Debug)]
pub struct LocalReply {
    pub status: StatusCode,
    pub flags: Flags,
    pub details: &'static str,
    pub body: Cow<'static, str>,
}

impl Cause {
    pub fn reply(self) -> LocalReply {
        let reply = |status, flags, details, body| LocalReply {
            status,
            flags,
            details,
            body,
        };
        match self {
            Self::BadRequest(reason) => {
                reply(StatusCode::BAD_REQUEST, Flags::DPE, "downstream_protocol_error", Cow::Borrowed(reason))
            }
            Self::HeadTooLarge => reply(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Flags::DPE,
                "downstream_protocol_error",
                "the request's head is larger than 64 KiB or has more than 100 fields".into(),
            ),
            Self::NoTunnel => reply(
                StatusCode::NOT_IMPLEMENTED,
                Flags::DPE,
                "downstream_protocol_error",
                "CONNECT is passed on only as the first request of a connection".into(),
            ),
            Self::NoRoute(body) => reply(StatusCode::NOT_FOUND, Flags::NR, "route_not_found", body),
            Self::ClusterNotFound(body) => reply(StatusCode::SERVICE_UNAVAILABLE, Flags::NC, "cluster_not_found", body),
            Self::NoHealthyUpstream => {
                reply(StatusCode::SERVICE_UNAVAILABLE, Flags::UH, "no_healthy_upstream", "no healthy upstream".into())
            }
            Self::Unresolved(reason) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UH | Flags::DF,
                "dns_resolution_failure",
                format!("no healthy upstream: {reason}").into(),
            ),
            Self::NoDestination(reason) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UH,
                "no_healthy_upstream",
                format!("no healthy upstream: {reason}").into(),
            ),
            Self::Overflow(limit) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UO,
                "upstream_reset_before_response_started{overflow}",
                format!("upstream connect error or disconnect/reset before headers. reset reason: overflow ({limit})").into(),
            ),
            Self::ConnectFailure(error) => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UF,
                "upstream_reset_before_response_started{connection_failure}",
                format!(
                    "upstream connect error or disconnect/reset before headers. reset reason: connection failure: {error}"
                )
                .into(),
            ),
            Self::UpstreamReset { remote: true } => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UR,
                "upstream_reset_before_response_started{remote_reset}",
                "upstream connect error or disconnect/reset before headers. reset reason: remote reset".into(),
            ),
            Self::UpstreamReset { remote: false } => reply(
                StatusCode::SERVICE_UNAVAILABLE,
                Flags::UC,
                "upstream_reset_before_response_started{connection_termination}",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination".into(),
            ),
            Self::UpstreamProtocol => reply(
                StatusCode::BAD_GATEWAY,
                Flags::UPE,
                "upstream_reset_before_response_started{protocol_error}",
                "upstream connect error or disconnect/reset before headers. reset reason: protocol error".into(),
            ),
            Self::NoUpgrade => reply(
                StatusCode::BAD_GATEWAY,
                Flags::UPE,
                "upgrade_failed",
                "the endpoint speaks HTTP/2 and does not allow extended CONNECT (RFC 8441), which the upgrade needs".into(),
            ),
            Self::Timeout => {
                reply(StatusCode::GATEWAY_TIMEOUT, Flags::UT, "response_timeout", "upstream request timeout".into())
            }
            Self::TryTimeout => reply(
                StatusCode::GATEWAY_TIMEOUT,
                Flags::UT,
                "upstream_per_try_timeout",
                "upstream request timeout".into(),
            ),
            Self::Blocked => reply(
                StatusCode::BAD_GATEWAY,
                Flags::NONE,
                "direct_response",
                "the destination is not registered, and the outbound traffic policy is REGISTRY_ONLY".into(),
            ),
            Self::BrokenRequestBody | Self::ClientGone => reply(
                StatusCode::BAD_REQUEST,
                Flags::DPE,
                "downstream_protocol_error",
                "the request's body is malformed".into(),
            ),
        }
    }
}

impl LocalReply {
    /// The response: plain text, or a trailers-only status for a gRPC request.
    pub fn response(&self, grpc: bool) -> (ResponseHead, Bytes) {
        let (mut head, body) = if grpc { self.grpc() } else { self.plain() };
        if self.flags.contains(Flags::UO) {
            let name = HeaderName::from_static("x-envoy-overloaded");
            head.headers.set(&name, &HeaderValue::from_static("true"));
        }
        (head, body)
    }

    fn plain(&self) -> (ResponseHead, Bytes) {
        let mut text = self.body.clone().into_owned();
        text.push('\n');
        let mut head = ResponseHead::local(self.status);
        head.headers
            .set(&header::CONTENT_TYPE, &HeaderValue::from_static("text/plain"));
        (head, Bytes::from(text))
    }

    fn grpc(&self) -> (ResponseHead, Bytes) {
        let mut head = ResponseHead::local(StatusCode::OK);
        let headers = &mut head.headers;
        headers.set(&header::CONTENT_TYPE, &HeaderValue::from_static("application/grpc"));
        // A call that ran out of time says so: 14 (UNAVAILABLE) would invite its client to call again.
        let status = match self.flags.contains(Flags::UT) {
            true => DEADLINE_EXCEEDED,
            false => grpc_status(self.status),
        };
        let status = HeaderValue::from(status);
        headers.set(&HeaderName::from_static("grpc-status"), &status);
        if let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.body)) {
            headers.set(&HeaderName::from_static("grpc-message"), &message);
        }
        (head, Bytes::new())
    }
}

/// `application/grpc`, or `application/grpc+proto` and its like; gRPC-Web is HTTP.
pub fn is_grpc(headers: &Headers) -> bool {
    let rest = headers
        .known(Known::ContentType)
        .and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

const DEADLINE_EXCEEDED: u16 = 4;

/// `grpc-message` is percent-encoded: what is not printable ASCII, and `%` itself.
pub fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_says_so_in_its_flag_and_header() {
        let reply = Cause::Overflow("pending_requests").reply();
        let (head, _) = reply.response(false);
        assert_eq!((head.status.as_u16(), reply.flags), (503, Flags::UO));
        let name = HeaderName::from_static("x-envoy-overloaded");
        assert_eq!(head.headers.get(&name), Some(&b"true"[..]));
    }

    #[test]
    fn a_grpc_request_gets_a_grpc_status_and_no_text() {
        let (head, body) = Cause::NoHealthyUpstream.reply().response(true);
        let get = |name| head.headers.get(&HeaderName::from_static(name));
        assert_eq!(head.status, 200);
        assert_eq!(get("grpc-status"), Some(&b"14"[..]));
        assert_eq!(get("grpc-message"), Some(&b"no healthy upstream"[..]));
        assert!(body.is_empty());
    }

    #[test]
    fn a_grpc_call_that_ran_out_of_time_says_deadline_exceeded() {
        for cause in [Cause::Timeout, Cause::TryTimeout] {
            let reply = cause.reply();
            assert_eq!((reply.status.as_u16(), reply.flags), (504, Flags::UT));
            let (head, _) = reply.response(true);
            assert_eq!(head.headers.known(Known::GrpcStatus), Some(&b"4"[..]));
        }
    }

    #[test]
    fn grpc_web_and_what_only_looks_like_grpc_is_http() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcs", false),
            ("application/json", false),
        ] {
            let mut headers = Headers::default();
            headers.append(&header::CONTENT_TYPE, &HeaderValue::from_static(content_type));
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&Headers::default()));
    }

    #[test]
    fn a_grpc_message_cannot_break_the_header() {
        assert_eq!(percent_encoded("50% é\n"), "50%25 %C3%A9%0A");
    }
}
