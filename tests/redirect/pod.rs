//! A pod with somebody on the sidecar's ports and on the application's, and another pod without any of that. Everybody
//! says who they are and which address the client wanted, so that a client knows where it has arrived.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use socket2::{SockRef, Socket};
use tsunagi_tests::{Bridge, LIMIT, Pod, binaries};

pub const APPLICATION_UID: u32 = 1000;

const ELSEWHERE_PORTS: [u16; 9] = [53, 8080, 8082, 8085, 8090, 8095, 8099, 8089, 8100];

/// Where a connection has arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrived {
    /// At the sidecar's outbound port, with the destination that the packet filter remembers.
    Outbound(SocketAddr),
    Inbound(SocketAddr),
    /// At this port of the pod itself.
    InPerson(u16),
    Elsewhere,
}

pub struct Meshed {
    pub pod: Pod,
    pub other: Pod,
}

pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `tsunagi-proxy redirect ...` inside.
pub fn redirect(pod: &Pod, what: &str, writer: &str, flags: &[&str]) -> Output {
    let mut command = pod.command(&binaries().proxy);
    command.args(["redirect", what, "--backend", writer]).args(flags);
    run(&mut command)
}

impl Meshed {
    pub fn new(bridge: &Bridge) -> Meshed {
        let meshed = Meshed {
            pod: bridge.pod("meshed"),
            other: bridge.pod("other"),
        };
        for port in [15001, 15006, 15021, 15090, 8080, 8081] {
            say_who(meshed.pod.listen(port), &format!("here {port}"));
        }
        stand_elsewhere(&meshed.other);
        meshed.other.run(answer_datagrams);
        meshed
    }

    pub fn redirect(&self, what: &str, writer: &str, flags: &[&str]) -> Output {
        redirect(&self.pod, what, writer, flags)
    }

    /// A connection of a user inside the pod: the kernel asks for the user of the process, so it is one of its own.
    pub fn connect(&self, uid: u32, destination: SocketAddr) -> Arrived {
        let host = destination.ip().to_string();
        let mut command = self.pod.command_as(uid, "curl");
        command.args(["-sS", "--noproxy", "*", "--http0.9", "--max-time", "20"]);
        let host = if destination.is_ipv6() {
            format!("[{host}]")
        } else {
            host
        };
        command.arg(format!("http://{host}:{}/", destination.port()));
        arrived(&run(&mut command).stdout)
    }

    /// As the inbound path reaches the application: from 127.0.0.6 or ::6, as the sidecar's user.
    pub fn connect_from_inbound_source(&self, destination: SocketAddr) -> Arrived {
        let source = if destination.is_ipv4() { "127.0.0.6" } else { "::6" };
        let mut command = self.pod.command_as(tsunagi_tests::PROXY_UID, "curl");
        command.args([
            "-sS",
            "--noproxy",
            "*",
            "--http0.9",
            "--max-time",
            "20",
            "--interface",
            source,
        ]);
        command.arg(format!("http://{destination}/"));
        let output = run(&mut command);
        assert_eq!(output.stderr, "");
        arrived(&output.stdout)
    }

    pub fn connect_from_outside(&self, destination: SocketAddr) -> Arrived {
        ask(self.other.connect(destination).expect("somebody accepts"))
    }

    /// The same port of the pod's loopback.
    pub fn loopback(&self, like: SocketAddr) -> SocketAddr {
        let ip: IpAddr = if like.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        };
        SocketAddr::new(ip, like.port())
    }

    pub fn any(&self, like: SocketAddr) -> IpAddr {
        if like.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        }
    }
}

pub fn ask(mut stream: TcpStream) -> Arrived {
    stream.set_read_timeout(Some(LIMIT)).expect("a socket");
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a connection");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    arrived(&text)
}

fn arrived(text: &str) -> Arrived {
    let body = text.split("\r\n\r\n").last().unwrap_or_default();
    match body.split(' ').collect::<Vec<_>>().as_slice() {
        ["here", "15001", wanted] => Arrived::Outbound(wanted.parse().expect("an address")),
        ["here", "15006", wanted] => Arrived::Inbound(wanted.parse().expect("an address")),
        ["here", port, _] => Arrived::InPerson(port.parse().expect("a port")),
        ["elsewhere", _] => Arrived::Elsewhere,
        other => unreachable!("nobody answers like this: {other:?}"),
    }
}

/// On some ports of a pod without a sidecar.
pub fn stand_elsewhere(pod: &Pod) {
    for port in ELSEWHERE_PORTS {
        say_who(pod.listen(port), "elsewhere");
    }
}

/// Answers every connection until its namespace's last user is gone.
fn say_who(listener: TcpListener, who: &str) {
    let who = who.to_owned();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let wanted = original_destination(&stream).map_or("nobody".to_owned(), |it| it.to_string());
            let body = format!("{who} {wanted}");
            let length = body.len();
            stream.set_read_timeout(Some(LIMIT)).ok();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
        }
    });
}

fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let socket: SockRef<'_> = SockRef::from(stream);
    let socket: &Socket = &socket;
    let local = stream.local_addr().ok()?;
    let wanted = if local.ip().to_canonical().is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    wanted.ok()?.as_socket()
}

/// Sends each datagram back.
fn answer_datagrams() {
    for address in ["0.0.0.0:53", "[::]:53"] {
        let bound = match address.starts_with('[') {
            false => UdpSocket::bind(address).expect("the pod's port is free"),
            true => {
                let socket = Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None);
                let bind = |socket: Socket| {
                    socket.set_only_v6(true)?;
                    socket.bind(&address.parse::<SocketAddr>().expect("an address").into())?;
                    Ok::<UdpSocket, std::io::Error>(socket.into())
                };
                match socket.and_then(bind) {
                    Ok(bound) => bound,
                    // No IPv6 on this machine.
                    Err(_) => return,
                }
            }
        };
        std::thread::spawn(move || {
            let mut datagram = [0; 512];
            while let Ok((length, from)) = bound.recv_from(&mut datagram) {
                let _ = bound.send_to(&datagram[..length], from);
            }
        });
    }
}
