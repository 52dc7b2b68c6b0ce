//! Where a connection was headed before the packet filter redirected it here, as connection tracking remembers it.
//!
//! Linux: `getsockopt` with `SO_ORIGINAL_DST` (`net/netfilter/nf_conntrack_proto.c`), `IP6T_SO_ORIGINAL_DST` for IPv6.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::SockRef;
use tokio::net::TcpStream;

/// `None`: the connection was not redirected.
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = canonical(stream.local_addr().ok()?);
    let socket = SockRef::from(stream);
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    // An error: connection tracking does not know the connection, or there is none.
    let original = canonical(original.ok()?.as_socket()?);
    (original != local).then_some(original)
}

/// Port of this process's outbound listener; 0: there is none.
static OUTBOUND_PORT: AtomicU16 = AtomicU16::new(0);

/// Says where the outbound listener is, once it listens.
pub fn set_outbound_port(port: u16) {
    OUTBOUND_PORT.store(port, Ordering::Relaxed);
}

/// Would this process's outbound listener be called there, by this process itself?
pub fn is_outbound_listener(address: SocketAddr) -> bool {
    address.port() == OUTBOUND_PORT.load(Ordering::Relaxed) && is_own_address(address.ip())
}

/// Is it an address of this machine, or of this network namespace?
pub fn is_own_address(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

/// IPv4 in IPv6's clothes is IPv4; scope and flow tell no destinations apart.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_nobody_redirected_has_no_original_destination() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            let Ok(listener) = TcpListener::bind(address).await else {
                continue;
            };
            let to = listener.local_addr().expect("bound");
            let (client, accepted) = tokio::join!(TcpStream::connect(to), listener.accept());
            let (_client, (accepted, _)) = (client.expect("connected"), accepted.expect("accepted"));
            assert_eq!(original_destination(&accepted), None);
        }
    }

    #[test]
    fn an_address_of_this_machine_is_told_from_one_elsewhere() {
        assert!(is_own_address(IpAddr::from([127, 0, 0, 9])));
        // Reserved for documentation.
        assert!(!is_own_address(IpAddr::from([192, 0, 2, 1])));
    }
}
