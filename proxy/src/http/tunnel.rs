//! `CONNECT`: a connection inside a connection. What comes through it is for one port of one host: requests of an HTTP
//! port are served like any other, of a TCP port the bytes are passed on.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tsunagi_proto::model::Protocol;

use super::connection::{draining, serve_connection, serve_recognised};
use super::downstream::DownstreamConnection;
use super::local_reply::Cause;
use super::request_path::Proxy;
use crate::codec::{
    ClientHello, Detected, Ending, MaybeHello, Spoken, Transport, detect, parse_client_hello, pass, read_client_hello,
};
use crate::drain::LiveConnectionGuard;
use crate::snapshot::{Cluster, ConnectionRoute, Host, Port, SeenConnection};
use crate::telemetry::{ActiveConnectionGuard, Flags, TcpSeries};
use crate::upstream::{Caller, PlainConnection, PlainError, open_plain};

/// For the first bytes of a TLS client, which are most often its whole hello.
const FIRST_READ_BYTES: usize = 1024;

/// What is needed to run the tunnel once the `CONNECT` is answered. An error is the answer: a TCP port has its connection
/// first.
pub async fn open(
    proxy: &Arc<Proxy>,
    downstream: &DownstreamConnection,
    host: &Arc<Host>,
    port: &Port,
) -> Result<Tunnel, Cause> {
    if downstream.tunnelled {
        return Err(Cause::BadRequest("a tunnel inside a tunnel is not served"));
    }
    let way = Way::of(host, port, downstream, None, proxy.worker);
    let endpoint = if port.protocol.is_http() || is_named_inside(port) {
        None
    } else {
        Some(way.open_endpoint().await?)
    };
    Ok(Tunnel {
        downstream: DownstreamConnection {
            tunnelled: true,
            by_upgrade: false,
            // Whom it was for, the `CONNECT` has said.
            original_destination: None,
            ..*downstream
        },
        proxy: Arc::clone(proxy),
        host: Arc::clone(host),
        number: port.number,
        way,
        endpoint,
        _guards: (
            proxy.telemetry.active_connection(downstream.direction),
            proxy.drain_of(downstream.direction).connection(),
        ),
    })
}

#[derive(Debug)]
pub struct Tunnel {
    downstream: DownstreamConnection,
    proxy: Arc<Proxy>,
    host: Arc<Host>,
    number: u16,
    /// Of bytes.
    way: Way,
    /// `None`: requests come through it, or a TLS client that has yet to say whom it wants.
    endpoint: Option<PlainConnection>,
    _guards: (ActiveConnectionGuard, LiveConnectionGuard),
}

impl Tunnel {
    /// Until either side ends it. Boxed, because serving a tunnel is serving connections, which may open tunnels.
    pub fn run(mut self, stream: Box<dyn Transport>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let host = Arc::clone(&self.host);
            let Some(port) = host.port(self.number) else { return };
            match self.endpoint.take() {
                Some(endpoint) => pass_on(endpoint, stream, Bytes::new(), &self.way).await,
                None if is_named_inside(port) => self.pass_by_name(stream, port).await,
                None if port.protocol == Protocol::Detect => self.serve_or_pass(stream, port).await,
                None => {
                    let drain = Some(self.proxy.drain_of(self.downstream.direction));
                    serve_connection(&self.proxy, self.downstream, stream, drain).await;
                }
            }
        })
    }

    /// Where no protocol is declared, what is said first decides.
    async fn serve_or_pass(&self, mut stream: Box<dyn Transport>, port: &Port) {
        let leaving = draining(Some(self.proxy.drain_of(self.downstream.direction)));
        match detect(&mut stream, self.way.open_endpoint(), leaving).await {
            Detected::Spoken {
                spoken: Spoken::Tls,
                read,
                ..
            } if port.connections.by_server_name() => {
                let hello = match parse_client_hello(&read) {
                    MaybeHello::Whole(hello) => Some(hello),
                    MaybeHello::Partial | MaybeHello::Not => None,
                };
                let way = Way::of(&self.host, port, &self.downstream, hello.as_ref(), self.proxy.worker);
                open_and_pass_on(stream, read, &way).await;
            }
            Detected::Spoken {
                spoken: Spoken::Bytes | Spoken::Tls,
                read,
                upstream,
            } => match upstream {
                Some(endpoint) => pass_on(endpoint, stream, read, &self.way).await,
                None => open_and_pass_on(stream, read, &self.way).await,
            },
            Detected::Spoken { spoken, read, upstream } => {
                // Requests have connections of their own.
                drop(upstream);
                let (http2, drain) = (
                    spoken == Spoken::Http2,
                    Some(self.proxy.drain_of(self.downstream.direction)),
                );
                serve_recognised(&self.proxy, self.downstream, stream, read, http2, drain).await;
            }
            Detected::Failed(cause) => refuse(stream, &self.way, cause),
            Detected::Aborted { upstream } => {
                if let Some(endpoint) = upstream {
                    endpoint.stream.reset_when_dropped();
                    self.way.series.record(Flags::DC);
                }
            }
            Detected::Left => {}
        }
    }

    /// The name decides that the client asks for.
    async fn pass_by_name(&self, mut stream: Box<dyn Transport>, port: &Port) {
        let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
        tokio::select! {
            biased;
            first = stream.read_buf(&mut read) => if !first.is_ok_and(|count| count > 0) { return },
            () = draining(Some(self.proxy.drain_of(self.downstream.direction))) => return,
        }
        let hello = read_client_hello(&mut stream, &mut read).await;
        let way = Way::of(&self.host, port, &self.downstream, hello.as_ref(), self.proxy.worker);
        open_and_pass_on(stream, read.freeze(), &way).await;
    }
}

