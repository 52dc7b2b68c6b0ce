//! How the proxy ends: told by a signal or an operator, it leaves and drains for as long as it may; told again, it stops at
//! once. In a pod it also waits for the application to exit, whose way out it is.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout};

use super::Parts;
use super::application::Application;
use super::data_threads::DataThreads;
use crate::drain::Drain;
use crate::error::StartError;

/// For the last answers of the operator's doors and the last lines of the access log.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// A signal within this time of the first says the same.
const REPETITION: Duration = Duration::from_millis(500);

/// SIGTERM (Kubernetes) and SIGINT (Ctrl-C), which mean the same.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn watch() -> Result<Signals, StartError> {
        let watch = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Signals {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    /// The next signal that is not a repetition of the last: GNU `timeout`, for one, sends each twice.
    async fn next_of_its_own(&mut self) {
        tokio::time::sleep(REPETITION).await;
        let noop = std::task::Waker::noop();
        let cx = &mut std::task::Context::from_waker(noop);
        while self.terminate.poll_recv(cx).is_ready() || self.interrupt.poll_recv(cx).is_ready() {}
        self.next().await;
    }

    /// The next signal. Dropping this loses none.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Returns when the proxy has drained, has had its time for it, or is told a second time.
pub(super) async fn when_told(
    parts: &Parts,
    application: &Application,
    mut signals: Signals,
    mut data_threads: DataThreads,
) -> Result<(), StartError> {
    let drain = &parts.drain;
    tokio::select! {
        () = signals.next() => {}
        () = drain.quitting() => {}
        () = data_threads.one_ended() => return Err(StartError::DataThread),
    }
    drain.quit();
    let limit = parts.options.drain_timeout;
    tracing::info!(connections = drain.live_connections(), ?limit, "draining, then exiting");
    tokio::select! {
        () = end(drain, application, limit, data_threads.all_ended()) => {}
        () = signals.next_of_its_own() => {
            tracing::warn!(connections = drain.live_connections(), "told twice, exiting at once");
        }
    }
    drain.cut_off();
    // Each drops what it still serves: only that aborts the connections, and writes the last lines of the access log.
    if timeout(LAST_WORDS, data_threads.all_ended()).await.is_err() {
        tracing::warn!("a data thread does not end, exiting without it");
    }
    Ok(())
}

/// Waits for what must finish, for `limit` at most; then closes the last doors, and whoever was let in is served:
/// connections end after the request at hand, and those that do not are cut off in the end.
async fn end(drain: &Drain, application: &Application, limit: Duration, all_ended: impl Future<Output = ()>) {
    let began = Instant::now();
    let finished = timeout(limit, finish(drain, application)).await.is_ok();
    drain.close();
    // Nobody is left in a pod whose application is gone. Where nobody can tell, requests have the rest of the time.
    let last_words = if finished && !drain.is_in_pod() {
        limit.saturating_sub(began.elapsed()).max(LAST_WORDS)
    } else {
        LAST_WORDS
    };
    let ended = timeout(last_words, all_ended).await.is_ok();
    let connections = drain.live_connections();
    match (finished, ended) {
        (true, true) => tracing::info!("drained"),
        (true, false) => tracing::warn!(connections, "what is left does not end by itself, exiting"),
        (false, _) => tracing::warn!(connections, "drain time is over, exiting"),
    }
}

/// Returns when callers know, or have had their time, and the application has exited. Where nobody can tell that: when
/// what was in flight by then has finished. Others may have come meanwhile, and may come on and on.
async fn finish(drain: &Drain, application: &Application) {
    let visible = drain.is_in_pod();
    tokio::join!(drain.draining(), async {
        if visible {
            application.gone().await;
        }
    });
    if drain.is_in_pod() {
        // It may have been silent only.
        if !visible || !application.is_gone() {
            application.gone().await;
        }
    } else {
        drain.close_outbound();
        tokio::join!(drain.inbound().early_ones_quiet(), drain.outbound().quiet());
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;
    use crate::drain::Phase;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long it took from the time that inbound drains.
    async fn finished_after(in_pod: bool, events: impl AsyncFnOnce(&Drain)) -> Duration {
        let drain = Drain::new();
        if in_pod {
            drain.set_in_pod();
        }
        let began = Instant::now();
        let application = Application::absent();
        tokio::join!(finish(&drain, &application), events(&drain));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_clients_never_cease_to_call_closes_its_doors() {
        let drain = Drain::new();
        let inbound = drain.inbound().watch();
        let early = inbound.connection();
        drain.start_draining();
        let began = Instant::now();
        let clients = async {
            let mut current = inbound.connection();
            let mut early = Some(early);
            while drain.inbound().phase() < Phase::Closing {
                sleep(SECOND / 10).await;
                current = inbound.connection();
                if began.elapsed() >= SECOND {
                    early = None;
                }
            }
            sleep(SECOND * 2).await;
            drop((current, early));
        };
        let application = Application::absent();
        let all_ended = async { _ = drain.inbound().drained(SECOND * 60).await };
        tokio::join!(end(&drain, &application, SECOND * 60, all_ended), clients);
        assert!(began.elapsed() < SECOND * 4, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cut_off_a_second_after_the_time_is_over_or_the_application_has_exited() {
        for (in_pod, limit, expected) in [
            (false, SECOND * 5, SECOND * 6),
            (true, SECOND * 5, SECOND * 2),
            (true, SECOND / 2, SECOND * 3 / 2),
        ] {
            let drain = Drain::new();
            if in_pod {
                drain.set_in_pod();
            }
            let _endless = drain.inbound().watch().connection();
            drain.start_draining();
            let began = Instant::now();
            end(&drain, &Application::absent(), limit, pending()).await;
            assert_eq!((began.elapsed(), drain.inbound().phase()), (expected, Phase::Closing));
        }
        let drain = Drain::new();
        drain.start_draining();
        let began = Instant::now();
        end(&drain, &Application::absent(), SECOND * 5, ready(())).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_ends_while_callers_are_being_told() {
        let elapsed = finished_after(true, async |drain| {
            drain.leave();
            sleep(SECOND * 5).await;
            drain.start_draining();
        });
        assert_eq!(elapsed.await, SECOND * 5);
    }

    #[tokio::test(start_paused = true)]
    async fn outside_of_a_pod_what_is_in_flight_outbound_is_waited_for_too() {
        for in_pod in [false, true] {
            let drain = Drain::new();
            if in_pod {
                drain.set_in_pod();
            }
            let _in_flight = drain.outbound().watch().connection();
            drain.start_draining();
            let waited = timeout(SECOND * 2, finish(&drain, &Application::absent())).await;
            assert_eq!(waited.is_ok(), in_pod);
            assert_eq!(drain.outbound().phase() == Phase::Serving, in_pod);
        }
    }
}
