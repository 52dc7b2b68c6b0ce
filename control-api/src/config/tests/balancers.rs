//! `loadBalancer`: what its fields are read as, with Istio's and Envoy's defaults, and what is refused at which field.

use tsunagi_proto::model::{ConsistentHash, HashCookie, HashKey, HashTable, LocalityShares, Warmup};

use super::traffic_policies::{assert_each_refused, policy, seconds};
use super::*;

fn balancer(fields: &str) -> LoadBalancer {
    policy(&format!("loadBalancer: {{{fields}}}")).load_balancer.unwrap()
}

#[test]
fn every_key_and_table_of_a_consistent_hash_is_read() {
    let hash = |fields: &str| match balancer(&format!("consistentHash: {{{fields}}}")).algorithm {
        Algorithm::ConsistentHash(ConsistentHash { key, table }) => (key, table),
        other => panic!("{other:?}"),
    };
    let ring = HashTable::Ring(1024);
    assert_eq!(hash("httpHeaderName: X-User"), (HashKey::Header("x-user".into()), ring));
    assert_eq!(hash("useSourceIp: true"), (HashKey::SourceAddress, ring));
    assert_eq!(
        hash("httpQueryParameterName: User"),
        (HashKey::QueryParameter("User".into()), ring)
    );
    let cookie = |fields: &str| match hash(&format!("httpCookie: {{name: user{fields}}}")) {
        (HashKey::Cookie(cookie), _) => cookie,
        other => panic!("{other:?}"),
    };
    assert_eq!(cookie("").ttl, None);
    assert_eq!(cookie(", ttl: 0s").ttl, Some(Duration::ZERO));
    let whole = cookie(", path: /a, ttl: 90s, attributes: [{name: SameSite, value: Strict}, {name: Secure}]");
    let expected = HashCookie {
        name: "user".into(),
        path: "/a".into(),
        ttl: seconds(90),
        attributes: vec![("SameSite".into(), "Strict".into()), ("Secure".into(), String::new())],
    };
    assert_eq!(whole, expected);
    for (fields, table) in [
        ("ringHash: {}", 1024),
        ("ringHash: {minimumRingSize: 0}", 1024),
        ("ringHash: {minimumRingSize: 8388608}", 8_388_608),
        ("minimumRingSize: 7", 7),
    ] {
        assert_eq!(
            hash(&format!("useSourceIp: true, {fields}")).1,
            HashTable::Ring(table),
            "{fields}"
        );
    }
    for size in [2, 65_537, 4_999_999] {
        let fields = format!("useSourceIp: true, maglev: {{tableSize: {size}}}");
        assert_eq!(hash(&fields).1, HashTable::Maglev(size));
    }
}

#[test]
fn a_load_balancer_is_refused_where_it_is_wrong() {
    let hash = "loadBalancer.consistentHash";
    let at = |field: &str| format!("{hash}.{field}");
    let (cookie, query) = (at("httpCookie"), at("httpQueryParameterName"));
    assert_each_refused(&[
        (
            "loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}",
            hash,
            "set either `simple` or `consistentHash`, not both",
        ),
        ("loadBalancer: {consistentHash: {}}", hash, "must have one of"),
        (
            "loadBalancer: {consistentHash: {useSourceIp: false}}",
            &at("useSourceIp"),
            "must be true",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, httpQueryParameterName: a}}",
            &query,
            "set either `useSourceIp` or `httpQueryParameterName`, not both",
        ),
        (
            "loadBalancer: {consistentHash: {httpQueryParameterName: ''}}",
            &query,
            "must not be empty",
        ),
        (
            "loadBalancer: {consistentHash: {httpHeaderName: 'a b'}}",
            &at("httpHeaderName"),
            "not a header name",
        ),
        (
            "loadBalancer: {consistentHash: {httpHeaderName: ':path'}}",
            &at("httpHeaderName"),
            "a pseudo-header",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}",
            &format!("{cookie}.name"),
            "is required",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: 'a=b'}}}",
            &format!("{cookie}.name"),
            "not the name of a cookie",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, path: '/;b'}}}",
            &format!("{cookie}.path"),
            "part of a cookie",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: -1s}}}",
            &format!("{cookie}.ttl"),
            "negative",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{value: b}]}}}",
            &format!("{cookie}.attributes[0].name"),
            "is required",
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{name: b}, {name: B}]}}}",
            &format!("{cookie}.attributes[1].name"),
            "twice",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}",
            &at("ringHash.minimumRingSize"),
            "0 to 8388608",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, minimumRingSize: 5}}",
            &at("minimumRingSize"),
            "set either `ringHash` or `minimumRingSize`, not both",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {tableSize: 7}}}",
            &at("maglev"),
            "set either `ringHash` or `maglev`, not both",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}",
            &at("maglev.tableSize"),
            "is required",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}}",
            &at("maglev.tableSize"),
            "must be a prime number",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}",
            &at("maglev.tableSize"),
            "out of range",
        ),
        (
            "loadBalancer: {warmup: {duration: 1s}, warmupDurationSecs: 1s}",
            "loadBalancer.warmupDurationSecs",
            "set either `warmup` or `warmupDurationSecs`, not both",
        ),
        (
            "loadBalancer: {warmup: {}}",
            "loadBalancer.warmup.duration",
            "is required",
        ),
        (
            "loadBalancer: {warmup: {duration: 0s}}",
            "loadBalancer.warmup.duration",
            "at least 1ms",
        ),
        (
            "loadBalancer: {warmupDurationSecs: 0s}",
            "loadBalancer.warmupDurationSecs",
            "at least 1ms",
        ),
        (
            "loadBalancer: {warmup: {duration: 1s, minimumPercent: 100.5}}",
            "loadBalancer.warmup.minimumPercent",
            "0 to 100",
        ),
        (
            "loadBalancer: {warmup: {duration: 1s, aggression: 0}}",
            "loadBalancer.warmup.aggression",
            "greater than 0",
        ),
    ]);
}

