//! Test files, run: what passes, what fails with which difference and why, what cannot be run.

use std::fs;

use tempfile::TempDir;

use super::*;

const RULES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - name: canary
    match: [{headers: {version: {exact: v2}}}]
    route: [{destination: {host: user, subset: v2}}]
  - name: split
    match: [{uri: {prefix: /split}}]
    timeout: 1.5s
    route:
    - {destination: {host: user, subset: v1}, weight: 90}
    - {destination: {host: user, subset: v2}, weight: 10}
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: user, subset: v1}}]
";

const SUBSETS: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: user, namespace: shop}
spec:
  host: user
  subsets: [{name: v1, labels: {version: v1}}]
";

/// Lines and counts of a test file beside `rules.yaml`.
fn tested(rules: &str, file: &str) -> Result<(String, Tally), String> {
    let folder = TempDir::new().expect("a temporary folder");
    fs::write(folder.path().join("rules.yaml"), rules).expect("written");
    let path = folder.path().join("a.test.yaml");
    fs::write(&path, file).expect("written");
    let (lines, tally) = test(&path)?;
    Ok((lines.join("\n"), tally))
}

fn cases(cases: &str) -> String {
    format!("config: [rules.yaml]\nnamespace: shop\ncases:\n{cases}")
}

#[test]
fn only_what_is_written_is_compared() {
    let file = cases(
        "- name: header
  request: {url: 'http://user/x', headers: {version: v2}}
  expect: {rule: canary, virtualService: user, destination: {subset: v2}, timeout: none, outcome: route, path: /x}
- name: split in any order
  request: {url: 'http://user.shop/split?a=1', from: {namespace: web}}
  expect:
    destinations: [{host: user}, {host: user, subset: v1, weight: 90, port: 80}]
    timeout: 1500ms
    path: /split?a=1
    authority: user.shop
- name: nobody knows it
  request: {url: 'http://nobody/'}
  expect: {status: 404, flag: NR}
",
    );
    let (lines, tally) = tested(RULES, &file).expect("runs");
    assert_eq!((tally.passed, tally.failed), (3, 0), "{lines}");
    assert!(
        lines.contains("note: assumed: a service user.shop.svc.cluster.local with port 80"),
        "{lines}"
    );
    assert!(
        lines.contains("note: assumed: subsets v1, v2 of user.shop.svc.cluster.local"),
        "{lines}"
    );
}

#[test]
fn a_failure_shows_the_difference_and_why() {
    let file = cases(
        "- name: not me
  request: {url: 'http://user/x', headers: {version: v1}}
  expect: {rule: canary, destination: {host: user, subset: v2}, status: 200}
",
    );
    let (lines, tally) = tested(RULES, &file).expect("runs");
    assert_eq!((tally.passed, tally.failed), (0, 1));
    for part in [
        "FAIL  not me  (",
        "a.test.yaml:4)",
        "          rule\n            expected  canary\n            actual    user.shop/2",
        "expected  user.shop.svc.cluster.local subset v2\n            actual    user.shop.svc.cluster.local:80 subset v1 weight 100",
        "expected  200\n            actual    none: an endpoint answers",
        "why: not canary (http[0] of shop/user): headers.version: wanted exact \"v2\", the request has \"v1\"",
        "why: user.shop/2 (http[2] of shop/user) decides: match[0]",
    ] {
        assert!(lines.contains(part), "{part}\n{lines}");
    }
}

#[test]
fn a_subset_that_the_destination_rule_lacks_is_no_destination() {
    let rules = format!("{RULES}---\n{SUBSETS}");
    let case = |expect: &str| {
        cases(&format!(
            "- name: canary\n  request: {{url: 'http://user/', headers: {{version: v2}}}}\n  expect: {expect}\n"
        ))
    };
    let (lines, tally) = tested(&rules, &case("{destination: {subset: v2}}")).expect("runs");
    assert_eq!(tally.failed, 1, "{lines}");
    let why = "503 NC: no DestinationRule in force for this client (shop/user) defines subset v2 of user.shop.svc.cluster.local";
    assert!(lines.contains(why), "{lines}");
    let (lines, tally) = tested(&rules, &case("{destination: {subset: v2}, status: 503, flag: NC}")).expect("runs");
    assert_eq!(tally.passed, 1, "{lines}");
}

