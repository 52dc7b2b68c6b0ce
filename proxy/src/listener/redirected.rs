//! Where a connection goes that the packet filter has redirected here: to the service that has the address, of several to
//! the one that a TLS client asks for, to whom its requests name, or untouched to where it was headed.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tsunagi_proto::model::{OutboundTrafficPolicy, Protocol};

use crate::codec::{
    ClientHello, Detected, MaybeHello, Spoken, Transport, Wanted, detect, parse_client_hello, read_client_hello,
    read_first_request,
};
use crate::drain::DrainWatch;
use crate::http::{
    DownstreamConnection, Proxy, find_address, find_any_address, find_server_name, find_sharing, is_for_the_mesh,
    read_start, serve_recognised,
};
use crate::net::{is_outbound_listener, is_own_address};
use crate::snapshot::{Host, SeenConnection};
use crate::tcp::{Target, TcpConnection, Upstream};
use crate::telemetry::Direction;

/// For the first bytes of a TLS client, which are most often its whole hello.
const FIRST_READ_BYTES: usize = 1024;

/// A connection on its way, with all that serving it takes.
struct Redirected<'p> {
    proxy: &'p Arc<Proxy>,
    downstream: DownstreamConnection,
    destination: SocketAddr,
    drain: DrainWatch,
}

/// Serves until either side ends it.
pub(super) async fn serve(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    destination: SocketAddr,
    stream: TcpStream,
    drain: DrainWatch,
) {
    let redirected = Redirected {
        proxy,
        downstream,
        destination,
        drain,
    };
    match downstream.direction {
        Direction::Outbound if leads_back(&stream, destination) => {
            tracing::warn!(%destination, remote = ?downstream.remote, "connection to this proxy itself refused");
        }
        Direction::Outbound => redirected.outbound(stream).await,
        Direction::Inbound if is_for_listener(&stream, destination) => {
            // Passed on it would come back, or reach an application that nobody meant.
            tracing::debug!(%destination, remote = ?downstream.remote, "connection to this proxy itself refused");
            stream.reset_when_dropped();
        }
        Direction::Inbound => {
            let host = proxy.inbound_host(Some(destination));
            let Some(number) = host.ports.first().map(|port| port.number) else {
                return;
            };
            redirected.reach_service(stream, &host, number).await;
        }
    }
}

/// Would it come back here, again and again?
fn leads_back(stream: &TcpStream, destination: SocketAddr) -> bool {
    stream
        .local_addr()
        .is_ok_and(|local| local.port() == destination.port() && is_own_address(destination.ip()))
}

/// Did somebody call this proxy's own port, of whatever address?
fn is_for_listener(stream: &TcpStream, destination: SocketAddr) -> bool {
    stream
        .local_addr()
        .is_ok_and(|local| local.port() == destination.port())
        || is_outbound_listener(destination)
}

