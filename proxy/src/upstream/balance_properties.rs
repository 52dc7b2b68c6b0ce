//! What holds of every choice, over random endpoints, weights, ejections and pushes; and the shares, within bounds that a
//! right proxy misses less than once in a million runs.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tsunagi_proto::model::{ConsistentHash, Endpoint as Told, HashKey, HashTable, Health, OutlierDetection, Warmup};

use super::super::testing::{endpoint, policy, strict};
use super::super::{Cluster, Outcome};
use super::*;
use crate::telemetry::{Direction, Telemetry};

fn hashed(table: HashTable) -> LoadBalancer {
    LoadBalancer::ConsistentHash(ConsistentHash {
        key: HashKey::SourceAddress,
        table,
    })
}

fn algorithms() -> [LoadBalancer; 5] {
    [
        LoadBalancer::LeastRequest,
        LoadBalancer::RoundRobin,
        LoadBalancer::Random,
        hashed(HashTable::Ring(64)),
        hashed(HashTable::Maglev(251)),
    ]
}

/// A cluster and how it is told now.
struct World {
    policy: Arc<model::Cluster>,
    cluster: Arc<Cluster>,
    members: Arc<Members>,
    rng: StdRng,
}

impl World {
    fn new(policy: Arc<model::Cluster>, told: &[Arc<Told>], seed: u64) -> Self {
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        let cluster = Cluster::new(Arc::clone(&policy), series, 2);
        Self {
            members: cluster.reconcile(Arc::clone(&policy), told),
            policy,
            cluster,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn weighted(load_balancer: LoadBalancer, weights: &[u32]) -> Self {
        let told: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(weight, port)| endpoint(port, *weight))
            .collect();
        Self::new(policy(load_balancer, Some(strict())), &told, 7)
    }

    fn push(&mut self, told: &[Arc<Told>]) {
        self.members = self.cluster.reconcile(Arc::clone(&self.policy), told);
    }

    fn choose(&mut self, caller: &Caller<'_>) -> Option<ActiveRequest> {
        let rng = &mut self.rng;
        choose(&self.policy, &self.members, caller, &mut || rng.next_u64())
    }

    fn on(&mut self, worker: usize) -> u16 {
        let caller = Caller {
            worker,
            ..Caller::default()
        };
        self.choose(&caller).unwrap().endpoint.address.port()
    }

    fn fail(&self, place: usize) {
        let detection = self.policy.outlier_detection.as_ref();
        let mut active = self.members.list[place].endpoint.begin();
        active.observe(&self.cluster, detection, Outcome::Status(500));
    }

    fn shares(&mut self, requests: usize) -> HashMap<u16, usize> {
        let mut shares = HashMap::new();
        for _ in 0..requests {
            *shares.entry(self.on(0)).or_default() += 1;
        }
        shares
    }

    /// Each within seven standard deviations of its binomial.
    fn assert_shares(&mut self, expected: &[f64]) {
        const REQUESTS: usize = 20_000;
        let shares = self.shares(REQUESTS);
        let total: f64 = expected.iter().sum();
        for (expected, port) in expected.iter().zip(1..) {
            let part = expected / total;
            let (mean, bound) = (
                part * REQUESTS as f64,
                7.0 * (part * (1.0 - part) * REQUESTS as f64).sqrt(),
            );
            let count = shares.get(&port).copied().unwrap_or(0) as f64;
            assert!(
                (count - mean).abs() <= bound,
                "{:?} {shares:?}, {mean} of {port}",
                self.policy.load_balancer
            );
        }
    }
}

fn some_endpoints(rng: &mut StdRng) -> Vec<Arc<Told>> {
    let count = rng.random_range(0..24);
    let mut told = Vec::new();
    for port in 1..=count {
        if rng.random_bool(0.8) {
            let weight = if rng.random_bool(0.5) {
                1
            } else {
                rng.random_range(1..100)
            };
            let mut one = Told::clone(&endpoint(port, weight));
            one.health = match rng.random_range(0..10) {
                0 => Health::Draining,
                1 => Health::Unhealthy,
                _ => Health::Healthy,
            };
            told.push(Arc::new(one));
        }
    }
    told
}

#[test]
fn no_ejected_endpoint_is_chosen_and_equal_keys_meet_equal_endpoints_whatever_is_told() {
    for (seed, algorithm) in (0..40).flat_map(|seed| algorithms().into_iter().map(move |algorithm| (seed, algorithm))) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(policy(algorithm, Some(strict())), &some_endpoints(&mut rng), seed);
        for _ in 0..200 {
            match rng.random_range(0..20) {
                0 => world.push(&some_endpoints(&mut rng)),
                1 | 2 if !world.members.list.is_empty() => {
                    world.fail(rng.random_range(0..world.members.list.len()));
                }
                _ => {}
            }
            let caller = Caller {
                left: &[],
                tried: &[],
                hash: rng.random_bool(0.5).then(|| rng.next_u64()),
                worker: rng.random_range(0..4),
                client: None,
            };
            // Nobody ejects the last one, but a push may remove it.
            let members = Arc::clone(&world.members);
            let serving = match members.list.is_empty() {
                true => !members.draining.is_empty(),
                false => members.list.iter().any(|member| member.endpoint.health.is_available()),
            };
            let chosen = world.choose(&caller);
            assert_eq!(chosen.is_some(), serving);
            let Some(chosen) = chosen else { continue };
            let is = |member: &Member| Arc::ptr_eq(&member.endpoint, &chosen.endpoint);
            let healthy = world.members.list.iter().any(is) && chosen.endpoint.health.is_healthy();
            // The last one that fails has the others probed early.
            let probes = chosen.probe && world.members.list.iter().any(is);
            assert!(healthy || probes || (world.members.list.is_empty() && world.members.draining.iter().any(is)));
            if caller.hash.is_some() && !probes && world.members.key.is_some() {
                let again = world.choose(&caller).unwrap();
                assert!(Arc::ptr_eq(&again.endpoint, &chosen.endpoint));
            }
        }
        let all = world.members.list.iter().chain(&world.members.draining);
        assert!(all.into_iter().all(|member| member.endpoint.active_requests() == 0));
    }
}

