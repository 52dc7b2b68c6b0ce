//! Opening a connection to an endpoint, where need be from a source address of one's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tsunagi_proto::model::TcpKeepalive;

use super::is_outbound_listener;
use super::listen::own_keepalive;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0}")]
    Refused(#[from] io::Error),
    /// Without it the packet filter would send the connection back to this proxy.
    #[error("the source address {address} cannot be used: {error}")]
    Source { address: IpAddr, error: io::Error },
    /// It would come back as a request to the same endpoint, until there are no descriptors left.
    #[error("the endpoint {0} is this proxy's own outbound listener")]
    OwnListener(SocketAddr),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// `local`: for want of this proxy's files.
    #[error("{reason}")]
    Tls { reason: String, local: bool },
    #[error("the endpoint does not speak HTTP/2")]
    NotHttp2,
    #[error("the endpoint has not answered an HTTP/2 PING within {0:?} (http2KeepAlive)")]
    NoPong(Duration),
    #[error("the endpoint allows no HTTP/2 streams")]
    NoStreams,
    #[error("the handshake failed: {0}")]
    Handshake(#[from] h2::Error),
}

impl ConnectError {
    /// It failed for want of something of this process: it says nothing about the endpoint.
    pub fn is_local(&self) -> bool {
        // EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL: descriptors, memory or ports have run out.
        match self {
            Self::Refused(error) => matches!(error.raw_os_error(), Some(24 | 23 | 12 | 105 | 99)),
            Self::Source { .. } => true,
            Self::Tls { local, .. } => *local,
            _ => false,
        }
    }
}

/// Connects within `timeout`, from `source` or not at all where one is given. Dropping the future closes the socket.
pub async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
    keepalive: Option<TcpKeepalive>,
) -> Result<TcpStream, ConnectError> {
    if is_outbound_listener(address) {
        tell_of_loop_once(address);
        return Err(ConnectError::OwnListener(address));
    }
    let socket = match source {
        Some(source) => Some(bound_to(source)?),
        None => None,
    };
    let opening = async {
        match socket {
            Some(socket) => socket.connect(address).await,
            None => TcpStream::connect(address).await,
        }
    };
    let stream = tokio::time::timeout(timeout, opening)
        .await
        .map_err(|_| ConnectError::TimedOut(timeout))??;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive.map_or_else(own_keepalive, told_keepalive))?;
    Ok(stream)
}

/// What is not said is the system's. The kernel counts whole seconds and takes no more than these (`tcp(7)`).
fn told_keepalive(told: TcpKeepalive) -> socket2::TcpKeepalive {
    const SECONDS: RangeInclusive<u64> = 1..=32_767;
    const PROBES: RangeInclusive<u32> = 1..=127;
    let whole = |time: Duration| {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        Duration::from_secs(seconds.clamp(*SECONDS.start(), *SECONDS.end()))
    };
    let mut keepalive = socket2::TcpKeepalive::new();
    if let Some(time) = told.time {
        keepalive = keepalive.with_time(whole(time));
    }
    if let Some(interval) = told.interval {
        keepalive = keepalive.with_interval(whole(interval));
    }
    if let Some(probes) = told.probes {
        keepalive = keepalive.with_retries(probes.clamp(*PROBES.start(), *PROBES.end()));
    }
    keepalive
}

/// The port is chosen when it connects: one that another connection from there has, or had a minute ago, will do as long as
/// it leads elsewhere or is over.
fn bound_to(source: IpAddr) -> Result<TcpSocket, ConnectError> {
    let socket = if source.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    setsockopt(&socket, IpBindAddressNoPort, &true).map_err(io::Error::from)?;
    let bound = socket.bind(SocketAddr::new(source, 0));
    bound.map(|()| socket).map_err(|error| {
        tell_once(source, &error);
        ConnectError::Source { address: source, error }
    })
}

/// Once, because every request would say it.
fn tell_of_loop_once(address: SocketAddr) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        tracing::error!(%address, "an endpoint is this proxy's own outbound listener: it is not connected to");
    }
}

/// An operator reads what to do; once, because every request would say it.
fn tell_once(source: IpAddr, error: &io::Error) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if !TOLD.swap(true, Ordering::Relaxed) {
        tracing::error!(
            %error,
            "the application cannot be reached from {source}: is the address on lo? (ip address add {source} dev lo)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn the_endpoint_sees_the_source_address_that_was_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let source = IpAddr::from([127, 0, 0, 6]);
        let stream = connect(address, Some(source), LIMIT, None).await.unwrap();
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!((from.ip(), stream.peer_addr().unwrap()), (source, address));
    }

    #[tokio::test]
    async fn two_connections_to_different_endpoints_may_have_one_port() {
        let source = IpAddr::from([127, 0, 0, 6]);
        let socket = bound_to(source).unwrap();
        assert_eq!(
            socket.local_addr().unwrap(),
            SocketAddr::new(source, 0),
            "none is taken yet"
        );
    }

    #[tokio::test]
    async fn without_its_source_address_no_connection_is_made() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // TEST-NET-1: on no machine.
        let missing = IpAddr::from([192, 0, 2, 6]);
        let error = connect(address, Some(missing), LIMIT, None).await.unwrap_err();
        assert!(matches!(error, ConnectError::Source { .. }), "{error}");
        assert!(error.is_local() && error.to_string().contains("192.0.2.6"), "{error}");
        let accepted = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_ready())).await;
        assert!(!accepted);
    }

    #[tokio::test]
    async fn keepalive_is_on_the_socket_as_it_was_told_and_within_what_the_kernel_takes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seconds = Duration::from_secs;
        let system = SockRef::from(&TcpStream::connect(address).await.unwrap())
            .tcp_keepalive_time()
            .unwrap();
        let cases = [
            (
                (Some(3), Some(seconds(40)), Some(seconds(5))),
                (3, seconds(40), seconds(5)),
            ),
            (
                (Some(u32::MAX), Some(Duration::MAX), Some(Duration::from_millis(1))),
                (127, seconds(32_767), seconds(1)),
            ),
        ];
        for ((probes, time, interval), expected) in cases {
            let told = TcpKeepalive { probes, time, interval };
            let stream = connect(address, None, LIMIT, Some(told)).await.unwrap();
            let socket = SockRef::from(&stream);
            let found = (
                socket.tcp_keepalive_retries().unwrap(),
                socket.tcp_keepalive_time().unwrap(),
                socket.tcp_keepalive_interval().unwrap(),
            );
            assert_eq!((socket.keepalive().unwrap(), found), (true, expected));
        }
        let stream = connect(address, None, LIMIT, Some(TcpKeepalive::default()))
            .await
            .unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(
            (socket.keepalive().unwrap(), socket.tcp_keepalive_time().unwrap()),
            (true, system)
        );
    }
}