#[test]
fn strict_assumes_nothing() {
    let file = cases(
        "- name: a\n  request: {url: 'http://user/'}\n  expect: {rule: user.shop/2, destination: {host: user}}\n",
    );
    let (_, tally) = tested(RULES, &file).expect("runs");
    assert_eq!(tally.passed, 1);
    let (lines, tally) = tested(RULES, &format!("strict: true\n{file}")).expect("runs");
    assert_eq!(tally.failed, 1, "{lines}");
    assert!(lines.contains("why: 503 NC: "), "{lines}");
}

#[test]
fn what_cannot_be_run_is_told_by_file_and_line() {
    let good = "- name: a\n  request: {url: 'http://user/'}\n  expect: {rule: x}\n";
    for (rules, file, said) in [
        (
            RULES,
            cases("- name: a\n  request: {url: u}\n  expect: {rul: x}\n"),
            "a.test.yaml:6: unknown field `rul`",
        ),
        (
            RULES,
            cases("- name: a\n  request: {url: u}\n  expect: {}\n"),
            "expect: is empty",
        ),
        (
            RULES,
            cases("- name: a\n  request: {}\n  expect: {rule: x}\n"),
            "a.test.yaml:5: missing field `url`",
        ),
        (
            RULES,
            cases("- name: a\n  request: {url: 'ftp://u'}\n  expect: {rule: x}\n"),
            "case \"a\": url: \"ftp\" is none of",
        ),
        (
            RULES,
            cases("- name: a\n  request: {url: u}\n  expect: {timeout: soon}\n"),
            "expect.timeout",
        ),
        (RULES, "cases: []\nconfig: [rules.yaml]".to_owned(), "cases: is empty"),
        (RULES, cases(good).replace("rules.yaml", "gone.yaml"), "gone.yaml"),
        ("kind: [", cases(good), "rules.yaml:1"),
        (
            &RULES.replace("hosts", "hots"),
            cases(good),
            "rules.yaml:5: VirtualService/user: spec.hots",
        ),
        (
            &format!("{RULES}---\n{SUBSETS}---\n{SUBSETS}"),
            cases(good),
            "DestinationRule",
        ),
    ] {
        let refused = tested(rules, &file).map(|(lines, _)| lines).expect_err(said);
        assert!(refused.contains(said), "{said}\n{refused}");
    }
}

#[test]
fn what_is_expected_of_several_is_found_in_whatever_order() {
    let meets = |wanted: &&str, actual: &&str| actual.starts_with(*wanted);
    assert!(expect::pairs(&["", "a", "ab"], &["abc", "ax", "x"], meets));
    assert!(!expect::pairs(&["a", "a"], &["a", "b"], meets));
    assert!(!expect::pairs(&["a"], &["a", "a"], meets));
}

#[test]
fn answers_of_a_rule_and_mirrors_are_compared_too() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - match: [{uri: {exact: /closed}}]
    directResponse: {status: 410, body: {string: gone}}
  - route: [{destination: {host: user}}]
    mirror: {host: copy}
    mirrorPercentage: {value: 12.5}
    rewrite: {authority: users.internal}
";
    let file = cases(
        "- name: closed
  request: {url: 'http://user/closed'}
  expect: {status: 410, body: gone, outcome: directResponse}
- name: mirrored
  request: {url: 'http://user/', method: POST}
  expect: {mirrors: [{host: copy, percentage: 12.5}], authority: users.internal}
- name: mirrored otherwise
  request: {url: 'http://user/'}
  expect: {mirrors: [{host: copy, percentage: 12.6}], authority: user, body: gone}
",
    );
    let (lines, tally) = tested(rules, &file).expect("runs");
    assert_eq!((tally.passed, tally.failed), (2, 1), "{lines}");
    for field in ["          mirrors\n", "          authority\n", "          body\n"] {
        assert!(lines.contains(field), "{field}{lines}");
    }
}

#[test]
fn aborts_of_every_request_and_preflights_are_answers_and_other_faults_are_left_out() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - match: [{uri: {prefix: /all}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 500}}
    route: [{destination: {host: user}}]
  - match: [{uri: {prefix: /grpc}}]
    fault: {abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}}
    route: [{destination: {host: user}}]
  - fault: {abort: {percentage: {value: 99.9}, httpStatus: 500}, delay: {percentage: {value: 100}, fixedDelay: 2s}}
    corsPolicy: {allowOrigins: [{exact: 'https://shop'}]}
    route: [{destination: {host: user}}]
