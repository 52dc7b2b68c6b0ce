//! The real data path on one thread: a socket that a client writes to, `serve_connection`, endpoints on another thread.
//! What is allocated on this thread for a request is what the proxy allocates for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tsunagi_benches::{answers, told};
use tsunagi_proto::wire::mesh;
use tsunagi_proxy::drain::Drain;
use tsunagi_proxy::http::{DownstreamConnection, Proxy, serve_connection};
use tsunagi_proxy::snapshot::{Demand, Inbound, InboundReader, Passthrough, Publisher, Reader, Shared};
use tsunagi_proxy::telemetry::{AccessLog, Direction, Telemetry};
use tsunagi_proxy::upstream::Registry;
use tsunagi_tests::Version;

use crate::client::Client;

pub struct Path {
    runtime: Runtime,
    client: Client,
    _drain: Drain,
}

/// Until pools, buffers and tables have the size that they keep.
const WARM_UP: usize = 200;

impl Path {
    pub fn open(client: Version, upstream: Version, body_bytes: usize) -> Path {
        let endpoints = answers(upstream, 3, body_bytes).expect("free ports");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let drain = Drain::new();
        let proxy = proxy(upstream, &endpoints, &drain);
        let watch = drain.outbound().watch();
        let client = runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            tokio::spawn(async move {
                let (stream, remote) = listener.accept().await.expect("the client connects");
                stream.set_nodelay(true).expect("a TCP socket");
                let downstream = DownstreamConnection {
                    direction: Direction::Outbound,
                    remote: Some(remote),
                    original_destination: None,
                    called_at: None,
                    tunnelled: false,
                    by_upgrade: false,
                };
                serve_connection(&proxy, downstream, stream, Some(watch)).await;
            });
            Client::connect(address, client, told::HOST, body_bytes).await
        });
        Path::warmed_up(runtime, client, drain)
    }

    /// The same client and endpoints, without a proxy: what to take off.
    pub fn direct(version: Version, body_bytes: usize) -> Path {
        let endpoints = answers(version, 1, body_bytes).expect("free ports");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(Client::connect(endpoints[0], version, told::HOST, body_bytes));
        Path::warmed_up(runtime, client, Drain::new())
    }

    fn warmed_up(runtime: Runtime, client: Client, drain: Drain) -> Path {
        let mut path = Path {
            runtime,
            client,
            _drain: drain,
        };
        (0..WARM_UP).for_each(|_| path.get());
        path
    }

    /// One request, and its answer to the last byte.
    pub fn get(&mut self) {
        self.runtime.block_on(self.client.get());
    }
}

fn proxy(upstream: Version, endpoints: &[SocketAddr], drain: &Drain) -> Arc<Proxy> {
    let telemetry = Telemetry::new("bench");
    let registry = Registry::new(telemetry.clone(), 1);
    let shared = Shared::new("default");
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let inbound = Inbound::new(Arc::clone(&registry), telemetry.clone(), nobody);
    let protocol = match upstream {
        Version::Http1 => mesh::Protocol::Http1,
        Version::Http2 => mesh::Protocol::Http2,
    };
    let host = told::host(told::HOST, protocol, told::split(told::HOST));
    let passthrough = Passthrough::new(&registry, &telemetry);
    let mut publisher = Publisher::new(registry, telemetry.clone(), Arc::clone(&shared));
    publisher.apply(told::update(vec![host], vec![told::endpoints(told::HOST, endpoints)]));
    Arc::new(Proxy {
        worker: 0,
        reader: Reader::new(shared),
        demand: Demand::new().0,
        inbound: InboundReader::new(inbound, 0),
        passthrough,
        unrouted: telemetry.request_series(Direction::Outbound, "", "", ""),
        access_log: AccessLog::off(),
        debug_headers: false,
        telemetry,
        drain: drain.clone(),
        on_demand_timeout: Duration::from_secs(1),
        own_connections: Arc::default(),
    })
}