#[test]
fn shares_follow_the_weights_also_when_some_are_ejected() {
    for algorithm in [
        LoadBalancer::LeastRequest,
        LoadBalancer::Random,
        LoadBalancer::RoundRobin,
    ] {
        for weights in [&[1; 12][..], &[1, 2, 3, 4, 50, 6, 7, 1], &[1, 1000, 1000]] {
            let mut world = World::weighted(algorithm.clone(), weights);
            let mut expected: Vec<f64> = weights.iter().copied().map(f64::from).collect();
            world.assert_shares(&expected);
            for ejected in (0..weights.len()).step_by(2).take(weights.len() / 2) {
                world.fail(ejected);
                expected[ejected] = 0.0;
            }
            world.assert_shares(&expected);
        }
    }
}

#[test]
fn turns_are_exact_for_each_worker_and_stay_so_while_others_are_ejected() {
    let exact = |world: &mut World, rounds: usize, expected: &[(u16, usize)]| {
        let round: usize = expected.iter().map(|(_, weight)| weight).sum();
        let mut seen = [HashMap::new(), HashMap::new()];
        for _ in 0..rounds * round {
            for (worker, seen) in seen.iter_mut().enumerate() {
                *seen.entry(world.on(worker)).or_insert(0) += 1;
            }
        }
        for seen in seen {
            assert_eq!(
                seen,
                expected.iter().map(|(port, weight)| (*port, weight * rounds)).collect()
            );
        }
    };
    let mut world = World::weighted(LoadBalancer::RoundRobin, &[5, 3, 2, 7]);
    exact(&mut world, 50, &[(1, 5), (2, 3), (3, 2), (4, 7)]);
    world.fail(3);
    exact(&mut world, 50, &[(1, 5), (2, 3), (3, 2)]);
    let mut world = World::weighted(LoadBalancer::RoundRobin, &[1, 1, 1, 1, 1]);
    exact(&mut world, 7, &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
    world.fail(1);
    world.fail(2);
    exact(&mut world, 7, &[(1, 1), (4, 1), (5, 1)]);
}

#[test]
fn turns_are_spread_and_not_taken_in_a_row() {
    let mut world = World::weighted(LoadBalancer::RoundRobin, &[3, 1, 1, 1]);
    let order: Vec<_> = (0..600).map(|_| world.on(0)).collect();
    // Of six turns three are the first one's, never more than two of them in a row.
    assert!(order.windows(3).all(|turns| turns != [1, 1, 1]), "{order:?}");
}

#[test]
fn a_push_that_changes_nothing_of_the_cluster_does_not_restart_the_turns_nor_the_table() {
    for weights in [[1, 1, 1], [1, 2, 3]] {
        let told: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(weight, port)| endpoint(port, *weight))
            .collect();
        let mut world = World::weighted(LoadBalancer::RoundRobin, &weights);
        let mut seen = HashMap::<u16, u32>::new();
        for _ in 0..weights.iter().sum::<u32>() {
            *seen.entry(world.on(0)).or_default() += 1;
            world.push(&told);
        }
        assert_eq!(seen, HashMap::from([(1, weights[0]), (2, weights[1]), (3, weights[2])]));
    }
    let algorithm = |members: &Members| Arc::clone(&members.groups.get(0).unwrap().algorithm);
    let mut world = World::weighted(hashed(HashTable::Ring(64)), &[1, 1]);
    let before = algorithm(&world.members);
    world.push(&[endpoint(1, 1), endpoint(2, 1)]);
    assert!(Arc::ptr_eq(&before, &algorithm(&world.members)));
    world.push(&[endpoint(1, 1), endpoint(2, 2)]);
    assert!(!Arc::ptr_eq(&before, &algorithm(&world.members)));
}

