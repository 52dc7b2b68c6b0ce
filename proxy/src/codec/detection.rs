//! What is spoken on a connection whose protocol nobody declared, without ever hanging one on which the server speaks
//! first.
//!
//! The client's first bytes say it. Where none come, the upstream is connected to, and whoever speaks first decides:
//! the upstream, then these are bytes to be passed on; the client, then its bytes say it after all. No byte is lost:
//! what was read comes along, and of the upstream nothing is read here.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_hello::{ClientHello, MaybeHello, parse_client_hello};
use super::spoken::{Spoken, recognise};

/// A client that has not said anything by then may wait for the server.
pub const SILENCE: Duration = Duration::from_millis(100);
/// For the rest of what may become a request, from its first byte; behind that it is passed on as it is.
const UNDECIDED_TIME: Duration = Duration::from_secs(1);
/// For the first bytes, which are most often a whole request.
const FIRST_READ_BYTES: usize = 1024;

/// For the rest of a TLS client's hello, where nothing else is expected.
const HELLO_TIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum Detected<U, E> {
    Spoken {
        spoken: Spoken,
        /// Of the client.
        read: Bytes,
        /// Where it was connected to already. Nothing was sent.
        upstream: Option<U>,
    },
    /// The client waited for a server that cannot be connected to.
    Failed(E),
    /// The client has aborted the connection; so must whoever was connected to.
    Aborted { upstream: Option<U> },
    /// Nobody said anything until it was time to leave.
    Left,
}

/// Whoever may speak first.
pub trait Speaker {
    /// Ready when there is something to read, an end or an error too. What there is stays there for whoever reads.
    fn poll_speaks(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

impl Speaker for TcpStream {
    fn poll_speaks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_read_ready(cx).map(|_| ())
    }
}

/// Detects. `open` connects to where bytes would go; `leaving`: a connection on which nobody has said anything ends.
pub async fn detect<U, E>(
    client: &mut (impl AsyncRead + Unpin),
    open: impl Future<Output = Result<U, E>>,
    leaving: impl Future<Output = ()>,
) -> Detected<U, E>
where
    U: Speaker,
{
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    match timeout(SILENCE, decide(client, &mut read)).await {
        Ok(decided) => return told(decided, read, None),
        Err(_) if !read.is_empty() => return told(decide(client, &mut read).await, read, None),
        Err(_) => {}
    }
    let (mut open, mut leaving) = (pin!(open), pin!(leaving));
    let opened = tokio::select! {
        biased;
        decided = decide(client, &mut read) => match decided {
            // Who is just being connected to must hear of an abort, too.
            Err(_) => return Detected::Aborted { upstream: open.await.ok() },
            decided => return told(decided, read, None),
        },
        opened = &mut open => opened,
        () = &mut leaving => return Detected::Left,
    };
    let mut upstream = match opened {
        Ok(upstream) => upstream,
        Err(error) => return Detected::Failed(error),
    };
    let decided = tokio::select! {
        biased;
        decided = decide(client, &mut read) => decided,
        () = poll_fn(|cx| upstream.poll_speaks(cx)) => Ok(Spoken::Bytes),
        () = &mut leaving => return Detected::Left,
    };
    told(decided, read, Some(upstream))
}

fn told<U, E>(decided: io::Result<Spoken>, read: BytesMut, upstream: Option<U>) -> Detected<U, E> {
    match decided {
        Ok(spoken) => Detected::Spoken {
            spoken,
            read: read.freeze(),
            upstream,
        },
        Err(_) => Detected::Aborted { upstream },
    }
}

/// Reads until it is certain, or has taken too long. An end is passed on like bytes. Dropping it loses nothing.
async fn decide(client: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> io::Result<Spoken> {
    if read.is_empty() && client.read_buf(read).await? == 0 {
        return Ok(Spoken::Bytes);
    }
    if let Some(spoken) = recognise(read) {
        return Ok(spoken);
    }
    let rest = async {
        loop {
            if client.read_buf(read).await? == 0 {
                return Ok(Spoken::Bytes);
            }
            if let Some(spoken) = recognise(read) {
                return Ok(spoken);
            }
        }
    };
    timeout(UNDECIDED_TIME, rest).await.unwrap_or(Ok(Spoken::Bytes))
}

/// Reads what a TLS client says first, until it is whole; `None`: it says something else, or does not finish. What is read
/// is in `read`, in which there may be something already.
pub async fn read_client_hello(client: &mut (impl AsyncRead + Unpin), read: &mut BytesMut) -> Option<ClientHello> {
    let whole = async {
        loop {
            match parse_client_hello(read) {
                MaybeHello::Whole(hello) => return Some(hello),
                MaybeHello::Partial if client.read_buf(read).await.is_ok_and(|count| count > 0) => {}
                MaybeHello::Partial | MaybeHello::Not => return None,
            }
        }
    };
    timeout(HELLO_TIME, whole).await.ok().flatten()
}

#[cfg(test)]
#[path = "detection_tests.rs"]
mod tests;
