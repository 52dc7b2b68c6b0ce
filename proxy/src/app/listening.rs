//! Binding of every address before anything is served, so that a start either has them all or names the one it lacks.
//!
//! An IPv4 address that redirected connections arrive at has an IPv6 companion on the same port: a packet filter redirects
//! IPv6 to `::1` or to the address it came in on. Nobody asked for it by name, so it is taken where it can be had.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

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
    pub(super) metrics_v6: Option<TcpListener>,
    pub(super) health_v6: Option<TcpListener>,
}

/// The accept sockets of one data thread.
pub(super) struct WorkerSockets {
    pub(super) outbound: TcpListener,
    pub(super) inbound: TcpListener,
    pub(super) outbound_v6: Option<TcpListener>,
    pub(super) inbound_v6: Option<TcpListener>,
    /// With the real ports, where 0 was asked for.
    pub(super) outbound_addr: SocketAddr,
    pub(super) inbound_addr: SocketAddr,
}

impl Sockets {
    pub(super) fn bind(options: &Options) -> Result<Sockets, StartError> {
        let (outbound_addr, outbound) = bind_shared("outbound-addr", options.outbound_addr, options.workers)?;
        let (inbound_addr, inbound) = bind_shared("inbound-addr", options.inbound_addr, options.workers)?;
        let mut outbound_v6 = companions("outbound", outbound_addr, options.workers).into_iter();
        let mut inbound_v6 = companions("inbound", everywhere(inbound_addr), options.workers).into_iter();
        let workers = outbound.into_iter().zip(inbound);
        let workers = workers.map(|(outbound, inbound)| WorkerSockets {
            outbound,
            inbound,
            outbound_v6: outbound_v6.next(),
            inbound_v6: inbound_v6.next(),
            outbound_addr,
            inbound_addr,
        });
        let metrics = bind_alone("metrics-addr", options.metrics_addr)?;
        let health = bind_alone("health-addr", options.health_addr)?;
        let doors = Doors {
            admin: bind_alone("admin-addr", options.admin_addr)?,
            metrics_v6: companion_of("metrics", &metrics),
            health_v6: companion_of("health", &health),
            metrics,
            health,
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
        let Doors {
            admin, metrics, health, ..
        } = &self.doors;
        let alone = [("admin", admin), ("metrics", metrics), ("health", health)];
        let alone = alone
            .into_iter()
            .filter_map(|(name, socket)| Some((name, socket.local_addr().ok()?)));
        shared.into_iter().flatten().chain(alone).collect()
    }
}

impl Sockets {
    /// Name and address of each IPv6 companion.
    pub(super) fn companions(&self) -> Vec<(&'static str, SocketAddr)> {
        let worker = self.workers.first();
        let of_worker = |pick: fn(&WorkerSockets) -> &Option<TcpListener>| worker.and_then(|it| pick(it).as_ref());
        let companions = [
            ("outbound", of_worker(|it| &it.outbound_v6)),
            ("inbound", of_worker(|it| &it.inbound_v6)),
            ("metrics", self.doors.metrics_v6.as_ref()),
            ("health", self.doors.health_v6.as_ref()),
        ];
        let address = |(name, socket): (_, Option<&TcpListener>)| Some((name, socket?.local_addr().ok()?));
        companions.into_iter().filter_map(address).collect()
    }
}

/// The IPv6 address that stands beside this one: `::1` beside 127.0.0.1, `::` beside 0.0.0.0.
fn beside(address: SocketAddr) -> Option<SocketAddr> {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Ipv6Addr::LOCALHOST,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv6Addr::UNSPECIFIED,
        _ => return None,
    };
    Some(SocketAddr::new(ip.into(), address.port()))
}

/// Only if it means every address.
fn everywhere(address: SocketAddr) -> Option<SocketAddr> {
    address.ip().is_unspecified().then_some(address)
}

fn companion_of(name: &'static str, socket: &TcpListener) -> Option<TcpListener> {
    let address = socket.local_addr().ok().and_then(everywhere);
    companions(name, address, 1).into_iter().next()
}

/// One socket per worker beside `address`, all or none.
fn companions(name: &'static str, address: impl Into<Option<SocketAddr>>, workers: usize) -> Vec<TcpListener> {
    let Some(address) = address.into().and_then(beside) else {
        return Vec::new();
    };
    let bind = || {
        refuse_company_v6(address)?;
        (0..workers)
            .map(|_| net::bind_only_v6(address))
            .collect::<io::Result<Vec<_>>>()
    };
    match bind() {
        Ok(sockets) => {
            tracing::info!(listener = name, %address, "IPv6 connections are taken too");
            sockets
        }
        Err(error) => {
            tracing::debug!(listener = name, %address, %error, "IPv6 connections are not taken");
            Vec::new()
        }
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

/// Fails if anybody listens there over IPv6: as `refuse_company`, and for the same reason.
fn refuse_company_v6(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Fails if anybody listens there. Sockets that share a port also share it with another process of the same user: two
/// proxies started by mistake would each get half of the connections, and neither would say a word.
fn refuse_company(address: SocketAddr) -> io::Result<()> {
    if address.port() != 0 {
        TcpListener::bind(address)?;
    }
    Ok(())
}
