//! What the reader of VirtualService accepts, a proxy accepts: random documents of every field, with values that are at
//! the edge of what each may be and beyond it.

use serde_json::{Map, Value, json};

use super::*;
use crate::config::from_object;

const ROUNDS: usize = 12_000;

pub(super) fn any(random: &mut StdRng, pool: &[Value]) -> Value {
    pool[random.random_range(0..pool.len())].clone()
}

/// A message with some of these fields.
pub(super) fn some(fields: Vec<(&str, Value)>, random: &mut StdRng) -> Value {
    let kept = fields.into_iter().filter(|_| random.random_range(0..3) == 0);
    Value::Object(kept.map(|(name, value)| (name.to_owned(), value)).collect())
}

pub(super) fn text(random: &mut StdRng) -> Value {
    let long = "x".repeat(300);
    any(
        random,
        &[
            json!("a"),
            json!("/a"),
            json!("/a?b=c"),
            json!(""),
            json!("a b"),
            json!("/é"),
            json!("/#"),
            json!("%"),
            json!("%%"),
            json!("[::1]:80"),
            json!("a.com:80"),
            json!("\\1"),
            json!("{a}"),
            json!("a\nb"),
            json!("\u{0}"),
            json!("\u{7f}"),
            json!("<\">^`|\\"),
            json!(long),
            json!(7),
            json!(null),
        ],
    )
}

fn string_match(random: &mut StdRng) -> Value {
    let value = text(random);
    let pool = [
        json!({ "exact": value }),
        json!({ "prefix": value }),
        json!({ "regex": value }),
        json!({"regex": "^(/a)(\\d+)$"}),
        json!({"regex": "*"}),
        json!({"prefix": ""}),
        json!({}),
    ];
    any(random, &pool)
}

fn named(random: &mut StdRng, value: impl Fn(&mut StdRng) -> Value) -> Value {
    let mut map = Map::new();
    for _ in 0..random.random_range(0..3) {
        let name = [
            "x-a",
            "X_B",
            "Host",
            ":authority",
            ":method",
            "Server",
            "a b",
            "content-length",
            "@request.auth.claims.a",
        ];
        map.insert(name[random.random_range(0..name.len())].to_owned(), value(random));
    }
    Value::Object(map)
}

fn percent(random: &mut StdRng) -> Value {
    let pool = [0.0, 0.0001, 0.000_049, 50.0, 99.99999, 100.0, 100.1, -1.0];
    json!({ "value": pool[random.random_range(0..pool.len())] })
}

pub(super) fn duration(random: &mut StdRng) -> Value {
    any(
        random,
        &[
            json!("1s"),
            json!("1ms"),
            json!("0s"),
            json!("8784h"),
            json!("8785h"),
            json!("1500ms"),
            json!("1h1ms"),
        ],
    )
}

fn destination(random: &mut StdRng) -> Value {
    let hosts = [
        json!("user"),
        json!("*.a.com"),
        json!("10.0.0.1"),
        json!("fd00::1"),
        json!("*"),
        json!("A.b."),
        json!("_a"),
    ];
    let host = any(random, &hosts);
    let mut destination = some(
        vec![("subset", json!("V1")), ("port", json!({"number": 65535}))],
        random,
    );
    destination["host"] = host;
    destination
}

fn operations(random: &mut StdRng) -> Value {
    let (set, add) = (named(random, text), named(random, text));
    let remove = [json!(["x-a"]), json!(["X-A", "x-a"]), json!(["te"])];
    let remove = any(random, &remove);
    let request = some(vec![("set", set), ("add", add), ("remove", remove.clone())], random);
    let response = some(vec![("set", json!({"x-b": "%%"})), ("remove", remove)], random);
    some(vec![("request", request), ("response", response)], random)
}

fn route(random: &mut StdRng, with_headers: bool) -> Value {
    let count = random.random_range(1..4);
    let destinations = (0..count).map(|_| {
        let weight = any(random, &[json!(0), json!(1), json!(i32::MAX)]);
        let headers = operations(random);
        let mut item = some(vec![("weight", weight), ("headers", headers)], random);
        if !with_headers {
            item.as_object_mut().unwrap().remove("headers");
        }
        item["destination"] = destination(random);
        item
    });
    Value::Array(destinations.collect())
}

