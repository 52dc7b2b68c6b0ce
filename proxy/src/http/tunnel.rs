//! `CONNECT`: a connection inside a connection. What comes through it is for one port of one host: requests of an HTTP
//! port are served like any other, of a TCP port the bytes are passed on.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tsunagi_proto::model::Protocol;

use super::connection::{draining, serve_connection, serve_recognised};
use super::downstream::DownstreamConnection;
use super::local_reply::Cause;
use super::request_path::Proxy;
use crate::codec::{Detected, Spoken, Transport, detect, pass};
use crate::drain::LiveConnectionGuard;
use crate::snapshot::{Host, Port};
use crate::telemetry::{ActiveConnectionGuard, Flags};
use crate::upstream::{PlainConnection, PlainError, open_plain};

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
    let endpoint = if port.protocol.is_http() {
        None
    } else {
        Some(open_endpoint(port).await?)
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
    /// `None`: requests come through it.
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
                Some(endpoint) => pass_on(endpoint, stream, Bytes::new(), port).await,
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
        match detect(&mut stream, open_endpoint(port), leaving).await {
            Detected::Spoken {
                spoken: Spoken::Bytes,
                read,
                upstream,
            } => {
                let endpoint = match upstream {
                    Some(endpoint) => Ok(endpoint),
                    None => open_endpoint(port).await,
                };
                match endpoint {
                    Ok(endpoint) => pass_on(endpoint, stream, read, port).await,
                    Err(cause) => refuse(stream, port, cause),
                }
            }
            Detected::Spoken { spoken, read, upstream } => {
                // Requests have connections of their own.
                drop(upstream);
                let (http2, drain) = (
                    spoken == Spoken::Http2,
                    Some(self.proxy.drain_of(self.downstream.direction)),
                );
                serve_recognised(&self.proxy, self.downstream, stream, read, http2, drain).await;
            }
            Detected::Failed(cause) => refuse(stream, port, cause),
            Detected::Aborted { upstream } => {
                if let Some(endpoint) = upstream {
                    endpoint.stream.reset_when_dropped();
                    port.tcp.record(Flags::DC);
                }
            }
            Detected::Left => {}
        }
    }
}

/// Passes bytes until both sides are done.
async fn pass_on(mut endpoint: PlainConnection, mut stream: Box<dyn Transport>, read: Bytes, port: &Port) {
    let idle = endpoint.idle_timeout();
    pass(&mut stream, &mut endpoint.stream, read, idle, &port.tcp).await;
}

/// It is answered already: that nobody is there can only be shown by its end.
fn refuse(stream: Box<dyn Transport>, port: &Port, cause: Cause) {
    let reply = cause.reply();
    tracing::debug!(reason = %reply.body, "tunnel ended");
    port.tcp.record(reply.flags);
    stream.reset_when_dropped();
}

/// A connection to an endpoint of the port's own cluster.
async fn open_endpoint(port: &Port) -> Result<PlainConnection, Cause> {
    let cluster = port
        .own_cluster()
        .ok_or_else(|| Cause::ClusterNotFound("the port has no cluster".into()))?;
    open_plain(&cluster.learned, &cluster.told, &cluster.members)
        .await
        .map_err(|error| match error {
            PlainError::NoEndpoint => Cause::NoHealthyUpstream,
            PlainError::Overflow => Cause::Overflow("connections"),
            PlainError::Connect { source, .. } => Cause::ConnectFailure(source.to_string()),
        })
}
