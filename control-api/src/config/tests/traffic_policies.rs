//! Every block of a traffic policy: what its fields are read as, with Istio's defaults, and what is refused at which field.

use tsunagi_proto::model::{
    ConsistentHash, H2UpgradePolicy, HashCookie, HashKey, HashTable, Http2Keepalive, LocalityShares, TcpKeepalive,
    Warmup,
};

use super::*;

/// With this in its `spec`, in flow style.
fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: user}}\nspec: {{host: user, {spec}}}\n"
    )
}

fn read(spec: &str) -> DestinationRule {
    match one(&rule(spec)).spec {
        Spec::DestinationRule(rule) => rule,
        other => panic!("{other:?}"),
    }
}

fn policy(blocks: &str) -> TrafficPolicy {
    read(&format!("trafficPolicy: {{{blocks}}}")).policy.unwrap()
}

fn balancer(fields: &str) -> LoadBalancer {
    policy(&format!("loadBalancer: {{{fields}}}")).load_balancer.unwrap()
}

fn pool(fields: &str) -> ConnectionPool {
    policy(&format!("connectionPool: {{{fields}}}"))
        .connection_pool
        .unwrap()
}

fn tls(fields: &str) -> ClientTls {
    policy(&format!("tls: {{{fields}}}")).tls.unwrap()
}

/// Blocks of a `trafficPolicy`, the field below it, the reason.
#[track_caller]
fn assert_each_refused(cases: &[(&str, &str, &str)]) {
    for (blocks, field, reason) in cases {
        let text = rule(&format!("trafficPolicy: {{{blocks}}}"));
        let field = format!("spec.trafficPolicy{}{field}", if field.is_empty() { "" } else { "." });
        assert_refused(&text, 4, &field, reason);
    }
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn every_field_of_a_connection_pool_is_read() {
    let read = pool(
        "tcp: {maxConnections: 1, connectTimeout: 2s, idleTimeout: 3s, maxConnectionDuration: 4s, tcpKeepalive: {probes: 5, time: 6s, interval: 7s}}, \
         http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRequestsPerConnection: 10, maxRetries: 11, idleTimeout: 12s, h2UpgradePolicy: DO_NOT_UPGRADE, useClientProtocol: true, maxConcurrentStreams: 13, http2KeepAlive: {interval: 14s, timeout: 15s}}",
    );
    let expected = ConnectionPool {
        max_connections: 1,
        connect_timeout: seconds(2),
        tcp_idle_timeout: seconds(3),
        max_connection_duration: seconds(4),
        tcp_keepalive: Some(TcpKeepalive {
            probes: Some(5),
            time: seconds(6),
            interval: seconds(7),
        }),
        max_pending_requests: 8,
        max_requests: 9,
        max_requests_per_connection: 10,
        max_retries: 11,
        idle_timeout: seconds(12),
        h2_upgrade_policy: H2UpgradePolicy::DoNotUpgrade,
        use_client_protocol: true,
        max_concurrent_streams: 13,
        http2_keepalive: Some(Http2Keepalive {
            interval: Duration::from_secs(14),
            timeout: Duration::from_secs(15),
        }),
    };
    assert_eq!(read, expected);
    assert_eq!(
        pool("tcp: {tcpKeepalive: {}}").tcp_keepalive,
        Some(TcpKeepalive::default())
    );
    let written_otherwise = pool("http: {h2_upgrade_policy: UPGRADE, http2_keep_alive: {interval: 1s, timeout: 2s}}");
    assert_eq!(written_otherwise.h2_upgrade_policy, H2UpgradePolicy::Upgrade);
    assert!(written_otherwise.http2_keepalive.is_some());
}

#[test]
fn an_idle_timeout_of_zero_is_for_good() {
    let tcp = pool("tcp: {idleTimeout: 0s}");
    assert_eq!(
        (tcp.idle_timeout, tcp.tcp_idle_timeout),
        (Some(Duration::ZERO), Some(Duration::ZERO))
    );
    let http = pool("tcp: {idleTimeout: 1s}, http: {idleTimeout: 0ms}");
    assert_eq!(
        (http.idle_timeout, http.tcp_idle_timeout),
        (Some(Duration::ZERO), seconds(1))
    );
}

#[test]
fn a_connection_pool_is_refused_where_it_is_wrong() {
    assert_each_refused(&[
        ("connectionPool: {}", "connectionPool", "at least one of tcp and http"),
        (
            "connectionPool: {tcp: {maxConnectionDuration: 0s}}",
            "connectionPool.tcp.maxConnectionDuration",
            "at least 1ms",
        ),
        (
            "connectionPool: {tcp: {maxConnectionDuration: 500ns}}",
            "connectionPool.tcp.maxConnectionDuration",
            "whole milliseconds",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {probes: 128}}}",
            "connectionPool.tcp.tcpKeepalive.probes",
            "0 to 127",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {time: 0s}}}",
            "connectionPool.tcp.tcpKeepalive.time",
            "at least 1ms",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {interval: 32768s}}}",
            "connectionPool.tcp.tcpKeepalive.interval",
            "longer than 32767 s",
        ),
        (
            "connectionPool: {tcp: {probes: 1}}",
            "connectionPool.tcp.probes",
            "belongs under `tcpKeepalive`",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: MAYBE}}",
            "connectionPool.http.h2UpgradePolicy",
            "none of DEFAULT, DO_NOT_UPGRADE, UPGRADE",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}",
            "connectionPool.http.useClientProtocol",
            "contradicts",
        ),
        (
            "connectionPool: {http: {useClientProtocol: 1}}",
            "connectionPool.http.useClientProtocol",
            "true or false",
        ),
        (
            "connectionPool: {http: {maxConcurrentStreams: -1}}",
            "connectionPool.http.maxConcurrentStreams",
            "out of range",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {interval: 1s}}}",
            "connectionPool.http.http2KeepAlive.timeout",
            "is required",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {timeout: 1s}}}",
            "connectionPool.http.http2KeepAlive.interval",
            "is required",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {interval: 0s, timeout: 1s}}}",
            "connectionPool.http.http2KeepAlive.interval",
            "at least 1ms",
        ),
    ]);
}

