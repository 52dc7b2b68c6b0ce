//! The data threads: each a current-thread runtime that serves its own accept sockets.

use std::future::Future;
use std::io;
use std::thread;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::mpsc;

use super::Parts;
use super::listening::WorkerSockets;
use crate::error::StartError;

/// The running data threads.
pub(super) struct DataThreads {
    /// Closed when the last one has ended; each says when it does.
    ended: mpsc::UnboundedReceiver<()>,
}

impl DataThreads {
    pub(super) fn start(parts: &Parts, workers: Vec<WorkerSockets>) -> Result<DataThreads, StartError> {
        let (ending, ended) = mpsc::unbounded_channel();
        for (number, sockets) in workers.into_iter().enumerate() {
            let parts = parts.clone();
            spawn(number, ending.clone(), move || serve(parts, sockets)).map_err(|source| StartError::Thread {
                what: "a data thread",
                source,
            })?;
        }
        Ok(DataThreads { ended })
    }

    /// Returns when one of them has ended, which none should before the drain; at once when all have.
    pub(super) async fn one_ended(&mut self) {
        self.ended.recv().await;
    }

    /// Returns when all have ended: their listeners are closed and their last connections gone.
    pub(super) async fn all_ended(&mut self) {
        while self.ended.recv().await.is_some() {}
    }
}

/// Says that its thread has ended, by a panic too.
struct EndedGuard(mpsc::UnboundedSender<()>);

impl Drop for EndedGuard {
    fn drop(&mut self) {
        // Nobody listens any more when the proxy itself has ended.
        let _ = self.0.send(());
    }
}

fn spawn<F: Future<Output = ()>>(
    number: usize,
    ending: mpsc::UnboundedSender<()>,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    thread::Builder::new().name(format!("data-{number}")).spawn(move || {
        let _ended = EndedGuard(ending);
        runtime.block_on(work());
    })?;
    Ok(())
}

/// The work of one data thread: to serve its sockets until the drain, then to return when its last connection is gone.
async fn serve(parts: Parts, sockets: WorkerSockets) {
    let listeners = (
        TcpListener::from_std(sockets.outbound),
        TcpListener::from_std(sockets.inbound),
    );
    let (Ok(outbound), Ok(inbound)) = listeners else {
        tracing::error!("a data thread cannot register its sockets: out of file descriptors?");
        return;
    };
    let mut drain = parts.drain.watch();
    drain.draining().await;
    drop((outbound, inbound));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_that_ends_or_panics_is_noticed_and_so_is_the_last() {
        let (ending, ended) = mpsc::unbounded_channel();
        let mut threads = DataThreads { ended };
        let (release, held) = tokio::sync::oneshot::channel::<()>();
        spawn(0, ending.clone(), || async {
            assert!(std::env::args().count() > 1_000_000, "the test's own panic")
        })
        .expect("a thread");
        spawn(1, ending, || async { held.await.unwrap_or_default() }).expect("a thread");
        threads.one_ended().await;
        release.send(()).expect("the other thread waits");
        threads.all_ended().await;
    }
}
