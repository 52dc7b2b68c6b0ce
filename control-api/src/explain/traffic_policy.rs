//! A cluster's policy in words: every block that is in force for it, by the names that a DestinationRule has for its
//! fields. What is not set, or has its default, is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use tsunagi_proto::model::{
    Cluster, ConnectionPool, ConsistentHash, Discovery, FOREVER, H2UpgradePolicy, HashKey, HashTable, LoadBalancer,
    LocalityBalancing, OutlierDetection, ProxyProtocol, RetryBudget, TlsFiles, UNLIMITED, UpstreamTls, Warmup,
};

use super::answer::TrafficPolicy;

type Block = BTreeMap<String, String>;

pub(super) fn of_cluster(cluster: &Cluster) -> TrafficPolicy {
    let consistent_hash = match &cluster.load_balancer {
        LoadBalancer::ConsistentHash(hash) => hashed(hash),
        _ => Block::new(),
    };
    TrafficPolicy {
        load_balancer: balancer(cluster).to_owned(),
        consistent_hash,
        locality_lb_setting: cluster.locality.as_ref().map(locality).unwrap_or_default(),
        warmup: cluster.warmup.as_ref().map(warmup).unwrap_or_default(),
        connection_pool: pool(&cluster.connection_pool),
        outlier_detection: cluster.outlier_detection.as_ref().map(outliers).unwrap_or_default(),
        retry_budget: cluster.retry_budget.as_ref().map(budget).unwrap_or_default(),
        tls: cluster.tls.as_ref().map(tls).unwrap_or_default(),
        proxy_protocol: cluster.proxy_protocol.map(proxy_protocol).unwrap_or_default(),
    }
}

fn balancer(cluster: &Cluster) -> &'static str {
    match (cluster.discovery, &cluster.load_balancer) {
        (Discovery::OriginalDestination, _) => "PASSTHROUGH",
        (_, LoadBalancer::LeastRequest) => "LEAST_REQUEST",
        (_, LoadBalancer::RoundRobin) => "ROUND_ROBIN",
        (_, LoadBalancer::Random) => "RANDOM",
        (_, LoadBalancer::ConsistentHash(_)) => "CONSISTENT_HASH",
    }
}

fn duration(duration: Duration) -> String {
    if duration == FOREVER {
        return "never".to_owned();
    }
    format!("{duration:?}")
}

/// Those that are there.
fn block<const N: usize>(fields: [Option<(&str, String)>; N]) -> Block {
    let fields = fields.into_iter().flatten();
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text<'n>(name: &'n str, value: &str) -> Option<(&'n str, String)> {
    (!value.is_empty()).then(|| (name, value.to_owned()))
}

fn flag(name: &str, is_set: bool) -> Option<(&str, String)> {
    is_set.then(|| (name, "true".to_owned()))
}

fn hashed(hash: &ConsistentHash) -> Block {
    let key = match &hash.key {
        HashKey::Header(name) => ("httpHeaderName", name.clone()),
        HashKey::SourceAddress => ("useSourceIp", "true".to_owned()),
        HashKey::QueryParameter(name) => ("httpQueryParameterName", name.clone()),
        HashKey::Cookie(cookie) => ("httpCookie", cookie.name.clone()),
    };
    let (path, ttl) = match &hash.key {
        HashKey::Cookie(cookie) => {
            let ttl = match cookie.ttl {
                None => "none: a client without the cookie is given none".to_owned(),
                Some(Duration::ZERO) => "0s: for its session".to_owned(),
                Some(ttl) => duration(ttl),
            };
            (cookie.path.as_str(), Some(("httpCookie.ttl", ttl)))
        }
        _ => ("", None),
    };
    let table = match hash.table {
        HashTable::Ring(size) => ("ringHash.minimumRingSize", size.to_string()),
        HashTable::Maglev(size) => ("maglev.tableSize", size.to_string()),
    };
    block([Some(key), text("httpCookie.path", path), ttl, Some(table)])
}