#[test]
fn error_codes_of_outlier_detection_are_sorted_and_in_range() {
    let outlier =
        policy("outlierDetection: {outlierDetectionHttpErrorCodes: [503, 429, 503], consecutive5xxErrors: 4294967295}");
    let outlier = outlier.outlier_detection.unwrap();
    assert_eq!(
        (outlier.error_statuses, outlier.consecutive_5xx),
        (vec![429, 503], u32::MAX)
    );
    assert_each_refused(&[
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [99]}",
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
            "100 to 599",
        ),
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [500, 600]}",
            "outlierDetection.outlierDetectionHttpErrorCodes[1]",
            "100 to 599",
        ),
        (
            "outlierDetection: {consecutive5xxErrors: 4294967296}",
            "outlierDetection.consecutive5xxErrors",
            "out of range",
        ),
        (
            "outlierDetection: {minHealthPercent: -1}",
            "outlierDetection.minHealthPercent",
            "0 to 100",
        ),
    ]);
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
            "only one of it and simple",
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
            "only one of it and useSourceIp",
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
            "only one of it and ringHash",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {}, maglev: {tableSize: 7}}}",
            &at("maglev"),
            "only one of it and ringHash",
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
            "only one of it and warmup",
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
            "only one of it and localityLbSetting",
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}}",
            &format!("{setting}.failover"),
            "only one of it and distribute",
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failoverPriority: [a]}}",
            &format!("{setting}.failoverPriority"),
            "only one of it and distribute",
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
            "loadBalancer: {zoneAwareLbSetting: {minClusterSize: 0}}",
            &format!("{zones}.minClusterSize"),
            "1 to 4294967295",
        ),
        (
            "loadBalancer: {zoneAwareLbSetting: {distribute: []}}",
            &format!("{zones}.distribute"),
            "unknown field",
        ),
    ]);
}

