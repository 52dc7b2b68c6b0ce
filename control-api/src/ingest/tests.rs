//! Tests of the first half of the push path: all or nothing, in turns, durable before it is told.

use std::{path::Path, time::SystemTime};

use super::*;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: user-service
spec:
  selector:
    app: user-service
  ports:
  - name: http
    port: 80
    targetPort: 8080
";

fn parse(text: &str) -> Vec<Document> {
    config::parse("test.yaml", text, "default").expect("valid documents")
}

fn named(name: &str) -> String {
    SERVICE.replace("name: user-service", &format!("name: {name}"))
}

fn start(directory: &Path) -> (Ingest, watch::Receiver<Arc<World>>) {
    let store = Store::open(directory).expect("a store");
    Ingest::start(store, || SystemTime::UNIX_EPOCH, "tsunagi-system").expect("a start")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn operations(applied: &Applied) -> Vec<Operation> {
    applied.changes.iter().map(|change| change.operation).collect()
}

#[tokio::test]
async fn an_apply_is_published_and_found_again_after_a_restart() {
    let directory = directory();
    let (ingest, world) = start(directory.path());
    let applied = ingest.apply(parse(SERVICE), false).await.expect("applied");
    assert_eq!(applied.revision, 1);
    assert_eq!(operations(&applied), [Operation::Created]);
    assert_eq!(world.borrow().revision(), 1);
    drop((ingest, world));
    let (ingest, world) = start(directory.path());
    assert_eq!(world.borrow().revision(), 1);
    let held = ingest.held();
    let document = held.documents.values().next().expect("one document");
    assert_eq!(document.key.to_string(), "Service/default/user-service");
    assert_eq!(document.object["metadata"]["creationTimestamp"], "1970-01-01T00:00:00Z");
    assert_eq!(document.object["metadata"]["resourceVersion"], "1");
}

#[tokio::test]
async fn the_same_again_is_unchanged_and_no_new_revision() {
    let directory = directory();
    let (ingest, world) = start(directory.path());
    ingest.apply(parse(SERVICE), false).await.expect("applied");
    ingest.apply(parse(&named("other")), false).await.expect("applied");
    let again = ingest.apply(parse(SERVICE), false).await.expect("applied");
    assert_eq!(operations(&again), [Operation::Unchanged]);
    assert_eq!((again.revision, again.last_change()), (2, 1));
    assert_eq!(world.borrow().revision(), 2);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_change_and_changes_nothing() {
    let directory = directory();
    let (ingest, world) = start(directory.path());
    let applied = ingest.apply(parse(SERVICE), true).await.expect("valid");
    assert_eq!(operations(&applied), [Operation::Created]);
    assert_eq!(world.borrow().revision(), 0);
    assert!(ingest.held().documents.is_empty());
}

#[tokio::test]
async fn the_same_key_twice_is_refused_by_name_and_place() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let mut twice = parse(SERVICE);
    twice.extend(config::parse("other.yaml", SERVICE, "default").expect("valid"));
    let refused = ingest.apply(twice, false).await.expect_err("refused").to_string();
    let expected = "other.yaml:1: Service/user-service: metadata.name: is in this transaction twice";
    assert!(refused.starts_with(expected), "{refused}");
    assert!(refused.contains("first at test.yaml:1"), "{refused}");
    assert!(ingest.held().documents.is_empty());
}

#[tokio::test]
async fn a_stale_resource_version_conflicts_and_nothing_of_its_transaction_is_kept() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    ingest.apply(parse(SERVICE), false).await.expect("applied");
    let stale = SERVICE.replace("metadata:\n", "metadata:\n  resourceVersion: \"9\"\n");
    let both = parse(&format!("{}---\n{stale}", named("other")));
    let refused = ingest.apply(both, false).await.expect_err("refused");
    assert!(matches!(refused, Refused::Conflict { .. }), "{refused}");
    assert_eq!(ingest.held().documents.len(), 1);
}

