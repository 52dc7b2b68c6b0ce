//! What connections get to what no service has, and requests whose URL says no port.

use super::*;

#[test]
fn a_connection_to_nobody_is_passed_through_or_reset_or_goes_to_who_has_the_port_at_every_address() {
    let entry = |name: &str, of: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  hosts: [{name}.example.com]\n  {of}\n"
        )
    };
    let closed = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all, namespace: closed}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let own = entry(
        "own",
        "resolution: STATIC\n  addresses: [10.9.0.1]\n  endpoints: [{address: 10.0.0.9}]\n  ports: [{number: 7001, name: tcp, protocol: TCP}]",
    );
    let any = entry(
        "any",
        "resolution: NONE\n  ports: [{number: 7000, name: tcp, protocol: TCP}]",
    );
    let world = world(&format!("{own}{any}{closed}"));
    let ask = |url: &str, namespace: &str| {
        ask(
            &world,
            &format!(r#"{{"url": "{url}", "fromNamespace": "{namespace}"}}"#),
        )
    };
    for url in ["tcp://10.9.0.2:7000", "tcp://10.9.0.1:7000", "tls://10.9.0.2:7000"] {
        let answer = ask(url, "shop");
        assert_eq!(
            (answer.host.as_str(), answer.port),
            ("any.example.com", Some(7000)),
            "{url}"
        );
        assert!(
            answer.reply.is_none() && !answer.destinations.is_empty(),
            "{url}: {answer:?}"
        );
        assert!(
            answer.notes.iter().any(|note| note.contains("at every address")),
            "{url}: {answer:?}"
        );
    }
    assert_eq!(ask("tcp://10.9.0.1:7001", "shop").host, "own.example.com");
    let nobody = "no service has the address 10.9.0.2";
    for url in ["tcp://10.9.0.2:7001", "tls://10.9.0.2:7001"] {
        let answer = ask(url, "shop");
        assert_eq!((answer.outcome, answer.reply), (Outcome::Passthrough, None), "{url}");
        assert_eq!(answer.notes, [nobody], "{url}");
    }
    let reset = ask("tcp://10.9.0.2:7001", "closed").reply.expect("a reset");
    assert_eq!((reset.status, reset.reason), (0, format!("{nobody} (REGISTRY_ONLY)")));
}

#[test]
fn what_no_tls_rule_is_for_goes_where_it_is_headed_unless_the_rules_are_for_others() {
    let documents = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: tz, namespace: shop}
spec:
  hosts: ['*.tz.example.com']
  resolution: NONE
  ports: [{number: 443, name: tls, protocol: TLS}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tz, namespace: shop}
spec:
  hosts: ['*.tz.example.com']
  tls:
  - match: [{sniHosts: [a.tz.example.com], port: 443, sourceLabels: {app: web}}]
    route: [{destination: {host: '*.tz.example.com'}}]
";
    let world = world(documents);
    let ask = |name: &str, app: &str| {
        let asked = format!(
            r#"{{"url": "tls://{name}.tz.example.com:443", "fromNamespace": "shop", "fromLabels": {{"app": "{app}"}}}}"#
        );
        ask(&world, &asked).outcome
    };
    assert_eq!(ask("a", "web"), Outcome::Route);
    assert_eq!(ask("c", "web"), Outcome::Passthrough);
    assert_eq!(ask("c", "db"), Outcome::DefaultRoute);
}