#[test]
fn those_that_begin_at_the_same_time_do_not_call_the_same_endpoint_first() {
    for weights in [&[1; 10][..], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        let told: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(weight, port)| endpoint(port, *weight))
            .collect();
        let first = |seed| World::new(policy(LoadBalancer::RoundRobin, None), &told, seed).on(0);
        let firsts: std::collections::HashSet<_> = (0..40).map(first).collect();
        assert!(firsts.len() >= 4, "{firsts:?}");
    }
}

#[test]
fn one_that_warms_up_gets_its_part_of_its_weight_and_others_the_rest() {
    let day = Duration::from_secs(86_400);
    let (now, clock) = (Instant::now(), SystemTime::now());
    for algorithm in [LoadBalancer::LeastRequest, LoadBalancer::RoundRobin] {
        for weights in [[1.0; 5], [1.0, 2.0, 3.0, 4.0, 5.0]] {
            let mut world = World::weighted(algorithm.clone(), &weights.map(|weight| weight as u32));
            let mut warmed = model::Cluster::clone(&world.policy);
            warmed.warmup = Some(Warmup {
                duration: day * 100,
                minimum_percent: 10.0,
                aggression: 1.0,
            });
            world.policy = Arc::new(warmed);
            let told: Vec<_> = world
                .members
                .list
                .iter()
                .map(|member| Arc::clone(&member.told))
                .collect();
            world.push(&told);
            world.assert_shares(&weights);
            let mut expected = weights;
            world.members.list[4].endpoint.begin_warmup(now);
            expected[4] *= 0.1;
            world.assert_shares(&expected);
            world.members.list[2]
                .endpoint
                .warming
                .ready(clock - day * 50, now, clock);
            expected[2] *= 0.5;
            world.assert_shares(&expected);
            // All alike: nobody has less than its share, and no request goes without an endpoint.
            world
                .members
                .list
                .iter()
                .for_each(|member| member.endpoint.begin_warmup(now));
            world.assert_shares(&weights);
        }
    }
}

#[test]
fn an_endpoint_that_joins_others_warms_up_and_those_that_came_with_it_at_first_do_not() {
    let told: Vec<_> = (1..=3).map(|port| endpoint(port, 1)).collect();
    let mut world = World::weighted(LoadBalancer::LeastRequest, &[1, 1]);
    let warmup = Warmup {
        duration: Duration::from_secs(86_400),
        minimum_percent: 0.0,
        aggression: 1.0,
    };
    world.push(&told);
    let shares: Vec<_> = world
        .members
        .list
        .iter()
        .map(|member| share(Some(&warmup), member))
        .collect();
    assert!(shares[0] == 1.0 && shares[1] == 1.0 && shares[2] < 0.01, "{shares:?}");
    let mut old = Told::clone(&endpoint(4, 1));
    old.ready_since = Some(SystemTime::now() - warmup.duration * 2);
    world.push(&[&told[..], &[Arc::new(old)]].concat());
    assert_eq!(
        share(Some(&warmup), &world.members.list[3]),
        1.0,
        "it was ready long before it was seen"
    );
}

