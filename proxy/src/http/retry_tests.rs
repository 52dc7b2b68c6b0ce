//! Tests of `retry`: what Envoy's conditions say of attempts without a response, and what the budget and the body allow.

use std::sync::Arc;

use http::HeaderValue;
use tsunagi_proto::model::{self, LoadBalancer};
use tsunagi_proto::wire::mesh;

use super::*;
use crate::net::ConnectError;
use crate::upstream::{Caller, testing};

fn policy(conditions: &[&str]) -> RetryPolicy {
    let wire = mesh::RetryPolicy {
        attempts: 2,
        retry_on: conditions.iter().map(|&condition| condition.to_owned()).collect(),
        ..mesh::RetryPolicy::default()
    };
    RetryPolicy::try_from(wire).unwrap()
}

fn cluster() -> Arc<Cluster> {
    testing::cluster(&testing::policy(LoadBalancer::RoundRobin, None), &[1]).0
}

fn failures() -> [(&'static str, Failure); 13] {
    let refused = || Failure::Connect(Arc::new(ConnectError::NotHttp2));
    let slow = Failure::Connect(Arc::new(ConnectError::TimedOut(Duration::from_secs(1))));
    [
        ("connect", refused()),
        ("connect timeout", slow),
        ("unsent", Failure::ResetBeforeRequest),
        ("refused", Failure::Refused),
        ("reset", Failure::Reset { remote: true }),
        ("closed", Failure::Reset { remote: false }),
        ("protocol", Failure::Protocol),
        ("try, unsent", Failure::TryTimeout { sent: false }),
        ("try", Failure::TryTimeout { sent: true }),
        ("timeout", Failure::Timeout),
        ("overflow", Failure::Overflow("requests")),
        ("nobody", Failure::NoEndpoint),
        ("gone", Failure::ClientGone),
    ]
}

fn repeated(policy: &RetryPolicy, method: &Method) -> Vec<&'static str> {
    let cluster = cluster();
    let wanted =
        |(_, failure): &(_, Failure)| Retries::new(policy, &cluster, method).after_failure(failure, None, true);
    failures().into_iter().filter(wanted).map(|(name, _)| name).collect()
}

const CONNECT: [&str; 2] = ["connect", "connect timeout"];
const UNSENT: [&str; 4] = ["connect", "connect timeout", "unsent", "try, unsent"];
const ANY: [&str; 9] = [
    "connect",
    "connect timeout",
    "unsent",
    "refused",
    "reset",
    "closed",
    "protocol",
    "try, unsent",
    "try",
];

#[test]
fn each_condition_repeats_the_failures_that_envoy_says_whatever_the_method() {
    let cases: [(&str, &[&str]); 16] = [
        ("5xx", &ANY),
        ("gateway-error", &ANY),
        ("reset", &ANY),
        ("reset-before-request", &UNSENT),
        ("connect-failure", &CONNECT),
        ("refused-stream", &["refused"]),
        ("retriable-4xx", &[]),
        ("retriable-status-codes", &[]),
        ("503", &[]),
        ("envoy-ratelimited", &[]),
        ("retriable-headers", &[]),
        ("http3-post-connect-failure", &[]),
        ("cancelled", &[]),
        ("deadline-exceeded", &[]),
        ("internal", &[]),
        ("unavailable", &[]),
    ];
    for (condition, expected) in cases {
        for method in [Method::GET, Method::POST] {
            assert_eq!(
                repeated(&policy(&[condition]), &method),
                expected,
                "{condition} {method}"
            );
        }
    }
}

#[test]
fn conditions_add_up() {
    let both = policy(&["connect-failure", "refused-stream"]);
    assert_eq!(
        repeated(&both, &Method::POST),
        ["connect", "connect timeout", "refused"]
    );
}

#[test]
fn without_conditions_of_the_user_a_method_that_is_not_idempotent_is_repeated_only_if_nothing_was_processed() {
    let none = policy(&[]);
    let unprocessed = ["connect", "connect timeout", "unsent", "refused", "try, unsent"];
    assert_eq!(repeated(&none, &Method::POST), unprocessed);
    let idempotent = [
        "connect",
        "connect timeout",
        "unsent",
        "refused",
        "reset",
        "closed",
        "try, unsent",
        "try",
    ];
    assert_eq!(repeated(&none, &Method::GET), idempotent);
}

fn response(status: u16, header: Option<(&'static str, &'static str)>) -> ResponseHead {
    let mut response = ResponseHead::local(http::StatusCode::from_u16(status).unwrap());
    if let Some((name, value)) = header {
        response
            .headers
            .append(&HeaderName::from_static(name), &HeaderValue::from_static(value));
    }
    response
}