#[test]
fn a_warmup_has_envoys_defaults() {
    let warmup = |fields: &str| balancer(fields).warmup.unwrap();
    let default = Warmup {
        duration: Duration::from_secs(9),
        minimum_percent: 10.0,
        aggression: 1.0,
    };
    assert_eq!(warmup("warmup: {duration: 9s}"), default);
    assert_eq!(warmup("warmupDurationSecs: 9s"), default);
    let set = warmup("warmup: {duration: 9s, minimumPercent: 0, aggression: 0.5}");
    assert_eq!((set.minimum_percent, set.aggression), (0.0, 0.5));
}

#[test]
fn settings_of_localities_are_read() {
    let locality = |fields: &str| balancer(fields).locality;
    let failover = |regions: &[(&str, &str)], priority: &[&str]| Failover {
        regions: regions
            .iter()
            .map(|(from, to)| ((*from).into(), (*to).into()))
            .collect(),
        priority: priority.iter().map(|label| (*label).into()).collect(),
    };
    assert_eq!(locality("simple: RANDOM"), None);
    let default = LocalitySetting::Failover(Failover::default());
    assert_eq!(locality("localityLbSetting: {}"), Some(default.clone()));
    assert_eq!(locality("localityLbSetting: {enabled: true}"), Some(default));
    let off = "localityLbSetting: {enabled: false, failover: [{from: a, to: b}]}";
    assert_eq!(locality(off), Some(LocalitySetting::Off));
    let shares = |from: &str, to: &[(&str, u32)]| LocalityShares {
        from: from.into(),
        to: to
            .iter()
            .map(|(locality, weight)| ((*locality).into(), *weight))
            .collect(),
    };
    let read = locality(
        "localityLbSetting: {distribute: [{from: us/one/*, to: {us/two: 20, us/one/*: 80}}, {from: us/*, to: {'*': 100}}, {from: '*', to: {eu: 100}}]}",
    );
    let expected = vec![
        shares("us/one/*", &[("us/one/*", 80), ("us/two", 20)]),
        shares("us/*", &[("*", 100)]),
        shares("*", &[("eu", 100)]),
    ];
    assert_eq!(read, Some(LocalitySetting::Distribute(expected)));
    let both =
        "failover: [{from: us, to: eu}, {from: eu, to: us}], failoverPriority: [topology.istio.io/network, version=v1]";
    let order = failover(
        &[("us", "eu"), ("eu", "us")],
        &["topology.istio.io/network", "version=v1"],
    );
    assert_eq!(
        locality(&format!("localityLbSetting: {{{both}}}")),
        Some(LocalitySetting::Failover(order.clone()))
    );
    for (fields, min_cluster_size) in [("", 6), (", minClusterSize: 1", 1)] {
        let zones = LocalitySetting::ZoneAware {
            failover: order.clone(),
            min_cluster_size,
        };
        assert_eq!(
            locality(&format!("zoneAwareLbSetting: {{{both}{fields}}}")),
            Some(zones)
        );
    }
    assert_eq!(
        locality("zoneAwareLbSetting: {enabled: false}"),
        Some(LocalitySetting::Off)
    );
}

