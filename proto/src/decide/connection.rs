//! Which rule is for a connection: by where it goes, by the name that a TLS client asks for.
//!
//! Source: Istio's L4MatchAttributes and TLSMatchAttributes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ConnectionHead;
use crate::model::{ConnectionMatch, ConnectionRule};

pub(super) fn rule_matches(rule: &ConnectionRule, head: &ConnectionHead<'_>) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|item| match_holds(item, head))
}

pub(super) fn match_holds(item: &ConnectionMatch, head: &ConnectionHead<'_>) -> bool {
    item.port.is_none_or(|port| port == head.port)
        && (item.sni_hosts.is_empty()
            || head
                .sni
                .is_some_and(|sni| item.sni_hosts.iter().any(|wanted| wanted.matches(sni))))
        && (item.destination_subnets.is_empty()
            || item
                .destination_subnets
                .iter()
                .any(|wanted| contains(wanted, head.destination)))
        && item.source_subnet.is_none_or(|wanted| contains(&wanted, head.source))
}

fn contains(subnet: &IpNet, address: Option<IpAddr>) -> bool {
    address.is_some_and(|address| subnet.contains(&address.to_canonical()))
}
