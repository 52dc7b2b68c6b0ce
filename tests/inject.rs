//! `tsunagi inject` as people run it: files in, workloads with sidecars out, everything else as it was.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use tsunagi_tests::binaries;

const SHOP: &str = "# kept in order
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: web}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - name: shop
        image: shop:1
        readinessProbe: {httpGet: {path: /ready, port: 8080}}
---
apiVersion: v1
kind: List
items:
- apiVersion: batch/v1
  kind: CronJob
  metadata: {name: nightly}
  spec:
    schedule: '0 1 * * *'
    jobTemplate:
      spec:
        template:
          spec:
            restartPolicy: Never
            containers: [{name: nightly, image: n}]
- apiVersion: v1
  kind: Pod
  metadata: {name: out, labels: {sidecar.tsunagi.dev/inject: 'false'}}
  spec:
    containers: [{name: out, image: o}]
";

struct Folder(TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        let folder = TempDir::new().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        Folder(folder)
    }

    fn inject(&self, args: &[&str]) -> Output {
        let mut command = Command::new(&binaries().tsunagi);
        command.arg("inject").args(args).current_dir(self.0.path());
        command.output().expect("the command runs")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The documents that were printed, all in one list.
fn printed(output: &Output) -> Vec<Value> {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let whole: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    whole["items"].as_array().expect("a list").clone()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["name"].as_str())
        .collect()
}

#[test]
fn workloads_get_the_sidecar_and_everything_else_stays_in_its_order() {
    let folder = Folder::with(&[("shop.yaml", SHOP)]);
    let output = folder.inject(&["-f", "shop.yaml", "-o", "json"]);
    let documents = printed(&output);
    let kinds: Vec<&str> = documents
        .iter()
        .filter_map(|document| document["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["Service", "Deployment", "List"]);
    assert_eq!(documents[0]["spec"]["ports"][0]["port"], 80);
    let deployment = &documents[1]["spec"]["template"]["spec"];
    assert_eq!(names(&deployment["initContainers"]), ["tsunagi-init", "tsunagi-proxy"]);
    assert_eq!(
        deployment["containers"][0]["readinessProbe"]["httpGet"]["path"],
        "/app-health/shop/readyz"
    );
    let job = &documents[2]["items"][0]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(names(&job["initContainers"]), ["tsunagi-init", "tsunagi-proxy"]);
    assert!(
        documents[2]["items"][1]["spec"].get("initContainers").is_none(),
        "opted out"
    );
    let said = text(&output.stderr);
    assert!(
        said.contains("shop.yaml:35: Pod/out: left as it is: its label sidecar.tsunagi.dev/inject"),
        "{said}"
    );
}

#[test]
fn its_yaml_is_read_again_and_then_left_alone() {
    let folder = Folder::with(&[("shop.yaml", SHOP)]);
    let once = folder.inject(&["-f", "shop.yaml"]);
    assert_eq!(once.status.code(), Some(0), "{}", text(&once.stderr));
    std::fs::write(folder.0.path().join("once.yaml"), &once.stdout).expect("written");
    let twice = folder.inject(&["-f", "once.yaml"]);
    assert_eq!(text(&twice.stdout), text(&once.stdout));
    assert!(text(&twice.stderr).contains("it has a container tsunagi-init already"));
}

#[test]
fn settings_come_from_a_file_and_flags_come_over_them() {
    let settings =
        "image: example.org/proxy:2\nnativeSidecars: false\nresources: {requests: {cpu: 50m, memory: 64Mi}}\n";
    let folder = Folder::with(&[("shop.yaml", SHOP), ("settings.yaml", settings)]);
    let inject = |more: &[&str]| {
        let args = [
            &["-f", "shop.yaml", "-o", "json", "--inject-config", "settings.yaml"],
            more,
        ]
        .concat();
        printed(&folder.inject(&args))[1]["spec"]["template"]["spec"].clone()
    };
    let spec = inject(&[]);
    assert_eq!(names(&spec["containers"]), ["tsunagi-proxy", "shop"]);
    assert_eq!(spec["containers"][0]["image"], "example.org/proxy:2");
    assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "50m");
    let spec = inject(&["--native-sidecars", "true", "--image", "other:3"]);
    assert_eq!(spec["initContainers"][1]["image"], "other:3");
    assert_eq!(names(&spec["containers"]), ["shop"]);
    let wrong = Folder::with(&[("shop.yaml", SHOP), ("settings.yaml", "imagee: x\n")]);
    let output = wrong.inject(&["-f", "shop.yaml", "--inject-config", "settings.yaml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("settings.yaml: ") && said.contains("imagee"), "{said}");
}

#[test]
fn what_cannot_be_done_is_named_by_file_line_and_field_and_nothing_is_printed() {
    let pod = "apiVersion: v1
kind: Pod
metadata:
  name: shop
  annotations:
    sidecar.istio.io/proxyCPU: lots
spec:
  containers: [{name: shop}]
";
    let folder = Folder::with(&[("pod.yaml", pod), ("broken.yaml", "a: [\n")]);
    let output = folder.inject(&["-f", "pod.yaml"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(
        said.starts_with("pod.yaml:6: Pod/shop: metadata.annotations[sidecar.istio.io/proxyCPU]: "),
        "{said}"
    );
    let output = folder.inject(&["-f", "broken.yaml"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("broken.yaml:") && said.contains("not YAML"), "{said}");
}
