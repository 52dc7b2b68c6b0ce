//! Tests of the choice among groups: near ones while they are healthy, the share that health leaves them, nobody who is not
//! to be called, and a way on when the chosen group has nobody.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tsunagi_proto::model::{
    Cluster as Told, Endpoint as ToldEndpoint, Health, LoadBalancer, LocalityBalancing, LocalityShares,
    OutlierDetection,
};

use super::super::testing::{endpoint, policy};
use super::super::{ActiveRequest, Caller, Cluster, Endpoint, Members, Outcome, Place, choose};
use crate::telemetry::{Direction, Telemetry};

fn detection(min_health_percent: u32) -> OutlierDetection {
    let wire = tsunagi_proto::wire::mesh::OutlierDetection {
        consecutive_5xx: 1,
        max_ejection_percent: 100,
        min_health_percent,
        ..Default::default()
    };
    wire.try_into().unwrap()
}

fn located(locality: LocalityBalancing, min_health_percent: u32) -> Arc<Told> {
    let plain = policy(LoadBalancer::RoundRobin, Some(detection(min_health_percent)));
    Arc::new(Told {
        locality: Some(locality),
        ..(*plain).clone()
    })
}

fn told(places: &[(&str, Health)]) -> Vec<Arc<ToldEndpoint>> {
    let one = |((locality, health), port): (&(&str, Health), u16)| {
        Arc::new(ToldEndpoint {
            locality: (*locality).to_owned(),
            health: *health,
            ..(*endpoint(port, 1)).clone()
        })
    };
    places.iter().zip(1..).map(one).collect()
}

/// A cluster of endpoints at these places, as a proxy in `eu/a` has it.
struct Pool {
    policy: Arc<Told>,
    cluster: Arc<Cluster>,
    members: Arc<Members>,
    random: StdRng,
}

impl Pool {
    fn new(policy: Arc<Told>, places: &[(&str, Health)]) -> Self {
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        let cluster = Cluster::new(Arc::clone(&policy), series, 1);
        let mut pool = Self {
            members: Arc::default(),
            policy,
            cluster,
            random: StdRng::seed_from_u64(5),
        };
        pool.tell(places);
        pool
    }

    fn tell(&mut self, places: &[(&str, Health)]) {
        let place = Place {
            locality: "eu/a".to_owned(),
            ..Place::default()
        };
        self.members = self
            .cluster
            .reconcile_from(&place, Arc::clone(&self.policy), &told(places));
    }

    fn choose(&mut self, caller: &Caller<'_>) -> Option<ActiveRequest> {
        choose(&self.policy, &self.members, caller, &mut || self.random.random())
    }

    /// How many of so many requests each endpoint gets, by its place in what was told.
    fn counts(&mut self, requests: usize) -> Vec<usize> {
        let mut counts = vec![0; 8];
        for _ in 0..requests {
            if let Some(request) = self.choose(&Caller::default()) {
                counts[usize::from(request.endpoint.address.port()) - 1] += 1;
            }
        }
        counts
    }

    fn eject(&mut self, port: u16) {
        let members = Arc::clone(&self.members);
        let member = members
            .list
            .iter()
            .find(|member| member.endpoint.address.port() == port)
            .unwrap();
        let detection = self.policy.outlier_detection.as_ref();
        member
            .endpoint
            .begin()
            .observe(&self.cluster, detection, Outcome::Status(500));
        assert!(member.endpoint.health.is_out());
    }
}

const HEALTHY: Health = Health::Healthy;

#[test]
fn requests_stay_near_and_what_health_leaves_goes_on() {
    let places = [
        ("us/a", HEALTHY),
        ("eu/a", HEALTHY),
        ("eu/a", HEALTHY),
        ("eu/b", HEALTHY),
    ];
    let mut pool = Pool::new(located(LocalityBalancing::default(), 0), &places);
    assert_eq!(pool.counts(100)[..4], [0, 50, 50, 0]);
    pool.eject(2);
    let counts = pool.counts(10_000);
    assert_eq!((counts[0], counts[1]), (0, 0));
    assert!((6_700..7_300).contains(&counts[2]), "{counts:?}");
    pool.eject(3);
    assert_eq!(pool.counts(100)[..4], [0, 0, 0, 100]);
    // A push does not bring them back.
    pool.tell(&places);
    assert_eq!(pool.counts(100)[..4], [0, 0, 0, 100]);
    let levels: Vec<_> = pool
        .members
        .with_levels()
        .map(|(member, level)| (member.endpoint.address.port(), level))
        .collect();
    assert_eq!(levels, [(2, Some(0)), (3, Some(0)), (4, Some(1)), (1, Some(2))]);
}

