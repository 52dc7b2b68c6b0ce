//! Documents that do nothing, contradict others, are there twice or are of kinds that are not taken: as `apply` says it.

use super::*;
use crate::analyze::Severity;

fn of(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

/// `severity code kind name field: what`.
fn line(it: &Finding) -> String {
    let Finding {
        severity, code, kind, ..
    } = it;
    format!("{severity} {code} {kind} {} {}: {}", it.name, it.field, it.what)
}

/// Of these codes.
fn told(codes: &[&str], text: &str) -> Vec<String> {
    let all = findings_in(text);
    all.iter().filter(|it| codes.contains(&it.code)).map(line).collect()
}

#[test]
fn of_sidecars_for_the_same_workloads_the_younger_one_is_an_error() {
    let sidecar = |name: &str, rest: &str| {
        of(
            "Sidecar",
            name,
            &format!("{rest}outboundTrafficPolicy: {{mode: ALLOW_ANY}}"),
        )
    };
    let codes = ["IST0110", "IST0111"];
    assert_eq!(
        told(&codes, &(sidecar("a", "") + &sidecar("b", ""))),
        [
            "error IST0111 Sidecar b spec: Sidecar/default/a is for all workloads of the namespace, too, and older: this one is in force for none"
        ]
    );
    let app = |name: &str| sidecar(name, "workloadSelector: {labels: {app: web}}, ");
    assert_eq!(
        told(&codes, &(app("a") + &app("b"))),
        [
            "error IST0110 Sidecar b spec.workloadSelector: Sidecar/default/a is older and in force for workloads that both are meant for"
        ]
    );
    assert_eq!(told(&codes, &(sidecar("a", "") + &app("b"))), [""; 0]);
}

const PORTS: &str = "ports: [{number: 80, name: http, protocol: HTTP}]";

#[test]
fn documents_of_one_host_that_say_each_another_thing_of_it_are_told() {
    let first = of(
        "ServiceEntry",
        "a",
        &format!("hosts: [e.example.com], resolution: STATIC, {PORTS}, endpoints: [{{address: 10.0.0.1}}]"),
    );
    let second = |resolution: &str, ports: &str| {
        let spec =
            format!("hosts: [e.example.com], resolution: {resolution}, {ports}, endpoints: [{{address: 10.0.0.2}}]");
        first.clone() + &of("ServiceEntry", "b", &spec)
    };
    let codes = ["TSU-CONTRADICTION"];
    assert_eq!(told(&codes, &second("STATIC", PORTS)), [""; 0]);
    assert_eq!(
        told(&codes, &second("DNS", PORTS)),
        [
            "warning TSU-CONTRADICTION ServiceEntry b spec.resolution: ServiceEntry/default/a says otherwise where the endpoints of e.example.com are, and is in force"
        ]
    );
    assert_eq!(
        told(&codes, &second("STATIC", &PORTS.replace("HTTP", "TCP"))),
        [
            "warning TSU-CONTRADICTION ServiceEntry b spec.ports[0]: port 80 of e.example.com is declared otherwise by a document that goes before this one"
        ]
    );
}

#[test]
fn what_is_exported_to_nobody_is_a_warning() {
    let codes = ["TSU-EXPORT"];
    let with = |export: &str| {
        let spec = format!("exportTo: ['{export}'], hosts: [shop], http: [{{directResponse: {{status: 200}}}}]");
        MESH.to_owned() + &of("VirtualService", "r", &spec)
    };
    let nobody = "warning TSU-EXPORT VirtualService r spec.exportTo: exported to nobody: no sidecar uses it";
    assert_eq!(told(&codes, &with("~")), [nobody]);
    assert_eq!(told(&codes, &with(".")), [""; 0]);
}

#[test]
fn a_workload_that_nothing_selects_and_a_port_that_no_service_asks_for_are_warnings() {
    let workload = |rest: &str| of("WorkloadEntry", "w", &format!("address: 10.0.0.1, {rest}"));
    let codes = ["TSU-WORKLOAD", "TSU-PORT"];
    let db = workload("labels: {app: db}");
    assert_eq!(
        told(&codes, &(MESH.to_owned() + &db)),
        [
            "warning TSU-WORKLOAD WorkloadEntry w spec.labels: no Service and no ServiceEntry of namespace default selects this: it gets no requests"
        ]
    );
    // Who selects it may be in another file.
    assert_eq!(told(&codes, &db), [""; 0]);
    let with = |ports: &str| MESH.to_owned() + &workload(&format!("labels: {{app: shop}}, ports: {{{ports}}}"));
    assert_eq!(told(&codes, &with("http: 8080, grpc: 8081")), [""; 0]);
    assert_eq!(
        told(&codes, &with("http: 8080, htp: 8081")),
        [
            "warning TSU-PORT WorkloadEntry w spec.ports.htp: no port of a Service or ServiceEntry that selects this has this name: it is not used"
        ]
    );
}

fn read(texts: &[(&str, &str)]) -> Input {
    let mut input = Input::default();
    for (file, text) in texts {
        input.read(file, text, "default");
    }
    input
}

#[test]
fn a_document_that_is_there_twice_is_refused_and_analysed_once() {
    let rule = policy("p", "host: shop");
    let input = read(&[("a.yaml", &rule), ("b.yaml", &rule)]);
    assert_eq!(input.documents.len(), 1);
    let told: Vec<String> = input.refused.iter().map(line).collect();
    assert_eq!(
        told,
        [
            "error IST0106 DestinationRule p metadata.name: is there twice, first at a.yaml:1: `apply` refuses both together"
        ]
    );
    assert_eq!(
        (input.refused[0].file.as_str(), input.refused[0].namespace.as_str()),
        ("b.yaml", "default")
    );
    let input = read(&[("a.yaml", &rule.repeat(2))]);
    assert_eq!(input.documents.len(), 1);
    let told: Vec<String> = input.refused.iter().map(line).collect();
    assert_eq!(
        told,
        ["error IST0106 DestinationRule p metadata.name: is there already, on line 1"]
    );
}

#[test]
fn a_rule_of_a_kind_that_is_not_taken_is_passed_over_with_a_hint_and_others_without() {
    let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
    let input = read(&[("a.yaml", text)]);
    let of_kind: Vec<_> = input
        .refused
        .iter()
        .map(|it| (it.severity, it.code, it.line, it.kind.as_str(), it.namespace.as_str()))
        .collect();
    assert_eq!(
        of_kind,
        [
            (Severity::Info, "TSU-KIND", 1, "PeerAuthentication", "shop"),
            (Severity::Info, "TSU-KIND", 5, "HTTPRoute", "default"),
        ]
    );
    assert_eq!(
        input.refused[0].what,
        "is of a kind that is not taken yet: passed over here, and `apply` refuses a file with it as a whole"
    );
}
