//! Endpoint choice, on seeded randomness.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tsunagi_proto::model::Health;
use tsunagi_proto::model::LoadBalancer::{LeastRequest, Random, RoundRobin};

use super::super::Cluster;
use super::super::testing::{cluster, endpoint, policy};
use super::*;

fn seeded() -> impl FnMut() -> u64 {
    let mut rng = StdRng::seed_from_u64(7);
    move || rng.next_u64()
}

fn after(tried: &[Arc<Endpoint>]) -> Caller<'_> {
    Caller {
        tried,
        ..Caller::default()
    }
}

/// How often each port is chosen by requests that end at once.
fn shares(algorithm: LoadBalancer, weights: &[u32], requests: usize) -> HashMap<u16, usize> {
    let policy = policy(algorithm, None);
    let (_cluster, members) = cluster(&policy, weights);
    let mut random = seeded();
    let mut shares = HashMap::new();
    for _ in 0..requests {
        let chosen = choose(&policy, &members, &after(&[]), &mut random).unwrap();
        *shares.entry(chosen.endpoint.address.port()).or_default() += 1;
    }
    shares
}

#[test]
fn round_robin_takes_turns_exactly() {
    assert_eq!(
        shares(RoundRobin, &[1, 1, 1], 300),
        HashMap::from([(1, 100), (2, 100), (3, 100)])
    );
}

#[test]
fn weighted_round_robin_gives_each_exactly_its_weight() {
    assert_eq!(
        shares(RoundRobin, &[5, 3, 2], 1000),
        HashMap::from([(1, 500), (2, 300), (3, 200)])
    );
}

#[test]
fn random_and_idle_least_request_follow_the_weights_within_bounds() {
    // Six standard deviations of a binomial with 30,000 draws are at most 520.
    for algorithm in [Random, LeastRequest] {
        for (weights, expected) in [
            ([1, 1, 1], [10_000, 10_000, 10_000]),
            ([4, 1, 1], [20_000, 5_000, 5_000]),
        ] {
            let shares = shares(algorithm.clone(), &weights, 30_000);
            for (port, expected) in (1..).zip(expected) {
                assert!(
                    shares[&port].abs_diff(expected) < 520,
                    "{algorithm:?} {weights:?}: {shares:?}"
                );
            }
        }
    }
}

#[test]
fn least_request_prefers_the_endpoint_with_fewer_requests_in_flight() {
    let policy = policy(LeastRequest, None);
    let (_cluster, members) = cluster(&policy, &[1, 1]);
    let _busy: Vec<_> = (0..10).map(|_| members.list[0].endpoint.begin()).collect();
    let mut random = seeded();
    let mut chosen = || {
        choose(&policy, &members, &after(&[]), &mut random)
            .unwrap()
            .endpoint
            .address
            .port()
    };
    // Only when both draws hit the busy one, a quarter of the time, does it get the request: 6 sigma of 10,000 is 260.
    let busy = (0..10_000).filter(|_| chosen() == 1).count();
    assert!(busy.abs_diff(2_500) < 260, "{busy}");
}

#[test]
fn an_endpoint_that_was_tried_is_avoided_while_there_is_another() {
    let policy = policy(Random, None);
    let (_cluster, members) = cluster(&policy, &[1, 1]);
    let mut random = seeded();
    let tried = [Arc::clone(&members.list[0].endpoint)];
    for _ in 0..100 {
        let chosen = choose(&policy, &members, &after(&tried), &mut random).unwrap();
        assert_eq!(chosen.endpoint.address.port(), 2);
    }
    let all: Vec<_> = members.list.iter().map(|member| Arc::clone(&member.endpoint)).collect();
    assert!(choose(&policy, &members, &after(&all), &mut random).is_some());
}

#[test]
fn without_endpoints_there_is_no_choice() {
    let policy = policy(LeastRequest, None);
    let (_cluster, members) = cluster(&policy, &[]);
    assert!(choose(&policy, &members, &after(&[]), &mut seeded()).is_none());
}

/// A cluster whose endpoints, on ports 1, 2, 3 …, were told with this health.
fn told(health: &[Health]) -> (Arc<Cluster>, Arc<Members>, Arc<model::Cluster>) {
    let policy = policy(LeastRequest, None);
    let (cluster, _) = cluster(&policy, &[]);
    let endpoints: Vec<_> = health
        .iter()
        .zip(1..)
        .map(|(health, port)| {
            let mut endpoint = model::Endpoint::clone(&endpoint(port, 1));
            endpoint.health = *health;
            Arc::new(endpoint)
        })
        .collect();
    let members = cluster.reconcile(Arc::clone(&policy), &endpoints);
    (cluster, members, policy)
}

#[test]
fn draining_endpoints_serve_when_no_healthy_one_is_left_and_only_then() {
    let (_cluster, members, policy) = told(&[Health::Draining, Health::Healthy, Health::Draining]);
    let mut random = seeded();
    for _ in 0..100 {
        let chosen = choose(&policy, &members, &after(&[]), &mut random).unwrap();
        assert_eq!(chosen.endpoint.address.port(), 2);
    }
    let (_cluster, members, policy) = told(&[Health::Draining, Health::Unhealthy, Health::Draining]);
    let mut seen = HashMap::<u16, u32>::new();
    for _ in 0..100 {
        let chosen = choose(&policy, &members, &after(&[]), &mut random).unwrap();
        assert!(!chosen.endpoint.keeps_connections());
        *seen.entry(chosen.endpoint.address.port()).or_default() += 1;
    }
    assert!(seen.len() == 2 && !seen.contains_key(&2), "{seen:?}");
    // Those that refused or were tried give way, while there is another.
    members.draining[0].endpoint.refused();
    let tried = [Arc::clone(&members.draining[1].endpoint)];
    for (tried, expected) in [(&[][..], 3), (&tried[..], 1)] {
        for _ in 0..100 {
            let chosen = choose(&policy, &members, &after(tried), &mut random).unwrap();
            assert_eq!(chosen.endpoint.address.port(), expected);
        }
    }
}

#[test]
fn an_endpoint_that_refused_is_avoided_until_the_second_sweep_unless_there_is_no_other() {
    let policy = policy(LeastRequest, None);
    let (_cluster, members) = cluster(&policy, &[1, 1]);
    let mut random = seeded();
    let mut refused = 0;
    let mut choose_many = |expected: &[u16]| {
        for _ in 0..200 {
            let chosen = choose(&policy, &members, &after(&[]), &mut random).unwrap();
            let port = chosen.endpoint.address.port();
            assert!(expected.contains(&port), "{port}");
            refused += usize::from(port == 1);
        }
        std::mem::take(&mut refused)
    };
    let now = std::time::Instant::now();
    let pool = &policy.connection_pool;
    members.list[0].endpoint.refused();
    choose_many(&[2]);
    members.list[0].endpoint.sweep(pool, now);
    choose_many(&[2]);
    members.list[0].endpoint.sweep(pool, now);
    assert!(choose_many(&[1, 2]) > 0, "like any other again");
    members.list.iter().for_each(|member| member.endpoint.refused());
    assert!(choose_many(&[1, 2]) > 0, "better one that refused than none");
}
