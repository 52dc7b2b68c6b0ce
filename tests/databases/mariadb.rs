//! MariaDB: the server speaks first, so that a proxy that waited for the client would wait for ever.

use std::os::unix::fs::chown;
use std::process::Command;

use tempfile::TempDir;
use tokio::task::block_in_place;
use tsunagi_tests::Process;

use crate::session::Session;
use crate::world::{World, run, serve};

const PORT: u16 = 3306;
const LOGIN: [&str; 7] = ["--no-defaults", "-h", "db", "-u", "app", "-N", "-B"];
/// Who connects through a sidecar comes from another address than the server's own.
const FIRST_WORDS: &str = "CREATE USER 'app'@'%';\nGRANT ALL ON *.* TO 'app'@'%';\n";

struct Server {
    _process: Process,
    _data: TempDir,
}

async fn start() -> Option<(World, Server)> {
    let tools = [
        ("mariadb-server", &["id", "mysql"][..]),
        ("mariadb-client", &["mariadb", "--version"]),
    ];
    let world = World::start(PORT, &tools).await?;
    let server = block_in_place(|| serve_mariadb(&world));
    world.listens().await;
    Some((world, server))
}

/// As the user that its package has made: MariaDB does not like to run as root.
fn serve_mariadb(world: &World) -> Server {
    let id = Command::new("id").args(["-u", "mysql"]).output().expect("id starts");
    let uid: u32 = String::from_utf8_lossy(&id.stdout).trim().parse().expect("a user's id");
    let data = TempDir::new().expect("a temporary folder");
    chown(data.path(), Some(uid), Some(uid)).expect("root may give a folder away");
    let folder = format!("--datadir={}", data.path().join("data").display());
    let mut install = Command::new("mariadb-install-db");
    install.args([
        "--no-defaults",
        "--user=mysql",
        "--skip-test-db",
        "--auth-root-authentication-method=normal",
    ]);
    let made = install.arg(&folder).output().expect("it starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let first_words = data.path().join("first.sql");
    std::fs::write(&first_words, FIRST_WORDS).expect("the folder was made");
    let mut server = world.server.command_as(uid, "mariadbd");
    server.args([
        "--no-defaults",
        &folder,
        "--bind-address=0.0.0.0",
        "--skip-name-resolve",
    ]);
    server.args(["--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]);
    server.arg(format!("--port={PORT}"));
    server.arg(format!("--socket={}", data.path().join("socket").display()));
    server.arg(format!("--init-file={}", first_words.display()));
    Server {
        _process: serve("mariadbd", server),
        _data: data,
    }
}

fn mariadb(world: &World, query: &str) -> Command {
    let mut client = world.client.command("mariadb");
    client.args(LOGIN).args(["-e", query]);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_is_heard_first_however_its_port_is_declared() {
    let Some((world, _server)) = start().await else { return };
    for declared in [
        "name: mysql",
        "name: tcp-db",
        "name: db, appProtocol: mysql",
        "name: data",
    ] {
        world.declare(declared, None).await;
        let query = "drop database if exists d; create database d; create table d.t (n int, s text); \
                     insert into d.t select seq, repeat('x', seq) from d.seq_1_to_2000; \
                     select count(*), sum(n), sum(length(s)) from d.t";
        assert_eq!(
            run(mariadb(&world, query)).await,
            "2000\t2001000\t2001000\n",
            "{declared}"
        );
        let copied = run(mariadb(&world, "select s from d.t order by n")).await;
        assert_eq!(copied.len(), 2_001_000 + 2000, "{declared}");
    }
    world.has_passed(4.0 * 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_clients_beyond_max_connections_are_refused_until_there_is_room() {
    let Some((world, _server)) = start().await else { return };
    for declared in ["name: mysql", "name: data"] {
        world.declare(declared, Some(2)).await;
        let mut sessions = Vec::new();
        for name in ["first", "second"] {
            let arguments = [&LOGIN[..], &["-n", "--skip-reconnect"]].concat();
            let mut session = Session::start(&world.client, "mariadb", &arguments);
            session.say(&format!("select '{name} is here';"));
            session.hear(&format!("{name} is here")).await;
            sessions.push(session);
        }
        world
            .allows_no_more_than(sessions, || mariadb(&world, "select 1"))
            .await;
    }
}
