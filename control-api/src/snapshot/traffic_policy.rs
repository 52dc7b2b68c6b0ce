//! The policy in force for a cluster as a proxy is told it: what Istio and Envoy default is filled in here. As Istio maps it
//! (pilot/pkg/networking/core: cluster_traffic_policy.go, cluster_tls.go, loadbalancer/loadbalancer.go). Called by
//! `clusters` and `workload`.

use std::time::Duration;

use tsunagi_proto::model::{
    ConsistentHash, H2UpgradePolicy, HashKey, HashTable, LocalityShares, NETWORK_LABEL, NODE_NAME_LABEL, ProxyProtocol,
    REGION_LABEL, RetryBudget, SUBZONE_LABEL, Warmup, ZONE_LABEL,
};
use tsunagi_proto::wire::mesh;

use super::routes::duration;
use crate::config::{
    Algorithm, ClientTls, ConnectionPool, Failover, LoadBalancer, LocalitySetting, OutlierDetection, TlsMode,
    TrafficDistribution, TrafficPolicy,
};

/// A cluster's policy, and nothing else of it.
pub(super) fn told(policy: &TrafficPolicy) -> mesh::Cluster {
    let balancer = policy.load_balancer.as_ref();
    mesh::Cluster {
        connection_pool: policy.connection_pool.as_ref().and_then(connection_pool),
        load_balancer: load_balancer(balancer).into(),
        consistent_hash: balancer.and_then(consistent_hash),
        locality: locality(balancer, policy.outlier_detection.is_some()),
        warmup: balancer.and_then(warmup),
        outlier_detection: policy.outlier_detection.as_ref().map(outlier_detection),
        retry_budget: policy.retry_budget.as_ref().map(retry_budget),
        tls: policy.tls.as_ref().and_then(tls),
        proxy_protocol: proxy_protocol(policy.proxy_protocol).into(),
        discovery: discovery(balancer).into(),
        ..mesh::Cluster::default()
    }
}

/// A duration of which zero means something.
fn exactly(duration: Option<Duration>) -> Option<prost_types::Duration> {
    duration.and_then(|duration| duration.try_into().ok())
}

/// `None` where nothing is set: that means the same.
pub(super) fn connection_pool(pool: &ConnectionPool) -> Option<mesh::ConnectionPool> {
    (*pool != ConnectionPool::default()).then(|| mesh::ConnectionPool {
        max_connections: pool.max_connections,
        max_pending_requests: pool.max_pending_requests,
        max_requests: pool.max_requests,
        max_retries: pool.max_retries,
        max_requests_per_connection: pool.max_requests_per_connection,
        connect_timeout: duration(pool.connect_timeout),
        idle_timeout: exactly(pool.idle_timeout),
        tcp_idle_timeout: exactly(pool.tcp_idle_timeout),
        max_connection_duration: duration(pool.max_connection_duration),
        tcp_keepalive: pool.tcp_keepalive.map(|keepalive| mesh::TcpKeepalive {
            probes: keepalive.probes.unwrap_or_default(),
            time: duration(keepalive.time.map(whole_seconds)),
            interval: duration(keepalive.interval.map(whole_seconds)),
        }),
        h2_upgrade_policy: match pool.h2_upgrade_policy {
            H2UpgradePolicy::Default => mesh::H2UpgradePolicy::Default,
            H2UpgradePolicy::DoNotUpgrade => mesh::H2UpgradePolicy::DoNotUpgrade,
            H2UpgradePolicy::Upgrade => mesh::H2UpgradePolicy::Upgrade,
        }
        .into(),
        use_client_protocol: pool.use_client_protocol,
        max_concurrent_streams: pool.max_concurrent_streams,
        http2_keepalive: pool.http2_keepalive.map(|keepalive| mesh::Http2Keepalive {
            interval: duration(Some(keepalive.interval)),
            timeout: duration(Some(keepalive.timeout)),
        }),
    })
}

