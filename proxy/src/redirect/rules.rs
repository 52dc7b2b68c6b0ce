//! Which connections are redirected, as rules in order, before any tool's spelling. Called by `nft` and `iptables`.
//!
//! Source: the rules of Istio's `istio-iptables`. Two chains: `inbound` for what arrives, `outbound` for what the pod opens;
//! each ends by leaving the connection alone. On purpose other than there: what the sidecar sends to its own pod walks the
//! inbound chain, so that a port excluded from it is reached directly by the application's own calls too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bootstrap::{Choice, Cidr, Cidrs, Ports, RedirectOptions};

/// Of the sidecar's own doors: health and metrics answer in person.
const OWN_PORTS: [u16; 2] = [15021, 15090];
const DNS_PORT: u16 = 53;

/// From here the inbound path reaches the application.
pub(super) const INBOUND_SOURCES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6)),
];
const LOOPBACKS: [Cidr; 2] = [
    Cidr {
        address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
        prefix: 8,
    },
    Cidr {
        address: IpAddr::V6(Ipv6Addr::LOCALHOST),
        prefix: 128,
    },
];

const LINK_LOCAL: Cidr = Cidr {
    address: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)),
    prefix: 10,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// The first rule whose conditions all hold decides; a jump that comes back goes on with the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Only packets of this family; `None`: both.
    pub(super) family: Option<Family>,
    pub(super) when: Vec<When>,
    pub(super) then: Then,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    OverLoopback,
    From(IpAddr),
    NotTo(Cidr),
    /// Any of them; at most one condition of a rule is a list.
    User(Vec<u32>),
    ToPort(Ports),
    To(Vec<Cidr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    LeaveAlone,
    WalkInbound,
    Redirect(u16),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) inbound: Vec<Rule>,
    pub(super) outbound: Vec<Rule>,
}

pub(super) fn excluded_inbound_ports(options: &RedirectOptions) -> Ports {
    options.exclude_inbound_ports.with(&OWN_PORTS)
}

pub(super) fn excluded_outbound_ports(options: &RedirectOptions) -> Ports {
    options.exclude_outbound_ports.with(&[DNS_PORT])
}

pub(super) fn rules(options: &RedirectOptions) -> Rules {
    Rules {
        inbound: inbound(options),
        outbound: outbound(options),
    }
}

fn inbound(options: &RedirectOptions) -> Vec<Rule> {
    let redirect = Then::Redirect(options.inbound_port);
    let mut rules = vec![both(
        vec![When::ToPort(excluded_inbound_ports(options))],
        Then::LeaveAlone,
    )];
    match &options.include_inbound_ports {
        Choice::All => rules.push(both(Vec::new(), redirect)),
        Choice::Only(ports) if ports.0.is_empty() => {}
        Choice::Only(ports) => rules.push(both(vec![When::ToPort(ports.clone())], redirect)),
    }
    rules
}

fn outbound(options: &RedirectOptions) -> Vec<Rule> {
    let mut rules = Vec::new();
    for source in INBOUND_SOURCES {
        rules.push(Rule {
            family: Some(Family::of(source)),
            when: vec![When::OverLoopback, When::From(source)],
            then: Then::LeaveAlone,
        });
    }
    // The application called its own service, and the sidecar chose this pod.
    for loopback in LOOPBACKS {
        let sidecar = When::User(vec![options.proxy_uid]);
        rules.push(Rule {
            family: Some(Family::of(loopback.address)),
            when: vec![When::OverLoopback, sidecar, When::NotTo(loopback)],
            then: Then::WalkInbound,
        });
    }
    // The pod's own loopback, and the pod's own address.
    rules.push(both(vec![When::OverLoopback], Then::LeaveAlone));
    let mut users = vec![options.proxy_uid];
    users.extend(options.exclude_uids.0.iter().filter(|uid| **uid != options.proxy_uid));
    rules.push(both(vec![When::User(users)], Then::LeaveAlone));
    rules.push(both(
        vec![When::ToPort(excluded_outbound_ports(options))],
        Then::LeaveAlone,
    ));
    // Only with the interface is such an address one, and connection tracking does not remember that.
    rules.push(Rule {
        family: Some(Family::V6),
        when: vec![When::To(vec![LINK_LOCAL])],
        then: Then::LeaveAlone,
    });
    rules.extend(to(&options.exclude_outbound_cidrs, Then::LeaveAlone));

    let redirect = Then::Redirect(options.outbound_port);
    match &options.include_outbound_cidrs {
        Choice::All => rules.push(both(Vec::new(), redirect)),
        Choice::Only(cidrs) => {
            if !options.include_outbound_ports.0.is_empty() {
                let ports = When::ToPort(options.include_outbound_ports.clone());
                rules.push(both(vec![ports], redirect));
            }
            rules.extend(to(cidrs, redirect));
        }
    }
    rules
}

fn both(when: Vec<When>, then: Then) -> Rule {
    Rule {
        family: None,
        when,
        then,
    }
}

/// A rule for each family that has any of the networks.
fn to(cidrs: &Cidrs, then: Then) -> Vec<Rule> {
    let of_family = |family| {
        let ours = |cidr: &&Cidr| Family::of(cidr.address) == family;
        let cidrs: Vec<Cidr> = cidrs.0.iter().filter(ours).copied().collect();
        let rule = Rule {
            family: Some(family),
            when: vec![When::To(cidrs.clone())],
            then,
        };
        (!cidrs.is_empty()).then_some(rule)
    };
    [Family::V4, Family::V6].into_iter().filter_map(of_family).collect()
}
