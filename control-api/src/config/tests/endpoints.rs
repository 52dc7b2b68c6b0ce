//! ServiceEntry and WorkloadEntry: what is taken and what is refused where.

use super::kinds::workload;
use super::*;

fn service_entry(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: user\nspec:\n  hosts: [user.mesh]\n{spec}"
    )
}

#[test]
fn a_service_entry_lists_or_selects_its_endpoints() {
    let text = service_entry(
        "  addresses: [10.0.0.9]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  exportTo: ['*']\n  ports:\n  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}\n  - {number: 81, name: grpc}\n  endpoints:\n  - {address: 127.0.0.1, ports: {http: 9001}, labels: {version: v1}, weight: 3, locality: '', serviceAccount: sa}\n",
    );
    let Spec::ServiceEntry(entry) = one(&text).spec else {
        panic!()
    };
    assert_eq!(entry.hosts, ["user.mesh"]);
    assert_eq!(entry.ports[0].target, TargetPort::Number(8080));
    assert_eq!(
        (entry.ports[0].protocol, entry.ports[1].protocol),
        (Protocol::Http1, Protocol::Http2)
    );
    let ServiceEndpoints::Listed(endpoints) = entry.endpoints else {
        panic!()
    };
    assert_eq!(
        (
            endpoints[0].weight,
            endpoints[0].ports["http"],
            endpoints[0].labels["version"].as_str()
        ),
        (3, 9001, "v1")
    );
    let text = service_entry(
        "  resolution: STATIC\n  ports: [{number: 80, name: http}]\n  workloadSelector: {labels: {app: user}}\n",
    );
    let Spec::ServiceEntry(entry) = one(&text).spec else {
        panic!()
    };
    assert_eq!(
        entry.endpoints,
        ServiceEndpoints::Selected([("app".into(), "user".into())].into())
    );
}

#[test]
fn a_service_entry_is_refused_where_it_is_wrong() {
    let good = "  resolution: STATIC\n  ports: [{number: 80, name: http}]\n";
    let cases: [(String, u32, &str, &str); 14] = [
        (
            good.replace("STATIC", "DYNAMIC_DNS"),
            7,
            "spec.resolution",
            "not supported yet: DYNAMIC_DNS",
        ),
        (
            format!(
                "{}  endpoints: [{{address: 10.0.0.1}}]\n",
                good.replace("STATIC", "NONE")
            ),
            9,
            "spec.endpoints",
            "there are none",
        ),
        (
            format!(
                "{}  endpoints: [{{address: a.com}}, {{address: b.com}}]\n",
                good.replace("STATIC", "DNS_ROUND_ROBIN")
            ),
            9,
            "spec.endpoints",
            "at most one",
        ),
        (
            format!("{}  addresses: [10.0.0.0/8]\n", good.replace("STATIC", "DNS")),
            9,
            "spec.addresses",
            "only for the resolutions NONE and STATIC",
        ),
        (
            format!("{good}  location: ELSEWHERE\n"),
            9,
            "spec.location",
            "none of MESH_EXTERNAL, MESH_INTERNAL",
        ),
        (
            good.replace("STATIC", "static"),
            7,
            "spec.resolution",
            "none of NONE, STATIC, DNS, DNS_ROUND_ROBIN, did you mean `STATIC`?",
        ),
        (
            format!("{good}  addresses: [10.0.0.0/99]\n"),
            9,
            "spec.addresses[0]",
            "neither a CIDR nor an IP address",
        ),
        (
            format!("{good}  exportTo: [.]\n"),
            9,
            "spec.exportTo[0]",
            "not supported yet",
        ),
        (
            format!("{good}  subjectAltNames: [1]\n"),
            9,
            "spec.subjectAltNames[0]",
            "must be",
        ),
        (
            format!("{good}  endpoints:\n  - address: db.example.com\n"),
            10,
            "spec.endpoints[0].address",
            "it is an IP address",
        ),
        (
            format!("{good}  endpoints:\n  - address: unix:///x\n"),
            10,
            "spec.endpoints[0].address",
            "a Unix socket",
        ),
        (
            format!("{good}  endpoints:\n  - address: 10.0.0.1\n    ports: {{web: 1}}\n"),
            11,
            "spec.endpoints[0].ports.web",
            "no port of this ServiceEntry",
        ),
        (
            format!("{good}  endpoints: [{{address: 10.0.0.1}}]\n  workloadSelector: {{labels: {{a: b}}}}\n"),
            10,
            "spec.workloadSelector",
            "only one of",
        ),
        (
            good.replace("name: http", "name: http, protocol: UDP"),
            8,
            "spec.ports[0].protocol",
            "not supported yet: UDP",
        ),
    ];
    for (spec, line, field, reason) in cases {
        assert_refused(&service_entry(&spec), line, field, reason);
    }
    for (resolution, host, reason) in [
        ("NONE", "'*'", "all of them"),
        ("DNS", "'*.mesh'", "which a wildcard is not"),
        ("STATIC", "a.*.mesh", "a wildcard"),
        ("STATIC", "10.0.0.1", "an IP address as a host"),
    ] {
        let text = service_entry(&good.replace("STATIC", resolution)).replace("user.mesh", host);
        let field = if resolution == "DNS" {
            "spec.hosts"
        } else {
            "spec.hosts[0]"
        };
        assert_refused(&text, 6, field, reason);
    }
    let tcp = good.replace("name: http", "name: tcp");
    let two = service_entry(&tcp).replace("user.mesh", "a.mesh, b.mesh");
    assert_refused(&two, 6, "spec.hosts", "do not say which");
    one(&two.replace("STATIC", "NONE"));
}

