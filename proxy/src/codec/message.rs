//! Heads of requests and responses, alike for both protocols: HTTP/1's as the bytes that came, HTTP/2's as a map.

use std::ops::Range;

use http::{Method, StatusCode, Uri, Version};

use super::headers::Headers;

#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    pub version: Version,
    pub target: Target,
    pub headers: Headers,
    /// What the connection or the stream is to go on in, if the endpoint agrees: of `Upgrade` or of `:protocol`.
    pub upgrade: Option<Box<str>>,
    /// Over HTTP/2 on a connection that began as HTTP/1.1: all that is known of the server is that it speaks this.
    pub by_upgrade: bool,
}

/// What a request is for, as the client wrote it.
#[derive(Debug, Clone)]
pub enum Target {
    /// HTTP/1: the request line's, checked; reused from request to request.
    Text(TargetText),
    /// HTTP/2: the pseudo headers.
    Uri(Uri),
}

/// `/path?query`, `http://host/path`, `host:port` (CONNECT) or `*`.
#[derive(Debug, Default, Clone)]
pub struct TargetText {
    pub(super) text: String,
    /// Empty: none, `Host` says it.
    pub(super) authority: Range<usize>,
    /// Query included; empty for CONNECT.
    pub(super) path_and_query: Range<usize>,
}

#[derive(Debug)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    /// HTTP/1's words after the status, where they are not the usual ones.
    pub reason: Option<String>,
    pub headers: Headers,
}