/// Where bytes go.
#[derive(Debug)]
struct Way {
    /// `None`: no such host or subset.
    cluster: Option<Arc<Cluster>>,
    series: Arc<TcpSeries>,
    /// No rule is for it.
    nowhere: bool,
    /// The client.
    remote: Option<SocketAddr>,
    worker: usize,
}

impl Way {
    fn of(
        host: &Host,
        port: &Port,
        downstream: &DownstreamConnection,
        hello: Option<&ClientHello>,
        worker: usize,
    ) -> Way {
        let seen = SeenConnection {
            destination: None,
            source: downstream.remote,
            hello,
        };
        let route = host.route_connection(port, &seen, rand::random());
        let nowhere = matches!(route, ConnectionRoute::Nowhere);
        match route {
            ConnectionRoute::Rule(destination) => Way {
                cluster: destination.cluster.clone(),
                series: Arc::clone(&destination.series),
                nowhere,
                remote: downstream.remote,
                worker,
            },
            ConnectionRoute::Own | ConnectionRoute::Nowhere => Way {
                cluster: port.plain.destinations.first().and_then(|own| own.cluster.clone()),
                series: Arc::clone(&port.tcp),
                nowhere,
                remote: downstream.remote,
                worker,
            },
        }
    }

    async fn open_endpoint(&self) -> Result<PlainConnection, Cause> {
        if self.nowhere {
            return Err(Cause::NoRoute("no tls rule is for the name".into()));
        }
        let cluster = self.cluster.as_ref();
        let cluster = cluster.ok_or_else(|| Cause::ClusterNotFound("the port has no cluster".into()))?;
        let caller = Caller::connection(&cluster.told, self.remote, self.worker);
        open_plain(&cluster.learned, &cluster.told, &cluster.members, caller)
            .await
            .map_err(|error| match error {
                PlainError::NoEndpoint => Cause::NoHealthyUpstream,
                PlainError::Overflow => Cause::Overflow("connections"),
                PlainError::Connect { source, .. } => Cause::ConnectFailure(source.to_string()),
            })
    }
}

/// Is it only what comes through the tunnel that says where that goes?
fn is_named_inside(port: &Port) -> bool {
    port.protocol == Protocol::Tls && port.connections.by_server_name()
}

async fn open_and_pass_on(stream: Box<dyn Transport>, read: Bytes, way: &Way) {
    match way.open_endpoint().await {
        Ok(endpoint) => pass_on(endpoint, stream, read, way).await,
        Err(cause) => refuse(stream, way, cause),
    }
}

/// Passes bytes until both sides are done.
async fn pass_on(mut endpoint: PlainConnection, mut stream: Box<dyn Transport>, read: Bytes, way: &Way) {
    let lifetime = endpoint.lifetime();
    let (passed, ending) = pass(&mut stream, &mut endpoint.stream, read, lifetime, &way.series).await;
    endpoint.observe_end(passed.sent > 0, ending == Ending::UpstreamReset);
}

/// It is answered already: that nobody is there can only be shown by its end.
fn refuse(stream: Box<dyn Transport>, way: &Way, cause: Cause) {
    let reply = cause.reply();
    tracing::debug!(reason = %reply.body, "tunnel ended");
    way.series.record(reply.flags);
    stream.reset_when_dropped();
}