#[tokio::test]
async fn a_delete_takes_what_is_there_and_names_what_is_not() {
    let directory = directory();
    let (ingest, world) = start(directory.path());
    ingest.apply(parse(SERVICE), false).await.expect("applied");
    let key = |name: &str| Key {
        kind: Kind::Service,
        namespace: "default".into(),
        name: name.into(),
    };
    let keys = vec![key("user-service"), key("nobody"), key("user-service")];
    let deleted = ingest.delete(keys, false).await.expect("deleted");
    assert_eq!(
        operations(&deleted),
        [Operation::Deleted, Operation::NotFound, Operation::NotFound]
    );
    assert_eq!(world.borrow().revision(), 2);
    let again = ingest
        .delete(vec![key("user-service")], false)
        .await
        .expect("nothing to do");
    assert_eq!((again.revision, operations(&again)), (2, vec![Operation::NotFound]));
}

#[tokio::test]
async fn writers_take_turns_and_none_is_lost() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let writers: Vec<_> = (0..20)
        .map(|index| {
            let ingest = ingest.clone();
            tokio::spawn(async move { ingest.apply(parse(&named(&format!("s{index}"))), false).await })
        })
        .collect();
    let mut revisions = Vec::new();
    for writer in writers {
        revisions.push(writer.await.expect("no panic").expect("applied").revision);
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=20).collect::<Vec<u64>>());
    assert_eq!(ingest.held().documents.len(), 20);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_stop_what_has_begun() {
    let directory = directory();
    let (ingest, mut world) = start(directory.path());
    let apply = ingest.apply(parse(SERVICE), false);
    // One poll hands the transaction to its thread; then the caller is gone.
    drop(tokio::time::timeout(std::time::Duration::ZERO, apply).await);
    world.changed().await.expect("published");
    assert_eq!(ingest.held().documents.len(), 1);
}

#[tokio::test]
async fn a_closed_ingest_refuses_and_ends_the_worlds() {
    let directory = directory();
    let (ingest, mut world) = start(directory.path());
    ingest.close();
    assert!(world.changed().await.is_err());
    let refused = ingest.apply(parse(SERVICE), false).await;
    assert!(matches!(refused, Err(Refused::Stopped)));
}

#[tokio::test]
async fn warnings_are_about_this_transaction_and_not_about_others() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let rule = |name: &str| {
        parse(&format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts: [{name}]\n  http: [{{route: [{{destination: {{host: nowhere}}}}]}}]\n"
        ))
    };
    let first = ingest.apply(rule("first"), false).await.expect("applied").warnings;
    assert!(
        first
            .iter()
            .any(|warning| warning.starts_with("VirtualService/default/first: ")),
        "{first:?}"
    );
    let second = ingest.apply(rule("second"), false).await.expect("applied").warnings;
    assert!(
        !second.is_empty() && second.iter().all(|warning| !warning.contains("/first")),
        "{second:?}"
    );
    assert_eq!(
        ingest.apply(rule("first"), false).await.expect("unchanged").warnings,
        first
    );
}

#[tokio::test]
async fn a_strict_transaction_that_brings_a_warning_about_changes_nothing() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let strict = Mode {
        strict: true,
        ..Mode::default()
    };
    let workload = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.1, \
                    labels: {app: user-service}}\n";
    let both = format!("{SERVICE}{workload}");
    let refused = ingest.apply(parse(SERVICE), strict).await.expect_err("refused");
    assert!(matches!(refused, Refused::Warned(_)), "{refused}");
    let expected = "Service/default/user-service: spec.selector: selects no WorkloadEntry";
    assert!(refused.to_string().starts_with(expected), "{refused}");
    assert!(ingest.held().documents.is_empty());
    let dry = Mode {
        dry_run: true,
        ..strict
    };
    assert!(ingest.apply(parse(SERVICE), dry).await.is_err());
    // Together they mean something.
    let applied = ingest.apply(parse(&both), strict).await.expect("applied");
    assert_eq!(applied.warnings, [] as [String; 0]);
    // What was warned of before is no reason to refuse.
    let idle = named("idle").replace("app: user-service", "app: idle");
    ingest.apply(parse(&idle), false).await.expect("applied");
    let again = ingest.apply(parse(&idle), strict).await.expect("unchanged");
    assert_eq!(again.warnings.len(), 1, "{:?}", again.warnings);
    let changed = idle.replace("port: 80", "port: 81");
    assert!(ingest.apply(parse(&changed), strict).await.is_ok());
}

