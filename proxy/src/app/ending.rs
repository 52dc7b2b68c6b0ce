//! How the proxy ends: told by a signal or an operator, it leaves and drains for as long as it may; told again, it stops at
//! once. In a pod it also waits for the application to exit, whose way out it is.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

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
    let over = async {
        finish(drain, application).await;
        end(drain, &mut data_threads).await;
    };
    tokio::select! {
        drained = timeout(limit, over) => match drained {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(connections = drain.live_connections(), "drain time is over, exiting"),
        },
        () = signals.next_of_its_own() => {
            tracing::warn!(connections = drain.live_connections(), "told twice, exiting at once");
        }
    }
    Ok(())
}

/// Returns when nothing is in flight for the application and the application, or what came from it, is done too.
async fn finish(drain: &Drain, application: &Application) {
    drain.draining().await;
    if !drain.is_in_pod() {
        drain.close_outbound();
    }
    loop {
        drain.inbound().quiet().await;
        if drain.is_in_pod() {
            application.gone().await;
        } else {
            drain.outbound().quiet().await;
        }
        // Late callers were served meanwhile.
        if drain.inbound().busy_connections() == 0 {
            return;
        }
    }
}

/// Closes the last doors; whoever was let in is served. Nobody is left in a pod whose application is gone.
async fn end(drain: &Drain, data_threads: &mut DataThreads) {
    drain.close();
    if drain.is_in_pod() {
        // What is left after that has nobody to be for.
        let _ = timeout(LAST_WORDS, data_threads.all_ended()).await;
    } else {
        data_threads.all_ended().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

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
    async fn inbound_requests_are_waited_for_also_those_that_come_late() {
        let elapsed = finished_after(true, async |drain| {
            let inbound = drain.inbound().watch();
            let early = inbound.connection();
            drain.start_draining();
            sleep(SECOND).await;
            let late = inbound.connection();
            drop(early);
            sleep(SECOND).await;
            drop(late);
        });
        assert_eq!(elapsed.await, SECOND * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_ends_while_callers_are_being_told() {
        let elapsed = finished_after(true, async |drain| {
            drain.leave();
            sleep(SECOND).await;
            drain.start_draining();
        });
        assert_eq!(elapsed.await, SECOND);
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
            let waited = timeout(SECOND, finish(&drain, &Application::absent())).await;
            assert_eq!(waited.is_ok(), in_pod);
            assert_eq!(drain.outbound().phase() == Phase::Serving, in_pod);
        }
    }
}
