//! The store survives SIGKILL at any moment: what was acknowledged is there, and no transaction is there by half.

use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;
use tsunagi_tests::{Connection, ControlPlane, Version, body, request};

const ROUNDS: u64 = 6;

/// Two documents in one transaction, found again by their common name.
fn pair(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {name}
spec:
  hosts:
  - {name}.example.com
  http:
  - route:
    - destination:
        host: {name}.example.com
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: {name}
spec:
  host: {name}.example.com
"
    )
}

/// Writes pairs one after another until the control plane is gone: the names that were acknowledged.
async fn write_until_gone(address: std::net::SocketAddr, round: u64) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut connection = Connection::open(address, Version::Http1).await;
    for number in 0.. {
        let name = format!("r{round}-n{number}");
        let mut write = request("POST", &address.to_string(), "/v1/transactions");
        *write.body_mut() = body(pair(&name));
        write
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/yaml"));
        match connection.try_send(write).await {
            Ok(reply) => {
                assert!(reply.status < 300, "{}", reply.text());
                acknowledged.insert(name);
            }
            Err(_) => break,
        }
    }
    acknowledged
}

async fn names(control: &ControlPlane, plural: &str) -> BTreeSet<String> {
    let path = format!("/apis/networking.istio.io/v1/namespaces/default/{plural}");
    let reply = control.get(&path).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let list: serde_json::Value = serde_json::from_slice(&reply.body).expect("a list in JSON");
    let items = list["items"].as_array().expect("a list has items");
    items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_kill_9_and_no_transaction_is_there_by_half() {
    let mut control = ControlPlane::start();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let writer = tokio::spawn(write_until_gone(control.http, round));
        // Another moment each round, anywhere in a write.
        let moment = Instant::now() + Duration::from_micros(60_000 + round * 7_919 % 40_000);
        tokio::time::timeout_at(moment, std::future::pending::<()>()).await.ok();
        control.kill();
        acknowledged.extend(writer.await.expect("the writer ends"));
        control.restart();
        let (rules, policies) = (
            names(&control, "virtualservices").await,
            names(&control, "destinationrules").await,
        );
        let lost: Vec<_> = acknowledged.difference(&rules).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and gone: {lost:?}");
        let halves: Vec<_> = rules.symmetric_difference(&policies).collect();
        assert!(halves.is_empty(), "round {round}: half a transaction: {halves:?}");
    }
    assert!(
        acknowledged.len() > 10,
        "only {} writes were acknowledged",
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_what_was_stored() {
    let mut control = ControlPlane::start();
    control.apply(&pair("kept")).await;
    control.restart();
    assert!(names(&control, "virtualservices").await.contains("kept"));
}
