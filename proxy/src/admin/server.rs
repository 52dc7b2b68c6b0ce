//! One door: accepts, speaks HTTP/1, asks a function for the answer.
//!
//! Doors face the network (metrics, health), so a connection is cheap and bounded: small buffers, a limit on the time
//! for a request's head, and at the cap the oldest connection gives way, so that nobody can keep the prober out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::answer::Answer;
use super::probes::{PREFIX, Probes};
use crate::drain::{DrainWatch, LiveConnectionGuard};

pub(super) type Answers = dyn Fn(&Parts) -> Answer + Send + Sync;

const MAX_CONNECTIONS: usize = 64;
/// Also how long an idle connection is kept: longer than the usual scrape interval.
const HEAD_TIMEOUT: Duration = Duration::from_secs(65);
/// Of one connection; hyper's smallest is 8 KiB.
const MAX_BUFFER_BYTES: usize = 16 * 1024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `closing`, which also ends the connections after the answer at hand. Dropping this stops accepting and
/// leaves open connections to themselves.
pub(super) async fn serve(listener: TcpListener, answers: Arc<Answers>, closing: DrainWatch) {
    serve_with_probes(listener, answers, None, closing).await;
}

/// The same, and what begins like a probe of the application is answered by asking it.
pub(super) async fn serve_with_probes(
    listener: TcpListener,
    answers: Arc<Answers>,
    probes: Option<Arc<Probes>>,
    mut closing: DrainWatch,
) {
    let mut connections = VecDeque::new();
    loop {
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = closing.draining() => return,
        };
        make_room(&mut connections);
        let sources = (Arc::clone(&answers), probes.clone());
        let connection = serve_connection(stream, sources, closing.clone(), closing.connection());
        connections.push_back(tokio::spawn(connection).abort_handle());
    }
}

/// The next connection. Dropping this loses none.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Out of descriptors, or the client was gone already: neither is helped by trying at once.
                tracing::warn!(%error, "cannot accept a connection to an operator's door");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn make_room(connections: &mut VecDeque<AbortHandle>) {
    connections.retain(|connection| !connection.is_finished());
    if connections.len() >= MAX_CONNECTIONS
        && let Some(oldest) = connections.pop_front()
    {
        oldest.abort();
    }
}

async fn serve_connection(
    stream: TcpStream,
    (answers, probes): (Arc<Answers>, Option<Arc<Probes>>),
    mut closing: DrainWatch,
    _live: LiveConnectionGuard,
) {
    // Where the client came to: for the kubelet, the pod's address.
    let Ok(local) = stream.local_addr().map(|address| address.ip().to_canonical()) else {
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        let (answers, probes) = (&answers, &probes);
        async move {
            let request = request.into_parts().0;
            let answer = match probes {
                Some(probes) if request.uri.path().starts_with(PREFIX) => probes.answer(&request, local).await,
                _ => answers(&request),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // An error is the client's own doing or its going away: nobody here to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closing.draining() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::answer::text;
    use super::*;
    use crate::drain::{Phase, Side};

    async fn open(closing: &Side) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let answers = Arc::new(|request: &Parts| text(StatusCode::OK, request.uri.path()));
        (address, tokio::spawn(serve(listener, answers, closing.watch())))
    }

    /// Asks once over `stream` and reads until the body has come.
    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut received = String::new();
        let mut bytes = [0; 512];
        while !received.ends_with(&format!("{path}\n")) {
            let count = stream.read(&mut bytes).await.expect("read");
            assert!(count > 0, "closed after {received:?}");
            received.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
        }
        received
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_question_and_closed_at_the_end() {
        let closing = Side::new();
        let (address, server) = open(&closing).await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        assert!(ask(&mut stream, "/one").await.starts_with("HTTP/1.1 200"));
        assert!(ask(&mut stream, "/two").await.starts_with("HTTP/1.1 200"));
        closing.rise(Phase::Closing);
        server.await.expect("no panic");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("a clean end"), 0);
        assert_eq!(closing.drained(Duration::from_secs(10)).await, 0);
    }

    #[tokio::test]
    async fn at_the_cap_the_oldest_connection_gives_way() {
        let closing = Side::new();
        let (address, _server) = open(&closing).await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            ask(&mut stream, "/here").await;
            idle.push(stream);
        }
        let mut late = TcpStream::connect(address).await.expect("connected");
        assert!(ask(&mut late, "/late").await.starts_with("HTTP/1.1 200"));
        // The end of the first one is a close or a reset, as the kernel likes.
        assert_eq!(idle[0].read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert!(ask(&mut idle[1], "/still").await.starts_with("HTTP/1.1 200"));
    }
}
