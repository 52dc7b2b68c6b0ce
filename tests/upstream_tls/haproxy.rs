//! haproxy as the endpoint: the authors of the PROXY protocol read it.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tsunagi_tests::{LIMIT, Process, eventually, require_tools};

pub(crate) struct Haproxy {
    pub(crate) address: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

pub(crate) fn has_haproxy() -> bool {
    require_tools(&[("haproxy", &["haproxy", "-v"])])
}

impl Haproxy {
    /// Says who the client is, and where it connected to, to whoever begins with the PROXY protocol.
    pub(crate) async fn start(address: IpAddr) -> Haproxy {
        // Somebody may take a free port before haproxy does.
        for _ in 0..5 {
            let free = TcpListener::bind((address, 0)).expect("a free port");
            let address = free.local_addr().expect("bound");
            drop(free);
            if let Some(haproxy) = Haproxy::try_start(address).await {
                return haproxy;
            }
        }
        unreachable!("haproxy finds no port");
    }

    async fn try_start(address: SocketAddr) -> Option<Haproxy> {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("haproxy.cfg");
        let config = format!(
            "defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend said
  bind {address} accept-proxy
  http-request return status 200 content-type text/plain lf-string peer=%[src]:%[src_port]\\ to=%[dst]:%[dst_port]
"
        );
        std::fs::write(&path, config).expect("a temporary folder");
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-db").arg("-f").arg(&path);
        let mut process = Process::start("haproxy", &mut haproxy);
        let up = async || match process.exit_status() {
            Some(_) => Some(false),
            None => TcpStream::connect(address).await.ok().map(|_| true),
        };
        let up = eventually("haproxy listens", LIMIT, up).await;
        up.then_some(Haproxy {
            address,
            _process: process,
            _folder: folder,
        })
    }
}
