//! A traffic policy on the wire: what Istio and Envoy default is filled in, and what has no effect is not told.

use std::time::Duration;

use super::*;
use crate::config::Spec;

/// The cluster of a host with these blocks in its `trafficPolicy`.
fn told(blocks: &str) -> mesh::Cluster {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: user}}\nspec: {{host: user, trafficPolicy: {{{blocks}}}}}\n"
    );
    match &documents(&text)[0].spec {
        Spec::DestinationRule(rule) => traffic_policy::told(rule.policy.as_ref().unwrap()),
        other => panic!("{other:?}"),
    }
}

fn balanced(fields: &str) -> mesh::Cluster {
    told(&format!("loadBalancer: {{{fields}}}"))
}

fn checked(cluster: mesh::Cluster) -> model::Cluster {
    let cluster = mesh::Cluster {
        host: "a".into(),
        port: 80,
        ..cluster
    };
    model::Cluster::try_from(cluster).unwrap()
}

fn wire(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

#[test]
fn a_policy_that_says_nothing_is_told_as_nothing() {
    let nothing = mesh::Cluster::default();
    assert_eq!(traffic_policy::told(&Default::default()), nothing);
    assert_eq!(told("connectionPool: {tcp: {maxConnections: 0}}"), nothing);
    assert_eq!(told("loadBalancer: {simple: LEAST_CONN}"), nothing);
    assert_eq!(told("tls: {mode: DISABLE, sni: a}"), nothing);
}

#[test]
fn a_connection_pool_is_told_whole() {
    let cluster = told(
        "connectionPool: {tcp: {maxConnectionDuration: 1h, idleTimeout: 0s, tcpKeepalive: {probes: 3, time: 1500ms, interval: 1ms}}, \
         http: {idleTimeout: 2s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 5, http2KeepAlive: {interval: 30s, timeout: 10s}}}",
    );
    let pool = checked(cluster).connection_pool;
    assert_eq!(pool.max_connection_duration, Duration::from_secs(3600));
    assert_eq!(
        (pool.idle_timeout, pool.tcp_idle_timeout),
        (Duration::from_secs(2), model::FOREVER)
    );
    // A socket counts seconds.
    let keepalive = model::TcpKeepalive {
        probes: Some(3),
        time: Some(Duration::from_secs(2)),
        interval: Some(Duration::from_secs(1)),
    };
    assert_eq!(pool.tcp_keepalive, Some(keepalive));
    assert_eq!(pool.h2_upgrade_policy, model::H2UpgradePolicy::Upgrade);
    assert_eq!((pool.max_concurrent_streams, pool.use_client_protocol), (5, false));
    let ping = model::Http2Keepalive {
        interval: Duration::from_secs(30),
        timeout: Duration::from_secs(10),
    };
    assert_eq!(pool.http2_keepalive, Some(ping));
    let kept = checked(told("connectionPool: {tcp: {idleTimeout: 0s}}")).connection_pool;
    assert_eq!(
        (kept.idle_timeout, kept.tcp_idle_timeout),
        (model::FOREVER, model::FOREVER)
    );
    let client = told("connectionPool: {http: {useClientProtocol: true}}")
        .connection_pool
        .unwrap();
    assert!(client.use_client_protocol);
    let bare = told("connectionPool: {tcp: {tcpKeepalive: {}}}")
        .connection_pool
        .unwrap();
    assert_eq!(bare.tcp_keepalive, Some(mesh::TcpKeepalive::default()));
}

#[test]
fn connections_to_the_application_are_not_upgraded() {
    let pool = |fields: &str| crate::config::ConnectionPool {
        max_connections: 3,
        h2_upgrade_policy: if fields.is_empty() {
            model::H2UpgradePolicy::Default
        } else {
            model::H2UpgradePolicy::Upgrade
        },
        ..Default::default()
    };
    let inbound = traffic_policy::inbound_connection_pool(&pool("UPGRADE"));
    assert_eq!(inbound, traffic_policy::connection_pool(&pool("")));
    assert_eq!(inbound.unwrap().max_connections, 3);
}

#[test]
fn hash_tables_have_envoys_sizes_unless_said() {
    use mesh::consistent_hash::{Key, Table};
    let hash = |fields: &str| {
        balanced(&format!("consistentHash: {{{fields}}}"))
            .consistent_hash
            .unwrap()
    };
    let header = hash("httpHeaderName: X-User");
    assert_eq!(header.key, Some(Key::Header("x-user".into())));
    assert_eq!(header.table, Some(Table::RingSize(1024)));
    assert_eq!(
        hash("useSourceIp: true, maglev: {tableSize: 65537}").table,
        Some(Table::MaglevSize(65_537))
    );
    assert_eq!(
        hash("useSourceIp: true, minimumRingSize: 9").table,
        Some(Table::RingSize(9))
    );
    assert_eq!(
        hash("httpQueryParameterName: q").key,
        Some(Key::QueryParameter("q".into()))
    );
    let ttl = |fields: &str| match hash(&format!("httpCookie: {{name: c{fields}}}")).key {
        Some(Key::Cookie(cookie)) => cookie.ttl,
        other => panic!("{other:?}"),
    };
    assert_eq!(ttl(""), None);
    assert_eq!(ttl(", ttl: 0s"), wire(Duration::ZERO));
    assert_eq!(ttl(", ttl: 2s"), wire(Duration::from_secs(2)));
}

#[test]
fn a_warmup_is_told_where_it_has_an_effect() {
    let warmup = |fields: &str| balanced(&format!("warmup: {{duration: 60s}}{fields}")).warmup;
    let default = mesh::Warmup {
        duration: wire(Duration::from_secs(60)),
        minimum_percent: 10.0,
        aggression: 1.0,
    };
    assert_eq!(warmup(""), Some(default));
    assert_eq!(warmup(", simple: ROUND_ROBIN"), Some(default));
    for other in [
        "simple: RANDOM",
        "simple: PASSTHROUGH",
        "consistentHash: {useSourceIp: true}",
    ] {
        assert_eq!(warmup(&format!(", {other}")), None, "{other}");
    }
}

#[test]
fn localities_matter_exactly_where_istio_lets_them() {
    let default = Some(mesh::LocalityBalancing::default());
    assert_eq!(told("loadBalancer: {simple: RANDOM}").locality, None);
    assert_eq!(told("outlierDetection: {}").locality, default);
    let with = |setting: &str, more: &str| told(&format!("loadBalancer: {{{setting}}}{more}")).locality;
    let ejecting = ", outlierDetection: {}";
    let off = "localityLbSetting: {enabled: false}";
    assert_eq!((with(off, ""), with(off, ejecting)), (None, None));
    let on = "localityLbSetting: {enabled: true}";
    assert_eq!((with(on, ""), with(on, ejecting)), (None, default));
    let failover = "localityLbSetting: {failover: [{from: us, to: eu}], failoverPriority: [version=v1]}";
    assert_eq!(with(failover, ""), None);
    let told_failover = with(failover, ejecting).unwrap();
    let us = mesh::LocalityFailover {
        from: "us".into(),
        to: "eu".into(),
    };
    assert_eq!(told_failover.failover, std::slice::from_ref(&us));
    assert_eq!(told_failover.failover_priority, ["version=v1"]);
    assert_eq!(told_failover.zone_aware, None);
    let distribute = "localityLbSetting: {distribute: [{from: us/*, to: {us/b: 40, us/a: 60}}]}";
    let shares = with(distribute, "").unwrap().distribute;
    let share = |locality: &str, weight| mesh::LocalityShare {
        locality: locality.into(),
        weight,
    };
    let expected = mesh::LocalityShares {
        from: "us/*".into(),
        to: vec![share("us/a", 60), share("us/b", 40)],
    };
    assert_eq!(shares, [expected]);
    assert_eq!(with(distribute, ""), with(distribute, ejecting));
    let zones = with("zoneAwareLbSetting: {failover: [{from: us, to: eu}]}", "").unwrap();
    assert_eq!(zones.zone_aware, Some(mesh::ZoneAware { min_cluster_size: 6 }));
    assert_eq!(zones.failover, [us]);
    assert_eq!(with("zoneAwareLbSetting: {enabled: false}", ejecting), None);
    assert_eq!(with("simple: PASSTHROUGH", ejecting), None);
}

#[test]
fn algorithms_are_told_and_passthrough_has_no_endpoints() {
    let cluster = |simple: &str| balanced(&format!("simple: {simple}"));
    assert_eq!(cluster("ROUND_ROBIN").load_balancer(), mesh::LoadBalancer::RoundRobin);
    assert_eq!(cluster("RANDOM").load_balancer(), mesh::LoadBalancer::Random);
    assert_eq!(cluster("RANDOM").discovery(), mesh::Discovery::Static);
    assert_eq!(cluster("PASSTHROUGH").discovery(), mesh::Discovery::OriginalDestination);
}

#[test]
fn error_codes_and_a_retry_budget_are_told() {
    let outlier = told("outlierDetection: {outlierDetectionHttpErrorCodes: [503, 429]}")
        .outlier_detection
        .unwrap();
    assert_eq!((outlier.error_statuses, outlier.consecutive_5xx), (vec![429, 503], 5));
    let budget = mesh::RetryBudget {
        percent: 20.0,
        min_retry_concurrency: 3,
        interval: None,
    };
    assert_eq!(told("retryBudget: {}").retry_budget, Some(budget));
    let interval = told("retryBudget: {budgetInterval: 1s}").retry_budget.unwrap().interval;
    assert_eq!(interval, wire(Duration::from_secs(1)));
}

#[test]
fn tls_and_proxy_protocol_are_told() {
    let tls = |fields: &str| told(&format!("tls: {{{fields}}}")).tls.unwrap();
    let simple = tls("mode: SIMPLE, clientCertificate: /a, privateKey: /b, caCertificates: /c, sni: a.b");
    // SIMPLE presents no certificate.
    let expected = mesh::UpstreamTls {
        ca_certificates: "/c".into(),
        sni: "a.b".into(),
        ..mesh::UpstreamTls::default()
    };
    assert_eq!(simple, expected);
    let mutual = tls(
        "mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCrl: /d, subjectAltNames: [x.y], insecureSkipVerify: false",
    );
    let expected = mesh::UpstreamTls {
        client_certificate: "/a".into(),
        private_key: "/b".into(),
        ca_crl: "/d".into(),
        mutual: true,
        subject_alt_names: vec!["x.y".into()],
        ..mesh::UpstreamTls::default()
    };
    assert_eq!(mutual, expected);
    let credential = tls("mode: MUTUAL, credentialName: c, insecureSkipVerify: true");
    assert!(credential.mutual && credential.insecure_skip_verify && credential.credential_name == "c");
    assert_eq!(told("proxyProtocol: {}").proxy_protocol(), mesh::ProxyProtocol::V1);
    assert_eq!(
        told("proxyProtocol: {version: V2}").proxy_protocol(),
        mesh::ProxyProtocol::V2
    );
}

#[test]
fn a_cluster_of_a_world_has_the_policy_of_its_rule() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: user}\nspec: {host: user-service, trafficPolicy: {tls: {mode: SIMPLE}, loadBalancer: {consistentHash: {useSourceIp: true}}}}\n";
    let world = world(&format!("{SERVICE}{rule}"));
    assert_eq!(world.problems(), Vec::<Problem>::new());
    let host = host(&world, USER);
    let cluster = checked(host.clusters[0].clone());
    assert!(cluster.tls.is_some());
    assert!(matches!(cluster.load_balancer, model::LoadBalancer::ConsistentHash(_)));
}
