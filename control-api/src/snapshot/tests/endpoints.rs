//! Endpoints: who is selected, which port a service's port leads to, and what travels when some of them change.

use super::*;

fn service(ports: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: user-service}}\nspec: {{selector: {{app: u}}, clusterIP: None, ports: [{ports}]}}\n---\n"
    )
}

fn workload(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{labels: {{app: u}}, {spec}}}\n---\n"
    )
}

#[test]
fn a_services_port_leads_to_the_port_of_its_name_else_the_target_else_the_same() {
    let port = |ports: &str, entry: &str| {
        let world = world(&format!(
            "{}{}",
            service(ports),
            workload("w", &format!("address: 10.0.0.1, {entry}"))
        ));
        let endpoints = endpoints_of(&world, USER);
        let ports = endpoints
            .upserts
            .first()
            .map(|endpoint| endpoint.ports.clone())
            .unwrap_or_default();
        (ports.first().map(|port| port.port), world.warnings().len())
    };
    assert_eq!(
        port("{name: http, port: 80, targetPort: 8080}", "ports: {http: 9000}"),
        (Some(9000), 0)
    );
    assert_eq!(
        port("{name: http, port: 80, targetPort: 8080}", "ports: {other: 9000}"),
        (Some(8080), 1)
    );
    assert_eq!(port("{name: http, port: 80}", "weight: 1"), (Some(80), 0));
    assert_eq!(
        port("{port: 80, targetPort: web}", "ports: {web: 9000}"),
        (Some(9000), 0)
    );
    assert_eq!(
        port("{name: http, port: 80, targetPort: web}", "ports: {http: 1, web: 9000}"),
        (Some(1), 0)
    );
    assert_eq!(port("{name: http, port: 80, targetPort: web}", "weight: 1"), (None, 1));
}

#[test]
fn only_workloads_of_the_namespace_with_all_labels_are_selected() {
    let elsewhere = workload("w", "address: 10.0.0.2").replace("{name: w}", "{name: w, namespace: shop}");
    let unlabelled = workload("x", "address: 10.0.0.3").replace("app: u", "app: v");
    let text = format!(
        "{}{}{elsewhere}{unlabelled}",
        service("{port: 80}"),
        workload("w", "address: 10.0.0.1")
    );
    let addresses: Vec<String> = endpoints_of(&world(&text), USER)
        .upserts
        .into_iter()
        .map(|e| e.address)
        .collect();
    assert_eq!(addresses, ["10.0.0.1"]);
    let nobody = text.replace("selector: {app: u}, ", "");
    assert!(endpoints_of(&world(&nobody), USER).upserts.is_empty());
}

fn many(count: usize) -> Vec<Arc<Document>> {
    let workloads: String = (0..count)
        .map(|n| workload(&format!("w-{n:03}"), &format!("address: 10.0.0.{n}")))
        .collect();
    documents(&format!("{}{workloads}", service("{port: 80}")))
}

#[test]
fn a_change_leads_from_the_version_before_to_the_new_one() {
    let first = many(50);
    let before = World::build(first.iter().cloned(), 1, None);
    assert_eq!(before.endpoints(USER).unwrap().change, None);
    let mut second = first.clone();
    second.remove(3);
    second.push(Arc::new(
        (*documents(&workload("w-100", "address: 10.0.1.1"))[0]).clone(),
    ));
    second[5] = documents(&workload(&second[5].key.name, "address: 10.0.2.2, weight: 9")).remove(0);
    let after = World::build(second.into_iter(), 2, Some(&before));

    let encoded = after.endpoints(USER).unwrap();
    let change = encoded.change.clone().unwrap();
    assert_eq!(change.base_version, before.endpoints(USER).unwrap().version);
    assert!(change.bytes.len() * 5 < encoded.bytes.len());
    let Kind::Endpoints(change) = mesh::Resource::decode(change.bytes).unwrap().kind.unwrap() else {
        panic!()
    };
    assert_eq!((change.upserts.len(), change.removals.len()), (2, 2));
    let held = model::EndpointSet::whole(endpoints_of(&before, USER)).unwrap();
    assert_eq!(
        held.apply(change).unwrap(),
        model::EndpointSet::whole(endpoints_of(&after, USER)).unwrap()
    );
    assert_eq!(*after.changed(), [format!("endpoints/{USER}")]);
    // The host itself is the same bytes, and the same allocation.
    assert!(Arc::ptr_eq(
        &before.host(USER, "x").unwrap(),
        &after.host(USER, "x").unwrap()
    ));

    let later = World::build(after_documents(&after), 3, Some(&after));
    assert!(Arc::ptr_eq(&later.endpoints(USER).unwrap(), &encoded));
    assert!(later.changed().is_empty());
}

fn after_documents(world: &World) -> impl Iterator<Item = Arc<Document>> {
    world.documents().values().cloned().collect::<Vec<_>>().into_iter()
}

