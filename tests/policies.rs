//! Whose DestinationRule is in force: three sidecars before one service, two of its own namespace with other labels and
//! one of another namespace. What a rule says is seen by the endpoint that it chooses, or by the limit that is reached.

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tsunagi_tests::{
    Behaviour, Connection, ControlPlane, LIMIT, Reply, Sidecar, SidecarOptions, Upstream, Version, eventually,
};

const HOST: &str = "pool.mesh";

struct World {
    control: ControlPlane,
    /// Of `shop` with `app=web`, of `shop` with `app=job`, of `other` with `app=job`.
    sidecars: [Sidecar; 3],
    upstreams: [Upstream; 2],
}

/// The service of namespace `shop`, with endpoints `one` and `two`; all requests go to its subset `chosen`.
fn service([one, two]: &[Upstream; 2]) -> String {
    let endpoint = |version: &str, upstream: &Upstream| {
        let (ip, port) = (upstream.address.ip(), upstream.address.port());
        format!("{{address: {ip}, ports: {{http: {port}, http-more: {port}}}, labels: {{version: {version}}}}}")
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: pool, namespace: shop}}
spec:
  hosts: [{HOST}]
  resolution: STATIC
  ports: [{{number: 80, name: http}}, {{number: 81, name: http-more}}]
  endpoints: [{}, {}]
---
",
        endpoint("one", one),
        endpoint("two", two)
    )
}

fn routed(rules: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: pool, namespace: shop}}\nspec: {{hosts: [{HOST}], http: [{rules}]}}\n---\n"
    )
}

fn to_subset(name: &str) -> String {
    format!("{{route: [{{destination: {{host: {HOST}, subset: {name}}}}}]}}")
}

fn policy(namespace: &str, name: &str, host: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{host: '{host}', {rest}}}\n---\n"
    )
}

/// A subset of which only this endpoint is.
fn subset(name: &str, version: &str) -> String {
    format!("{{name: {name}, labels: {{version: {version}}}}}")
}

fn choosing(version: &str) -> String {
    format!("subsets: [{}]", subset("chosen", version))
}

async fn sidecar(control: &ControlPlane, namespace: &str, app: &str) -> Sidecar {
    let options = SidecarOptions {
        node_id: format!("{app}-{namespace}"),
        namespace: namespace.to_owned(),
        args: vec!["--labels".to_owned(), format!("app={app}")],
        ..SidecarOptions::default()
    };
    Sidecar::start_with(control.grpc, &options).ready().await
}

impl World {
    async fn start(rules: &str) -> World {
        let control = ControlPlane::start();
        let upstreams = [Upstream::start("one").await, Upstream::start("two").await];
        control.apply(&(service(&upstreams) + &routed(rules))).await;
        let sidecars = [
            sidecar(&control, "shop", "web").await,
            sidecar(&control, "shop", "job").await,
            sidecar(&control, "other", "job").await,
        ];
        World {
            control,
            sidecars,
            upstreams,
        }
    }

    async fn answers_at(&self, path: &str) -> [String; 3] {
        let [web, job, other] = &self.sidecars;
        [
            said(web.get(HOST, path).await),
            said(job.get(HOST, path).await),
            said(other.get(HOST, path).await),
        ]
    }

    async fn becomes(&self, path: &str, expected: [&str; 3]) {
        let what = format!("{expected:?} answer at {path}");
        eventually(&what, LIMIT, async || {
            (self.answers_at(path).await == expected).then_some(())
        })
        .await;
    }

    async fn delete(&self, name: &str, namespace: &str) {
        let arguments = ["delete", "dr", name, "-n", namespace];
        assert_eq!(self.control.cli(&arguments).await.code, 0);
    }

