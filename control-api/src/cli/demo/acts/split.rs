//! Act 2: the weighted split.

use super::{
    super::{super::CliError, mesh::Mesh, numbers::count, screen::Screen, traffic::Load},
    CONNECTIONS, Checks, VERSIONS, send,
};

const REQUESTS: u64 = 10_000;
/// Standard deviations of the binomial distribution: chance leaves them once in 1.7 million runs.
const BOUND: f64 = 5.0;

pub(in super::super) async fn play(mesh: &Mesh, screen: &mut Screen, checks: &mut Checks) -> Result<(), CliError> {
    let load = Load {
        outbound: mesh.sidecar.outbound,
        requests: REQUESTS,
        connections: CONNECTIONS,
        version: None,
    };
    let tally = send(load, screen, &[("v1", 90), ("v2", 10)], VERSIONS).await?;
    let answered = format!("{} requests answered 200", count(REQUESTS));
    checks.check(screen, tally.failed() == 0 && tally.requests() == REQUESTS, &answered)?;
    let (least, most) = bounds(REQUESTS, 0.1);
    let to_v2 = tally.version("v2");
    let share = format!(
        "{} to v2, where chance allows {} to {}",
        count(to_v2),
        count(least),
        count(most)
    );
    Ok(checks.check(screen, (least..=most).contains(&to_v2), &share)?)
}

fn bounds(requests: u64, probability: f64) -> (u64, u64) {
    let mean = requests as f64 * probability;
    let deviation = (mean * (1.0 - probability)).sqrt() * BOUND;
    ((mean - deviation).ceil() as u64, (mean + deviation).floor() as u64)
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn bounds_are_five_deviations_around_the_mean() {
        assert_eq!(bounds(10_000, 0.1), (850, 1_150));
    }
}
