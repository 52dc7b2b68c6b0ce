//! Opening a connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Refused(#[from] io::Error),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("the endpoint does not speak HTTP/2")]
    NotHttp2,
    #[error("the endpoint allows no HTTP/2 streams")]
    NoStreams,
    #[error("the handshake failed: {0}")]
    Handshake(#[from] h2::Error),
}

impl ConnectError {
    /// It failed for want of something of this process: it says nothing about the endpoint.
    pub fn is_local(&self) -> bool {
        // EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL: descriptors, memory or ports have run out.
        matches!(self, Self::Refused(error) if matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105 | 99)))
    }
}

/// Connects within `timeout`. Dropping the future closes the socket.
pub async fn connect(address: SocketAddr, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
        .await
        .map_err(|_| ConnectError::TimedOut(timeout))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
