//! Tests of what an answer says besides yes: warnings, conflicts with their place, readiness before the first content.

use super::*;
use crate::ingest::Folder;

const RULE: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec: {hosts: [front], http: [{route: [{destination: {host: user-service}}]}]}
";

#[tokio::test]
async fn a_strict_transaction_is_422_with_its_warnings_and_stores_nothing() {
    let plane = Plane::new();
    let refused = plane.apply("?strict=true", SERVICE).await;
    let status = refused.json();
    assert_eq!(
        (refused.status, &status["reason"]),
        (422, &json!("Invalid")),
        "{status}"
    );
    let cause = status["details"]["causes"][0]["message"].as_str().unwrap_or_default();
    let expected = "warning: Service/default/user-service: spec.selector: selects no WorkloadEntry";
    assert!(cause.starts_with(expected), "{status}");
    assert_eq!(plane.get(PATH).await.status, 404);
    assert_eq!(plane.apply("?strict=maybe", SERVICE).await.status, 400);
    let applied = plane.apply("?strict=false", SERVICE).await;
    assert_eq!(
        applied.json()["warnings"].as_array().map(Vec::len),
        Some(1),
        "{}",
        applied.text
    );
}

#[tokio::test]
async fn a_delete_says_what_it_leaves_behind_however_it_is_asked_for() {
    let plane = Plane::new();
    let left = "VirtualService/default/front: spec.http[0].route[0].destination: no service has the host";
    for by_path in [true, false] {
        plane.apply("", &format!("{SERVICE}{RULE}")).await;
        let deleted = if by_path {
            plane.send("DELETE", PATH, "", Body::empty()).await
        } else {
            plane.apply("?operation=delete", SERVICE).await
        };
        let warnings = deleted.json()["warnings"].clone();
        assert_eq!(deleted.status, 200, "{}", deleted.text);
        assert!(
            warnings[0].as_str().is_some_and(|warning| warning.starts_with(left)),
            "{warnings}"
        );
    }
}

#[tokio::test]
async fn a_stale_version_in_a_transaction_is_409_with_its_file_and_line() {
    let plane = Plane::new();
    let stale = SERVICE.replace("metadata:\n", "metadata:\n  resourceVersion: \"9\"\n");
    assert_eq!(plane.apply("", &stale).await.status, 200, "it is not there yet");
    let text = format!("# One\n---\n{stale}");
    let files = json!({"files": [{"name": "shop.yaml", "text": text}]}).to_string();
    for path in ["/v1/transactions", "/v1/transactions?operation=delete"] {
        let refused = plane.send("POST", path, FILES_MEDIA_TYPE, files.clone()).await;
        let status = refused.json();
        assert_eq!(
            (refused.status, &status["reason"]),
            (409, &json!("Conflict")),
            "{status}"
        );
        let cause = &status["details"]["causes"][0];
        assert_eq!(
            (&cause["file"], &cause["line"]),
            (&json!("shop.yaml"), &json!(3)),
            "{status}"
        );
        let message = status["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with("shop.yaml:3: Operation cannot be fulfilled"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_wait_says_how_many_proxies_there_are() {
    let plane = Plane::new();
    let connected = |answer: Answer| answer.json()["connectedProxies"].clone();
    assert_eq!(connected(plane.apply("?wait=1s", SERVICE).await), json!(0));
    let identity = Identity {
        namespace: "default".to_owned(),
        node_id: "web".to_owned(),
    };
    let progress = Progress {
        seen: 1,
        ..Progress::default()
    };
    let _proxy = plane.api.status.connect(identity, progress);
    assert_eq!(connected(plane.apply("?wait=1s", SERVICE).await), json!(1));
    assert_eq!(connected(plane.apply("", SERVICE).await), json!(null));
}

#[tokio::test]
async fn a_wait_says_whether_any_proxy_uses_the_hosts() {
    let plane = Plane::new();
    let identity = Identity {
        namespace: "default".to_owned(),
        node_id: "web".to_owned(),
    };
    let progress = |hosts: &[&str]| Progress {
        seen: 9,
        answered: 9,
        acknowledged: 9,
        hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
        ..Progress::default()
    };
    let proxy = plane
        .api
        .status
        .connect(identity, progress(&["other.default.svc.cluster.local"]));
    let unused = async |yaml: &str| plane.apply("?wait=1s", yaml).await.json()["hostsUnused"].clone();
    assert_eq!(unused(SERVICE).await, json!(true));
    assert_eq!(unused(SERVICE).await, json!(true), "the same again");
    let sidecar = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: all}\nspec: {outboundTrafficPolicy: {mode: ALLOW_ANY}}\n";
    assert_eq!(unused(sidecar).await, json!(false), "it is about no host");
    proxy.report(progress(&["user-service.default.svc.cluster.local"]), None);
    assert_eq!(unused(SERVICE).await, json!(false));
    assert_eq!(plane.apply("", SERVICE).await.json()["hostsUnused"], json!(null));
}

#[tokio::test]
async fn readiness_waits_for_the_first_content_of_the_config_folder_when_nothing_is_stored() {
    let plane = Plane::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("a.yaml"), "kind: [").expect("written");
    let _following = Folder::start(folder.path(), plane.api.ingest.clone()).await;
    let waiting = plane.get("/readyz").await;
    assert_eq!(waiting.status, 503);
    let place = folder.path().display().to_string();
    assert!(
        waiting.text.contains(&place) && waiting.text.ends_with('\n'),
        "{}",
        waiting.text
    );
    assert_eq!(plane.get("/healthz").await.status, 200);
    std::fs::write(folder.path().join("a.yaml"), SERVICE).expect("written");
    let _following = Folder::start(folder.path(), plane.api.ingest.clone()).await;
    assert_eq!(plane.get("/readyz").await.status, 200);
}
