//! The PROXY protocol: what is said first on a connection, before TLS too, of whose bytes it carries.
//!
//! HAProxy's "The PROXY protocol", versions 1 and 2 (proxy-protocol.txt). A connection that nobody's bytes are known for
//! says so: UNKNOWN, or LOCAL. One that says whose they are carries nobody else's: a pool finds it again only for them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tsunagi_proto::model::ProxyProtocol;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_LOCAL: u8 = 0x20;
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNSPECIFIED: u8 = 0;

/// Between whom the client's connection is, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddresses {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

/// Of one family: two IPv4 addresses, or else two of IPv6.
fn families(addresses: ClientAddresses) -> (IpAddr, IpAddr) {
    let plain = |address: SocketAddr| address.ip().to_canonical();
    let wide = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    match (plain(addresses.source), plain(addresses.destination)) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination),
        (source, destination) => (IpAddr::V6(wide(source)), IpAddr::V6(wide(destination))),
    }
}

/// `None`: nobody knows whose they are.
pub(super) fn header(version: ProxyProtocol, addresses: Option<ClientAddresses>) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => version_1(addresses).into_bytes(),
        ProxyProtocol::V2 => version_2(addresses),
    }
}

fn version_1(addresses: Option<ClientAddresses>) -> String {
    let Some(addresses) = addresses else {
        return "PROXY UNKNOWN\r\n".to_owned();
    };
    let (source, destination) = families(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (addresses.source.port(), addresses.destination.port());
    format!("PROXY {family} {source} {destination} {from} {to}\r\n")
}

fn version_2(addresses: Option<ClientAddresses>) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    let Some(addresses) = addresses else {
        header.extend_from_slice(&[VERSION_2_LOCAL, UNSPECIFIED, 0, 0]);
        return header;
    };
    let mut body = Vec::with_capacity(2 * size_of::<Ipv6Addr>() + 4);
    let (source, destination) = families(addresses);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => body.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => body.extend_from_slice(&address.octets()),
        }
    }
    for port in [addresses.source.port(), addresses.destination.port()] {
        body.extend_from_slice(&port.to_be_bytes());
    }
    let family = if source.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 };
    header.extend_from_slice(&[VERSION_2_PROXY, family, 0, u8::try_from(body.len()).unwrap_or_default()]);
    header.extend_from_slice(&body);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(source: &str, destination: &str) -> Option<ClientAddresses> {
        Some(ClientAddresses {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        })
    }

    fn text(addresses: Option<ClientAddresses>) -> String {
        String::from_utf8(header(ProxyProtocol::V1, addresses)).unwrap()
    }

    #[test]
    fn version_1_is_a_line() {
        assert_eq!(
            text(addresses("192.0.2.1:40000", "198.51.100.7:443")),
            "PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n"
        );
        assert_eq!(
            text(addresses("[2001:db8::1]:1", "[2001:db8::2]:2")),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"
        );
        assert_eq!(text(None), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn ipv4_in_the_clothes_of_ipv6_is_ipv4_and_two_families_become_one() {
        assert_eq!(
            text(addresses("[::ffff:192.0.2.1]:1", "198.51.100.7:2")),
            "PROXY TCP4 192.0.2.1 198.51.100.7 1 2\r\n"
        );
        assert_eq!(
            text(addresses("192.0.2.1:1", "[2001:db8::2]:2")),
            "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n"
        );
    }

    #[test]
    fn version_2_is_binary() {
        let expected = [
            &SIGNATURE[..],
            &[0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 0x9c, 0x40, 1, 187],
        ];
        assert_eq!(
            header(ProxyProtocol::V2, addresses("192.0.2.1:40000", "198.51.100.7:443")),
            expected.concat()
        );
        let wide = header(ProxyProtocol::V2, addresses("[2001:db8::1]:1", "[2001:db8::2]:2"));
        assert_eq!((wide.len(), &wide[12..16]), (16 + 36, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(
            header(ProxyProtocol::V2, None),
            [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat()
        );
    }
}
