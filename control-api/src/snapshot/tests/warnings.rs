//! What is valid but will not do what its author meant: warned of as long as it is so, and no longer.

use super::*;

const IDLE_SERVICE: &str =
    "Service/default/user-service: spec.selector: selects no WorkloadEntry of namespace default: requests get 503 UH";

const SELECTING: &str = "{apiVersion: v1, kind: Service, metadata: {name: user-service}, spec: {selector: {app: u}, ports: [{name: http, port: 80}]}}";

fn service() -> Vec<Arc<Document>> {
    documents(
        "{apiVersion: v1, kind: Service, metadata: {name: user-service}, spec: {selector: {app: u}, ports: [{port: 80}]}}",
    )
}

fn workload(name: &str, labels: &str) -> Vec<Arc<Document>> {
    documents(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: {name}}}, spec: {{address: 10.0.0.1, labels: {{{labels}}}}}}}"
    ))
}

fn entry(endpoints: &str) -> Vec<Arc<Document>> {
    documents(&format!(
        "{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: more}}, spec: {{hosts: [{USER}], resolution: STATIC, ports: [{{number: 80, name: http}}], {endpoints}}}}}"
    ))
}

fn idle_workload(name: &str) -> String {
    format!(
        "WorkloadEntry/default/{name}: spec.labels: no Service and no ServiceEntry of namespace default selects this: it gets no requests"
    )
}

/// The warnings after each step, each world made from the one before; at once gives the same.
fn warnings_after(steps: &[&[Vec<Arc<Document>>]]) -> Vec<Vec<String>> {
    let mut world = World::default();
    let mut told = Vec::new();
    for (revision, documents) in (1..).zip(steps) {
        let next = World::build(documents.iter().flatten().cloned(), revision, Some(&world));
        let at_once = World::build(documents.iter().flatten().cloned(), revision, None);
        assert_eq!(next.warnings(), at_once.warnings());
        told.push(next.warnings());
        world = next;
    }
    told
}

#[test]
fn a_destination_without_a_port_is_warned_of_with_the_hosts_whose_requests_do_not_get_there() {
    let service = |name: &str, ports: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}.example.com], resolution: DNS, ports: [{ports}]}}\n"
        )
    };
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: any}\nspec: {hosts: ['*.example.com'], http: [{route: [{destination: {host: two.example.com}}]}]}\n".to_owned()
        + &service("two", "{number: 80, name: http}, {number: 81, name: http-2}")
        + &service("same", "{number: 81, name: http}, {number: 82, name: http-2}")
        // No request has anything to do with them.
        + &service("tls", "{number: 443, name: tls}")
        + &service("mixed", "{number: 81, name: tcp}, {number: 90, name: http}");
    let world = World::build(documents(&text).into_iter(), 1, None);
    let warning = |fqdn: &str| {
        format!(
            "VirtualService/default/any: spec.http[0].route[0].destination: two.example.com has several ports (it has 80, 81), none is given and {fqdn} is called at none of them: such requests get 503 NC"
        )
    };
    let mut told = world.warnings();
    told.retain(|warning| warning.contains("several ports"));
    assert_eq!(told, [warning("mixed.example.com")]);
}

