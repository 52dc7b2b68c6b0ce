//! What is read of a cluster's objects: of Pods and EndpointSlices only what routing needs, taken while the answer is
//! decoded, so that a large cluster's specs and notes never stay in memory. Called by `watch` (which asks for these
//! types) and `index` (which joins them).

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use k8s_openapi::{api::core::v1::Node as CoreNode, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource,
    core::{DynamicResourceScope, NamespaceResourceScope, PartialObjectMeta},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tsunagi_proto::model::{Locality, REGION_LABEL, SUBZONE_LABEL, ZONE_LABEL};

use crate::config::{Kind, PodState};

/// The label that says whose endpoints a slice holds.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Of a Node, before Kubernetes 1.17.
const OLD_REGION_LABEL: &str = "failure-domain.beta.kubernetes.io/region";
const OLD_ZONE_LABEL: &str = "failure-domain.beta.kubernetes.io/zone";
/// `kubectl apply` keeps the whole object in it once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub namespace: String,
    pub name: String,
}

impl Name {
    pub(super) fn of(metadata: &ObjectMeta) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

/// What is kept of a Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pod {
    pub labels: BTreeMap<String, String>,
    pub service_account: String,
    /// It has a `deletionTimestamp`.
    pub leaving: bool,
    /// Of the Unix epoch, in seconds; 0: it is not.
    pub ready_since: u64,
    /// Empty: it is on no machine yet.
    pub node_name: String,
}

/// What is kept of a Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    /// `region/zone/subzone`; empty: its labels do not say.
    pub locality: String,
}

/// What is kept of an EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slice {
    /// Empty: nobody's.
    pub service: String,
    pub ports: BTreeMap<String, u16>,
    pub endpoints: Vec<Address>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    pub address: IpAddr,
    /// Empty: not a Pod.
    pub pod: String,
    pub state: PodState,
    /// Empty: not said.
    pub node_name: String,
    /// As the slice has it; empty: not said.
    pub zone: String,
}

/// A Pod as the API sends it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PodObject {
    #[serde(default, deserialize_with = "few_fields")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    conditions: Option<Vec<PodCondition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodCondition {
    r#type: String,
    status: String,
    last_transition_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

impl PodStatus {
    fn ready_since(&self) -> u64 {
        let is_ready = |condition: &&PodCondition| condition.r#type == "Ready" && condition.status == "True";
        let ready = self.conditions.iter().flatten().find(is_ready);
        let since = ready.and_then(|condition| condition.last_transition_time.as_ref());
        since.map_or(0, |time| u64::try_from(time.0.as_second()).unwrap_or(0))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    service_account_name: Option<String>,
    node_name: Option<String>,
}

/// An EndpointSlice as the API sends it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceObject {
    #[serde(default, deserialize_with = "few_fields")]
    metadata: ObjectMeta,
    #[serde(default)]
    endpoints: Option<Vec<SliceEndpoint>>,
    #[serde(default)]
    ports: Option<Vec<SlicePort>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SliceEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Conditions,
    target_ref: Option<TargetRef>,
    node_name: Option<String>,
    zone: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SlicePort {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
}

/// A Service or an object of the mesh: the readers of `config` say what is in it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Object {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

/// Of a Pod's or a slice's metadata, only what is used.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FewFields {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

fn few_fields<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let few = FewFields::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: few.name,
        namespace: few.namespace,
        resource_version: few.resource_version,
        labels: few.labels,
        deletion_timestamp: few.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

impl PodObject {
    pub(super) fn into_parts(self) -> (Name, Pod) {
        let name = Name::of(&self.metadata);
        let pod = Pod {
            labels: self.metadata.labels.unwrap_or_default(),
            service_account: self.spec.service_account_name.unwrap_or_default(),
            leaving: self.metadata.deletion_timestamp.is_some(),
            node_name: self.spec.node_name.unwrap_or_default(),
            ready_since: self.status.ready_since(),
        };
        (name, pod)
    }
}

impl Node {
    /// The labels that clouds set, or the names that these had before.
    pub(super) fn of(object: PartialObjectMeta<CoreNode>) -> (Name, Self) {
        let name = Name::of(&object.metadata);
        let labels = object.metadata.labels.unwrap_or_default();
        let label = |key: &str| labels.get(key).map(String::as_str);
        let either = |now: &str, before: &str| label(now).or_else(|| label(before)).unwrap_or_default();
        let locality = Locality {
            region: either(REGION_LABEL, OLD_REGION_LABEL),
            zone: either(ZONE_LABEL, OLD_ZONE_LABEL),
            subzone: label(SUBZONE_LABEL).unwrap_or_default(),
        };
        let locality = locality.to_string();
        (name, Self { locality })
    }
}

impl SliceObject {
    pub(super) fn into_parts(self) -> (Name, Slice) {
        let name = Name::of(&self.metadata);
        let service = self.metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME));
        let tcp = |port: &SlicePort| port.protocol.as_deref().unwrap_or("TCP") == "TCP";
        let ports = self.ports.into_iter().flatten().filter(tcp);
        let ports = ports.filter_map(|port| Some((port.name.unwrap_or_default(), port.port.filter(|port| *port > 0)?)));
        let slice = Slice {
            service: service.unwrap_or_default(),
            ports: ports.collect(),
            endpoints: self.endpoints.into_iter().flatten().filter_map(address).collect(),
        };
        (name, slice)
    }
}

