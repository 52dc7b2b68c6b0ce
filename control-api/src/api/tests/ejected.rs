//! Tests of how endpoints are shown that proxies have ejected: the same in `GET /v1/endpoints` and in an explanation.

use super::*;
use crate::status::{HealthReport, SeenEndpoint, SeenState};

/// The first is listed twice at port 80, and has another port of its own at 81.
const ENTRY: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: user}
spec:
  hosts: [user.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 81, name: more, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, ports: {http: 8080, more: 8081}, labels: {version: v1}}
  - {address: 10.0.0.2, ports: {http: 8080, more: 8080}, labels: {version: v1}}
  - {address: 10.0.0.1, ports: {http: 8080, more: 8083}, labels: {version: v1}, weight: 5}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: user}
spec:
  host: user.example.com
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user}
spec:
  hosts: [user.example.com]
  http:
  - match: [{uri: {prefix: /v1}}]
    route: [{destination: {host: user.example.com, subset: v1}}]
";

fn identity(node_id: &str) -> Identity {
    Identity {
        namespace: "shop".to_owned(),
        node_id: node_id.to_owned(),
    }
}

fn seen(subset: &str, state: SeenState) -> SeenEndpoint {
    SeenEndpoint {
        host: "user.example.com".to_owned(),
        port: 80,
        subset: subset.to_owned(),
        hostname: String::new(),
        address: ([10, 0, 0, 1], 8080).into(),
        state,
        cause: "consecutive_5xx",
        left: None,
        ejections: 1,
        in_panic: false,
    }
}

impl Plane {
    async fn endpoints_of(&self, url: &str) -> Vec<Value> {
        let question = json!({ "url": url }).to_string();
        let answer = self.send("POST", "/v1/explain", "application/json", question).await;
        let answer = answer.json();
        answer["destinations"][0]["endpoints"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    }
}

#[tokio::test]
async fn an_explanation_says_which_proxies_have_ejected_an_endpoint_of_the_subset() {
    let plane = Plane::new();
    let applied = plane.apply("", ENTRY).await;
    assert_eq!(applied.status, 200, "{}", applied.text);
    let _proxies = ["web-1", "web-2"].map(|name| plane.api.status.connect(identity(name), Progress::default()));
    let hear = |name: &str, seen| {
        let report = HealthReport::new(vec![seen], Vec::new(), 0);
        assert!(plane.api.status.report_health(&identity(name), report));
    };
    hear("web-1", seen("v1", SeenState::Ejected));
    hear("web-2", seen("v1", SeenState::Probing));
    let states = |endpoints: &[Value]| -> Vec<String> {
        let state = |one: &Value| format!("{} {}", one["address"], one["state"]).replace('"', "");
        endpoints.iter().map(state).collect()
    };
    let of_v1 = plane.endpoints_of("http://user.example.com/v1").await;
    assert_eq!(states(&of_v1), ["10.0.0.1:8080 EJECTED", "10.0.0.2:8080 HEALTHY"]);
    let expected = json!([
        {"namespace": "shop", "nodeId": "web-1", "state": "ejected", "reason": "consecutive_5xx"},
        {"namespace": "shop", "nodeId": "web-2", "state": "probing", "reason": "consecutive_5xx"},
    ]);
    assert_eq!((&of_v1[0]["seenBy"], &of_v1[1]["seenBy"]), (&expected, &Value::Null));
    // Each subset has a state of its own.
    let of_all = plane.endpoints_of("http://user.example.com/").await;
    assert!(
        states(&of_all).iter().all(|state| state.ends_with(" HEALTHY")),
        "{of_all:?}"
    );
}

#[tokio::test]
async fn an_endpoint_that_is_listed_twice_at_a_port_is_shown_there_once() {
    let plane = Plane::new();
    assert_eq!(plane.apply("", ENTRY).await.status, 200);
    let shown = plane.get("/v1/endpoints?host=user").await.json();
    let line = |one: &Value| format!("{} {} {}", one["port"], one["address"], one["weight"]).replace('"', "");
    let shown: Vec<String> = shown["endpoints"].as_array().into_iter().flatten().map(line).collect();
    assert_eq!(
        shown,
        [
            "80 10.0.0.1:8080 1",
            "80 10.0.0.2:8080 1",
            "81 10.0.0.1:8081 1",
            "81 10.0.0.1:8083 5",
            "81 10.0.0.2:8080 1",
        ]
    );
}