#[test]
fn a_selector_and_a_workload_that_do_not_find_each_other_are_warned_of_until_they_do() {
    let (alone, together) = (workload("w", "app: u"), workload("w", "app: u, version: v1"));
    let other = workload("other", "app: v");
    let told = warnings_after(&[
        &[service()],
        &[service(), alone.clone()],
        &[service(), together.clone(), other.clone()],
        &[together, other],
        &[workload("w", "")],
        &[],
    ]);
    let expected: [&[String]; 6] = [
        &[IDLE_SERVICE.to_owned()],
        &[],
        &[idle_workload("other")],
        &[idle_workload("other"), idle_workload("w")],
        &[idle_workload("w")],
        &[],
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_selector_that_selects_nothing_beside_other_endpoints_only_adds_none() {
    let told = warnings_after(&[
        &[service(), entry("endpoints: [{address: 10.0.0.2}]")],
        &[entry("workloadSelector: {labels: {app: u}}")],
        &[entry("workloadSelector: {labels: {app: u}}"), workload("w", "app: u")],
    ]);
    let beside = |warning: &String| warning == &IDLE_SERVICE.replace("requests get 503 UH", "it adds no endpoint");
    assert!(told[0].iter().any(beside), "{told:?}");
    assert_eq!(
        told[1],
        [
            "ServiceEntry/default/more: spec.workloadSelector: selects no WorkloadEntry of namespace default: requests get 503 UH"
        ]
    );
    assert_eq!(told[2], [] as [String; 0]);
}

#[test]
fn a_weight_that_nobody_wrote_is_warned_of_and_a_zero_that_is_meant_is_not() {
    let rule = |weight: &str| {
        let text = format!(
            "{SERVICE}{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: user-service}}, spec: {{hosts: [user-service], http: [{{route: [{{destination: {{host: user-service}}, weight: 9}}, {{destination: {{host: user-service}}{weight}}}]}}]}}}}"
        );
        vec![documents(&text)]
    };
    let (forgotten, meant) = (rule(""), rule(", weight: 0"));
    let told = warnings_after(&[&forgotten, &meant]);
    assert!(
        told[0].contains(
            &"VirtualService/default/user-service: spec.http[0].route[1].weight: is not given: beside others such a destination gets no requests".to_owned()
        ),
        "{told:?}"
    );
    assert_eq!(told[1], [idle_workload("other")]);
    let alone = world(&RULES.replace(", weight: 100}", "}")).warnings();
    assert!(!alone.iter().any(|warning| warning.contains("weight")), "{alone:?}");
}

#[test]
fn a_rule_whose_service_is_deleted_is_warned_of() {
    let text = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: front}, spec: {hosts: [front.example.com], http: [{route: [{destination: {host: user-service}}]}]}}";
    let told = warnings_after(&[&[documents(SERVICE), documents(text)], &[documents(text)]]);
    let expected = "VirtualService/default/front: spec.http[0].route[0].destination: no service has the host user-service.default.svc.cluster.local: such requests get 503 NC";
    assert!(!told[0].iter().any(|warning| warning == expected), "{told:?}");
    assert!(told[1].iter().any(|warning| warning == expected), "{told:?}");
}

