//! What the admin pages show of snapshot and registry: names, rules, limits and health, and nothing secret.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::{Value, json};
use tsunagi_proto::model::{self, Locality, UNLIMITED};

use super::Parts;
use crate::admin::AdminSources;
use crate::dns::Book;
use crate::snapshot::Snapshot;
use crate::tls;
use crate::upstream::{Cluster, EndpointHealth, Member};

pub(super) fn sources(parts: &Parts, listeners: &[(&'static str, SocketAddr)]) -> AdminSources {
    let address = |(name, address): &(&str, SocketAddr)| json!({ "name": name, "address": address.to_string() });
    let listeners: Value = listeners.iter().map(address).collect();
    let (shared, registry, book) = (
        Arc::clone(&parts.shared),
        Arc::clone(&parts.registry),
        Arc::clone(&parts.book),
    );
    let credentials = Arc::clone(registry.credentials());
    AdminSources {
        config_dump: Box::new(move || config_dump(&shared.current(), &credentials.states())),
        clusters: Box::new(move || {
            let clusters = registry.clusters();
            let clusters = clusters.iter().map(|cluster| cluster_lines(cluster));
            clusters.chain(std::iter::once(name_lines(&book))).collect()
        }),
        listeners: Box::new(move || listeners.clone()),
    }
}

fn config_dump(snapshot: &Snapshot, credentials: &[tls::State]) -> Value {
    let workload = snapshot.workload.as_ref().map(|workload| {
        json!({
            "namespace": workload.namespace,
            "node_id": workload.node_id,
            "cluster_domain": workload.cluster_domain,
        })
    });
    let hosts: serde_json::Map<String, Value> = snapshot
        .hosts
        .iter()
        .map(|(fqdn, known)| {
            (
                fqdn.to_string(),
                known.as_ref().map_or(Value::Null, |it| host(&it.told)),
            )
        })
        .collect();
    let credentials: Value = credentials.iter().map(credential).collect();
    json!({ "version": snapshot.version, "workload": workload, "hosts": hosts, "credentials": credentials })
}

/// The files of a `tls` block: no word of what is in them but when the certificate ends.
fn credential(state: &tls::State) -> Value {
    let since_epoch = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
    json!({
        "files": state.files,
        "in_force": state.in_force,
        "refused": state.refused,
        "expires_at_seconds": state.expires.map(since_epoch),
    })
}

fn host(host: &model::Host) -> Value {
    let port = |port: &model::Port| json!({ "number": port.number, "name": port.name, "protocol": format!("{:?}", port.protocol) });
    let routes = host.routes.as_ref().map(|routes| {
        json!({
            "virtual_service": format!("{}/{}", routes.namespace, routes.name),
            "rules": routes.rules.iter().map(rule).collect::<Value>(),
        })
    });
    json!({
        "namespace": host.namespace,
        "alias_of": host.alias_of,
        "addresses": host.addresses.iter().map(ToString::to_string).collect::<Value>(),
        "ports": host.ports.iter().map(port).collect::<Value>(),
        "routes": routes,
        "clusters": host.clusters.iter().map(policy).collect::<Value>(),
    })
}

fn rule(rule: &model::HttpRule) -> Value {
    let destination = |destination: &model::WeightedDestination| {
        json!({
            "host": destination.host,
            "port": destination.port,
            "subset": destination.subset,
            "weight": destination.weight,
        })
    };
    let route = rule.route();
    json!({
        "route": rule.label,
        "matches": rule.matches.iter().map(|item| format!("{item:?}")).collect::<Value>(),
        "destinations": route.map(|route| route.destinations.iter().map(destination).collect::<Value>()),
        "timeout": route.and_then(|route| route.timeout).map(|timeout| format!("{timeout:?}")),
        "retries": route.map(|route| format!("{:?}", route.retries)),
    })
}

fn policy(cluster: &model::Cluster) -> Value {
    let limit = |value: u32| (value != UNLIMITED).then_some(value);
    let pool = &cluster.connection_pool;
    let labels: serde_json::Map<String, Value> = cluster
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), Value::from(value.as_str())))
        .collect();
    json!({
        "name": cluster.key.to_string(),
        "labels": labels,
        "protocol": format!("{:?}", cluster.protocol),
        "discovery": format!("{:?}", cluster.discovery),
        "load_balancer": format!("{:?}", cluster.load_balancer),
        "connection_pool": {
            "max_connections": limit(pool.max_connections),
            "max_pending_requests": limit(pool.max_pending_requests),
            "max_requests": limit(pool.max_requests),
            "max_retries": pool.max_retries,
            "max_requests_per_connection": limit(pool.max_requests_per_connection),
            "connect_timeout": format!("{:?}", pool.connect_timeout),
            "idle_timeout": format!("{:?}", pool.idle_timeout),
            "tcp_idle_timeout": format!("{:?}", pool.tcp_idle_timeout),
        },
        "outlier_detection": cluster.outlier_detection.as_ref().map(|detection| format!("{detection:?}")),
    })
}

