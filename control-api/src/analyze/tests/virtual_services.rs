//! Several VirtualServices for one host: who is in force for whom is told as proxies are.

use super::*;
use crate::analyze::Severity;

const ANSWER: &str = "http: [{directResponse: {status: 200}}]";

fn of(namespace: &str, name: &str, export: &str, rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{hosts: ['*.example.com'], exportTo: [{export}], {rules}}}\n---\n"
    )
}

/// `severity name: what` of each.
fn told(text: &str) -> Vec<String> {
    let all = findings_in(text);
    let told = all.iter().filter(|it| it.code == "IST0109");
    told.map(|it| format!("{} {}: {}", it.severity, it.name, it.what))
        .collect()
}

#[test]
fn rules_of_the_clients_namespace_beside_rules_for_everyone_are_no_error() {
    let text = of("back", "o1", "'*'", ANSWER) + &of("shop", "o2", ".", ANSWER);
    assert_eq!(
        told(&text),
        [
            "info o1: VirtualService/shop/o2 is in force for *.example.com for clients of namespace shop, not this one: it is exported to them by name, this one to everyone"
        ]
    );
    assert_eq!(
        told(&(of("back", "o1", ".", ANSWER) + &of("shop", "o2", ".", ANSWER))),
        [""; 0]
    );
}

#[test]
fn rules_that_lose_where_their_author_wants_them_are_an_error() {
    let exported = of("back", "o1", "shop, back", ANSWER) + &of("shop", "o2", ".", ANSWER);
    assert_eq!(
        told(&exported),
        [
            "error o1: VirtualService/shop/o2 is in force for *.example.com for clients of namespace shop, not this one: it is exported to them more closely: two are not merged"
        ]
    );
    let own = of("shop", "o2", "'*'", ANSWER) + &of("back", "o1", "shop", ANSWER);
    assert_eq!(
        told(&own),
        [
            "error o2: VirtualService/back/o1 is in force for *.example.com for clients of namespace shop, not this one: it is exported to them more closely: two are not merged"
        ]
    );
    let alike = of("back", "o1", "'*'", ANSWER) + &of("shop", "o2", "'*'", ANSWER);
    assert_eq!(
        told(&alike),
        [
            "error o2: VirtualService/back/o1 is in force for *.example.com, not this one: it is older: two are not merged"
        ]
    );
}

#[test]
fn of_rules_for_other_connections_only_those_of_one_kind_are_in_each_others_way() {
    let tls = "tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: b.example.com}}]}]";
    let apart = of("back", "o1", "'*'", ANSWER) + &of("shop", "o2", "'*'", tls);
    assert_eq!(told(&apart), [""; 0]);
    let partly = of("back", "o1", "'*'", ANSWER) + &of("shop", "o2", "'*'", &format!("{ANSWER}, {tls}"));
    assert_eq!(
        told(&partly),
        [
            "error o2: VirtualService/back/o1 is in force for *.example.com, not this one, as far as `http` goes: it is older: two are not merged"
        ]
    );
}

#[test]
fn where_only_the_one_in_force_is_in_a_file_it_is_told_there() {
    let mut input = Input::default();
    input.read("", &of("back", "o1", "'*'", ANSWER), "default");
    input.read("a.yaml", &of("shop", "o2", ".", ANSWER), "default");
    let documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let mut report = Report::default();
    analyze(&documents, Surroundings::default(), &mut report);
    let told: Vec<_> = report
        .into_findings()
        .into_iter()
        .filter(|it| it.code == "IST0109")
        .collect();
    assert_eq!(
        (told.len(), told[0].name.as_str(), told[0].severity),
        (1, "o2", Severity::Info)
    );
    assert_eq!(
        told[0].what,
        "VirtualService/back/o1 has *.example.com, too, and is not in force for clients of namespace shop, but this one, which is exported to them by name, that one to everyone"
    );
}

#[test]
fn a_wildcard_that_leads_to_one_of_its_own_hosts_says_whose_requests_do_not_get_there() {
    let service = |name: &str, ports: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: [{name}.example.com], resolution: DNS, ports: [{ports}]}}\n---\n"
        )
    };
    let two = service("two", "{number: 80, name: http}, {number: 81, name: http-2}");
    let rule = of(
        "default",
        "any",
        "'*'",
        "http: [{route: [{destination: {host: two.example.com}}]}]",
    );
    let told = |others: &str| {
        let all = findings_in(&format!("{two}{rule}{others}"));
        let told = all.into_iter().filter(|it| it.code == "IST0112");
        told.map(|it| it.what).collect::<Vec<_>>()
    };
    let same = service("same", "{number: 81, name: http}, {number: 443, name: tls}");
    assert_eq!(told(&same), [""; 0]);
    assert_eq!(
        told(&service(
            "other",
            "{number: 81, name: http}, {number: 82, name: http-2}"
        )),
        [
            "two.example.com has several ports (80, 81) and none is given: only requests to one of the same number get there, not those to other.example.com:82"
        ]
    );
}