#[test]
fn tls_to_endpoints_is_read() {
    assert_eq!(tls("mode: DISABLE"), ClientTls::default());
    assert_eq!(tls("sni: a.b").mode, TlsMode::Disable);
    let mutual = tls(
        "mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c, caCrl: /d, sni: A.example.com, subjectAltNames: ['spiffe://a/b', a.b]",
    );
    let expected = ClientTls {
        mode: TlsMode::Mutual,
        client_certificate: "/a".into(),
        private_key: "/b".into(),
        ca_certificates: "/c".into(),
        ca_crl: "/d".into(),
        credential_name: String::new(),
        sni: "a.example.com".into(),
        subject_alt_names: vec!["spiffe://a/b".into(), "a.b".into()],
        insecure_skip_verify: false,
    };
    assert_eq!(mutual, expected);
    assert_eq!(tls("mode: SIMPLE, caCertificates: system"), tls("mode: SIMPLE"));
    assert_eq!(
        tls("mode: MUTUAL, credentialName: my-secret").credential_name,
        "my-secret"
    );
    assert!(tls("mode: MUTUAL, credentialName: a, insecureSkipVerify: true").insecure_skip_verify);
}

#[test]
fn tls_to_endpoints_is_refused_where_it_is_wrong() {
    let both = "clientCertificate: /a, privateKey: /b";
    assert_each_refused(&[
        (
            "tls: {mode: ISTIO_MUTUAL}",
            "tls.mode",
            "known but not supported yet: ISTIO_MUTUAL",
        ),
        ("tls: {mode: TLS}", "tls.mode", "none of DISABLE, SIMPLE, MUTUAL"),
        (
            "tls: {mode: MUTUAL, privateKey: /b}",
            "tls.clientCertificate",
            "is required with mode MUTUAL",
        ),
        (
            "tls: {mode: MUTUAL, clientCertificate: /a}",
            "tls.privateKey",
            "is required with mode MUTUAL",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: a, caCertificates: /c}",
            "tls.caCertificates",
            "only one of it and credentialName",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: a, caCrl: /c}",
            "tls.caCrl",
            "only one of it and credentialName",
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, caCertificates: /c}",
            "tls.caCertificates",
            "contradicts",
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, credentialName: c}",
            "tls.credentialName",
            "contradicts",
        ),
        (
            "tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}",
            "tls.subjectAltNames",
            "contradicts",
        ),
        (
            &format!("tls: {{mode: MUTUAL, {both}, insecureSkipVerify: true, caCertificates: /c}}"),
            "tls.caCertificates",
            "contradicts",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: 'configmap://a'}",
            "tls.credentialName",
            "not supported yet",
        ),
        (
            "tls: {mode: SIMPLE, credentialName: ../a}",
            "tls.credentialName",
            "not the name of a Secret",
        ),
        ("tls: {mode: SIMPLE, sni: 10.0.0.1}", "tls.sni", "IP address"),
        ("tls: {mode: SIMPLE, sni: 'a b'}", "tls.sni", "not a server name"),
        (
            "tls: {mode: SIMPLE, subjectAltNames: ['']}",
            "tls.subjectAltNames[0]",
            "must not be empty",
        ),
        (
            "tls: {mode: SIMPLE, subjectAltNames: ['a b']}",
            "tls.subjectAltNames[0]",
            "not a name of a certificate",
        ),
        (
            "tls: {mode: SIMPLE, caCertificates: \"/a\\0\"}",
            "tls.caCertificates",
            "not the path",
        ),
    ]);
    let names = vec!["a"; 257].join(", ");
    let many = format!("tls: {{mode: SIMPLE, subjectAltNames: [{names}]}}");
    assert_each_refused(&[(&many, "tls.subjectAltNames", "more than 256")]);
}