fn client(random: &mut StdRng) -> Vec<(&'static str, Value)> {
    let gateways = [json!(["mesh"]), json!(["edge"]), json!(["a/b", "mesh"]), json!([])];
    vec![
        (
            "sourceLabels",
            any(random, &[json!({"a": "b"}), json!({"a.b/c": ""}), json!({"": "b"})]),
        ),
        ("sourceNamespace", any(random, &[json!("a"), json!(""), json!("A")])),
        ("gateways", any(random, &gateways)),
        ("port", any(random, &[json!(1), json!(65535), json!(0)])),
    ]
}

fn http_match(random: &mut StdRng) -> Value {
    let mut fields = client(random);
    for name in ["uri", "scheme", "method", "authority"] {
        fields.push((name, string_match(random)));
    }
    for name in ["headers", "withoutHeaders", "queryParams"] {
        fields.push((name, named(random, string_match)));
    }
    fields.push(("name", text(random)));
    fields.push(("statPrefix", text(random)));
    fields.push(("ignoreUriCase", json!(true)));
    // Few of them, or hardly one is without fault.
    let kept: Vec<_> = fields.into_iter().filter(|_| random.random_range(0..4) == 0).collect();
    some(kept, random)
}

fn connection_rule(random: &mut StdRng, tls: bool) -> Value {
    let subnets = [
        json!(["10.0.0.0/8"]),
        json!(["10.1.2.3/8", "::1"]),
        json!(["a"]),
        json!(["fd00::/129"]),
    ];
    let mut fields = client(random);
    fields.push(("destinationSubnets", any(random, &subnets)));
    let mut item = some(fields, random);
    let key = if tls { "sniHosts" } else { "sourceSubnet" };
    let values = match tls {
        true => [
            json!(["A.a.com", "*.a.com"]),
            json!(["*"]),
            json!(["user", "10.0.0.1", "fd00::1"]),
            json!(["*a.a.com"]),
        ],
        false => [json!("10.0.0.0/8"), json!("::1"), json!(""), json!("a")],
    };
    item[key] = any(random, &values);
    json!({"match": [item], "route": route(random, false)})
}

fn fault(random: &mut StdRng) -> Value {
    let delay = ["fixedDelay", "exponentialDelay"][random.random_range(0..2)];
    let mut delay = json!({ delay: duration(random) });
    delay["percentage"] = percent(random);
    let (code, value) = match random.random_range(0..3) {
        0 => (
            "httpStatus",
            any(random, &[json!(200), json!(599), json!(600), json!(199)]),
        ),
        kind => {
            let pool = [
                json!("13"),
                json!("14"),
                json!("UNAVAILABLE"),
                json!("17"),
                json!("CANCEL"),
                json!("-1"),
                json!(""),
            ];
            (["grpcStatus", "http2Error"][kind - 1], any(random, &pool))
        }
    };
    let abort = json!({ code: value, "percentage": percent(random) });
    some(vec![("delay", delay), ("abort", abort)], random)
}

fn cors(random: &mut StdRng) -> Value {
    let words = [
        json!(["GET"]),
        json!(["*", "X-A"]),
        json!(["a,b"]),
        json!([""]),
        json!(["x_é"]),
        json!([]),
    ];
    some(
        vec![
            ("allowOrigin", any(random, &words)),
            ("allowOrigins", json!([string_match(random)])),
            ("allowMethods", any(random, &words)),
            ("allowHeaders", any(random, &words)),
            ("exposeHeaders", any(random, &words)),
            ("maxAge", duration(random)),
            ("allowCredentials", json!(true)),
            ("unmatchedPreflights", json!("IGNORE")),
        ],
        random,
    )
}

