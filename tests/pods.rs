//! Pods as users have them: an application and its sidecar in one network namespace, the packet filter between them, real
//! clients and servers (curl, grpcio, PostgreSQL). Two pods are in the mesh, a third is not; each calls each.

#[path = "pods/applications.rs"]
mod applications;
#[path = "pods/neighbourhood.rs"]
mod neighbourhood;

use neighbourhood::{Neighbourhood, VIRTUAL_PORT};
use tsunagi_tests::{LIMIT, eventually, require_root};

fn possible() -> bool {
    require_root() && applications::are_installed()
}

/// Callers and called, the one without a sidecar included.
const PAIRS: [(&str, &str); 6] = [
    ("front", "users"),
    ("users", "front"),
    ("front", "plain"),
    ("users", "plain"),
    ("plain", "front"),
    ("plain", "users"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_pods_talks_http_grpc_and_postgresql_and_the_applications_see_no_change() {
    if !possible() {
        return;
    }
    let neighbourhood = Neighbourhood::start().await;
    for (caller, called) in PAIRS {
        let head = neighbourhood.curl(caller, &[&format!("http://{called}/head?x=1")]);
        assert!(head.contains("GET /head?x=1"), "{caller} -> {called}: {head}");
        // The application is asked by the name and with the words that its caller used.
        assert!(
            head.contains(&format!("host: {called}")),
            "{caller} -> {called}: {head}"
        );
        assert!(head.contains("user-agent: curl/"), "{caller} -> {called}: {head}");

        let said = neighbourhood.grpc(caller, called, 3);
        assert_eq!(
            said,
            [0, 1, 2].map(|n| format!("{called}: {n}\n")).concat(),
            "{caller} -> {called}"
        );

        let stored = neighbourhood.psql(caller, called, "select current_setting('application_name'), 6 * 7");
        assert_eq!(stored, "psql|42\n", "{caller} -> {called}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_and_what_arrives_is_counted_by_service_at_both_sidecars() {
    if !possible() {
        return;
    }
    let neighbourhood = Neighbourhood::start().await;
    for _ in 0..5 {
        neighbourhood.curl("users", &["http://front/"]);
    }
    neighbourhood.curl("plain", &["http://front/"]);
    neighbourhood.psql("users", "front", "select 1");
    let requests = |direction| {
        [
            ("direction", direction),
            ("destination_service", "front.default.svc.cluster.local"),
            ("status_code", "200"),
        ]
    };
    let outbound = neighbourhood.sidecar("users").metrics().await;
    assert_eq!(outbound.sum("http_requests_total", &requests("outbound")), 5.0);
    let inbound = neighbourhood.sidecar("front").metrics().await;
    assert_eq!(inbound.sum("http_requests_total", &requests("inbound")), 6.0);
    // A connection is counted when it has ended, which the sidecars hear of a moment after their client.
    for (pod, direction) in [("users", "outbound"), ("front", "inbound")] {
        let labels = [
            ("direction", direction),
            ("destination_service", "front.default.svc.cluster.local"),
        ];
        eventually("the connection is counted", LIMIT, async || {
            let metrics = neighbourhood.sidecar(pod).metrics().await;
            (metrics.sum("tsunagi_tcp_connections_total", &labels) == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_by_name_and_by_service_address_is_routed_by_the_rules() {
    if !possible() {
        return;
    }
    let neighbourhood = Neighbourhood::start().await;
    let address = format!(
        "http://{}:{VIRTUAL_PORT}/",
        neighbourhood.virtual_address("user-service")
    );
    for url in [
        "http://user-service/",
        "http://user-service.default.svc.cluster.local/",
        &address,
    ] {
        let answers = neighbourhood.curl_many("front", url, 40, &[]);
        let seconds = answers.iter().filter(|answer| *answer == "v2").count();
        // 10 of 100: none in 40 is 1.5 %, more than 20 less than one in a billion.
        assert!(seconds <= 20, "{url}: {seconds} of 40 to v2");
        assert!(
            answers.iter().all(|answer| answer == "users" || answer == "v2"),
            "{url}: {answers:?}"
        );
        let chosen = neighbourhood.curl_many("front", url, 20, &["-H", "version: v2"]);
        assert_eq!(chosen, vec!["v2"; 20], "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_calls_its_own_service_reaches_itself_without_a_loop() {
    if !possible() {
        return;
    }
    let neighbourhood = Neighbourhood::start().await;
    let own = neighbourhood.pod("front").address();
    for url in [
        "http://front/",
        "http://127.0.0.1:8080/",
        &format!("http://{own}:8080/"),
    ] {
        assert_eq!(neighbourhood.curl("front", &[url]), "front", "{url}");
    }
    // By name it went through both halves of the one sidecar, once each.
    let metrics = neighbourhood.sidecar("front").metrics().await;
    for direction in ["outbound", "inbound"] {
        let labels = [
            ("direction", direction),
            ("destination_service", "front.default.svc.cluster.local"),
        ];
        assert_eq!(metrics.sum("http_requests_total", &labels), 1.0, "{direction}");
    }
    assert_eq!(neighbourhood.psql("front", "front", "select 1"), "1\n");
    assert_eq!(neighbourhood.grpc("front", "front", 1), "front: 0\n");
}
