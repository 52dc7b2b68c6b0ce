//! How an ejected endpoint returns: one probe, and what becomes of it.

use std::time::Duration;

use super::decision::{Event, Return};
use super::testing::{Pool, detection};
use super::*;

const HEALTHY: Standing = Standing::Healthy;
const EJECTED: Standing = Standing::Ejected;
const AWAITING: Standing = Standing::AwaitingProbe;
const PROBING: Standing = Standing::Probing;

#[test]
fn an_endpoint_returns_with_one_probe_and_only_its_success_brings_it_back() {
    let mut pool = Pool::new(detection(), 2);
    pool.fail(1, 5);
    pool.sweep_at(29);
    assert_eq!(pool.standing(1), EJECTED);
    pool.sweep_at(31);
    assert_eq!(pool.standing(1), AWAITING);

    let chosen: Vec<_> = (0..20).map(|_| pool.choose()).collect();
    let (probes, others): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|request| request.probe);
    assert_eq!((probes.len(), pool.standing(1)), (1, PROBING));
    assert!(others.iter().all(|request| request.endpoint.address.port() == 2));
    for probe in probes {
        pool.answer(probe, Outcome::Status(200));
    }
    assert_eq!(pool.standing(1), HEALTHY);
    let reason = Return::Probe;
    let after = Duration::from_secs(31);
    assert_eq!(pool.happened.last().unwrap().event, Event::Returned { reason, after });
}

#[test]
fn a_failed_probe_ejects_for_longer_and_an_abandoned_one_is_made_again() {
    let mut pool = Pool::new(detection(), 2);
    pool.fail(1, 5);
    pool.sweep_at(31);
    drop(pool.probe());
    assert_eq!(pool.standing(1), AWAITING);
    let probe = pool.probe();
    pool.answer(probe, Outcome::Status(503));
    let event = Event::Ejected {
        cause: Cause::FailedProbe,
        time: Duration::from_secs(60),
        ejections: 2,
    };
    assert_eq!(pool.happened.last().unwrap().event, event);
    pool.sweep_at(90);
    assert_eq!(pool.standing(1), EJECTED);
    pool.sweep_at(91);
    assert_eq!(pool.standing(1), AWAITING);
}

#[test]
fn a_probe_fails_only_by_what_a_threshold_counts() {
    let gateway = OutlierDetection {
        consecutive_5xx: None,
        consecutive_gateway_errors: Some(2),
        ..detection()
    };
    let mut pool = Pool::new(gateway, 2);
    (0..2).for_each(|_| pool.report(1, Outcome::Status(502)));
    pool.sweep_at(31);
    let probe = pool.probe();
    pool.answer(probe, Outcome::Status(500));
    assert_eq!(pool.standing(1), HEALTHY);
}

#[test]
fn a_probe_that_begins_well_and_breaks_off_has_failed_after_all() {
    let mut pool = Pool::new(detection(), 2);
    let broken = |pool: &mut Pool, late: u64| {
        let mut probe = pool.probe();
        pool.begin(&mut probe, Outcome::Connected);
        assert_eq!(pool.standing(1), HEALTHY);
        pool.pass(Duration::from_secs(late));
        pool.end_of(&probe, Outcome::Connected, LateOutcome::BrokenOff);
    };
    pool.fail(1, 5);
    pool.sweep_at(31);
    broken(&mut pool, 29);
    let event = Event::Ejected {
        cause: Cause::FailedProbe,
        time: Duration::from_secs(60),
        ejections: 2,
    };
    assert_eq!(pool.happened.last().unwrap().event, event);

    // What it does much later says nothing of its return.
    pool.sweep_at(121);
    broken(&mut pool, 30);
    assert_eq!(pool.standing(1), HEALTHY);
    // Others than the probe count as ever.
    pool.end(1, Outcome::Connected, LateOutcome::BrokenOff);
    assert_eq!(pool.standing(1), HEALTHY);

    // Of two probes the later one decides.
    pool.fail(1, 5);
    pool.sweep_at(400);
    let mut first = pool.probe();
    pool.begin(&mut first, Outcome::Connected);
    pool.fail(1, 5);
    pool.sweep_at(900);
    let second = pool.probe();
    pool.end_of(&first, Outcome::Connected, LateOutcome::BrokenOff);
    assert_eq!(pool.standing(1), PROBING);
    pool.answer(second, Outcome::Connected);
    assert_eq!(pool.standing(1), HEALTHY);
}

#[test]
fn a_probe_that_nobody_answers_is_replaced_and_its_late_success_still_counts() {
    let mut pool = Pool::new(detection(), 2);
    pool.fail(1, 5);
    pool.sweep_at(30);
    let hanging = pool.probe();
    pool.sweep_at(40);
    pool.sweep_at(60);
    assert_eq!(pool.standing(1), PROBING);
    pool.sweep_at(70);
    assert_eq!(pool.standing(1), AWAITING);
    let second = pool.probe();
    pool.answer(hanging, Outcome::Status(200));
    assert_eq!(pool.standing(1), HEALTHY);
    drop(second);
    assert_eq!(pool.standing(1), HEALTHY, "a probe that came too late changes nothing");
}

#[test]
fn a_request_that_would_be_seen_to_fail_leaves_the_probe_to_others_for_one_interval() {
    let mut pool = Pool::new(detection(), 2);
    pool.fail(1, 5);
    pool.sweep_at(30);
    assert!(pool.probe().is_hasty_probe());
    pool.sweep_at(40);
    assert!(!pool.probe().is_hasty_probe());
}

#[test]
fn when_the_only_one_with_a_share_fails_the_one_that_rests_is_probed_early_and_may_only_gain_by_it() {
    let mut pool = Pool::new(detection(), 2);
    pool.fail(1, 5);
    pool.fail(2, 5);
    assert_eq!((pool.standing(1), pool.standing(2)), (AWAITING, HEALTHY));
    let probe = pool.probe();
    assert!(!probe.is_hasty_probe());
    pool.answer(probe, Outcome::Status(500));
    assert_eq!(pool.standing(1), EJECTED);
    let health = pool.endpoint(1).outlier_health(Some(pool.detection()));
    assert_eq!(health.ejections, 1, "an early probe that fails is no ejection");

    pool.fail(2, 5);
    let probe = pool.probe();
    pool.answer(probe, Outcome::Status(200));
    assert_eq!(pool.standing(1), HEALTHY);
    pool.fail(2, 5);
    assert_eq!(pool.standing(2), EJECTED, "now the other can be spared");
}
