//! The key of one request, where its cluster chooses endpoints by a key. Read once the request is as it leaves, by
//! `request_path`, and by `mirror` for each copy.
//!
//! Source: Envoy's `hash_policy.cc`. A client without the cookie is given one: the same for all requests of a connection,
//! because streams that race would else be given several. Ours on purpose: its value is a keyed hash, which tells nobody
//! the client's address.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, header};
use tsunagi_proto::decide::{Fields, query_value};

use super::downstream::DownstreamConnection;
use crate::codec::RequestHead;
use crate::snapshot::Cluster;
use crate::upstream::{CookieKey, RequestKey, hash_address, hash_text, hash_values};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

#[derive(Debug, Default)]
pub struct Keyed {
    /// `None`: the request has no key, and any endpoint will do.
    pub hash: Option<u64>,
    /// The response brings it to the client.
    pub set_cookie: Option<HeaderValue>,
}

/// As `hash_request`, for a request whose client can be given a cookie.
pub fn key_of(cluster: &Cluster, head: &RequestHead, downstream: &DownstreamConnection) -> Keyed {
    let hash = hash_request(cluster, head, downstream.remote);
    match &cluster.members.key {
        Some(RequestKey::Cookie(cookie)) if hash.is_none() => give(cookie, downstream),
        _ => Keyed { hash, set_cookie: None },
    }
}

/// `None`: it has no key, or needs none.
pub fn hash_request(cluster: &Cluster, head: &RequestHead, remote: Option<SocketAddr>) -> Option<u64> {
    match cluster.members.key.as_ref()? {
        RequestKey::Header(name) => hash_values(head.headers.values(name)),
        RequestKey::Cookie(cookie) => cookie_value(head, &cookie.name).map(hash_text),
        RequestKey::SourceAddress => source(head, remote).map(hash_address),
        RequestKey::QueryParameter(name) => query_value(name, head.query()).map(|value| hash_text(value.as_bytes())),
    }
}

/// An application's requests all come from its own address, so who has asked it counts where it says so: the last of
/// `x-forwarded-for`, as for Envoy without `use_remote_address`, which is how Istio sets up sidecars.
fn source(head: &RequestHead, remote: Option<SocketAddr>) -> Option<IpAddr> {
    let forwarded = head.headers.values(&FORWARDED_FOR).last().and_then(|value| {
        let last = value.rsplit(|byte| *byte == b',').next()?;
        str::from_utf8(last.trim_ascii()).ok()?.parse().ok()
    });
    forwarded.or_else(|| remote.map(|remote| remote.ip()))
}

fn give(cookie: &CookieKey, downstream: &DownstreamConnection) -> Keyed {
    let value = SECRET.hash_one((downstream.remote, downstream.original_destination));
    let value = format!("{value:016x}");
    let set_cookie = cookie.give(&value);
    Keyed {
        hash: set_cookie.is_some().then(|| hash_text(value.as_bytes())),
        set_cookie,
    }
}

/// The first of the name, without the quotes that it may be in; an empty one is none.
fn cookie_value<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let lines = head.headers.values(&header::COOKIE);
    let value = lines
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let pair = pair.trim_ascii();
            let rest = pair.strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        })?;
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(bare.unwrap_or(value)).filter(|value| !value.is_empty())
}
