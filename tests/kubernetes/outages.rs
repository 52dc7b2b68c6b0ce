//! What the connection to the API may do: break, fall behind, be away, and not know a kind yet. Nothing is lost by it.

use std::time::{Duration, Instant};

use tsunagi_tests::{ControlPlane, KubeApi, LIMIT, Metrics, Upstream, eventually};

use crate::objects::{NAMESPACE, route_to, running, service, subsets};
use crate::{HOST, LONG, answered_by, ready, replica, sidecar};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_by_disconnects_gone_versions_and_an_outage() {
    let mut api = KubeApi::start().await;
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    let other = Upstream::start("other").await;
    api.put_all(vec![
        service("user"),
        subsets(&["v1", "v2"]),
        route_to("v1"),
        service("other"),
    ]);
    api.put_all(running("user", "user-1", "v1", one.address));
    api.put_all(running("user", "user-2", "v2", two.address));
    api.put_all(running("other", "other-1", "v1", other.address));
    let control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    answered_by(&sidecar, "one").await;
    assert_eq!(sidecar.get("other.shop", "/").await.text(), "other");

    api.disconnect();
    api.put(route_to("v2"));
    answered_by(&sidecar, "two").await;

    // What happens while no watch is fed is known from a new list alone, what went too.
    let lists = api.lists("virtualservices");
    api.hold_watches(true);
    api.put(route_to("v1"));
    api.delete("services", NAMESPACE, "other");
    api.expire();
    api.hold_watches(false);
    answered_by(&sidecar, "one").await;
    eventually("the deleted service is gone", LIMIT, async || {
        (sidecar.get("other.shop", "/").await.status == 404).then_some(())
    })
    .await;
    assert!(api.lists("virtualservices") > lists);

    api.stop().await;
    api.put(route_to("v2"));
    let failing = eventually("the outage is noticed", LIMIT, async || {
        let metrics = Metrics::parse(&control.get("/metrics").await.text());
        let watch = metrics.sum("tsunagi_kubernetes_watch_in_step", &[("resource", "virtualservices")]);
        (watch == 0.0).then_some(())
    });
    failing.await;
    // The world serves on, to those who come now too, and the replica is as ready as before.
    assert_eq!(sidecar.get(HOST, "/").await.text(), "one");
    assert_eq!(control.get("/readyz").await.status, 200);
    let late = crate::sidecar(control.grpc, "late").await;
    answered_by(&late, "one").await;
    api.resume().await;
    eventually("the change of the outage arrives", LONG, async || {
        (sidecar.get(HOST, "/").await.text() == "two").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_that_are_installed_later_are_found() {
    let api = KubeApi::start().await;
    let kinds = [
        "virtualservices",
        "destinationrules",
        "serviceentries",
        "workloadentries",
        "sidecars",
    ];
    kinds.iter().for_each(|plural| api.install(plural, false));
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    api.put(service("user"));
    api.put_all(running("user", "user-1", "v1", one.address));
    let control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    answered_by(&sidecar, "one").await;
    let log = control.process.log();
    assert_eq!(log.matches("virtualservices are not installed").count(), 1, "{log}");
    api.put_all(running("user", "user-2", "v2", two.address));
    api.put_all(vec![subsets(&["v1", "v2"]), route_to("v2")]);
    kinds.iter().for_each(|plural| api.install(plural, true));
    eventually("the rules are in force", LONG, async || {
        for _ in 0..40 {
            if sidecar.get(HOST, "/").await.text() != "two" {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_of_any_host_before_everything_is_listed() {
    let mut api = KubeApi::start().await;
    let one = Upstream::start("one").await;
    api.put(service("user"));
    api.put_all(running("user", "user-1", "v1", one.address));
    let mut control = replica(&api, "a").await;
    let sidecar = sidecar(control.grpc, "caller").await;
    answered_by(&sidecar, "one").await;
    control.kill();
    api.stop().await;
    control.restart();
    let unready = control.get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.text().contains("listed"), "{}", unready.text());
    // A replica that knows nothing must not say that there is nothing.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(sidecar.get(HOST, "/").await.text(), "one");
    }
    api.resume().await;
    ready(&control).await;
    answered_by(&sidecar, "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_may_not_be_listed_is_named_by_readiness_and_once_in_the_log() {
    let api = KubeApi::start().await;
    api.forbid("pods", true);
    let control = ControlPlane::in_cluster(api.kubeconfig(), "a");
    eventually("it was tried several times", LIMIT, async || {
        (api.refusals() > 3).then_some(())
    })
    .await;
    let unready = control.get("/readyz").await;
    assert_eq!(unready.status, 503);
    let text = unready.text();
    assert!(text.contains("not listed yet: pods (pods cannot be watched"), "{text}");
    let log = control.process.log();
    assert_eq!(log.matches("forbidden").count(), 1, "{log}");
    api.forbid("pods", false);
    ready(&control).await;
}
