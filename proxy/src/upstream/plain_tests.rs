//! Tests of connections that are not pooled, against sockets of the loopback.

use tokio::net::TcpListener;
use tsunagi_proto::model::LoadBalancer;

use super::super::testing::{endpoint, policy};
use super::*;
use crate::telemetry::Telemetry;

/// A cluster of endpoints on these ports.
fn cluster(policy: &Arc<model::Cluster>, ports: &[u16]) -> (Arc<Cluster>, Arc<Members>) {
    let series = Telemetry::new("test").cluster_series(crate::telemetry::Direction::Outbound, "user", "");
    let cluster = Cluster::new(Arc::clone(policy), series, 1);
    let told: Vec<_> = ports.iter().map(|port| endpoint(*port, 1)).collect();
    let members = cluster.reconcile(Arc::clone(policy), &told);
    (cluster, members)
}

/// A port where nobody listens.
async fn dead_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound").port()
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_passed_over_for_the_next_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let live = listener.local_addr().expect("bound").port();
    let policy = policy(LoadBalancer::RoundRobin, None);
    let (cluster, members) = cluster(&policy, &[dead_port().await, dead_port().await, live]);
    for _ in 0..6 {
        let open = open_plain(&cluster, &policy, &members, Caller::default())
            .await
            .expect("one is up");
        assert_eq!(open.endpoint().address.port(), live);
        assert_eq!(
            (open.endpoint().active_requests(), open.endpoint().connections()),
            (1, 1)
        );
    }
    assert_eq!(cluster.open_connections(), 0);
    assert!(members.list.iter().all(|member| member.endpoint.active_requests() == 0));
}

#[tokio::test]
async fn when_all_are_down_the_last_error_is_told_and_none_is_tried_twice() {
    let policy = policy(LoadBalancer::RoundRobin, None);
    let (two, members) = cluster(&policy, &[dead_port().await, dead_port().await]);
    let error = open_plain(&two, &policy, &members, Caller::default())
        .await
        .expect_err("all are down");
    assert!(matches!(error, PlainError::Connect { attempts: 2, .. }), "{error:?}");
    let (none, members) = cluster(&policy, &[]);
    let error = open_plain(&none, &policy, &members, Caller::default())
        .await
        .expect_err("nobody is there");
    assert!(matches!(error, PlainError::NoEndpoint), "{error:?}");
}

#[tokio::test]
async fn a_connection_over_the_limit_is_refused_at_once_and_the_place_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let live = listener.local_addr().expect("bound").port();
    let mut limited = model::Cluster::clone(&policy(LoadBalancer::RoundRobin, None));
    limited.connection_pool.max_connections = 1;
    let limited = Arc::new(limited);
    let (cluster, members) = cluster(&limited, &[live]);
    let first = open_plain(&cluster, &limited, &members, Caller::default())
        .await
        .expect("room for one");
    let error = open_plain(&cluster, &limited, &members, Caller::default())
        .await
        .expect_err("full");
    assert!(matches!(error, PlainError::Overflow), "{error:?}");
    drop(first);
    open_plain(&cluster, &limited, &members, Caller::default())
        .await
        .expect("room again");
}