#[test]
fn proxy_protocol_and_retry_budget_have_istios_defaults() {
    let version = |fields: &str| policy(&format!("proxyProtocol: {{{fields}}}")).proxy_protocol.unwrap();
    assert_eq!(version(""), ProxyProtocol::V1);
    assert_eq!(version("version: V2"), ProxyProtocol::V2);
    let budget = |fields: &str| policy(&format!("retryBudget: {{{fields}}}")).retry_budget.unwrap();
    let default = RetryBudget {
        percent: 20.0,
        min_retry_concurrency: 3,
        interval: None,
    };
    assert_eq!(budget(""), default);
    assert_eq!(budget("minRetryConcurrency: 0, budgetInterval: 0ms"), default);
    let set = RetryBudget {
        percent: 0.5,
        min_retry_concurrency: 1,
        interval: seconds(10),
    };
    assert_eq!(budget("percent: 0.5, minRetryConcurrency: 1, budgetInterval: 10s"), set);
    assert_each_refused(&[
        (
            "proxyProtocol: {version: V3}",
            "proxyProtocol.version",
            "none of V1, V2",
        ),
        ("retryBudget: {percent: 100.1}", "retryBudget.percent", "0 to 100"),
        (
            "retryBudget: {minRetryConcurrency: -1}",
            "retryBudget.minRetryConcurrency",
            "out of range",
        ),
        (
            "retryBudget: {budgetInterval: 5}",
            "retryBudget.budgetInterval",
            "has no unit",
        ),
        (
            "tunnel: {targetHost: a, targetPort: 1}",
            "tunnel",
            "known but not supported yet",
        ),
        ("", "", "must have at least one field"),
    ]);
}

#[test]
fn a_port_has_blocks_of_its_own() {
    let read = policy(
        "portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}, {port: {number: 443}, loadBalancer: {simple: RANDOM}}], outlierDetection: {}",
    );
    let ports: Vec<u16> = read.port_level.keys().copied().collect();
    assert_eq!(ports, [80, 443]);
    assert_eq!(read.port_level[&80].tls.as_ref().unwrap().mode, TlsMode::Simple);
    assert_eq!(read.port_level[&80].outlier_detection, None);
    let random = read.port_level[&443].load_balancer.as_ref().unwrap();
    assert_eq!(random.algorithm, Algorithm::Random);
    let list = |items: &str| format!("portLevelSettings: [{items}]");
    let at = |field: &str| format!("portLevelSettings{field}");
    assert_each_refused(&[
        (&list("{tls: {mode: DISABLE}}"), &at("[0].port"), "is required"),
        (
            &list("{port: {}, tls: {mode: DISABLE}}"),
            &at("[0].port.number"),
            "is required",
        ),
        (
            &list("{port: {number: 0}, tls: {mode: DISABLE}}"),
            &at("[0].port.number"),
            "1 to 65535",
        ),
        (
            &list("{port: {name: http}, tls: {mode: DISABLE}}").replace("name: http", "number: 1, name: http"),
            &at("[0].port.name"),
            "unknown field",
        ),
        (
            &list("{port: {number: 80}}"),
            &at("[0]"),
            "at least one field beside `port`",
        ),
        (
            &list("{port: {number: 80}, tls: {}}, {port: {number: 80}, tls: {}}"),
            &at("[1].port"),
            "80 is there twice",
        ),
        (
            &list("{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}"),
            &at("[0].tls.mode"),
            "not supported yet",
        ),
        (
            &list("{port: {number: 80}, tls: {}, proxyProtocol: {}}"),
            &at("[0].proxyProtocol"),
            "unknown field",
        ),
        (
            &list("{port: {number: 80}, tls: {}, simple: RANDOM}"),
            &at("[0].simple"),
            "belongs under `loadBalancer`",
        ),
    ]);
    let many: Vec<String> = (1..=4097)
        .map(|port| format!("{{port: {{number: {port}}}, tls: {{}}}}"))
        .collect();
    assert_each_refused(&[(&list(&many.join(", ")), &at(""), "more than 4096")]);
}

