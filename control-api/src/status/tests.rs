//! Who is waited for, and what is said of it, on paused time.

use super::*;

fn identity(node_id: &str) -> Identity {
    Identity {
        namespace: "default".to_owned(),
        node_id: node_id.to_owned(),
    }
}

fn at(seen: u64, answered: u64) -> Progress {
    Progress {
        seen,
        answered,
        acknowledged: answered,
        ..Progress::default()
    }
}

fn refusing(seen: u64, after: u64) -> Progress {
    let span = Span { after, upto: seen };
    let refused = Refused {
        resource: "host/a".to_owned(),
        version: "v".to_owned(),
        reason: "bad regex".to_owned(),
        span,
    };
    Progress {
        acknowledged: after,
        refused: vec![refused],
        ..at(seen, seen)
    }
}

fn states(found: &[Acknowledgement]) -> Vec<(&str, State)> {
    found.iter().map(|one| (one.node_id.as_str(), one.state)).collect()
}

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_not_concerned_is_not_waited_for() {
    let status = Status::new();
    let stalled = status.connect(identity("stalled"), at(1, 0));
    stalled.report(at(2, 0), None);
    let started = Instant::now();
    assert!(status.wait(2, LIMIT).await.is_empty());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_last_acknowledgement() {
    let status = Status::new();
    let (one, two) = (
        status.connect(identity("one"), at(1, 1)),
        status.connect(identity("two"), at(1, 1)),
    );
    let concern = Some(Span { after: 1, upto: 2 });
    one.report(at(2, 1), concern);
    one.report(at(2, 2), None);
    let waiting = tokio::spawn({
        let status = Arc::clone(&status);
        async move { status.wait(2, LIMIT).await }
    });
    tokio::task::yield_now().await;
    // Only now does the second session look at the new world at all.
    two.report(at(2, 1), concern);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    two.report(at(2, 2), None);
    let started = Instant::now();
    let found = waiting.await.unwrap();
    assert_eq!(
        states(&found),
        [("one", State::Acknowledged), ("two", State::Acknowledged)]
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_begins_after_the_answer_still_finds_it() {
    let status = Status::new();
    let proxy = status.connect(identity("one"), at(1, 1));
    proxy.report(at(2, 1), Some(Span { after: 1, upto: 2 }));
    proxy.report(at(2, 2), None);
    proxy.report(at(3, 3), None);
    assert_eq!(states(&status.wait(2, LIMIT).await), [("one", State::Acknowledged)]);
    assert!(status.wait(3, LIMIT).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_with_its_resource_and_reason() {
    let status = Status::new();
    let proxy = status.connect(identity("one"), at(1, 1));
    proxy.report(refusing(2, 1), Some(Span { after: 1, upto: 2 }));
    let found = status.wait(2, LIMIT).await;
    assert_eq!(states(&found), [("one", State::Refused)]);
    assert_eq!(found[0].reason, "host/a: bad regex");
    // A later revision that concerns it in something else is not blamed for the old refusal.
    let mut later = refusing(2, 1);
    (later.seen, later.answered) = (3, 3);
    proxy.report(later, Some(Span { after: 2, upto: 3 }));
    assert_eq!(states(&status.wait(3, LIMIT).await), [("one", State::Acknowledged)]);
    let shown = &status.proxies()[0];
    assert_eq!((shown.revision_acknowledged, shown.lag), (1, 2));
    assert_eq!(shown.last_refusal.as_deref(), Some("host/a: bad regex"));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_answer_is_named_when_the_limit_is_over() {
    let status = Status::new();
    let proxy = status.connect(identity("one"), at(1, 1));
    proxy.report(at(2, 1), Some(Span { after: 1, upto: 2 }));
    let started = Instant::now();
    let found = status.wait(2, LIMIT).await;
    assert_eq!(states(&found), [("one", State::Unanswered)]);
    assert_eq!(started.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_leaves_is_unanswered_unless_it_returns_in_time() {
    let status = Status::new();
    for returns in [false, true] {
        let proxy = status.connect(identity("one"), at(1, 1));
        proxy.report(at(2, 1), Some(Span { after: 1, upto: 2 }));
        let waiting = tokio::spawn({
            let status = Arc::clone(&status);
            async move { status.wait(2, LIMIT).await }
        });
        tokio::task::yield_now().await;
        drop(proxy);
        tokio::task::yield_now().await;
        assert!(status.proxies().is_empty());
        let again = returns.then(|| status.connect(identity("one"), at(2, 2)));
        let expected = if returns {
            State::Acknowledged
        } else {
            State::Unanswered
        };
        assert_eq!(states(&waiting.await.unwrap()), [("one", expected)]);
        drop(again);
    }
}

#[tokio::test(start_paused = true)]
async fn two_live_streams_of_one_identity_are_both_shown_and_waited_for() {
    let status = Status::new();
    let old = status.connect(identity("one"), at(1, 1));
    let new = status.connect(identity("one"), at(1, 1));
    assert_eq!(status.proxies().len(), 2);
    let concern = Some(Span { after: 1, upto: 2 });
    old.report(refusing(2, 1), concern);
    new.report(at(2, 2), concern);
    let found = status.wait(2, LIMIT).await;
    assert_eq!(states(&found), [("one", State::Refused), ("one", State::Acknowledged)]);
    drop(new);
    assert_eq!(status.proxies().len(), 1);
    drop(old);
    assert!(status.proxies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn shortly_after_a_restart_proxies_have_time_to_return() {
    let status = Status::after_restart();
    let waiting = tokio::spawn({
        let status = Arc::clone(&status);
        async move { status.wait(2, LIMIT * 2).await }
    });
    tokio::time::sleep(RETURN_TIME / 2).await;
    let proxy = status.connect(identity("one"), at(1, 1));
    proxy.report(at(2, 2), Some(Span { after: 1, upto: 2 }));
    assert_eq!(states(&waiting.await.unwrap()), [("one", State::Acknowledged)]);
}

#[tokio::test(start_paused = true)]
async fn one_of_two_proxies_of_one_identity_does_not_answer_for_the_other() {
    let status = Status::new();
    let (one, two) = (
        status.connect(identity("one"), at(1, 1)),
        status.connect(identity("one"), at(1, 1)),
    );
    one.report(at(2, 1), Some(Span { after: 1, upto: 2 }));
    let waiting = tokio::spawn({
        let status = Arc::clone(&status);
        async move { status.wait(2, LIMIT).await }
    });
    tokio::task::yield_now().await;
    drop(one);
    tokio::task::yield_now().await;
    two.report(at(2, 2), Some(Span { after: 1, upto: 2 }));
    let both = [("one", State::Unanswered), ("one", State::Acknowledged)];
    assert_eq!(states(&waiting.await.unwrap()), both);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_returns_after_the_change_and_lacks_something_counts() {
    let status = Status::after_restart();
    let started = Instant::now();
    let waiting = tokio::spawn({
        let status = Arc::clone(&status);
        async move { status.wait(2, LIMIT * 2).await }
    });
    tokio::time::sleep(RETURN_TIME / 2).await;
    let late = status.connect(identity("late"), at(2, 0));
    late.report(at(2, 0), status.missed(2));
    late.report(at(2, 2), None);
    let settled = status.connect(identity("settled"), at(2, 0));
    settled.report(at(2, 2), None);
    assert_eq!(states(&waiting.await.unwrap()), [("late", State::Acknowledged)]);
    assert_eq!(started.elapsed(), RETURN_TIME);
    assert_eq!((status.missed(2), status.count()), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn a_short_limit_is_over_before_the_proxies_have_returned() {
    let status = Status::after_restart();
    let started = Instant::now();
    assert!(status.wait(2, RETURN_TIME / 5).await.is_empty());
    assert_eq!(started.elapsed(), RETURN_TIME / 5);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_the_change_was_not_sent_to_in_time_is_named() {
    let status = Status::new();
    let _behind = status.connect(identity("one"), at(1, 1));
    let found = status.wait(2, Duration::from_millis(1)).await;
    assert_eq!(states(&found), [("one", State::Unanswered)]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refused_before_is_named_although_nothing_new_was_sent_to_it() {
    let status = Status::new();
    let _proxy = status.connect(identity("one"), refusing(2, 1));
    assert_eq!(states(&status.wait(2, LIMIT).await), [("one", State::Refused)]);
}

#[tokio::test(start_paused = true)]
async fn whoever_leaves_waits_for_others_and_not_for_itself() {
    let status = Status::new();
    let leaving = status.connect(identity("leaving"), at(1, 1));
    let caller = status.connect(identity("caller"), at(1, 1));
    let concern = Some(Span { after: 1, upto: 2 });
    leaving.report(at(2, 1), concern);
    caller.report(at(2, 2), concern);
    let started = Instant::now();
    let found = status.wait_for_others(2, LIMIT, Some(&identity("leaving"))).await;
    assert_eq!(states(&found), [("caller", State::Acknowledged)]);
    assert_eq!(started.elapsed(), Duration::ZERO);
    // It has not even seen the revision: that holds nobody up either.
    let found = status.wait_for_others(3, LIMIT, Some(&identity("caller"))).await;
    assert_eq!(states(&found), [("leaving", State::Unanswered)]);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_said_it_leaves_and_is_gone_is_not_waited_for() {
    let status = Status::new();
    for leaving in [false, true] {
        let proxy = status.connect(identity("one"), at(1, 1));
        let progress = Progress { leaving, ..at(2, 1) };
        proxy.report(progress, Some(Span { after: 1, upto: 2 }));
        assert_eq!(status.proxies()[0].leaving, leaving);
        let waiting = tokio::spawn({
            let status = Arc::clone(&status);
            async move { status.wait(2, LIMIT).await }
        });
        tokio::task::yield_now().await;
        let started = Instant::now();
        drop(proxy);
        let found = waiting.await.unwrap();
        assert_eq!(found.len(), usize::from(!leaving));
        assert_eq!(started.elapsed() < LIMIT, leaving);
    }
}
