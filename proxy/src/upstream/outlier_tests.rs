//! Outlier detection, event by event, with the clock passed in.

use std::sync::Arc;
use std::time::Duration;

use tsunagi_proto::model::OutlierDetection;

use super::decision::Event;
use super::health::ejection_time;
use super::testing::{Pool, detection};
use super::*;

const HEALTHY: Standing = Standing::Healthy;
const EJECTED: Standing = Standing::Ejected;
const AWAITING: Standing = Standing::AwaitingProbe;

fn all_may_go() -> OutlierDetection {
    OutlierDetection {
        max_ejection_percent: 100,
        ..detection()
    }
}

#[test]
fn the_fifth_consecutive_error_ejects_and_a_success_in_between_starts_anew() {
    let mut pool = Pool::new(detection(), 3);
    pool.fail(1, 4);
    pool.report(1, Outcome::Status(200));
    pool.fail(1, 4);
    assert_eq!(pool.standing(1), HEALTHY);
    pool.fail(1, 1);
    assert_eq!(pool.standing(1), EJECTED);
    for _ in 0..100 {
        assert_ne!(pool.choose().endpoint.address.port(), 1);
    }
}

#[test]
fn connect_failures_resets_and_timeouts_count_as_errors_unless_split() {
    for outcome in [Outcome::ConnectFailure, Outcome::Reset, Outcome::Timeout] {
        let mut pool = Pool::new(detection(), 2);
        (0..5).for_each(|_| pool.report(1, outcome));
        assert_eq!(pool.standing(1), EJECTED);

        let split = OutlierDetection {
            split_local_origin_errors: true,
            consecutive_local_origin_failures: Some(2),
            ..detection()
        };
        let mut pool = Pool::new(split, 2);
        pool.fail(1, 4);
        pool.report(1, outcome);
        assert_eq!(pool.standing(1), HEALTHY);
        pool.report(1, outcome);
        assert_eq!(pool.standing(1), EJECTED);
        let health = pool.endpoint(1).outlier_health(Some(pool.detection()));
        assert_eq!(health.cause, Some(Cause::ConsecutiveLocalOrigin));
    }
}

#[test]
fn an_answer_begins_the_split_count_anew_whatever_its_status() {
    let split = OutlierDetection {
        split_local_origin_errors: true,
        consecutive_local_origin_failures: Some(2),
        consecutive_5xx: None,
        ..detection()
    };
    let mut pool = Pool::new(split, 2);
    for outcome in [
        Outcome::Reset,
        Outcome::Status(500),
        Outcome::Reset,
        Outcome::Status(500),
    ] {
        pool.report(1, outcome);
    }
    assert_eq!(pool.standing(1), HEALTHY);
}

#[test]
fn a_non_gateway_error_resets_the_gateway_counter_but_not_the_other() {
    let both = OutlierDetection {
        consecutive_5xx: Some(4),
        consecutive_gateway_errors: Some(2),
        ..detection()
    };
    let mut pool = Pool::new(both, 2);
    for status in [503, 500, 503] {
        pool.report(1, Outcome::Status(status));
    }
    assert_eq!(pool.standing(1), HEALTHY);
    pool.report(1, Outcome::Status(500));
    assert_eq!(pool.standing(1), EJECTED);
}

#[test]
fn listed_statuses_take_the_place_of_5xx_for_answers_and_for_nothing_else() {
    let listed = OutlierDetection {
        error_statuses: vec![429, 503],
        consecutive_5xx: Some(3),
        ..detection()
    };
    let mut pool = Pool::new(listed.clone(), 2);
    pool.fail(1, 10);
    assert_eq!(pool.standing(1), HEALTHY, "500 is not on the list");
    for outcome in [Outcome::Status(429), Outcome::Status(503), Outcome::ConnectFailure] {
        pool.report(1, outcome);
    }
    assert_eq!(pool.standing(1), EJECTED);

    // Of the listed ones only 502 to 504 are gateway errors.
    let gateway = OutlierDetection {
        consecutive_5xx: None,
        consecutive_gateway_errors: Some(2),
        ..listed
    };
    let mut pool = Pool::new(gateway, 2);
    for status in [503, 429, 503, 502] {
        pool.report(1, Outcome::Status(status));
    }
    assert_eq!(pool.standing(1), HEALTHY, "429 began anew, and 502 is not on the list");
    pool.report(1, Outcome::Status(503));
    pool.report(1, Outcome::Status(503));
    assert_eq!(pool.standing(1), EJECTED);
}

