//! Binding of every address before anything is served, so that a start either has them all or names the one it lacks.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::bootstrap::Options;
use crate::error::StartError;
use crate::net;

/// Every socket of the proxy, listening and non-blocking.
pub(super) struct Sockets {
    pub(super) doors: Doors,
    pub(super) workers: Vec<WorkerSockets>,
}

pub(super) struct Doors {
    pub(super) admin: TcpListener,
    pub(super) metrics: TcpListener,
    pub(super) health: TcpListener,
}

/// The accept sockets of one data thread.
pub(super) struct WorkerSockets {
    pub(super) outbound: TcpListener,
    pub(super) inbound: TcpListener,
    /// With the real ports, where 0 was asked for.
    pub(super) outbound_addr: SocketAddr,
    pub(super) inbound_addr: SocketAddr,
}

impl Sockets {
    pub(super) fn bind(options: &Options) -> Result<Sockets, StartError> {
        let (outbound_addr, outbound) = bind_shared("outbound-addr", options.outbound_addr, options.workers)?;
        let (inbound_addr, inbound) = bind_shared("inbound-addr", options.inbound_addr, options.workers)?;
        let workers = outbound.into_iter().zip(inbound);
        let workers = workers.map(|(outbound, inbound)| WorkerSockets {
            outbound,
            inbound,
            outbound_addr,
            inbound_addr,
        });
        let doors = Doors {
            admin: bind_alone("admin-addr", options.admin_addr)?,
            metrics: bind_alone("metrics-addr", options.metrics_addr)?,
            health: bind_alone("health-addr", options.health_addr)?,
        };
        Ok(Sockets {
            doors,
            workers: workers.collect(),
        })
    }

    /// Name and real address of each listener.
    pub(super) fn announcement(&self) -> Vec<(&'static str, SocketAddr)> {
        let worker = self.workers.first();
        let shared = worker.map(|sockets| [("outbound", sockets.outbound_addr), ("inbound", sockets.inbound_addr)]);
        let Doors { admin, metrics, health } = &self.doors;
        let alone = [("admin", admin), ("metrics", metrics), ("health", health)];
        let alone = alone
            .into_iter()
            .filter_map(|(name, socket)| Some((name, socket.local_addr().ok()?)));
        shared.into_iter().flatten().chain(alone).collect()
    }
}

/// Says on stderr where the proxy listens, whatever the log level: people and test harnesses wait for these lines.
pub(super) fn announce(listeners: &[(&'static str, SocketAddr)]) {
    for (name, address) in listeners {
        eprintln!("listening {name}={address}");
    }
}

fn bind_alone(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind().map_err(|source| StartError::Bind { flag, address, source })
}

/// One socket per worker on the same address.
fn bind_shared(
    flag: &'static str,
    address: SocketAddr,
    workers: usize,
) -> Result<(SocketAddr, Vec<TcpListener>), StartError> {
    let bind = || {
        refuse_company(address)?;
        let first = net::bind(address)?;
        let address = first.local_addr()?;
        let others = (1..workers).map(|_| net::bind(address));
        let sockets: io::Result<Vec<_>> = std::iter::once(Ok(first)).chain(others).collect();
        Ok((address, sockets?))
    };
    bind().map_err(|source| StartError::Bind { flag, address, source })
}

/// Fails if anybody listens there. Sockets that share a port also share it with another process of the same user: two
/// proxies started by mistake would each get half of the connections, and neither would say a word.
fn refuse_company(address: SocketAddr) -> io::Result<()> {
    if address.port() != 0 {
        TcpListener::bind(address)?;
    }
    Ok(())
}
