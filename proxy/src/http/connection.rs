//! One downstream connection: HTTP/1 or HTTP/2, as its first bytes say, until it ends or is drained.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::request_path::{Downstream, Proxy, serve};
use crate::drain::DrainWatch;
use crate::net::{HeadWatch, Prefixed, RawHead};
use crate::telemetry::Flags;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// For the first head of a connection, from its first byte.
const FIRST_HEAD_TIME: Duration = Duration::from_secs(60);
const MAX_CONCURRENT_STREAMS: u32 = 1000;
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Serves until the client closes or, while draining, the requests in flight are answered.
pub async fn serve_connection<S>(proxy: &Arc<Proxy>, downstream: Downstream, mut stream: S, drain: Option<DrainWatch>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let read = tokio::select! {
        biased;
        read = read_preface(&mut stream) => read,
        // It has not said anything yet, so nothing is lost.
        () = draining(drain.clone()) => return,
    };
    let Ok((preface, prefix)) = read else { return };
    if prefix.is_empty() {
        return;
    }
    let stream = Prefixed::new(prefix, stream);
    let ended = if preface {
        serve_http2(proxy, downstream, stream, drain).await
    } else {
        serve_http1(proxy, downstream, stream, drain).await
    };
    if let Err(error) = ended {
        count_refused(proxy, &error);
        tracing::debug!(%error, "downstream connection ended");
    }
}

/// A request that could not even be parsed was answered below us: it is counted all the same.
fn count_refused(proxy: &Proxy, error: &hyper::Error) {
    if error.is_parse() {
        let status = if error.is_parse_too_large() { 431 } else { 400 };
        proxy
            .unrouted
            .record(&Method::default(), status, Flags::DPE, Duration::ZERO);
    }
}

async fn serve_http1<S>(
    proxy: &Arc<Proxy>,
    downstream: Downstream,
    stream: Prefixed<S>,
    drain: Option<DrainWatch>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stream, head) = HeadWatch::new(stream);
    let service = service_fn(|request: Request<Incoming>| {
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let ambiguous = head.is_ambiguous(chunked, !request.body().is_end_stream());
        respond(proxy, downstream, request, ambiguous)
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .max_header_size(MAX_HEAD_BYTES)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = stalled(&head) => return Ok(()),
        () = draining(drain) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn serve_http2<S>(
    proxy: &Arc<Proxy>,
    downstream: Downstream,
    stream: Prefixed<S>,
    drain: Option<DrainWatch>,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let proxy = Arc::clone(proxy);
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { respond(&proxy, downstream, request, false).await }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = draining(drain) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn respond(
    proxy: &Arc<Proxy>,
    downstream: Downstream,
    request: Request<Incoming>,
    ambiguous: bool,
) -> Result<http::Response<super::ResponseBody>, Infallible> {
    Ok(serve(proxy, &downstream, request, ambiguous).await)
}

/// Returns when the client has begun a request and does not come to the end of its head.
async fn stalled(head: &RawHead) {
    tokio::time::sleep(FIRST_HEAD_TIME).await;
    if head.has_arrived() {
        std::future::pending().await
    }
}

async fn draining(drain: Option<DrainWatch>) {
    match drain {
        Some(mut drain) => drain.draining().await,
        None => std::future::pending().await,
    }
}

/// Reads until it is certain whether the client starts with HTTP/2's preface. What was read comes along.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(bool, Bytes)> {
    let mut read = BytesMut::with_capacity(HTTP2_PREFACE.len());
    loop {
        let known = read.len().min(HTTP2_PREFACE.len());
        if read[..known] != HTTP2_PREFACE[..known] {
            return Ok((false, read.freeze()));
        }
        if known == HTTP2_PREFACE.len() {
            return Ok((true, read.freeze()));
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok((false, read.freeze()));
        }
    }
}

/// Do the first bytes look like an HTTP request? What was read comes along.
pub(super) async fn starts_like_http(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(bool, Bytes)> {
    let mut read = BytesMut::with_capacity(32);
    stream.read_buf(&mut read).await?;
    let http = read.first().is_some_and(u8::is_ascii_uppercase)
        && read
            .iter()
            .take_while(|byte| **byte != b' ')
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    Ok((http, read.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn a_first_head_that_never_ends_is_given_up_and_a_connection_that_had_a_request_is_not() {
        let (_client, server) = tokio::io::duplex(64);
        let (_stream, head) = HeadWatch::new(server);
        assert!(timeout(FIRST_HEAD_TIME * 2, stalled(&head)).await.is_ok());
        head.is_ambiguous(false, false);
        assert!(timeout(FIRST_HEAD_TIME * 2, stalled(&head)).await.is_err());
    }

    #[tokio::test]
    async fn the_preface_decides_between_http_1_and_http_2_and_nothing_is_lost() {
        for (sent, http2) in [
            (&b"GET / HTTP/1.1\r\n"[..], false),
            (HTTP2_PREFACE, true),
            (b"PRI * HTTP/2.0\r\nx", false),
        ] {
            let mut stream = sent;
            let (found, read) = read_preface(&mut stream).await.unwrap();
            assert_eq!((found, &*[&read[..], stream].concat()), (http2, sent));
        }
    }
}
