//! PostgreSQL: `psql` with queries, bulk data both ways, and a session that is told of what others do.

use std::process::Command;

use tokio::task::block_in_place;
use tsunagi_tests::PostgreSql;

use crate::session::Session;
use crate::world::{World, run};

const PORT: u16 = 5432;
const LOGIN: [&str; 8] = ["-X", "-At", "-h", "db", "-U", "postgres", "-d", "postgres"];

async fn start() -> Option<(World, PostgreSql)> {
    let world = World::start(PORT, &PostgreSql::TOOLS).await?;
    let server = block_in_place(|| PostgreSql::start(&world.server));
    world.listens().await;
    Some((world, server))
}

fn psql(world: &World, query: &str) -> Command {
    let mut client = world.client.command("psql");
    client.env("PGCONNECT_TIMEOUT", "20");
    client.args(LOGIN).args(["-v", "ON_ERROR_STOP=1", "-c", query]);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works_however_the_port_is_declared() {
    let Some((world, _server)) = start().await else { return };
    for declared in [
        "name: postgres",
        "name: tcp-db",
        "name: db, appProtocol: postgresql",
        "name: data",
    ] {
        world.declare(declared, None).await;
        run(psql(&world, "drop table if exists t; create table t (n int, s text)")).await;
        run(psql(
            &world,
            "insert into t select n, repeat('x', n) from generate_series(1, 2000) n",
        ))
        .await;
        let sums = run(psql(&world, "select count(*), sum(n), sum(length(s)) from t")).await;
        assert_eq!(sums, "2000|2001000|2001000\n", "{declared}");
        let copied = run(psql(&world, "copy (select s from t order by n) to stdout")).await;
        assert_eq!(copied.len(), 2_001_000 + 2000, "{declared}");

        // Another connection's news reach a session that only waits to be asked again.
        let mut session = Session::start(&world.client, "psql", &LOGIN);
        session.say("listen news; select 'listens';");
        session.hear("listens").await;
        run(psql(&world, "notify news, 'something happened'")).await;
        session.say("select 'asked again';");
        session.hear("something happened").await;
    }
    world.has_passed(4.0 * 6.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_beyond_max_connections_is_refused_until_there_is_room() {
    let Some((world, _server)) = start().await else { return };
    for declared in ["name: postgres", "name: data"] {
        world.declare(declared, Some(2)).await;
        let mut sessions = Vec::new();
        for name in ["first", "second"] {
            let mut session = Session::start(&world.client, "psql", &LOGIN);
            session.say(&format!("begin; select '{name} is here';"));
            session.hear(&format!("{name} is here")).await;
            sessions.push(session);
        }
        world.allows_no_more_than(sessions, || psql(&world, "select 1")).await;
    }
}
