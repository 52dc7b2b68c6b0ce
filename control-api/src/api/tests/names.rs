//! Tests of how endpoints are shown that are told by name: by what the proxies say that resolve them.

use std::net::SocketAddr;

use super::*;
use crate::status::{HealthReport, Reporter, SeenEndpoint, SeenName, SeenState};

const HOST: &str = "lb.example.com";

fn entry(resolution: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: lb}}
spec:
  hosts: [{HOST}]
  resolution: {resolution}
  ports: [{{number: 80, name: http, targetPort: 8080}}]
"
    )
}

fn identity() -> Identity {
    Identity {
        namespace: "default".to_owned(),
        node_id: "web".to_owned(),
    }
}

fn resolved(last: &[u8], failure: &str, in_turns: bool) -> SeenName {
    SeenName {
        host: HOST.to_owned(),
        name: HOST.to_owned(),
        addresses: last.iter().map(|last| [10, 0, 0, *last].into()).collect(),
        failure: failure.to_owned(),
        in_turns,
    }
}

fn ejected(hostname: &str, address: &str) -> SeenEndpoint {
    SeenEndpoint {
        host: HOST.to_owned(),
        port: 80,
        subset: String::new(),
        hostname: hostname.to_owned(),
        address: address.parse::<SocketAddr>().expect("an address"),
        state: SeenState::Ejected,
        cause: "failed_probe",
        left: None,
        ejections: 1,
        in_panic: false,
    }
}

/// A control plane with the entry and a proxy.
async fn plane(resolution: &str) -> (Plane, Reporter) {
    let plane = Plane::new();
    let applied = plane.apply("", &entry(resolution)).await;
    assert_eq!(applied.status, 200, "{}", applied.text);
    let proxy = plane.api.status.connect(identity(), Progress::default());
    (plane, proxy)
}

impl Plane {
    fn hear(&self, endpoints: Vec<SeenEndpoint>, name: SeenName) {
        let report = HealthReport::new(endpoints, vec![name], 0);
        assert!(self.api.status.report_health(&identity(), report));
    }

    /// `addresses state reason` of each.
    async fn shown(&self) -> Vec<String> {
        let reply = self.get("/v1/endpoints?host=LB.example.com:80").await.json();
        let line = |one: &Value| {
            assert_eq!(
                (&one["address"], &one["weight"]),
                (&json!("lb.example.com:8080"), &json!(1))
            );
            let addresses: Vec<&str> = one["resolved"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let text = |field: &str| one[field].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", addresses.join(","), text("state"), text("reason"))
        };
        reply["endpoints"].as_array().into_iter().flatten().map(line).collect()
    }

    /// The state of the endpoint that a request to the host goes to, and the notes.
    async fn explained(&self) -> (String, String) {
        let question = json!({"url": "http://lb.example.com/"}).to_string();
        let answer = self
            .send("POST", "/v1/explain", "application/json", question)
            .await
            .json();
        let endpoint = &answer["destinations"][0]["endpoints"][0];
        (
            endpoint["state"].as_str().unwrap_or_default().to_owned(),
            answer["notes"].to_string(),
        )
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_used_is_unknown_and_one_without_addresses_is_unresolved() {
    let (plane, _proxy) = plane("DNS").await;
    let nobody = " unknown resolved by the sidecars: none has used it yet";
    assert_eq!(plane.shown().await, [nobody]);
    assert_eq!(plane.explained().await.0, "UNKNOWN");
    plane.hear(Vec::new(), resolved(&[], "DNS answers Non-Existent Domain", false));
    assert_eq!(plane.shown().await, [" unresolved DNS answers Non-Existent Domain"]);
    let (state, notes) = plane.explained().await;
    assert_eq!(state, "UNRESOLVED");
    let note = "lb.example.com is not resolved by default/web: DNS answers Non-Existent Domain";
    assert!(notes.contains(note), "{notes}");
}

#[tokio::test]
async fn each_address_of_a_name_is_shown_under_it_and_what_is_said_of_others_is_not() {
    let (plane, _proxy) = plane("DNS").await;
    let said = vec![
        ejected(HOST, "10.0.0.2:8080"),
        ejected("", "10.0.0.1:8080"),
        ejected("evil.example.com", "10.0.0.1:8080"),
        SeenEndpoint {
            host: "evil.example.com".to_owned(),
            ..ejected(HOST, "10.0.0.1:8080")
        },
    ];
    plane.hear(said, resolved(&[2, 1], "", false));
    assert_eq!(
        plane.shown().await,
        ["10.0.0.1 healthy ", "10.0.0.2 ejected failed_probe"]
    );
    let all = plane.get("/v1/endpoints").await.json();
    assert_eq!(all["endpoints"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(plane.explained().await.0, "HEALTHY");
    let both = vec![ejected(HOST, "10.0.0.1:8080"), ejected(HOST, "10.0.0.2:8080")];
    plane.hear(both, resolved(&[2, 1], "", false));
    assert_eq!(plane.explained().await.0, "EJECTED");
    plane.hear(Vec::new(), resolved(&[1], "no answer", false));
    assert_eq!(
        plane.shown().await,
        ["10.0.0.1 healthy no answer: its last address is used on"]
    );
}

#[tokio::test]
async fn a_name_whose_connections_take_turns_is_one_endpoint() {
    let (plane, _proxy) = plane("DNS_ROUND_ROBIN").await;
    plane.hear(Vec::new(), resolved(&[1, 2], "", true));
    assert_eq!(plane.shown().await, ["10.0.0.1,10.0.0.2 healthy "]);
    plane.hear(vec![ejected(HOST, "0.0.0.0:8080")], resolved(&[1, 2], "", true));
    assert_eq!(plane.shown().await, ["10.0.0.1,10.0.0.2 ejected failed_probe"]);
    assert_eq!(plane.explained().await.0, "EJECTED");
}