/// Why and for how long yet the endpoint gets no requests, and how often that was so.
fn outlier_lines(lines: &mut String, name: &str, health: &EndpointHealth, now: Instant) -> std::fmt::Result {
    writeln!(lines, "{name}::ejections::{}", health.ejections)?;
    if let Some(cause) = health.cause {
        writeln!(lines, "{name}::ejection_cause::{}", cause.as_str())?;
    }
    if let Some(since) = health.since {
        let time = now.saturating_duration_since(since).as_secs_f64();
        writeln!(lines, "{name}::ejected_seconds::{time:.1}")?;
    }
    if let Some(until) = health.until {
        let left = until.saturating_duration_since(now).as_secs_f64();
        writeln!(lines, "{name}::ejection_left_seconds::{left:.1}")?;
    }
    Ok(())
}

/// `cluster::endpoint::what::value`, as Envoy's page has it.
fn cluster_lines(cluster: &Cluster) -> String {
    let name = &cluster.name;
    let mut lines = String::new();
    // Writing into a `String` does not fail.
    let _ = writeln!(lines, "{name}::cx_active::{}", cluster.open_connections());
    let _ = writeln!(lines, "{name}::rq_active::{}", cluster.requests.current());
    let _ = writeln!(lines, "{name}::rq_pending::{}", cluster.pending_requests());
    let (policy, members) = cluster.told();
    if members.is_panic() {
        let _ = writeln!(lines, "{name}::panic::true");
    }
    let now = Instant::now();
    for (
        Member {
            endpoint, weight, told, ..
        },
        level,
    ) in members.with_levels()
    {
        let address = endpoint.shown_address();
        let _ = writeln!(lines, "{name}::{address}::id::{}", endpoint.id);
        let health = endpoint.outlier_health(policy.outlier_detection.as_ref());
        let _ = writeln!(lines, "{name}::{address}::health::{}", health.as_str());
        let _ = outlier_lines(&mut lines, &format!("{name}::{address}"), &health, now);
        let _ = writeln!(lines, "{name}::{address}::cx_active::{}", endpoint.connections());
        let _ = writeln!(lines, "{name}::{address}::rq_active::{}", endpoint.active_requests());
        let _ = writeln!(lines, "{name}::{address}::weight::{weight}");
        let Locality { region, zone, subzone } = Locality::of(&told.locality);
        for (part, text) in [("region", region), ("zone", zone), ("sub_zone", subzone)] {
            let _ = writeln!(lines, "{name}::{address}::{part}::{text}");
        }
        if let Some(level) = level {
            let _ = writeln!(lines, "{name}::{address}::priority::{level}");
        }
    }
    lines
}

/// `dns::name::what::value`: the names of endpoints, and how old is what is known of them.
fn name_lines(book: &Book) -> String {
    let mut lines = String::new();
    for line in book.lines() {
        let (name, answer) = (&line.name, &line.answer);
        let _ = writeln!(lines, "dns::{name}::addresses::{}", line.addresses());
        if let Some(said_at) = answer.said_at {
            let _ = writeln!(lines, "dns::{name}::age_seconds::{}", said_at.elapsed().as_secs());
        }
        if let Some(failure) = &answer.failure {
            let _ = writeln!(lines, "dns::{name}::failure::{failure}");
        }
    }
    lines
}
