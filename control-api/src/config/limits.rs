//! How large one document may make the world. Every host of a VirtualService gets all of its rules and every host of a
//! ServiceEntry all of its endpoints, so a short text can mean a lot: what would take seconds and hundreds of megabytes
//! is refused before it is read. So is what a DestinationRule's subsets and hash tables would take in a proxy. Called by the
//! readers of these kinds.

use serde_json::Value;
use tsunagi_proto::model::MAX_RING_SIZE;

use super::read::Field;
use super::{DestinationRule, LoadBalancer, TrafficPolicy, regex_size};

/// Hosts times what each of them gets.
const MOST_ITEMS: usize = 100_000;
/// The same in bytes of text.
const MOST_BYTES: usize = 32 << 20;
/// What a field costs besides its text.
const FIELD_BYTES: usize = 16;
const MOST_REGEXES: usize = 1_000;
/// All patterns together.
const MOST_PATTERN_BYTES: usize = 64 << 10;
/// All patterns together as a proxy holds them.
const MOST_REGEX_BYTES: u64 = 8 << 20;
/// Points and places of all hash tables that one rule asks for: four times Envoy's greatest ring.
const MOST_TABLE_PLACES: u64 = 4 * MAX_RING_SIZE;

/// Hosts, and the matches and destinations of all rules; the regexes among them.
pub(super) fn of_virtual_service(spec: &Field<'_>) -> bool {
    let value = spec.value();
    let rules = ["http", "tls", "tcp"].into_iter().flat_map(|kind| list(value, kind));
    let items: usize = rules.map(items).sum();
    let hosts = list(value, "hosts").len();
    // A delegate's rules go to the hosts of others, at least to one.
    let times = hosts.max(1);
    product(spec, "hosts", &[(times, "hosts"), (items, "matches and destinations")])
        && ["http", "tls", "tcp"]
            .into_iter()
            .all(|kind| bytes(spec, times, value.get(kind)))
        && regexes(spec, value)
}

/// What a proxy holds of a rule.
fn items(rule: &Value) -> usize {
    let names = ["sniHosts", "sni_hosts", "destinationSubnets", "destination_subnets"];
    let of_match = |item: &Value| names.iter().map(|name| list(item, name).len()).sum::<usize>().max(1);
    let matches: usize = list(rule, "match").iter().map(of_match).sum();
    (matches + list(rule, "route").len() + list(rule, "mirrors").len()).max(1)
}

/// Hosts, ports and endpoints.
pub(super) fn of_service_entry(spec: &Field<'_>) -> bool {
    let count = |name| list(spec.value(), name).len();
    let (hosts, ports, endpoints) = (count("hosts"), count("ports"), count("endpoints"));
    let factors = [
        (hosts, "hosts"),
        (ports, "ports"),
        // Without one there may be as many that are selected.
        (endpoints.max(1), "endpoints"),
    ];
    product(spec, "hosts", &factors) && bytes(spec, hosts, spec.value().get("endpoints"))
}

/// Every subset gets what `trafficPolicy` says.
pub(super) fn of_destination_rule(spec: &Field<'_>) -> bool {
    let subsets = list(spec.value(), "subsets").len();
    let policy = spec.value().get("trafficPolicy").or(spec.value().get("traffic_policy"));
    let product = policy.map_or(0, size).saturating_mul(subsets + 1);
    if subsets > MOST_ITEMS {
        spec.refuse_at(
            "subsets",
            format!("{subsets} subsets, more than {MOST_ITEMS}: split it"),
        );
    } else if product > MOST_BYTES {
        let limit = MOST_BYTES >> 20;
        spec.refuse_at(
            "subsets",
            format!(
                "{subsets} subsets times the trafficPolicy that each of them gets are more than {limit} MiB: split it"
            ),
        );
    } else {
        return true;
    }
    false
}

/// Of the host, of its subsets, and of ports that have balancers of their own.
pub(super) fn of_hash_tables(spec: &Field<'_>, rule: &DestinationRule) {
    let of_block = |block: &Option<LoadBalancer>| block.as_ref().map_or(0, LoadBalancer::table_size);
    let all = |policy: &TrafficPolicy| {
        let ports = policy.port_level.values().map(|port| of_block(&port.load_balancer));
        ports.fold(of_block(&policy.load_balancer), u64::saturating_add)
    };
    let top = rule.policy.as_ref().map_or(0, all);
    let subsets = rule.subsets.iter().map(|subset| match &subset.policy {
        Some(own) if own.load_balancer.is_some() => all(own),
        Some(own) => all(own).saturating_add(top),
        None => top,
    });
    let places = subsets.fold(top, u64::saturating_add);
    if places > MOST_TABLE_PLACES {
        let reason = format!(
            "the hash tables of the host and its subsets have {places} places, more than {MOST_TABLE_PLACES}: make them smaller, or split it"
        );
        spec.refuse_at("trafficPolicy", reason);
    }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn product(spec: &Field<'_>, at: &str, factors: &[(usize, &str)]) -> bool {
    let product = factors
        .iter()
        .fold(1_usize, |product, (count, _)| product.saturating_mul(*count));
    if product > MOST_ITEMS {
        let factors: Vec<String> = factors.iter().map(|(count, what)| format!("{count} {what}")).collect();
        let factors = factors.join(" times ");
        spec.refuse_at(at, format!("{factors} are {product}, more than {MOST_ITEMS}: split it"));
    }
    product <= MOST_ITEMS
}

fn bytes(spec: &Field<'_>, hosts: usize, repeated: Option<&Value>) -> bool {
    let product = repeated.map_or(0, size).saturating_mul(hosts);
    if product > MOST_BYTES {
        let limit = MOST_BYTES >> 20;
        spec.refuse_at(
            "hosts",
            format!("{hosts} hosts times what each of them gets are more than {limit} MiB: split it"),
        );
    }
    product <= MOST_BYTES
}

/// The document is nested at most as deep as its reader allows.
fn size(value: &Value) -> usize {
    let inner: usize = match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        _ => 0,
    };
    FIELD_BYTES + inner
}

fn regexes(spec: &Field<'_>, value: &Value) -> bool {
    let mut patterns = Vec::new();
    for rule in list(value, "http") {
        find_patterns(rule, &mut patterns);
    }
    let length: usize = patterns.iter().map(|pattern| pattern.len()).sum();
    let compiled = patterns
        .iter()
        .fold(0_u64, |sum, pattern| sum.saturating_add(regex_size::bytes(pattern)));
    let reason = if patterns.len() > MOST_REGEXES {
        format!("{} regexes, more than {MOST_REGEXES}", patterns.len())
    } else if length > MOST_PATTERN_BYTES {
        format!("{length} bytes of regexes, more than {MOST_PATTERN_BYTES}")
    } else if compiled > MOST_REGEX_BYTES {
        let limit = MOST_REGEX_BYTES >> 20;
        format!(
            "its {} regexes would take more than {limit} MiB in every proxy (a counted repetition costs what it repeats, `.` and `[^/]` any character of Unicode)",
            patterns.len()
        )
    } else {
        return true;
    };
    spec.refuse_at("http", format!("{reason}: split it"));
    false
}

/// A `regex` of a match or of an origin, and the `match` of a rewrite.
fn find_patterns<'a>(value: &'a Value, patterns: &mut Vec<&'a str>) {
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| find_patterns(item, patterns));
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::String(pattern) if name == "regex" || name == "match" => patterns.push(pattern),
            Value::String(_) => {}
            value => find_patterns(value, patterns),
        }
    }
}
