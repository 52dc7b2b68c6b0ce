//! Where things are in a cluster: Nodes say it by their labels, of Pods and of sidecars that no Service leads to; and a
//! Service that prefers near endpoints gets its requests there.

use serde_json::{Value, json};
use tsunagi_tests::{KubeApi, LIMIT, Sidecar, SidecarOptions, Upstream, eventually};

use super::objects::{NAMESPACE, running, service};
use super::{HOST, replica};

fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "topology.kubernetes.io/region": "eu", "topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name,
        }},
        "spec": {"podCIDR": "10.0.0.0/24"}, "status": {"conditions": []},
    })
}

/// A Pod and its slice, on that machine.
fn on(machine: &str, pod: &str, upstream: &Upstream) -> Vec<Value> {
    let mut objects = running("user", pod, "v1", upstream.address);
    objects[0]["spec"]["nodeName"] = machine.into();
    objects[1]["endpoints"][0]["nodeName"] = machine.into();
    objects
}

fn preferring(distribution: &str) -> Value {
    let mut service = service("user");
    service["spec"]["trafficDistribution"] = distribution.into();
    service
}

async fn all_answered_by(sidecar: &Sidecar, name: &str) {
    eventually(&format!("all answers by {name}"), LIMIT, async || {
        for _ in 0..20 {
            let reply = sidecar.get(HOST, "/").await;
            if reply.status != 200 || reply.text() != name {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_prefers_near_endpoints_gets_its_requests_there_while_they_are_ready() {
    let api = KubeApi::start().await;
    let (one, two, three) = (
        Upstream::start("one").await,
        Upstream::start("two").await,
        Upstream::start("three").await,
    );
    for (name, zone) in [("m1", "a"), ("m2", "a"), ("m3", "b"), ("m4", "b")] {
        api.put(node(name, zone));
    }
    api.put(preferring("PreferClose"));
    for (machine, pod, upstream) in [("m2", "user-1", &one), ("m3", "user-2", &two), ("m4", "user-3", &three)] {
        api.put_all(on(machine, pod, upstream));
    }
    let control = replica(&api, "a").await;
    // No Service leads to it: what it is told of where it is comes from its Node alone.
    let options = SidecarOptions {
        node_id: "caller".to_owned(),
        namespace: NAMESPACE.to_owned(),
        args: vec!["--node-name".to_owned(), "m1".to_owned()],
        ..SidecarOptions::default()
    };
    let caller = Sidecar::start_with(control.grpc, &options).ready().await;
    all_answered_by(&caller, "one").await;

    // Its zone has nobody who is ready: the other one serves.
    let mut not_ready = on("m2", "user-1", &one);
    not_ready[1]["endpoints"][0]["conditions"] = json!({"ready": false, "serving": false, "terminating": false});
    api.put_all(not_ready);
    eventually("another zone serves", LIMIT, async || {
        (caller.get(HOST, "/").await.text() != "one").then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_ne!(caller.get(HOST, "/").await.text(), "one");
    }
    api.put_all(on("m2", "user-1", &one));
    all_answered_by(&caller, "one").await;

    // The machine is said to be elsewhere.
    api.put(node("m2", "c"));
    api.put(node("m3", "a"));
    all_answered_by(&caller, "two").await;

    // The same machine is nearer than the same zone.
    api.put_all(on("m1", "user-3", &three));
    api.put(preferring("PreferSameNode"));
    all_answered_by(&caller, "three").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_may_not_watch_nodes_serves_and_says_that_it_may_not() {
    let api = KubeApi::start().await;
    api.forbid("nodes", true);
    let one = Upstream::start("one").await;
    api.put(preferring("PreferClose"));
    api.put_all(on("m2", "user-1", &one));
    let control = replica(&api, "a").await;
    let caller = super::sidecar(control.grpc, "caller").await;
    all_answered_by(&caller, "one").await;
}
