//! What the reader of DestinationRule accepts, a proxy accepts: random documents of every field, with values that are at
//! the edge of what each may be and beyond it.

use serde_json::{Value, json};

use super::accepted::{any, duration, some, text};
use super::*;
use crate::config::{PortPolicy, Spec, TrafficPolicy, from_object};

const ROUNDS: usize = 20_000;

fn count(random: &mut StdRng) -> Value {
    any(
        random,
        &[
            json!(0),
            json!(1),
            json!(7),
            json!(i32::MAX),
            json!(u32::MAX),
            json!(-1),
        ],
    )
}

fn decimal(random: &mut StdRng) -> Value {
    let pool = [0.0, f64::MIN_POSITIVE, 0.5, 1.0, 20.0, 100.0, 100.1, -1.0, f64::MAX];
    json!(pool[random.random_range(0..pool.len())])
}

fn percent(random: &mut StdRng) -> Value {
    any(random, &[json!(0), json!(1), json!(100), json!(101)])
}

fn connection_pool(random: &mut StdRng) -> Value {
    let times: Vec<Value> = (0..8).map(|_| duration(random)).collect();
    let keepalive = some(
        vec![
            ("probes", any(random, &[json!(0), json!(127), json!(128)])),
            ("time", times[0].clone()),
            ("interval", any(random, &[json!("1ms"), json!("9h"), json!("10h")])),
        ],
        random,
    );
    let tcp = some(
        vec![
            ("maxConnections", count(random)),
            ("connectTimeout", times[1].clone()),
            ("idleTimeout", times[2].clone()),
            ("maxConnectionDuration", times[3].clone()),
            ("tcpKeepalive", keepalive),
        ],
        random,
    );
    let policies = [json!("DEFAULT"), json!("DO_NOT_UPGRADE"), json!("UPGRADE"), json!("NO")];
    let ping = json!({"interval": times[4], "timeout": times[5]});
    let http = some(
        vec![
            ("http1MaxPendingRequests", count(random)),
            ("http2MaxRequests", count(random)),
            ("maxRequestsPerConnection", count(random)),
            ("maxRetries", count(random)),
            ("idleTimeout", times[6].clone()),
            ("h2UpgradePolicy", any(random, &policies)),
            ("useClientProtocol", json!(random.random::<bool>())),
            ("maxConcurrentStreams", count(random)),
            ("http2KeepAlive", ping),
        ],
        random,
    );
    json!({"tcp": tcp, "http": http})
}

fn consistent_hash(random: &mut StdRng) -> Value {
    let name = text(random);
    let attributes = json!([{"name": "Secure"}, {"name": text(random), "value": text(random)}]);
    let fields = vec![
        ("path", text(random)),
        ("ttl", duration(random)),
        ("attributes", attributes),
    ];
    let mut cookie = some(fields, random);
    cookie["name"] = name.clone();
    let keys = [
        ("httpHeaderName", name.clone()),
        ("httpCookie", cookie),
        ("useSourceIp", json!(random.random::<bool>())),
        ("httpQueryParameterName", name),
    ];
    let (key, value) = keys[random.random_range(0..keys.len())].clone();
    let ring = json!([0, 1, 1024, 8_388_608, 8_388_609]);
    let ring = ring[random.random_range(0..5)].clone();
    let maglev = any(
        random,
        &[json!(0), json!(2), json!(65_537), json!(65_536), json!(4_999_999)],
    );
    let mut hash = json!({ key: value });
    match random.random_range(0..4) {
        0 => hash["ringHash"] = json!({ "minimumRingSize": ring }),
        1 => hash["maglev"] = json!({ "tableSize": maglev }),
        2 => hash["minimumRingSize"] = ring,
        _ => {}
    }
    hash
}

fn failover(random: &mut StdRng) -> Vec<(&'static str, Value)> {
    let places = [json!("us"), json!("eu"), json!("us/a"), json!("*"), json!("")];
    let (from, to) = (any(random, &places), any(random, &places));
    let labels = [
        json!("version=v1"),
        json!("a.b/c"),
        json!("topology.kubernetes.io/zone"),
        json!("a=b=c"),
    ];
    vec![
        ("failover", json!([{"from": from, "to": to}])),
        ("failoverPriority", json!([any(random, &labels)])),
        ("enabled", json!(random.random::<bool>())),
    ]
}

