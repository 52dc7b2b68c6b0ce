//! The command line of `tsunagi-proxy redirect`: which connections of a pod go through the sidecar. Every flag is also an
//! environment variable: `--proxy-uid` is `TSUNAGI_REDIRECT_PROXY_UID`.
//!
//! Names and meaning follow Istio's `istio-iptables`; a value that it would ignore is refused here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

/// More entries than anybody writes by hand, few enough for a packet filter that looks at them one by one.
const MOST_ENTRIES: usize = 500;

#[derive(Debug, Clone, Subcommand)]
pub enum RedirectCommand {
    /// Sends the traffic of this network namespace through the sidecar; replaces what an earlier install wrote.
    Install(RedirectOptions),
    /// Takes away what install wrote, and nothing else.
    Remove(RemoveOptions),
    /// Shows what install would do, and does nothing; needs no privileges.
    Print(RedirectOptions),
}

#[derive(Debug, Clone, Args)]
pub struct RemoveOptions {
    /// Whose rules to remove; auto: of every tool that is here
    #[arg(long, env = "TSUNAGI_REDIRECT_BACKEND", value_name = "TOOL", default_value = "auto")]
    pub backend: PacketFilter,
}

#[derive(Debug, Clone, Args)]
pub struct RedirectOptions {
    /// Tool that writes the rules; auto: the first that works, legacy tables first where they have rules
    #[arg(long, env = "TSUNAGI_REDIRECT_BACKEND", value_name = "TOOL", default_value = "auto")]
    pub backend: PacketFilter,

    /// Port of the sidecar's outbound listener, 1 to 65535
    #[arg(long, env = "TSUNAGI_REDIRECT_OUTBOUND_PORT", value_name = "PORT", default_value_t = 15001,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub outbound_port: u16,

    /// Port of the sidecar's inbound listener, 1 to 65535
    #[arg(long, env = "TSUNAGI_REDIRECT_INBOUND_PORT", value_name = "PORT", default_value_t = 15006,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub inbound_port: u16,

    /// User id of the sidecar, whose own connections are left alone
    #[arg(long, env = "TSUNAGI_REDIRECT_PROXY_UID", value_name = "UID", default_value_t = 1337,
          value_parser = uid)]
    pub proxy_uid: u32,

    /// More user ids whose connections are left alone
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_EXCLUDE_UIDS",
        value_name = "UID,UID",
        default_value = "",
        hide_default_value = true
    )]
    pub exclude_uids: Uids,

    /// Ports of the application that are reached directly, besides the sidecar's own 15021 and 15090
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_EXCLUDE_INBOUND_PORTS",
        value_name = "PORT,FROM-TO",
        default_value = "",
        hide_default_value = true
    )]
    pub exclude_inbound_ports: Ports,

    /// Ports that the application reaches directly, besides 53
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_EXCLUDE_OUTBOUND_PORTS",
        value_name = "PORT,FROM-TO",
        default_value = "",
        hide_default_value = true
    )]
    pub exclude_outbound_ports: Ports,

    /// Addresses that the application reaches directly
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_EXCLUDE_OUTBOUND_CIDRS",
        value_name = "CIDR,CIDR",
        default_value = "",
        hide_default_value = true
    )]
    pub exclude_outbound_cidrs: Cidrs,

    /// Ports of the application that are reached through the sidecar: `*` for all, empty for none
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_INCLUDE_INBOUND_PORTS",
        value_name = "*|PORT,FROM-TO",
        default_value = "*"
    )]
    pub include_inbound_ports: Choice<Ports>,

    /// Ports that the application reaches through the sidecar whatever the address, for use with fewer addresses than `*`
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_INCLUDE_OUTBOUND_PORTS",
        value_name = "PORT,FROM-TO",
        default_value = "",
        hide_default_value = true
    )]
    pub include_outbound_ports: Ports,

    /// Addresses that the application reaches through the sidecar: `*` for all, empty for none
    #[arg(
        long,
        env = "TSUNAGI_REDIRECT_INCLUDE_OUTBOUND_CIDRS",
        value_name = "*|CIDR,CIDR",
        default_value = "*"
    )]
    pub include_outbound_cidrs: Choice<Cidrs>,
}

