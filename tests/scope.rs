//! Which VirtualService is in force for which host and client: two sidecars of two namespaces before the same services.

use tsunagi_tests::{ControlPlane, LIMIT, Reply, Sidecar, SidecarOptions, Upstream, eventually};

/// Services `one` and `two`, called `one.mesh` and `two.mesh`, and a sidecar in the namespaces `shop` and `other`.
struct World {
    control: ControlPlane,
    shop: Sidecar,
    other: Sidecar,
    _upstreams: [Upstream; 2],
}

fn entry(name: &str, upstream: &Upstream) -> String {
    let address = upstream.address;
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}.mesh]
  resolution: STATIC
  ports: [{{number: 80, name: http}}]
  endpoints: [{{address: {ip}, ports: {{http: {port}}}}}]
---
",
        ip = address.ip(),
        port = address.port(),
    )
}

fn rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// All requests go there.
fn to(service: &str) -> String {
    format!("http: [{{route: [{{destination: {{host: {service}.mesh}}}}]}}]")
}

async fn sidecar(control: &ControlPlane, namespace: &str) -> Sidecar {
    let options = SidecarOptions {
        node_id: format!("caller-{namespace}"),
        namespace: namespace.to_owned(),
        ..SidecarOptions::default()
    };
    Sidecar::start_with(control.grpc, &options).ready().await
}

impl World {
    async fn start() -> World {
        let control = ControlPlane::start();
        let upstreams = [Upstream::start("one").await, Upstream::start("two").await];
        let [one, two] = &upstreams;
        control.apply(&(entry("one", one) + &entry("two", two))).await;
        World {
            shop: sidecar(&control, "shop").await,
            other: sidecar(&control, "other").await,
            control,
            _upstreams: upstreams,
        }
    }

    /// Who answers the sidecars of `shop` and of `other`.
    async fn answers(&self, host: &str) -> [String; 2] {
        let (shop, other) = (self.shop.get(host, "/").await, self.other.get(host, "/").await);
        [said(shop), said(other)]
    }

    async fn delete(&self, name: &str, namespace: &str) {
        let arguments = ["delete", "vs", name, "-n", namespace];
        assert_eq!(self.control.cli(&arguments).await.code, 0);
    }

    async fn becomes(&self, host: &str, expected: [&str; 2]) {
        eventually("others answer", LIMIT, async || {
            (self.answers(host).await == expected).then_some(())
        })
        .await;
    }
}