#[tokio::test]
async fn a_delete_warns_of_what_it_leaves_behind() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let rule = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: front}\nspec:\n  hosts: [front]\n  \
                http: [{route: [{destination: {host: user-service}}]}]\n";
    ingest
        .apply(parse(&format!("{SERVICE}{rule}")), false)
        .await
        .expect("applied");
    let service = parse(SERVICE).remove(0).key;
    let deleted = ingest.delete(vec![service], false).await.expect("deleted");
    let [warning] = deleted.warnings.as_slice() else {
        unreachable!("{:?}", deleted.warnings)
    };
    let expected =
        "VirtualService/default/front: spec.http[0].route[0].destination: no service has the host user-service";
    assert!(warning.starts_with(expected), "{warning}");
}

#[tokio::test]
async fn a_document_that_another_cluster_exported_is_created() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let exported = SERVICE.replace(
        "metadata:\n",
        "metadata:\n  resourceVersion: \"48151623\"\n  uid: theirs\n",
    );
    let created = ingest.apply(parse(&exported), false).await.expect("created");
    assert_eq!(operations(&created), [Operation::Created]);
    let document = created.changes[0].document.clone().expect("there");
    assert_eq!(document.object["metadata"]["resourceVersion"], "1");
    assert_ne!(document.object["metadata"]["uid"], "theirs");
    // By now it is stale.
    let refused = ingest.apply(parse(&exported), false).await.expect_err("refused");
    let expected = "test.yaml:1: Service/default/user-service: the object has been modified";
    assert!(refused.to_string().starts_with(expected), "{refused}");
}

#[test]
fn a_problem_of_the_would_be_world_is_where_this_transaction_says_it() {
    let problem = |name: &str| Problem {
        file: "old.yaml".into(),
        line: 9,
        kind: "Service".into(),
        name: name.into(),
        ..Problem::default()
    };
    let twice = named("twice").replace("metadata:\n", "metadata:\n  namespace: shop\n");
    let documents = parse(&[named("other"), SERVICE.to_owned(), named("twice"), twice].join("---\n"));
    let located = Intent::Folder(documents).locate(["user-service", "twice", "elsewhere"].map(problem).to_vec());
    let places: Vec<(&str, u32)> = located.iter().map(|problem| (&*problem.file, problem.line)).collect();
    assert_eq!(places, [("test.yaml", 13), ("old.yaml", 9), ("old.yaml", 9)]);
}

const DESTINATION_RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: user-service}
spec:
  host: user-service
  exportTo: ['.']
  subsets: [{name: v1}]
";
const TO_SUBSET: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user-service}
spec: {hosts: [user-service], http: [{route: [{destination: {host: user-service, subset: v1}}]}]}
";

#[tokio::test]
async fn what_a_document_goes_on_causing_is_said_at_each_apply_of_it_and_refused_only_when_it_is_new() {
    let directory = directory();
    let (ingest, _world) = start(directory.path());
    let strict = Mode {
        strict: true,
        ..Mode::default()
    };
    let public = DESTINATION_RULE.replace("exportTo: ['.']", "exportTo: ['*']");
    let all = format!("{SERVICE}---\n{TO_SUBSET}---\n{public}");
    ingest.apply(parse(&all), false).await.expect("applied");
    let refused = ingest.apply(parse(DESTINATION_RULE), strict).await;
    let Err(Refused::Warned(warnings)) = refused else {
        panic!("{refused:?}")
    };
    let cause = "DestinationRule/default/user-service, which defines v1, is exported to `.` only";
    assert!(warnings.iter().any(|warning| warning.contains(cause)), "{warnings:?}");
    ingest.apply(parse(DESTINATION_RULE), false).await.expect("applied");
    let other = format!("{DESTINATION_RULE}  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 3}}}}}}\n");
    for text in [DESTINATION_RULE, &other] {
        let applied = ingest.apply(parse(text), strict).await.expect("nothing is new");
        assert!(
            applied.warnings.iter().any(|warning| warning.contains(cause)),
            "{:?}",
            applied.warnings
        );
    }
    // Nobody else is told.
    let applied = ingest.apply(parse(&named("other")), false).await.expect("applied");
    assert!(
        !applied.warnings.iter().any(|warning| warning.contains(cause)),
        "{:?}",
        applied.warnings
    );
}
