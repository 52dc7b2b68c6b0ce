//! Connections that were made to this proxy itself: requests say by themselves whom they are for, and so do TLS clients, by
//! the name that they ask for (`curl --connect-to ::127.0.0.1:15001 https://users/`).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::codec::{ClientHello, may_be_client_hello, read_client_hello};
use crate::drain::DrainWatch;
use crate::http::{DownstreamConnection, Proxy, find_server_name, read_start, serve_recognised};
use crate::snapshot::SeenConnection;
use crate::tcp::{Target, TcpConnection};
use crate::telemetry::Direction;

/// Serves until either side ends it.
pub(super) async fn serve(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    mut stream: TcpStream,
    drain: DrainWatch,
) {
    let Some((http2, read)) = read_start(&mut stream, Some(&drain)).await else {
        return;
    };
    if downstream.direction == Direction::Outbound && may_be_client_hello(&read) {
        return Box::pin(serve_tls(proxy, downstream, stream, read, drain)).await;
    }
    serve_recognised(proxy, downstream, stream, read, http2, Some(drain)).await;
}

async fn serve_tls(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    mut stream: TcpStream,
    read: Bytes,
    drain: DrainWatch,
) {
    let mut read = BytesMut::from(read);
    let hello = read_client_hello(&mut stream, &mut read).await;
    let read = read.freeze();
    let Some(hello) = hello else {
        // It is no request either, and is answered as such.
        return serve_recognised(proxy, downstream, stream, read, false, Some(drain)).await;
    };
    let target = find(proxy, &downstream, &hello)
        .await
        .unwrap_or_else(|| Target::Unrouted {
            series: Arc::clone(&proxy.passthrough.unrouted_tcp),
        });
    TcpConnection::new(
        downstream.direction,
        downstream.remote,
        proxy.worker,
        &proxy.access_log,
        target,
    )
    .saying(Some(&hello))
    .serve(stream, read, None)
    .await;
}

/// Where the name leads; nowhere, if nobody has it, or no port for TLS.
async fn find(proxy: &Proxy, downstream: &DownstreamConnection, hello: &ClientHello) -> Option<Target> {
    let host = find_server_name(proxy, hello.server_name.as_deref()?, true).await?;
    let port = host.first_tls_port()?.number;
    host.touch();
    let seen = SeenConnection {
        destination: None,
        source: downstream.remote,
        hello: Some(hello),
    };
    Target::routed(&host, port, &seen)
}
