//! What is told of services that Kubernetes does not know: where their endpoints are known from, and by which addresses and
//! wildcards they are found.

use super::*;

fn entry(name: &str, spec: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

fn alias(world: &World, name: &str) -> Option<String> {
    let encoded = world.host(name, "default")?;
    match decoded(&encoded) {
        Kind::Host(host) => Some(host.alias_of),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_without_listed_endpoints_has_its_names_as_endpoints() {
    let world = world(&entry(
        "external",
        "{hosts: [one.com, short], resolution: DNS, ports: [{number: 80, name: http, targetPort: 8080}]}",
    ));
    assert_eq!(world.problems(), []);
    assert_eq!(host(&world, "one.com").clusters[0].discovery(), mesh::Discovery::Dns);
    for (fqdn, name) in [("one.com", "one.com"), ("short.default.svc.cluster.local", "short")] {
        let [endpoint] = &endpoints_of(&world, fqdn).upserts[..] else {
            panic!()
        };
        assert_eq!((endpoint.hostname.as_str(), endpoint.address.as_str()), (name, ""));
        assert_eq!(endpoint.ports[0].port, 8080);
        assert_eq!(endpoint.id, format!("ServiceEntry/default/external/{name}:8080"));
    }
}

#[test]
fn a_host_of_one_word_is_one_service_by_whichever_name_it_is_called() {
    let of = |namespace: &str, day: u32, hosts: &str| {
        let spec = format!("{{hosts: [{hosts}], resolution: DNS, ports: [{{number: 80, name: http}}]}}");
        let metadata =
            format!("{{name: short, namespace: {namespace}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}");
        entry("short", &spec).replace("{name: short}", &metadata)
    };
    let long = "short.default.svc.cluster.local";
    let one = world(&of("default", 1, "one.com, short"));
    assert_eq!(one.host_names(), ["one.com", long]);
    assert_eq!(alias(&one, "short").as_deref(), Some(long));
    assert!(one.endpoints("short").is_none() && one.endpoints(long).is_some());
    assert_eq!(one.warnings(), [] as [String; 0]);
    // Of two the older one; the other's own clients ask for its whole name first.
    let text = of("default", 1, "one.com, short") + &of("shop", 2, "short");
    let two = World::build(documents(&text).into_iter(), 2, Some(&one));
    assert_eq!(alias(&two, "short").as_deref(), Some(long));
    assert_eq!(
        two.warnings(),
        [
            "ServiceEntry/shop/short: spec.hosts: ServiceEntry/default/short has short too and is older: other namespaces mean short.default.svc.cluster.local by it, not short.shop.svc.cluster.local"
        ]
    );
    // A Service of that name is the same one, and its namespace is told: as soon as it comes, and no longer than it stays.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: short}\nspec: {clusterIP: None, ports: [{name: http, port: 80}]}\n---\n";
    let joined = World::build(
        documents(&(service.to_owned() + &of("default", 1, "short"))).into_iter(),
        2,
        Some(&one),
    );
    let told = "ServiceEntry/default/short: spec.hosts: short is the name of Service/default/short: the endpoints of both get the requests to short.default.svc.cluster.local, where Istio has two services";
    assert!(joined.warnings().iter().any(|it| it == told), "{:?}", joined.warnings());
    let alone = World::build(documents(&of("default", 1, "short")).into_iter(), 3, Some(&joined));
    assert_eq!(alone.warnings(), [] as [String; 0]);
    let three = World::build(documents(&of("shop", 2, "short")).into_iter(), 3, Some(&two));
    assert_eq!(alias(&three, "short").as_deref(), Some("short.shop.svc.cluster.local"));
    assert!(three.changed().contains(&"host/short".to_owned()));
    let none = World::build([].into_iter(), 4, Some(&three));
    assert!(none.host("short", "default").is_none());
}

#[test]
fn names_and_addresses_may_be_endpoints_of_one_service() {
    let world = world(&entry(
        "external",
        "{hosts: ['*.one.com'], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http}], endpoints: [{address: DB.two.com, labels: {version: v1}}]}",
    ));
    let told = host(&world, "*.one.com");
    assert_eq!(told.clusters[0].discovery(), mesh::Discovery::DnsRoundRobin);
    let [endpoint] = &endpoints_of(&world, "*.one.com").upserts[..] else {
        panic!()
    };
    assert_eq!((endpoint.hostname.as_str(), endpoint.labels.len()), ("db.two.com", 1));
    assert!(model::EndpointSet::whole(endpoints_of(&world, "*.one.com")).is_ok());
    assert_eq!(alias(&world, "a.one.com").as_deref(), Some("*.one.com"));
}

#[test]
fn a_name_is_no_endpoint_of_a_service_that_does_not_ask_dns() {
    let text = entry(
        "users",
        "{hosts: [users.mesh], resolution: STATIC, ports: [{number: 80, name: http}], workloadSelector: {labels: {app: users}}}",
    );
    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, labels: {app: users}}\nspec: {address: a.com}\n---\n";
    let static_world = world(&format!("{text}{workload}"));
    assert!(endpoints_of(&static_world, "users.mesh").upserts.is_empty());
    let warned = |warning: &String| warning.contains("WorkloadEntry/default/w: spec.address");
    assert!(
        static_world.warnings().iter().any(warned),
        "{:?}",
        static_world.warnings()
    );
    let dns = world(&format!("{}{workload}", text.replace("STATIC", "DNS")));
    assert_eq!(endpoints_of(&dns, "users.mesh").upserts[0].hostname, "a.com");
}

#[test]
fn a_service_of_no_resolution_has_no_endpoints_and_says_to_which_port_connections_go() {
    let world = world(&entry(
        "web",
        "{hosts: ['*.wikipedia.org'], ports: [{number: 443, name: tls}, {number: 80, name: http, targetPort: 8080}], workloadSelector: {labels: {a: b}}}",
    ));
    let told = host(&world, "*.wikipedia.org");
    let clusters: Vec<_> = told
        .clusters
        .iter()
        .map(|cluster| (cluster.port, cluster.discovery(), cluster.destination_port))
        .collect();
    let original = mesh::Discovery::OriginalDestination;
    assert_eq!(clusters, [(80, original, 8080), (443, original, 0)]);
    assert!(endpoints_of(&world, "*.wikipedia.org").upserts.is_empty());
    assert_eq!(alias(&world, "en.wikipedia.org").as_deref(), Some("*.wikipedia.org"));
    let ignored = |warning: &String| warning.contains("spec.workloadSelector");
    assert!(world.warnings().iter().any(ignored), "{:?}", world.warnings());
}

#[test]
fn an_address_leads_to_the_service_that_has_it_and_else_to_that_of_the_narrowest_range_around_it() {
    let ports = "ports: [{number: 22, name: tcp}]";
    let wide = entry(
        "wide",
        &format!("{{hosts: [wide.com], addresses: [140.82.0.0/16, fd00::/8], {ports}}}"),
    );
    let narrow = entry(
        "narrow",
        &format!("{{hosts: [narrow.com], addresses: [140.82.112.0/20], {ports}}}"),
    );
    let single = entry(
        "single",
        &format!("{{hosts: [single.com], addresses: [140.82.112.9/32], {ports}}}"),
    );
    let first = world(&format!("{wide}{narrow}{single}"));
    for (address, service) in [
        ("140.82.1.1", Some("wide.com")),
        ("140.82.113.1", Some("narrow.com")),
        ("140.82.112.9", Some("single.com")),
        ("fd00::7", Some("wide.com")),
        ("140.83.0.1", None),
    ] {
        assert_eq!(alias(&first, address).as_deref(), service, "{address}");
    }
    assert_eq!(host(&first, "wide.com").ranges, ["140.82.0.0/16", "fd00::/8"]);
    assert!(
        model::Host::try_from(host(&first, "wide.com"))
            .unwrap()
            .has_address([140, 82, 7, 7].into())
    );
    // Whoever asked for an address in it is to look again.
    let second = World::build(documents(&format!("{wide}{single}")).into_iter(), 2, Some(&first));
    assert!(second.changed().contains(&"host/140.82.112.0/20".to_owned()));
    assert_eq!(alias(&second, "140.82.113.1").as_deref(), Some("wide.com"));
}

#[test]
fn a_tcp_port_without_an_address_is_of_the_oldest_service_that_has_it_and_the_other_is_told() {
    let tcp = |name: &str, rest: &str| {
        entry(
            name,
            &format!("{{hosts: [{name}.com], ports: [{{number: 5432, name: tcp}}, {{number: 80, name: http}}]{rest}}}"),
        )
    };
    let (one, two) = (tcp("one", ""), tcp("two", ""));
    let addressed = tcp("addressed", ", addresses: [10.0.0.9]");
    let elsewhere = tcp("a", ", resolution: STATIC, endpoints: [{address: 10.0.0.8}]");
    let first = world(&format!("{elsewhere}{addressed}{one}{two}"));
    assert_eq!(alias(&first, "*:5432").as_deref(), Some("one.com"));
    assert_eq!(alias(&first, "10.0.0.9").as_deref(), Some("addressed.com"));
    assert_eq!(alias(&first, "*:80"), None, "a request says whom it is for");
    let warned = "ServiceEntry/default/two: spec.ports: ServiceEntry/default/one has *:5432 too and is older: connections to it go to one.com, not to two.com";
    assert!(
        first.warnings().iter().any(|warning| warning == warned),
        "{:?}",
        first.warnings()
    );

    let second = World::build(documents(&format!("{addressed}{two}")).into_iter(), 2, Some(&first));
    assert!(second.changed().contains(&"host/*:5432".to_owned()));
    assert_eq!(alias(&second, "*:5432").as_deref(), Some("two.com"));
}

#[test]
fn of_two_services_of_one_name_the_first_says_where_the_endpoints_are() {
    let ports = "ports: [{number: 80, name: http}]";
    let one = entry("one", &format!("{{hosts: [a.com], resolution: DNS, {ports}}}"));
    let two = entry("two", &format!("{{hosts: [a.com], {ports}}}"));
    let world = world(&format!("{one}{two}"));
    assert_eq!(host(&world, "a.com").clusters[0].discovery(), mesh::Discovery::Dns);
    let warned = |warning: &String| warning.starts_with("ServiceEntry/default/two: spec.resolution");
    assert!(world.warnings().iter().any(warned), "{:?}", world.warnings());
}
