//! `tsunagi analyze`: over files without a control plane, and over what a control plane holds.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tsunagi_tests::{ControlPlane, Sidecar, SidecarOptions, binaries};

/// The service and its endpoint, as a file of a user's repository beside his Deployments.
const SERVICES: &str = "apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  selector: {app: shop}
  ports: [{name: http, port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  template:
    metadata: {labels: {app: shop, version: v1}}
";

const RULES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: shop
spec:
  hosts:
  - shop
  http:
  - match:
    - uri:
        prefix: /cart
    route:
    - destination:
        host: shop
        subset: v2
  - match:
    - uri:
        exact: /cart/items
    retries:
      attempts: 3
      retryOn: 5xx
    route:
    - destination:
        host: shop
  - route:
    - destination:
        host: shop
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

/// No control plane is anywhere near.
fn offline(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(&binaries().tsunagi);
    command
        .env("TSUNAGI_SERVER", "http://127.0.0.1:1")
        .arg("analyze")
        .args(arguments);
    let Output { status, stdout, stderr } = command.output().expect("run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn traps_in_files_are_named_by_line_with_what_to_write_instead() {
    let folder = folder(&[("rules.yaml", RULES), ("services.yaml", SERVICES)]);
    let path = folder.path().to_str().expect("UTF-8");
    let (code, shown, stderr) = offline(&["-f", path]);
    assert_eq!(code, Some(1), "{shown}{stderr}");
    for (line, words) in [
        (
            15,
            "error IST0101 VirtualService default/shop: spec.http[0].route[0].destination.subset: no DestinationRule defines the subset v2",
        ),
        (11, "info TSU-PREFIX"),
        (
            16,
            "warning IST0130 VirtualService default/shop: spec.http[1]: is never met: spec.http[0] before it",
        ),
        (21, "warning TSU-RETRY-WRITES"),
    ] {
        let expected = format!("{path}/rules.yaml:{line}: {words}");
        assert!(shown.lines().any(|it| it.starts_with(&expected)), "{expected}\n{shown}");
    }
    assert!(
        shown.contains("\n    write instead: the narrower rule before the broader one\n"),
        "{shown}"
    );
    assert!(
        shown.ends_with("\n2 documents: 1 error, 2 warnings, 1 hint\n"),
        "{shown}"
    );
}

#[test]
fn files_that_do_what_they_say_are_exit_code_0_and_as_json_an_empty_list() {
    let folder = folder(&[("services.yaml", SERVICES)]);
    let path = folder.path().to_str().expect("UTF-8");
    let (code, shown, stderr) = offline(&["-f", path, "-o", "json"]);
    assert_eq!(code, Some(0), "{shown}{stderr}");
    let value: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(value["findings"], serde_json::json!([]));
}

#[test]
fn a_document_that_would_be_refused_is_an_error_with_its_line_and_keeps_nothing_back() {
    let broken = RULES.replace("retries:", "retires:");
    let folder = folder(&[("rules.yaml", &broken), ("services.yaml", SERVICES)]);
    let path = folder.path().to_str().expect("UTF-8");
    let (code, shown, _) = offline(&["-f", path]);
    assert_eq!(code, Some(1));
    assert!(
        shown.ends_with("\n2 documents: 1 error, 0 warnings, 0 hints\n"),
        "{shown}"
    );
    let expected =
        format!("{path}/rules.yaml:19: error IST0106 VirtualService shop: spec.http[1].retires: unknown field");
    assert!(shown.lines().any(|it| it.starts_with(&expected)), "{expected}\n{shown}");
}

#[test]
fn without_files_it_needs_a_control_plane_and_says_which_one_it_asked() {
    let (code, shown, stderr) = offline(&[]);
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(stderr.contains("127.0.0.1:1"), "{stderr}");
    assert_eq!(offline(&["--with-server"]).0, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_control_plane_holds_is_analysed_alone_and_together_with_files() {
    let control = ControlPlane::start();
    let service = SERVICES.split("---").next().expect("the service");
    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], service).await.code, 0);
    let clean = control.cli(&["analyze"]).await;
    assert_eq!(clean.code, 0, "{}{}", clean.stdout, clean.stderr);

    let wrong = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: wrong}\nspec: {hosts: [shpo], http: [{route: [{destination: {host: shop}}]}]}\n";
    let files = control
        .cli_with_input(&["analyze", "--with-server", "-f", "-"], wrong)
        .await;
    assert_eq!(files.code, 1, "{}{}", files.stdout, files.stderr);
    let expected =
        "stdin:4: warning TSU-HOST VirtualService default/wrong: spec.hosts[0]: no service has the host shpo.default";
    assert!(files.stdout.contains(expected), "{}", files.stdout);
    assert!(
        files.stdout.contains("did you mean shop.default.svc.cluster.local?"),
        "{}",
        files.stdout
    );

    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], wrong).await.code, 0);
    let held = control.cli(&["analyze"]).await;
    assert_eq!(held.code, 1);
    assert!(
        held.stdout.contains("warning TSU-HOST VirtualService default/wrong"),
        "{}",
        held.stdout
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_file_breaks_among_what_is_held_is_told_and_what_was_wrong_before_is_not() {
    let control = ControlPlane::start();
    let service = SERVICES.split("---").next().expect("the service");
    let subsets = |names: &[&str]| {
        let list: Vec<String> = names
            .iter()
            .map(|it| format!("{{name: {it}, labels: {{version: {it}}}}}"))
            .collect();
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: shop}}\nspec: {{host: shop, subsets: [{}]}}\n",
            list.join(", ")
        )
    };
    let to = |name: &str, host: &str, subset: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {{hosts: [{host}], http: [{{route: [{{destination: {{host: shop, subset: {subset}}}}}]}}]}}\n"
        )
    };
    let (routes, wrong) = (to("shop", "shop", "v2"), to("old", "old.example.com", "v9"));
    let held = [service, &subsets(&["v1", "v2"]), &routes, &wrong].join("---\n");
    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], &held).await.code, 0);

    let analyze = ["analyze", "--no-info", "--with-server", "-f", "-"];
    let without_v2 = control.cli_with_input(&analyze, &subsets(&["v1"])).await;
    let expected = "error IST0101 VirtualService default/shop: spec.http[0].route[0].destination.subset: no DestinationRule defines the subset v2 of shop.default.svc.cluster.local: such requests get 503 NC\n    write instead: one of v1 (by DestinationRule/default/shop)\n4 documents: 1 error, 0 warnings, 0 hints\n";
    assert_eq!(
        (without_v2.code, without_v2.stdout.as_str()),
        (1, expected),
        "{}",
        without_v2.stderr
    );

    let same = control.cli_with_input(&analyze, &subsets(&["v1", "v2"])).await;
    let nothing = "4 documents: 0 errors, 0 warnings, 0 hints\n";
    assert_eq!((same.code, same.stdout.as_str()), (0, nothing), "{}", same.stderr);
}

