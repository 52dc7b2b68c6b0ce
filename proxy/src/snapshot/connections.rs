//! Where a connection goes that is passed on as it is: the `tls` and `tcp` rules of a VirtualService, compiled for one port.
//! `listener` asks for each connection, `http::tunnel` for what comes through a `CONNECT`.
//!
//! Source: Istio's buildSidecarOutboundTLSFilterChainOpts and buildSidecarOutboundTCPFilterChainOpts. A port that is
//! declared TLS meets `tls` rules alone, and once one of them concerns it, what none matches goes nowhere; any other port
//! meets `tcp` rules, and what none matches goes to the port's own cluster. Where nothing is declared, `tls` rules come
//! first, for clients that speak TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use tsunagi_proto::decide::{ConnectionHead, choose_destination, concern_port, decide_connection};
use tsunagi_proto::model::{self, ConnectionRule, Protocol, RouteTable, WeightedDestination};

use super::compile::{Cluster, Host, Port};
use crate::codec::ClientHello;
use crate::telemetry::TcpSeries;

/// A port's. Empty where no rule concerns it.
#[derive(Debug, Default)]
pub struct ConnectionRoutes {
    tls: Destinations,
    tcp: Destinations,
}

/// Parallel to the rules, and to each rule's destinations.
type Destinations = Box<[Box<[Arc<ConnectionDestination>]>]>;

#[derive(Debug)]
pub struct ConnectionDestination {
    /// The rule's label.
    pub route: Box<str>,
    /// `None`: no such host or subset, `NC`.
    pub cluster: Option<Arc<Cluster>>,
    pub series: Arc<TcpSeries>,
}

/// What rules see of a connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeenConnection<'a> {
    /// Where the client wanted to go; `None`: it was not redirected.
    pub destination: Option<SocketAddr>,
    pub source: Option<SocketAddr>,
    /// `None`: it does not speak TLS, or has not said anything yet.
    pub hello: Option<&'a ClientHello>,
}

#[derive(Debug, Clone)]
pub enum ConnectionRoute {
    Rule(Arc<ConnectionDestination>),
    /// To the port's own cluster.
    Own,
    /// No rule of those that decide alone matches.
    Nowhere,
}

impl ConnectionRoutes {
    pub(super) fn new(
        table: Option<&RouteTable>,
        port: &model::Port,
        resolve: &dyn Fn(&str, &WeightedDestination) -> ConnectionDestination,
    ) -> Self {
        let compile = |rules: &[ConnectionRule]| -> Destinations {
            if !concern_port(rules, port.number) {
                return Destinations::default();
            }
            let rule = |rule: &ConnectionRule| {
                let destinations = rule.destinations.iter();
                destinations
                    .map(|wanted| Arc::new(resolve(&rule.label, wanted)))
                    .collect()
            };
            rules.iter().map(rule).collect()
        };
        let (tls, tcp) = match port.protocol {
            Protocol::Http1 | Protocol::Http2 => (false, false),
            Protocol::Tls => (true, false),
            Protocol::Tcp => (false, true),
            Protocol::Detect => (true, true),
        };
        let compile_if = |wanted: bool, of: fn(&RouteTable) -> &[ConnectionRule]| {
            table
                .filter(|_| wanted)
                .map(|table| compile(of(table)))
                .unwrap_or_default()
        };
        Self {
            tls: compile_if(tls, |table| &table.tls),
            tcp: compile_if(tcp, |table| &table.tcp),
        }
    }

    /// Does it matter which name a TLS client asks for?
    pub fn by_server_name(&self) -> bool {
        !self.tls.is_empty()
    }
}

impl Host {
    /// The rule and the draw. `random` is uniform over all of `u64`.
    pub fn route_connection(&self, port: &Port, seen: &SeenConnection<'_>, random: u64) -> ConnectionRoute {
        let Some(table) = &self.told.routes else {
            return ConnectionRoute::Own;
        };
        let head = ConnectionHead {
            port: port.number,
            destination: seen.destination.map(|address| address.ip()),
            source: seen.source.map(|address| address.ip()),
            sni: seen.hello.and_then(|hello| hello.server_name.as_deref()),
        };
        let ConnectionRoutes { tls, tcp } = &port.connections;
        let by_name = (seen.hello.is_some() && !tls.is_empty())
            .then(|| draw(&table.tls, tls, &head, random))
            .flatten();
        let found = match by_name {
            None if !tcp.is_empty() => draw(&table.tcp, tcp, &head, random),
            found => found,
        };
        match found {
            Some(destination) => ConnectionRoute::Rule(destination),
            None if port.protocol == Protocol::Tls && !tls.is_empty() => ConnectionRoute::Nowhere,
            None => ConnectionRoute::Own,
        }
    }
}

fn draw(
    rules: &[ConnectionRule],
    compiled: &Destinations,
    head: &ConnectionHead<'_>,
    random: u64,
) -> Option<Arc<ConnectionDestination>> {
    let index = decide_connection(rules, head)?;
    let rule = rules.get(index)?;
    let drawn = choose_destination(&rule.destinations, rule.total_weight, random);
    compiled.get(index)?.get(drawn).cloned()
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
