//! Whole texts of every shape: lists, several problems at once, large inputs, and random damage that must never panic.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;

#[test]
fn every_problem_of_every_document_is_reported() {
    let text = ISSUE
        .replace("weight: 90", "weight: -90")
        .replace("interval: 30s", "interval: 30")
        .replace("subset: v2\n      weight: 100", "subsett: v2\n      weight: 100");
    let found = refused(&text);
    assert_eq!(
        found,
        [
            "a.yaml:16: VirtualService/user-service: spec.http[0].route[0].destination.subsett: unknown field, did you mean `subset`?",
            "a.yaml:22: VirtualService/user-service: spec.http[1].route[0].weight: -90 is out of range: 0 to 2147483647",
            "a.yaml:45: DestinationRule/user-service: spec.trafficPolicy.outlierDetection.interval: 30 has no unit: a duration is written like 2s or 500ms",
        ]
    );
}

#[test]
fn a_broken_document_does_not_hide_the_others_problems() {
    let text = format!(
        "a: [1\n---\n{}",
        ISSUE.replace("- user-service\n  http", "- '*'\n  http")
    );
    let found = refused(&text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("a.yaml:") && found[0].contains("not YAML"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("a.yaml:9: VirtualService/user-service: spec.hosts[0]: "),
        "{found:?}"
    );
}

#[test]
fn lists_are_taken_apart() {
    let list = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata: {name: a}\n  spec: {clusterIP: None}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: b}\n  spec: {clusterIP: None, clusterIp: None}\n";
    assert_refused(list, 12, "spec.clusterIp", "did you mean `clusterIP`?");
    let found = refused(list);
    assert!(found[0].starts_with("a.yaml:12: Service/b: "), "{found:?}");
    let documents = parsed(&list.replace(", clusterIp: None", ""));
    let origins: Vec<_> = documents
        .iter()
        .map(|document| (document.key.name.as_str(), document.origin.line))
        .collect();
    assert_eq!(origins, [("a", 5), ("b", 9)]);
    let typed = "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n  spec: {clusterIP: None}\n";
    assert_eq!(one(typed).key.to_string(), "Service/default/a");
    assert!(parsed("apiVersion: v1\nkind: List\nitems: []\n").is_empty());
    assert_refused("apiVersion: v1\nkind: List\nitems: x\n", 3, "items", "must be a list");
    assert_refused("apiVersion: v1\nkind: List\nitem: []\n", 3, "item", "unknown field");
    assert_refused(
        "kind: List\nitems:\n- kind: List\n  items: []\n",
        3,
        "items[0]",
        "inside a list",
    );
    assert_refused(
        "apiVersion: v1\nkind: OddList\nmetadata: {name: a}\nspec: {}\n",
        2,
        "kind",
        "not a kind",
    );
}

#[test]
fn json_is_taken_like_yaml() {
    let json =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80,"tragetPort":1}]}}"#;
    assert_refused(json, 1, "spec.ports[0].tragetPort", "did you mean `targetPort`?");
    assert_eq!(one(&json.replace("tragetPort", "targetPort")).key.name, "a");
    let pretty = serde_json::to_string_pretty(&one(&json.replace("tragetPort", "targetPort")).object).unwrap();
    assert_eq!(one(&pretty).key.name, "a");
}

#[test]
fn one_key_twice_in_one_text_is_refused() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: None}\n";
    assert_refused(
        &format!("{service}---\n{service}"),
        6,
        "metadata.name",
        "is there already, on line 1",
    );
    let elsewhere = service.replace("{name: a}", "{name: a, namespace: b}");
    assert_eq!(parsed(&format!("{service}---\n{elsewhere}")).len(), 2);
}

#[test]
fn duplicate_keys_and_anchors_keep_their_lines() {
    let text = ISSUE.replace("      weight: 10\n", "      weight: 10\n      weight: 11\n");
    assert_refused(&text, 27, "", "the key \"weight\" is there already, on line 26");
    assert!(refused(&text)[0].starts_with("a.yaml:27: VirtualService/user-service: "));
    let anchored = ISSUE
        .replace(
            "    - destination:\n        host: user-service\n        subset: v1\n",
            "    - destination: &to\n        host: user-service\n        subset: v1\n",
        )
        .replace(
            "    - destination:\n        host: user-service\n        subset: v2\n      weight: 10\n",
            "    - destination:\n        <<: *to\n        subset: v2\n      weight: 10\n",
        );
    assert_ne!(anchored, ISSUE);
    let (plain, anchored) = (parsed(ISSUE), parsed(&anchored));
    assert_eq!(plain[0].spec, anchored[0].spec);
}

