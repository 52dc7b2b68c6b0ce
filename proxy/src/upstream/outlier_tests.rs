//! Outlier detection, event by event, with the clock passed in.

use std::sync::Arc;

use tsunagi_proto::model::{self, LoadBalancer};

use super::super::testing::{cluster, policy};
use super::super::{Caller, Member, Members, choose};
use super::*;

fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway_errors: None,
        split_local_origin_errors: false,
        consecutive_local_origin_failures: None,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 10,
        min_health_percent: 0,
        error_statuses: Vec::new(),
    }
}

struct Pool {
    policy: Arc<model::Cluster>,
    cluster: Arc<Cluster>,
    members: Arc<Members>,
}

impl Pool {
    fn new(detection: OutlierDetection, endpoints: usize) -> Self {
        let policy = policy(LoadBalancer::RoundRobin, Some(detection));
        let (cluster, members) = cluster(&policy, &vec![1; endpoints]);
        Self {
            policy,
            cluster,
            members,
        }
    }

    fn member(&self, index: usize) -> &Member {
        &self.members.list[index]
    }

    fn report(&self, index: usize, outcome: Outcome) {
        let mut active = self.member(index).endpoint.begin();
        active.observe(&self.cluster, self.policy.outlier_detection.as_ref(), outcome);
    }

    fn fail(&self, index: usize, times: usize) {
        (0..times).for_each(|_| self.report(index, Outcome::Status(500)));
    }

    fn state(&self, index: usize) -> &'static str {
        self.member(index).endpoint.health_name()
    }

    fn sweep_after(&self, seconds: u64) {
        let now = Instant::now() + Duration::from_secs(seconds);
        sweep(
            self.policy.outlier_detection.as_ref().unwrap(),
            &self.members,
            "test",
            now,
        );
    }

    fn choose(&self) -> Option<ActiveRequest> {
        choose(&self.policy, &self.members, &Caller::default(), &mut || 0)
    }
}

#[test]
fn the_fifth_consecutive_error_ejects_and_a_success_in_between_starts_anew() {
    let pool = Pool::new(detection(), 3);
    pool.fail(0, 4);
    pool.report(0, Outcome::Status(200));
    pool.fail(0, 4);
    assert_eq!(pool.state(0), "healthy");
    pool.fail(0, 1);
    assert_eq!(pool.state(0), "ejected");
    for _ in 0..100 {
        assert_ne!(pool.choose().unwrap().endpoint.address.port(), 1);
    }
}

#[test]
fn connect_failures_resets_and_timeouts_count_as_errors_unless_split() {
    for outcome in [Outcome::ConnectFailure, Outcome::Reset, Outcome::Timeout] {
        let pool = Pool::new(detection(), 2);
        (0..5).for_each(|_| pool.report(0, outcome));
        assert_eq!(pool.state(0), "ejected");

        let split = OutlierDetection {
            split_local_origin_errors: true,
            consecutive_local_origin_failures: Some(2),
            ..detection()
        };
        let pool = Pool::new(split, 2);
        pool.fail(0, 4);
        pool.report(0, outcome);
        assert_eq!(pool.state(0), "healthy");
        pool.report(0, outcome);
        assert_eq!(pool.state(0), "ejected");
    }
}

#[test]
fn a_non_gateway_error_resets_the_gateway_counter_but_not_the_other() {
    let both = OutlierDetection {
        consecutive_5xx: Some(4),
        consecutive_gateway_errors: Some(2),
        ..detection()
    };
    let pool = Pool::new(both, 2);
    for status in [503, 500, 503] {
        pool.report(0, Outcome::Status(status));
    }
    assert_eq!(pool.state(0), "healthy");
    pool.report(0, Outcome::Status(500));
    assert_eq!(pool.state(0), "ejected");
}

