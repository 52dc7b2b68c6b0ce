//! Which endpoint gets a request: turns, chance, or the one that has least to do.

use tokio::task::JoinSet;
use tsunagi_tests::{
    Behaviour, Connection, LIMIT, Sample, SidecarOptions, Upstream, Version, binomial_bounds, eventually,
};

fn rules(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    loadBalancer: {{simple: {policy}}}
"
    )
}

async fn sample(policy: &str, versions: &[&str]) -> Sample {
    Sample::with(
        "http",
        versions,
        &rules(policy),
        &SidecarOptions {
            workers: 1,
            ..SidecarOptions::default()
        },
    )
    .await
}

fn counts(sample: &Sample) -> Vec<u64> {
    sample.upstreams.iter().map(Upstream::requests).collect()
}

async fn send(sample: &Sample, count: usize) {
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..count {
        assert_eq!(connection.get("echo", "/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_robin_takes_turns() {
    let sample = sample("ROUND_ROBIN", &["a", "b", "c"]).await;
    send(&sample, 30).await;
    assert_eq!(counts(&sample), [10, 10, 10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_is_fair_and_takes_no_turns() {
    let sample = sample("RANDOM", &["a", "b"]).await;
    let mut connection = sample.connect(Version::Http1).await;
    let mut repeats = 0;
    let mut last = String::new();
    for _ in 0..1000 {
        let now = connection.get("echo", "/").await.text();
        repeats += u64::from(now == last);
        last = now;
    }
    let (low, high) = binomial_bounds(1000, 0.5, 1e-6);
    assert!(
        (low..=high).contains(&sample.upstreams[0].requests()),
        "{:?}",
        counts(&sample)
    );
    // Turns would never repeat.
    assert!(
        (low..=high).contains(&repeats),
        "{repeats} times the same endpoint twice in a row"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_request_prefers_the_endpoint_that_has_less_to_do() {
    let sample = sample("LEAST_REQUEST", &["busy", "idle"]).await;
    sample.upstreams[0].set(Behaviour::Hold);
    let mut held = JoinSet::new();
    let outbound = sample.sidecar.outbound;
    // Until some requests hang at the busy one; those that went to the idle one are answered at once.
    eventually("requests hang at the busy endpoint", LIMIT, async || {
        held.spawn(async move {
            Connection::open(outbound, Version::Http1)
                .await
                .get("echo", "/")
                .await
                .status
        });
        (sample.upstreams[0].live_requests() >= 1).then_some(())
    })
    .await;
    let before = counts(&sample);
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..200 {
        let next = tokio::time::timeout(std::time::Duration::from_millis(100), connection.get("echo", "/")).await;
        if next.is_err() {
            // Drawn twice: the busy one has no rival then. That client hangs; go on with another.
            connection = sample.connect(Version::Http1).await;
        }
    }
    let after = counts(&sample);
    let busy = after[0] - before[0];
    // Two draws with replacement: a quarter draws the busy one twice, and nothing else may choose it.
    let (low, high) = binomial_bounds(200, 0.25, 1e-6);
    assert!(
        (low..=high).contains(&busy),
        "{busy} of 200 to the busy endpoint, not in {low}..={high}"
    );
    sample.upstreams[0].set(Behaviour::Answer);
    assert!(held.join_all().await.into_iter().all(|status| status == 200));
}
