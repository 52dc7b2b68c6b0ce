//! What runs in a pod beside the sidecar: HTTP (in two versions), gRPC by grpcio, and a PostgreSQL server.

use std::net::{IpAddr, SocketAddr};

use tsunagi_tests::{LIMIT, Pod, PostgreSql, Process, Upstream, eventually, require_tools};

use crate::neighbourhood::SECOND_PORT;

pub const GRPC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pods/grpc_echo.py");

/// Whether this machine has the real clients and servers; if not, the test says so, or fails where nothing may be skipped.
pub fn are_installed() -> bool {
    let tools = [
        ("curl", &["curl", "--version"][..]),
        ("python3-grpcio", &["/usr/bin/python3", "-c", "import grpc"]),
        ("nftables", &["nft", "--version"]),
    ];
    require_tools(&[&tools[..], &PostgreSql::TOOLS].concat())
}

pub struct Applications {
    _http: [Upstream; 2],
    _grpc: Process,
    _database: PostgreSql,
}

impl Applications {
    /// All of them answer when this returns.
    pub async fn start(pod: &Pod) -> Applications {
        let http = [
            Upstream::start_in_pod(pod.name(), pod, 8080).await,
            Upstream::start_in_pod("v2", pod, SECOND_PORT).await,
        ];
        let mut grpc = pod.command("/usr/bin/python3");
        grpc.args([GRPC, "serve", "0.0.0.0:50051", pod.name()]);
        let grpc = Process::start("the gRPC server", &mut grpc);
        let database = PostgreSql::start(pod);
        for port in [50051, 5432] {
            let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
            eventually("an application listens", LIMIT, async || {
                tokio::task::block_in_place(|| pod.connect(address)).ok().map(drop)
            })
            .await;
        }
        Applications {
            _http: http,
            _grpc: grpc,
            _database: database,
        }
    }
}