#[test]
fn a_rule_says_whom_it_is_for() {
    let exports = |spec: &str| read(spec).exports;
    let only = |names: &[&str]| ExportTo::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(exports("exportTo: ['*']"), ExportTo::Everyone);
    assert_eq!(exports("exportTo: []"), ExportTo::Everyone);
    assert_eq!(exports("exportTo: [., other]"), only(&["default", "other"]));
    let selecting = read("workloadSelector: {matchLabels: {app: ratings}}");
    assert_eq!(selecting.exports, only(&["default"]));
    assert_eq!(
        selecting.workload_selector,
        [("app".to_owned(), "ratings".to_owned())].into()
    );
    assert_eq!(
        exports("workloadSelector: {matchLabels: {a: b}}, exportTo: [default]"),
        only(&["default"])
    );
    for (spec, field, reason) in [
        ("exportTo: ['~']", "spec.exportTo[0]", "has no effect"),
        ("exportTo: ['*', a]", "spec.exportTo[0]", "contradicts"),
        ("exportTo: [., default]", "spec.exportTo[1]", "twice"),
        ("exportTo: [A]", "spec.exportTo[0]", "name of a namespace"),
        (
            "workloadSelector: {}, exportTo: ['*']",
            "spec.exportTo",
            "only `.` may be here",
        ),
        (
            "workloadSelector: {}, exportTo: [., a]",
            "spec.exportTo",
            "only `.` may be here",
        ),
        (
            "workloadSelector: {labels: {a: b}}",
            "spec.workloadSelector.labels",
            "unknown field",
        ),
        (
            "workloadSelector: {matchLabels: {'': b}}",
            "spec.workloadSelector.matchLabels[]",
            "not a label key",
        ),
        (
            "workloadSelector: {matchLabels: {a: '*'}}",
            "spec.workloadSelector.matchLabels.a",
            "not a label value",
        ),
    ] {
        assert_refused(&rule(spec), 4, field, reason);
    }
}

#[test]
fn a_host_may_be_a_wildcard() {
    for (written, resolved) in [
        ("'*.Foo.com'", "*.foo.com"),
        ("'*'", "*"),
        ("10.0.0.1", "10.0.0.1"),
        ("a.b.", "a.b"),
        ("user", "user.default.svc.cluster.local"),
    ] {
        let text = rule("").replace("host: user", &format!("host: {written}"));
        let Spec::DestinationRule(read) = one(&text).spec else {
            panic!("{text}")
        };
        assert_eq!(read.host, resolved);
    }
}

#[test]
fn one_rule_does_not_make_a_proxy_huge() {
    let names: Vec<String> = (0..5).map(|number| format!("{{name: v{number}}}")).collect();
    let ring = "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388608}}}";
    let with = |subsets: &[String]| rule(&format!("trafficPolicy: {{{ring}}}, subsets: [{}]", subsets.join(", ")));
    parsed(&with(&names[..3]));
    assert_refused(&with(&names), 4, "spec.trafficPolicy", "more than 33554432");
    let names: Vec<String> = (0..2_000).map(|number| format!("{{name: v{number}}}")).collect();
    let long = format!(
        "tls: {{mode: SIMPLE, subjectAltNames: [{}]}}",
        vec!["a".repeat(1_000); 40].join(", ")
    );
    let text = rule(&format!("trafficPolicy: {{{long}}}, subsets: [{}]", names.join(", ")));
    assert_refused(&text, 4, "spec.subsets", "more than 32 MiB");
}
