//! Objects as a cluster holds them: Pods, their Service and its EndpointSlices, and rules over them. And a door that
//! leads to whichever replica is there, as the Service of the control plane does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const NAMESPACE: &str = "shop";

pub fn pod(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "user", "version": version}},
        "spec": {"serviceAccountName": "user", "nodeName": "node-1", "containers": [{"name": "app", "image": "user"}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": name}, "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "type": "ClusterIP",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
            // What people have and a sidecar cannot do must not be in the way.
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "trafficDistribution": "PreferClose", "publishNotReadyAddresses": false,
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080},
                {"name": "gossip", "port": 7946, "protocol": "UDP", "targetPort": 7946},
            ],
        },
    })
}

/// One slice of a Service, all of whose Pods have one port.
pub fn slice(service: &str, name: &str, port: u16, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    })
}

pub fn endpoint(pod: &str, address: &str) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "nodeName": "node-1",
        "targetRef": {"kind": "Pod", "name": pod, "namespace": NAMESPACE},
    })
}

/// A Pod and its slice, for an application of this test.
pub fn running(service: &str, pod_name: &str, version: &str, address: SocketAddr) -> Vec<Value> {
    let endpoint = endpoint(pod_name, &address.ip().to_string());
    let slice = slice(service, &format!("{service}-{pod_name}"), address.port(), &[endpoint]);
    vec![pod(pod_name, version), slice]
}

/// All requests to one subset.
pub fn route_to(subset: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "user", "namespace": NAMESPACE},
        "spec": {"hosts": ["user"], "http": [{"route": [{"destination": {"host": "user", "subset": subset}}]}]},
    })
}

pub fn subsets(versions: &[&str]) -> Value {
    let subset = |version: &&str| json!({"name": version, "labels": {"version": version}});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "user", "namespace": NAMESPACE},
        "spec": {"host": "user", "subsets": versions.iter().map(subset).collect::<Vec<_>>()},
    })
}

/// Forwards connections to one address, until that is another: then those that are open are cut.
pub struct Door {
    pub address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    moved: watch::Sender<u64>,
    server: JoinHandle<()>,
}

impl Door {
    pub async fn open(target: SocketAddr) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let target = Arc::new(Mutex::new(target));
        let moved = watch::Sender::new(0);
        let (current, cut) = (Arc::clone(&target), moved.clone());
        let server = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let target = *current.lock().unwrap_or_else(PoisonError::into_inner);
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else {
                        return;
                    };
                    near.set_nodelay(true).ok();
                    far.set_nodelay(true).ok();
                    tokio::select! {
                        ended = tokio::io::copy_bidirectional(&mut near, &mut far) => drop(ended),
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Door {
            address,
            target,
            moved,
            server,
        }
    }

    pub fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
        self.moved.send_modify(|count| *count += 1);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}
