//! Services that share an address or a word.

use super::*;

fn entry(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// `name field: what` of each.
fn told(text: &str, code: &str) -> Vec<String> {
    let all = findings_in(&format!("{MESH}{text}"));
    let told = all.iter().filter(|it| it.code == code);
    told.map(|it| format!("{} {}: {}", it.name, it.field, it.what))
        .collect()
}

const PORTS: &str = "resolution: DNS, ports: [{number: 80, name: http}]";

#[test]
fn a_word_that_a_service_of_the_namespace_has_is_told_wherever_the_entry_says_it_is() {
    for location in ["MESH_EXTERNAL", "MESH_INTERNAL"] {
        let of = |hosts: &str| {
            entry(
                "default",
                "ext",
                &format!("hosts: [{hosts}], location: {location}, {PORTS}"),
            )
        };
        assert_eq!(
            told(&of("shop"), "TSU-SAME-HOST"),
            [
                "ext spec.hosts: shop is the name of Service/default/shop: the endpoints of both get the requests to shop.default.svc.cluster.local, where Istio has two services"
            ]
        );
        assert_eq!(told(&of("other, shop.example.com"), "TSU-SAME-HOST"), [""; 0]);
    }
}

#[test]
fn a_word_of_two_namespaces_and_an_address_of_two_services_are_told_at_the_one_that_is_not_meant() {
    let redis = |namespace: &str| entry(namespace, "redis", &format!("hosts: [redis], {PORTS}"));
    assert_eq!(
        told(&(redis("back") + &redis("shop")), "TSU-SAME-HOST"),
        [
            "redis spec.hosts: ServiceEntry/back/redis has redis too and is older: other namespaces mean redis.back.svc.cluster.local by it, not redis.shop.svc.cluster.local"
        ]
    );
    let at = |name: &str| {
        entry(
            "default",
            name,
            &format!("hosts: [{name}.com], addresses: [10.1.2.3], {PORTS}"),
        )
    };
    assert_eq!(
        told(&(at("one") + &at("two")), "TSU-SAME-ADDRESS"),
        [
            "two spec.addresses: ServiceEntry/default/one has 10.1.2.3 too and is older: connections to it go to one.com, not to two.com"
        ]
    );
    assert_eq!(told(&at("one"), "TSU-SAME-ADDRESS"), [""; 0]);
}
