//! Tests of the HTTP API as a client sees it: through the router, over a real store.

use std::{sync::atomic::Ordering, time::SystemTime};

use axum::{
    body::Body,
    http::{Request, header},
};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    status::{Identity, Progress, Refused, Span},
    store::Store,
};

mod ejected;
mod grpc;
mod names;
mod verdicts;

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
";
const PATH: &str = "/api/v1/namespaces/default/services/user-service";

struct Plane {
    _directory: tempfile::TempDir,
    api: Api,
}

struct Answer {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

impl Plane {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("a store");
        let (ingest, _world) = Ingest::start(store, || SystemTime::UNIX_EPOCH, "tsunagi-system").expect("a start");
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let api = Api {
            ingest,
            status: Status::new(),
            metrics,
            stopping: Arc::default(),
        };
        Self {
            _directory: directory,
            api,
        }
    }

    async fn send(&self, method: &str, path: &str, media_type: &str, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !media_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, media_type);
        }
        self.ask(request.body(body.into()).expect("a request")).await
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = router(self.api.clone()).oneshot(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).expect("text"),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", Body::empty()).await
    }

    async fn apply(&self, query: &str, yaml: &str) -> Answer {
        let path = format!("/v1/transactions{query}");
        self.send("POST", &path, "application/yaml", yaml.to_owned()).await
    }
}

#[tokio::test]
async fn a_transaction_is_told_and_its_resource_is_at_its_kubernetes_path() {
    let plane = Plane::new();
    let answer = plane.apply("", SERVICE).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let expected = json!([{"kind": "Service", "namespace": "default", "name": "user-service", "operation": "created"}]);
    assert_eq!(answer.json()["changes"], expected);
    assert_eq!(answer.json()["revision"], 1);
    let found = plane.get(PATH).await;
    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(found.json()["metadata"]["name"], "user-service");
    assert_eq!(found.json()["apiVersion"], "v1");
    for list in ["/api/v1/services", "/api/v1/namespaces/default/services"] {
        let found = plane.get(list).await.json();
        assert_eq!(found["kind"], "ServiceList");
        assert_eq!(found["items"].as_array().map(Vec::len), Some(1), "{list}");
    }
    let other = plane.get("/api/v1/namespaces/other/services").await.json();
    assert_eq!(other["items"], json!([]));
}

