//! nginx as the endpoint: a server that nobody here has written says what it saw of TLS and of the PROXY protocol.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;
use tokio::net::TcpStream;
use tsunagi_tests::{LIMIT, Process, eventually};

/// On an address of its own, so that no port is taken from anybody.
pub(crate) struct Nginx {
    address: IpAddr,
    _process: Process,
    _folder: TempDir,
}

/// Each says `name=value` of what it saw.
const SAID: &str = "sni=$ssl_server_name protocol=$server_protocol resumed=$ssl_session_reused \
                    client=$ssl_client_s_dn peer=$proxy_protocol_addr:$proxy_protocol_port nth=$connection_requests";

impl Nginx {
    /// `listens`: `listen` without the address, and what else the server is told.
    pub(crate) async fn start(listens: &[(&str, String)]) -> Nginx {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let folder = TempDir::new().expect("a temporary folder");
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = IpAddr::from([127, 64 | high, low, number]);
        let config = config(folder.path(), address, listens);
        std::fs::write(folder.path().join("nginx.conf"), config).expect("a temporary folder");
        let mut nginx = Command::new("nginx");
        nginx.arg("-c").arg(folder.path().join("nginx.conf"));
        let nginx = Nginx {
            address,
            _process: Process::start("nginx", &mut nginx),
            _folder: folder,
        };
        for (index, _) in listens.iter().enumerate() {
            let listener = nginx.listener(index);
            let connects = async || TcpStream::connect(listener).await.ok();
            eventually("nginx listens", LIMIT, connects).await;
        }
        nginx
    }

    pub(crate) fn listener(&self, index: usize) -> SocketAddr {
        SocketAddr::new(self.address, port(index))
    }
}

fn port(index: usize) -> u16 {
    8443 + u16::try_from(index).expect("few")
}

fn config(folder: &Path, address: IpAddr, listens: &[(&str, String)]) -> String {
    let server = |(index, (listen, more)): (usize, &(&str, String))| {
        let port = port(index);
        format!("server {{ listen {address}:{port} {listen}; {more}\n location / {{ return 200 '{SAID}'; }} }}\n")
    };
    let servers: String = listens.iter().enumerate().map(server).collect();
    let folder = folder.display();
    format!(
        "daemon off; master_process off; error_log stderr; pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {servers}
}}"
    )
}
