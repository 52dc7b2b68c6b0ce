//! `CONNECT`: a connection inside a connection. What comes through it is for one port of one host: requests of an HTTP
//! port are served like any other, of a TCP port the bytes are passed on.

use std::pin::Pin;
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;

use super::connection::{serve_connection, starts_like_http};
use super::local_reply::Cause;
use super::request_path::{Downstream, Proxy};
use crate::net::{Prefixed, connect};
use crate::snapshot::{Cluster, Host, Port};
use crate::upstream::{ActiveRequest, ConnectionPermit, Outcome, choose};

/// Opens the tunnel once the answer to the `CONNECT` is sent. An error is the answer.
pub fn open(
    proxy: &Arc<Proxy>,
    downstream: &Downstream,
    host: &Arc<Host>,
    port: &Port,
    upgrade: OnUpgrade,
) -> Result<(), Cause> {
    if downstream.tunnelled {
        return Err(Cause::BadRequest("a tunnel inside a tunnel is not served"));
    }
    let inner = Downstream {
        tunnelled: true,
        ..*downstream
    };
    tokio::spawn(run(Arc::clone(proxy), inner, Arc::clone(host), port.number, upgrade));
    Ok(())
}

/// Boxed, because serving a tunnel is serving connections, which may open tunnels.
fn run(
    proxy: Arc<Proxy>,
    downstream: Downstream,
    host: Arc<Host>,
    number: u16,
    upgrade: OnUpgrade,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let stream = TokioIo::new(upgraded);
        let Some(port) = host.port(number) else { return };
        let result = if port.protocol.is_http() {
            serve_or_pass(&proxy, downstream, port, stream).await
        } else {
            pass(port, stream).await
        };
        if let Err(error) = result {
            tracing::debug!(%error, "tunnel ended");
        }
    })
}

/// Where no protocol is declared, the first bytes decide.
async fn serve_or_pass<S>(proxy: &Arc<Proxy>, downstream: Downstream, port: &Port, mut stream: S) -> std::io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (http, prefix) = starts_like_http(&mut stream).await?;
    let stream = Prefixed::new(prefix, stream);
    if http {
        serve_connection(proxy, downstream, stream, None).await;
        return Ok(());
    }
    pass(port, stream).await
}

/// Passes bytes to an endpoint of the port's own cluster until both sides are done.
async fn pass<S: AsyncRead + AsyncWrite + Unpin>(port: &Port, mut stream: S) -> std::io::Result<()> {
    let cluster = port
        .plain
        .destinations
        .first()
        .and_then(|destination| destination.cluster.as_deref());
    let cluster = cluster.ok_or_else(|| std::io::Error::other("the port has no cluster"))?;
    let (mut endpoint, _active, _permit) = open_endpoint(cluster).await?;
    copy_bidirectional(&mut stream, &mut endpoint).await?;
    Ok(())
}

async fn open_endpoint(cluster: &Cluster) -> std::io::Result<(TcpStream, ActiveRequest, ConnectionPermit)> {
    let permit = ConnectionPermit::try_open(&cluster.learned).ok_or_else(|| {
        cluster.learned.series.overflow_connections.increment(1);
        std::io::Error::other("the connection limit is reached")
    })?;
    let mut active = choose(
        &cluster.learned,
        &cluster.told,
        &cluster.members,
        &[],
        &mut rand::random::<u64>,
    )
    .ok_or_else(|| std::io::Error::other("no healthy upstream"))?;
    let detection = cluster.told.outlier_detection.as_ref();
    match connect(active.endpoint.address, cluster.told.connection_pool.connect_timeout).await {
        Ok(stream) => {
            active.observe(&cluster.learned, detection, Outcome::Connected);
            Ok((stream, active, permit))
        }
        Err(error) => {
            active.observe(&cluster.learned, detection, Outcome::ConnectFailure);
            Err(std::io::Error::other(error))
        }
    }
}