fn load_balancer(random: &mut StdRng) -> Value {
    let simple = [
        json!("LEAST_REQUEST"),
        json!("ROUND_ROBIN"),
        json!("RANDOM"),
        json!("PASSTHROUGH"),
        json!("MAGLEV"),
    ];
    let warmup =
        json!({"duration": duration(random), "minimumPercent": decimal(random), "aggression": decimal(random)});
    let mut fields = vec![("warmup", warmup), ("warmupDurationSecs", duration(random))];
    fields.truncate(random.random_range(0..3));
    let mut balancer = some(fields, random);
    match random.random_range(0..3) {
        0 => balancer["simple"] = any(random, &simple),
        1 => balancer["consistentHash"] = consistent_hash(random),
        _ => {}
    }
    let places = [
        json!("us"),
        json!("us/*"),
        json!("us/a/b"),
        json!("*"),
        json!("us/"),
        json!("a*"),
    ];
    let mut locality = failover(random);
    match random.random_range(0..4) {
        0 => {
            let from = any(random, &places);
            let to = any(
                random,
                &[json!({"us/*": 60, "eu": 40}), json!({"*": 100}), json!({"us": 99})],
            );
            balancer["localityLbSetting"] = json!({"distribute": [{"from": from, "to": to}]});
        }
        1 => balancer["localityLbSetting"] = some(locality, random),
        2 => {
            let sizes = [json!(0), json!(1), json!(u32::MAX), json!(u64::MAX)];
            locality.push(("minClusterSize", any(random, &sizes)));
            balancer["zoneAwareLbSetting"] = some(locality, random);
        }
        _ => {}
    }
    balancer
}

fn outlier_detection(random: &mut StdRng) -> Value {
    let codes = [
        json!([500, 429]),
        json!([100, 599]),
        json!([99]),
        json!([600]),
        json!([]),
    ];
    some(
        vec![
            ("consecutiveErrors", count(random)),
            ("consecutive5xxErrors", count(random)),
            ("consecutiveGatewayErrors", count(random)),
            ("splitExternalLocalOriginErrors", json!(true)),
            ("consecutiveLocalOriginFailures", count(random)),
            ("interval", duration(random)),
            ("baseEjectionTime", duration(random)),
            ("maxEjectionPercent", percent(random)),
            ("minHealthPercent", percent(random)),
            ("outlierDetectionHttpErrorCodes", any(random, &codes)),
        ],
        random,
    )
}

fn tls(random: &mut StdRng) -> Value {
    let modes = [
        json!("DISABLE"),
        json!("SIMPLE"),
        json!("MUTUAL"),
        json!("ISTIO_MUTUAL"),
    ];
    let files = [json!("/etc/a.pem"), json!(""), json!("system"), json!("\u{0}")];
    let names = [json!(["a.b"]), json!(["spiffe://a/b", "c"]), json!([""]), json!([])];
    let credentials = [
        json!("a"),
        json!("a.b"),
        json!("../a"),
        json!(".a"),
        json!("configmap://a"),
        json!(""),
    ];
    let mut fields = vec![
        ("clientCertificate", any(random, &files)),
        ("privateKey", any(random, &files)),
        ("caCertificates", any(random, &files)),
        ("caCrl", any(random, &files)),
        (
            "sni",
            any(random, &[json!("a.b"), json!("10.0.0.1"), json!(""), json!("*.a")]),
        ),
        ("subjectAltNames", any(random, &names)),
        ("insecureSkipVerify", json!(random.random::<bool>())),
    ];
    if random.random() {
        fields.push(("credentialName", any(random, &credentials)));
    }
    let mut tls = some(fields, random);
    tls["mode"] = any(random, &modes);
    tls
}

/// Few blocks, or hardly a document is without fault.
fn blocks(random: &mut StdRng) -> Value {
    match random.random_range(0..4) {
        0 => json!({"connectionPool": connection_pool(random)}),
        1 => json!({"loadBalancer": load_balancer(random), "outlierDetection": {}}),
        2 => json!({"tls": tls(random)}),
        _ => json!({"outlierDetection": outlier_detection(random), "loadBalancer": load_balancer(random)}),
    }
}

