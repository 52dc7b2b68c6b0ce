//! What runs in a pod beside the sidecar: HTTP (in two versions), gRPC by grpcio, and a PostgreSQL server.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;
use tsunagi_tests::{LIMIT, Pod, Process, Upstream, eventually};

use crate::neighbourhood::SECOND_PORT;

pub const GRPC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pods/grpc_echo.py");

/// Whether this machine has the real clients and servers; if not, the test says so, or fails where nothing may be skipped.
pub fn are_installed() -> bool {
    let answers = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.is_ok_and(|output| output.status.success())
    };
    let tools = [
        ("curl", answers("curl", &["--version"])),
        ("python3-grpcio", answers("/usr/bin/python3", &["-c", "import grpc"])),
        (
            "postgresql",
            answers("id", &["postgres"]) && answers("psql", &["--version"]),
        ),
        ("nftables", answers("nft", &["--version"])),
    ];
    let missing: Vec<&str> = tools
        .iter()
        .filter(|(_, there)| !there)
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        let said = format!("the Debian packages {} are missing", missing.join(", "));
        assert!(std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(), "{said}");
        eprintln!("NOT RUN: {said}");
    }
    missing.is_empty()
}

pub struct Applications {
    _http: [Upstream; 2],
    _grpc: Process,
    _database: Process,
    _data: TempDir,
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
        let data = TempDir::new().expect("a temporary folder");
        let database = start_database(pod, &data);
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
            _data: data,
        }
    }
}

fn start_database(pod: &Pod, data: &TempDir) -> Process {
    let (uid, tools) = (postgres_uid(), postgres_tools());
    chown(data.path(), Some(uid), Some(uid)).expect("root may give a folder away");
    let folder = data.path().join("data");
    let mut initdb = pod.command_as(uid, format!("{tools}/initdb"));
    initdb
        .args(["-U", "postgres", "-A", "trust", "--no-sync", "-D"])
        .arg(&folder);
    let made = initdb.output().expect("initdb starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(folder.join("pg_hba.conf"), "host all all all trust\n").expect("the folder was made");
    let mut postgres = pod.command_as(uid, format!("{tools}/postgres"));
    postgres
        .args([
            "-c",
            "listen_addresses=*",
            "-c",
            "fsync=off",
            "-c",
            "shared_buffers=16MB",
            "-k",
        ])
        .arg(data.path())
        .arg("-D")
        .arg(&folder);
    Process::start("postgres", &mut postgres)
}

/// PostgreSQL does not run as root.
fn postgres_uid() -> u32 {
    let output = Command::new("id").args(["-u", "postgres"]).output().expect("id starts");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .expect("the user postgres is there (Debian package postgresql)")
}

fn postgres_tools() -> &'static str {
    static FOUND: OnceLock<String> = OnceLock::new();
    FOUND.get_or_init(|| {
        let output = Command::new("sh")
            .args(["-c", "ls -d /usr/lib/postgresql/*/bin | tail -1"])
            .output()
            .expect("sh starts");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    })
}
