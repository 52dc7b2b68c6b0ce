//! Header names that the proxy itself asks for on every request: recognised once, when a head is read, so that later
//! look-ups compare one byte.

use http::HeaderName;
use http::header;

/// By `Known`; what is not known has a name that is never asked for.
static NAMES: [HeaderName; 20] = [
    HeaderName::from_static("x-other"),
    header::HOST,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::TE,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    header::EXPECT,
    header::TRAILER,
    header::CONTENT_TYPE,
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("x-request-id"),
    header::USER_AGENT,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-tsunagi-unprocessed"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("x-envoy-attempt-count"),
];

/// Which of them a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    Other,
    Host,
    Connection,
    KeepAlive,
    ProxyConnection,
    TransferEncoding,
    ContentLength,
    Te,
    Upgrade,
    Http2Settings,
    Expect,
    Trailer,
    ContentType,
    GrpcStatus,
    XRequestId,
    UserAgent,
    XForwardedProto,
    XTsunagiUnprocessed,
    GrpcTimeout,
    XEnvoyAttemptCount,
}

impl Known {
    /// By length and first letter (third, where that is not enough) there is one candidate at most; then the rest is compared, in any case.
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let candidate = match (name.len(), first | 0x20) {
            (2, b't') => Self::Te,
            (4, b'h') => Self::Host,
            (6, b'e') => Self::Expect,
            (7, b'u') => Self::Upgrade,
            (7, b't') => Self::Trailer,
            (10, b'c') => Self::Connection,
            (10, b'k') => Self::KeepAlive,
            (10, b'u') => Self::UserAgent,
            (11, b'g') => Self::GrpcStatus,
            (12, b'c') => Self::ContentType,
            (12, b'g') => Self::GrpcTimeout,
            (12, b'x') => Self::XRequestId,
            (14, b'c') => Self::ContentLength,
            (14, b'h') => Self::Http2Settings,
            (16, b'p') => Self::ProxyConnection,
            (17, b't') => Self::TransferEncoding,
            (17, b'x') => Self::XForwardedProto,
            (21, b'x') if name[2] | 0x20 == b't' => Self::XTsunagiUnprocessed,
            (21, b'x') => Self::XEnvoyAttemptCount,
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(candidate.as_str().as_bytes()) {
            candidate
        } else {
            Self::Other
        }
    }

    /// As a map knows it.
    pub fn name(self) -> &'static HeaderName {
        &NAMES[self as usize]
    }

    /// Lower-case; empty for `Other`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Other => "",
            Self::Host => "host",
            Self::Connection => "connection",
            Self::KeepAlive => "keep-alive",
            Self::ProxyConnection => "proxy-connection",
            Self::TransferEncoding => "transfer-encoding",
            Self::ContentLength => "content-length",
            Self::Te => "te",
            Self::Upgrade => "upgrade",
            Self::Http2Settings => "http2-settings",
            Self::Expect => "expect",
            Self::Trailer => "trailer",
            Self::ContentType => "content-type",
            Self::GrpcStatus => "grpc-status",
            Self::XRequestId => "x-request-id",
            Self::UserAgent => "user-agent",
            Self::XForwardedProto => "x-forwarded-proto",
            Self::XTsunagiUnprocessed => "x-tsunagi-unprocessed",
            Self::GrpcTimeout => "grpc-timeout",
            Self::XEnvoyAttemptCount => "x-envoy-attempt-count",
        }
    }
}

/// A set of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KnownSet(u32);

impl KnownSet {
    pub const EMPTY: Self = Self(0);

    /// What concerns one connection only (RFC 9110, 7.6.1). `Te` is one of them too, but `trailers` may pass.
    pub const HOP_BY_HOP: Self = Self::of(&[
        Known::Connection,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::TransferEncoding,
        Known::Upgrade,
        Known::Http2Settings,
    ]);

    /// What must not come as a trailer: it frames or routes the message, or ends at a hop.
    pub const NO_TRAILER: Self = Self::of(&[
        Known::Host,
        Known::ContentLength,
        Known::Te,
        Known::Trailer,
        Known::Expect,
    ])
    .and(Self::HOP_BY_HOP);

    pub const fn of(members: &[Known]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < members.len() {
            set |= 1 << members[at] as u32;
            at += 1;
        }
        Self(set)
    }

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub const fn has(self, known: Known) -> bool {
        self.0 & (1 << known as u32) != 0
    }

    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn insert(&mut self, known: Known) {
        self.0 |= 1 << known as u32;
    }

    pub const fn remove(&mut self, known: Known) {
        self.0 &= !(1 << known as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Known; 19] = [
        Known::Host,
        Known::Connection,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::TransferEncoding,
        Known::ContentLength,
        Known::Te,
        Known::Upgrade,
        Known::Http2Settings,
        Known::Expect,
        Known::Trailer,
        Known::ContentType,
        Known::GrpcStatus,
        Known::XRequestId,
        Known::UserAgent,
        Known::XForwardedProto,
        Known::XTsunagiUnprocessed,
        Known::GrpcTimeout,
        Known::XEnvoyAttemptCount,
    ];

    #[test]
    fn every_known_name_is_recognised_in_any_case_and_nothing_like_it() {
        for known in ALL {
            let name = known.as_str();
            assert_eq!(known.name(), name);
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
            assert_eq!(Known::of(name.to_ascii_uppercase().as_bytes()), known, "{name}");
            let mut other = name.as_bytes().to_vec();
            *other.last_mut().unwrap() = b'_';
            assert_eq!(Known::of(&other), Known::Other, "{name}");
            other.push(b'x');
            assert_eq!(Known::of(&other), Known::Other, "{name}");
        }
        assert_eq!(Known::of(b""), Known::Other);
        assert_eq!(Known::of(b"\x48ost"), Known::Host);
        assert_eq!(Known::of(b"(ost"), Known::Other);
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let mut set = KnownSet::of(&[Known::Host, Known::UserAgent]);
        assert!(set.has(Known::Host) && set.has(Known::UserAgent) && !set.has(Known::Te));
        set.remove(Known::Host);
        set.insert(Known::Te);
        assert!(!set.has(Known::Host) && set.has(Known::Te));
        assert!(!set.meets(KnownSet::HOP_BY_HOP));
        set.insert(Known::Upgrade);
        assert!(set.meets(KnownSet::HOP_BY_HOP));
        assert!(!set.without(KnownSet::HOP_BY_HOP).has(Known::Upgrade));
    }
}
