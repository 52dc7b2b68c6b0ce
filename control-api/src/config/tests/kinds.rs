//! Kinds, metadata, Service: what is taken and what is refused where.

use super::*;

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: user\nspec:\n{spec}")
}

pub(super) fn workload(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: user-1\n  labels: {{zone: meta, app: user}}\nspec:\n{spec}"
    )
}

#[test]
fn the_envelope_of_a_document_is_checked() {
    assert_refused(
        "kind: Service\nmetadata: {name: a}\nspec: {clusterIP: None}\n",
        1,
        "apiVersion",
        "is required",
    );
    assert_refused(
        "apiVersion: v1\nmetadata: {name: a}\nspec: {}\n",
        1,
        "kind",
        "is required",
    );
    assert_refused(
        "apiVersion: v1\nkind: Service\nspec: {clusterIP: None}\n",
        1,
        "metadata",
        "is required",
    );
    assert_refused(
        "apiVersion: v1\nkind: Service\nmetadata: {}\nspec: {clusterIP: None}\n",
        3,
        "metadata.name",
        "is required",
    );
    assert_refused(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n",
        1,
        "spec",
        "is required",
    );
    assert_refused("- a\n", 1, "", "is a list, must be a mapping");
    assert_refused("text\n", 1, "", "must be a mapping");
    let wrong = "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n";
    assert_refused(
        wrong,
        1,
        "apiVersion",
        "networking.istio.io/v1, networking.istio.io/v1beta1, networking.istio.io/v1alpha3",
    );
    let core = "apiVersion: v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a}\n";
    assert_refused(core, 1, "apiVersion", "DestinationRule is not in \"v1\"");
    assert_refused(
        "apiVersion: v1\nkind: Servce\nmetadata: {name: a}\nspec: {}\n",
        2,
        "kind",
        "did you mean `Service`?",
    );
    assert_refused(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n",
        2,
        "kind",
        "not a kind",
    );
    for later in [
        "Gateway",
        "PeerAuthentication",
        "AuthorizationPolicy",
        "RequestAuthentication",
    ] {
        let text = format!("apiVersion: security.istio.io/v1\nkind: {later}\nmetadata: {{name: a}}\nspec: {{}}\n");
        assert_refused(&text, 2, "kind", "known but not supported yet");
    }
}

#[test]
fn every_api_version_in_use_is_taken() {
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let text = workload("  address: 10.0.0.1\n").replace("istio.io/v1", &format!("istio.io/{version}"));
        assert_eq!(one(&text).key.name, "user-1");
    }
}

#[test]
fn metadata_is_checked_and_what_a_server_adds_is_harmless() {
    let text = service("  clusterIP: None\n").replace(
        "  name: user\n",
        "  name: user\n  namespace: shop\n  uid: x\n  resourceVersion: '7'\n  generation: 2\n  creationTimestamp: 2026-01-02T03:04:05Z\n  managedFields: [{a: 1}]\n  annotations: {note: x}\n  ownerReferences: []\n  finalizers: []\n",
    ) + "status: {loadBalancer: {}}\n";
    let document = one(&text);
    assert_eq!(document.key.namespace, "shop");
    assert_eq!(
        document.created,
        Some(Created {
            seconds: 1_767_323_045,
            nanoseconds: 0
        })
    );
    assert!(document.object.get("status").is_none() && document.object["metadata"].get("managedFields").is_none());
    assert_eq!(document.object["metadata"]["annotations"]["note"], "x");

    let with =
        |line: &str| service("  clusterIP: None\n").replace("  name: user\n", &format!("  name: user\n  {line}\n"));
    assert_refused(
        &with("nmespace: x"),
        5,
        "metadata.nmespace",
        "did you mean `namespace`?",
    );
    assert_refused(
        &with("namespace: Shop"),
        5,
        "metadata.namespace",
        "not a namespace name",
    );
    assert_refused(&with("namespace: 7"), 5, "metadata.namespace", "write \"7\" in quotes");
    assert_refused(&with("labels: {a: 1}"), 5, "metadata.labels.a", "write \"1\" in quotes");
    assert_refused(
        &with("creationTimestamp: yesterday"),
        5,
        "metadata.creationTimestamp",
        "not a time",
    );
    for (line, field, reason) in [
        ("resourceVersion: 1", "resourceVersion", "write \"1\" in quotes"),
        ("uid: 7", "uid", "write \"7\" in quotes"),
        ("generation: many", "generation", "whole number"),
        ("deletionTimestamp: soon", "deletionTimestamp", "not a time"),
        ("annotations: [1]", "annotations", "must be a mapping"),
        ("annotations: {a: 1}", "annotations.a", "write \"1\" in quotes"),
        ("annotations: {'a b': x}", "annotations[a b]", "not an annotation key"),
        ("finalizers: 5", "finalizers", "must be a list"),
        ("finalizers: [5]", "finalizers[0]", "write \"5\" in quotes"),
        ("ownerReferences: x", "ownerReferences", "must be a list"),
        ("ownerReferences: [x]", "ownerReferences[0]", "must be a mapping"),
        ("managedFields: {}", "managedFields", "must be a list"),
        (
            "annotations: {networking.istio.io/exportTo: .}",
            "annotations[networking.istio.io/exportTo]",
            "not supported yet: only `*` is",
        ),
    ] {
        assert_refused(&with(line), 5, &format!("metadata.{field}"), reason);
    }
    one(&with("annotations: {networking.istio.io/exportTo: '*', note: ''}"));
    assert_eq!(one(&with("creationTimestamp: null")).created, None);
    assert_eq!(one(&with("namespace: ''")).key.namespace, "default");
    let bad_name = service("  clusterIP: None\n").replace("name: user", "name: User_1");
    assert_refused(&bad_name, 4, "metadata.name", "is not the name of a Service");
}