fn http_rule(random: &mut StdRng) -> Value {
    let conditions = [
        json!("5xx,503"),
        json!("retriable-4xx,reset,reset-before-request,connect-failure,refused-stream,gateway-error"),
        json!("cancelled,deadline-exceeded,internal,resource-exhausted,unavailable,retriable-status-codes"),
        json!("099"),
        json!("100,599"),
        json!("retriable-headers,envoy-ratelimited,http3-post-connect-failure"),
        json!(""),
    ];
    let retries = some(
        vec![
            ("attempts", any(random, &[json!(0), json!(1), json!(100)])),
            ("perTryTimeout", duration(random)),
            ("retryOn", any(random, &conditions)),
            ("backoff", duration(random)),
            ("retryRemoteLocalities", json!(true)),
        ],
        random,
    );
    let mirror = destination(random);
    let pattern = any(random, &[json!("(a)"), json!(".*"), json!("(")]);
    let regex = json!({"match": pattern, "rewrite": text(random)});
    let (field, path) = [("uri", text(random)), ("uriRegexRewrite", regex)][random.random_range(0..2)].clone();
    let mut rewrite = json!({ field: path });
    if random.random() {
        rewrite["authority"] = text(random);
    }
    let mut fields = vec![
        ("name", text(random)),
        ("timeout", duration(random)),
        ("retries", retries),
        ("headers", operations(random)),
        ("corsPolicy", cors(random)),
        ("mirror", mirror.clone()),
        (
            "mirrors",
            json!([{"destination": mirror, "percentage": percent(random)}]),
        ),
        ("mirrorPercentage", percent(random)),
        ("fault", fault(random)),
        ("rewrite", rewrite),
    ];
    fields.retain(|_| random.random_range(0..2) == 0);
    let mut rule = some(fields, random);
    let matches: Vec<Value> = (0..random.random_range(0..3)).map(|_| http_match(random)).collect();
    rule["match"] = json!(matches);
    match random.random_range(0..6) {
        0 => {
            let ports = [json!(1), json!(65536)];
            let fields = vec![
                ("uri", text(random)),
                ("prefixRewrite", text(random)),
                ("authority", text(random)),
                ("scheme", json!("https")),
                ("port", any(random, &ports)),
                ("derivePort", json!("FROM_REQUEST_PORT")),
                (
                    "redirectCode",
                    any(random, &[json!(0), json!(301), json!(308), json!(304)]),
                ),
            ];
            rule["redirect"] = some(fields, random);
        }
        1 => {
            let bodies = [json!({"string": "a"}), json!({"bytes": "_-8"}), json!({"bytes": "!"})];
            let status = any(random, &[json!(200), json!(599), json!(600), json!(100)]);
            rule["directResponse"] = json!({"status": status, "body": any(random, &bodies)});
        }
        2 => rule["delegate"] = json!({"name": "other"}),
        _ => rule["route"] = route(random, true),
    }
    rule
}

fn document(random: &mut StdRng) -> Value {
    let hosts = [json!(["user", "*.a.com"]), json!(["*.a.com", "10.0.0.1"])];
    let mut spec = json!({"hosts": any(random, &hosts)});
    match random.random_range(0..4) {
        0 => spec["tls"] = json!([connection_rule(random, true)]),
        1 => spec["tcp"] = json!([connection_rule(random, false)]),
        _ => {
            let rules: Vec<Value> = (0..random.random_range(1..3)).map(|_| http_rule(random)).collect();
            spec["http"] = json!(rules);
        }
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": spec,
    })
}

#[test]
fn what_the_reader_accepts_a_proxy_accepts() {
    let mut random = StdRng::seed_from_u64(5);
    let (mut taken, mut kinds) = (0, [0_usize; 8]);
    for _ in 0..ROUNDS {
        let object = document(&mut random);
        let Ok(read) = from_object(object.clone()) else {
            continue;
        };
        taken += 1;
        let read = Arc::new(read);
        let table = table_of(&read);
        assert_eq!(table, table_of(&read));
        for http in &table.http {
            kinds[0] += usize::from(http.redirect.is_some());
            kinds[1] += usize::from(http.direct_response.is_some());
            kinds[2] += usize::from(http.rewrite.is_some());
            kinds[3] += usize::from(http.fault.is_some());
            kinds[4] += usize::from(!http.mirrors.is_empty());
            kinds[5] += usize::from(http.cors.is_some());
        }
        kinds[6] += table.tls.len();
        kinds[7] += table.tcp.len();
        if let Err(invalid) = model::RouteTable::try_from(table) {
            panic!("accepted, and refused by a proxy: {invalid}\n{object:#}");
        }
    }
    // Enough of each, or the test proves nothing.
    assert!(taken > ROUNDS / 8, "{taken} taken");
    assert!(kinds.iter().all(|count| *count > 5), "{kinds:?}");
}