#[test]
fn a_service_entry_says_where_its_endpoints_are_known_from() {
    let entry = |spec: &str, hosts: &str| match one(&service_entry(spec).replace("user.mesh", hosts)).spec {
        Spec::ServiceEntry(entry) => entry,
        other => panic!("{other:?}"),
    };
    let ports = "  ports: [{number: 443, name: tls}]\n";
    let none = entry(
        &format!(
            "{ports}  location: MESH_EXTERNAL\n  addresses: [140.82.112.7/20, 10.0.0.1/32, 10.0.0.1, fd00::1/8]\n  subjectAltNames: [spiffe://a/b, c.com]\n"
        ),
        "'*.Wikipedia.org', github.com",
    );
    assert_eq!(none.resolution, Resolution::None);
    assert_eq!(none.hosts, ["*.wikipedia.org", "github.com"]);
    let ranges: Vec<String> = none.ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["140.82.112.0/20", "fd00::/8"]);
    assert_eq!(none.addresses, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(none.subject_alt_names, ["spiffe://a/b", "c.com"]);
    for (written, resolution) in [
        ("NONE", Resolution::None),
        ("DNS", Resolution::Dns),
        ("DNS_ROUND_ROBIN", Resolution::DnsRoundRobin),
    ] {
        assert_eq!(
            entry(&format!("{ports}  resolution: {written}\n"), "a.com").resolution,
            resolution
        );
    }
    let listed = entry(
        &format!("{ports}  resolution: DNS\n  endpoints: [{{address: DB.example.com.}}, {{address: 10.0.0.1}}]\n"),
        "'*.a.com'",
    );
    let ServiceEndpoints::Listed(endpoints) = listed.endpoints else {
        panic!()
    };
    assert_eq!(endpoints[0].address, Address::Name("db.example.com".to_owned()));
    assert_eq!(endpoints[1].address.ip(), Some([10, 0, 0, 1].into()));
}

#[test]
fn labels_of_a_workload_entry_come_from_its_spec_and_its_metadata() {
    let text =
        workload("  address: 10.0.0.1\n  labels: {zone: spec, version: v1}\n  ports: {http: 8080}\n  weight: 2\n");
    let Spec::WorkloadEntry(entry) = one(&text).spec else {
        panic!()
    };
    let labels: Vec<_> = entry
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(labels, ["app=user", "version=v1", "zone=meta"]);
}