impl Redirected<'_> {
    async fn outbound(self, stream: TcpStream) {
        let (address, port) = (self.destination.ip(), self.destination.port());
        match find_address(self.proxy, address).await {
            Some(host) if host.port(port).is_some() => {
                host.touch();
                self.reach_service(stream, &host, port).await;
            }
            _ => match find_any_address(self.proxy, port).await {
                Some(host) => self.reach_by_port(stream, &host).await,
                None => self.reach_unknown(stream).await,
            },
        }
    }

    /// A service that has the port at every address, but for who names another.
    async fn reach_by_port(self, stream: TcpStream, host: &Arc<Host>) {
        host.touch();
        if let Some(target) = self.routed(host, self.destination.port(), None) {
            let connection = self.connection(target);
            Box::pin(self.detected(stream, connection, None, false)).await;
        }
    }

    /// A port of a service, as it is declared.
    async fn reach_service(self, stream: TcpStream, host: &Arc<Host>, number: u16) {
        let routed = self.routed(host, number, None);
        let Some((port, target)) = host.port(number).zip(routed) else {
            return;
        };
        match port.protocol {
            Protocol::Http1 | Protocol::Http2 => {
                let mut stream = stream;
                let start = Box::pin(read_start(&mut stream, Some(&self.drain))).await;
                match start {
                    Some((true, read)) => self.http(stream, read, true).await,
                    Some((false, read)) => {
                        let connection = self.connection(target);
                        Box::pin(self.http1(stream, read, connection, None, true)).await;
                    }
                    None => {}
                }
            }
            Protocol::Tls if port.connections.by_server_name() => Box::pin(self.tls(stream, host, number)).await,
            Protocol::Tls if self.downstream.direction == Direction::Outbound => {
                // Several services may have the address: the name decides, unless the server speaks first.
                let connection = self.connection(target);
                Box::pin(self.detected(stream, connection, Some((host, number)), true)).await;
            }
            Protocol::Tcp | Protocol::Tls => self.connection(target).serve(stream, Bytes::new(), None).await,
            Protocol::Detect => {
                let connection = self.connection(target);
                Box::pin(self.detected(stream, connection, Some((host, number)), true)).await;
            }
        }
    }

    /// An address, or a port of it, that nobody registered.
    async fn reach_unknown(self, stream: TcpStream) {
        let policy = self.policy();
        let target = self.unknown(policy);
        // There, every request is answered by itself.
        let all_requests = policy == OutboundTrafficPolicy::RegistryOnly;
        let connection = self.connection(target);
        Box::pin(self.detected(stream, connection, None, all_requests)).await;
    }

    /// A port where the name decides that a client asks for.
    async fn tls(self, mut stream: TcpStream, host: &Arc<Host>, number: u16) {
        let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
        let mut drain = self.drain.clone();
        let silent = self.drain.silent();
        tokio::select! {
            biased;
            first = stream.read_buf(&mut read) => if !first.is_ok_and(|count| count > 0) { return },
            () = drain.last_moment() => return,
        }
        drop(silent);
        let hello = read_client_hello(&mut stream, &mut read).await;
        let sharing = match &hello {
            Some(hello) => find_sharing(self.proxy, host, self.destination, hello).await,
            None => None,
        };
        let host = sharing.as_ref().unwrap_or(host);
        let Some(target) = self.routed(host, number, hello.as_ref()) else {
            return;
        };
        let connection = self.connection(target).saying(hello.as_ref());
        connection.serve(stream, read.freeze(), None).await;
    }

    /// What turns out to be TLS goes where the name leads that the client asks for; else where it was going anyway. `host`
    /// is the service that has the destination's address, with its port.
    async fn detected_tls(
        self,
        stream: TcpStream,
        read: Bytes,
        connection: TcpConnection,
        upstream: Option<Upstream>,
        host: Option<(&Arc<Host>, u16)>,
    ) {
        let MaybeHello::Whole(hello) = parse_client_hello(&read) else {
            return connection.serve(stream, read, upstream).await;
        };
        let target = match host {
            Some((host, number)) => self.target_by_name(host, number, &hello).await,
            None => self.target_of_name(&hello).await,
        };
        match target {
            Some(target) => {
                drop((upstream, connection));
                let connection = self.connection(target).saying(Some(&hello));
                connection.serve(stream, read, None).await;
            }
            None => connection.saying(Some(&hello)).serve(stream, read, upstream).await,
        }
    }

    /// `None`: the name changes nothing.
    async fn target_by_name(&self, host: &Arc<Host>, number: u16, hello: &ClientHello) -> Option<Target> {
        if let Some(sharing) = find_sharing(self.proxy, host, self.destination, hello).await {
            return self.routed(&sharing, number, Some(hello));
        }
        host.port(number).filter(|port| port.connections.by_server_name())?;
        self.routed(host, number, Some(hello))
    }

    /// Of a host of the mesh whose address nobody knew.
    async fn target_of_name(&self, hello: &ClientHello) -> Option<Target> {
        let host = find_server_name(self.proxy, hello.server_name.as_deref()?, false).await?;
        let port = host.port(self.destination.port())?;
        if matches!(port.protocol, Protocol::Http1 | Protocol::Http2) {
            return None;
        }
        host.touch();
        self.routed(&host, port.number, Some(hello))
    }

    /// Serves what it turns out to speak. `all_requests`: also those on an HTTP/1 connection whose first one names nobody.
    async fn detected(
        self,
        mut stream: TcpStream,
        connection: TcpConnection,
        host: Option<(&Arc<Host>, u16)>,
        all_requests: bool,
    ) {
        let mut drain = self.drain.clone();
        let silent = self.drain.silent();
        let detected = Box::pin(detect(&mut stream, connection.open(), drain.last_moment())).await;
        drop(silent);
        let (spoken, read, upstream) = match detected {
            Detected::Spoken { spoken, read, upstream } => (spoken, read, upstream),
            Detected::Failed(failed) => return connection.refuse(stream, failed),
            Detected::Aborted { upstream } => return connection.abort(upstream),
            Detected::Left => return,
        };
        let declared = host.and_then(|(host, number)| host.port(number));
        let is_tls = declared.is_some_and(|port| port.protocol == Protocol::Tls);
        match spoken {
            Spoken::Tls if self.downstream.direction == Direction::Outbound => {
                Box::pin(self.detected_tls(stream, read, connection, upstream, host)).await;
            }
            Spoken::Bytes | Spoken::Tls => connection.serve(stream, read, upstream).await,
            // Not what was declared: the endpoint's to judge.
            Spoken::Http1 | Spoken::Http2 if is_tls => connection.serve(stream, read, upstream).await,
            Spoken::Http1 => Box::pin(self.http1(stream, read, connection, upstream, all_requests)).await,
            Spoken::Http2 => {
                // Requests have connections of their own.
                drop((upstream, connection));
                self.http(stream, read, true).await;
            }
        }
    }

    /// Serves a connection that starts with an HTTP/1 request, unless that is for nobody of the mesh or opens a tunnel
    /// through the application: then its bytes are passed on, the request's first.
    async fn http1(
        self,
        mut stream: TcpStream,
        read: Bytes,
        connection: TcpConnection,
        upstream: Option<Upstream>,
        all_requests: bool,
    ) {
        if self.downstream.direction == Direction::Outbound && all_requests {
            drop((upstream, connection));
            return self.http(stream, read, false).await;
        }
        let mut read = BytesMut::from(read);
        let wanted = read_first_request(&mut stream, &mut read).await;
        let read = read.freeze();
        if self.downstream.direction == Direction::Inbound && wanted == Wanted::Tunnel {
            // It is the application that may be a proxy, not this one.
            return connection.serve(stream, read, upstream).await;
        }
        if all_requests || is_for_the_mesh(self.proxy, self.destination, &read).await {
            // Requests have connections of their own.
            drop((upstream, connection));
            self.http(stream, read, false).await;
        } else {
            connection.serve(stream, read, upstream).await;
        }
    }

    async fn http(self, stream: TcpStream, read: Bytes, http2: bool) {
        let drain = Some(self.drain);
        Box::pin(serve_recognised(
            self.proxy,
            self.downstream,
            stream,
            read,
            http2,
            drain,
        ))
        .await;
    }

    /// Where the rules of the port send it. What none of them is for goes where it was headed if the policy lets it, as past
    /// all of Istio's filter chains. `None`: the host has no such port.
    fn routed(&self, host: &Arc<Host>, number: u16, hello: Option<&ClientHello>) -> Option<Target> {
        let target = Target::routed(host, number, &self.seen(hello))?;
        Some(match target {
            Target::Unrouted { .. } => self.unknown(self.policy()),
            target => target,
        })
    }

    fn policy(&self) -> OutboundTrafficPolicy {
        self.proxy.reader.with(|snapshot| snapshot.outbound_traffic_policy())
    }

    /// Where what nobody registered goes.
    fn unknown(&self, policy: OutboundTrafficPolicy) -> Target {
        let passthrough = &self.proxy.passthrough;
        match policy {
            OutboundTrafficPolicy::AllowAny => Target::Address {
                address: self.destination,
                series: Arc::clone(&passthrough.tcp),
            },
            OutboundTrafficPolicy::RegistryOnly => Target::Nowhere {
                series: Arc::clone(&passthrough.blocked_tcp),
            },
        }
    }

    /// What rules see of it.
    fn seen<'h>(&self, hello: Option<&'h ClientHello>) -> SeenConnection<'h> {
        SeenConnection {
            destination: Some(self.destination),
            source: self.downstream.remote,
            hello,
        }
    }

    fn connection(&self, target: Target) -> TcpConnection {
        let Redirected { proxy, downstream, .. } = self;
        TcpConnection::new(
            downstream.direction,
            downstream.remote,
            proxy.worker,
            &proxy.access_log,
            target,
        )
        .between(downstream.addresses())
    }
}

#[cfg(test)]
#[path = "redirected_tests.rs"]
mod tests;
