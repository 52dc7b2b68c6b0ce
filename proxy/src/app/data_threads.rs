//! The data threads: each a current-thread runtime that serves its own accept sockets.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::mpsc;

use super::Parts;
use super::listening::WorkerSockets;
use crate::error::StartError;
use crate::http::Proxy;
use crate::listener;
use crate::snapshot::{InboundReader, Passthrough, Reader};
use crate::telemetry::Direction;

/// For idle connections to end and HTTP/2 clients to be told, when there is no time for anything else.
const PARTING_TIME: Duration = Duration::from_millis(100);

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
            spawn(number, ending.clone(), move || serve(parts, number, sockets)).map_err(|source| {
                StartError::Thread {
                    what: "a data thread",
                    source,
                }
            })?;
        }
        Ok(DataThreads { ended })
    }

    /// Returns when one of them has ended, which none should before the end; at once when all have.
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
        // Whatever it still serves ends here, before the thread says that it has ended. Look-ups are not waited for.
        runtime.shutdown_background();
    })?;
    Ok(())
}

/// The work of one data thread: to serve its sockets until they close, then to return when the last connection is gone, or
/// what is left of them is to be cut off.
async fn serve(parts: Parts, number: usize, sockets: WorkerSockets) {
    let options = &parts.options;
    let proxy = Arc::new(Proxy {
        worker: number,
        reader: Reader::new(Arc::clone(&parts.shared)),
        demand: parts.demand.clone(),
        inbound: InboundReader::new(Arc::clone(&parts.inbound), sockets.inbound_addr.port()),
        passthrough: Passthrough::new(&parts.registry, &parts.telemetry),
        unrouted: parts.telemetry.request_series(Direction::Outbound, "", "", ""),
        access_log: parts.access_log.clone(),
        debug_headers: options.debug_headers,
        telemetry: parts.telemetry.clone(),
        drain: parts.drain.clone(),
        on_demand_timeout: options.on_demand_timeout,
        own_connections: Arc::clone(parts.registry.own_connections()),
    });
    let accept = |socket, direction| {
        listener::accept(
            socket,
            direction,
            Arc::clone(&proxy),
            parts.telemetry.clone(),
            proxy.drain_of(direction),
        )
    };
    let outbound = accept(sockets.outbound, Direction::Outbound);
    let inbound = accept(sockets.inbound, Direction::Inbound);
    let accept_if = |socket: Option<std::net::TcpListener>, direction| {
        let accepting = socket.map(|socket| accept(socket, direction));
        async move {
            match accepting {
                Some(accepting) => accepting.await,
                None => Ok(()),
            }
        }
    };
    let outbound_v6 = accept_if(sockets.outbound_v6, Direction::Outbound);
    let inbound_v6 = accept_if(sockets.inbound_v6, Direction::Inbound);
    if let Err(error) = tokio::try_join!(outbound, inbound, outbound_v6, inbound_v6) {
        tracing::error!(%error, "a data thread cannot serve its sockets");
        return;
    }
    let (inbound, outbound) = (parts.drain.inbound(), parts.drain.outbound());
    let mut watch = inbound.watch();
    let drained = async { tokio::join!(inbound.drained(Duration::MAX), outbound.drained(Duration::MAX)) };
    tokio::select! {
        _ = drained => {}
        () = async {
            watch.over().await;
            tokio::time::sleep(PARTING_TIME).await;
        } => {}
    }
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
