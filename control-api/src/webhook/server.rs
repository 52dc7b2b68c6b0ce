//! The HTTPS listener: bounded connections, bounded times, HTTP/1.1. Called by `webhook`.

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
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// API servers keep a few each.
const CONNECTIONS: usize = 64;
const HANDSHAKE_TIME_LIMIT: Duration = Duration::from_secs(5);
/// For a request's head, and for the next one on a connection.
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(60);
/// After a failed accept (usually: no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For reviews under way when the control plane ends.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until `stop` is true and what had begun is answered. Dropping the future closes the listener.
pub(super) async fn serve(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = TlsAcceptor::from(config);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let place = Arc::clone(&room).acquire_owned().await.ok()?;
                Some((accept(&listener).await, place))
            } => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { break };
        let (acceptor, router, watcher) = (acceptor.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            match timeout(HANDSHAKE_TIME_LIMIT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(HEAD_TIME_LIMIT)
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
                    if let Err(error) = watcher.watch(connection).await {
                        tracing::debug!("webhook connection ended: {error}");
                    }
                }
                Ok(Err(error)) => tracing::debug!("webhook: no TLS handshake: {error}"),
                Err(_) => tracing::debug!("webhook: no TLS handshake in time"),
            }
        });
    }
    drop(listener);
    // What is not answered by then is not waited for.
    let _ = timeout(GRACE, graceful.shutdown()).await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                drop(stream.set_nodelay(true));
                return stream;
            }
            Err(error) => {
                tracing::warn!("--webhook-addr: cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
