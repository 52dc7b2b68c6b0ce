//! A cluster's Services as they are, not as we would like them: what a sidecar cannot do for one is left out and said,
//! and never keeps the rest of the cluster from being served. Called by `index` before the reader of `config`, which
//! refuses by name what it cannot do.

use serde_json::{Map, Value};

use crate::config::{DISTRIBUTION_ANNOTATION, TrafficDistribution};

/// Fields that the reader takes as they are.
const TAKEN: [&str; 10] = [
    "selector",
    "ports",
    "clusterIP",
    "clusterIPs",
    "type",
    "sessionAffinity",
    "internalTrafficPolicy",
    "trafficDistribution",
    "ipFamilies",
    "ipFamilyPolicy",
];
const TAKEN_OF_PORT: [&str; 5] = ["name", "port", "targetPort", "protocol", "appProtocol"];
/// Istio's way to hide a Service from other namespaces.
const EXPORT: &str = "networking.istio.io/exportTo";

/// What can be said of a Service to proxies.
#[derive(Debug, PartialEq)]
pub(super) enum Fit {
    /// Possibly with less than it says; what is lost, in words.
    Taken(Value, Vec<String>),
    /// Nothing: why.
    Left(&'static str),
}

pub(super) fn fit(mut object: Value) -> Fit {
    let mut lost = Vec::new();
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut()
        && annotations.remove(EXPORT).is_some_and(|export| export != "*")
    {
        lost.push(format!("annotation {EXPORT}: every namespace sees the service"));
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        let known = |text: &str| TrafficDistribution::parse_annotation(text).is_some();
        let value = annotations.get(DISTRIBUTION_ANNOTATION).and_then(Value::as_str);
        if let Some(value) = value.filter(|text| !known(text)) {
            lost.push(format!(
                "annotation {DISTRIBUTION_ANNOTATION}: {value:?} is not known: no endpoint is preferred"
            ));
            annotations.remove(DISTRIBUTION_ANNOTATION);
        }
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return Fit::Left("it has no spec");
    };
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        return Fit::Left("ExternalName: an alias in DNS has no endpoints; a ServiceEntry can say where it is");
    }
    only(spec, "sessionAffinity", "None", &mut lost);
    only(spec, "internalTrafficPolicy", "Cluster", &mut lost);
    // A later Kubernetes may know more.
    let known = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| TrafficDistribution::parse(text).is_some())
    };
    if let Some(value) = spec.get("trafficDistribution").filter(|value| !known(value)) {
        lost.push(format!(
            "spec.trafficDistribution: {value} is not known: no endpoint is preferred"
        ));
        spec.remove("trafficDistribution");
    }
    // Not ready endpoints that are published come as ready ones; the other fields concern traffic from outside.
    spec.retain(|name, _| TAKEN.contains(&name.as_str()));
    if let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) {
        let before = ports.len();
        ports.retain(is_tcp);
        if ports.is_empty() && before > 0 {
            return Fit::Left("none of its ports is TCP");
        }
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            port.retain(|name, _| TAKEN_OF_PORT.contains(&name.as_str()));
        }
        if before == 0 {
            spec.remove("ports");
        }
    }
    if !spec.contains_key("ports") {
        // A headless Service may have none: its endpoints are for DNS.
        spec.insert("clusterIP".to_owned(), "None".into());
        spec.remove("clusterIPs");
    }
    Fit::Taken(object, lost)
}

fn is_tcp(port: &Value) -> bool {
    let protocol = port.get("protocol").and_then(Value::as_str);
    protocol.is_none_or(|protocol| protocol == "TCP")
}

fn only(spec: &mut Map<String, Value>, name: &str, taken: &str, lost: &mut Vec<String>) {
    let Some(value) = spec.get(name).and_then(Value::as_str).map(str::to_owned) else {
        return;
    };
    if value != taken {
        lost.push(format!("spec.{name}: {value} is taken as {taken}"));
        spec.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{Spec, from_object};

    fn service(spec: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "n"}, "spec": spec})
    }

    fn taken(spec: Value) -> (crate::config::Service, Vec<String>) {
        let Fit::Taken(object, lost) = fit(service(spec.clone())) else {
            panic!("{spec} is left out");
        };
        match from_object(object).map(|document| document.spec) {
            Ok(Spec::Service(service)) => (service, lost),
            other => panic!("{spec}: {other:?}"),
        }
    }

    #[test]
    fn what_clusters_write_is_taken_and_what_is_lost_is_said() {
        let (found, lost) = taken(json!({
            "type": "LoadBalancer", "clusterIP": "10.0.0.10", "clusterIPs": ["10.0.0.10", "fd00::10"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack",
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "publishNotReadyAddresses": true, "trafficDistribution": "PreferClose", "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": true, "aFieldOfTomorrow": {"x": 1},
            "selector": {"app": "a"},
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53, "nodePort": 30053},
                {"name": "sctp", "port": 54, "protocol": "SCTP"},
            ],
        }));
        assert_eq!(found.ports.len(), 1);
        assert_eq!(found.addresses.len(), 2);
        assert_eq!(lost.len(), 2, "{lost:?}");
        assert_eq!(found.distribution, Some(TrafficDistribution::SameZone));
    }

    #[test]
    fn a_distribution_that_is_not_known_prefers_nobody_and_that_is_said() {
        let (found, lost) = taken(json!({"ports": [{"port": 80}], "trafficDistribution": "PreferSameGalaxy"}));
        assert_eq!((found.distribution, lost.len()), (None, 1));
        let mut annotated = service(json!({"ports": [{"port": 80}]}));
        annotated["metadata"]["annotations"] = json!({DISTRIBUTION_ANNOTATION: "PreferSameGalaxy"});
        let Fit::Taken(object, lost) = fit(annotated) else {
            panic!("it is left out");
        };
        assert_eq!(lost.len(), 1);
        assert!(from_object(object).is_ok());
    }

    #[test]
    fn a_service_of_which_nothing_is_lost_says_nothing() {
        let (_, lost) = taken(json!({
            "type": "ClusterIP", "clusterIP": "10.0.0.10", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80}],
        }));
        assert!(lost.is_empty(), "{lost:?}");
        let (found, lost) = taken(json!({"clusterIP": "None", "selector": {"app": "a"}}));
        assert!(found.ports.is_empty() && lost.is_empty());
    }

    #[test]
    fn what_has_no_endpoints_for_a_proxy_is_left_out() {
        for spec in [
            json!({"type": "ExternalName", "externalName": "example.com"}),
            json!({"ports": [{"port": 53, "protocol": "UDP"}]}),
            Value::Null,
        ] {
            assert!(matches!(fit(service(spec.clone())), Fit::Left(_)), "{spec}");
        }
    }
}
