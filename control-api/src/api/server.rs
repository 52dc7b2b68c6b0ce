//! The two listeners: HTTP/1.1 with limits of its own, and gRPC. Called by `app`, which bound the sockets and says when
//! to stop: then nothing new is accepted and what is under way may finish.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

/// At once; further ones wait in the kernel's queue.
const HTTP_CONNECTIONS: usize = 1_024;
/// For a request's head to arrive, and for the next request on a connection to begin.
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(30);
/// After a failed accept (usually: no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A proxy whose host died without a word is noticed after interval + timeout.
const GRPC_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const GRPC_STREAMS_PER_CONNECTION: u32 = 256;
const GRPC_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Serves `router` until `stop` is true and what had begun is answered. Dropping the future closes every connection.
pub async fn serve_http(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, permit)) = accepted else { break };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_LIMIT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!("http connection ended: {error}");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

/// The next connection within the limit; `None` when the limit is no more.
async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole: waiting to fill a segment only delays them.
                drop(stream.set_nodelay(true));
                return Some((stream, permit));
            }
            Err(error) => {
                tracing::warn!("--http-addr: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves `routes` until `stop` is true and every stream has ended. Dropping the future closes every connection.
pub async fn serve_grpc(
    listener: TcpListener,
    routes: Routes,
    mut stop: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .http2_keepalive_interval(Some(GRPC_KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(GRPC_KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(GRPC_STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(GRPC_HEADER_LIST_BYTES)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            drop(stop.wait_for(|stop| *stop).await);
        })
        .await
}
