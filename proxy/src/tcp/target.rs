//! Where a TCP connection goes: to a port of a service, where a rule says, to an address that nobody registered, or nowhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tsunagi_proto::model::ConnectionPool;

use crate::codec::{Lifetime, Speaker};
use crate::net::connect;
use crate::snapshot::{Cluster, ConnectionDestination, ConnectionRoute, Host, Passthrough, Port, SeenConnection};
use crate::telemetry::{Flags, TcpSeries};
use crate::upstream::{Caller, ClientAddresses, PlainConnection, PlainError, UpstreamStream, open_plain};

/// A client that says nothing and may not go anywhere has this long to turn out to speak HTTP.
const BLOCKED_TIME: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub enum Target {
    Service {
        host: Arc<Host>,
        /// Of one of its ports.
        number: u16,
        series: Arc<TcpSeries>,
        /// Where the client connected to.
        headed: Option<SocketAddr>,
    },
    Address {
        address: SocketAddr,
        series: Arc<TcpSeries>,
    },
    /// Where a rule says; and where the client connected to.
    Rule(Arc<ConnectionDestination>, Option<SocketAddr>),
    /// No rule is for it, or nobody has the name.
    Unrouted { series: Arc<TcpSeries> },
    /// The user's policy lets nothing out that is not registered.
    Nowhere { series: Arc<TcpSeries> },
}

/// The connection to there.
#[derive(Debug)]
pub enum Upstream {
    /// Boxed: it is much larger than the other, and moves about until it is known what is spoken.
    Endpoint(Box<PlainConnection>),
    Address(UpstreamStream, SocketAddr),
}

/// Why there is none.
#[derive(Debug)]
pub struct Failed {
    pub flags: Flags,
    pub details: String,
    /// What was tried last.
    pub upstream: Option<SocketAddr>,
    pub attempts: u32,
}

impl Failed {
    /// Nobody was tried.
    fn local(flags: Flags, details: String) -> Self {
        Self {
            flags,
            details,
            upstream: None,
            attempts: 0,
        }
    }
}

impl Target {
    /// `None`: the host has no such port.
    fn service(host: &Arc<Host>, number: u16, headed: Option<SocketAddr>) -> Option<Target> {
        host.port(number).map(|port| Target::Service {
            host: Arc::clone(host),
            number,
            series: Arc::clone(&port.tcp),
            headed,
        })
    }

    /// Where the rules of the port send a connection. `None`: the host has no such port.
    pub fn routed(host: &Arc<Host>, number: u16, seen: &SeenConnection<'_>) -> Option<Target> {
        let port = host.port(number)?;
        match host.route_connection(port, seen, rand::random()) {
            ConnectionRoute::Rule(destination) => Some(Self::Rule(destination, seen.destination)),
            ConnectionRoute::Own => Self::service(host, number, seen.destination),
            ConnectionRoute::Nowhere => Some(Self::Unrouted {
                series: Arc::clone(&port.tcp),
            }),
        }
    }

    /// For a client at this address, on this worker.
    pub(super) async fn open(
        &self,
        remote: Option<SocketAddr>,
        client: Option<ClientAddresses>,
        worker: usize,
    ) -> Result<Upstream, Failed> {
        match self {
            Self::Service { headed, .. } | Self::Rule(_, headed) => {
                self.open_endpoint(*headed, remote, client, worker).await
            }
            Self::Unrouted { .. } => Err(Failed::local(Flags::NR, "filter_chain_not_found".to_owned())),
            Self::Address { address, .. } => open_address(*address).await,
            Self::Nowhere { .. } => {
                tokio::time::sleep(BLOCKED_TIME).await;
                Err(self.blocked())
            }
        }
    }

    /// As it ends when nothing registered is there.
    pub fn blocked(&self) -> Failed {
        Failed::local(Flags::UH, "the destination is not registered".to_owned())
    }

