//! Which endpoint of a cluster gets a request: DestinationRule `loadBalancer`, but for what concerns localities.

use std::time::Duration;

use http::HeaderName;

use super::{Invalid, duration};
use crate::wire::mesh;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancer {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    ConsistentHash(ConsistentHash),
}

/// `consistentHash`: equal keys go to the same endpoint as long as it is there and healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistentHash {
    pub key: HashKey,
    pub table: HashTable,
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// In lower case.
    Header(String),
    Cookie(HashCookie),
    SourceAddress,
    QueryParameter(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCookie {
    pub name: String,
    /// Empty: not said.
    pub path: String,
    /// `None`: a client without the cookie is given none. Zero: one for its session.
    pub ttl: Option<Duration>,
    /// Name and value, in the order written; an empty value: the name alone.
    pub attributes: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashTable {
    /// At least as many points, 1 to [`MAX_RING_SIZE`].
    Ring(u64),
    /// A prime number of places, at most [`MAX_MAGLEV_SIZE`].
    Maglev(u64),
}

/// Envoy's greatest ring.
pub const MAX_RING_SIZE: u64 = 8 * 1024 * 1024;
/// Envoy's greatest table.
pub const MAX_MAGLEV_SIZE: u64 = 5_000_011;

/// `warmup`: the share of an endpoint grows to its weight over a window that begins when it becomes ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    pub duration: Duration,
    /// Of its weight, 0 to 100: where it begins.
    pub minimum_percent: f64,
    /// The share is (time / window) ^ (1 / aggression). Greater than 0.
    pub aggression: f64,
}

impl LoadBalancer {
    pub(super) fn new(simple: mesh::LoadBalancer, hash: Option<mesh::ConsistentHash>) -> Result<Self, Invalid> {
        if let Some(hash) = hash {
            let hash = ConsistentHash::try_from(hash).map_err(|error| error.within("consistent_hash"))?;
            return Ok(Self::ConsistentHash(hash));
        }
        Ok(match simple {
            mesh::LoadBalancer::LeastRequest => Self::LeastRequest,
            mesh::LoadBalancer::RoundRobin => Self::RoundRobin,
            mesh::LoadBalancer::Random => Self::Random,
        })
    }
}

impl TryFrom<mesh::ConsistentHash> for ConsistentHash {
    type Error = Invalid;

    fn try_from(wire: mesh::ConsistentHash) -> Result<Self, Invalid> {
        use mesh::consistent_hash::{Key, Table};
        let named = |field, name: String| {
            if name.is_empty() {
                Err(Invalid::new(field, "must not be empty"))
            } else {
                Ok(name)
            }
        };
        let key = match wire.key {
            Some(Key::Header(name)) => {
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| Invalid::new("header", "not a header name"))?;
                HashKey::Header(name)
            }
            Some(Key::Cookie(cookie)) => HashKey::Cookie(HashCookie {
                name: part_of_cookie("cookie.name", named("cookie.name", cookie.name)?)?,
                path: part_of_cookie("cookie.path", cookie.path)?,
                ttl: match cookie.ttl {
                    Some(ttl) => Some(duration("cookie.ttl", Some(ttl))?.unwrap_or(Duration::ZERO)),
                    None => None,
                },
                attributes: cookie
                    .attributes
                    .into_iter()
                    .map(|item| {
                        let part = |text| part_of_cookie("cookie.attributes", text);
                        Ok((part(item.name)?, part(item.value)?))
                    })
                    .collect::<Result<_, Invalid>>()?,
            }),
            Some(Key::SourceAddress(true)) => HashKey::SourceAddress,
            Some(Key::QueryParameter(name)) => HashKey::QueryParameter(named("query_parameter", name)?),
            Some(Key::SourceAddress(false)) | None => return Err(Invalid::new("key", "must be set")),
        };
        let table = match wire.table {
            Some(Table::RingSize(size @ 1..=MAX_RING_SIZE)) => HashTable::Ring(size),
            Some(Table::MaglevSize(size @ 2..=MAX_MAGLEV_SIZE)) if is_prime(size) => HashTable::Maglev(size),
            Some(Table::RingSize(_)) => {
                return Err(Invalid::new("ring_size", format!("must be 1 to {MAX_RING_SIZE}")));
            }
            Some(Table::MaglevSize(_)) => {
                return Err(Invalid::new(
                    "maglev_size",
                    format!("must be a prime number of at most {MAX_MAGLEV_SIZE}"),
                ));
            }
            None => return Err(Invalid::new("table", "must be set")),
        };
        Ok(Self { key, table })
    }
}

/// In `Set-Cookie` it ends where a semicolon is, and the header where its line does.
fn part_of_cookie(field: &str, text: String) -> Result<String, Invalid> {
    if text.bytes().any(|byte| byte == b';' || !(b' '..=b'~').contains(&byte)) {
        return Err(Invalid::new(field, "cannot be part of a cookie"));
    }
    Ok(text)
}

/// By trial division: of a number of at most seven digits.
pub fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

impl TryFrom<mesh::Warmup> for Warmup {
    type Error = Invalid;

    fn try_from(wire: mesh::Warmup) -> Result<Self, Invalid> {
        if !(0.0..=100.0).contains(&wire.minimum_percent) {
            return Err(Invalid::new("minimum_percent", "must be 0 to 100"));
        }
        if !(wire.aggression.is_finite() && wire.aggression > 0.0) {
            return Err(Invalid::new("aggression", "must be greater than 0"));
        }
        Ok(Self {
            duration: duration("duration", wire.duration)?.ok_or_else(|| Invalid::new("duration", "must be set"))?,
            minimum_percent: wire.minimum_percent,
            aggression: wire.aggression,
        })
    }
}