fn locality(locality: &LocalityBalancing) -> Block {
    let mut all = Block::new();
    for (number, shares) in locality.distribute.iter().enumerate() {
        let to = shares.to.iter().map(|(place, percent)| format!("{place} {percent} %"));
        let to: Vec<String> = to.collect();
        all.insert(
            format!("distribute[{number}]"),
            format!("from {} to {}", shares.from, to.join(" and ")),
        );
    }
    for (number, (from, to)) in locality.failover.iter().enumerate() {
        all.insert(format!("failover[{number}]"), format!("from {from} to {to}"));
    }
    let labels = locality.failover_priority.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    let labels: Vec<String> = labels.collect();
    if !labels.is_empty() {
        all.insert("failoverPriority".to_owned(), labels.join(" then "));
    }
    if let Some(zone) = &locality.zone_aware {
        let size = zone.min_cluster_size.to_string();
        all.insert("zoneAware.minClusterSize".to_owned(), size);
    }
    if all.is_empty() {
        // With nothing said in particular, the nearest ones are preferred.
        all.insert("enabled".to_owned(), "true".to_owned());
    }
    all
}

fn warmup(warmup: &Warmup) -> Block {
    block([
        Some(("duration", duration(warmup.duration))),
        Some(("minimumPercent", warmup.minimum_percent.to_string())),
        Some(("aggression", warmup.aggression.to_string())),
    ])
}

fn pool(pool: &ConnectionPool) -> Block {
    let default = ConnectionPool::default();
    let count = |name, value: u32| (value != UNLIMITED).then(|| (name, value.to_string()));
    let time = |name, value: Duration, default: Duration| (value != default).then(|| (name, duration(value)));
    let keepalive = pool.tcp_keepalive.unwrap_or_default();
    let ping = pool.http2_keepalive;
    let upgrade = match pool.h2_upgrade_policy {
        H2UpgradePolicy::Default => "",
        H2UpgradePolicy::DoNotUpgrade => "DO_NOT_UPGRADE",
        H2UpgradePolicy::Upgrade => "UPGRADE",
    };
    block([
        count("tcp.maxConnections", pool.max_connections),
        time("tcp.connectTimeout", pool.connect_timeout, default.connect_timeout),
        time("tcp.idleTimeout", pool.tcp_idle_timeout, default.tcp_idle_timeout),
        time(
            "tcp.maxConnectionDuration",
            pool.max_connection_duration,
            default.max_connection_duration,
        ),
        keepalive
            .probes
            .map(|probes| ("tcp.tcpKeepalive.probes", probes.to_string())),
        keepalive.time.map(|time| ("tcp.tcpKeepalive.time", duration(time))),
        keepalive
            .interval
            .map(|interval| ("tcp.tcpKeepalive.interval", duration(interval))),
        count("http.http1MaxPendingRequests", pool.max_pending_requests),
        count("http.http2MaxRequests", pool.max_requests),
        count("http.maxRetries", pool.max_retries.unwrap_or(UNLIMITED)),
        count("http.maxRequestsPerConnection", pool.max_requests_per_connection),
        count("http.maxConcurrentStreams", pool.max_concurrent_streams),
        time("http.idleTimeout", pool.idle_timeout, default.idle_timeout),
        text("http.h2UpgradePolicy", upgrade),
        flag("http.useClientProtocol", pool.use_client_protocol),
        ping.map(|ping| ("http.http2KeepAlive.interval", duration(ping.interval))),
        ping.map(|ping| ("http.http2KeepAlive.timeout", duration(ping.timeout))),
    ])
}