";
    let file = cases(
        "- name: all
  request: {url: 'http://user/all'}
  expect: {status: 500, flag: FI, outcome: faultAbort, destinations: []}
- name: grpc
  request: {url: 'http://user/grpc', method: POST, headers: {content-type: application/grpc}}
  expect: {status: 200, grpcStatus: 14, flag: FI}
- name: preflight
  request: {url: 'http://user/', method: OPTIONS, headers: {origin: 'https://shop', access-control-request-method: PUT}}
  expect: {status: 200, outcome: corsPreflight}
- name: some
  request: {url: 'http://user/'}
  expect: {destination: {host: user}, outcome: route}
- name: nobody is reached
  request: {url: 'http://user/all'}
  expect: {destination: {host: user}}
- name: not all
  request: {url: 'http://user/'}
  expect: {status: 500, grpcStatus: 14}
",
    );
    let (lines, tally) = tested(rules, &file).expect("runs");
    assert_eq!((tally.passed, tally.failed), (4, 2), "{lines}");
    for part in [
        "FAIL  nobody is reached",
        "why: 500 FI: fault abort",
        "FAIL  not all",
        "expected  14\n            actual    none: an endpoint answers",
    ] {
        assert!(lines.contains(part), "{part}\n{lines}");
    }
}

#[test]
fn a_delegated_rule_is_known_by_its_root_and_by_where_it_is_written() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - match: [{uri: {prefix: /page}}]
    delegate: {name: page, namespace: pages}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: page, namespace: pages}
spec:
  http:
  - route: [{destination: {host: user.shop.svc.cluster.local}}]
";
    let case = |name: &str| {
        let expect = format!("{{virtualService: {name}}}");
        cases(&format!(
            "- name: a\n  request: {{url: 'http://user/page'}}\n  expect: {expect}\n"
        ))
    };
    for name in ["user", "shop/user", "pages/page"] {
        let (lines, tally) = tested(rules, &case(name)).expect("runs");
        assert_eq!(tally.passed, 1, "{name}: {lines}");
    }
    let (lines, tally) = tested(rules, &case("page")).expect("runs");
    assert_eq!(tally.failed, 1, "{lines}");
    for part in [
        "expected  shop/page\n            actual    shop/user, rule written in pages/page",
        "(http[0] of pages/page) decides, shop/user delegates to it",
    ] {
        assert!(lines.contains(part), "{part}\n{lines}");
    }
}

#[test]
fn a_file_that_cannot_be_read_keeps_no_other_from_its_tests_and_its_place_is_told_once() {
    let folder = TempDir::new().expect("a temporary folder");
    let good = cases("- name: good\n  request: {url: 'http://user/'}\n  expect: {rule: user.shop/2}\n");
    let bad = cases("- name: a\n  request: {url: u}\n  expect: {rul: x}\n");
    for (name, text) in [("rules.yaml", RULES), ("b.test.yaml", &bad), ("c.test.yaml", &good)] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let gone = folder.path().join("gone.test.yaml");
    let options = Options {
        files: vec![gone, folder.path().to_owned()],
    };
    let shown = folder.path().join("shown");
    let mut output = Output::to(fs::File::create(&shown).expect("created"));
    let Err(CliError::CannotRun(reason)) = run(&options, &mut output) else {
        panic!("two files cannot be run");
    };
    let shown = fs::read_to_string(shown).expect("written");
    assert!(shown.contains("PASS  good"), "{shown}");
    assert!(
        shown.ends_with("1 passed, 0 failed, 2 files could not be run\n"),
        "{shown}"
    );
    assert!(reason.contains("gone.test.yaml"), "{reason}");
    assert!(reason.contains("b.test.yaml:6: unknown field `rul`"), "{reason}");
    assert!(!reason.contains("at line") && !reason.contains("column"), "{reason}");
}

#[test]
fn a_host_that_only_redirects_is_answered_as_in_the_mesh_assumed_or_not() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: old, namespace: shop}
spec:
  hosts: [old.example.com]
  http:
  - redirect: {authority: new.example.com}
";
    let file = cases(
        "- name: moved
  request: {url: 'http://old.example.com/a'}
  expect: {status: 301, location: 'http://new.example.com/a', outcome: redirect}
",
    );
    for file in [format!("strict: true\n{file}"), file] {
        let (lines, tally) = tested(rules, &file).expect("runs");
        assert_eq!(tally.passed, 1, "{lines}");
    }
}
