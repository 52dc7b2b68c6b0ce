//! The endpoints that every peer calls: one nginx worker that answers 1 KiB (or files) over HTTP/1.1 and HTTP/2, and a gRPC
//! echo on one thread, each on three ports: two of v1, one of v2; and those of `slow`. They are never the limit of what is
//! compared: all peers have the same.

use std::convert::Infallible;
use std::fs;
use std::future::{Future, Ready, ready};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::Outcome;
use crate::plan::{Endpoints, Plan, Protocol, Rules, free_address};
use crate::settings::{Settings, find_program};
use crate::slow::{self, SLOW_ROLE};
use crate::started::Started;

pub const SMALL_BODY_BYTES: u64 = 1024;
pub const GRPC_PATH: &str = "/tsunagi.bench.Echo/Unary";
/// Set in the process that is the gRPC upstream: its addresses.
pub const GRPC_ROLE: &str = "TSUNAGI_COMPARE_GRPC_UPSTREAM";

pub struct Upstreams {
    http1: Vec<SocketAddr>,
    http2: Vec<SocketAddr>,
    grpc: Vec<SocketAddr>,
    one_slow: Vec<SocketAddr>,
    _processes: Vec<Started>,
}

impl Upstreams {
    pub fn start(settings: &Settings, folder: &Path) -> Outcome<Upstreams> {
        let some = |count| (0..count).map(|_| free_address()).collect::<Outcome<Vec<_>>>();
        let (http1, http2, grpc, one_slow) = (some(3)?, some(3)?, some(3)?, some(slow::ENDPOINTS)?);
        for (name, bytes) in [("100k", 100_000), ("10m", 10_000_000)] {
            fs::write(folder.join(name), vec![b'x'; bytes]).map_err(|error| error.to_string())?;
        }
        let file = folder.join("upstream.conf");
        fs::write(&file, configuration(folder, &http1, &http2)).map_err(|error| error.to_string())?;
        let mut command = settings.on_load_core(&find_program("nginx", "nginx")?);
        let mut nginx = Started::start("upstream", command.arg("-c").arg(&file), folder)?;
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let started = |name: &str, role: &str, addresses: &[SocketAddr]| {
            let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
            let mut command = settings.on_load_core(&own);
            Started::start(name, command.env(role, addresses.join(",")), folder)
        };
        let mut echo = started("grpc-upstream", GRPC_ROLE, &grpc)?;
        let mut slow = started("slow-upstream", SLOW_ROLE, &one_slow)?;
        for address in http1.iter().chain(&http2) {
            nginx.wait_for(*address)?;
        }
        for address in &grpc {
            echo.wait_for(*address)?;
        }
        for address in &one_slow {
            slow.wait_for(*address)?;
        }
        Ok(Upstreams {
            http1,
            http2,
            grpc,
            one_slow,
            _processes: vec![nginx, echo, slow],
        })
    }

    pub fn of(&self, plan: &Plan) -> Endpoints {
        if plan.rules == Rules::OneSlow {
            return Endpoints {
                v1: self.one_slow.clone(),
                v2: Vec::new(),
            };
        }
        let all = match plan.protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
            Protocol::Grpc => &self.grpc,
        };
        let (v1, v2) = all.split_at(2);
        Endpoints {
            v1: v1.to_vec(),
            v2: v2.to_vec(),
        }
    }
}

/// Connections that never end of themselves: their making is measured where the client makes them.
fn configuration(folder: &Path, http1: &[SocketAddr], http2: &[SocketAddr]) -> String {
    let plain = http1.iter().map(|address| format!("listen {address} backlog=4096;"));
    let multiplexed = http2
        .iter()
        .map(|address| format!("listen {address} http2 backlog=4096;"));
    let listen: Vec<String> = plain.chain(multiplexed).collect();
    format!(
        "daemon off;
worker_processes 1;
{user}
error_log stderr warn;
pid {folder}/upstream.pid;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/upstream-body;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=100;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 1000;
  default_type text/plain;
  server {{
    {listen}
    location / {{ return 200 \"{body}\"; }}
    location = /100k {{ alias {folder}/100k; }}
    location = /10m {{ alias {folder}/10m; }}
  }}
}}
",
        user = nginx_user(),
        folder = folder.display(),
        listen = listen.join(" "),
        body = "x".repeat(SMALL_BODY_BYTES as usize),
    )
}

/// Started by root, workers would become a user that cannot read the files.
pub fn nginx_user() -> &'static str {
    if rustix::process::geteuid().is_root() {
        "user root;"
    } else {
        ""
    }
}

/// The gRPC message of `SMALL_BODY_BYTES` as it stands in a body: a `google.protobuf.BytesValue` with its length before it.
pub fn grpc_frame() -> Vec<u8> {
    let length = SMALL_BODY_BYTES as u32;
    // Field 1, bytes; its length as a varint of two bytes.
    let mut message = vec![0x0a, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
    message.extend(vec![b'x'; length as usize]);
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

/// The life of the process that is the gRPC upstream.
pub fn serve_grpc(addresses: &str) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let mut servers = JoinSet::new();
        for address in addresses.split(',') {
            let address = address.parse().map_err(|_| format!("`{address}` is no address"))?;
            let incoming = TcpIncoming::bind(address).map_err(|error| format!("{address}: {error}"))?;
            let server = Server::builder().add_service(Echo);
            servers.spawn(server.serve_with_incoming(incoming.with_nodelay(Some(true))));
        }
        servers.join_next().await;
        Err("a gRPC listener ended".to_owned())
    })
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "tsunagi.bench.Echo";
}

/// `Vec<u8>` is prost's `BytesValue`.
impl UnaryService<Vec<u8>> for Echo {
    type Response = Vec<u8>;
    type Future = Ready<Result<Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut grpc = Grpc::new(ProstCodec::<Vec<u8>, Vec<u8>>::default());
        Box::pin(async move { Ok(grpc.unary(Echo, request).await) })
    }
}