fn policy(random: &mut StdRng) -> Value {
    let mut policy = blocks(random);
    match random.random_range(0..6) {
        0 => {
            let mut port = blocks(random);
            port["port"] = json!({"number": any(random, &[json!(1), json!(65535), json!(0)])});
            policy["portLevelSettings"] = json!([port]);
        }
        1 => policy["proxyProtocol"] = some(vec![("version", json!("V2"))], random),
        2 => {
            let fields = vec![
                ("percent", decimal(random)),
                ("minRetryConcurrency", count(random)),
                ("budgetInterval", duration(random)),
            ];
            policy["retryBudget"] = some(fields, random);
        }
        _ => {}
    }
    policy
}

fn document(random: &mut StdRng) -> Value {
    let hosts = [
        json!("user"),
        json!("*.a.com"),
        json!("*"),
        json!("10.0.0.1"),
        json!("a b"),
    ];
    let mut spec = json!({"host": any(random, &hosts)});
    if random.random_range(0..4) > 0 {
        spec["trafficPolicy"] = policy(random);
    } else {
        spec["subsets"] = json!([{"name": "v1", "labels": {"a": "b"}, "trafficPolicy": policy(random)}]);
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "a", "namespace": "shop"},
        "spec": spec,
    })
}

/// As they are in force for a cluster.
fn in_force(document: &Document) -> Vec<TrafficPolicy> {
    let Spec::DestinationRule(rule) = &document.spec else {
        panic!("{document:?}")
    };
    let subsets = rule.subsets.iter().filter_map(|subset| subset.policy.as_ref());
    let policies: Vec<&TrafficPolicy> = rule.policy.iter().chain(subsets).collect();
    let ports = policies.iter().flat_map(|policy| policy.port_level.values());
    let of_port = |port: &PortPolicy| TrafficPolicy {
        connection_pool: port.connection_pool.clone(),
        load_balancer: port.load_balancer.clone(),
        outlier_detection: port.outlier_detection.clone(),
        tls: port.tls.clone(),
        ..TrafficPolicy::default()
    };
    let of_ports: Vec<TrafficPolicy> = ports.map(of_port).collect();
    policies.into_iter().cloned().chain(of_ports).collect()
}

#[test]
fn what_the_reader_of_destination_rules_accepts_a_proxy_accepts() {
    let mut random = StdRng::seed_from_u64(6);
    let (mut taken, mut kinds) = (0, [0_usize; 12]);
    for _ in 0..ROUNDS {
        let object = document(&mut random);
        let Ok(read) = from_object(object.clone()) else {
            continue;
        };
        taken += 1;
        for policy in in_force(&read) {
            let told = mesh::Cluster {
                host: "a".to_owned(),
                port: 80,
                ..traffic_policy::told(&policy)
            };
            let pool = told.connection_pool.as_ref();
            let locality = told.locality.as_ref();
            for (index, is_there) in [
                pool.is_some(),
                pool.is_some_and(|pool| pool.http2_keepalive.is_some()),
                told.consistent_hash.is_some(),
                told.warmup.is_some(),
                locality.is_some_and(|locality| !locality.distribute.is_empty()),
                locality.is_some_and(|locality| !locality.failover.is_empty()),
                locality.is_some_and(|locality| locality.zone_aware.is_some()),
                told.tls.as_ref().is_some_and(|tls| tls.mutual),
                told.tls.as_ref().is_some_and(|tls| !tls.credential_name.is_empty()),
                told.retry_budget.is_some(),
                told.proxy_protocol() != mesh::ProxyProtocol::None,
                told.discovery() == mesh::Discovery::OriginalDestination,
            ]
            .into_iter()
            .enumerate()
            {
                kinds[index] += usize::from(is_there);
            }
            if let Err(invalid) = model::Cluster::try_from(told) {
                panic!("accepted, and refused by a proxy: {invalid}\n{object:#}");
            }
        }
    }
    // Enough of each, or the test proves nothing.
    assert!(taken > ROUNDS / 8, "{taken} taken");
    assert!(kinds.iter().all(|count| *count > 10), "{kinds:?}");
}