    /// The destination that is explained to a client with `app=job`.
    async fn explained(&self, namespace: &str) -> Value {
        let url = format!("http://{HOST}/");
        let client = ["--from-namespace", namespace, "--from-label", "app=job"];
        let arguments = [["explain", "-o", "json"].as_slice(), &client, &[&url]].concat();
        let output = self.control.cli(&arguments).await;
        assert_eq!(output.code, 0, "{}", output.stderr);
        let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
        answer["destinations"][0].clone()
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
async fn a_rule_with_a_selector_is_for_those_workloads_of_its_namespace_and_for_nobody_else() {
    let world = World::start(&to_subset("chosen")).await;
    world.becomes("/", ["503 NC"; 3]).await;
    world
        .control
        .apply(&policy("shop", "owner", HOST, &choosing("one")))
        .await;
    world.becomes("/", ["one"; 3]).await;
    let selecting = format!("workloadSelector: {{matchLabels: {{app: job}}}}, {}", choosing("two"));
    world.control.apply(&policy("shop", "jobs", HOST, &selecting)).await;
    world.becomes("/", ["one", "two", "one"]).await;

    let explained = world.explained("shop").await;
    assert_eq!(explained["destinationRules"], json!(["shop/jobs"]), "{explained}");
    let address = world.upstreams[1].address.to_string();
    assert_eq!(explained["endpoints"][0]["address"], address, "{explained}");
    let explained = world.explained("other").await;
    assert_eq!(explained["destinationRules"], json!(["shop/owner"]), "{explained}");

    // It defines the subset no more, so there is none for those that it selects.
    let without = "workloadSelector: {matchLabels: {app: job}}";
    let output = world.control.apply(&policy("shop", "jobs", HOST, without)).await;
    assert!(output.stderr.contains("with labels app=job"), "{}", output.stderr);
    world.becomes("/", ["one", "503 NC", "one"]).await;
    assert_eq!(world.explained("shop").await["reply"]["flags"], "NC");
    world.delete("jobs", "shop").await;
    world.becomes("/", ["one"; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_of_the_clients_namespace_hides_the_owners_and_an_owner_may_keep_its_rule_to_itself() {
    let world = World::start(&to_subset("chosen")).await;
    world
        .control
        .apply(&policy("shop", "owner", HOST, &choosing("one")))
        .await;
    world
        .control
        .apply(&policy("other", "client", HOST, &choosing("two")))
        .await;
    world.becomes("/", ["one", "one", "two"]).await;
    world
        .control
        .apply(&policy(
            "other",
            "client",
            HOST,
            "trafficPolicy: {loadBalancer: {simple: RANDOM}}",
        ))
        .await;
    world.becomes("/", ["one", "one", "503 NC"]).await;
    world.delete("client", "other").await;
    world.becomes("/", ["one"; 3]).await;
    let private = format!("exportTo: [.], {}", choosing("one"));
    world.control.apply(&policy("shop", "owner", HOST, &private)).await;
    world.becomes("/", ["one", "one", "503 NC"]).await;
    // What the root namespace says is for whoever has nothing else.
    let root = policy("tsunagi-system", "root", "*", &choosing("two"));
    world.control.apply(&root).await;
    world.becomes("/", ["one", "one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_one_host_are_merged_and_a_more_specific_host_goes_before_a_wildcard() {
    let rules = format!(
        "{{match: [{{uri: {{prefix: /a}}}}], {}, {}",
        to_subset("a").trim_start_matches('{'),
        to_subset("b")
    );
    let world = World::start(&rules).await;
    let with = |name: &str, host: &str, version: &str| {
        policy("shop", name, host, &format!("subsets: [{}]", subset(name, version)))
    };
    world.control.apply(&with("a", "*.mesh", "one")).await;
    world.becomes("/a", ["one"; 3]).await;
    world.becomes("/b", ["503 NC"; 3]).await;
    world.control.apply(&with("b", "*.mesh", "two")).await;
    world.becomes("/b", ["two"; 3]).await;
    assert_eq!(world.answers_at("/a").await, ["one"; 3]);
    // Nothing of the wildcard is inherited.
    let exact = policy("shop", "exact", HOST, &format!("subsets: [{}]", subset("a", "two")));
    world.control.apply(&exact).await;
    world.becomes("/a", ["two"; 3]).await;
    world.becomes("/b", ["503 NC"; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_has_the_limits_that_are_said_for_it() {
    let world = World::start(&to_subset("chosen")).await;
    let limited = format!(
        "trafficPolicy: {{connectionPool: {{http: {{http2MaxRequests: 3}}}}, portLevelSettings: [{{port: {{number: 81}}, connectionPool: {{http: {{http2MaxRequests: 1}}}}}}]}}, {}",
        choosing("one")
    );
    world.control.apply(&policy("shop", "owner", HOST, &limited)).await;
    world.becomes("/", ["one"; 3]).await;
    let (upstream, outbound) = (&world.upstreams[0], world.sidecars[0].outbound);
    upstream.set(Behaviour::Hold);
    let mut held = JoinSet::new();
    for (port, live) in [(81, 1), (80, 2), (80, 3), (80, 4)] {
        held.spawn(async move {
            let mut connection = Connection::open(outbound, Version::Http1).await;
            connection.get(&format!("{HOST}:{port}"), "/").await
        });
        eventually(&format!("{live} requests at the endpoint"), LIMIT, async || {
            (upstream.live_requests() == live).then_some(())
        })
        .await;
    }
    for port in [80, 81] {
        let reply = world.sidecars[0].get(&format!("{HOST}:{port}"), "/").await;
        assert_eq!((reply.status, reply.flags()), (503, "UO"), "port {port}");
    }
    upstream.set(Behaviour::Answer);
    for reply in held.join_all().await {
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}
