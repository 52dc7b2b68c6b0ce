//! The data threads' doors: accept on the outbound and the inbound socket, find out where each connection was headed, serve
//! it, stop at the end.

mod direct;
mod redirected;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpStream};

use crate::codec::Transport;
use crate::drain::DrainWatch;
use crate::http::{DownstreamConnection, Proxy};
use crate::net::{canonical, original_destination};
use crate::telemetry::{Direction, Telemetry};

/// Pause after `accept` failed, for example for want of file descriptors.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// The packet filter has brought a connection to this process's inbound socket.
static INBOUND_IS_REDIRECTED: AtomicBool = AtomicBool::new(false);

/// Accepts on one socket of one worker until its side closes, then what is in its queue. Connections go on in tasks of
/// their own.
pub async fn accept(
    listener: std::net::TcpListener,
    direction: Direction,
    proxy: Arc<Proxy>,
    telemetry: Telemetry,
    mut drain: DrainWatch,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.closing() => break,
        };
        match accepted {
            Ok((stream, remote)) => serve(stream, remote, direction, &proxy, &telemetry, &drain),
            Err(error) => {
                tracing::warn!(%error, direction = direction.as_str(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Whoever connected before the end is served, not reset.
    let listener = listener.into_std()?;
    while let Ok((stream, remote)) = listener.accept() {
        stream.set_nonblocking(true)?;
        serve(
            TcpStream::from_std(stream)?,
            remote,
            direction,
            &proxy,
            &telemetry,
            &drain,
        );
    }
    Ok(())
}

fn serve(
    stream: TcpStream,
    remote: SocketAddr,
    direction: Direction,
    proxy: &Arc<Proxy>,
    telemetry: &Telemetry,
    drain: &DrainWatch,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the client left before it was served");
        return;
    }
    let guards = (telemetry.active_connection(direction), drain.connection());
    let original_destination = original_destination(&stream);
    let called_at = original_destination.or_else(|| Some(canonical(stream.local_addr().ok()?)));
    let downstream = DownstreamConnection {
        direction,
        remote: Some(remote),
        original_destination,
        called_at,
        tunnelled: false,
        by_upgrade: false,
    };
    if downstream.original_destination.is_some() {
        proxy.drain.set_in_pod();
        if direction == Direction::Inbound {
            INBOUND_IS_REDIRECTED.store(true, Ordering::Relaxed);
        }
    }
    let (proxy, drain) = (Arc::clone(proxy), drain.clone());
    if direction == Direction::Inbound
        && downstream.original_destination.is_none()
        && INBOUND_IS_REDIRECTED.load(Ordering::Relaxed)
        && called_at.is_some_and(|address| !address.ip().is_loopback())
    {
        // Whoever means the application is redirected here: this one called the proxy's own port from outside.
        tracing::debug!(%remote, "connection to this proxy itself refused");
        return stream.reset_when_dropped();
    }
    // Two tasks, because each is as large as what it may have to do.
    match downstream.original_destination {
        None => tokio::spawn(async move {
            direct::serve(&proxy, downstream, stream, drain).await;
            proxy.own_connections.end(downstream.addresses());
            drop(guards);
        }),
        Some(destination) => tokio::spawn(async move {
            redirected::serve(&proxy, downstream, destination, stream, drain).await;
            proxy.own_connections.end(downstream.addresses());
            drop(guards);
        }),
    };
}
