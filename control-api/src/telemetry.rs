//! What the control plane tells about itself: its log on stderr and its Prometheus metrics. Called by `app` once, by
//! `ingest` and `api` for each event, and by `api` for a scrape. Nothing here is on a proxy's request path, so metrics
//! are recorded by name through the `metrics` facade.

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

const TRANSACTIONS: &str = "tsunagi_config_transactions_total";
const TRANSACTION_DURATION: &str = "tsunagi_config_transaction_duration_seconds";
const REVISION: &str = "tsunagi_config_revision";
const RESOURCES: &str = "tsunagi_config_resources";
const CONNECTED_PROXIES: &str = "tsunagi_connected_proxies";
const PUSH_RESPONSES: &str = "tsunagi_push_responses_total";
const PUSH_RESOURCES: &str = "tsunagi_push_resources_total";
const PUSH_ANSWERS: &str = "tsunagi_push_answers_total";
const PUSH_ANSWER_DURATION: &str = "tsunagi_push_answer_duration_seconds";
const HTTP_API_REQUESTS: &str = "tsunagi_http_api_requests_total";
const ADMISSION_REVIEWS: &str = "tsunagi_admission_reviews_total";
const CONFIG_DIR_SYNCED: &str = "tsunagi_config_dir_synced";
const KUBERNETES_WATCHES: &str = "tsunagi_kubernetes_watch_in_step";
const BUILD_INFO: &str = "tsunagi_build_info";

/// 1 ms (an fsync on a fast disk) to 10 s.
const DURATION_BUCKETS_SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("--log-level is not a filter: {0}")]
    LogLevel(#[source] tracing_subscriber::filter::ParseError),
    #[error("the log is already set up: {0}")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the metrics are already set up: {0}")]
    Metrics(#[source] BuildError),
}

/// Sends log lines to stderr; colours only on a terminal.
pub fn install_log(level: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter_of(level)).map_err(TelemetryError::LogLevel)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .map_err(TelemetryError::Log)
}

/// The Kubernetes client tells each failed attempt by itself; what matters of that is told by `kubernetes`, once.
fn filter_of(level: &str) -> String {
    if level.contains("kube_") {
        level.to_owned()
    } else {
        format!("{level},kube_client=off,kube_runtime=off")
    }
}

/// Makes this process's metrics go to the returned handle.
pub fn install_metrics() -> Result<PrometheusHandle, TelemetryError> {
    let handle = builder()
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(TelemetryError::Metrics)?;
    describe();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for outcome in Outcome::ALL {
        counter!(TRANSACTIONS, "result" => outcome.label()).absolute(0);
    }
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets(&DURATION_BUCKETS_SECONDS)
}

fn describe() {
    describe_counter!(TRANSACTIONS, "Configuration transactions by how they ended.");
    describe_histogram!(
        TRANSACTION_DURATION,
        Unit::Seconds,
        "Time from a parsed transaction to its answer, fsync included, waiting for proxies not."
    );
    describe_gauge!(
        REVISION,
        "Revision of the store: the number of transactions that changed something."
    );
    describe_gauge!(RESOURCES, "Resources in the store by kind.");
    describe_gauge!(
        CONNECTED_PROXIES,
        "Proxies with an open discovery stream to this control plane."
    );
    describe_counter!(PUSH_RESPONSES, "Discovery responses sent to proxies.");
    describe_counter!(PUSH_RESOURCES, "Resources in the discovery responses sent to proxies.");
    describe_counter!(PUSH_ANSWERS, "Answers of proxies to discovery responses by result.");
    describe_histogram!(
        PUSH_ANSWER_DURATION,
        Unit::Seconds,
        "Time from sending a discovery response to the proxy's answer."
    );
    describe_counter!(HTTP_API_REQUESTS, "Requests to the HTTP API by method and status code.");
    describe_counter!(ADMISSION_REVIEWS, "Admission reviews by webhook and how they ended.");
    describe_gauge!(
        CONFIG_DIR_SYNCED,
        "1 while the content of --config-dir is in force, 0 while an older one or none is because of a problem that the log names."
    );
    describe_gauge!(
        KUBERNETES_WATCHES,
        "1 while the watch of this resource follows the cluster, 0 while it cannot; what is known of it stays in force."
    );
    describe_gauge!(BUILD_INFO, "1, with the version of this binary as a label.");
}

/// Whether the watch of a resource (its plural) follows the cluster.
pub fn record_watch(resource: &'static str, in_step: bool) {
    gauge!(KUBERNETES_WATCHES, "resource" => resource).set(f64::from(u8::from(in_step)));
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    Unchanged,
    DryRun,
    Refused,
    Conflict,
    Failed,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Applied,
        Self::Unchanged,
        Self::DryRun,
        Self::Refused,
        Self::Conflict,
        Self::Failed,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::DryRun => "dry_run",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

pub fn record_transaction(outcome: Outcome, elapsed: Duration) {
    counter!(TRANSACTIONS, "result" => outcome.label()).increment(1);
    histogram!(TRANSACTION_DURATION).record(elapsed);
}

/// A transaction that ended before it reached the store: its documents do not parse.
pub fn record_unparsable_transaction() {
    counter!(TRANSACTIONS, "result" => Outcome::Refused.label()).increment(1);
}

pub fn record_store(revision: u64, resources: &BTreeMap<&'static str, usize>) {
    gauge!(REVISION).set(revision as f64);
    for (kind, count) in resources {
        gauge!(RESOURCES, "kind" => *kind).set(*count as f64);
    }
}

/// Whether what `--config-dir` holds is in force.
pub fn record_config_dir(synced: bool) {
    gauge!(CONFIG_DIR_SYNCED).set(f64::from(u8::from(synced)));
}

/// `method` must come from a bounded set.
pub fn record_http_api_request(method: &'static str, status: u16) {
    counter!(HTTP_API_REQUESTS, "method" => method, "code" => status.to_string()).increment(1);
}

pub fn record_admission(webhook: &'static str, result: &'static str) {
    counter!(ADMISSION_REVIEWS, "webhook" => webhook, "result" => result).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_help_text_and_a_type() {
        let recorder = builder().expect("buckets are not empty").build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            record_transaction(Outcome::Applied, Duration::from_millis(3));
            record_unparsable_transaction();
            record_watch("pods", true);
            record_store(4, &BTreeMap::from([("Service", 2)]));
            gauge!(CONNECTED_PROXIES).set(1.0);
            counter!(PUSH_ANSWERS).increment(1);
            record_config_dir(true);
            record_http_api_request("GET", 200);
            record_admission("inject", "patched");
        });
        let text = handle.render();
        for name in [
            TRANSACTIONS,
            TRANSACTION_DURATION,
            REVISION,
            RESOURCES,
            CONFIG_DIR_SYNCED,
            CONNECTED_PROXIES,
            HTTP_API_REQUESTS,
            ADMISSION_REVIEWS,
            PUSH_ANSWERS,
        ] {
            assert!(text.contains(&format!("# HELP {name} ")), "{name}: {text}");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}: {text}");
        }
        assert!(text.contains("tsunagi_config_transaction_duration_seconds_bucket"));
        assert!(text.contains("tsunagi_config_transactions_total{result=\"refused\"} 1"));
    }
}
