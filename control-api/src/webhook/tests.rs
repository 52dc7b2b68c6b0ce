//! Reviews as API servers send them, and a cluster whose configurations are given the authority.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

use super::review::Operation;
use super::*;
use crate::store::Store;

fn parts(cluster: Option<Client>) -> (tempfile::TempDir, Parts) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path()).expect("a store");
    let (ingest, _) = Ingest::start(store, SystemTime::now, "tsunagi-system").expect("started");
    let parts = Parts {
        ingest,
        settings: Settings::default(),
        cluster,
        native_sidecars: OnceLock::new(),
    };
    (folder, parts)
}

fn review(kind: (&str, &str), operation: &str, object: Value) -> Review {
    let (object, old) = if operation == "DELETE" {
        (Value::Null, object)
    } else {
        (object, Value::Null)
    };
    let request = json!({
        "uid": "1", "kind": {"group": kind.0, "version": "v1", "kind": kind.1}, "namespace": "shop", "name": "user",
        "operation": operation, "object": object, "oldObject": old, "dryRun": false, "options": {},
    });
    let whole = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Review::parse(whole.to_string().as_bytes()).expect("a review")
}

const RULE: (&str, &str) = ("networking.istio.io", "VirtualService");

fn rule(timeout: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "user", "namespace": "shop", "resourceVersion": "77", "uid": "u", "generation": 3, "managedFields": []},
        "spec": {"hosts": ["user"], "http": [{"timeout": timeout, "route": [{"destination": {"host": "user"}}]}]},
    })
}

#[test]
fn what_is_no_review_is_told_so() {
    for body in [
        "",
        "{}",
        "[]",
        r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}"#,
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"","kind":{"group":"","kind":"Pod"},"operation":"CREATE"}}"#,
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","kind":{"group":"","kind":"Pod"},"operation":"EAT"}}"#,
    ] {
        assert!(Review::parse(body.as_bytes()).is_err(), "{body}");
    }
    assert_eq!(review(RULE, "UPDATE", rule("1s")).operation, Operation::Update);
}

#[tokio::test]
async fn what_apply_would_refuse_is_denied_and_nothing_is_written() {
    let (_folder, parts) = parts(None);
    let judge = async |review: Review| validation::judge(&parts.ingest, &review).await.expect("judged");
    for operation in ["CREATE", "UPDATE"] {
        let good = judge(review(RULE, operation, rule("5s"))).await;
        assert!(matches!(good, Verdict::Allowed { result: "allowed", .. }), "{good:?}");
        let Verdict::Denied(reason) = judge(review(RULE, operation, rule("soon"))).await else {
            unreachable!("a wrong duration was allowed")
        };
        assert!(
            reason.starts_with("tsunagi: VirtualService/user: spec.http[0].timeout: "),
            "{reason}"
        );
    }
    assert!(matches!(
        judge(review(RULE, "DELETE", rule("5s"))).await,
        Verdict::Allowed { .. }
    ));
    assert!(parts.ingest.held().documents.is_empty(), "a review was written");
}

#[tokio::test]
async fn before_the_cluster_is_listed_nothing_is_judged() {
    let (_folder, parts) = parts(None);
    parts.ingest.await_source(Some("not listed yet: services".to_owned()));
    let judge = async || validation::judge(&parts.ingest, &review(RULE, "CREATE", rule("5s"))).await;
    let unjudged = judge().await;
    assert!(
        unjudged.as_ref().is_err_and(|reason| reason.contains("services")),
        "{unjudged:?}"
    );
    parts.ingest.await_source(None);
    assert!(matches!(judge().await, Ok(Verdict::Allowed { .. })));
}

#[tokio::test]
async fn an_update_that_changes_no_spec_or_of_what_is_going_is_allowed() {
    let (_folder, parts) = parts(None);
    let judge = async |review: Review| validation::judge(&parts.ingest, &review).await.expect("judged");
    let is_allowed = |verdict: Verdict| matches!(verdict, Verdict::Allowed { .. });
    let update = |old: Value| {
        let mut review = review(RULE, "UPDATE", rule("soon"));
        review.old_object = old;
        review
    };
    assert!(is_allowed(judge(update(rule("soon"))).await));
    assert!(!is_allowed(judge(update(rule("5s"))).await));
    assert!(!is_allowed(judge(update(Value::Null)).await));
    let mut going = update(rule("5s"));
    going.object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(is_allowed(judge(going).await));
    let mut created = review(RULE, "CREATE", rule("soon"));
    created.old_object = rule("soon");
    assert!(!is_allowed(judge(created).await));
}

#[tokio::test]
async fn what_is_not_ours_is_allowed_with_a_word() {
    let (_folder, parts) = parts(None);
    let judge = async |review: Review| validation::judge(&parts.ingest, &review).await.expect("judged");
    let Verdict::Allowed { warnings, .. } =
        judge(review(("networking.istio.io", "Gateway"), "CREATE", json!({}))).await
    else {
        unreachable!("a kind of others was denied")
    };
    assert!(warnings[0].contains("Gateway"), "{warnings:?}");
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "user"}, "spec": {"type": "ExternalName"}});
    assert!(matches!(
        judge(review(("", "Service"), "CREATE", service)).await,
        Verdict::Allowed { .. }
    ));
    let mut status = review(RULE, "UPDATE", rule("soon"));
    status.sub_resource = "status".to_owned();
    assert!(
        matches!(judge(status).await, Verdict::Allowed { .. }),
        "a status was judged"
    );
}