#[test]
fn least_request_with_weights_compares_what_they_have_in_flight_for_their_weight() {
    let mut world = World::weighted(LoadBalancer::LeastRequest, &[1, 3]);
    // In balance at three times as many: with one more at the first, only two draws of it choose it, one time in 16.
    let _light: Vec<_> = (0..2).map(|_| world.members.list[0].endpoint.begin()).collect();
    let _heavy: Vec<_> = (0..5).map(|_| world.members.list[1].endpoint.begin()).collect();
    world.assert_shares(&[1.0 / 16.0, 15.0 / 16.0]);
}

#[test]
fn a_request_with_a_key_goes_elsewhere_only_while_its_endpoint_was_tried_or_refuses() {
    let mut world = World::weighted(hashed(HashTable::Maglev(251)), &[1; 5]);
    for key in 0..20u64 {
        let caller = Caller {
            hash: Some(hash_text(&key.to_le_bytes())),
            ..Caller::default()
        };
        let first = Arc::clone(&world.choose(&caller).unwrap().endpoint);
        let tried = [Arc::clone(&first)];
        let again = Caller {
            tried: &tried,
            ..caller
        };
        assert!(!Arc::ptr_eq(&world.choose(&again).unwrap().endpoint, &first));
        first.refused();
        assert!(!Arc::ptr_eq(&world.choose(&caller).unwrap().endpoint, &first));
        let now = Instant::now();
        (0..2).for_each(|_| {
            first.sweep(&world.policy.connection_pool, now);
        });
        assert!(Arc::ptr_eq(&world.choose(&caller).unwrap().endpoint, &first));
    }
}

#[test]
fn in_a_panic_weights_count_as_ever_and_what_was_tried_is_avoided() {
    let detection = OutlierDetection {
        min_health_percent: 100,
        ..strict()
    };
    let weights = [1, 1, 1, 7];
    for algorithm in [
        LoadBalancer::LeastRequest,
        LoadBalancer::RoundRobin,
        LoadBalancer::Random,
    ] {
        let told: Vec<_> = weights
            .iter()
            .zip(1..)
            .map(|(weight, port)| endpoint(port, *weight))
            .collect();
        let mut world = World::new(policy(algorithm, Some(detection.clone())), &told, 7);
        (0..3).for_each(|index| world.fail(index));
        world.assert_shares(&weights.map(f64::from));
        // One that is told unhealthy is one of them, with its weight.
        world.push(
            &[
                &told[..2],
                &[with_health(&told[2], Health::Unhealthy), Arc::clone(&told[3])],
            ]
            .concat(),
        );
        world.assert_shares(&weights.map(f64::from));
        let tried: Vec<_> = world
            .members
            .list
            .iter()
            .map(|member| Arc::clone(&member.endpoint))
            .collect();
        let caller = Caller {
            tried: &tried,
            ..Caller::default()
        };
        for _ in 0..20 {
            assert_eq!(world.choose(&caller).unwrap().endpoint.address.port(), 3);
        }
    }
}

fn with_health(told: &Arc<Told>, health: Health) -> Arc<Told> {
    let told = Told::clone(told);
    Arc::new(Told { health, ..told })
}

#[test]
fn in_a_panic_a_key_keeps_the_endpoint_that_it_would_have_were_all_healthy() {
    let told: Vec<_> = (1..=5).map(|port| endpoint(port, 1)).collect();
    let detection = OutlierDetection {
        min_health_percent: 100,
        ..strict()
    };
    let mut world = World::new(policy(hashed(HashTable::Ring(64)), Some(detection)), &told, 7);
    let caller = |key: u64| Caller {
        hash: Some(hash_text(&key.to_le_bytes())),
        ..Caller::default()
    };
    let before: Vec<_> = (0..50)
        .map(|key| world.choose(&caller(key)).unwrap().endpoint.address)
        .collect();
    // One of five is spare: the others carry its load. Without a third they cannot.
    (0..3).for_each(|index| world.fail(index));
    let after: Vec<_> = (0..50)
        .map(|key| world.choose(&caller(key)).unwrap().endpoint.address)
        .collect();
    assert_eq!(before, after);
}
