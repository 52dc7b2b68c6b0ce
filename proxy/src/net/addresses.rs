//! Which addresses this machine (in a pod: the pod) has. The control plane finds a proxy's own endpoints by them.
//!
//! Called by `app` at the start. Read from the kernel's own tables: `/proc/net/fib_trie` names each local IPv4 address on
//! a line of its own and says on the next that it is one (`/32 host LOCAL`), `/proc/net/if_inet6` has a line for each
//! IPv6 address.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Far more than a pod has; a bound on what a strange machine makes every proxy say.
const MOST: usize = 64;
/// Of each table.
const LARGEST_TABLE_BYTES: u64 = 4 << 20;

/// Without loopback and link-local ones, which many machines have alike; sorted, at most 64.
pub fn instance_ips() -> Vec<IpAddr> {
    let table = |path: &str| {
        read(Path::new(path)).unwrap_or_else(|error| {
            // A machine without IPv6 has no such table.
            tracing::debug!(path, %error, "no addresses from this table");
            String::new()
        })
    };
    let v4 = local_v4(&table("/proc/net/fib_trie"));
    let v6 = local_v6(&table("/proc/net/if_inet6"));
    chosen(v4.into_iter().map(IpAddr::V4).chain(v6.into_iter().map(IpAddr::V6)))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST_TABLE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

fn chosen(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let of_this_machine_alone = |address: &IpAddr| match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    };
    let mut chosen: Vec<IpAddr> = addresses.filter(of_this_machine_alone).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen.truncate(MOST);
    chosen
}

fn local_v4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found = Vec::new();
    for line in fib_trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.starts_with("/32 host LOCAL") {
            found.extend(last);
        }
    }
    found
}

fn local_v6(if_inet6: &str) -> Vec<Ipv6Addr> {
    let address = |line: &str| {
        let digits = line.split_whitespace().next()?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    };
    if_inet6.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 10.1.2.0/24 2 0 2
        |-- 10.1.2.0
           /24 link UNICAST
        |-- 10.1.2.7
           /32 host LOCAL
        |-- 10.1.2.255
           /32 link BROADCAST
        |-- 169.254.20.10
           /32 host LOCAL
Local:
        |-- 10.1.2.7
           /32 host LOCAL
";
    const IF_INET6: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fd000000000000000000000000000002 04 40 00 82     eth0
";

    #[test]
    fn the_addresses_are_the_pods_own_each_once() {
        let v4 = local_v4(FIB_TRIE).into_iter().map(IpAddr::V4);
        let found = chosen(v4.chain(local_v6(IF_INET6).into_iter().map(IpAddr::V6)));
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.1.2.7", "fd00::2"]);
    }

    #[test]
    fn there_are_never_more_than_the_bound() {
        let many = (0..1000).map(|number| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)));
        assert_eq!(chosen(many).len(), MOST);
    }

    #[test]
    fn this_machine_has_no_loopback_address_in_its_list() {
        assert!(instance_ips().iter().all(|address| !address.is_loopback()));
    }
}