#[test]
fn a_workload_entry_is_refused_where_it_is_wrong() {
    let cases = [
        ("  labels: {a: b}\n", 6, "spec.address", "is required"),
        (
            "  address: 10.0.0.256\n",
            7,
            "spec.address",
            "neither an IP address nor a host name",
        ),
        (
            "  address: 0.0.0.0\n",
            7,
            "spec.address",
            "not the address of an endpoint",
        ),
        (
            "  address: 10.0.0.1\n  network: x\n",
            8,
            "spec.network",
            "not supported yet",
        ),
        ("  address: 10.0.0.1\n  weight: -1\n", 8, "spec.weight", "out of range"),
        (
            "  address: 10.0.0.1\n  locality: a/b/c/d\n",
            8,
            "spec.locality",
            "more parts than region/zone/subzone",
        ),
        (
            "  address: 10.0.0.1\n  locality: a/*\n",
            8,
            "spec.locality",
            "not one place",
        ),
        (
            "  address: 10.0.0.1\n  locality: /b\n",
            8,
            "spec.locality",
            "has no region",
        ),
        (
            "  address: 10.0.0.1\n  locality: 7\n",
            8,
            "spec.locality",
            "must be text",
        ),
        (
            "  address: 10.0.0.1\n  serviceAccount: No One\n",
            8,
            "spec.serviceAccount",
            "not the name of a service account",
        ),
        (
            "  address: 10.0.0.1\nstatus: {conditions: [{type: Healthy, status: false}]}\n",
            8,
            "status.conditions[0].status",
            "must be text",
        ),
        (
            "  address: 10.0.0.1\nstatus: {conditions: [{type: Healthy}]}\n",
            8,
            "status.conditions[0].status",
            "is required",
        ),
        (
            "  address: 10.0.0.1\nstatus: {conditions: {}}\n",
            8,
            "status.conditions",
            "must be a list",
        ),
        (
            "  address: 10.0.0.1\n  ports:\n    http: 0\n",
            9,
            "spec.ports.http",
            "out of range",
        ),
        (
            "  address: 10.0.0.1\n  labels: {'a b': c}\n",
            8,
            "spec.labels[a b]",
            "not a label key",
        ),
    ];
    for (spec, line, field, reason) in cases {
        assert_refused(&workload(spec), line, field, reason);
    }
}

#[test]
fn a_workload_entry_is_where_its_locality_says_else_its_label() {
    let locality = |more: &str, label: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: a\n  labels: {{istio-locality: '{label}'}}\n\
             spec:\n  address: 10.0.0.1\n{more}"
        );
        match parse("a.yaml", &text, "").unwrap().remove(0).spec {
            Spec::WorkloadEntry(entry) => entry.locality,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(locality("  locality: eu/a/\n", "us.b"), "eu/a");
    assert_eq!(locality("  locality: ''\n", "us.b.rack-1"), "us/b/rack-1");
    assert_eq!(locality("", ""), "");
}

#[test]
fn a_services_field_or_annotation_says_which_endpoints_it_prefers() {
    use TrafficDistribution::{SameNode, SameZone};
    let service = |field: &str, annotation: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  \
             annotations: {{networking.istio.io/traffic-distribution: '{annotation}'}}\n\
             spec:\n  ports: [{{port: 80}}]\n{field}"
        )
    };
    let distribution = |text: &str| match parse("a.yaml", text, "").unwrap().remove(0).spec {
        Spec::Service(service) => service.distribution,
        Spec::ServiceEntry(entry) => entry.distribution,
        other => panic!("{other:?}"),
    };
    for (field, annotation, expected) in [
        ("PreferClose", "", Some(SameZone)),
        ("PreferSameZone", "PreferSameNode", Some(SameZone)),
        ("PreferSameNode", "", Some(SameNode)),
        ("", "prefersamenode", Some(SameNode)),
        ("", "PreferClose", Some(SameZone)),
        ("", "Any", None),
        ("", "", None),
    ] {
        let field = match field {
            "" => String::new(),
            text => format!("  trafficDistribution: {text}\n"),
        };
        assert_eq!(
            distribution(&service(&field, annotation)),
            expected,
            "{field} {annotation}"
        );
    }
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: a\n  \
                 annotations: {networking.istio.io/traffic-distribution: PreferSameZone}\n\
                 spec: {hosts: [a.example], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: []}\n";
    assert_eq!(distribution(entry), Some(SameZone));
    let reason = "neither PreferSameZone";
    assert_refused(
        &service("  trafficDistribution: Nearby\n", ""),
        8,
        "spec.trafficDistribution",
        reason,
    );
    let field = "metadata.annotations[networking.istio.io/traffic-distribution]";
    assert_refused(&service("", "Nearby"), 5, field, reason);
}

#[test]
fn a_workload_entry_is_healthy_unless_its_status_says_that_it_is_not() {
    let healthy = |status: &str| {
        let text = workload(&format!("  address: 10.0.0.1\nstatus: {status}\n"));
        let document = one(&text);
        // Health outlives a restart.
        let back = from_stored(&document.object).unwrap();
        assert_eq!(back.spec, document.spec);
        match document.spec {
            Spec::WorkloadEntry(entry) => entry.healthy,
            other => panic!("{other:?}"),
        }
    };
    assert!(!healthy(
        "{conditions: [{type: Ready, status: x}, {type: Healthy, status: 'False'}]}"
    ));
    for status in [
        "{}",
        "{conditions: []}",
        "{conditions: [{type: Healthy, status: 'True'}]}",
        "{conditions: [{type: Healthy, status: Unknown}]}",
        "{conditions: [{type: Ready, status: 'False'}]}",
    ] {
        assert!(healthy(status), "{status}");
    }
}