#[tokio::test]
async fn problems_are_422_with_a_cause_each_and_text_that_is_no_document_is_400() {
    let plane = Plane::new();
    let answer = plane
        .apply("", &SERVICE.replace("port: 80", "port: 80\n    prot: 1"))
        .await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let status = answer.json();
    assert_eq!(
        (&status["kind"], &status["status"], &status["reason"]),
        (&json!("Status"), &json!("Failure"), &json!("Invalid"))
    );
    let cause = &status["details"]["causes"][0];
    assert_eq!(cause["file"], "request");
    assert!(
        cause["field"].as_str().is_some_and(|field| field.contains("prot")),
        "{cause}"
    );
    assert!(
        status["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("request:")),
        "{status}"
    );
    let broken = plane.apply("", "a: [").await;
    assert_eq!(
        (broken.status, &broken.json()["reason"]),
        (400, &json!("BadRequest")),
        "{}",
        broken.text
    );
    assert_eq!(plane.apply("", "").await.status, 400);
}

#[tokio::test]
async fn a_stale_resource_version_is_409_and_the_current_one_is_taken() {
    let plane = Plane::new();
    plane.apply("", SERVICE).await;
    let mut object = plane.get(PATH).await.json();
    object["spec"]["selector"]["app"] = "other".into();
    let put = |object: &Value| plane.send("PUT", PATH, "application/json", object.to_string());
    let taken = put(&object).await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    assert_eq!(taken.json()["metadata"]["generation"], 2);
    assert_eq!(taken.json()["metadata"]["resourceVersion"], "2");
    object["spec"]["selector"]["app"] = "late".into();
    let stale = put(&object).await;
    assert_eq!(
        (stale.status, &stale.json()["reason"]),
        (409, &json!("Conflict")),
        "{}",
        stale.text
    );
}

#[tokio::test]
async fn a_put_creates_with_201_and_must_be_what_its_path_says() {
    let plane = Plane::new();
    let created = plane.send("PUT", PATH, "application/yaml", SERVICE).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let path = "/api/v1/namespaces/default/services/someone-else";
    assert_eq!(plane.send("PUT", path, "application/yaml", SERVICE).await.status, 400);
    let two = format!("{SERVICE}---\n{}", SERVICE.replace("name: user", "name: other"));
    assert_eq!(plane.send("PUT", PATH, "application/yaml", two).await.status, 400);
}

#[tokio::test]
async fn a_delete_deletes_once() {
    let plane = Plane::new();
    plane.apply("", SERVICE).await;
    let dry = plane
        .send("DELETE", &format!("{PATH}?dryRun=All"), "", Body::empty())
        .await;
    assert_eq!((dry.status, plane.get(PATH).await.status), (200, 200));
    let deleted = plane.send("DELETE", PATH, "", Body::empty()).await;
    assert_eq!((deleted.status, &deleted.json()["status"]), (200, &json!("Success")));
    let again = plane.send("DELETE", PATH, "", Body::empty()).await;
    assert_eq!(
        (again.status, &again.json()["message"]),
        (404, &json!("services \"user-service\" not found"))
    );
}

#[tokio::test]
async fn a_delete_of_another_version_than_the_stored_one_is_409() {
    let plane = Plane::new();
    plane.apply("", SERVICE).await;
    let delete = |body: Value| plane.send("DELETE", PATH, "application/json", body.to_string());
    for preconditions in [json!({"resourceVersion": "9"}), json!({"uid": "somebody-else"})] {
        let stale = delete(json!({"preconditions": preconditions})).await;
        assert_eq!(
            (stale.status, &stale.json()["reason"]),
            (409, &json!("Conflict")),
            "{}",
            stale.text
        );
    }
    assert_eq!(delete(json!({"precondition": {}})).await.status, 400);
    assert_eq!(plane.send("DELETE", PATH, "text/html", "<p>").await.status, 415);
    let dry = delete(json!({"dryRun": ["All"]})).await;
    assert_eq!((dry.status, plane.get(PATH).await.status), (200, 200));
    let current = delete(json!({"preconditions": {"resourceVersion": "1"}})).await;
    assert_eq!(
        (current.status, plane.get(PATH).await.status),
        (200, 404),
        "{}",
        current.text
    );
}

#[tokio::test]
async fn files_that_were_made_from_another_version_do_not_delete() {
    let plane = Plane::new();
    plane.apply("", SERVICE).await;
    let versioned =
        |version: &str| SERVICE.replace("metadata:\n", &format!("metadata:\n  resourceVersion: {version}\n"));
    let path = "?operation=delete";
    assert_eq!(plane.apply(path, &versioned("'9'")).await.status, 409);
    // What is not text would be taken for nothing.
    assert_eq!(plane.apply(path, &versioned("1")).await.status, 422);
    assert_eq!(plane.apply("", &versioned("9")).await.status, 422);
    assert_eq!(plane.get(PATH).await.status, 200);
    assert_eq!(plane.apply(path, &versioned("'1'")).await.status, 200);
    let again = plane.apply(path, &versioned("'1'")).await;
    assert_eq!(again.json()["changes"][0]["operation"], "notFound", "{}", again.text);
}

#[tokio::test]
async fn names_that_nothing_can_have_are_400_and_encoded_ones_are_understood() {
    let plane = Plane::new();
    plane.apply("", SERVICE).await;
    let encoded = PATH.replace("user-service", "user%2Dservice");
    assert_eq!(plane.get(&encoded).await.status, 200);
    for path in [
        "/api/v1/namespaces/default/services/",
        "/api/v1/namespaces/default/services/User_1",
        "/api/v1/namespaces//services/a",
        "/api/v1/namespaces/Shop/services",
        "/api/v1/namespaces/a%2Fb/services",
    ] {
        let answer = plane.get(path).await;
        assert_eq!(
            (answer.status, &answer.json()["kind"]),
            (400, &json!("Status")),
            "{path}: {}",
            answer.text
        );
    }
    assert_eq!(plane.apply("?namespace=Not_One", SERVICE).await.status, 400);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_a_namespace_is_for_documents_without_one() {
    let plane = Plane::new();
    let dry = plane.apply("?dryRun=true", SERVICE).await.json();
    assert_eq!((&dry["dryRun"], &dry["revision"]), (&json!(true), &json!(0)));
    assert_eq!(plane.get(PATH).await.status, 404);
    plane.apply("?namespace=shop", SERVICE).await;
    assert_eq!(
        plane.get("/api/v1/namespaces/shop/services/user-service").await.status,
        200
    );
}

#[tokio::test]
async fn files_keep_their_names_and_can_be_deleted_by_the_same_files() {
    let plane = Plane::new();
    let files = |first: &str| {
        json!({"files": [
            {"name": "a.yaml", "text": first},
            {"name": "b.yaml", "text": SERVICE.replace("name: user-service", "name: b")},
        ]})
        .to_string()
    };
    let broken = files(&SERVICE.replace("port: 80", "port: 80\n    prot: 1"));
    let refused = plane.send("POST", "/v1/transactions", FILES_MEDIA_TYPE, broken).await;
    assert_eq!(
        (refused.status, &refused.json()["details"]["causes"][0]["file"]),
        (422, &json!("a.yaml"))
    );
    let good = plane
        .send("POST", "/v1/transactions", FILES_MEDIA_TYPE, files(SERVICE))
        .await;
    assert_eq!(good.status, 200, "{}", good.text);
    let path = "/v1/transactions?operation=delete";
    let deleted = plane.send("POST", path, FILES_MEDIA_TYPE, files(SERVICE)).await.json();
    assert_eq!(deleted["changes"][1]["operation"], "deleted");
    assert_eq!(plane.get("/api/v1/services").await.json()["items"], json!([]));
}

#[tokio::test]
async fn a_wait_without_a_proxy_answers_at_once_with_nobody() {
    let plane = Plane::new();
    let answer = plane.apply("?wait=10s", SERVICE).await;
    assert_eq!(answer.json()["acknowledgements"], json!([]), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_wait_tells_what_became_of_the_change_at_each_proxy_that_uses_it() {
    let plane = Plane::new();
    let span = Span { after: 0, upto: 1 };
    let connect = |node_id: &str, answered: u64, refused: Vec<Refused>| {
        let identity = Identity {
            namespace: "default".to_owned(),
            node_id: node_id.to_owned(),
        };
        let reporter = plane.api.status.connect(identity, Progress::default());
        let progress = Progress {
            seen: 1,
            answered,
            acknowledged: answered,
            subscriptions: 1,
            hosts: Arc::default(),
            refused,
            leaving: false,
        };
        reporter.report(progress, Some(span));
        reporter
    };
    let refusal = Refused {
        resource: "host/user-service".to_owned(),
        version: "1".to_owned(),
        reason: "too new for me".to_owned(),
        span,
    };
    let _proxies = [
        connect("a", 1, Vec::new()),
        connect("b", 1, vec![refusal]),
        connect("c", 0, Vec::new()),
    ];
    let answer = plane.apply("?wait=2s", SERVICE).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let told = answer.json()["acknowledgements"].clone();
    let states: Vec<&str> = (0..3).filter_map(|index| told[index]["state"].as_str()).collect();
    assert_eq!(states, ["acknowledged", "refused", "unanswered"], "{told}");
    assert_eq!(told[1]["reason"], "host/user-service: too new for me");
    let proxies = plane.get("/v1/proxies").await.json();
    assert_eq!(
        proxies["proxies"][1]["lastRefusal"],
        "host/user-service: too new for me"
    );
    assert_eq!(proxies["proxies"][2]["nodeId"], "c");
}

#[tokio::test]
async fn what_is_not_understood_is_refused_by_name() {
    let plane = Plane::new();
    for (query, word) in [
        ("?dryrun=true", "dryrun"),
        ("?dryRun=maybe", "maybe"),
        ("?wait=soon", "soon"),
        ("?wait=0s", "0s"),
        ("?wait=2h", "2h"),
        ("?operation=merge", "merge"),
        ("?dryRun=true&wait=1s", "wait"),
        ("?wait=1s&wait=2s", "twice"),
    ] {
        let answer = plane.apply(query, SERVICE).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text.contains(word), "{query}: {}", answer.text);
    }
    let watch = plane.get("/api/v1/services?watch=true").await;
    assert_eq!(watch.status, 400);
    assert!(plane.api.ingest.held().documents.is_empty());
}

#[tokio::test]
async fn wrong_methods_paths_types_and_sizes_are_status_objects() {
    let plane = Plane::new();
    for (method, path, media_type, status) in [
        ("GET", "/v1/transactions", "", 405),
        ("PATCH", PATH, "application/json", 405),
        ("POST", "/api/v1/namespaces/default/services", "application/yaml", 405),
        ("POST", "/metrics", "", 405),
        ("GET", "/v1/nothing", "", 404),
        ("GET", "/apis/networking.istio.io/v9/virtualservices", "", 404),
        ("POST", "/v1/transactions", "application/x-www-form-urlencoded", 415),
        ("POST", "/v1/transactions", "text/html; charset=utf-8", 415),
    ] {
        let answer = plane.send(method, path, media_type, SERVICE).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.json()["kind"], "Status", "{method} {path}: {}", answer.text);
        assert_eq!(answer.json()["code"], status, "{method} {path}");
        assert_eq!(
            answer.headers.contains_key(header::ALLOW),
            status == 405,
            "{method} {path}"
        );
    }
    let large = "#".repeat(BODY_LIMIT_BYTES + 1);
    assert_eq!(plane.apply("", &large).await.status, 413);
    let invalid = plane.send("POST", "/v1/transactions", "", vec![0xff, 0xfe]).await;
    assert_eq!(invalid.status, 400);
    let no_json = plane
        .send("POST", "/v1/transactions", "application/json", SERVICE)
        .await;
    assert_eq!(no_json.status, 400, "{}", no_json.text);
}

#[tokio::test]
async fn yaml_is_answered_to_whom_accepts_yaml() {
    let plane = Plane::new();
    plane.apply("", SERVICE).await;
    let request = Request::get(PATH).header(header::ACCEPT, "application/yaml");
    let answer = plane.ask(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/yaml");
    let read: Value = serde_saphyr::from_str(&answer.text).unwrap_or_default();
    assert_eq!(read["metadata"]["name"], "user-service", "{}", answer.text);
}

#[tokio::test]
async fn readiness_ends_with_the_shutdown_and_liveness_does_not() {
    let plane = Plane::new();
    assert_eq!(plane.get("/readyz").await.status, 200);
    plane.api.stopping.store(true, Ordering::Relaxed);
    assert_eq!(plane.get("/readyz").await.status, 503);
    assert_eq!(plane.get("/healthz").await.status, 200);
    assert_eq!(plane.get("/metrics").await.status, 200);
    assert_eq!(
        plane.get("/v1/proxies").await.json(),
        json!({"revision": 0, "proxies": []})
    );
}
