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
        (Some(8080), 0)
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
    world.documents().to_vec().into_iter()
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
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: more}}\nspec:\n  hosts: [{USER}]\n  resolution: STATIC\n  ports: [{{number: 80, name: tcp}}, {{number: 81, name: grpc}}]\n  endpoints: [{{address: 10.0.0.9}}]\n---\n"
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