/// For connections to the application, which as in Istio no policy of its callers upgrades.
pub(super) fn inbound_connection_pool(pool: &ConnectionPool) -> Option<mesh::ConnectionPool> {
    connection_pool(&ConnectionPool {
        h2_upgrade_policy: H2UpgradePolicy::Default,
        ..pool.clone()
    })
}

/// A socket knows no less; never none.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

fn load_balancer(balancer: Option<&LoadBalancer>) -> mesh::LoadBalancer {
    match balancer.map(|balancer| &balancer.algorithm) {
        Some(Algorithm::RoundRobin) => mesh::LoadBalancer::RoundRobin,
        Some(Algorithm::Random) => mesh::LoadBalancer::Random,
        Some(Algorithm::LeastRequest | Algorithm::Passthrough | Algorithm::ConsistentHash(_)) | None => {
            mesh::LoadBalancer::LeastRequest
        }
    }
}

fn is_passthrough(balancer: Option<&LoadBalancer>) -> bool {
    balancer.is_some_and(|balancer| balancer.algorithm == Algorithm::Passthrough)
}

fn discovery(balancer: Option<&LoadBalancer>) -> mesh::Discovery {
    if is_passthrough(balancer) {
        mesh::Discovery::OriginalDestination
    } else {
        mesh::Discovery::Static
    }
}

fn consistent_hash(balancer: &LoadBalancer) -> Option<mesh::ConsistentHash> {
    use mesh::consistent_hash::{Key, Table};
    let Algorithm::ConsistentHash(ConsistentHash { key, table }) = &balancer.algorithm else {
        return None;
    };
    let key = match key {
        HashKey::Header(name) => Key::Header(name.clone()),
        HashKey::SourceAddress => Key::SourceAddress(true),
        HashKey::QueryParameter(name) => Key::QueryParameter(name.clone()),
        HashKey::Cookie(cookie) => Key::Cookie(mesh::HashCookie {
            name: cookie.name.clone(),
            path: cookie.path.clone(),
            ttl: exactly(cookie.ttl),
            attributes: cookie
                .attributes
                .iter()
                .map(|(name, value)| mesh::HeaderValue {
                    name: name.clone(),
                    value: value.clone(),
                })
                .collect(),
        }),
    };
    Some(mesh::ConsistentHash {
        key: Some(key),
        table: Some(match table {
            HashTable::Ring(size) => Table::RingSize(*size),
            HashTable::Maglev(size) => Table::MaglevSize(*size),
        }),
    })
}

/// Envoy warms up under these algorithms only.
fn warmup(balancer: &LoadBalancer) -> Option<mesh::Warmup> {
    let Warmup {
        duration: window,
        minimum_percent,
        aggression,
    } = balancer.warmup?;
    matches!(balancer.algorithm, Algorithm::LeastRequest | Algorithm::RoundRobin).then(|| mesh::Warmup {
        duration: duration(Some(window)),
        minimum_percent,
        aggression,
    })
}

/// Exactly where Istio lets localities matter. Its mesh-wide default has them matter for failover, and that needs outlier
/// detection: nothing else says that an endpoint has failed.
fn locality(balancer: Option<&LoadBalancer>, ejects: bool) -> Option<mesh::LocalityBalancing> {
    if is_passthrough(balancer) {
        return None;
    }
    let failover = |failover: &Failover| mesh::LocalityBalancing {
        failover: failover
            .regions
            .iter()
            .map(|(from, to)| mesh::LocalityFailover {
                from: from.clone(),
                to: to.clone(),
            })
            .collect(),
        failover_priority: failover.priority.clone(),
        ..mesh::LocalityBalancing::default()
    };
    match balancer.and_then(|balancer| balancer.locality.as_ref()) {
        Some(LocalitySetting::Off) => None,
        Some(LocalitySetting::Distribute(shares)) => Some(mesh::LocalityBalancing {
            distribute: shares.iter().map(locality_shares).collect(),
            ..mesh::LocalityBalancing::default()
        }),
        Some(LocalitySetting::ZoneAware {
            failover: order,
            min_cluster_size,
        }) => Some(mesh::LocalityBalancing {
            zone_aware: Some(mesh::ZoneAware {
                min_cluster_size: *min_cluster_size,
            }),
            ..failover(order)
        }),
        Some(LocalitySetting::Failover(order)) => ejects.then(|| failover(order)),
        None => ejects.then(mesh::LocalityBalancing::default),
    }
}

