//! Whom a request is for that came on a redirected connection, where a name that nobody knows is no error: the client
//! meant to go somewhere, and gets there.
//!
//! In order: the service that the authority names, the service that has the original destination's address, the original
//! destination itself, unless the user's policy keeps traffic within the registry.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tsunagi_proto::model::{OutboundTrafficPolicy, Protocol};
use tsunagi_proto::names;

use super::head::{self, Authority};
use super::local_reply::Cause;
use super::request_path::Proxy;
use super::route::{Sought, find_known_host, seek_host};
use crate::codec::{ClientHello, RequestHead, parse_request};
use crate::snapshot::{Host, Port};

/// How long an unknown destination waits for the control plane's word. It can be reached without it, so while there is no
/// control plane nobody waits: what it said earlier is known, and the rest is asked for when it is back.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a request goes.
pub struct Found {
    pub host: Arc<Host>,
    /// One of its ports, which speaks HTTP.
    pub port: u16,
}

/// Whom the request is for, if the authority names a service that we have been told of.
pub fn find_known(proxy: &Proxy, destination: SocketAddr, authority: &Authority<'_>) -> Option<Found> {
    let host = find_known_host(proxy, authority)?;
    let port = named_port(&host, authority, destination.port())?;
    Some(Found { host, port })
}

/// Whom the request is for. Dropping the future changes nothing.
pub async fn find_redirected(
    proxy: &Proxy,
    destination: SocketAddr,
    authority: &Authority<'_>,
    connect: bool,
) -> Result<Found, Cause> {
    if let Some(found) = find_by_name(proxy, destination, authority).await {
        return Ok(found);
    }
    if connect {
        // It is no request that an unknown destination could be sent.
        return Err(Cause::NoRoute(
            format!(
                "no service is called {:?}: there is nothing to connect to",
                authority.host
            )
            .into(),
        ));
    }
    let by_address = find_address(proxy, destination.ip()).await;
    if let Some(host) = by_address.filter(|host| is_http(host.port(destination.port()))) {
        let port = destination.port();
        return Ok(Found { host, port });
    }
    let policy = proxy.reader.with(|snapshot| snapshot.outbound_traffic_policy());
    match policy {
        OutboundTrafficPolicy::AllowAny => Ok(Found {
            host: proxy.passthrough.host(destination),
            port: destination.port(),
        }),
        OutboundTrafficPolicy::RegistryOnly => Err(Cause::Blocked),
    }
}

/// The service that has this address, if any; asked for on first use.
pub async fn find_address(proxy: &Proxy, address: IpAddr) -> Option<Arc<Host>> {
    let name = address.to_string();
    match proxy.reader.with(|snapshot| snapshot.known(&name)) {
        Some(host) => Some(host),
        // Boxed: what is rare should not make every connection's state larger.
        None => found(Box::pin(seek_host(proxy, &name, patience(proxy))).await),
    }
}

/// The service of TCP that has the port at every address that nobody has, if any, where its connections go where they head;
/// asked for on first use.
pub async fn find_any_address(proxy: &Proxy, port: u16) -> Option<Arc<Host>> {
    let name = names::any_address(port);
    let host = match proxy.reader.with(|snapshot| snapshot.known(&name)) {
        Some(host) => Some(host),
        None => found(Box::pin(seek_host(proxy, &name, patience(proxy))).await),
    };
    host.filter(|host| host.port(port).is_some_and(|port| port.protocol == Protocol::Tcp))
}

/// The host of the mesh that a TLS client asks for by name, asked for on first use. `waits`: there is nowhere else to go. An
/// address is no name.
pub async fn find_server_name(proxy: &Proxy, name: &str, waits: bool) -> Option<Arc<Host>> {
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let limit = if waits {
        proxy.on_demand_timeout
    } else {
        patience(proxy)
    };
    match proxy.reader.with(|snapshot| snapshot.known(name)) {
        Some(host) => Some(host),
        None => found(Box::pin(seek_host(proxy, name, limit)).await),
    }
}

/// The other host that a TLS client asks for by name, where that has the original destination's address too and may speak
/// TLS on its port; it counts as used. `host` has the address to itself otherwise, and where it is the one that is asked for,
/// nobody else is.
pub async fn find_sharing(
    proxy: &Proxy,
    host: &Host,
    destination: SocketAddr,
    hello: &ClientHello,
) -> Option<Arc<Host>> {
    let name = hello.server_name.as_deref().filter(|name| *name != host.told.fqdn)?;
    let named = find_server_name(proxy, name, false).await?;
    let has_port = named
        .port(destination.port())
        .is_some_and(|port| matches!(port.protocol, Protocol::Tls | Protocol::Detect));
    let shares = has_port && named.told.fqdn != host.told.fqdn && named.told.has_address(destination.ip());
    shares.then(|| {
        named.touch();
        named
    })
}

/// Is the first request of a connection for a service of the mesh? What is no proper request, or not there, is not.
pub async fn is_for_the_mesh(proxy: &Proxy, destination: SocketAddr, read: &[u8]) -> bool {
    let mut head = RequestHead::default();
    let Ok(Some(_)) = parse_request(read, &mut head) else {
        return false;
    };
    match head::authority(&head) {
        Ok(authority) => find_by_name(proxy, destination, &authority).await.is_some(),
        Err(_) => false,
    }
}

async fn find_by_name(proxy: &Proxy, destination: SocketAddr, authority: &Authority<'_>) -> Option<Found> {
    if authority.host.is_empty() {
        return None;
    }
    let host = match find_known_host(proxy, authority) {
        Some(host) => host,
        None => found(seek_host(proxy, &authority.host, patience(proxy)).await)?,
    };
    let port = named_port(&host, authority, destination.port())?;
    Some(Found { host, port })
}

/// The port that the client named; where it named none, the one that it connected to, else the first that speaks HTTP.
fn named_port(host: &Host, authority: &Authority<'_>, destination: u16) -> Option<u16> {
    let port = match authority.port {
        Some(number) => host.port(number),
        None => host.port(destination).or_else(|| host.first_http_port()),
    };
    port.filter(|port| port.protocol.is_http()).map(|port| port.number)
}

fn is_http(port: Option<&Port>) -> bool {
    port.is_some_and(|port| port.protocol.is_http())
}

fn patience(proxy: &Proxy) -> Duration {
    if proxy.telemetry.is_control_plane_connected() {
        PATIENCE.min(proxy.on_demand_timeout)
    } else {
        Duration::ZERO
    }
}

fn found(sought: Sought) -> Option<Arc<Host>> {
    match sought {
        Sought::Found(host) => Some(host),
        Sought::Absent | Sought::Unanswered | Sought::Refused => None,
    }
}
