//! `CONNECT`: a connection inside a connection. What comes through it is for one port of one host: requests of an HTTP
//! port are served like any other, of a TCP port the bytes are passed on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;

use super::connection::{draining, serve_connection, starts_like_http};
use super::downstream::DownstreamConnection;
use super::local_reply::Cause;
use super::request_path::Proxy;
use crate::codec::Prefixed;
use crate::codec::Transport;
use crate::drain::LiveConnectionGuard;
use crate::net::connect;
use crate::snapshot::{Host, Port};
use crate::telemetry::ActiveConnectionGuard;
use crate::upstream::{ActiveRequest, ConnectionPermit, Outcome, choose};

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
    endpoint: Option<OpenEndpoint>,
    _guards: (ActiveConnectionGuard, LiveConnectionGuard),
}

#[derive(Debug)]
struct OpenEndpoint {
    stream: TcpStream,
    _active: ActiveRequest,
    _permit: ConnectionPermit,
}

impl Tunnel {
    /// Until either side ends it. Boxed, because serving a tunnel is serving connections, which may open tunnels.
    pub fn run(mut self, mut stream: Box<dyn Transport>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let result = match &mut self.endpoint {
                Some(endpoint) => pass(endpoint, &mut stream).await,
                None => self.serve_or_pass(stream).await,
            };
            if let Err(error) = result {
                tracing::debug!(%error, "tunnel ended");
            }
        })
    }

    /// Where no protocol is declared, the first bytes decide.
    async fn serve_or_pass(&self, mut stream: Box<dyn Transport>) -> io::Result<()> {
        let drain = self.proxy.drain_of(self.downstream.direction);
        let (http, prefix) = tokio::select! {
            biased;
            first = starts_like_http(&mut stream) => first?,
            // Nothing has come through it yet, so nothing is lost.
            () = draining(Some(drain.clone())) => return Ok(()),
        };
        let mut stream: Box<dyn Transport> = Box::new(Prefixed::new(prefix, stream));
        if http {
            serve_connection(&self.proxy, self.downstream, stream, Some(drain)).await;
            return Ok(());
        }
        let port = self.host.port(self.number).ok_or(io::ErrorKind::NotFound)?;
        let mut endpoint = open_endpoint(port)
            .await
            .map_err(|cause| io::Error::other(cause.reply().body))?;
        pass(&mut endpoint, &mut stream).await
    }
}

/// Passes bytes until both sides are done.
async fn pass(endpoint: &mut OpenEndpoint, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    copy_bidirectional(stream, &mut endpoint.stream).await?;
    Ok(())
}

/// A connection to an endpoint of the port's own cluster.
async fn open_endpoint(port: &Port) -> Result<OpenEndpoint, Cause> {
    let cluster = port
        .plain
        .destinations
        .first()
        .and_then(|destination| destination.cluster.as_deref());
    let cluster = cluster.ok_or_else(|| Cause::ClusterNotFound("the port has no cluster".into()))?;
    let permit = ConnectionPermit::try_open(&cluster.learned).ok_or_else(|| {
        cluster.learned.series.overflow_connections.increment(1);
        Cause::Overflow("connections")
    })?;
    let mut active = choose(
        &cluster.learned,
        &cluster.told,
        &cluster.members,
        &[],
        &mut rand::random::<u64>,
    )
    .ok_or(Cause::NoHealthyUpstream)?;
    let detection = cluster.told.outlier_detection.as_ref();
    match connect(active.endpoint.address, cluster.told.connection_pool.connect_timeout).await {
        Ok(stream) => {
            active.observe(&cluster.learned, detection, Outcome::Connected);
            Ok(OpenEndpoint {
                stream,
                _active: active,
                _permit: permit,
            })
        }
        Err(error) => {
            if !error.is_local() {
                active.observe(&cluster.learned, detection, Outcome::ConnectFailure);
            }
            Err(Cause::ConnectFailure(error.to_string()))
        }
    }
}
