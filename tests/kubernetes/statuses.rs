//! What is written into the statuses of rules: the verdict, the acknowledgements of all replicas' proxies, and no more
//! often than it must be.

use std::time::{Duration, Instant};

use serde_json::json;
use tsunagi_tests::{KubeApi, LIMIT, Metrics, Upstream, eventually};

use crate::objects::{Door, NAMESPACE, pod, route_to, running, service, subsets};
use crate::{HOST, LONG, answered_by, replica, says, sidecar};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_rule_is_refused_alone_and_its_last_good_version_stays() {
    let api = KubeApi::start().await;
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    api.put_all(vec![service("user"), subsets(&["v1", "v2"]), route_to("v1")]);
    api.put_all(running("user", "user-1", "v1", one.address));
    api.put_all(running("user", "user-2", "v2", two.address));
    let control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    answered_by(&sidecar, "one").await;
    says(&api, "virtualservices", "user", "Accepted", ("True", "")).await;

    let mut bad = route_to("v2");
    bad["spec"]["http"][0]["timeOut"] = json!("1s");
    let mut another = route_to("v1");
    another["metadata"]["name"] = json!("another");
    another["spec"]["hosts"] = json!(["another"]);
    api.put_all(vec![bad, another]);
    let reason = "spec.http[0].timeOut: unknown field, did you mean `timeout`? (generation 1 stays in force)";
    says(&api, "virtualservices", "user", "Accepted", ("False", reason)).await;
    says(&api, "virtualservices", "another", "Accepted", ("True", "")).await;
    says(
        &api,
        "virtualservices",
        "user",
        "Acknowledged",
        ("True", "1 of 1 proxies acknowledged generation 1"),
    )
    .await;
    let status = api.get("virtualservices", NAMESPACE, "user").unwrap()["status"].clone();
    assert_eq!(status["observedGeneration"], 2);
    answered_by(&sidecar, "one").await;

    api.put(route_to("v2"));
    says(&api, "virtualservices", "user", "Accepted", ("True", "")).await;
    answered_by(&sidecar, "two").await;
    says(
        &api,
        "virtualservices",
        "user",
        "Acknowledged",
        ("True", "1 of 1 proxies acknowledged generation 3"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_dies_and_its_proxies_go_on_at_the_other() {
    let api = KubeApi::start().await;
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    api.put_all(vec![service("user"), subsets(&["v1", "v2"]), route_to("v1")]);
    api.put_all(running("user", "user-1", "v1", one.address));
    api.put_all(running("user", "user-2", "v2", two.address));
    for name in ["replica-a", "replica-b"] {
        let mut own = pod(name, "v1");
        own["metadata"]["namespace"] = json!("tsunagi-system");
        api.put(own);
    }
    let (mut first, second) = (replica(&api, "replica-a").await, replica(&api, "replica-b").await);
    let door = Door::open(first.grpc).await;
    let moving = sidecar(door.address, "moving").await;
    let staying = sidecar(second.grpc, "staying").await;
    answered_by(&moving, "one").await;
    answered_by(&staying, "one").await;
    for (plural, name) in [("virtualservices", "user"), ("destinationrules", "user")] {
        says(
            &api,
            plural,
            name,
            "Acknowledged",
            ("True", "2 of 2 proxies acknowledged generation 1"),
        )
        .await;
    }
    let resources = async || {
        let metrics = Metrics::parse(&second.get("/metrics").await.text());
        metrics.sum("tsunagi_push_resources_total", &[])
    };
    let before = resources().await;

    first.kill();
    api.delete("pods", "tsunagi-system", "replica-a");
    door.lead_to(second.grpc);
    eventually("both proxies are at the other replica", LIMIT, async || {
        let metrics = Metrics::parse(&second.get("/metrics").await.text());
        (metrics.sum("tsunagi_connected_proxies", &[]) == 2.0).then_some(())
    })
    .await;
    assert_eq!(moving.get(HOST, "/").await.text(), "one");
    assert_eq!(
        resources().await,
        before,
        "what the proxy has already is sent to it again"
    );
    api.put(route_to("v2"));
    answered_by(&moving, "two").await;
    answered_by(&staying, "two").await;
    says(
        &api,
        "virtualservices",
        "user",
        "Acknowledged",
        ("True", "2 of 2 proxies acknowledged generation 2"),
    )
    .await;
    eventually("the dead replica's entry is gone", LONG, async || {
        let status = api.get("virtualservices", NAMESPACE, "user")?["status"].clone();
        let replicas = status["replicas"].as_object()?;
        (replicas.len() == 1 && replicas["replica-b"]["proxies"] == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statuses_are_written_when_they_change_and_at_most_once_a_second() {
    let api = KubeApi::start().await;
    let one = Upstream::start("one").await;
    api.put_all(vec![service("user"), subsets(&["v1"]), route_to("v1")]);
    api.put_all(running("user", "user-1", "v1", one.address));
    let control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    answered_by(&sidecar, "one").await;
    let (begun, mut generation) = (Instant::now(), 1);
    while begun.elapsed() < Duration::from_secs(4) {
        generation += 1;
        let mut rule = route_to("v1");
        rule["spec"]["http"][0]["timeout"] = json!(format!("{generation}s"));
        api.put(rule);
        answered_by(&sidecar, "one").await;
    }
    let told = format!("1 of 1 proxies acknowledged generation {generation}");
    says(&api, "virtualservices", "user", "Acknowledged", ("True", &told)).await;
    let written: Vec<_> = api.patched();
    for patched in &written {
        assert_eq!(patched.content_type, "application/apply-patch+yaml");
        assert_eq!(patched.manager, "tsunagi-a");
    }
    let of_rule: Vec<Instant> = written
        .iter()
        .filter(|patched| patched.plural == "virtualservices")
        .map(|patched| patched.at)
        .collect();
    println!("{generation} changes were told by {} writes", of_rule.len());
    for pair in of_rule.windows(2) {
        let between = pair[1] - pair[0];
        assert!(between > Duration::from_millis(900), "two writes within {between:?}");
    }
    // Changes elsewhere, each of which every replica sees, are no reason to write.
    let before = api.patched().len();
    for round in 0..20 {
        let name = format!("aside-{round}");
        api.put(service(&name));
        eventually("the service is there", LIMIT, async || {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{name}");
            (control.get(&path).await.status == 200).then_some(())
        })
        .await;
    }
    // Two more rounds of the writer.
    let begun = Instant::now();
    let rounds = async || (begun.elapsed() > Duration::from_millis(2_500)).then_some(());
    eventually("two rounds are over", LIMIT, rounds).await;
    assert_eq!(api.patched().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_said_once_and_keeps_nothing_else_from_working() {
    let api = KubeApi::start().await;
    let one = Upstream::start("one").await;
    api.forbid("virtualservices/status", true);
    api.put_all(vec![service("user"), subsets(&["v1"]), route_to("v1")]);
    api.put_all(running("user", "user-1", "v1", one.address));
    let control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    answered_by(&sidecar, "one").await;
    eventually("a status was refused", LIMIT, async || {
        (api.refusals() > 0).then_some(())
    })
    .await;
    for round in 1..=5 {
        let mut rule = route_to("v1");
        rule["spec"]["http"][0]["timeout"] = json!(format!("{round}s"));
        api.put(rule);
        answered_by(&sidecar, "one").await;
    }
    let log = control.process.log();
    let told = log
        .matches("is not written: virtualservices/status is forbidden")
        .count();
    assert_eq!((told, log.matches("forbidden").count()), (1, 1), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_rule_counts_those_whom_a_later_rule_leads_to_its_host() {
    let api = KubeApi::start().await;
    let one = Upstream::start("one").await;
    api.put_all(vec![service("user"), service("front"), subsets(&["v1"])]);
    api.put_all(running("user", "user-1", "v1", one.address));
    let control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    says(&api, "destinationrules", "user", "Accepted", ("True", "")).await;
    let mut rule = route_to("v1");
    rule["metadata"]["name"] = json!("front");
    rule["spec"]["hosts"] = json!(["front"]);
    api.put(rule);
    eventually("the rule is in force", LIMIT, async || {
        (sidecar.get("front.shop", "/").await.status == 200).then_some(())
    })
    .await;
    let told = ("True", "1 of 1 proxies acknowledged generation 1");
    says(&api, "destinationrules", "user", "Acknowledged", told).await;
}