#[tokio::test]
async fn a_pod_is_patched_and_everything_else_is_left_alone() {
    let (_folder, parts) = parts(None);
    let pod = |annotations: Value| json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "web"}]}});
    let judge = async |review: Review| injection::judge(&parts, &review).await;
    let Verdict::Patched { operations, .. } = judge(review(("", "Pod"), "CREATE", pod(json!({})))).await else {
        unreachable!("no sidecar")
    };
    assert!(
        operations
            .iter()
            .any(|operation| operation["path"] == "/spec/initContainers"),
        "{operations:?}"
    );
    assert!(
        operations
            .iter()
            .all(|operation| operation["path"] != "/spec/containers"),
        "{operations:?}"
    );
    let wrong = judge(review(
        ("", "Pod"),
        "CREATE",
        pod(json!({"sidecar.istio.io/proxyCPU": "lots"})),
    ))
    .await;
    assert!(
        matches!(&wrong, Verdict::Denied(reason) if reason.contains("sidecar.istio.io/proxyCPU")),
        "{wrong:?}"
    );
    for left in [
        review(("", "Pod"), "UPDATE", pod(json!({}))),
        review(
            ("apps", "Deployment"),
            "CREATE",
            json!({"spec": {"template": pod(json!({}))}}),
        ),
        review(("", "Pod"), "CREATE", pod(json!({"sidecar.istio.io/inject": "false"}))),
    ] {
        assert!(matches!(
            judge(left).await,
            Verdict::Allowed {
                result: "left_alone",
                ..
            }
        ));
    }
}

/// A cluster of one namespace and the two configurations.
struct Cluster {
    labels: Value,
    webhooks: Value,
    patches: Vec<Value>,
}

fn cluster(state: &Arc<Mutex<Cluster>>) -> Client {
    let state = Arc::clone(state);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let state = Arc::clone(&state);
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect().await.expect("a body").to_bytes();
            let path = head.uri.path().to_owned();
            let mut state = state.lock().expect("no panic");
            let object = if path.starts_with("/api/v1/namespaces/") {
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": state.labels}})
            } else {
                assert!(path.ends_with("webhookconfigurations/tsunagi"), "{path}");
                if head.method == http::Method::PATCH {
                    assert_eq!(
                        head.headers[http::header::CONTENT_TYPE],
                        "application/strategic-merge-patch+json"
                    );
                    state.patches.push(serde_json::from_slice(&bytes).expect("JSON"));
                }
                json!({"metadata": {"name": "tsunagi", "resourceVersion": "5"}, "webhooks": state.webhooks})
            };
            let answer = http::Response::builder().body(Body::from(object.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    Client::new(service, "tsunagi-system")
}

fn state(labels: Value, webhooks: Value) -> Arc<Mutex<Cluster>> {
    Arc::new(Mutex::new(Cluster {
        labels,
        webhooks,
        patches: Vec::new(),
    }))
}

#[tokio::test]
async fn the_namespaces_own_labels_have_the_last_word() {
    for (labels, patched) in [
        (json!({"tsunagi.dev/injection": "enabled"}), true),
        (json!({"tsunagi.dev/injection": "disabled"}), false),
        (json!({}), false),
    ] {
        let (_folder, parts) = parts(Some(cluster(&state(labels.clone(), json!([])))));
        let pod = json!({"spec": {"containers": [{"name": "web"}]}});
        let verdict = injection::judge(&parts, &review(("", "Pod"), "CREATE", pod)).await;
        assert_eq!(matches!(verdict, Verdict::Patched { .. }), patched, "{labels}");
    }
}

#[tokio::test]
async fn each_webhook_that_does_not_trust_the_authority_is_mended_and_no_other() {
    let webhook = |name: &str, bundle: Option<&str>| {
        json!({
            "name": name, "clientConfig": {"caBundle": bundle, "service": {"name": "tsunagi", "namespace": "tsunagi-system"}},
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        })
    };
    // "UEVN" is "PEM".
    let state = state(
        json!({}),
        json!([webhook("a.tsunagi.dev", Some("UEVN")), webhook("b.tsunagi.dev", None)]),
    );
    let client = cluster(&state);
    registration::trust(&client, "PEM").await.expect("patched");
    let expected = json!({
        "metadata": {"resourceVersion": "5"},
        "webhooks": [{"name": "b.tsunagi.dev", "clientConfig": {"caBundle": "UEVN"}}],
    });
    assert_eq!(state.lock().expect("no panic").patches, [expected.clone(), expected]);
    state.lock().expect("no panic").webhooks = json!([webhook("a.tsunagi.dev", Some("UEVN"))]);
    registration::trust(&client, "PEM").await.expect("nothing to do");
    assert_eq!(state.lock().expect("no panic").patches.len(), 2);
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_while_it_is_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let place = Place::Folder(folder.path().join("webhook"));
    let mut certificate = Certificate::new(place, vec!["tsunagi.svc".to_owned()], Serving::new(), None);
    let read = || std::fs::read_to_string(folder.path().join("webhook/tls.crt")).expect("kept");
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    certificate.step(start).await.expect("made");
    let first = read();
    certificate.step(start + days(59)).await.expect("kept");
    assert_eq!(read(), first);
    certificate.step(start + days(61)).await.expect("renewed");
    assert_ne!(read(), first);
}

#[test]
fn native_sidecars_begin_with_1_29() {
    for (major, minor, native) in [
        ("1", "28", false),
        ("1", "29", true),
        ("1", "33+", true),
        ("2", "0", true),
        ("", "", false),
    ] {
        assert_eq!(has_native_sidecars(major, minor), native, "{major}.{minor}");
    }
}
