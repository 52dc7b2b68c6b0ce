//! Listening sockets. Every worker has one of its own on the same address (`SO_REUSEPORT`): the kernel spreads
//! connections over them and no connection is handed between threads.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Length of the accept queue.
const BACKLOG: i32 = 4096;

/// Binds one worker's socket. With port 0 bind the first worker, then the others to the port it got.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    bind_socket(socket, address)
}

/// The same for an IPv6 address that must not take IPv4 connections too: somebody else has those.
pub fn bind_only_v6(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    bind_socket(socket, address)
}

/// Who has vanished without a word is noticed two minutes later, and no connection is kept for them.
pub(super) fn own_keepalive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(6)
}

fn bind_socket(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Accepted sockets inherit it.
    socket.set_tcp_keepalive(&own_keepalive())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;
    use crate::net::connect;

    const LIMIT: Duration = Duration::from_secs(10);

    fn asserts_keepalive(socket: &SockRef<'_>) {
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 6);
    }

    #[tokio::test]
    async fn either_end_of_a_connection_notices_that_the_other_has_vanished() {
        let v4 = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Not every machine has IPv6.
        let v6 = bind_only_v6("[::1]:0".parse().unwrap()).ok();
        for listener in std::iter::once(v4).chain(v6) {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let address = listener.local_addr().unwrap();
            let (ours, accepted) = tokio::join!(connect(address, None, LIMIT, None), listener.accept());
            asserts_keepalive(&SockRef::from(&ours.unwrap()));
            asserts_keepalive(&SockRef::from(&accepted.unwrap().0));
        }
    }
}