#[test]
fn responses_that_break_off_add_up_although_each_began_well() {
    let ok = Outcome::Status(200);
    let break_off = |pool: &mut Pool, times: usize| {
        for _ in 0..times {
            pool.report(1, ok);
            pool.end(1, ok, LateOutcome::BrokenOff);
        }
    };
    let mut pool = Pool::new(detection(), 2);
    break_off(&mut pool, 4);
    pool.report(1, ok);
    pool.end(1, ok, LateOutcome::Whole);
    break_off(&mut pool, 4);
    assert_eq!(pool.standing(1), HEALTHY);
    break_off(&mut pool, 1);
    assert_eq!(pool.standing(1), EJECTED);

    // What was told of the head is not told twice.
    let mut pool = Pool::new(detection(), 2);
    for _ in 0..4 {
        pool.report(1, Outcome::Status(503));
        pool.end(1, Outcome::Status(503), LateOutcome::BrokenOff);
    }
    assert_eq!(pool.standing(1), HEALTHY);

    let mut pool = Pool::new(detection(), 2);
    (0..5).for_each(|_| pool.end(1, ok, LateOutcome::Status(503)));
    assert_eq!(pool.standing(1), EJECTED, "a status in trailers");

    let envoy = OutlierDetection {
        as_envoy: true,
        max_ejection_percent: 50,
        ..detection()
    };
    let mut pool = Pool::new(envoy, 2);
    break_off(&mut pool, 20);
    assert_eq!(pool.standing(1), HEALTHY, "Envoy begins anew with every head");
}

#[test]
fn one_of_a_small_pool_may_be_ejected_a_second_only_within_the_percentage_and_never_the_last() {
    let mut pool = Pool::new(detection(), 3);
    pool.fail(1, 5);
    pool.fail(2, 5);
    assert_eq!((pool.standing(1), pool.standing(2)), (EJECTED, HEALTHY));

    let mut pool = Pool::new(all_may_go(), 3);
    (1..=3).for_each(|port| pool.fail(port, 5));
    assert_eq!((pool.standing(1), pool.standing(2)), (AWAITING, EJECTED));
    assert_eq!(pool.standing(3), HEALTHY);

    let mut pool = Pool::new(detection(), 1);
    pool.fail(1, 50);
    assert_eq!(pool.standing(1), HEALTHY);
    let kept: Vec<_> = pool.happened.iter().map(|happened| happened.event).collect();
    let cause = Cause::Consecutive5xx;
    assert_eq!(kept.len(), 10, "one in five");
    assert_eq!(
        kept[..2],
        [Event::Kept { cause, first: true }, Event::Kept { cause, first: false }]
    );
}

#[test]
fn the_ejection_time_grows_to_its_maximum_and_shrinks_while_healthy() {
    let long = OutlierDetection {
        max_ejection_time: Duration::from_secs(60),
        ..detection()
    };
    assert_eq!(ejection_time(&long, 1), Duration::from_secs(30));
    assert_eq!(ejection_time(&long, 3), Duration::from_secs(60));

    let mut pool = Pool::new(long, 2);
    let multiplier = |pool: &Pool| pool.endpoint(1).health.history().multiplier;
    pool.fail(1, 5);
    pool.sweep_at(30);
    let probe = pool.probe();
    pool.answer(probe, Outcome::Status(500));
    assert_eq!(multiplier(&pool), 2);
    pool.sweep_at(90);
    let probe = pool.probe();
    pool.answer(probe, Outcome::Status(200));
    pool.sweep_at(99);
    assert_eq!(multiplier(&pool), 2, "an interval has to pass first");
    pool.sweep_at(100);
    pool.sweep_at(110);
    pool.sweep_at(120);
    assert_eq!(multiplier(&pool), 0);
}

#[test]
fn a_push_neither_clears_an_ejection_nor_the_counters_on_the_way_to_one() {
    let mut pool = Pool::new(detection(), 2);
    pool.fail(1, 5);
    pool.fail(2, 4);
    let before = Arc::clone(pool.endpoint(2));
    pool.tell(&[1, 2, 3]);
    assert_eq!(pool.standing(1), EJECTED);
    assert!(Arc::ptr_eq(pool.endpoint(2), &before));
    assert_eq!(before.health.counters.consecutive_5xx(), 4);
}

#[test]
fn a_pool_that_shrinks_to_the_ejected_one_takes_it_back() {
    let mut pool = Pool::new(all_may_go(), 4);
    pool.fail(1, 5);
    pool.pass(Duration::from_secs(1));
    pool.fail(2, 5);
    pool.tell(&[1, 2, 3]);
    assert_eq!((pool.standing(1), pool.standing(2)), (EJECTED, EJECTED));
    pool.tell(&[1, 2]);
    assert_eq!(
        (pool.standing(1), pool.standing(2)),
        (HEALTHY, EJECTED),
        "the longest first"
    );
    pool.tell(&[2]);
    assert_eq!(pool.standing(2), HEALTHY);
}