#[test]
fn a_responses_head_is_read_for_what_the_conditions_need() {
    let (cluster, members) = testing::cluster(&testing::policy(LoadBalancer::RoundRobin, None), &[1]);
    let choose = crate::upstream::choose(
        &testing::policy(LoadBalancer::RoundRobin, None),
        &members,
        &Caller::default(),
        &mut || 0,
    );
    let endpoint = Arc::clone(&choose.unwrap().endpoint);
    let limited = Some(("x-envoy-ratelimited", "true"));
    for (conditions, answer, expected) in [
        (&["5xx"][..], response(503, None), true),
        (&["5xx"], response(503, limited), false),
        (&["5xx", "envoy-ratelimited"], response(429, limited), true),
        (&["envoy-ratelimited"], response(429, None), false),
        (&["unavailable"], response(200, Some(("grpc-status", "14"))), true),
        (&["unavailable"], response(200, Some(("grpc-status", "4"))), false),
        (
            &["unavailable"],
            response(200, Some(("grpc-status", "unavailable"))),
            false,
        ),
        (&["unavailable"], response(503, None), false),
        (&["reset"], response(500, None), false),
    ] {
        let policy = policy(conditions);
        let mut retries = Retries::new(&policy, &cluster, &Method::POST);
        assert_eq!(
            retries.after_response(&answer, &endpoint, true),
            expected,
            "{conditions:?} {} {:?}",
            answer.status,
            answer.headers
        );
    }
}

#[test]
fn there_are_so_many_retries_and_then_the_flag_says_that_one_more_was_wanted() {
    let (policy, cluster) = (policy(&["5xx"]), cluster());
    let mut retries = Retries::new(&policy, &cluster, &Method::GET);
    let reset = Failure::Reset { remote: true };
    for attempt in [1, 2] {
        assert_eq!(retries.attempt(), attempt);
        assert!(retries.after_failure(&reset, None, true));
    }
    let mut flags = Flags::NONE;
    retries.flag(&mut flags);
    assert_eq!(flags, Flags::NONE);
    assert_eq!(retries.attempt(), 3);
    assert!(!retries.after_failure(&reset, None, true));
    retries.flag(&mut flags);
    assert_eq!(flags, Flags::URX);
}

#[test]
fn retries_that_a_rule_asks_for_are_limited_by_the_user_alone() {
    let at_once = |policy: &RetryPolicy, cluster: &Cluster| {
        let mut all: Vec<_> = (0..20).map(|_| Retries::new(policy, cluster, &Method::GET)).collect();
        let reset = Failure::Reset { remote: true };
        // The second of each: the first of the mesh's own is not limited either, where nobody answered.
        all.iter_mut().for_each(|retries| {
            retries.after_failure(&reset, None, true);
        });
        all.iter_mut()
            .filter_map(|retries| retries.after_failure(&reset, None, true).then_some(()))
            .count()
    };
    for conditions in [&["5xx"][..], &[]] {
        assert_eq!(at_once(&policy(conditions), &cluster()), 20, "{conditions:?}");
    }
    assert!(
        at_once(&RetryPolicy::default(), &cluster()) < 20,
        "no rule asks for them"
    );
    let mut limited = model::Cluster::clone(&testing::policy(LoadBalancer::RoundRobin, None));
    limited.connection_pool.max_retries = Some(4);
    assert_eq!(
        at_once(&policy(&["5xx"]), &testing::cluster(&Arc::new(limited), &[1]).0),
        4
    );
}

#[test]
fn what_cannot_be_sent_again_whole_is_not_repeated() {
    let (policy, cluster) = (policy(&["5xx"]), cluster());
    let mut retries = Retries::new(&policy, &cluster, &Method::GET);
    for (name, failure) in failures() {
        assert!(!retries.after_failure(&failure, None, false), "{name}");
    }
}

#[test]
fn the_pause_doubles_up_to_ten_times_the_base_and_is_drawn_between_nothing_and_that() {
    let mut policy = policy(&["5xx"]);
    policy.attempts = 10;
    policy.backoff = Duration::from_millis(100);
    let cluster = cluster();
    let mut retries = Retries::new(&policy, &cluster, &Method::GET);
    for ceiling in [100, 200, 400, 800, 1000, 1000] {
        assert!(retries.after_failure(&Failure::Reset { remote: true }, None, true));
        let longest = retries.backoff(false, u64::MAX);
        let ceiling = Duration::from_millis(ceiling);
        assert!(
            longest <= ceiling && ceiling - longest < Duration::from_millis(1),
            "{longest:?}"
        );
        assert_eq!(retries.backoff(false, 0), Duration::ZERO);
    }
}
