//! Which rule is for a connection: by where it goes, by the name that a TLS client asks for. As in `scan`, whether a match
//! holds and what of it does not are one question.
//!
//! Source: Istio's L4MatchAttributes and TLSMatchAttributes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ConnectionHead;
use crate::model::{ConnectionMatch, ConnectionRule};

/// What a match asks of a connection, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predicate {
    Port,
    SniHosts,
    DestinationSubnets,
    SourceSubnet,
}

pub(super) fn rule_concerns(rule: &ConnectionRule, port: u16) -> bool {
    let mut ports = rule.matches.iter().map(|item| item.port);
    rule.matches.is_empty() || ports.any(|wanted| wanted.is_none_or(|wanted| wanted == port))
}

pub(super) fn rule_matches(rule: &ConnectionRule, head: &ConnectionHead<'_>) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|item| first_failed(item, head).is_none())
}

/// `None`: the match holds.
pub(super) fn first_failed(item: &ConnectionMatch, head: &ConnectionHead<'_>) -> Option<Predicate> {
    if item.port.is_some_and(|port| port != head.port) {
        return Some(Predicate::Port);
    }
    let named = |sni: &str| item.sni_hosts.iter().any(|wanted| wanted.matches(sni));
    if !item.sni_hosts.is_empty() && !head.sni.is_some_and(named) {
        return Some(Predicate::SniHosts);
    }
    let mut subnets = item.destination_subnets.iter();
    if !item.destination_subnets.is_empty() && !subnets.any(|wanted| contains(wanted, head.destination)) {
        return Some(Predicate::DestinationSubnets);
    }
    let outside = item.source_subnet.is_some_and(|wanted| !contains(&wanted, head.source));
    outside.then_some(Predicate::SourceSubnet)
}

fn contains(subnet: &IpNet, address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| subnet.contains(&address.to_canonical()))
}
