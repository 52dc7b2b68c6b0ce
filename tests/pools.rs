//! How connections to endpoints are kept, from the YAML to the socket: how long, how often they are asked whether anyone is
//! there, in which protocol, with how many streams; and that one which died unused fails no request.

#[path = "pools/lifetimes.rs"]
mod lifetimes;
#[path = "pools/protocols.rs"]
mod protocols;
#[path = "pools/queue.rs"]
mod queue;
#[path = "pools/stale.rs"]
mod stale;

use tsunagi_tests::{Sample, SidecarOptions};

/// A DestinationRule for `echo` with this policy, in YAML's flow style.
fn policy(policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy: {{{policy}}}
"
    )
}

fn pool(connection_pool: &str) -> String {
    policy(&format!("connectionPool: {{{connection_pool}}}"))
}

/// One upstream, asked by one worker: its connections can be told apart.
async fn one_worker(port_name: &str, rules: &str) -> Sample {
    let options = SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    };
    Sample::with(port_name, &["v1"], rules, &options).await
}
