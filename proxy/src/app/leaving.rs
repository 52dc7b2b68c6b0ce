//! From the word that this proxy is to leave until inbound drains: callers are told, or their time is over. Run by `app`
//! next to everything else, because `POST /drain` starts it without an end of the process.

use std::time::Duration;

use tokio::time::sleep;

use super::application::Application;
use crate::bootstrap::Options;
use crate::drain::{Callers, Drain};

/// For callers to be told once there is nobody left to serve them; who comes then is told that it may go elsewhere.
const ALONE_TIME: Duration = Duration::from_millis(500);

/// Goes on from leaving to draining, once. Dropping this stops it between the two.
pub(super) async fn leave(drain: Drain, application: Application, bound: Duration) {
    drain.leaving().await;
    tracing::info!(?bound, "leaving: not ready any more, callers are told");
    tokio::select! {
        callers = drain.callers() => report(&callers),
        () = alone(&drain, &application) => tracing::info!("the application has exited, callers are not waited for"),
        () = sleep(bound) => tracing::warn!(?bound, "callers were not told in time"),
    }
    drain.start_draining();
}

/// For callers to be told; the whole end takes no longer than its own bound.
pub(super) fn bound(options: &Options) -> Duration {
    options.departure_timeout.min(options.drain_timeout)
}

fn report(callers: &Callers) {
    match callers {
        Callers::Told { unanswered } if unanswered.is_empty() => tracing::info!("callers were told"),
        Callers::Told { unanswered } => tracing::warn!(?unanswered, "callers were told, and these have not answered"),
        Callers::NotTold { reason } => tracing::warn!(reason, "callers cannot be told"),
    }
}

async fn alone(drain: &Drain, application: &Application) {
    drain.quitting().await;
    if !drain.is_in_pod() {
        return std::future::pending().await;
    }
    application.gone().await;
    sleep(ALONE_TIME).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::drain::Phase;

    const BOUND: Duration = Duration::from_secs(5);

    /// How long inbound was not draining, told by `events` to the drain.
    async fn left_after(application: Application, events: impl AsyncFnOnce(&Drain)) -> Duration {
        let drain = Drain::new();
        let began = Instant::now();
        let leaving = leave(drain.clone(), application, BOUND);
        let ((), ()) = tokio::join!(leaving, events(&drain));
        assert_eq!(drain.inbound().phase(), Phase::Draining);
        began.elapsed()
    }

    fn told() -> Callers {
        Callers::Told { unanswered: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn inbound_drains_when_callers_were_told_and_not_before() {
        let elapsed = left_after(Application::absent(), async |drain| {
            drain.leave();
            sleep(BOUND / 5).await;
            assert_eq!(drain.inbound().phase(), Phase::Leaving);
            drain.tell(told());
        });
        assert_eq!(elapsed.await, BOUND / 5);
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_the_bound_holds() {
        let elapsed = left_after(Application::absent(), async |drain| drain.quit()).await;
        assert_eq!(elapsed, BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_to_ask_is_no_reason_to_wait() {
        let elapsed = left_after(Application::absent(), async |drain| {
            drain.leave();
            drain.tell(Callers::NotTold { reason: String::new() });
        });
        assert_eq!(elapsed.await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_pod_whose_application_is_gone_callers_have_half_a_second_more() {
        let elapsed = left_after(Application::absent(), async |drain| {
            drain.set_in_pod();
            drain.quit();
        });
        assert_eq!(elapsed.await, Duration::from_secs(1) + ALONE_TIME);
    }
}