#[test]
fn one_that_is_being_started_takes_nothing_from_its_zone_and_one_that_was_lost_does() {
    let mut pool = Pool::new(
        located(LocalityBalancing::default(), 0),
        &[("eu/a", HEALTHY), ("eu/a", Health::Unhealthy), ("us/a", HEALTHY)],
    );
    assert_eq!(pool.counts(100)[..3], [100, 0, 0]);
    pool.tell(&[("eu/a", HEALTHY), ("eu/a", HEALTHY), ("us/a", HEALTHY)]);
    pool.tell(&[("eu/a", HEALTHY), ("eu/a", Health::Unhealthy), ("us/a", HEALTHY)]);
    let counts = pool.counts(10_000);
    assert!((6_700..7_300).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
}

#[test]
fn in_a_panic_all_of_a_level_are_called() {
    let mut pool = Pool::new(
        located(LocalityBalancing::default(), 60),
        &[
            ("eu/a", Health::Unhealthy),
            ("eu/a", Health::Unhealthy),
            ("eu/a", HEALTHY),
        ],
    );
    let counts = pool.counts(3_000);
    assert!(
        counts[..3].iter().all(|count| (800..1_200).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn who_is_not_named_is_not_called_even_when_all_others_leave() {
    let shares = LocalityShares {
        from: "eu".to_owned(),
        to: vec![("eu/a".to_owned(), 80), ("eu/b".to_owned(), 20)],
    };
    let distribute = LocalityBalancing {
        distribute: vec![shares],
        ..LocalityBalancing::default()
    };
    let mut pool = Pool::new(
        located(distribute, 0),
        &[
            ("us/a", HEALTHY),
            ("eu/a", HEALTHY),
            ("eu/b", HEALTHY),
            ("eu/b", HEALTHY),
        ],
    );
    let counts = pool.counts(10_000);
    assert!((7_800..8_200).contains(&counts[1]) && counts[0] == 0, "{counts:?}");
    assert!(counts[2].abs_diff(counts[3]) <= 1, "{counts:?}");
    pool.tell(&[("us/a", HEALTHY), ("us/b", Health::Draining)]);
    assert!(pool.choose(&Caller::default()).is_none());
    assert!(pool.cluster.told().1.list.is_empty());
}

#[test]
fn a_retry_goes_to_another_place_rather_than_where_it_failed() {
    let mut pool = Pool::new(
        located(LocalityBalancing::default(), 0),
        &[("eu/a", HEALTHY), ("us/a", HEALTHY)],
    );
    let first = pool.choose(&Caller::default()).unwrap();
    assert_eq!(first.endpoint.address.port(), 1);
    let tried = [Arc::clone(&first.endpoint)];
    let caller = Caller {
        tried: &tried,
        ..Caller::default()
    };
    let second = pool.choose(&caller).unwrap();
    assert_eq!(second.endpoint.address.port(), 2);
    let tried = [Arc::clone(&first.endpoint), Arc::clone(&second.endpoint)];
    let caller = Caller {
        tried: &tried,
        ..Caller::default()
    };
    assert_eq!(pool.choose(&caller).unwrap().endpoint.address.port(), 1);
}

#[test]
fn levels_that_are_left_are_passed_over_while_another_has_somebody() {
    let places = [
        ("eu/a", HEALTHY),
        ("eu/a", HEALTHY),
        ("eu/b", HEALTHY),
        ("us/a", HEALTHY),
        ("asia/a", HEALTHY),
    ];
    let mut pool = Pool::new(located(LocalityBalancing::default(), 0), &places);
    let endpoint = |port: u16| {
        let list = &pool.members.list;
        let member = list.iter().find(|member| member.endpoint.address.port() == port);
        Arc::clone(&member.unwrap().endpoint)
    };
    let all: Vec<_> = (1..=5).map(endpoint).collect();
    let mut chosen = |left: &[Arc<Endpoint>]| {
        let caller = Caller {
            left,
            ..Caller::default()
        };
        let ports = (0..40).map(|_| pool.choose(&caller).unwrap().endpoint.address.port());
        ports.collect::<BTreeSet<u16>>().into_iter().collect::<Vec<u16>>()
    };
    assert_eq!(chosen(&[]), [1, 2]);
    assert_eq!(chosen(&all[..1]), [3], "the second of the place is left with the first");
    assert_eq!(chosen(&all[..3]), [4, 5]);
    assert_eq!(chosen(&all), [1, 2], "where all are left none is");
    assert_eq!(chosen(&all[2..]), [1, 2]);
}

#[test]
fn the_same_key_goes_to_the_same_group() {
    let shares = LocalityShares {
        from: "*".to_owned(),
        to: vec![("eu/a".to_owned(), 50), ("us".to_owned(), 50)],
    };
    let distribute = LocalityBalancing {
        distribute: vec![shares],
        ..LocalityBalancing::default()
    };
    let mut pool = Pool::new(located(distribute, 0), &[("eu/a", HEALTHY), ("us/a", HEALTHY)]);
    let mut seen = [0; 2];
    for key in 0..200_u64 {
        let caller = Caller {
            hash: Some(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            ..Caller::default()
        };
        let chosen: Vec<u16> = (0..5)
            .map(|_| pool.choose(&caller).unwrap().endpoint.address.port())
            .collect();
        assert!(chosen.windows(2).all(|pair| pair[0] == pair[1]), "{chosen:?}");
        seen[usize::from(chosen[0]) - 1] += 1;
    }
    assert!(seen[0] > 60 && seen[1] > 60, "{seen:?}");
}
