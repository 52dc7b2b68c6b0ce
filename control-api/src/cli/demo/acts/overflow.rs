//! Act 5: more requests at once than the limits allow.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{
    super::{
        super::CliError,
        connection::{Answer, Connection},
        mesh::Mesh,
        numbers::{count, time},
        rules,
        screen::{Rows, Screen},
        traffic::{failure, request},
    },
    Checks, restore,
};

const CLIENTS: usize = 10;
/// `maxConnections`
const CONNECTIONS: u64 = 2;
/// Those, and `http1MaxPendingRequests`.
const SERVED: usize = 3;
const SLOW: &str = "delay=400ms";
/// A hundredth of what it takes to be served; the whole machine is busy with this demo.
const AT_ONCE: Duration = Duration::from_millis(50);

pub(in super::super) async fn play(mesh: &Mesh, screen: &mut Screen, checks: &mut Checks) -> Result<(), CliError> {
    let rule = rules::destination_rule(&rules::SMALL_LIMITS);
    mesh.apply("the changed DestinationRule", &rule).await?;
    screen.note("For this act the rule says `maxConnections: 2, http1MaxPendingRequests: 1` instead of 100 and 50.")?;
    screen.note(
        "Ten clients ask v2 at once, which takes 400 ms: 2 are served, 1 waits, and there is room for no more.",
    )?;
    let endpoint = mesh.endpoint("v2-a")?;
    endpoint.behave(SLOW).await?;
    let answers = ask_at_once(mesh).await?;
    let most = endpoint.counts().await?.most_at_once;
    endpoint.behave("").await?;

    let served: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    let refused: Vec<&Answer> = answers.iter().filter(|answer| is_overflow(answer)).collect();
    let others = answers
        .iter()
        .filter(|answer| answer.status != 200 && !is_overflow(answer));
    let mut rows = vec![
        row("200 by v2", &served, SERVED),
        row("503 UO, x-envoy-overloaded: true", &refused, CLIENTS - SERVED),
    ];
    rows.extend(others.map(|other| row(&failure(other), &[other], 0)));
    let header = &["ANSWER", "REQUESTS", "EXPECTED", "SLOWEST"];
    screen.table(Rows { header, rows })?;

    let told = refused.len() == CLIENTS - SERVED && slowest(&refused) < AT_ONCE;
    let promise = format!(
        "{} served, {} told at once: the slowest after {}",
        served.len(),
        refused.len(),
        time(slowest(&refused))
    );
    checks.check(screen, told && served.len() == SERVED, &promise)?;
    let promise = format!("at most {most} requests reached v2 at once");
    checks.check(screen, most == CONNECTIONS, &promise)?;
    restore(mesh, screen).await
}

/// All connections are open before the first request goes.
async fn ask_at_once(mesh: &Mesh) -> Result<Vec<Answer>, CliError> {
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(Connection::open(mesh.sidecar.outbound).await?);
    }
    let mut clients = JoinSet::new();
    for mut connection in connections {
        clients.spawn(async move { connection.send(request(Some("v2"))).await });
    }
    clients.join_all().await.into_iter().collect()
}

fn is_overflow(answer: &Answer) -> bool {
    failure(answer) == "503 UO" && answer.header("x-envoy-overloaded") == "true"
}

fn slowest(answers: &[&Answer]) -> Duration {
    answers.iter().map(|answer| answer.elapsed).max().unwrap_or_default()
}

fn row(name: &str, answers: &[&Answer], expected: usize) -> Vec<String> {
    let numbers = [answers.len(), expected].map(|number| count(number as u64));
    let [number, expected] = numbers;
    vec![name.to_owned(), number, expected, time(slowest(answers))]
}