#[test]
fn a_large_text_is_read_in_a_moment() {
    let mut text = String::new();
    for n in 0..4500 {
        text.push_str(&ISSUE.replace("name: user-service", &format!("name: user-service-{n}")));
        text.push_str("---\n");
    }
    assert!(text.len() > 4 << 20);
    let start = Instant::now();
    assert_eq!(parsed(&text).len(), 9000);
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn long_values_and_names_make_short_messages() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {long}}}\nspec: {{clusterIP: None}}\n"),
        format!("apiVersion: v1\nkind: {long}\nmetadata: {{name: a}}\nspec: {{}}\n"),
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{\"{long}\": 1, clusterIP: None}}\n"),
        ISSUE.replace("exact: v2", &format!("regex: '{long}'")),
        ISSUE.replace("LEAST_REQUEST", &long),
        long.clone(),
        format!("{long}: 1\n"),
    ] {
        for problem in refused(&text) {
            assert!(problem.len() < 2000, "{} bytes", problem.len());
        }
    }
}

#[test]
fn many_problems_are_cut() {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{clusterIP: None, ports: [{}]}}\n",
        "x,".repeat(100_000)
    );
    assert!(refused(&text).len() <= 1000);
    let documents = "a: 1\n---\n".repeat(20_000);
    assert_eq!(refused(&documents).len(), 1000);
    assert!(refused(&"a: [\n---\n".repeat(20_000)).len() <= 1000);
}

/// Every document that the readers know, to be damaged.
const SEEDS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: user-service, labels: {app: x}}
spec:
  selector: &labels {app: user}
  clusterIPs: [10.0.0.1]
  ports:
  - {name: http, port: 80, targetPort: 8080}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: user-1}
spec:
  address: 127.0.0.1
  ports: {http: 8080}
  labels: {app: user, version: v1}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: user}
spec:
  hosts: [user.mesh]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: 1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: more}
spec:
  hosts: [user]
  http:
  - match: [{uri: {regex: '/a[0-9]+'}, queryParams: {x: {}}, headers: {x: {exact: \"a\\tb\"}}}]
    route: [{destination: {host: user, port: {number: 80}}, headers: {request: {set: {a: 'b%%'}}}}]
    retries: {attempts: 2, retryOn: '5xx,503', perTryTimeout: 1.5s}
    timeout: 1h10m
";

/// Pieces that meet the edges of YAML and of the readers.
const PIECES: [&str; 40] = [
    "\n",
    "\t",
    "---\n",
    "...\n",
    "&a ",
    "*a",
    "<<: *a",
    "!!str ",
    "!x ",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "? ",
    "| ",
    "> ",
    "|\n",
    "'",
    "\"",
    "\\",
    "#",
    "%YAML 1.2\n",
    "%",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "é",
    "\u{1F600}",
    "-1",
    "1e999",
    "0x",
    "null",
    "true",
    "9999999999999999999999",
    "''",
    "\r",
    "kind: List\nitems:\n",
    "  ",
];

fn damage(text: &str, random: &mut StdRng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=chars.len());
        let to = (at + random.random_range(0..12)).min(chars.len());
        match random.random_range(0..4) {
            0 => drop(chars.drain(at..to)),
            1 => drop(chars.splice(at..at, PIECES[random.random_range(0..PIECES.len())].chars())),
            2 => {
                let from = random.random_range(0..chars.len());
                let until = (from + random.random_range(0..60)).min(chars.len());
                let copy: Vec<char> = chars[from..until].to_vec();
                drop(chars.splice(at..to, copy));
            }
            _ => {
                let byte = (random.next_u32() % 128) as u8;
                drop(chars.splice(at..to, [char::from(byte)]));
            }
        }
        if chars.is_empty() {
            chars.push('a');
        }
    }
    chars.into_iter().collect()
}

/// Rounds of damage; what is still taken must come back from the store the same.
pub(crate) fn damage_and_read(seed: u64, rounds: usize) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut taken = 0;
    for _ in 0..rounds {
        let text = damage(if random.random() { SEEDS } else { ISSUE }, &mut random);
        match parse("a.yaml", &text, "default") {
            Ok(documents) => {
                for document in documents {
                    taken += 1;
                    let back = from_stored(&document.object).unwrap();
                    assert_eq!((&back.key, &back.spec), (&document.key, &document.spec), "{text}");
                }
            }
            Err(problems) => {
                assert!(!problems.is_empty(), "{text}");
                let last = text.lines().count() as u32
                    + text.matches(['\r', '\u{85}', '\u{2028}', '\u{2029}']).count() as u32
                    + 1;
                for problem in problems {
                    assert!(
                        !problem.reason.is_empty() && !problem.to_string().contains('\n'),
                        "{problem}\n{text}"
                    );
                    assert!((1..=last).contains(&problem.line), "{problem}\n{text}");
                }
            }
        }
    }
    taken
}

#[test]
fn random_damage_never_panics_and_always_has_a_line() {
    assert!(damage_and_read(7, 3000) > 100);
}

fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

fn rules(hosts: usize, http: &str) -> String {
    let hosts = many(hosts, |n| format!("h{n}.mesh"));
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [{hosts}]\n  http: [{http}]\n"
    )
}

