//! Ports at every address, and pods that are there.

use super::*;

#[test]
fn a_port_at_every_address_is_told_where_pods_of_a_service_without_an_address_have_it() {
    let service = |name: &str, ip: &str, target: u16| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{clusterIP: {ip}, selector: {{app: db}}, ports: [{{name: tcp, port: 5432, targetPort: {target}}}]}}\n---\n"
        )
    };
    let entry = |of: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: ext, namespace: shop}}\nspec: {{hosts: [ext.example.com], resolution: NONE, ports: [{{number: 443, name: https, protocol: HTTPS}}, {{number: 6432, name: tcp, protocol: TCP}}]{of}}}\n---\n"
        )
    };
    let told = |text: &str| {
        let all = findings_in(text);
        let told = all.iter().filter(|it| it.code == "TSU-ANY-ADDRESS");
        told.map(|it| format!("{} {}: {}", it.name, it.field, it.what))
            .collect::<Vec<_>>()
    };
    let pods = service("db", "None", 6432);
    assert_eq!(
        told(&(pods.clone() + &entry(""))),
        [
            "ext spec.ports[1]: connections to port 6432 of any address that no service has are this one's, and get its policies: also those to the pods of shop/db, which has no address of its own"
        ]
    );
    let without = [
        pods.clone() + &entry(", addresses: [10.1.0.0/16]"),
        service("db", "10.9.0.1", 6432) + &entry(""),
        service("db", "None", 7000) + &entry(""),
    ];
    for text in without {
        assert_eq!(told(&text), [""; 0], "{text}");
    }
}
