//! What of a request is its key, ready to be looked for: made once a publish, read by `http` for every request.

use std::fmt::Write;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use tsunagi_proto::model::{HashCookie, HashKey, LoadBalancer};
use xxhash_rust::xxh64::{Xxh64, xxh64};

#[derive(Debug, Clone)]
pub enum RequestKey {
    Header(HeaderName),
    Cookie(CookieKey),
    SourceAddress,
    QueryParameter(Box<str>),
}

#[derive(Debug, Clone)]
pub struct CookieKey {
    pub name: Box<str>,
    /// What follows the value where a client is given the cookie; `None`: it is given none.
    attributes: Option<Box<str>>,
}

impl RequestKey {
    /// `None`: requests have no key here.
    pub(in crate::upstream) fn of(load_balancer: &LoadBalancer) -> Option<Self> {
        let LoadBalancer::ConsistentHash(hash) = load_balancer else {
            return None;
        };
        match &hash.key {
            HashKey::Header(name) => HeaderName::from_bytes(name.as_bytes()).ok().map(Self::Header),
            HashKey::Cookie(cookie) => Some(Self::Cookie(CookieKey::new(cookie))),
            HashKey::SourceAddress => Some(Self::SourceAddress),
            HashKey::QueryParameter(name) => Some(Self::QueryParameter(name.as_str().into())),
        }
    }
}

impl CookieKey {
    fn new(cookie: &HashCookie) -> Self {
        Self {
            name: cookie.name.as_str().into(),
            attributes: cookie.ttl.map(|_| attributes(cookie).into()),
        }
    }

    /// `Set-Cookie` with this value, for a client that has none; `None`: it is given none.
    pub fn give(&self, value: &str) -> Option<HeaderValue> {
        let attributes = self.attributes.as_ref()?;
        HeaderValue::try_from(format!("{}=\"{value}\"{attributes}", self.name)).ok()
    }
}

/// As Envoy writes them (`Http::Utility::makeSetCookieValue`): no script reads the cookie. Without a time it is for the
/// client's session.
fn attributes(cookie: &HashCookie) -> String {
    let mut text = String::new();
    // Writing into a `String` does not fail.
    if let Some(ttl) = cookie.ttl.filter(|ttl| !ttl.is_zero()) {
        // Less than a second is not nothing, which would mean the session.
        let _ = write!(text, "; Max-Age={}", ttl.as_secs().max(1));
    }
    if !cookie.path.is_empty() {
        let _ = write!(text, "; Path={}", cookie.path);
    }
    for (name, value) in &cookie.attributes {
        let _ = match value.as_str() {
            "" => write!(text, "; {name}"),
            value => write!(text, "; {name}={value}"),
        };
    }
    let said = |(name, _): &(String, String)| name.eq_ignore_ascii_case("HttpOnly");
    if !cookie.attributes.iter().any(said) {
        text.push_str("; HttpOnly");
    }
    text
}

/// Of a key that is one text.
pub fn hash_text(text: &[u8]) -> u64 {
    xxh64(text, 0)
}

/// Of several as if they had come as one, with commas between. `None`: there is none.
pub fn hash_values<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<u64> {
    let first = values.next()?;
    let Some(second) = values.next() else {
        return Some(hash_text(first));
    };
    let mut hash = Xxh64::new(0);
    hash.update(first);
    for value in std::iter::once(second).chain(values) {
        hash.update(b",");
        hash.update(value);
    }
    Some(hash.digest())
}

/// Of a client's address.
pub fn hash_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => xxh64(&address.octets(), 0),
        IpAddr::V6(address) => xxh64(&address.octets(), 0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cookie(ttl: Option<Duration>, path: &str, attributes: &[(&str, &str)]) -> CookieKey {
        CookieKey::new(&HashCookie {
            name: "user".into(),
            path: path.into(),
            ttl,
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        })
    }

    #[test]
    fn a_client_is_given_the_cookie_with_its_attributes_if_it_has_a_time() {
        assert_eq!(cookie(None, "/", &[]).give("1f"), None);
        let session = cookie(Some(Duration::ZERO), "", &[]);
        assert_eq!(session.give("1f").unwrap(), "user=\"1f\"; HttpOnly");
        let attributes = [("SameSite", "Strict"), ("Secure", ""), ("httponly", "")];
        let whole = cookie(Some(Duration::from_millis(90_500)), "/a", &attributes);
        let expected = "user=\"1f\"; Max-Age=90; Path=/a; SameSite=Strict; Secure; httponly";
        assert_eq!(whole.give("1f").unwrap(), expected);
        let short = cookie(Some(Duration::from_millis(1)), "", &[]);
        assert_eq!(short.give("1f").unwrap(), "user=\"1f\"; Max-Age=1; HttpOnly");
    }

    #[test]
    fn values_that_came_apart_have_the_key_of_those_that_came_as_one() {
        let apart = hash_values([&b"a"[..], b"b", b"c"].into_iter());
        assert_eq!(apart, hash_values([&b"a,b,c"[..]].into_iter()));
        assert_ne!(apart, hash_values([&b"a,bc"[..]].into_iter()));
        assert_eq!(hash_values([].into_iter()), None);
        let mapped = hash_address("::ffff:10.0.0.1".parse().unwrap());
        assert_eq!(
            mapped,
            hash_address("10.0.0.1".parse().unwrap()),
            "one client is one, however it is written"
        );
    }
}
