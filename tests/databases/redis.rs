//! Redis: single commands, inline ones that look a little like HTTP, many at once, and those that wait.

use std::io::Write;
use std::process::{Command, Stdio};

use tokio::task::spawn_blocking;
use tsunagi_tests::{LIMIT, Process, within};

use crate::session::Session;
use crate::world::{World, run, serve};

const PORT: u16 = 6379;
const MANY: usize = 20_000;
const DECLARATIONS: [&str; 4] = [
    "name: redis",
    "name: tcp-cache",
    "name: cache, appProtocol: redis",
    "name: data",
];

async fn start() -> Option<(World, Process)> {
    let tools = [
        ("redis-server", &["redis-server", "--version"][..]),
        ("redis-tools", &["redis-cli", "--version"]),
    ];
    let world = World::start(PORT, &tools).await?;
    let mut redis = world.server.command("redis-server");
    redis.args([
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--appendonly",
        "no",
    ]);
    redis.current_dir("/");
    let redis = serve("redis-server", redis);
    world.listens().await;
    Some((world, redis))
}

fn redis_cli(world: &World, arguments: &[&str]) -> Command {
    let mut client = world.client.command("redis-cli");
    client.args(["-h", "db"]).args(arguments);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli_and_inline_commands_work_however_the_port_is_declared() {
    let Some((world, _redis)) = start().await else { return };
    for (round, declared) in DECLARATIONS.into_iter().enumerate() {
        world.declare(declared, None).await;
        let key = format!("key-{round}");
        assert_eq!(
            run(redis_cli(&world, &["set", &key, "some words"])).await,
            "OK\n",
            "{declared}"
        );
        assert_eq!(
            run(redis_cli(&world, &["get", &key])).await,
            "some words\n",
            "{declared}"
        );
        // What a person types; nothing else says that it is no request.
        let get = format!("GET {key}\r\n");
        for (typed, answer) in [
            ("PING\r\n", "+PONG\r\n"),
            (get.as_str(), "$10\r\nsome words\r\n"),
            ("GET /no/such\r\n", "$-1\r\n"),
            ("DELETE x\r\n", "-ERR unknown command"),
        ] {
            let mut client = world.connect().await;
            client.write(typed).await;
            let heard = within(typed, LIMIT, client.read_exact(answer.len())).await;
            assert_eq!(String::from_utf8_lossy(&heard), answer, "{declared}");
        }
    }
    world.has_passed(4.0 * 6.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_takes_many_commands_at_once_and_clients_that_wait_are_told() {
    let Some((world, _redis)) = start().await else { return };
    for declared in ["name: redis", "name: data"] {
        world.declare(declared, None).await;
        run(redis_cli(&world, &["flushall"])).await;
        let mut pipe = redis_cli(&world, &["--pipe"]);
        let mut pipe = pipe
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = pipe.stdin.take().expect("stdin is piped");
        let piped = spawn_blocking(move || {
            for number in 0..MANY {
                writeln!(stdin, "RPUSH numbers {number}\r").expect("it reads");
            }
            drop(stdin);
            pipe.wait_with_output()
        });
        let piped = within("all commands", LIMIT, piped)
            .await
            .expect("no panic")
            .expect("our own child");
        let said = String::from_utf8_lossy(&piped.stdout).into_owned();
        assert!(
            said.contains(&format!("errors: 0, replies: {MANY}")),
            "{declared}: {said}"
        );
        assert_eq!(run(redis_cli(&world, &["llen", "numbers"])).await, format!("{MANY}\n"));

        let mut subscriber = Session::start(&world.client, "redis-cli", &["-h", "db", "subscribe", "news"]);
        subscriber.hear("subscribe").await;
        let mut waiting = Session::start(&world.client, "redis-cli", &["-h", "db", "blpop", "queue", "0"]);
        for number in 0..3 {
            let news = format!("news {number}");
            assert_eq!(run(redis_cli(&world, &["publish", "news", &news])).await, "1\n");
            subscriber.hear(&news).await;
        }
        run(redis_cli(&world, &["rpush", "queue", "the first"])).await;
        waiting.hear("the first").await;
    }
    world.has_passed(2.0 * 7.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_clients_beyond_max_connections_are_refused_until_there_is_room() {
    let Some((world, _redis)) = start().await else { return };
    for declared in ["name: redis", "name: data"] {
        world.declare(declared, Some(2)).await;
        let mut subscriber = Session::start(&world.client, "redis-cli", &["-h", "db", "subscribe", "news"]);
        subscriber.hear("subscribe").await;
        let mut typing = Session::start(&world.client, "redis-cli", &["-h", "db"]);
        typing.say("ping");
        typing.hear("PONG").await;
        world
            .allows_no_more_than(vec![subscriber, typing], || redis_cli(&world, &["-e", "ping"]))
            .await;
    }
}
