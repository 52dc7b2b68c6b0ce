//! Serving one TCP connection: connect to where it goes, pass bytes both ways, record how it ended. `listener` calls it for
//! what is no HTTP.

mod recorded;
mod target;

pub use target::{Failed, Target, Upstream};

use std::mem;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::codec::{ClientHello, Ending, Passed, Transport, Unfinished, may_be_client_hello, pass};
use crate::telemetry::{AccessLog, Direction, Flags};
use recorded::Recorded;

/// A fatal alert of TLS (RFC 6066, 3).
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

/// A connection that is to be passed on.
#[derive(Debug)]
pub struct TcpConnection {
    recorded: Recorded,
    access_log: AccessLog,
    target: Target,
}

/// A connection that is passed on, until its line is written: one that is cut off has its line, too.
struct Unlogged<'c> {
    connection: &'c TcpConnection,
    upstream: Option<SocketAddr>,
    attempts: u32,
    logged: bool,
}

impl Unlogged<'_> {
    fn log(&self, flags: Flags, details: &str, passed: &Passed) {
        self.connection
            .log(flags, details, self.upstream, self.attempts, passed);
    }
}

impl Drop for Unlogged<'_> {
    fn drop(&mut self) {
        if !self.logged {
            self.log(Flags::DC, "drain_time_over", &Passed::default());
        }
    }
}

impl TcpConnection {
    pub fn new(
        direction: Direction,
        remote: Option<SocketAddr>,
        worker: usize,
        access_log: &AccessLog,
        target: Target,
    ) -> Self {
        Self {
            recorded: Recorded::begin(direction, remote, worker),
            access_log: access_log.clone(),
            target,
        }
    }

    /// What the client has said, if it speaks TLS.
    pub fn saying(mut self, hello: Option<&ClientHello>) -> Self {
        self.recorded.server_name = hello.and_then(|hello| hello.server_name.clone());
        self
    }

    /// A connection to where it goes. Dropping the future closes the half-open socket.
    pub async fn open(&self) -> Result<Upstream, Failed> {
        let Recorded { remote, worker, .. } = self.recorded;
        self.target.open(remote, usize::from(worker)).await
    }

    /// Serves until both sides are done, or one aborts. `read` is what was read from the client already, `upstream` a
    /// connection that stands already. Dropping the future aborts both connections.
    pub async fn serve(self, mut stream: TcpStream, read: Bytes, upstream: Option<Upstream>) {
        let upstream = match upstream {
            Some(upstream) => Ok(upstream),
            // Boxed: it is over long before the connection is.
            None => {
                let waiting = Unfinished(&mut stream);
                let opened = Box::pin(self.open()).await;
                mem::forget(waiting);
                opened
            }
        };
        let mut upstream = match upstream {
            Ok(upstream) => upstream,
            Err(failed) if failed.flags == Flags::NR && may_be_client_hello(&read) => {
                return Box::pin(self.refuse_name(stream, failed)).await;
            }
            Err(failed) => return self.refuse(stream, failed),
        };
        let lifetime = upstream.lifetime();
        let series = self.target.series();
        // Boxed: every connection's state would be larger by it.
        let mut unlogged = Box::new(Unlogged {
            connection: &self,
            upstream: upstream.peer(),
            attempts: upstream.attempts(),
            logged: false,
        });
        let (passed, ending) = pass(&mut stream, upstream.stream(), read, lifetime, series).await;
        upstream.observe_end(passed.sent > 0, ending == Ending::UpstreamReset);
        unlogged.log(ending.flags(), "", &passed);
        unlogged.logged = true;
    }

    /// The client aborted the connection before a byte was passed: so is the one that stands for it, if any.
    pub fn abort(&self, upstream: Option<Upstream>) {
        let Some(mut upstream) = upstream else { return };
        upstream.stream().reset_when_dropped();
        self.target.series().record(Flags::DC);
        self.log(Flags::DC, "", upstream.peer(), upstream.attempts(), &Passed::default());
    }

    /// Nobody is there: the client sees that the connection is reset, as it would without a proxy.
    pub fn refuse(&self, stream: TcpStream, failed: Failed) {
        stream.reset_when_dropped();
        self.record(&failed);
    }

    /// Nobody has the name that a TLS client asks for, whose hello was read: it is told so.
    async fn refuse_name(&self, mut stream: TcpStream, failed: Failed) {
        self.record(&failed);
        if let Err(error) = stream.write_all(UNRECOGNIZED_NAME).await {
            tracing::debug!(%error, "the client left before it was refused");
        }
    }

    fn record(&self, failed: &Failed) {
        self.target.series().record(failed.flags);
        self.log(
            failed.flags,
            &failed.details,
            failed.upstream,
            failed.attempts,
            &Passed::default(),
        );
    }

    fn log(&self, flags: Flags, details: &str, upstream: Option<SocketAddr>, attempts: u32, passed: &Passed) {
        self.recorded.log(
            &self.access_log,
            &self.target,
            recorded::End {
                flags,
                details,
                upstream,
                attempts,
                passed,
            },
        );
    }
}