fn outliers(outlier: &OutlierDetection) -> Block {
    let threshold = |name, value: Option<u32>| value.map(|value| (name, value.to_string()));
    let local = outlier
        .consecutive_local_origin_failures
        .filter(|_| outlier.split_local_origin_errors);
    let statuses: Vec<String> = outlier.error_statuses.iter().map(u16::to_string).collect();
    block([
        threshold("consecutive5xxErrors", outlier.consecutive_5xx),
        threshold("consecutiveGatewayErrors", outlier.consecutive_gateway_errors),
        threshold("consecutiveLocalOriginFailures", local),
        flag("splitExternalLocalOriginErrors", outlier.split_local_origin_errors),
        text("outlierDetectionHttpErrorCodes", &statuses.join(" ")),
        Some(("interval", duration(outlier.interval))),
        Some(("baseEjectionTime", duration(outlier.base_ejection_time))),
        Some(("maxEjectionPercent", outlier.max_ejection_percent.to_string())),
        Some(("minHealthPercent", outlier.min_health_percent.to_string())),
        outlier.as_envoy.then(|| ("rules", "envoy".to_owned())),
    ])
}

fn budget(budget: &RetryBudget) -> Block {
    block([
        Some(("percent", budget.percent.to_string())),
        Some(("minRetryConcurrency", budget.min_retry_concurrency.to_string())),
        budget.interval.map(|interval| ("budgetInterval", duration(interval))),
    ])
}

fn tls(tls: &UpstreamTls) -> Block {
    let mode = if tls.mutual { "MUTUAL" } else { "SIMPLE" };
    let mut all = block([
        text("mode", mode),
        text("sni", tls.sni.as_deref().unwrap_or_default()),
        text("subjectAltNames", &tls.subject_alt_names.join(" ")),
        flag("insecureSkipVerify", tls.insecure_skip_verify),
    ]);
    all.extend(match &tls.files {
        TlsFiles::Credential(name) => block([text("credentialName", name)]),
        TlsFiles::Paths {
            client_certificate,
            private_key,
            ca_certificates,
            ca_crl,
        } => block([
            text("clientCertificate", client_certificate),
            text("privateKey", private_key),
            text("caCertificates", ca_certificates),
            text("caCrl", ca_crl),
        ]),
    });
    all
}

