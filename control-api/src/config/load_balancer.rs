//! `loadBalancer`: which endpoint gets a request. Checked as Istio checks it (validation.go: validateLoadBalancer); Istio's
//! and Envoy's defaults are filled in. Called by `traffic_policy`.

use std::collections::HashSet;
use std::time::Duration;

use http::HeaderName;
use tsunagi_proto::model::{
    ConsistentHash, HashCookie, HashKey, HashTable, MAX_MAGLEV_SIZE, MAX_RING_SIZE, Warmup, is_prime,
};

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{About, LocalitySetting, locality};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancer {
    pub algorithm: Algorithm,
    /// `localityLbSetting` or `zoneAwareLbSetting`. `None`: neither is there, the mesh's default counts.
    pub locality: Option<LocalitySetting>,
    /// `warmup`, or the old `warmupDurationSecs`; only of least request and round robin has it an effect.
    pub warmup: Option<Warmup>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Algorithm {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
    /// To where the client has connected to.
    Passthrough,
    ConsistentHash(ConsistentHash),
}

impl LoadBalancer {
    /// Of the table that a proxy makes for each cluster with this balancer.
    pub(super) fn table_size(&self) -> u64 {
        match &self.algorithm {
            Algorithm::ConsistentHash(hash) => match hash.table {
                HashTable::Ring(size) | HashTable::Maglev(size) => size,
            },
            _ => 0,
        }
    }
}

pub(super) const BALANCER: Fields = Fields {
    supported: &[
        "simple",
        "consistentHash",
        "localityLbSetting",
        "zoneAwareLbSetting",
        "warmup",
        "warmupDurationSecs",
    ],
    later: &[],
};
pub(super) const HASH: Fields = Fields {
    supported: &[
        "httpHeaderName",
        "httpCookie",
        "useSourceIp",
        "httpQueryParameterName",
        "ringHash",
        "maglev",
        "minimumRingSize",
    ],
    later: &[],
};
pub(super) const COOKIE: Fields = Fields {
    supported: &["name", "path", "ttl", "attributes"],
    later: &[],
};
const ATTRIBUTE: Fields = Fields {
    supported: &["name", "value"],
    later: &[],
};
const RING: Fields = Fields {
    supported: &["minimumRingSize"],
    later: &[],
};
const MAGLEV: Fields = Fields {
    supported: &["tableSize"],
    later: &[],
};
pub(super) const WARMUP: Fields = Fields {
    supported: &["duration", "minimumPercent", "aggression"],
    later: &[],
};

const SIMPLE: [&str; 4] = ["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM", "PASSTHROUGH"];
const KEYS: [&str; 4] = ["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"];
const TABLES: [&str; 3] = ["ringHash", "maglev", "minimumRingSize"];
/// Envoy's.
const RING_SIZE: u64 = 1024;
/// Envoy's share of its weight with which an endpoint begins, in percent.
const MINIMUM_PERCENT: f64 = 10.0;
const MOST_ATTRIBUTES: usize = 32;
const LONGEST_TEXT: usize = 1024;

pub(super) fn read(block: &Field<'_>) -> LoadBalancer {
    let inner = [
        ("consistentHash", &HASH),
        ("localityLbSetting", &locality::LOCALITY),
        ("zoneAwareLbSetting", &locality::ZONE_AWARE),
        ("warmup", &WARMUP),
    ];
    if !block.is_message_around(&BALANCER, &inner) {
        return LoadBalancer::default();
    }
    only_one(block, &["simple", "consistentHash"]);
    only_one(block, &["localityLbSetting", "zoneAwareLbSetting"]);
    only_one(block, &["warmup", "warmupDurationSecs"]);
    let algorithm = match block.get("consistentHash") {
        Some(hash) => consistent_hash(&hash).map(Algorithm::ConsistentHash),
        None => block.get("simple").map(|field| simple(&field)),
    };
    let setting = match block.get("zoneAwareLbSetting") {
        Some(zones) => Some(locality::read_zone_aware(&zones)),
        None => block.get("localityLbSetting").map(|block| locality::read(&block)),
    };
    let warmup = match block.get("warmup") {
        Some(warmup) => read_warmup(&warmup),
        None => block
            .get("warmupDurationSecs")
            .and_then(|field| field.positive_duration())
            .map(linear),
    };
    let algorithm = algorithm.unwrap_or_default();
    if warmup.is_some() && !matches!(algorithm, Algorithm::LeastRequest | Algorithm::RoundRobin) {
        let name = if block.get("warmup").is_some() {
            "warmup"
        } else {
            "warmupDurationSecs"
        };
        block.remark_at(
            name,
            About::Warmup,
            "has no effect: only LEAST_REQUEST and ROUND_ROBIN warm endpoints up",
        );
    }
    LoadBalancer {
        algorithm,
        locality: setting,
        warmup,
    }
}

/// Of these fields.
fn only_one(block: &Field<'_>, names: &[&str]) {
    let mut set = names.iter().filter(|name| block.get(name).is_some());
    if let (Some(first), Some(second)) = (set.next(), set.next()) {
        block.refuse_at(second, format!("set either `{first}` or `{second}`, not both"));
    }
}

fn simple(field: &Field<'_>) -> Algorithm {
    match field.choice(&SIMPLE) {
        Some("ROUND_ROBIN") => return Algorithm::RoundRobin,
        Some("RANDOM") => return Algorithm::Random,
        Some("PASSTHROUGH") => return Algorithm::Passthrough,
        None | Some("LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED") => {}
        Some(other @ ("RING_HASH" | "MAGLEV")) => {
            let table = if other == "MAGLEV" { "maglev" } else { "ringHash" };
            field.refuse(format!("{other} is not simple: write `consistentHash` with `{table}`"));
        }
        Some(other) if other.replace(['_', '-'], "").eq_ignore_ascii_case("leastconn") => {
            let old = "the old name of `LEAST_REQUEST`";
            field.refuse(format!("{}: did you mean `LEAST_CONN`, {old}?", shown(other)));
        }
        Some(other) => field.refuse_choice(other, &SIMPLE),
    }
    Algorithm::LeastRequest
}

fn consistent_hash(block: &Field<'_>) -> Option<ConsistentHash> {
    let inner = [("httpCookie", &COOKIE), ("ringHash", &RING), ("maglev", &MAGLEV)];
    if !block.is_message_around(&HASH, &inner) {
        return None;
    }
    only_one(block, &KEYS);
    let old_size = block.get("minimumRingSize").is_some_and(|size| !size.is_zero());
    // Zero is not set, as in Istio.
    only_one(block, if old_size { &TABLES } else { &TABLES[..2] });
    let table = table(block);
    let Some(name) = KEYS.iter().find(|name| block.get(name).is_some()) else {
        // Without a key Envoy takes any endpoint.
        block.refuse(format!("must have one of {}", KEYS.join(", ")));
        return None;
    };
    let key = block.get(name).and_then(|field| match *name {
        "httpHeaderName" => header(&field),
        "httpCookie" => cookie(&field),
        "useSourceIp" => source_address(&field),
        _ => query_parameter(&field),
    });
    Some(ConsistentHash {
        key: key?,
        table: table?,
    })
}

fn header(field: &Field<'_>) -> Option<HashKey> {
    let name = field.word()?.to_ascii_lowercase();
    if name.starts_with(':') {
        field.not_supported_yet("a pseudo-header");
    } else if HeaderName::from_bytes(name.as_bytes()).is_err() {
        field.refuse(format!("{} is not a header name", shown(&name)));
    } else {
        return Some(HashKey::Header(name));
    }
    None
}

fn source_address(field: &Field<'_>) -> Option<HashKey> {
    if !field.flag()? {
        field.refuse("must be true, or another key must be there");
        return None;
    }
    Some(HashKey::SourceAddress)
}

fn query_parameter(field: &Field<'_>) -> Option<HashKey> {
    let name = field.word()?;
    if name.len() > LONGEST_TEXT {
        field.refuse(format!("longer than {LONGEST_TEXT} bytes"));
    }
    Some(HashKey::QueryParameter(name.to_owned()))
}

fn cookie(block: &Field<'_>) -> Option<HashKey> {
    if !block.is_message(&COOKIE) {
        return None;
    }
    let path = block.get("path").and_then(|field| part_of_cookie(&field));
    let ttl = block.get("ttl").map(|field| field.duration().unwrap_or_default());
    let attributes = block.get("attributes").map(|list| attributes(&list));
    let field = block.required("name")?;
    let name = field.word()?;
    if !is_token(name) {
        field.refuse(format!("{} is not the name of a cookie", shown(name)));
    }
    Some(HashKey::Cookie(HashCookie {
        name: name.to_owned(),
        path: path.unwrap_or_default(),
        ttl,
        attributes: attributes.unwrap_or_default(),
    }))
}

fn attributes(list: &Field<'_>) -> Vec<(String, String)> {
    let items = list.items();
    if items.len() > MOST_ATTRIBUTES {
        list.refuse(format!("{} attributes, more than {MOST_ATTRIBUTES}", items.len()));
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut attributes = Vec::with_capacity(items.len());
    for item in &items {
        if !item.is_message(&ATTRIBUTE) {
            continue;
        }
        let value = item.get("value").and_then(|field| part_of_cookie(&field));
        let Some(field) = item.required("name") else { continue };
        let Some(name) = field.word() else { continue };
        if !is_token(name) {
            field.refuse(format!("{} is not an attribute of a cookie", shown(name)));
        } else if !seen.insert(name.to_ascii_lowercase()) {
            field.refuse(format!("{} is there twice", shown(name)));
        }
        attributes.push((name.to_owned(), value.unwrap_or_default()));
    }
    attributes
}

/// What RFC 6265 lets a path or the value of an attribute be.
fn part_of_cookie(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let good = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b';';
    if text.len() > LONGEST_TEXT || !text.bytes().all(good) {
        field.refuse(format!("{} cannot be part of a cookie", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

/// As in RFC 9110, of which a header's name is one.
fn is_token(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && HeaderName::from_bytes(text.as_bytes()).is_ok()
}

fn table(block: &Field<'_>) -> Option<HashTable> {
    if let Some(maglev) = block.get("maglev") {
        return if maglev.is_message(&MAGLEV) {
            maglev_table(&maglev)
        } else {
            None
        };
    }
    if let Some(ring) = block.get("ringHash") {
        return if ring.is_message(&RING) {
            ring_table(&ring)
        } else {
            None
        };
    }
    ring_table(block)
}

/// Zero is not set.
fn ring_table(block: &Field<'_>) -> Option<HashTable> {
    let Some(field) = block.get("minimumRingSize") else {
        return Some(HashTable::Ring(RING_SIZE));
    };
    let size = field.number(0, i64::try_from(MAX_RING_SIZE).unwrap_or(i64::MAX))?;
    let size = u64::try_from(size).ok().filter(|size| *size > 0);
    Some(HashTable::Ring(size.unwrap_or(RING_SIZE)))
}

fn maglev_table(block: &Field<'_>) -> Option<HashTable> {
    let field = block.required("tableSize")?;
    // Istio takes what is less than Envoy's greatest table.
    let size = field.number(2, i64::try_from(MAX_MAGLEV_SIZE - 1).unwrap_or(i64::MAX))?;
    let size = u64::try_from(size).ok()?;
    if !is_prime(size) {
        field.refuse(format!("{size} must be a prime number, as 65537 is"));
        return None;
    }
    Some(HashTable::Maglev(size))
}

/// As the old field means it.
fn linear(duration: Duration) -> Warmup {
    Warmup {
        duration,
        minimum_percent: MINIMUM_PERCENT,
        aggression: 1.0,
    }
}

fn read_warmup(block: &Field<'_>) -> Option<Warmup> {
    if !block.is_message(&WARMUP) {
        return None;
    }
    let least = block.get("minimumPercent").and_then(|field| field.decimal(0.0, 100.0));
    let aggression = block.get("aggression").and_then(|field| {
        let aggression = field.decimal(f64::MIN, f64::MAX)?;
        if aggression <= 0.0 {
            field.refuse(format!("{aggression} must be greater than 0"));
        }
        Some(aggression)
    });
    let duration = block.required("duration")?.positive_duration()?;
    Some(Warmup {
        minimum_percent: least.unwrap_or(MINIMUM_PERCENT),
        aggression: aggression.unwrap_or(1.0),
        ..linear(duration)
    })
}