#[test]
fn a_url_without_a_port_is_told_which_is_taken_unless_it_is_80() {
    let ports = |number: u16| format!("{{name: http, port: {number}, targetPort: 8080}}");
    let world = world(&format!(
        "{}{}",
        service("user", &ports(80), &[("10.0.0.1", "v1")]),
        service("odd", &ports(5000), &[("10.0.0.2", "v1")])
    ));
    let noted = |url: &str| {
        let answer = ask(&world, &format!(r#"{{"url": "{url}", "fromNamespace": "shop"}}"#));
        answer
            .notes
            .iter()
            .any(|note| note.contains("says no port: 5000, the first HTTP port"))
    };
    assert_eq!(
        ["http://odd/", "http://odd:5000/", "http://user/"].map(noted),
        [true, false, false]
    );
}

#[test]
fn a_rule_for_clients_of_a_subnet_is_for_who_says_an_address_of_it_and_the_others_are_told() {
    let rules = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: shop}
spec:
  hosts: [db]
  tcp:
  - match: [{sourceSubnet: 10.3.0.0/16}]
    route: [{destination: {host: other}}]
";
    let port = "{name: tcp, port: 5432}";
    let db = service("db", port, &[("10.0.0.1", "v1")]);
    let other = service("other", port, &[("10.0.0.2", "v1")]);
    let world = world(&format!("{db}{other}{rules}"));
    let of = |address: &str| {
        let json = format!(r#"{{"url": "tcp://db:5432", "fromNamespace": "shop"{address}}}"#);
        let answer = ask(&world, &json);
        let depends = answer.notes.iter().any(|note| note.contains("--from-address"));
        let host = answer.destinations[0].host.clone();
        (host.replace(".shop.svc.cluster.local", ""), depends)
    };
    let known = |address: &str| of(&format!(r#", "fromAddress": "{address}""#));
    assert_eq!(known("10.3.0.9"), ("other".to_owned(), false));
    assert_eq!(known("10.4.0.9"), ("db".to_owned(), false));
    assert_eq!(of(""), ("db".to_owned(), true));
}

#[test]
fn a_connection_meets_what_its_port_is_declared_to_speak_and_at_a_port_of_http_gets_400() {
    let rules = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: mix, namespace: shop}
spec:
  hosts: [mix]
  tls:
  - match: [{sniHosts: [mix]}]
    route: [{destination: {host: secure, port: {number: 443}}}]
  tcp:
  - route: [{destination: {host: plain, port: {number: 9000}}}]
";
    let ports = "{name: http, port: 8080}, {name: tcp, port: 9000}, {name: tls, port: 443}, {name: odd, port: 7000}";
    let world = world(&format!(
        "{}{}{}{rules}",
        service("mix", ports, &[("10.0.0.1", "v1")]),
        service("plain", "{name: tcp, port: 9000}", &[("10.0.0.2", "v1")]),
        service("secure", "{name: tls, port: 443}", &[("10.0.0.3", "v1")]),
    ));
    let answer = |url: &str| ask(&world, &format!(r#"{{"url": "{url}", "fromNamespace": "shop"}}"#));
    let met = |url: &str| answer(url).rule.map(|rule| rule.place);
    for (url, rule) in [
        ("tcp://mix:9000", Some("tcp[0]")),
        // The client speaks TLS, the port does not: nobody looks for a name.
        ("tls://mix:9000", Some("tcp[0]")),
        ("tls://mix:443", Some("tls[0]")),
        ("tls://mix:7000", Some("tls[0]")),
        ("tcp://mix:7000", Some("tcp[0]")),
        ("tcp://mix:443", None),
    ] {
        assert_eq!(met(url).as_deref(), rule, "{url}");
    }
    for url in ["tcp://mix:8080", "tls://mix:8080"] {
        let Answer {
            outcome, reply, rule, ..
        } = answer(url);
        let reply = reply.expect("a reply");
        assert_eq!(
            (outcome, reply.status, reply.flags.as_str(), rule),
            (Outcome::LocalReply, 400, "DPE", None)
        );
        assert_eq!(
            reply.reason,
            "port 8080 of mix.shop.svc.cluster.local speaks HTTP: the proxy reads requests there, and this is none"
        );
    }
}

#[test]
fn a_request_for_no_http_port_of_a_known_host_is_told_what_becomes_of_it_on_a_redirected_connection() {
    let closed = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all, namespace: closed}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let entry = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: shop}
spec:
  hosts: [db.ext]
  addresses: [10.9.0.1]
  resolution: STATIC
  ports: [{number: 9000, name: tcp, protocol: TCP}]
  endpoints: [{address: 10.0.0.9}]
";
    let world = world(&format!(
        "{}{entry}{closed}",
        service("user", "{name: tcp, port: 9000}", &[("10.0.0.1", "v1")])
    ));
    let notes = |url: &str, namespace: &str| {
        let answer = ask(
            &world,
            &format!(r#"{{"url": "{url}", "fromNamespace": "{namespace}"}}"#),
        );
        assert_eq!(answer.reply.expect("a reply").status, 404);
        answer.notes
    };
    let untouched = ["on a redirected connection it goes to its original destination, untouched (ALLOW_ANY)"];
    let blocked = ["on a redirected connection it gets 502 (REGISTRY_ONLY)"];
    for url in [
        "http://user.shop/",
        "http://user.shop:1234/",
        "http://user.shop:9000/",
        "http://db.ext:1234/",
        "http://nobody.ext/",
    ] {
        assert_eq!(notes(url, "shop"), untouched, "{url}");
        assert_eq!(notes(url, "closed"), blocked, "{url}");
    }
    // Who has an address has its bytes.
    let bytes = "on a redirected connection to its address it is not read as a request: its bytes go where those of tcp://db.ext:9000 go";
    for namespace in ["shop", "closed"] {
        assert_eq!(notes("http://db.ext:9000/", namespace), [bytes]);
    }
}