fn said(reply: Reply) -> String {
    if reply.status == 200 {
        reply.text()
    } else {
        format!("{} {}", reply.status, reply.flags())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_is_in_force_for_the_namespaces_that_it_is_exported_to_and_the_clients_own_comes_first() {
    let world = World::start().await;
    assert_eq!(world.answers("one.mesh").await, ["one", "one"]);
    let exported = format!("hosts: [one.mesh], exportTo: [other], {}", to("two"));
    world.control.apply(&rule("shop", "exported", &exported)).await;
    assert_eq!(world.answers("one.mesh").await, ["one", "two"]);

    let public = format!("hosts: [one.mesh, front.example.com], {}", to("two"));
    world.control.apply(&rule("shop", "public", &public)).await;
    assert_eq!(world.answers("one.mesh").await, ["two", "two"]);
    assert_eq!(world.answers("front.example.com").await, ["two", "two"]);

    // Younger than both, but the clients' own.
    let own = format!("hosts: [one.mesh, private.example.com], exportTo: [.], {}", to("one"));
    let output = world.control.apply(&rule("other", "own", &own)).await;
    assert_eq!(world.answers("one.mesh").await, ["two", "one"]);
    assert_eq!(world.answers("private.example.com").await, ["404 NR", "one"]);
    let said =
        "VirtualService/shop/exported: spec.hosts: VirtualService/other/own comes first for clients of namespace other";
    assert!(output.stderr.contains(said), "{}", output.stderr);

    world.delete("own", "other").await;
    world.becomes("one.mesh", ["two", "two"]).await;
    world.becomes("private.example.com", ["404 NR", "404 NR"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_covers_services_and_names_that_nothing_more_specific_is_for() {
    let world = World::start().await;
    // Asked for before there is anything to say.
    assert_eq!(world.answers("a.example.com").await, ["404 NR", "404 NR"]);
    let wide = |service: &str| {
        rule(
            "shop",
            "wide",
            &format!("hosts: ['*.example.com', '*.mesh'], {}", to(service)),
        )
    };
    world.control.apply(&wide("two")).await;
    assert_eq!(world.answers("a.example.com").await, ["two", "two"]);
    assert_eq!(world.answers("one.mesh").await, ["two", "two"]);
    assert_eq!(world.answers("example.com").await, ["404 NR", "404 NR"]);

    // Who uses the wildcard is waited for, whatever names it was called by.
    world.control.apply(&wide("one")).await;
    assert_eq!(world.answers("a.example.com").await, ["one", "one"]);
    assert_eq!(world.answers("A.b.Example.com").await, ["one", "one"]);

    let narrow = format!("hosts: ['*.eu.example.com'], exportTo: [other], {}", to("two"));
    let exact = format!("hosts: [a.example.com], {}", to("two"));
    let rules = rule("shop", "narrow", &narrow) + &rule("shop", "exact", &exact);
    world.control.apply(&rules).await;
    assert_eq!(world.answers("x.eu.example.com").await, ["one", "two"]);
    world.becomes("a.example.com", ["two", "two"]).await;
    assert_eq!(world.answers("b.example.com").await, ["one", "one"]);

    world.delete("exact", "shop").await;
    world.becomes("a.example.com", ["one", "one"]).await;
    world.delete("wide", "shop").await;
    world.becomes("a.example.com", ["404 NR", "404 NR"]).await;
    world.becomes("x.eu.example.com", ["404 NR", "two"]).await;
    world.becomes("one.mesh", ["one", "one"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_under_a_wildcard_make_no_series_of_their_own() {
    let world = World::start().await;
    let wide = format!("hosts: ['*.example.com'], {}", to("one"));
    world.control.apply(&rule("shop", "wide", &wide)).await;
    for number in 0..20 {
        let host = format!("name-{number}.example.com");
        assert_eq!(said(world.shop.get(&host, "/").await), "one");
    }
    let metrics = world.shop.metrics().await;
    let requests = metrics.sum("http_requests_total", &[("destination_service", "one.mesh")]);
    assert!((requests - 20.0).abs() < 0.5, "{requests}");
    assert!(!metrics.text.contains("name-7.example.com"), "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegate_that_changes_changes_what_its_root_does() {
    let world = World::start().await;
    let root = "hosts: [front.example.com], http: [{match: [{uri: {prefix: /team}}], delegate: {name: inner, namespace: team}}, {route: [{destination: {host: one.mesh}}]}]";
    let output = world.control.apply(&rule("shop", "root", root)).await;
    assert!(
        output
            .stderr
            .contains("spec.http[0].delegate: there is no VirtualService team/inner without hosts"),
        "{}",
        output.stderr
    );
    let get = async |path: &str| said(world.shop.get("front.example.com", path).await);
    assert_eq!(get("/team/a").await, "one");

    let inner = |path: &str| {
        rule(
            "team",
            "inner",
            &format!("http: [{{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: two.mesh}}}}]}}]"),
        )
    };
    world.control.apply(&inner("/team/a")).await;
    assert_eq!(
        (get("/team/a").await, get("/team/b").await),
        ("two".into(), "one".into())
    );
    world.control.apply(&inner("/team/b")).await;
    assert_eq!(
        (get("/team/a").await, get("/team/b").await),
        ("one".into(), "two".into())
    );

    let output = world.control.apply(&inner("/elsewhere")).await;
    assert!(
        output
            .stderr
            .contains("VirtualService/team/inner: spec.http[0].match[0].uri: is not within"),
        "{}",
        output.stderr
    );
    assert_eq!(get("/team/b").await, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_for_gateways_only_changes_nothing_for_sidecars() {
    let world = World::start().await;
    let rules = |gateways: &str| {
        rule(
            "shop",
            "edge",
            &format!("hosts: [one.mesh], gateways: [{gateways}], {}", to("two")),
        )
    };
    let output = world.control.apply(&rules("edge")).await;
    assert!(
        output.stderr.contains("spec.gateways: is for gateways only"),
        "{}",
        output.stderr
    );
    assert_eq!(world.answers("one.mesh").await, ["one", "one"]);
    world.control.apply(&rules("edge, mesh")).await;
    assert_eq!(world.answers("one.mesh").await, ["two", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_service_has_is_redirected_or_answered_on_port_80() {
    let world = World::start().await;
    let moved = "hosts: [old.example.com, '*.old.example.com'], http: [{redirect: {authority: new.example.com}}]";
    let closed = "hosts: [closed.example.com], http: [{directResponse: {status: 410, body: {string: gone}}}]";
    let rules = rule("shop", "moved", moved) + &rule("shop", "closed", closed);
    world.control.apply(&rules).await;
    for host in ["old.example.com", "old.example.com:80", "a.old.example.com"] {
        let reply = world.shop.get(host, "/cart?a=b").await;
        let location = reply.headers.get("location").and_then(|value| value.to_str().ok());
        assert_eq!(
            (reply.status, location),
            (301, Some("http://new.example.com/cart?a=b")),
            "{host}"
        );
    }
    let reply = world.other.get("closed.example.com", "/").await;
    assert_eq!((reply.status, reply.text().as_str()), (410, "gone"));
}