#[test]
fn one_of_a_small_pool_may_be_ejected_a_second_only_within_the_percentage_and_never_the_last() {
    let pool = Pool::new(detection(), 3);
    pool.fail(0, 5);
    pool.fail(1, 5);
    assert_eq!((pool.state(0), pool.state(1)), ("ejected", "healthy"));

    let pool = Pool::new(
        OutlierDetection {
            max_ejection_percent: 100,
            ..detection()
        },
        3,
    );
    (0..3).for_each(|index| pool.fail(index, 5));
    assert_eq!(
        (pool.state(0), pool.state(1), pool.state(2)),
        ("ejected", "ejected", "healthy")
    );

    let pool = Pool::new(detection(), 1);
    pool.fail(0, 50);
    assert_eq!(pool.state(0), "healthy");
}

#[test]
fn an_endpoint_returns_with_one_probe_and_only_its_success_brings_it_back() {
    let pool = Pool::new(detection(), 2);
    pool.fail(0, 5);
    pool.sweep_after(29);
    assert_eq!(pool.state(0), "ejected");
    pool.sweep_after(31);
    assert_eq!(pool.state(0), "awaiting probe");

    let chosen: Vec<_> = (0..20).map(|_| pool.choose().unwrap()).collect();
    let mut probes: Vec<_> = chosen
        .into_iter()
        .filter(|active| active.endpoint.address.port() == 1)
        .collect();
    assert_eq!((probes.len(), pool.state(0)), (1, "probing"));
    probes[0].observe(
        &pool.cluster,
        pool.policy.outlier_detection.as_ref(),
        Outcome::Status(200),
    );
    assert_eq!(pool.state(0), "healthy");
}

#[test]
fn a_failed_probe_ejects_for_longer_and_an_abandoned_one_is_made_again() {
    let pool = Pool::new(detection(), 2);
    pool.fail(0, 5);
    pool.sweep_after(31);
    let probe = || {
        (0..2)
            .map(|_| pool.choose().unwrap())
            .find(|active| active.endpoint.address.port() == 1)
            .unwrap()
    };
    drop(probe());
    assert_eq!(pool.state(0), "awaiting probe");
    probe().observe(
        &pool.cluster,
        pool.policy.outlier_detection.as_ref(),
        Outcome::Status(503),
    );
    assert_eq!(pool.state(0), "ejected");
    pool.sweep_after(31);
    assert_eq!(pool.state(0), "ejected");
    pool.sweep_after(61);
    assert_eq!(pool.state(0), "awaiting probe");
}

#[test]
fn the_ejection_time_grows_to_its_maximum_and_shrinks_while_healthy() {
    let long = OutlierDetection {
        max_ejection_time: Duration::from_secs(60),
        ..detection()
    };
    assert_eq!(ejection_time(&long, 1), Duration::from_secs(30));
    assert_eq!(ejection_time(&long, 3), Duration::from_secs(60));

    let pool = Pool::new(long, 2);
    let history = || pool.member(0).endpoint.health.history().multiplier;
    pool.fail(0, 5);
    assert_eq!(history(), 1);
    pool.member(0).endpoint.health.clear();
    pool.sweep_after(20);
    assert_eq!(history(), 0);
}

#[test]
fn a_push_neither_clears_an_ejection_nor_the_counters_on_the_way_to_one() {
    let pool = Pool::new(detection(), 2);
    pool.fail(0, 5);
    pool.fail(1, 4);
    let told: Vec<_> = [1, 2, 3].map(|port| super::super::testing::endpoint(port, 1)).into();
    let members = pool.cluster.reconcile(Arc::clone(&pool.policy), &told);
    assert_eq!(members.list[0].endpoint.health_name(), "ejected");
    assert!(Arc::ptr_eq(&members.list[1].endpoint, &pool.member(1).endpoint));
    assert_eq!(
        members.list[1].endpoint.health.consecutive_5xx.load(Ordering::Relaxed),
        4
    );
}

#[test]
fn below_the_minimum_of_healthy_endpoints_health_is_ignored() {
    let panic = OutlierDetection {
        min_health_percent: 60,
        ..detection()
    };
    let pool = Pool::new(panic, 2);
    pool.fail(0, 5);
    assert_eq!(pool.choose().unwrap().endpoint.address.port(), 1);
}
