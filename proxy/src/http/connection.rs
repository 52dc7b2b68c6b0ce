//! One downstream connection: HTTP/1 or HTTP/2, as its first bytes say, until it ends or is drained.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::downstream::DownstreamConnection;
use super::http1::serve_http1;
use super::http2::serve_http2;
use super::request_path::Proxy;
use crate::codec::{HTTP2_PREFACE, Prefixed, Transport};
use crate::drain::DrainWatch;

/// For the rest of a preface, from its first byte.
const PREFACE_TIME: Duration = Duration::from_secs(10);
/// For the first bytes, which are most often a whole request.
const FIRST_READ_BYTES: usize = 1024;

/// Serves until the client closes or, while draining, the requests in flight are answered.
pub async fn serve_connection<S>(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    mut stream: S,
    drain: Option<DrainWatch>,
) where
    S: Transport + 'static,
{
    let Some((http2, read)) = read_start(&mut stream, drain.as_ref()).await else {
        return;
    };
    serve_recognised(proxy, downstream, stream, read, http2, drain).await;
}

/// What a client says first: whether it is HTTP/2, and what was read to know that. `None`: it has gone, or it is time to
/// leave and it has said nothing.
pub async fn read_start(stream: &mut (impl AsyncRead + Unpin), drain: Option<&DrainWatch>) -> Option<(bool, Bytes)> {
    let silent = drain.map(DrainWatch::silent);
    let read = tokio::select! {
        biased;
        read = read_preface(stream) => read,
        // It has not said anything yet, so nothing is lost.
        () = last_moment(drain.cloned()) => return None,
    };
    drop(silent);
    read.ok().filter(|(_, read)| !read.is_empty())
}

/// As `serve_connection`, when `read` has said already whether it is HTTP/2.
pub async fn serve_recognised<S>(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    stream: S,
    read: Bytes,
    http2: bool,
    drain: Option<DrainWatch>,
) where
    S: Transport + 'static,
{
    if http2 {
        // Boxed: it is much larger than what an HTTP/1 connection needs.
        Box::pin(serve_http2(proxy, downstream, Prefixed::new(read, stream), drain)).await;
    } else {
        serve_http1(proxy, downstream, stream, &read, drain).await;
    }
}

pub(super) async fn draining(drain: Option<DrainWatch>) {
    match drain {
        Some(mut drain) => drain.draining().await,
        None => pending().await,
    }
}

/// Until what has not ended is cut off.
pub(super) async fn over(drain: Option<DrainWatch>) {
    match drain {
        Some(mut drain) => drain.over().await,
        None => pending().await,
    }
}

/// Until there is no more time to say the first word.
async fn last_moment(drain: Option<DrainWatch>) {
    match drain {
        Some(mut drain) => drain.last_moment().await,
        None => pending().await,
    }
}

/// Reads until it is certain whether the client starts with HTTP/2's preface. What was read comes along. Once it has begun
/// to say what it speaks, that must not take for ever.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(bool, Bytes)> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    let first = stream.read_buf(&mut read).await?;
    if first == 0 || is_preface(&read).is_some() {
        return Ok((is_preface(&read) == Some(true), read.freeze()));
    }
    let rest = async {
        while is_preface(&read).is_none() && stream.read_buf(&mut read).await? > 0 {}
        Ok((is_preface(&read) == Some(true), read.freeze()))
    };
    Box::pin(timeout(PREFACE_TIME, rest)).await?
}

/// `None`: it may still become one.
fn is_preface(read: &[u8]) -> Option<bool> {
    let known = read.len().min(HTTP2_PREFACE.len());
    if read[..known] != HTTP2_PREFACE[..known] {
        Some(false)
    } else {
        (known == HTTP2_PREFACE.len()).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
