//! Those who leave: published in turns with transactions, many at once, and never stored.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::{Ingest, Operation};
use crate::{config, snapshot::Node, store::Store};

fn workload(number: usize) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: u-{number}}}\nspec: {{address: 10.0.0.{number}, labels: {{app: u}}}}\n---\n"
    )
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: u}\nspec: {selector: {app: u}, ports: [{name: http, port: 80}]}\n---\n";

fn documents(text: &str) -> Vec<config::Document> {
    config::parse("test.yaml", text, "default").expect("valid documents")
}

fn node(number: usize) -> Node {
    Node {
        namespace: "default".into(),
        node_id: format!("u-{number}"),
        ..Node::default()
    }
}

async fn start(directory: &std::path::Path) -> Ingest {
    let store = Store::open(directory).expect("a store");
    let (ingest, _world) = Ingest::start(store, || SystemTime::UNIX_EPOCH, "tsunagi-system").expect("a start");
    let text: String = (1..=200).map(workload).collect();
    let text = format!("{SERVICE}{text}");
    ingest.apply(documents(&text), false).await.expect("applied");
    ingest
}

#[tokio::test]
async fn who_leaves_is_a_revision_that_changes_no_document_and_is_forgotten_by_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ingest = start(directory.path()).await;
    let before = ingest.held();
    assert_eq!(ingest.leave(node(1)).await.expect("published"), Some(2));
    let held = ingest.held();
    assert_eq!(
        (held.world.revision(), held.documents.len()),
        (2, before.documents.len())
    );
    // Said again, nothing changes; a caller without endpoints may go at once.
    assert_eq!(ingest.leave(node(1)).await.expect("published"), Some(2));
    assert_eq!(ingest.leave(node(999)).await.expect("published"), None);
    assert_eq!(ingest.held().world.revision(), 2);
    // A transaction goes on from there, and what did not change is unchanged.
    let applied = ingest.apply(documents(&workload(1)), false).await.expect("applied");
    assert_eq!(
        (applied.changes[0].operation, applied.last_change()),
        (Operation::Unchanged, 1)
    );
    let applied = ingest.apply(documents(&workload(201)), false).await.expect("applied");
    assert_eq!(applied.revision, 3);
    assert_eq!(ingest.held().world.leaving_since("default", "u-1"), Some(2));
    ingest.stay(node(1)).await.expect("published");
    ingest.stay(node(1)).await.expect("nothing to do");
    assert_eq!(
        (
            ingest.held().world.revision(),
            ingest.held().world.leaving_since("default", "u-1")
        ),
        (4, None)
    );
    ingest.leave(node(2)).await.expect("published");
    drop((ingest, before, held));
    let store = Store::open(directory.path()).expect("a store");
    let (ingest, _world) = Ingest::start(store, || SystemTime::UNIX_EPOCH, "tsunagi-system").expect("a start");
    let world = ingest.held().world;
    assert_eq!((world.revision(), world.leaving_since("default", "u-2")), (5, None));
}

#[tokio::test]
async fn many_that_leave_at_once_share_revisions() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ingest = start(directory.path()).await;
    let leaving: Vec<_> = (1..=200)
        .map(|number| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.leave(node(number)).await })
        })
        .collect();
    for one in leaving {
        let since = one
            .await
            .expect("no panic")
            .expect("published")
            .expect("it has an endpoint");
        assert!(since <= ingest.held().world.revision());
    }
    let revisions = ingest.held().world.revision() - 1;
    assert!(revisions <= 20, "{revisions} revisions for 200 that leave at once");
    ingest.close();
    assert!(ingest.leave(node(1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_left_is_told_as_leaving_for_a_minute_after_its_stream_and_no_longer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ingest = start(directory.path()).await;
    let leaving = |number: usize| ingest.held().world.leaving_since("default", &format!("u-{number}"));
    ingest.leave(node(1)).await.expect("published");
    ingest.leave(node(2)).await.expect("published");
    let ended = Instant::now();
    let forget = tokio::spawn({
        let ingest = ingest.clone();
        async move { ingest.forget(node(1), || false).await }
    });
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(leaving(1).is_some());
    forget.await.expect("no panic").expect("published");
    assert_eq!(ended.elapsed().as_secs(), 60);
    assert!(leaving(1).is_none() && leaving(2).is_some());
    // It says so on another stream.
    ingest.forget(node(2), || true).await.expect("nothing to do");
    assert!(leaving(2).is_some());
    // Whoever has no mark is not kept.
    let begun = Instant::now();
    ingest.forget(node(999), || false).await.expect("nothing to do");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}