#[test]
fn an_endpoint_that_left_and_comes_back_begins_anew_and_what_its_old_requests_say_is_not_heard() {
    let mut pool = Pool::new(detection(), 3);
    pool.fail(1, 5);
    let old = pool.endpoint(1).begin();
    let late = pool.endpoint(2).begin();
    pool.fail(2, 4);
    pool.tell(&[3]);
    pool.tell(&[1, 2, 3]);
    assert_eq!((pool.standing(1), pool.standing(2)), (HEALTHY, HEALTHY));
    pool.happened.clear();
    for request in [old, late] {
        pool.answer(request, Outcome::Status(500));
    }
    assert_eq!(pool.happened, []);
    pool.fail(2, 4);
    assert_eq!(pool.standing(2), HEALTHY);
}

#[test]
fn a_policy_that_changes_acts_at_once() {
    let mut pool = Pool::new(all_may_go(), 4);
    pool.fail(1, 5);
    pool.pass(Duration::from_secs(1));
    pool.fail(2, 5);
    let with = |pool: &Pool, detection: Option<OutlierDetection>| {
        let mut policy = (*pool.policy).clone();
        policy.outlier_detection = detection;
        Arc::new(policy)
    };
    pool.policy = with(&pool, Some(detection()));
    pool.tell(&[1, 2, 3, 4]);
    assert_eq!(
        (pool.standing(1), pool.standing(2)),
        (HEALTHY, EJECTED),
        "10 % of 4 is one"
    );

    pool.fail(1, 3);
    let shorter = OutlierDetection {
        consecutive_5xx: Some(2),
        base_ejection_time: Duration::from_secs(5),
        ..all_may_go()
    };
    pool.policy = with(&pool, Some(shorter));
    pool.tell(&[1, 2, 3, 4]);
    pool.fail(1, 1);
    assert_eq!(pool.standing(1), EJECTED, "the threshold was lowered below the count");
    pool.sweep_at(6);
    assert_eq!(pool.standing(2), AWAITING, "the time was shortened");

    pool.policy = with(&pool, None);
    pool.tell(&[1, 2, 3, 4]);
    assert!((1..=4).all(|port| pool.standing(port) == HEALTHY));
}

#[test]
fn below_the_minimum_of_healthy_endpoints_health_is_ignored_and_a_success_brings_one_back() {
    let panic = OutlierDetection {
        min_health_percent: 60,
        ..detection()
    };
    let mut pool = Pool::new(panic, 2);
    pool.fail(1, 5);
    let request = pool.choose();
    assert_eq!(request.endpoint.address.port(), 1);
    pool.answer(request, Outcome::Status(200));
    assert_eq!(pool.standing(1), EJECTED, "its time is not over");
    pool.sweep_at(30);
    // In a panic nobody claims a probe.
    pool.report(1, Outcome::Status(500));
    assert_eq!(pool.standing(1), AWAITING);
    pool.report(1, Outcome::Status(200));
    assert_eq!(pool.standing(1), HEALTHY);
}

#[test]
fn what_is_read_of_an_endpoint_says_why_and_until_when() {
    let mut pool = Pool::new(detection(), 2);
    let read = |pool: &Pool| pool.endpoint(1).outlier_health(Some(pool.detection()));
    let healthy = read(&pool);
    assert_eq!((healthy.standing, healthy.cause, healthy.until), (HEALTHY, None, None));
    pool.fail(1, 5);
    let ejected = read(&pool);
    assert_eq!((ejected.standing, ejected.ejections), (EJECTED, 1));
    assert_eq!(ejected.cause, Some(Cause::Consecutive5xx));
    let time = ejected.until.unwrap() - ejected.since.unwrap();
    assert_eq!(time, Duration::from_secs(30));
    pool.sweep_at(30);
    assert_eq!((read(&pool).standing, read(&pool).until), (AWAITING, None));
    pool.report(1, Outcome::Status(200));
    let returned = read(&pool);
    assert_eq!((returned.cause, returned.since, returned.ejections), (None, None, 1));
}

#[test]
fn in_envoys_mode_the_percentage_alone_decides_and_time_alone_brings_back() {
    let envoy = OutlierDetection {
        as_envoy: true,
        ..detection()
    };
    let mut pool = Pool::new(envoy.clone(), 9);
    pool.fail(1, 50);
    assert_eq!(pool.standing(1), HEALTHY, "one of nine is more than 10 %");

    let all = OutlierDetection {
        max_ejection_percent: 100,
        ..envoy
    };
    let mut pool = Pool::new(all, 2);
    pool.fail(1, 5);
    pool.fail(2, 5);
    assert_eq!(
        (pool.standing(1), pool.standing(2)),
        (EJECTED, EJECTED),
        "even the last"
    );
    pool.tell(&[2]);
    assert_eq!(pool.standing(2), EJECTED);
    pool.sweep_at(30);
    assert_eq!(pool.standing(2), HEALTHY, "with no probe");
}
