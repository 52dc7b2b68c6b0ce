//! The address ::6/128 on `lo`, from which the inbound path reaches an application over IPv6 (127.0.0.6 needs nothing: all
//! of 127.0.0.0/8 is on `lo`). Spoken to the kernel directly (rtnetlink(7)), so that no image needs the tool `ip`.

use std::io::{self, Read};

use socket2::{Domain, Protocol, Socket, Type};

use super::error::RedirectError;

const ADDRESS: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
/// `lo` is the first interface of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// How /proc/net/if_inet6 shows it: address, interface, prefix length in hexadecimal.
const AS_LISTED: &str = "00000000000000000000000000000006 01 80";

const AF_INET6: u8 = 10;
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
const NLMSG_ERROR: u16 = 2;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
/// NLM_F_REQUEST | NLM_F_ACK
const REQUEST: u16 = 0x0005;
/// NLM_F_CREATE | NLM_F_EXCL
const CREATE: u16 = 0x0600;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const EEXIST: i32 = 17;
const EADDRNOTAVAIL: i32 = 99;

/// Whether this network namespace has IPv6: not where the kernel was built or started without, or it is switched off.
pub(super) fn namespace_has_ipv6() -> bool {
    let off = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    std::fs::exists("/proc/net/if_inet6").unwrap_or(false) && !off.is_ok_and(|text| text.trim() == "1")
}

/// Whether anybody could reach this namespace over IPv6: an address that is neither of `lo` nor link-local.
pub(super) fn namespace_is_reachable_over_ipv6() -> bool {
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses
        .lines()
        .any(|line| line.split_whitespace().nth(3) == Some("00") && !line.ends_with(" lo"))
}

pub(super) fn is_there() -> bool {
    let addresses = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses.lines().any(|line| line.starts_with(AS_LISTED))
}

/// True if it was not there before.
pub(super) fn add() -> Result<bool, RedirectError> {
    match ask(RTM_NEWADDR, REQUEST | CREATE).map_err(RedirectError::Address)? {
        0 => Ok(true),
        EEXIST => Ok(false),
        code => Err(RedirectError::Address(io::Error::from_raw_os_error(code))),
    }
}

/// Gone afterwards, whether it was there or not.
pub(super) fn remove() -> Result<(), RedirectError> {
    match ask(RTM_DELADDR, REQUEST).map_err(RedirectError::Address)? {
        0 | EADDRNOTAVAIL => Ok(()),
        code => Err(RedirectError::Address(io::Error::from_raw_os_error(code))),
    }
}

/// The kernel's answer: 0 or an error's number.
fn ask(kind: u16, flags: u16) -> io::Result<i32> {
    let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)))?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    socket.send(&message(kind, flags))?;
    let mut answer = [0; 1024];
    let length = socket.read(&mut answer)?;
    let field = |range: std::ops::Range<usize>| answer.get(..length).and_then(|bytes| bytes.get(range));
    match (field(4..6), field(16..20)) {
        (Some(&[a, b]), Some(&[c, d, e, f])) if u16::from_ne_bytes([a, b]) == NLMSG_ERROR => {
            Ok(i32::from_ne_bytes([c, d, e, f]).saturating_neg())
        }
        _ => Err(io::Error::other("the kernel did not answer")),
    }
}

fn message(kind: u16, flags: u16) -> Vec<u8> {
    let mut body = vec![AF_INET6, 128, 0, 0];
    body.extend(LOOPBACK_INDEX.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        body.extend(20_u16.to_ne_bytes());
        body.extend(attribute.to_ne_bytes());
        body.extend(ADDRESS);
    }
    let length = (16 + body.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // Sequence number and sender: one question, one answer on a socket of its own.
    message.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    message
}