#[test]
fn a_change_as_long_as_the_whole_is_not_made() {
    let before = World::build(many(3).into_iter(), 1, None);
    let after = World::build(documents(&service("{port: 80}")).into_iter(), 2, Some(&before));
    let encoded = after.endpoints(USER).unwrap();
    assert!(endpoints_of(&after, USER).upserts.is_empty());
    assert_eq!(encoded.change, None);
}

#[test]
fn services_of_one_name_are_one_host_and_contradictions_are_a_warning() {
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: more}}\nspec:\n  hosts: [{USER}]\n  resolution: STATIC\n  ports: [{{number: 80, name: grpc}}, {{number: 81, name: grpc-more}}]\n  endpoints: [{{address: 10.0.0.9}}]\n---\n"
    );
    let world = world(&format!(
        "{}{}{entry}",
        service("{name: http, port: 80}"),
        workload("w", "address: 10.0.0.1")
    ));
    let host = host(&world, USER);
    let ports: Vec<_> = host.ports.iter().map(|port| (port.number, port.protocol())).collect();
    assert_eq!(ports, [(80, mesh::Protocol::Http1), (81, mesh::Protocol::Http2)]);
    assert_eq!(endpoints_of(&world, USER).upserts.len(), 2);
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("ServiceEntry/default/more: port 80 of "),
        "{warnings:?}"
    );
}

#[test]
fn an_endpoint_that_says_it_is_not_healthy_is_told_as_unhealthy() {
    let sick = workload("w", "address: 10.0.0.1").replace(
        "---\n",
        "status: {conditions: [{type: Healthy, status: 'False'}]}\n---\n",
    );
    let world = world(&format!(
        "{}{sick}{}",
        service("{port: 80}"),
        workload("x", "address: 10.0.0.2")
    ));
    let health: Vec<mesh::Health> = endpoints_of(&world, USER)
        .upserts
        .iter()
        .map(mesh::Endpoint::health)
        .collect();
    assert_eq!(health, [mesh::Health::Unhealthy, mesh::Health::Healthy]);
}

/// A ServiceEntry for `USER` in a namespace, as old as its number of seconds.
fn claim(namespace: &str, name: &str, age: &str, address: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-01T00:00:{age}Z'}}\nspec:\n  hosts: [{USER}]\n  addresses: [{address}]\n  resolution: STATIC\n  ports: [{{number: 80, name: http}}, {{number: 81, name: grpc}}]\n  endpoints: [{{address: {address}}}]\n---\n"
    )
}

fn addresses(world: &World) -> Vec<String> {
    let endpoints = endpoints_of(world, USER).upserts.into_iter();
    endpoints.map(|endpoint| endpoint.address).collect()
}

#[test]
fn nobody_puts_endpoints_behind_a_service_of_another_namespace() {
    let service = format!(
        "{}{}",
        service("{name: http, port: 80}"),
        workload("w", "address: 10.0.0.1")
    );
    let evil = claim("evil", "grab", "01", "10.66.0.1");
    let own = claim("default", "more", "02", "10.0.0.2");
    let before = world(&format!("{service}{evil}"));
    assert_eq!(addresses(&before), ["10.0.0.1"]);
    let host = host(&before, USER);
    assert_eq!((host.ports.len(), host.namespace.as_str()), (1, "default"));
    assert!(host.addresses.is_empty(), "{:?}", host.addresses);
    let warnings = before.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with(&format!(
            "ServiceEntry/evil/grab: spec.hosts: {USER} belongs to Service/default/user-service"
        )),
        "{warnings:?}"
    );
    // Within its own namespace it is one service with its ServiceEntries.
    let both = world(&format!("{service}{own}{evil}"));
    assert_eq!(addresses(&both), ["10.0.0.2", "10.0.0.1"]);
    // A name that nobody owns any more is free.
    let after = World::build(documents(&evil).into_iter(), 2, Some(&before));
    assert_eq!(addresses(&after), ["10.66.0.1"]);
    assert_eq!(after.warnings(), Vec::<String>::new());
}

#[test]
fn of_service_entries_alone_the_namespace_that_had_the_name_first_has_it() {
    let first = claim("shop", "b", "01", "10.0.0.1");
    let same = claim("shop", "c", "03", "10.0.0.3");
    let late = claim("evil", "a", "02", "10.0.0.2");
    let world = world(&format!("{late}{same}{first}"));
    assert_eq!(addresses(&world), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(host(&world, USER).namespace, "shop");
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("ServiceEntry/evil/a") && warnings[0].contains("ServiceEntry/shop/b"),
        "{warnings:?}"
    );
}

#[test]
fn a_service_that_selects_nothing_is_warned_of_until_it_does() {
    let alone = service("{name: http, port: 80}");
    let warnings = world(&alone).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("Service/default/user-service: spec.selector: selects no WorkloadEntry"),
        "{warnings:?}"
    );
    let together = world(&format!("{alone}{}", workload("w", "address: 10.0.0.1")));
    assert!(together.warnings().is_empty());
}