#[test]
fn settings_of_localities_are_refused_where_they_are_wrong() {
    let setting = "loadBalancer.localityLbSetting";
    let distribute = |from: &str, to: &str| {
        format!("loadBalancer: {{localityLbSetting: {{distribute: [{{from: {from}, to: {{{to}}}}}]}}}}")
    };
    for (from, to, field, reason) in [
        ("a/b/c", "a/b/c: 80, a/b1: 25", "to", "sum up to 105"),
        ("a/b/c", "a/b/c: 80, a/b1: 15", "to", "sum up to 95"),
        ("a/b/c", "", "to", "sum up to 0"),
        ("a/b/c", "a: 0, b: 100", "to.a", "1 to 100"),
        ("a", "b: 101", "to.b", "1 to 100"),
        ("a", "b/: 100", "to[b/]", "not a locality"),
        ("a", "a: 50, a/b/c: 50", "to", "overlap"),
        ("a", "'a/*': 50, a/b/c: 50", "to", "overlap"),
        ("a", "a/b: 50, '*': 50", "to", "overlap"),
        ("'*/zone/*'", "a: 100", "from", "not a locality"),
        ("'*/zone'", "a: 100", "from", "not a locality"),
        ("a//c", "a: 100", "from", "not a locality"),
        ("us-w*", "a: 100", "from", "not a locality"),
        ("a/b/c/d", "a: 100", "from", "not a locality"),
    ] {
        let field = format!("{setting}.distribute[0].{field}");
        assert_each_refused(&[(&distribute(from, to), &field, reason)]);
    }
    let covered = |one: &str, other: &str| {
        format!(
            "loadBalancer: {{localityLbSetting: {{distribute: [{{from: {one}, to: {{x: 100}}}}, {{from: {other}, to: {{x: 100}}}}]}}}}"
        )
    };
    let second = format!("{setting}.distribute[1].from");
    for (one, other) in [
        ("'*'", "a/b/c"),
        ("a", "a/b/c"),
        ("'a/*'", "a/b/c"),
        ("a/b", "a/b/c"),
        ("'a/b/*'", "a/b/c"),
        ("a", "a"),
    ] {
        assert_each_refused(&[(&covered(one, other), &second, "is covered by")]);
    }
    policy(&covered("a/b", "a/bc"));
    let zones = "loadBalancer.zoneAwareLbSetting";
    assert_each_refused(&[
        (
            "loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}",
            zones,
            "set either `localityLbSetting` or `zoneAwareLbSetting`, not both",
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}}",
            &format!("{setting}.failover"),
            "set either `distribute` or `failover`, not both",
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failoverPriority: [a]}}",
            &format!("{setting}.failoverPriority"),
            "set either `distribute` or `failoverPriority`, not both",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}",
            &format!("{setting}.failover[0].to"),
            "another region",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: '*', to: a}]}}",
            &format!("{setting}.failover[0].from"),
            "not a region",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b/c}]}}",
            &format!("{setting}.failover[0].to"),
            "not a region",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a}]}}",
            &format!("{setting}.failover[0].to"),
            "is required",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}, {from: a, to: c}]}}",
            &format!("{setting}.failover[1].from"),
            "twice",
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/region]}}",
            &format!("{setting}.failoverPriority[0]"),
            "must not be here",
        ),
        (
            "loadBalancer: {localityLbSetting: {failoverPriority: ['a b']}}",
            &format!("{setting}.failoverPriority[0]"),
            "neither a label's key",
        ),
        (
            "loadBalancer: {zoneAwareLbSetting: {failoverPriority: [topology.istio.io/subzone]}}",
            &format!("{zones}.failoverPriority[0]"),
            "must not be here",
        ),
        (
            "loadBalancer: {zoneAwareLbSetting: {minClusterSize: -1}}",
            &format!("{zones}.minClusterSize"),
            "0 to 4294967295",
        ),
        (
            "loadBalancer: {zoneAwareLbSetting: {distribute: []}}",
            &format!("{zones}.distribute"),
            "unknown field",
        ),
    ]);
}