impl RedirectOptions {
    /// What no single flag can see.
    pub fn check(&self) -> Result<(), String> {
        if self.outbound_port == self.inbound_port {
            return Err(
                "--outbound-port and --inbound-port must differ: the sidecar would not know who called".to_owned(),
            );
        }
        if self.proxy_uid == 0 {
            return Err(
                "--proxy-uid must not be 0: what root sends would not go through the sidecar, and it should not run as root"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// Who writes the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PacketFilter {
    Auto,
    /// nftables, with a table of its own
    Nft,
    /// iptables and ip6tables as this machine has them
    Iptables,
    /// iptables-legacy and ip6tables-legacy
    IptablesLegacy,
}

/// All of a kind, or some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice<T> {
    All,
    Only(T),
}

impl<T: FromStr> FromStr for Choice<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text.trim() {
            "*" => Ok(Choice::All),
            some => some.parse().map(Choice::Only),
        }
    }
}

/// Ports as ranges, in order, none touching another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports(pub Vec<RangeInclusive<u16>>);

impl Ports {
    pub fn with(&self, more: &[u16]) -> Ports {
        let more = more.iter().map(|port| *port..=*port);
        Ports::merged(self.0.iter().cloned().chain(more).collect())
    }

    fn merged(mut ranges: Vec<RangeInclusive<u16>>) -> Ports {
        ranges.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        Ports(merged)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let port = |text: &str| match text.parse() {
            Ok(number @ 1..=u16::MAX) => Ok(number),
            _ => Err(format!("`{text}` is not a port from 1 to 65535")),
        };
        let range = |entry: &str| {
            let (from, to) = entry.split_once('-').unwrap_or((entry, entry));
            let (from, to) = (port(from)?, port(to)?);
            if from > to {
                return Err(format!("`{entry}` ends before it begins"));
            }
            Ok(from..=to)
        };
        Ok(Ports::merged(entries(text, range)?))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
            (from, to) if from == to => from.to_string(),
            (from, to) => format!("{from}-{to}"),
        };
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}

/// Networks in order, none inside another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cidrs(pub Vec<Cidr>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    /// Whether `other` lies inside.
    fn covers(&self, other: &Cidr) -> bool {
        self.prefix <= other.prefix && network_of(other.address, self.prefix) == self.address
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidr, String> {
        let wrong = || format!("`{text}` is not a network: write 10.0.0.0/8, fd00::/8 or an address");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if prefix > longest {
            return Err(format!("`{text}`: the prefix is longer than {longest}"));
        }
        Ok(Cidr {
            address: network_of(address, prefix),
            prefix,
        })
    }
}

/// The address without the bits that are the host's.
fn network_of(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(it.to_bits() & mask))
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() & mask))
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Cidrs, String> {
        let mut all: Vec<Cidr> = entries(text, str::parse)?;
        all.sort();
        let mut kept: Vec<Cidr> = Vec::new();
        for cidr in all {
            // Sorted by address, then by prefix: whoever covers this one came before it.
            if !kept.last().is_some_and(|last| last.covers(&cidr)) {
                kept.push(cidr);
            }
        }
        Ok(Cidrs(kept))
    }
}

impl fmt::Display for Cidrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Cidr::to_string).collect::<Vec<_>>().join(", "))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uids(pub Vec<u32>);

impl FromStr for Uids {
    type Err = String;

    fn from_str(text: &str) -> Result<Uids, String> {
        let mut all = entries(text, uid)?;
        all.sort_unstable();
        all.dedup();
        Ok(Uids(all))
    }
}

/// The highest number means "no user" to the kernel.
fn uid(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number != u32::MAX && !text.starts_with('+') => Ok(number),
        _ => Err(format!("`{text}` is not a user id from 0 to 4294967294")),
    }
}

fn entries<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    if entries.clone().count() > MOST_ENTRIES {
        return Err(format!("more than {MOST_ENTRIES} entries"));
    }
    entries.map(parse).collect()
}