#[test]
fn a_document_without_a_namespace_is_in_the_one_asked_for() {
    let text = service("  clusterIP: None\n");
    assert_eq!(parse("f", &text, "shop").unwrap()[0].key.namespace, "shop");
    assert_eq!(parse("f", &text, "").unwrap()[0].key.namespace, "default");
}

#[test]
fn a_service_says_where_a_service_is() {
    let text = service(
        "  selector: {app: user}\n  clusterIP: 10.0.0.7\n  clusterIPs: [10.0.0.7, 'fd00::7']\n  ipFamilies: [IPv4]\n  ipFamilyPolicy: SingleStack\n  sessionAffinity: None\n  internalTrafficPolicy: Cluster\n  type: ClusterIP\n  ports:\n  - {name: http, port: 80, targetPort: 8080, protocol: TCP}\n  - {name: admin, port: 81, targetPort: web, appProtocol: http2}\n  - {name: tcp-x, port: 82, nodePort: 30000}\n",
    );
    let Spec::Service(service) = one(&text).spec else {
        panic!()
    };
    assert_eq!(service.selector.len(), 1);
    assert_eq!(service.addresses.len(), 2);
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|port| (port.number, port.target.clone(), port.protocol))
        .collect();
    assert_eq!(
        ports,
        [
            (80, TargetPort::Number(8080), Protocol::Http1),
            (81, TargetPort::Name("web".into()), Protocol::Http2),
            (82, TargetPort::Number(82), Protocol::Tcp),
        ]
    );
}

#[test]
fn a_service_is_refused_where_it_is_wrong() {
    let cases: [(&str, u32, &str, &str); 23] = [
        (
            "  type: ExternalName\n  clusterIP: None\n",
            6,
            "spec.type",
            "not supported yet: ExternalName",
        ),
        (
            "  type: Odd\n  clusterIP: None\n",
            6,
            "spec.type",
            "not a type of Service",
        ),
        (
            "  clusterIP: None\n  sessionAffinity: ClientIP\n",
            7,
            "spec.sessionAffinity",
            "not supported yet",
        ),
        (
            "  clusterIP: None\n  internalTrafficPolicy: Local\n",
            7,
            "spec.internalTrafficPolicy",
            "not supported yet",
        ),
        ("  selector: {app: user}\n", 5, "spec.ports", "is required"),
        ("  ports: []\n", 6, "spec.ports", "must not be empty"),
        (
            "  ports:\n  - port: 0\n",
            7,
            "spec.ports[0].port",
            "out of range: 1 to 65535",
        ),
        (
            "  ports:\n  - port: '80'\n",
            7,
            "spec.ports[0].port",
            "must be a whole number",
        ),
        (
            "  ports:\n  - name: a\n    port: 80\n  - name: b\n    port: 80\n",
            10,
            "spec.ports[1].port",
            "twice",
        ),
        (
            "  ports:\n  - port: 80\n    protocol: UDP\n",
            8,
            "spec.ports[0].protocol",
            "not supported yet: UDP",
        ),
        (
            "  ports:\n  - port: 80\n    targetport: 8\n",
            8,
            "spec.ports[0].targetport",
            "did you mean `targetPort`?",
        ),
        (
            "  ports:\n  - port: 80\n    targetPort: 70000\n",
            8,
            "spec.ports[0].targetPort",
            "out of range",
        ),
        (
            "  clusterIP: 10.0.0\n  ports: [{port: 80}]\n",
            6,
            "spec.clusterIP",
            "not an IP address",
        ),
        (
            "  clusterIP: None\n  ipFamilies: 7\n",
            7,
            "spec.ipFamilies",
            "must be a list",
        ),
        (
            "  clusterIP: None\n  ipFamilies: [IPv5]\n",
            7,
            "spec.ipFamilies[0]",
            "IPv4, IPv6",
        ),
        (
            "  clusterIP: None\n  externalTrafficPolicy: Bogus\n",
            7,
            "spec.externalTrafficPolicy",
            "Cluster, Local",
        ),
        (
            "  clusterIP: None\n  ipFamilyPolicy: Bogus\n",
            7,
            "spec.ipFamilyPolicy",
            "SingleStack",
        ),
        (
            "  clusterIP: None\n  externalIPs: [here]\n",
            7,
            "spec.externalIPs[0]",
            "not an IP address",
        ),
        (
            "  clusterIP: None\n  loadBalancerSourceRanges: [1]\n",
            7,
            "spec.loadBalancerSourceRanges[0]",
            "must be text",
        ),
        (
            "  clusterIP: None\n  allocateLoadBalancerNodePorts: often\n",
            7,
            "spec.allocateLoadBalancerNodePorts",
            "true or false",
        ),
        (
            "  clusterIP: None\n  loadBalancerClass: {}\n",
            7,
            "spec.loadBalancerClass",
            "must be text",
        ),
        (
            "  ports:\n  - port: 80\n    nodePort: abc\n",
            8,
            "spec.ports[0].nodePort",
            "must be a whole number",
        ),
        (
            "  clusterIP: None\n  externalName: x\n",
            7,
            "spec.externalName",
            "not supported yet",
        ),
    ];
    for (spec, line, field, reason) in cases {
        assert_refused(&service(spec), line, field, reason);
    }
}

#[test]
fn several_ports_need_names_of_their_own() {
    let found = refused(&service("  ports:\n  - port: 80\n  - port: 81\n"));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("spec.ports[0].name: is required"), "{found:?}");
    assert_refused(
        &service("  ports: [{name: a, port: 80}, {name: a, port: 81}]\n"),
        6,
        "spec.ports[1].name",
        "twice",
    );
}