/// Kubernetes gives each endpoint one address; what is no IP address is a name that only DNS knows.
fn address(endpoint: SliceEndpoint) -> Option<Address> {
    let address = endpoint.addresses?.first()?.parse().ok()?;
    let target = endpoint.target_ref.unwrap_or_default();
    let is_pod = target.kind.as_deref() == Some("Pod");
    let state = match endpoint.conditions {
        Conditions {
            terminating: Some(true),
            ..
        } => PodState::Leaving,
        // Not said counts as ready, as Kubernetes has it.
        Conditions { ready: Some(false), .. } => PodState::NotReady,
        Conditions { .. } => PodState::Ready,
    };
    Some(Address {
        address,
        pod: target.name.filter(|_| is_pod).unwrap_or_default(),
        state,
        node_name: endpoint.node_name.unwrap_or_default(),
        zone: endpoint.zone.unwrap_or_default(),
    })
}

impl Object {
    pub(super) fn name(&self) -> Name {
        Name::of(&self.metadata)
    }

    pub(super) fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    pub(super) fn version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }

    pub(super) fn take_status(&mut self) -> Value {
        self.status.take()
    }

    /// As its author would write it, with what the cluster added that a reader wants to know.
    pub(super) fn into_document(self, kind: Kind) -> Value {
        let version = kind.versions().first().copied().unwrap_or("v1");
        let api_version = match kind.group() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        let mut metadata = self.metadata;
        metadata.managed_fields = None;
        metadata.generate_name = None;
        if let Some(annotations) = &mut metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        let mut document = serde_json::json!({
            "apiVersion": api_version,
            "kind": kind.as_str(),
            // Texts and numbers always have a JSON form.
            "metadata": serde_json::to_value(metadata).unwrap_or_default(),
            "spec": self.spec,
        });
        if kind == Kind::WorkloadEntry && !self.status.is_null() {
            document["status"] = self.status;
        }
        document
    }
}