const ROUTE: &str = "route: [{destination: {host: a}}]";

#[test]
fn a_virtual_service_that_would_make_too_much_of_every_host_is_refused() {
    let plain = |count| many(count, |_| format!("{{{ROUTE}}}"));
    one(&rules(100, &plain(1_000)));
    assert_refused(
        &rules(1_000, &plain(1_000)),
        5,
        "spec.hosts",
        "1000 hosts times 1000 matches and destinations are 1000000, more than 100000: split it",
    );
    let matched = many(100, |n| format!("{{headers: {{x: {{exact: '{n}'}}}}}}"));
    assert_refused(
        &rules(1_000, &format!("{{match: [{matched}], {ROUTE}}}")),
        5,
        "spec.hosts",
        "1000 hosts times 101 matches",
    );
    let long = format!(
        "{{headers: {{request: {{set: {{x: {}}}}}}}, {ROUTE}}}",
        "y".repeat(100_000)
    );
    one(&rules(10, &long));
    assert_refused(&rules(1_000, &long), 5, "spec.hosts", "more than 32 MiB");
}

#[test]
fn regexes_are_bounded_in_number_length_and_size_before_they_are_compiled() {
    let regexes = |count: usize, pattern: &str| {
        let items = many(count, |n| format!("{{headers: {{x{n}: {{regex: '{pattern}'}}}}}}"));
        rules(1, &format!("{{match: [{items}], {ROUTE}}}"))
    };
    one(&regexes(1_000, "v[0-9]+"));
    one(&regexes(10, "[a-z]{0,900}"));
    assert_refused(&regexes(1_001, "a"), 6, "spec.http", "1001 regexes, more than 1000");
    assert_refused(
        &regexes(100, &"a".repeat(1_000)),
        6,
        "spec.http",
        "100000 bytes of regexes, more than 65536",
    );
    assert_refused(
        &regexes(200, "[a-z]{0,900}"),
        6,
        "spec.http",
        "more than 8 MiB in every proxy",
    );
}

#[test]
fn a_service_entry_that_would_make_too_much_of_every_host_is_refused() {
    let entry = |hosts: usize, ports: usize, endpoints: usize| {
        let hosts = many(hosts, |n| format!("h{n}.mesh"));
        let ports = many(ports, |n| format!("{{number: {}, name: p{n}}}", n + 1));
        let endpoints = many(endpoints, |n| format!("{{address: 10.0.{}.{}}}", n / 256, n % 256));
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec:\n  hosts: [{hosts}]\n  ports: [{ports}]\n  endpoints: [{endpoints}]\n  resolution: STATIC\n"
        )
    };
    one(&entry(2, 10, 5_000));
    assert_refused(
        &entry(500, 500, 200),
        5,
        "spec.hosts",
        "500 hosts times 500 ports times 200 endpoints are 50000000, more than 100000",
    );
    assert_refused(&entry(400, 400, 0), 5, "spec.hosts", "400 hosts times 400 ports");
}

#[test]
fn a_field_that_is_one_level_too_high_is_told_where_it_belongs() {
    let rule = |part: &str| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: n}}, spec: {{hosts: [n], http: [{{{part}}}]}}}}"
        )
    };
    let route = "route: [{destination: {host: n}}]";
    for (text, field, place) in [
        (
            rule(&format!("match: [{{prefix: /}}], {route}")),
            "spec.http[0].match[0].prefix",
            "`uri`",
        ),
        (
            rule("route: [{host: n, destination: {host: n}}]"),
            "spec.http[0].route[0].host",
            "`destination`",
        ),
        (
            rule(&format!("attempts: 2, {route}")),
            "spec.http[0].attempts",
            "`retries`",
        ),
        (
            rule(&format!("headers: {{set: {{a: b}}}}, {route}")),
            "spec.http[0].headers.set",
            "`request` or `response`",
        ),
    ] {
        assert_refused(
            &text,
            1,
            field,
            &format!("unknown field here, it belongs under {place}"),
        );
    }
}

#[test]
fn of_a_text_with_any_number_of_slips_the_first_few_hundred_are_looked_at() {
    let keys: String = (0..3000).map(|n| format!("k{n}: 1\n")).collect();
    assert_eq!(refused(&format!("kind: List\n{keys}")).len(), 200);
    assert_eq!(refused(&keys).len(), 200);
    // Each after the first is one too many.
    assert_eq!(refused(&"a: 1\n".repeat(3000)).len(), 100);
}
