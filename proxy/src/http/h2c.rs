//! A client that upgrades its connection to HTTP/2 (RFC 7540, 3.2) gets it: its first request and all that follow are
//! served as on any HTTP/2 connection. Called by `http1` before a request is served.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::downstream::DownstreamConnection;
use super::http2::serve_http2;
use super::request_path::Proxy;
use crate::codec::{FRAME_HEAD_BYTES, H2cUpgrade, HTTP2_PREFACE, Prefixed, Transport};
use crate::drain::DrainWatch;

const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
/// For the answer to be taken, and for the client's preface and settings to come, which it sends at once.
const START_TIME: Duration = Duration::from_secs(10);

/// Answers and serves until the client closes or, while draining, the requests in flight are answered.
pub async fn serve_h2c<S>(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    asked: H2cUpgrade,
    stream: S,
    read: Bytes,
    drain: Option<DrainWatch>,
) where
    S: Transport + 'static,
{
    let mut stream = Prefixed::new(read, stream);
    // Who says anything else is not answered: it is no HTTP/1 any more, and no HTTP/2 yet.
    let Ok(Some(beginning)) = timeout(START_TIME, begin(&asked, &mut stream)).await else {
        return;
    };
    drop(asked);
    let downstream = DownstreamConnection {
        by_upgrade: true,
        ..downstream
    };
    serve_http2(proxy, downstream, Prefixed::new(beginning, stream), drain).await;
}

/// What the client would have begun with, had it spoken HTTP/2 from the start.
async fn begin(asked: &H2cUpgrade, stream: &mut (impl Transport + 'static)) -> Option<Bytes> {
    stream.write_all(SWITCHING).await.ok()?;
    stream.flush().await.ok()?;
    let mut preface = [0; HTTP2_PREFACE.len()];
    stream.read_exact(&mut preface).await.ok()?;
    let mut head = [0; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await.ok()?;
    let length = asked.settings_length(head).filter(|_| preface == HTTP2_PREFACE)?;
    let mut settings = vec![0; length];
    stream.read_exact(&mut settings).await.ok()?;
    Some(asked.beginning(&settings).freeze())
}