fn proxy_protocol(version: ProxyProtocol) -> Block {
    let version = match version {
        ProxyProtocol::V1 => "V1",
        ProxyProtocol::V2 => "V2",
    };
    block([text("version", version)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tsunagi_proto::model::{
        ClusterKey, HashCookie, Http2Keepalive, LocalityShares, Protocol, TcpKeepalive, ZoneAware,
    };

    fn cluster() -> Cluster {
        let key = ClusterKey {
            host: "user.mesh".into(),
            port: 80,
            subset: String::new(),
        };
        Cluster::new(key, Protocol::Http1)
    }

    fn shown(block: &Block) -> Vec<String> {
        block.iter().map(|(name, value)| format!("{name} {value}")).collect()
    }

    #[test]
    fn a_cluster_of_which_nothing_is_said_has_its_balancing_alone() {
        let policy = TrafficPolicy {
            load_balancer: "LEAST_REQUEST".to_owned(),
            ..TrafficPolicy::default()
        };
        assert_eq!(of_cluster(&cluster()), policy);
        let passed = Cluster {
            discovery: Discovery::OriginalDestination,
            ..cluster()
        };
        assert_eq!(of_cluster(&passed).load_balancer, "PASSTHROUGH");
    }

    #[test]
    fn the_key_of_a_hash_is_told_with_its_table() {
        let with = |key, table| {
            let load_balancer = LoadBalancer::ConsistentHash(ConsistentHash { key, table });
            let told = of_cluster(&Cluster {
                load_balancer,
                ..cluster()
            });
            assert_eq!(told.load_balancer, "CONSISTENT_HASH");
            shown(&told.consistent_hash)
        };
        let cookie = |ttl| {
            HashKey::Cookie(HashCookie {
                name: "user".into(),
                path: "/a".into(),
                ttl,
                attributes: Vec::new(),
            })
        };
        let ring = HashTable::Ring(1024);
        let maglev = HashTable::Maglev(65_537);
        assert_eq!(
            with(HashKey::Header("x-user".into()), ring),
            ["httpHeaderName x-user", "ringHash.minimumRingSize 1024"]
        );
        assert_eq!(
            with(HashKey::SourceAddress, maglev),
            ["maglev.tableSize 65537", "useSourceIp true"]
        );
        assert_eq!(
            with(cookie(Some(Duration::from_secs(60))), maglev),
            [
                "httpCookie user",
                "httpCookie.path /a",
                "httpCookie.ttl 60s",
                "maglev.tableSize 65537"
            ]
        );
        assert_eq!(
            with(cookie(Some(Duration::ZERO)), ring)[2],
            "httpCookie.ttl 0s: for its session"
        );
    }

    #[test]
    fn every_block_is_told_by_its_fields() {
        let cluster = Cluster {
            connection_pool: ConnectionPool {
                max_connections: 7,
                max_concurrent_streams: 3,
                idle_timeout: FOREVER,
                h2_upgrade_policy: H2UpgradePolicy::Upgrade,
                tcp_keepalive: Some(TcpKeepalive {
                    probes: Some(3),
                    ..TcpKeepalive::default()
                }),
                http2_keepalive: Some(Http2Keepalive {
                    interval: Duration::from_secs(5),
                    timeout: Duration::from_secs(1),
                }),
                ..ConnectionPool::default()
            },
            locality: Some(LocalityBalancing {
                distribute: vec![LocalityShares {
                    from: "eu/*".into(),
                    to: vec![("eu/*".into(), 80), ("us/*".into(), 20)],
                }],
                failover: vec![("eu".into(), "us".into())],
                failover_priority: vec![("a".into(), None), ("b".into(), Some("c".into()))],
                zone_aware: Some(ZoneAware { min_cluster_size: 6 }),
            }),
            warmup: Some(Warmup {
                duration: Duration::from_secs(30),
                minimum_percent: 10.0,
                aggression: 1.0,
            }),
            retry_budget: Some(RetryBudget {
                percent: 25.0,
                min_retry_concurrency: 4,
                interval: None,
            }),
            tls: Some(UpstreamTls {
                files: TlsFiles::Credential("client".into()),
                mutual: true,
                sni: Some("a.example.com".into()),
                subject_alt_names: vec!["b".into()],
                insecure_skip_verify: false,
            }),
            proxy_protocol: Some(ProxyProtocol::V2),
            ..cluster()
        };
        let told = of_cluster(&cluster);
        assert_eq!(
            shown(&told.connection_pool),
            [
                "http.h2UpgradePolicy UPGRADE",
                "http.http2KeepAlive.interval 5s",
                "http.http2KeepAlive.timeout 1s",
                "http.idleTimeout never",
                "http.maxConcurrentStreams 3",
                "tcp.maxConnections 7",
                "tcp.tcpKeepalive.probes 3"
            ]
        );
        assert_eq!(
            shown(&told.locality_lb_setting),
            [
                "distribute[0] from eu/* to eu/* 80 % and us/* 20 %",
                "failoverPriority a then b=c",
                "failover[0] from eu to us",
                "zoneAware.minClusterSize 6"
            ]
        );
        assert_eq!(
            shown(&told.warmup),
            ["aggression 1", "duration 30s", "minimumPercent 10"]
        );
        assert_eq!(shown(&told.retry_budget), ["minRetryConcurrency 4", "percent 25"]);
        assert_eq!(
            shown(&told.tls),
            [
                "credentialName client",
                "mode MUTUAL",
                "sni a.example.com",
                "subjectAltNames b"
            ]
        );
        assert_eq!(shown(&told.proxy_protocol), ["version V2"]);
        let nearest = Cluster {
            locality: Some(LocalityBalancing::default()),
            ..cluster
        };
        assert_eq!(shown(&of_cluster(&nearest).locality_lb_setting), ["enabled true"]);
    }
}
