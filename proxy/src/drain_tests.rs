//! The phases on paused time: what each lets through, and who is waited for.

use tokio::time::{Instant, timeout};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn leaving_is_not_draining_and_concerns_inbound_alone() {
    let drain = Drain::new();
    let (mut inbound, outbound) = (drain.inbound().watch(), drain.outbound().watch());
    assert!(!inbound.is_leaving() && drain.stage() == "serving");
    drain.leave();
    drain.leaving().await;
    assert!(inbound.is_leaving() && !inbound.is_draining());
    assert!(!outbound.is_leaving());
    assert!(timeout(SECOND, inbound.draining()).await.is_err());
    assert_eq!(drain.stage(), "leaving");
}

#[tokio::test(start_paused = true)]
async fn inbound_lets_late_callers_in_while_it_drains_and_nobody_when_it_closes() {
    let drain = Drain::new();
    drain.leave();
    drain.start_draining();
    let mut late = drain.inbound().watch();
    late.draining().await;
    assert!(timeout(SECOND, late.closing()).await.is_err());
    drain.close();
    late.closing().await;
}

#[tokio::test(start_paused = true)]
async fn outbound_closes_on_its_own_or_with_everything() {
    let drain = Drain::new();
    drain.start_draining();
    assert_eq!(drain.outbound().phase(), Phase::Serving);
    drain.close_outbound();
    assert_eq!(
        (drain.outbound().phase(), drain.inbound().phase()),
        (Phase::Closing, Phase::Draining)
    );
    let drain = Drain::new();
    drain.close();
    drain.outbound().watch().closing().await;
}

#[tokio::test(start_paused = true)]
async fn a_phase_is_never_taken_back() {
    let side = Side::new();
    side.rise(Phase::Closing);
    side.rise(Phase::Leaving);
    assert_eq!(side.phase(), Phase::Closing);
}

#[tokio::test(start_paused = true)]
async fn drained_waits_for_the_last_connection() {
    let side = Side::new();
    let (one, two) = (side.watch().connection(), side.watch().connection());
    let began = Instant::now();
    let ending = async {
        tokio::time::sleep(SECOND).await;
        drop(one);
        tokio::time::sleep(SECOND).await;
        drop(two);
    };
    let (left, ()) = tokio::join!(side.drained(SECOND * 30), ending);
    assert_eq!(left, 0);
    assert_eq!(began.elapsed(), SECOND * 2);
}

#[tokio::test(start_paused = true)]
async fn drained_gives_up_after_its_limit_and_says_what_is_left() {
    let side = Side::new();
    let _stuck = side.watch().connection();
    let began = Instant::now();
    assert_eq!(side.drained(SECOND * 30).await, 1);
    assert_eq!(began.elapsed(), SECOND * 30);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_not_waited_for_until_it_says_something() {
    let drain = Drain::new();
    let watch = drain.inbound().watch();
    let _idle = watch.connection();
    let silent = watch.silent();
    drain.start_draining();
    drain.inbound().quiet().await;
    assert_eq!((drain.inbound().live_connections(), drain.stage()), (1, "drained"));
    drop(silent);
    assert!(timeout(SECOND, drain.inbound().quiet()).await.is_err());
    assert_eq!(drain.stage(), "draining");
}

#[tokio::test(start_paused = true)]
async fn those_who_keep_coming_are_not_waited_for_as_those_are_who_were_there() {
    let side = Side::new();
    let watch = side.watch();
    let (early, _silent_early) = (watch.connection(), (watch.connection(), watch.silent()));
    side.rise(Phase::Draining);
    let _late = watch.connection();
    assert!(timeout(SECOND, side.early_ones_quiet()).await.is_err());
    let ends = async {
        tokio::time::sleep(SECOND).await;
        drop(early);
    };
    let began = Instant::now();
    tokio::join!(side.early_ones_quiet(), ends);
    assert_eq!((began.elapsed(), side.busy_connections()), (SECOND, 1));
}

#[tokio::test(start_paused = true)]
async fn falling_silent_wakes_who_waits() {
    let side = Side::new();
    let watch = side.watch();
    let _idle = watch.connection();
    let falls_silent = async {
        tokio::time::sleep(SECOND).await;
        watch.silent()
    };
    let began = Instant::now();
    let ((), _silent) = tokio::join!(side.quiet(), falls_silent);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn leaving_alone_does_not_quit_and_quitting_leaves() {
    let drain = Drain::new();
    drain.leave();
    assert!(timeout(SECOND, drain.quitting()).await.is_err());
    let drain = Drain::new();
    drain.quit();
    drain.quitting().await;
    assert!(drain.is_leaving());
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_about_callers_counts() {
    let drain = Drain::new();
    assert!(timeout(SECOND, drain.callers()).await.is_err());
    let told = Callers::Told {
        unanswered: vec!["shop/web-1".to_owned()],
    };
    drain.tell(told.clone());
    drain.tell(Callers::NotTold { reason: String::new() });
    assert_eq!(drain.callers().await, told);
    assert_eq!(drain.callers_now(), Some(told));
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_side_is_gone_waits_instead_of_draining() {
    let side = Side::new();
    let mut watch = side.watch();
    drop(side);
    assert!(timeout(SECOND, watch.draining()).await.is_err());
}