impl Resource for PodObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Resource for SliceObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "EndpointSlice".into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "discovery.k8s.io".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "endpointslices".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Resource for Object {
    type DynamicType = Kind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &Kind) -> Cow<'_, str> {
        kind.as_str().into()
    }
    fn group(kind: &Kind) -> Cow<'_, str> {
        kind.group().into()
    }
    fn version(kind: &Kind) -> Cow<'_, str> {
        kind.versions().first().copied().unwrap_or("v1").into()
    }
    fn plural(kind: &Kind) -> Cow<'_, str> {
        kind.plural().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_labels_account_and_departure_are_kept() {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n", "labels": {"v": "1"}, "resourceVersion": "7",
                         "deletionTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "x"}]},
            "spec": {"serviceAccountName": "sa", "nodeName": "node-7", "containers": [{"name": "c"}]},
            "status": {"phase": "Running"},
        });
        let object: PodObject = serde_json::from_value(object).unwrap();
        assert_eq!(object.metadata.resource_version.as_deref(), Some("7"));
        assert!(object.metadata.managed_fields.is_none());
        let (name, pod) = object.into_parts();
        assert_eq!((name.namespace.as_str(), name.name.as_str()), ("n", "a"));
        assert_eq!((pod.service_account.as_str(), pod.leaving), ("sa", true));
        assert_eq!((pod.labels["v"].as_str(), pod.node_name.as_str()), ("1", "node-7"));
    }

    #[test]
    fn a_node_is_where_its_labels_say_also_by_their_older_names() {
        let of = |labels: Value| {
            let object = json!({"metadata": {"name": "node-7", "labels": labels}});
            let (name, node) = Node::of(serde_json::from_value(object).unwrap());
            assert_eq!((name.namespace.as_str(), name.name.as_str()), ("", "node-7"));
            node.locality
        };
        let region_and_zone = json!({REGION_LABEL: "eu", ZONE_LABEL: "eu-a", OLD_ZONE_LABEL: "old"});
        assert_eq!(of(region_and_zone), "eu/eu-a");
        assert_eq!(of(json!({OLD_REGION_LABEL: "eu", OLD_ZONE_LABEL: "eu-a"})), "eu/eu-a");
        assert_eq!(of(json!({REGION_LABEL: "eu", SUBZONE_LABEL: "rack"})), "eu//rack");
        assert_eq!(of(json!({})), "");
    }

    #[test]
    fn the_conditions_of_an_endpoint_say_whether_it_gets_requests() {
        let of = |conditions: Value| {
            let object = json!({
                "metadata": {"name": "a-x", "namespace": "n", "labels": {SERVICE_NAME: "a"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions,
                               "targetRef": {"kind": "Pod", "name": "a-1"}}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
            });
            let object: SliceObject = serde_json::from_value(object).unwrap();
            let (_, slice) = object.into_parts();
            assert_eq!((slice.service.as_str(), slice.ports.len()), ("a", 1));
            assert_eq!(slice.endpoints[0].pod, "a-1");
            slice.endpoints[0].state
        };
        assert_eq!(of(json!({})), PodState::Ready);
        assert_eq!(of(json!({"ready": true})), PodState::Ready);
        assert_eq!(of(json!({"ready": false})), PodState::NotReady);
        assert_eq!(
            of(json!({"ready": false, "serving": true, "terminating": true})),
            PodState::Leaving
        );
        // A Service that publishes what is not ready says ready of what is going.
        assert_eq!(of(json!({"ready": true, "terminating": true})), PodState::Leaving);
    }

    #[test]
    fn an_empty_slice_and_one_of_names_have_no_endpoints() {
        for object in [
            json!({"metadata": {"name": "a"}, "endpoints": null, "ports": null}),
            json!({"metadata": {"name": "a"}, "addressType": "FQDN", "endpoints": [{"addresses": ["example.com"]}]}),
            json!({"metadata": {"name": "a"}, "endpoints": [{"addresses": []}]}),
        ] {
            let object: SliceObject = serde_json::from_value(object).unwrap();
            assert!(object.into_parts().1.endpoints.is_empty());
        }
    }

    #[test]
    fn a_document_is_without_what_only_the_cluster_needs() {
        let object: Object = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "generation": 3, "generateName": "a-",
                         "annotations": {LAST_APPLIED: "{}", "keep": "x"}, "managedFields": []},
            "spec": {"hosts": ["a"]}, "status": {"x": 1},
        }))
        .unwrap();
        assert_eq!(object.generation(), 3);
        let document = object.into_document(Kind::VirtualService);
        assert_eq!(document["apiVersion"], "networking.istio.io/v1");
        assert_eq!(document["metadata"]["annotations"], json!({"keep": "x"}));
        assert_eq!(document["metadata"].get("generateName"), None);
        assert_eq!(document.get("status"), None);
    }
}