#[test]
fn an_endpoint_that_is_listed_again_is_one_endpoint_and_warned_of() {
    let one = "{address: 10.0.0.2, ports: {http: 1}}";
    let with = |endpoints: &str| vec![documents(SELECTING), workload("w", "app: u"), entry(endpoints)];
    let lists = [
        with(&format!(
            "endpoints: [{one}, {one}, {{address: 10.0.0.2, ports: {{http: 2}}}}]"
        )),
        with(&format!(
            "endpoints: [{one}, {{address: 10.0.0.2, ports: {{http: 1}}, labels: {{v: a}}}}]"
        )),
        with("endpoints: [{address: 10.0.0.1}]"),
        with(&format!("endpoints: [{one}]")),
    ];
    let steps: Vec<&[Vec<Arc<Document>>]> = lists.iter().map(Vec::as_slice).collect();
    let told = warnings_after(&steps);
    let again = "ServiceEntry/default/more: spec.endpoints: 10.0.0.2:1 is listed more than once: it is one endpoint, with the share of one";
    assert_eq!(told[0], [again]);
    assert_eq!(told[1], [again]);
    assert_eq!(
        told[2],
        [
            "ServiceEntry/default/more: spec.endpoints: 10.0.0.1:80 is an endpoint of user-service.default.svc.cluster.local already, by WorkloadEntry/default/w: it is one endpoint, with the share of one"
        ]
    );
    assert_eq!(told[3], [] as [String; 0]);
    let ids = |list: &[Vec<Arc<Document>>]| {
        let world = World::build(list.iter().flatten().cloned(), 1, None);
        let endpoints = endpoints_of(&world, USER).upserts;
        endpoints.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let listed = "ServiceEntry/default/more/10.0.0.2:1";
    let selected = "WorkloadEntry/default/w/10.0.0.1:80";
    assert_eq!(
        ids(&lists[0]),
        [listed, "ServiceEntry/default/more/10.0.0.2:2", selected]
    );
    // It may be one of a subset that the other is not of: proxies see to it that no cluster has both.
    assert_eq!(ids(&lists[1]), [listed, &format!("{listed}#2"), selected]);
}

#[test]
fn what_a_document_says_to_no_effect_is_warned_of_as_long_as_it_is_there() {
    let rule = |name: &str| {
        let text = format!(
            "{SERVICE}{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d, annotations: {{{name}: envoy}}}}, spec: {{host: user-service}}}}"
        );
        vec![documents(&text)]
    };
    let (wrong, right) = (rule("tsunagi.io/x"), rule("tsunagi.io/outlier-detection"));
    let told = warnings_after(&[&right, &wrong, &wrong, &right]);
    let about = |warnings: &Vec<String>| warnings.iter().filter(|it| it.starts_with("DestinationRule/")).count();
    assert_eq!(told.iter().map(about).collect::<Vec<_>>(), [0, 1, 1, 0]);
    let expected =
        "DestinationRule/default/d: metadata.annotations[tsunagi.io/x]: no annotation that is known, it has no effect";
    assert!(told[1].iter().any(|it| it == expected), "{told:?}");
}

#[test]
fn tls_from_a_tcp_port_to_a_wildcard_without_a_name_to_ask_for_is_warned_of_until_there_is_one() {
    let wildcard = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: ['*.e.test'], resolution: NONE, ports: [{number: 80, name: http}, {number: 81, name: tcp}]}}";
    let named = wildcard.replace("'*.e.test'", "a.e.test");
    let requests = wildcard.replace("name: tcp", "name: http-b");
    let (wildcard, named, requests) = (documents(wildcard), documents(&named), documents(&requests));
    let rule = |tls: &str| {
        documents(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d}}, spec: {{host: '*.e.test', trafficPolicy: {{tls: {{{tls}}}}}}}}}"
        ))
    };
    let told = warnings_after(&[
        &[wildcard.clone(), rule("mode: SIMPLE")],
        &[wildcard.clone(), rule("mode: SIMPLE, sni: a.e.test")],
        &[wildcard.clone(), rule("mode: SIMPLE, insecureSkipVerify: true")],
        &[wildcard, rule("mode: DISABLE")],
        &[named, rule("mode: SIMPLE")],
        &[requests, rule("mode: SIMPLE")],
    ]);
    let warning = "DestinationRule/default/d: `tls` without `sni` for the wildcard *.e.test, which is no name to ask for: connections to its TCP port 81 fail (UF)";
    assert_eq!(told, [&[warning][..], &[], &[warning], &[], &[], &[]]);
}

#[test]
fn a_workloads_port_that_no_service_asks_for_is_warned_of_until_one_does() {
    let with_ports = documents(
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w}, spec: {address: 10.0.0.1, labels: {app: u}, ports: {htp: 8080, admin: 8081}}}",
    );
    let of_ports = |ports: &str| {
        documents(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: user-service}}, spec: {{selector: {{app: u}}, ports: [{ports}]}}}}"
        ))
    };
    let http = "{name: http, port: 80}";
    let told = warnings_after(&[
        &[of_ports(http), with_ports.clone()],
        // By its own name, or by that of the target port.
        &[
            of_ports("{name: htp, port: 80}, {name: x, port: 81, targetPort: admin}"),
            with_ports.clone(),
        ],
        &[of_ports(&format!("{http}, {{name: admin, port: 81}}")), with_ports],
    ]);
    let unused = |name: &str| {
        format!(
            "WorkloadEntry/default/w: spec.ports.{name}: no port of a Service or ServiceEntry that selects this has this name: it is not used"
        )
    };
    assert_eq!(told[0], [unused("admin"), unused("htp")]);
    assert_eq!(told[1], [""; 0]);
    assert_eq!(told[2], [unused("htp")]);
}