/// A subset that selects nothing, behind so many hints and warnings that they alone would fill what is shown.
fn crowded() -> String {
    let good: Vec<String> = (0..1_100)
        .map(|it| format!("{{name: s{it}, labels: {{version: v1}}}}"))
        .collect();
    let rule = |name: &str, subsets: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec: {{host: e.example.com, subsets: [{subsets}]}}\n"
        )
    };
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [e.example.com], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 127.0.0.1, labels: {version: v1}}]}\n";
    let good = good.join(", ");
    format!(
        "{entry}{}{}",
        rule("d", &good),
        rule("z", "{name: bad, labels: {version: v9}}")
    )
}

#[test]
fn an_error_is_not_lost_behind_more_hints_than_are_shown_and_what_is_not_shown_is_said() {
    let folder = folder(&[("crowded.yaml", &crowded())]);
    let path = folder.path().to_str().expect("UTF-8");
    let (code, shown, stderr) = offline(&["-f", path, "--no-info"]);
    assert_eq!(code, Some(1), "{shown}{stderr}");
    assert!(shown.contains("error IST0173 DestinationRule default/z"), "{shown}");
    assert!(
        shown.ends_with("\n3 documents: 1 error, 0 warnings, 0 hints\n"),
        "{shown}"
    );
    let (code, shown, _) = offline(&["-f", path]);
    assert_eq!(code, Some(1));
    let end = "\nand 102 more, of which none is worse than those above\n3 documents: 1 error, 0 warnings, 1101 hints\n";
    assert!(shown.ends_with(end), "{shown}");
    let (_, shown, _) = offline(&["-f", path, "-o", "json"]);
    let value: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(value["findings"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(value["omitted"], 102);
    assert_eq!(
        value["totals"],
        serde_json::json!({"errors": 1, "warnings": 0, "hints": 1101})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connected_sidecars_are_clients_and_those_who_do_not_see_a_subset_are_named_with_the_server() {
    let control = ControlPlane::start();
    let service = SERVICES.split("---").next().expect("the service");
    let route = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: shop}\nspec: {hosts: [shop], http: [{route: [{destination: {host: shop, subset: a}}]}]}\n";
    let rule = |more: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: shop}}\nspec: {{host: shop, subsets: [{{name: a}}], {more}}}\n"
        )
    };
    assert_eq!(
        control
            .cli_with_input(&["apply", "-f", "-"], &format!("{service}{route}"))
            .await
            .code,
        0
    );
    let analyze = ["analyze", "--with-server", "-f", "-"];
    let options = SidecarOptions {
        args: vec!["--labels".into(), "app=web".into()],
        ..SidecarOptions::default()
    };
    let _sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    for (app, is_told) in [("web", false), ("job", true)] {
        let selecting = rule(&format!("workloadSelector: {{matchLabels: {{app: {app}}}}}"));
        let told = control.cli_with_input(&analyze, &selecting).await;
        assert_eq!(told.stdout.contains("IST0127"), is_told, "{app}: {}", told.stdout);
    }
    let private = rule("exportTo: [.]");
    let told = control.cli_with_input(&analyze, &private).await;
    assert_eq!(told.code, 1, "{}{}", told.stdout, told.stderr);
    let words = "stdin:4: warning TSU-SUBSET-UNSEEN DestinationRule default/shop: spec.exportTo: clients outside namespace default do not see the subset a";
    assert!(told.stdout.contains(words), "{}", told.stdout);
    // Of what it holds, too, whenever it is asked.
    assert_eq!(control.cli_with_input(&["apply", "-f", "-"], &private).await.code, 0);
    let held = control.cli(&["analyze"]).await;
    assert_eq!(held.code, 1);
    let words = "no subset a for clients outside namespace default: DestinationRule/default/shop, which defines a, is exported to `.` only";
    assert!(held.stdout.contains(words), "{}", held.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_policies_are_taken_and_nothing_in_them_is_not_meant() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/policies");
    let (code, shown, stderr) = offline(&["-f", folder]);
    assert_eq!(code, Some(0), "{shown}{stderr}");
    assert!(shown.contains("6 documents: 0 errors, 0 warnings"), "{shown}");
    let control = ControlPlane::start();
    let taken = control.cli(&["apply", "--strict", "-f", folder]).await;
    assert_eq!(taken.code, 0, "{}{}", taken.stdout, taken.stderr);
}
