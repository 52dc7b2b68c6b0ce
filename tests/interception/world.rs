//! A pod with an application and a sidecar whose outbound connections the packet filter redirects, services with virtual
//! addresses, and another pod where their endpoints and those of nobody listen.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, block_in_place};
use tsunagi_proto::model::endpoints_checksum;
use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};
use tsunagi_tests::{Bridge, LIMIT, PROXY_UID, Pod, RawConnection, Sidecar, SidecarOptions, require_root, within};

use crate::plane::Plane;

pub(crate) const SERVICE: &str = "user.default.svc.cluster.local";

pub(crate) struct World {
    pub(crate) plane: Plane,
    pub(crate) app: Pod,
    pub(crate) server: Pod,
    pub(crate) sidecar: Sidecar,
    _bridge: Bridge,
}

/// A port of the service `user`, and where its endpoints listen.
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) protocol: mesh::Protocol,
    pub(crate) pool: mesh::ConnectionPool,
}

impl Port {
    pub(crate) fn new(number: u16, protocol: mesh::Protocol) -> Port {
        Port {
            number,
            protocol,
            pool: mesh::ConnectionPool::default(),
        }
    }
}

impl World {
    /// `None`: this machine lets the test make no pods, and it has said so.
    pub(crate) async fn start() -> Option<World> {
        World::start_with(&SidecarOptions::default()).await
    }

    pub(crate) async fn start_with(options: &SidecarOptions) -> Option<World> {
        if !require_root() {
            return None;
        }
        let bridge = Bridge::new();
        let (app, server) = (bridge.pod("app"), bridge.pod("server"));
        let plane = Plane::start(bridge.address()).await;
        block_in_place(|| redirect(&app));
        let sidecar = Sidecar::start_in(&app, plane.address, options).ready().await;
        Some(World {
            plane,
            app,
            server,
            sidecar,
            _bridge: bridge,
        })
    }

    /// The virtual address of the service `user`: nobody has it.
    pub(crate) fn virtual_address(&self) -> IpAddr {
        [10, 255, 255, 254].into()
    }

    pub(crate) fn service_port(&self, number: u16) -> SocketAddr {
        SocketAddr::new(self.virtual_address(), number)
    }

    /// Tells of the service `user` with one port, whose endpoints are these.
    pub(crate) fn tell(&self, port: &Port, endpoints: &[SocketAddr]) {
        self.tell_at(self.virtual_address(), port, endpoints);
    }

    /// The same, at another virtual address.
    pub(crate) fn tell_at(&self, address: IpAddr, port: &Port, endpoints: &[SocketAddr]) {
        let address = address.to_string();
        let alias = mesh::Host {
            fqdn: address.clone(),
            alias_of: SERVICE.to_owned(),
            ..Default::default()
        };
        let host = mesh::Host {
            fqdn: SERVICE.to_owned(),
            namespace: "default".to_owned(),
            ports: vec![mesh::Port {
                number: port.number.into(),
                protocol: port.protocol.into(),
                ..Default::default()
            }],
            clusters: vec![mesh::Cluster {
                host: SERVICE.to_owned(),
                port: port.number.into(),
                protocol: port.protocol.into(),
                connection_pool: Some(port.pool),
                ..Default::default()
            }],
            addresses: vec![address.clone()],
            ..Default::default()
        };
        let upserts: Vec<mesh::Endpoint> = endpoints
            .iter()
            .enumerate()
            .map(|(index, endpoint)| mesh::Endpoint {
                id: index.to_string(),
                address: endpoint.ip().to_string(),
                ports: vec![mesh::EndpointPort {
                    service_port: port.number.into(),
                    port: endpoint.port().into(),
                }],
                ..Default::default()
            })
            .collect();
        let endpoints = mesh::Endpoints {
            fqdn: SERVICE.to_owned(),
            checksum: endpoints_checksum(&upserts),
            upserts,
            ..Default::default()
        };
        self.plane.set(names::endpoints(SERVICE), Kind::Endpoints(endpoints));
        self.plane.set(names::host(SERVICE), Kind::Host(host));
        self.plane.set(names::host(&address), Kind::Host(alias));
    }

    /// A connection of the application.
    pub(crate) async fn connect(&self, to: SocketAddr) -> RawConnection {
        let stream = block_in_place(|| self.app.connect(to)).expect("the sidecar accepts");
        RawConnection::over(to_tokio(stream))
    }

    /// Is a connection of the application reset? That may happen before it knows that it is connected.
    pub(crate) async fn is_refused(&self, to: SocketAddr, bytes: &[u8]) -> bool {
        match block_in_place(|| self.app.connect(to)) {
            Ok(stream) => {
                let mut client = RawConnection::over(to_tokio(stream));
                // Whoever hears of a reset first is the only one to hear of it.
                match client.stream.write_all(bytes).await {
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                    _ => is_reset(&mut client).await,
                }
            }
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// A port of the other pod; the test takes its connections.
    pub(crate) async fn listen(&self) -> Listening {
        Listening::in_pod(&self.server, 0)
    }
}

/// A listener whose connections the test serves itself.
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<TcpStream>,
    _accepting: JoinSet<()>,
}

impl Listening {
    pub(crate) fn in_pod(pod: &Pod, port: u16) -> Listening {
        let listener = block_in_place(|| pod.listen(port));
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime runs");
        let mut address = listener.local_addr().expect("bound");
        address.set_ip(pod.address());
        let (sender, accepted) = mpsc::unbounded_channel();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                sender.send(stream).ok();
            }
        });
        Listening {
            address,
            accepted,
            _accepting: accepting,
        }
    }

    pub(crate) async fn accept(&mut self) -> RawConnection {
        let stream = within("a connection", LIMIT, self.accepted.recv()).await;
        RawConnection::over(stream.expect("the listener lives"))
    }

    /// Has nobody connected that was not accepted yet?
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.accepted.try_recv().is_err()
    }
}

pub(crate) async fn is_reset(connection: &mut RawConnection) -> bool {
    let read = within("an ending", LIMIT, connection.stream.read(&mut [0; 64])).await;
    read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

pub(crate) fn to_tokio(stream: std::net::TcpStream) -> TcpStream {
    stream.set_nonblocking(true).expect("a socket");
    TcpStream::from_std(stream).expect("a runtime runs")
}

/// What the application sends goes to the sidecar, but for loopback; what the sidecar sends goes where it is sent; what
/// others send to port 8080 goes to the sidecar.
pub(crate) fn redirect(pod: &Pod) {
    let uid = PROXY_UID.to_string();
    for (tool, loopback) in [("iptables", "127.0.0.0/8"), ("ip6tables", "::1/128")] {
        if tool == "ip6tables" && !pod.has_ipv6() {
            continue;
        }
        let outbound =
            format!("OUTPUT -p tcp ! -d {loopback} -m owner ! --uid-owner {uid} -j REDIRECT --to-ports 15001");
        let inbound = "PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006".to_owned();
        for rule in [outbound, inbound] {
            let mut command = pod.command(tool);
            command.args(["-w", "-t", "nat", "-A"]).args(rule.split(' '));
            let output = command.output().expect("the packet filter's tool starts");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{tool} {rule}: {said}");
        }
    }
}
