//! A sidecar in a Pod: it is told which of its ports the EndpointSlices lead to, and its callers know before it goes. The
//! sidecar is driven by hand, with the Pod's name as its id; the caller is a real one.

use serde_json::json;
use tsunagi_proto::wire::mesh::{self, resource::Kind};
use tsunagi_tests::{AdsClient, Behaviour, Connection, KubeApi, LIMIT, Upstream, Version, eventually};

use super::objects::{NAMESPACE, endpoint, pod, running, service, slice};
use super::{HOST, answered_by, replica, sidecar};

const WORKLOAD: &str = "workload/shop/user-1";
const DEPARTURE: &str = "departure/shop/user-1";
const ENDPOINTS: &str = "endpoints/user.shop.svc.cluster.local";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_sidecar_leaves_is_draining_for_its_callers_before_it_gets_its_departure() {
    let api = KubeApi::start().await;
    let (one, two) = (Upstream::start("one").await, Upstream::start("two").await);
    api.put(service("user"));
    api.put_all(running("user", "user-1", "v1", one.address));
    api.put_all(running("user", "user-2", "v1", two.address));
    let control = replica(&api, "a").await;
    let caller = sidecar(control.grpc, "caller").await;
    answered_by(&caller, "one").await;
    answered_by(&caller, "two").await;
    let leaver = async |subscribe: &[&str]| {
        let mut leaver = AdsClient::connect_in(control.grpc, (NAMESPACE, "user-1"), "", subscribe).await;
        leaver.next().await;
        leaver
    };
    let mut leaving = leaver(&[WORKLOAD]).await;
    one.set(Behaviour::Hold);
    let outbound = caller.outbound;
    let mut asked = Vec::new();
    eventually("a request is held in the pod", LIMIT, async || {
        if one.live_requests() > 0 {
            return Some(());
        }
        asked.push(tokio::spawn(async move {
            Connection::open(outbound, Version::Http1)
                .await
                .get(HOST, "/held")
                .await
        }));
        None
    })
    .await;

    leaving.subscribe(DEPARTURE).await;
    let departure = leaving.departure("user-1").await;
    assert_eq!(
        (departure.namespace.as_str(), departure.unanswered),
        (NAMESPACE, Vec::new())
    );
    // The API says nothing of it: the Pod is still ready there.
    for _ in 0..100 {
        assert_eq!(caller.get(HOST, "/after").await.text(), "two");
    }
    let mut watching = AdsClient::connect_in(
        control.grpc,
        (NAMESPACE, "other"),
        "",
        &["host/user.shop.svc.cluster.local"],
    )
    .await;
    let Kind::Endpoints(told) = watching.resource(ENDPOINTS).await else {
        panic!("no endpoints")
    };
    let health = |pod: &str| {
        let id = format!("Pod/{NAMESPACE}/{pod}/");
        let found = told.upserts.iter().find(|endpoint| endpoint.id.starts_with(&id));
        found.map(mesh::Endpoint::health)
    };
    assert_eq!(
        (health("user-1"), health("user-2")),
        (Some(mesh::Health::Draining), Some(mesh::Health::Healthy))
    );
    drop(watching);
    one.set(Behaviour::Answer);
    for one in asked {
        assert_eq!(one.await.expect("the client lives").status, 200);
    }
    assert!(one.seen().iter().all(|seen| seen.uri != "/after"));

    // What the cluster says meanwhile does not bring it back; its sidecar does.
    api.put(pod("user-2", "v2"));
    drop(leaving);
    for _ in 0..100 {
        assert_eq!(caller.get(HOST, "/after").await.text(), "two");
    }
    let _back = leaver(&[WORKLOAD]).await;
    answered_by(&caller, "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_told_the_numbers_of_named_target_ports_and_what_its_sidecar_object_says() {
    let api = KubeApi::start().await;
    let mut named = service("user");
    named["spec"]["ports"][0]["targetPort"] = json!("web");
    api.put(named);
    let control = replica(&api, "a").await;
    let by_name = ((NAMESPACE, "user-1"), "");
    let by_address = ((NAMESPACE, "another"), "10.1.2.3,fd00::3");
    for (place, instance_ips) in [by_name, by_address] {
        let name = format!("workload/{NAMESPACE}/{}", place.1);
        let mut client = AdsClient::connect_in(control.grpc, place, instance_ips, &[&name]).await;
        assert_eq!(ports(&mut client, &name).await, []);
        let pods = [endpoint("user-0", "10.1.2.2"), endpoint("user-1", "10.1.2.3")];
        api.put(slice("user", "user-a", 9137, &pods));
        // That of Pods whose port of this name is another is nothing to it.
        api.put(slice("user", "user-b", 9138, &[endpoint("user-2", "10.1.2.4")]));
        let told = eventually_ports(&mut client, &name).await;
        assert_eq!(told, [(9137, 80, "user.shop.svc.cluster.local".to_owned())], "{name}");
        for slice in ["user-a", "user-b"] {
            api.delete("endpointslices", NAMESPACE, slice);
        }
        while !ports(&mut client, &name).await.is_empty() {}
    }
    let mut client = AdsClient::connect_in(control.grpc, by_name.0, "", &[WORKLOAD]).await;
    workload(&mut client, WORKLOAD).await;
    api.put(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": {"name": "default", "namespace": NAMESPACE},
        "spec": {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}},
    }));
    let told = workload(&mut client, WORKLOAD).await;
    assert_eq!(
        told.outbound_traffic_policy(),
        mesh::OutboundTrafficPolicy::RegistryOnly
    );
}

async fn workload(client: &mut AdsClient, name: &str) -> mesh::Workload {
    let told = match client.resource(name).await {
        Kind::Workload(workload) => Some(workload),
        _ => None,
    };
    told.expect("a workload")
}

async fn ports(client: &mut AdsClient, name: &str) -> Vec<(u32, u32, String)> {
    let workload = workload(client, name).await;
    let ports = workload.inbound_ports.into_iter();
    ports.map(|port| (port.port, port.service_port, port.service)).collect()
}

/// The next that are any.
async fn eventually_ports(client: &mut AdsClient, name: &str) -> Vec<(u32, u32, String)> {
    loop {
        let told = ports(client, name).await;
        if !told.is_empty() {
            return told;
        }
    }
}
