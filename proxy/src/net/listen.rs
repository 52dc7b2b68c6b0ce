//! Listening sockets. Every worker has one of its own on the same address (`SO_REUSEPORT`): the kernel spreads
//! connections over them and no connection is handed between threads.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Length of the accept queue.
const BACKLOG: i32 = 4096;

/// Binds one worker's socket. With port 0 bind the first worker, then the others to the port it got.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    bind_socket(socket, address)
}

/// The same for an IPv6 address that must not take IPv4 connections too: somebody else has those.
pub fn bind_only_v6(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(true)?;
    bind_socket(socket, address)
}

fn bind_socket(socket: Socket, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
