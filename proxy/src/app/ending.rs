//! How the proxy ends: told by a signal or an operator, it drains for as long as it may; told again, it stops at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::Parts;
use super::data_threads::DataThreads;
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
    mut signals: Signals,
    mut data_threads: DataThreads,
) -> Result<(), StartError> {
    let drain = &parts.drain;
    loop {
        tokio::select! {
            () = signals.next() => break,
            () = drain.quitting() => break,
            // After `POST /drain` they end one by one, and the proxy stays.
            () = data_threads.one_ended(), if !drain.is_draining() => {
                if !drain.is_draining() {
                    return Err(StartError::DataThread);
                }
            }
        }
    }
    drain.quit();
    let limit = parts.options.drain_timeout;
    tracing::info!(connections = drain.live_connections(), ?limit, "draining, then exiting");
    tokio::select! {
        drained = timeout(limit, data_threads.all_ended()) => match drained {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(connections = drain.live_connections(), "drain time is over, exiting"),
        },
        () = signals.next_of_its_own() => {
            tracing::warn!(connections = drain.live_connections(), "told twice, exiting at once");
        }
    }
    Ok(())
}
