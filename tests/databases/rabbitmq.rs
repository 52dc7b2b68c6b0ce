//! RabbitMQ with a real client (pika): a durable topic exchange, messages that outlive the broker,
//! heartbeats, and no more connections than are allowed.

use std::process::Command;

use tempfile::TempDir;
use tsunagi_tests::Process;

use crate::session::Session;
use crate::world::{World, run, serve};

const PORT: u16 = 5672;
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/databases/amqp.py");
const PYTHON: &str = "/usr/bin/python3";
/// Where Debian keeps the script itself; the one in the path insists on the machine's own broker.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONFIG: &str = "loopback_users = none\nlisteners.tcp.default = 5672\nheartbeat = 60\n";

/// A node of its own in a pod: data, cookie and port mapper are nobody else's.
struct Broker {
    process: Process,
    _epmd: Process,
    data: TempDir,
}

impl Broker {
    fn start(world: &World) -> Broker {
        let data = TempDir::new().expect("a temporary folder");
        std::fs::write(data.path().join("rabbitmq.conf"), CONFIG).expect("the folder is ours");
        std::fs::write(data.path().join("plugins"), "[].\n").expect("the folder is ours");
        let mut epmd = world.server.command("epmd");
        epmd.args(["-address", "127.0.0.1"]);
        Broker {
            _epmd: serve("epmd", epmd),
            process: Broker::serve(world, &data),
            data,
        }
    }

    fn serve(world: &World, data: &TempDir) -> Process {
        let path = |name: &str| data.path().join(name);
        let mut server: Command = world.server.command(SERVER);
        server
            .env("HOME", data.path())
            .env("RABBITMQ_NODENAME", "orders@localhost")
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_LOGS", "-")
            // The process is the broker itself, and asks for no terminal.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -start_epmd false",
            )
            .current_dir(data.path());
        serve("rabbitmq-server", server)
    }

    /// Without a word of warning, as a machine fails; what was confirmed is on its disk.
    fn restart(&mut self, world: &World) {
        self.process.kill();
        self.process = Broker::serve(world, &self.data);
    }
}

async fn start() -> Option<(World, Broker)> {
    let tools = [
        ("rabbitmq-server", &["test", "-x", SERVER][..]),
        ("python3-pika", &[PYTHON, "-c", "import pika"]),
    ];
    let world = World::start(PORT, &tools).await?;
    let broker = Broker::start(&world);
    world.listens().await;
    Some((world, broker))
}

fn client(world: &World, command: &str, arguments: &[&str]) -> Command {
    let mut client = world.client.command(PYTHON);
    client.args([CLIENT, command, "db"]).args(arguments);
    client
}

fn orders(numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|number| format!("order.created 2 {{\"order\": {number}}}\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_published_outlive_the_broker_and_are_consumed_through_the_sidecars() {
    let Some((world, mut broker)) = start().await else {
        return;
    };
    for declared in [
        "name: amqp",
        "name: tcp-orders",
        "name: orders, appProtocol: amqp",
        "name: data",
    ] {
        world.declare(declared, Some(1)).await;
        assert_eq!(
            run(client(&world, "publish", &["50"])).await,
            "published 50\n",
            "{declared}"
        );
        // The one connection that is allowed may take a moment to end.
        world.is_idle().await;
        let consumed = run(client(&world, "consume", &["50"])).await;
        assert_eq!(consumed, orders(0..50) + "left 0\n", "{declared}");
        world.is_idle().await;
    }
    run(client(&world, "publish", &["20"])).await;
    world.is_idle().await;
    broker.restart(&world);
    world.listens().await;
    world.is_idle().await;
    assert_eq!(
        run(client(&world, "consume", &["20"])).await,
        orders(0..20) + "left 0\n"
    );
    world.has_passed(4.0 * 2.0 + 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_keep_a_connection_and_no_more_are_opened_than_allowed() {
    let Some((world, _broker)) = start().await else { return };
    world.declare("name: data", Some(2)).await;
    run(client(&world, "publish", &["1"])).await;
    world.is_idle().await;
    assert_eq!(run(client(&world, "wait", &["4"])).await, "left 1\n");
    world.is_idle().await;
    for declared in ["name: amqp", "name: data"] {
        world.declare(declared, Some(2)).await;
        let mut sessions = Vec::new();
        for _ in 0..2 {
            let mut session = Session::start(&world.client, PYTHON, &[CLIENT, "hold", "db"]);
            session.hear("held").await;
            sessions.push(session);
        }
        // Its standard input has ended: it opens a connection and closes it.
        world
            .allows_no_more_than(sessions, || client(&world, "hold", &[]))
            .await;
    }
}