    async fn open_endpoint(
        &self,
        headed: Option<SocketAddr>,
        remote: Option<SocketAddr>,
        client: Option<ClientAddresses>,
        worker: usize,
    ) -> Result<Upstream, Failed> {
        let failed = Failed::local;
        let cluster = self
            .cluster()
            .ok_or_else(|| failed(Flags::NC, "cluster_not_found".to_owned()))?;
        let located = if cluster.is_located() {
            None
        } else {
            // Boxed: what is rare should not make every connection's state larger.
            let located = Box::pin(cluster.locate(headed, cluster.told.connection_pool.connect_timeout)).await;
            Some(located.map_err(|_| failed(Flags::UH, cluster.headed_nowhere()))?)
        };
        let cluster = located.as_ref().unwrap_or(cluster);
        let caller = Caller {
            client,
            ..Caller::connection(&cluster.told, remote, worker)
        };
        open_plain(&cluster.learned, &cluster.told, &cluster.members, caller)
            .await
            .map(|endpoint| Upstream::Endpoint(Box::new(endpoint)))
            .map_err(|error| match error {
                PlainError::NoEndpoint => match cluster.unresolved() {
                    Some(reason) => failed(Flags::UH | Flags::DF, reason.to_string()),
                    None => failed(Flags::UH, "no_healthy_upstream".to_owned()),
                },
                PlainError::Overflow => failed(Flags::UO, "overflow".to_owned()),
                PlainError::Connect {
                    source,
                    endpoint,
                    attempts,
                } => Failed {
                    upstream: Some(endpoint.shown_address()),
                    attempts,
                    ..failed(Flags::UF, format!("connection_failure: {source}"))
                },
            })
    }

    /// Does the endpoint hear whose bytes they are?
    pub(super) fn tells_client(&self) -> bool {
        self.cluster()
            .is_some_and(|cluster| cluster.told.proxy_protocol.is_some())
    }

    fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::Service { host, number, .. } => host.port(*number).and_then(Port::own_cluster),
            Self::Rule(destination, _) => destination.cluster.as_deref(),
            Self::Address { .. } | Self::Unrouted { .. } | Self::Nowhere { .. } => None,
        }
    }

    /// Of the rule, if one decided.
    pub(super) fn route(&self) -> &str {
        match self {
            Self::Rule(destination, _) => &destination.route,
            _ => "",
        }
    }

    pub(super) fn series(&self) -> &Arc<TcpSeries> {
        match self {
            Self::Service { series, .. } | Self::Address { series, .. } => series,
            Self::Unrouted { series } | Self::Nowhere { series } => series,
            Self::Rule(destination, _) => &destination.series,
        }
    }

    pub(super) fn cluster_name(&self) -> &str {
        match self {
            Self::Service { .. } | Self::Rule(..) | Self::Unrouted { .. } => {
                self.cluster().map_or("", |cluster| &cluster.learned.name)
            }
            Self::Address { .. } => Passthrough::NAME,
            Self::Nowhere { .. } => Passthrough::BLACK_HOLE,
        }
    }
}

async fn open_address(address: SocketAddr) -> Result<Upstream, Failed> {
    let pool = ConnectionPool::default();
    match connect(address, None, pool.connect_timeout, pool.tcp_keepalive).await {
        Ok(stream) => Ok(Upstream::Address(UpstreamStream::Plain(stream), address)),
        Err(error) => Err(Failed {
            flags: Flags::UF,
            details: format!("connection_failure: {error}"),
            upstream: Some(address),
            attempts: 1,
        }),
    }
}

impl Upstream {
    pub(super) fn stream(&mut self) -> &mut UpstreamStream {
        match self {
            Self::Endpoint(endpoint) => &mut endpoint.stream,
            Self::Address(stream, _) => stream,
        }
    }

    /// What is known of its endpoint when it has ended.
    pub(super) fn observe_end(&self, said: bool, reset: bool) {
        if let Self::Endpoint(endpoint) = self {
            endpoint.observe_end(said, reset);
        }
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        Some(match self {
            Self::Endpoint(endpoint) => endpoint.endpoint().shown_address(),
            Self::Address(_, address) => *address,
        })
    }

    pub(super) fn attempts(&self) -> u32 {
        match self {
            Self::Endpoint(endpoint) => endpoint.attempts,
            Self::Address(..) => 1,
        }
    }

    pub(super) fn lifetime(&self) -> Box<Lifetime> {
        match self {
            Self::Endpoint(endpoint) => endpoint.lifetime(),
            Self::Address(..) => Box::new(Lifetime {
                idle: ConnectionPool::default().tcp_idle_timeout,
                ends_at: None,
            }),
        }
    }
}

impl Speaker for Upstream {
    fn poll_speaks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream().poll_speaks(cx)
    }
}
