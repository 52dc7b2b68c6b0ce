//! The two listeners: HTTP/1.1 with limits of its own, and gRPC. Called by `app`, which bound the sockets and says when
//! to stop: then nothing new is accepted and what is under way may finish.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use super::connections::Connections;

/// At once; for a further one the one that is idle longest is closed, and where all are busy it waits.
const HTTP_CONNECTIONS: usize = 1_024;
/// For a request's head to arrive, and for the next request on a connection to begin.
const HEAD_TIME_LIMIT: Duration = Duration::from_secs(10);
/// After a failed accept (usually: no file descriptor left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A proxy whose host died without a word is noticed after interval + timeout.
const GRPC_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const GRPC_STREAMS_PER_CONNECTION: u32 = 256;
const GRPC_HEADER_LIST_BYTES: u32 = 64 * 1024;

/// Serves `router` until `stop` is true and what had begun is answered. Dropping the future closes every connection.
pub async fn serve_http(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve_within(HTTP_CONNECTIONS, listener, router, stop).await;
}

async fn serve_within(limit: usize, listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let connections = Connections::new(limit);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                let stream = accept(&listener).await;
                Some((stream, connections.admit().await?))
            } => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, place)) = accepted else { break };
        let service = TowerToHyperService::new(router.clone());
        let at_work = Arc::clone(&place);
        let service = service_fn(move |request| {
            let busy = at_work.work();
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                drop(busy);
                answer
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_LIMIT)
            .serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!("http connection ended: {error}");
                },
                () = place.closed() => tracing::debug!("an idle http connection made room for another"),
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole: waiting to fill a segment only delays them.
                drop(stream.set_nodelay(true));
                return stream;
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

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn connections_that_ask_for_nothing_lock_nobody_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        let server = tokio::spawn(serve_within(2, listener, router, stopped));
        let mut kept = TcpStream::connect(address).await.expect("connected");
        assert!(ask(&mut kept).await.ends_with("here"));
        let mut silent = TcpStream::connect(address).await.expect("connected");
        // `silent` came after the answer to `kept`, which is idle longest.
        let mut other = TcpStream::connect(address).await.expect("connected");
        assert!(ask(&mut other).await.ends_with("here"));
        assert_eq!(kept.read(&mut [0; 8]).await.expect("closed"), 0);
        assert!(ask(&mut silent).await.ends_with("here"));
        let mut last = TcpStream::connect(address).await.expect("connected");
        assert!(ask(&mut last).await.ends_with("here"));
        assert_eq!(other.read(&mut [0; 8]).await.expect("closed"), 0);
        stop.send_replace(true);
        server.await.expect("ended");
    }
}