/// What a Service prefers counts where no rule says anything of localities, and without outlier detection, too: the
/// cluster tells which endpoints are healthy (Istio's `GetEffectiveLbSetting`).
pub(super) fn distributed(
    cluster: mesh::Cluster,
    policy: &TrafficPolicy,
    distribution: Option<TrafficDistribution>,
) -> mesh::Cluster {
    let balancer = policy.load_balancer.as_ref();
    let is_said = balancer.is_some_and(|balancer| balancer.locality.is_some());
    let (Some(distribution), false) = (distribution, is_said || is_passthrough(balancer)) else {
        return cluster;
    };
    let labels: &[&str] = match distribution {
        TrafficDistribution::SameZone => &[NETWORK_LABEL, REGION_LABEL, ZONE_LABEL],
        TrafficDistribution::SameNode => &[NETWORK_LABEL, REGION_LABEL, ZONE_LABEL, SUBZONE_LABEL, NODE_NAME_LABEL],
    };
    mesh::Cluster {
        locality: Some(mesh::LocalityBalancing {
            failover_priority: labels.iter().map(|label| (*label).to_owned()).collect(),
            ..mesh::LocalityBalancing::default()
        }),
        ..cluster
    }
}

fn locality_shares(shares: &LocalityShares) -> mesh::LocalityShares {
    let share = |(locality, weight): &(String, u32)| mesh::LocalityShare {
        locality: locality.clone(),
        weight: *weight,
    };
    mesh::LocalityShares {
        from: shares.from.clone(),
        to: shares.to.iter().map(share).collect(),
    }
}

fn outlier_detection(outlier: &OutlierDetection) -> mesh::OutlierDetection {
    mesh::OutlierDetection {
        consecutive_5xx: outlier.consecutive_5xx,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        split_local_origin_errors: outlier.split_local_origin_errors,
        consecutive_local_origin_failures: outlier.consecutive_local_origin_failures,
        interval: duration(Some(outlier.interval)),
        base_ejection_time: duration(Some(outlier.base_ejection_time)),
        // The proxy's default, Envoy's: 300 s, or the base if that is longer.
        max_ejection_time: None,
        max_ejection_percent: outlier.max_ejection_percent,
        min_health_percent: outlier.min_health_percent,
        as_envoy: outlier.as_envoy,
        error_statuses: outlier.error_statuses.iter().copied().map(u32::from).collect(),
    }
}

fn retry_budget(budget: &RetryBudget) -> mesh::RetryBudget {
    mesh::RetryBudget {
        percent: budget.percent,
        min_retry_concurrency: budget.min_retry_concurrency,
        interval: duration(budget.interval),
    }
}

/// `None`: plaintext.
fn tls(tls: &ClientTls) -> Option<mesh::UpstreamTls> {
    let mutual = match tls.mode {
        TlsMode::Disable => return None,
        TlsMode::Simple => false,
        TlsMode::Mutual => true,
    };
    // SIMPLE presents no certificate, whatever else is there.
    let own = |path: &String| if mutual { path.clone() } else { String::new() };
    Some(mesh::UpstreamTls {
        client_certificate: own(&tls.client_certificate),
        private_key: own(&tls.private_key),
        ca_certificates: tls.ca_certificates.clone(),
        ca_crl: tls.ca_crl.clone(),
        credential_name: tls.credential_name.clone(),
        mutual,
        sni: tls.sni.clone(),
        subject_alt_names: tls.subject_alt_names.clone(),
        insecure_skip_verify: tls.insecure_skip_verify,
    })
}

fn proxy_protocol(version: Option<ProxyProtocol>) -> mesh::ProxyProtocol {
    match version {
        None => mesh::ProxyProtocol::None,
        Some(ProxyProtocol::V1) => mesh::ProxyProtocol::V1,
        Some(ProxyProtocol::V2) => mesh::ProxyProtocol::V2,
    }
}
