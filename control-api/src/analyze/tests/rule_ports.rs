//! Rules that no port of their hosts is for; hosts that only clients may write so.

use super::*;
use crate::analyze::Severity;

const DB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{name: tcp, port: 9000}, {name: tls, port: 9443}]}\n---\n";

fn rules(host: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r}}\nspec: {{hosts: [{host}], {rest}}}\n---\n"
    )
}

/// `severity code field: what` of those codes.
fn told(codes: &[&str], text: &str) -> Vec<String> {
    let all = findings_in(&format!("{MESH}{DB}{text}"));
    let told = all.iter().filter(|it| codes.contains(&it.code));
    told.map(|it| format!("{} {} {}: {}", it.severity, it.code, it.field, it.what))
        .collect()
}

const PORTS: [&str; 2] = ["TSU-RULE-PORT", "TSU-NO-DEFAULT"];
const TO_DB: &str = "route: [{destination: {host: db, port: {number: 9000}}}]";

#[test]
fn rules_that_no_port_of_their_host_can_use_are_a_warning() {
    let db = "db.default.svc.cluster.local";
    let shop = "shop.default.svc.cluster.local";
    let http = format!("http: [{{match: [{{uri: {{prefix: /a/}}}}], timeout: 1s, {TO_DB}}}]");
    assert_eq!(
        told(&PORTS, &rules("db", &http)),
        [format!(
            "warning TSU-RULE-PORT spec.http: no port of {db} speaks HTTP: none of these rules is ever met"
        )]
    );
    let tcp = format!("tcp: [{{{TO_DB}}}]");
    assert_eq!(
        told(&PORTS, &rules("shop", &tcp)),
        [format!(
            "warning TSU-RULE-PORT spec.tcp: no port of {shop} speaks TCP: none of these rules is ever met"
        )]
    );
    let tls = format!("tls: [{{match: [{{sniHosts: [{shop}]}}], {TO_DB}}}]");
    assert_eq!(
        told(&PORTS, &rules("shop", &tls)),
        [format!(
            "warning TSU-RULE-PORT spec.tls: no port of {shop} speaks TLS: none of these rules is ever met"
        )]
    );
    let at = |port: u16| format!("tcp: [{{match: [{{port: {port}}}], {TO_DB}}}]");
    assert_eq!(
        told(&PORTS, &rules("db", &at(9001))),
        [format!(
            "warning TSU-RULE-PORT spec.tcp[0].match[0].port: {db} has no port 9001: this is never met"
        )]
    );
    assert_eq!(
        told(&PORTS, &rules("db", &at(9443))),
        [format!(
            "warning TSU-RULE-PORT spec.tcp[0].match[0].port: port 9443 of {db} does not speak TCP: this is never met"
        )]
    );
}

#[test]
fn of_rules_that_some_port_may_be_for_nothing_is_said() {
    let detected = DB.replace("name: db}", "name: odd}").replace("name: tcp", "name: odd");
    let any = |host: &str, rest: &str| told(&["TSU-RULE-PORT"], &(detected.clone() + &rules(host, rest)));
    for (host, rest) in [
        ("odd", format!("http: [{{{TO_DB}}}], tcp: [{{{TO_DB}}}]")),
        (
            "odd",
            format!("tls: [{{match: [{{sniHosts: [odd.default.svc.cluster.local], port: 9443}}], {TO_DB}}}]"),
        ),
        ("db", format!("tcp: [{{match: [{{port: 9000}}], {TO_DB}}}]")),
        // Requests to the other host meet them; of a host that nobody showed, or for a gateway, nobody knows.
        ("db, shop", format!("http: [{{{TO_DB}}}]")),
        ("db, elsewhere.example.com", format!("http: [{{{TO_DB}}}]")),
        (
            "'*.cluster.local'",
            format!("http: [{{match: [{{port: 1}}], {TO_DB}}}]"),
        ),
        ("db", format!("gateways: [mesh, edge], http: [{{{TO_DB}}}]")),
    ] {
        assert_eq!(any(host, &rest), [""; 0], "{host} {rest}");
    }
}

#[test]
fn what_falls_through_to_the_service_is_not_said_to_be_answered_404() {
    let shop = "{destination: {host: shop}}";
    let matching = |items: &str| {
        told(
            &PORTS,
            &rules("shop", &format!("http: [{{match: [{items}], route: [{shop}]}}]")),
        )
    };
    for items in [
        "{port: 80}",
        "{sourceLabels: {app: shop}}",
        "{gateways: [mesh]}",
        "{uri: {prefix: /a/}}, {gateways: [mesh]}",
    ] {
        assert_eq!(matching(items), [""; 0], "{items}");
    }
    let left = "info TSU-NO-DEFAULT spec.http: a request that none of these rules matches is answered 404 NR: nothing falls through to the service";
    for items in [
        "{uri: {prefix: /a/}}",
        "{port: 80, method: {exact: GET}}",
        // Of other clients, requests with another path are left.
        "{uri: {prefix: /a/}}, {sourceLabels: {app: shop}}",
    ] {
        assert_eq!(matching(items), [left], "{items}");
    }
}

#[test]
fn a_host_that_is_a_services_name_without_its_end_has_no_effect_and_is_told_in_full() {
    let codes = ["TSU-HOST", "IST0101", "IST0174"];
    let suggested = |text: &str| {
        let all = findings_in(&format!("{MESH}{text}"));
        let told = all.into_iter().filter(|it| codes.contains(&it.code));
        told.map(|it| (it.severity, it.code, it.instead)).collect::<Vec<_>>()
    };
    let answer = "http: [{directResponse: {status: 288}}]";
    let full = "did you mean shop.default.svc.cluster.local?".to_owned();
    for host in ["shop.default", "shop.default.svc"] {
        assert_eq!(
            suggested(&rules(host, answer)),
            [(Severity::Warning, "TSU-HOST", full.clone())]
        );
        let to = format!("http: [{{route: [{{destination: {{host: {host}}}}}]}}]");
        assert_eq!(
            suggested(&rules("shop", &to)),
            [(Severity::Error, "IST0101", full.clone())]
        );
        let policy = policy("p", &format!("host: {host}"));
        assert_eq!(suggested(&policy), [(Severity::Warning, "IST0174", full.clone())]);
    }
    let wide = "did you mean *.default.svc.cluster.local?".to_owned();
    assert_eq!(
        suggested(&rules("'*.default'", answer)),
        [(Severity::Warning, "TSU-HOST", wide)]
    );
    let told = told(&["TSU-HOST"], &rules("shop.default", answer));
    assert_eq!(
        told,
        [
            "warning TSU-HOST spec.hosts[0]: no service has the host shop.default: requests that name it are for shop.default.svc.cluster.local, which these rules are not for"
        ]
    );
    // A name of its own stays a hint.
    assert_eq!(
        suggested(&rules("elsewhere.example.com", answer)),
        [(Severity::Info, "TSU-HOST", String::new())]
    );
}
