//! The rules of a VirtualService for connections, `tls` and `tcp`. Checked as Istio does (validation.go: validateTLSRoute,
//! validateTCPRoute).

use std::net::IpAddr;

use tsunagi_proto::model::is_subnet;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::virtual_service::Context;
use super::{ConnectionMatch, ConnectionRule, http_match, http_route, names};

/// Which of the two lists.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Tls,
    Tcp,
}

const RULE: Fields = Fields {
    supported: &["match", "route"],
    later: &[],
};
const TLS_MATCH: Fields = Fields {
    supported: &[
        "sniHosts",
        "destinationSubnets",
        "port",
        "sourceLabels",
        "gateways",
        "sourceNamespace",
    ],
    later: &[],
};
const TCP_MATCH: Fields = Fields {
    supported: &[
        "destinationSubnets",
        "port",
        "sourceSubnet",
        "sourceLabels",
        "gateways",
        "sourceNamespace",
    ],
    later: &[],
};

pub(super) fn read_list(list: &Field<'_>, kind: Kind, context: &Context<'_>) -> Vec<ConnectionRule> {
    let items = list.items();
    items.iter().filter_map(|item| rule(item, kind, context)).collect()
}

fn rule(item: &Field<'_>, kind: Kind, context: &Context<'_>) -> Option<ConnectionRule> {
    let fields = match kind {
        Kind::Tls => &TLS_MATCH,
        Kind::Tcp => &TCP_MATCH,
    };
    let inner = [("match", fields), ("route", &http_route::CONNECTION_ROUTE)];
    if !item.is_message_around(&RULE, &inner) {
        return None;
    }
    let matches = item.get("match");
    let written = matches.as_ref().map(|list| list.items()).unwrap_or_default();
    if kind == Kind::Tls && written.is_empty() && matches.as_ref().is_none_or(|list| list.is_list()) {
        item.refuse_at("match", "is required: a tls rule is for some `sniHosts`");
    }
    let matches = written
        .iter()
        .filter_map(|item| read_match(item, kind, fields, context));
    let route = item.required("route");
    Some(ConnectionRule {
        matches: matches.collect(),
        route: http_route::read_connection_list(&route?, context.namespace),
    })
}

fn read_match(item: &Field<'_>, kind: Kind, fields: &Fields, context: &Context<'_>) -> Option<ConnectionMatch> {
    if !item.is_message(fields) {
        return None;
    }
    let sni_hosts = match (kind, item.get("sniHosts")) {
        (Kind::Tls, Some(list)) => sni_hosts(&list, context),
        (Kind::Tls, None) => {
            item.refuse_at("sniHosts", "is required");
            Vec::new()
        }
        (Kind::Tcp, _) => Vec::new(),
    };
    let subnets = item.get("destinationSubnets").map(|list| {
        let items = list.items();
        items.iter().filter_map(subnet).collect::<Vec<_>>()
    });
    let mut destination_subnets = subnets.unwrap_or_default();
    destination_subnets.sort();
    destination_subnets.dedup();
    let source_subnet = item
        .get("sourceSubnet")
        .filter(|field| kind == Kind::Tcp && !field.is(""));
    Some(ConnectionMatch {
        sni_hosts,
        destination_subnets,
        source_subnet: source_subnet.and_then(|field| subnet(&field)),
        port: item.get("port").and_then(|field| field.port()),
        source: http_match::read_source(item),
    })
}

/// A CIDR or an address.
fn subnet(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    if !is_subnet(text) {
        field.refuse(format!("{} is neither a CIDR nor an IP address", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

fn sni_hosts(list: &Field<'_>, context: &Context<'_>) -> Vec<String> {
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    let mut hosts = Vec::with_capacity(items.len());
    for item in &items {
        let Some(host) = names::host_or_wildcard(item) else {
            continue;
        };
        let covered = |pattern: &String| {
            names::covers(pattern, &host) || names::covers(&names::resolve(pattern, context.namespace), &host)
        };
        // Istio takes any address; few clients ask for one.
        let is_address = host.parse::<IpAddr>().is_ok();
        if !is_address && !context.hosts.iter().any(covered) {
            item.refuse(format!(
                "{} is none of the `hosts` of this VirtualService, nor covered by one",
                shown(&host)
            ));
        }
        hosts.push(host);
    }
    hosts
}
