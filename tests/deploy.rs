//! The manifests in `deploy/`, judged by real tools: they render, satisfy the schemas of Kubernetes, lead somewhere and grant no more
//! than is needed; the chart and the Kustomize base say the same; examples are taken by a real control plane; alerts and the
//! dashboard name metrics that exist.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what these tests are made of fails them the hard way, like the tests themselves"
)]

#[path = "deploy/agreed.rs"]
mod agreed;
#[path = "deploy/fields.rs"]
mod fields;
#[path = "deploy/images.rs"]
mod images;
#[path = "deploy/monitoring.rs"]
mod monitoring;
#[path = "deploy/objects.rs"]
mod objects;
#[path = "deploy/policy_ranges.rs"]
mod policy_ranges;
#[path = "deploy/ranges.rs"]
mod ranges;
#[path = "deploy/tools.rs"]
mod tools;

use std::collections::BTreeMap;

use objects::{admission, find, loose_ends, name, permissions, privileges};
use serde_json::{Value, json};
use tools::{read, tools};
use tsunagi_tests::ControlPlane;

/// All that the chart can be asked for, a set for each render.
const VALUES: [&str; 5] = [
    "",
    "monitoring: {podMonitors: true, alerts: true, dashboard: true, labels: {release: prometheus}}",
    "crds: {install: false}
injection: {failurePolicy: Fail, istioLabels: false, excludedNamespaces: [ci], settings: {}}
validation: {enabled: false}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
monitoring: {annotations: false}",
    "image: {registry: registry.example.com/mesh/, digest: 'sha256:0123456789012345678901234567890123456789012345678901234567890123'}
proxyImage: {tag: 1.2.3}
imagePullSecrets: [{name: pull}]
replicas: 3
logLevel: 'info,tsunagi::xds=debug'
extraArgs: ['--log-level=debug']
podAnnotations: {a: b}
podLabels: {team: platform}
priorityClassName: high
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
podDisruptionBudget: {maxUnavailable: 50%}
resources: {requests: {cpu: 1, memory: 1Gi}, limits: {memory: 2Gi}}",
    "crds: {keep: false}
networkPolicy: {monitoringNamespaces: [prometheus, grafana]}
validation: {failurePolicy: Fail, timeoutSeconds: 10}
injection: {settings: {revision: canary, nativeSidecars: 'true', logLevel: debug, excludeOutboundPorts: [5432],
  resources: {requests: {cpu: 50m, memory: 64Mi}}}}
monitoring: {podMonitors: true}",
];
/// Labels that say who rendered an object.
const RENDERED_BY: [&str; 2] = ["app.kubernetes.io/managed-by", "helm.sh/chart"];

#[test]
fn every_kustomization_renders_and_satisfies_the_schemas() {
    let Some(tools) = tools() else { return };
    let folders = [
        "deploy/crds",
        "deploy/kustomize/base",
        "deploy/kustomize/default",
        "deploy/kustomize/full",
        "deploy/examples/user-service",
        "deploy/examples/blue-green",
    ];
    for folder in folders {
        let objects = tools.sound(folder, &tools.kustomize(folder));
        for broken in [
            loose_ends(&objects),
            privileges(&objects),
            permissions(&objects),
            admission(&objects),
        ] {
            assert!(broken.is_empty(), "{folder}:\n{}", broken.join("\n"));
        }
    }
    tools.sound("the Application", &read("deploy/examples/argocd/tsunagi.yaml"));
    tools.sound("the canary", &read("deploy/examples/canary.yaml"));
}

#[test]
fn the_chart_lints_and_every_render_satisfies_the_schemas() {
    let Some(tools) = tools() else { return };
    for values in VALUES {
        if let Err(said) = tools.helm(&["lint", "--strict"], values) {
            panic!("helm lint with {values}:\n{said}");
        }
        let objects = tools.sound(values, &tools.render(values));
        for broken in [
            loose_ends(&objects),
            privileges(&objects),
            permissions(&objects),
            admission(&objects),
        ] {
            assert!(broken.is_empty(), "{values}:\n{}", broken.join("\n"));
        }
    }
}

#[test]
fn the_values_of_the_chart_do_what_they_say() {
    let Some(tools) = tools() else { return };
    let render = |values: &str| tools.judge(&tools.render(values)).documents;
    let kinds = |objects: &[Value], kind: &str| find(objects, kind).count();

    let monitored = render(VALUES[1]);
    assert_eq!(
        (kinds(&monitored, "PodMonitor"), kinds(&monitored, "PrometheusRule")),
        (2, 1)
    );
    let rule = find(&monitored, "PrometheusRule").next().unwrap();
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");

    let bare = render(VALUES[2]);
    for kind in [
        "CustomResourceDefinition",
        "ValidatingWebhookConfiguration",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PodMonitor",
    ] {
        assert_eq!(kinds(&bare, kind), 0, "{kind}");
    }
    let webhooks = &find(&bare, "MutatingWebhookConfiguration").next().unwrap()["webhooks"];
    assert_eq!(webhooks.as_array().unwrap().len(), 2);
    assert!(!webhooks.to_string().contains("istio"), "{webhooks}");
    assert_eq!(webhooks[0]["failurePolicy"], "Fail");

    let chosen = render(VALUES[3]);
    let deployment = find(&chosen, "Deployment").next().unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let image = pod["containers"][0]["image"].as_str().unwrap();
    assert!(
        image.starts_with("registry.example.com/mesh/tsunagi@sha256:0123"),
        "{image}"
    );
    assert_eq!(
        (&deployment["spec"]["replicas"], &pod["priorityClassName"]),
        (&json!(3), &json!("high"))
    );
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
    let injection = find(&chosen, "ConfigMap").next().unwrap().to_string();
    assert!(
        injection.contains("registry.example.com/mesh/tsunagi-proxy:1.2.3"),
        "{injection}"
    );

    let kept = |objects: &[Value]| {
        let all: Vec<bool> = find(objects, "CustomResourceDefinition")
            .map(|one| one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
            .collect();
        (all.len(), all.iter().filter(|kept| **kept).count())
    };
    assert_eq!((kept(&render("")), kept(&render(VALUES[4]))), ((5, 5), (5, 0)));
}

#[test]
fn the_chart_works_in_any_namespace() {
    let Some(tools) = tools() else { return };
    let rendered = tools.helm(&["template", "tsunagi", "--namespace", "mesh"], "").unwrap();
    let objects = tools.sound("namespace mesh", &rendered);
    assert!(loose_ends(&objects).is_empty(), "{:?}", loose_ends(&objects));
    assert!(!rendered.contains("tsunagi-system"));
    for needed in [
        "--webhook-names=tsunagi.mesh.svc,tsunagi.mesh.svc.cluster.local",
        "--root-namespace=mesh",
        "http://tsunagi.mesh.svc:15010",
    ] {
        assert!(rendered.contains(needed), "no {needed}");
    }
}

#[test]
fn a_misspelt_value_of_the_chart_is_refused() {
    let Some(tools) = tools() else { return };
    for values in [
        "replica: 3",
        "replicas: none",
        "injection: {failurePolicy: Never}",
        "image: {digest: latest}",
        "injection: {settings: {nativeSidecar: true}}",
        "monitoring: {podMonitor: true}",
    ] {
        let refused = tools.helm(&["template", "tsunagi"], values);
        assert!(refused.is_err(), "{values} was taken");
    }
}

/// By kind and name, without what is told apart by who rendered it.
fn comparable(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let strip = |map: Option<&mut Value>, keys: &[&str]| {
        if let Some(map) = map.and_then(Value::as_object_mut) {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    let mut all = BTreeMap::new();
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        // Helm makes the namespace with --create-namespace.
        if kind == "Namespace" {
            continue;
        }
        if kind == "CustomResourceDefinition" {
            let metadata = object["metadata"].as_object_mut().unwrap();
            metadata.remove("annotations");
            metadata.remove("labels");
        }
        if kind == "ConfigMap" && object["data"]["injection.yaml"].is_string() {
            let mut lines: Vec<String> = object["data"]["injection.yaml"]
                .as_str()
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect();
            lines.sort();
            object["data"]["injection.yaml"] = json!(lines);
        }
        strip(object.pointer_mut("/metadata/labels"), &RENDERED_BY);
        strip(object.pointer_mut("/spec/template/metadata/labels"), &RENDERED_BY);
        strip(
            object.pointer_mut("/spec/template/metadata/annotations"),
            &["checksum/injection"],
        );
        // Kustomize labels what it makes itself less.
        if object["metadata"]["name"] == "tsunagi-dashboard" || kind == "PodMonitor" || kind == "PrometheusRule" {
            strip(
                object.pointer_mut("/metadata/labels"),
                &["app.kubernetes.io/component", "app.kubernetes.io/version"],
            );
        }
        all.insert(name(&object), object);
    }
    all
}

#[test]
fn the_chart_and_the_kustomize_base_say_the_same() {
    let Some(tools) = tools() else { return };
    for (folder, values) in [
        ("deploy/kustomize/default", ""),
        ("deploy/kustomize/base", "crds: {install: false}"),
        (
            "deploy/kustomize/full",
            "monitoring: {podMonitors: true, alerts: true, dashboard: true}",
        ),
    ] {
        let kustomize = comparable(tools.judge(&tools.kustomize(folder)).documents);
        let helm = comparable(tools.judge(&tools.render(values)).documents);
        let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&kustomize), names(&helm), "{folder}");
        for (name, object) in &kustomize {
            assert_eq!(Some(object), helm.get(name), "{folder}: {name}");
        }
    }
}

#[test]
fn a_wrong_manifest_is_found() {
    let Some(tools) = tools() else { return };
    let base = tools.kustomize("deploy/kustomize/default");
    for (right, wrong) in [
        // Kubernetes' own kinds.
        (
            "      terminationGracePeriodSeconds: 30",
            "      terminationGraceSeconds: 30",
        ),
        ("  replicas: 2", "  replicas: two"),
        ("  policyTypes:", "  policyType:"),
        // Kinds: a schema that is none.
        ("    storage: true", "    storage: false"),
        ("                  type: array", "                  kind: array"),
        // Twice the same.
        (
            "  name: tsunagi-injection",
            "  name: tsunagi-injection\n  name: tsunagi-injection",
        ),
    ] {
        let broken = base.replacen(right, wrong, 1);
        assert_ne!(base, broken, "{right}");
        let script = std::panic::catch_unwind(|| tools.judge(&broken).problems.len());
        assert!(script.map_or(true, |count| count > 0), "not found: {wrong}");
    }
    let rules = read("deploy/examples/user-service/rules.yaml");
    assert!(tools.judge(&rules).problems.is_empty());
    for (right, wrong) in [
        ("subset: v2", "subsets: v2"),
        ("weight: 90", "weight: ninety"),
        ("maxConnections", "maxConnection"),
    ] {
        assert!(
            !tools.judge(&rules.replacen(right, wrong, 1)).problems.is_empty(),
            "not found: {wrong}"
        );
    }
    let application = read("deploy/examples/argocd/tsunagi.yaml").replace("automated", "automatic");
    assert!(!tools.judge(&application).problems.is_empty());
}

#[test]
fn a_loose_end_and_a_privilege_too_many_are_found() {
    let Some(tools) = tools() else { return };
    let objects = tools.judge(&tools.kustomize("deploy/kustomize/base")).documents;
    type Rule = fn(&[Value]) -> Vec<String>;
    let cases: [(&str, &str, Value, Rule); 10] = [
        (
            "Service/tsunagi",
            "/spec/ports/0/targetPort",
            json!("nothing"),
            loose_ends,
        ),
        ("Service/tsunagi", "/spec/selector", json!({"a": "b"}), loose_ends),
        (
            "PodDisruptionBudget/tsunagi",
            "/spec/selector/matchLabels",
            json!({"a": "b"}),
            loose_ends,
        ),
        (
            "Deployment/tsunagi",
            "/spec/template/spec/serviceAccountName",
            json!("other"),
            loose_ends,
        ),
        (
            "Deployment/tsunagi",
            "/spec/template/spec/volumes/0/name",
            json!("other"),
            loose_ends,
        ),
        (
            "MutatingWebhookConfiguration/tsunagi",
            "/webhooks/0/clientConfig/service/name",
            json!("other"),
            loose_ends,
        ),
        (
            "MutatingWebhookConfiguration/tsunagi",
            "/webhooks/0/namespaceSelector",
            json!({}),
            admission,
        ),
        (
            "Deployment/tsunagi",
            "/spec/template/spec/containers/0/securityContext",
            json!({}),
            privileges,
        ),
        ("ClusterRole/tsunagi", "/rules/0/verbs", json!(["*"]), permissions),
        (
            "ClusterRole/tsunagi",
            "/rules/0/resources",
            json!(["secrets"]),
            permissions,
        ),
    ];
    for (object, path, value, rule) in cases {
        let mut broken = objects.clone();
        let target = broken.iter_mut().find(|one| name(one) == object).unwrap();
        *target.pointer_mut(path).unwrap() = value;
        assert!(!rule(&broken).is_empty(), "not found: {object}{path}");
    }
}

/// The documents that the control plane reads, as one file of YAML, with an endpoint in the place of each Deployment's pods.
fn for_the_mesh(objects: &[Value]) -> String {
    let is_ours = |object: &&Value| {
        let api = object["apiVersion"].as_str().unwrap_or_default();
        api.starts_with("networking.istio.io/") || object["kind"] == "Service"
    };
    let ours = objects.iter().filter(is_ours).map(Value::to_string);
    let endpoints = find(objects, "Deployment").zip(1..).map(|(deployment, number)| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": deployment["metadata"]["name"], "namespace": deployment["metadata"]["namespace"]},
            "spec": {
                "address": format!("127.0.0.{number}"),
                "ports": {"http": 8080},
                "labels": deployment["spec"]["template"]["metadata"]["labels"],
            },
        })
        .to_string()
    });
    let texts: Vec<String> = ours.chain(endpoints).collect();
    assert!(texts.len() >= 5, "{texts:?}");
    texts.join("\n---\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_are_taken_by_a_control_plane() {
    let Some(tools) = tools() else { return };
    let control = ControlPlane::start();
    for folder in ["deploy/examples/user-service", "deploy/examples/blue-green"] {
        let documents = for_the_mesh(&tools.judge(&tools.kustomize(folder)).documents);
        let apply = ["apply", "-f", "-", "--dry-run", "--strict"];
        let taken = control.cli_with_input(&apply, &documents).await;
        assert_eq!(taken.code, 0, "{folder}: {}{}", taken.stdout, taken.stderr);
        let misspelt = documents.replacen("\"subset\"", "\"subsett\"", 1);
        let refused = control.cli_with_input(&apply, &misspelt).await;
        assert_eq!(refused.code, 1, "{folder}: {}", refused.stdout);
    }
    // In the place of the example's own rules; nothing is left for the analysis to say.
    let mut service = tools.judge(&tools.kustomize("deploy/examples/user-service")).documents;
    service.retain(|object| object["kind"] != "VirtualService" && object["kind"] != "DestinationRule");
    service.extend(tools.judge(&read("deploy/examples/canary.yaml")).documents);
    let service = for_the_mesh(&service);
    let taken = control
        .cli_with_input(&["apply", "-f", "-", "--dry-run", "--strict"], &service)
        .await;
    assert_eq!(taken.code, 0, "the canary: {}{}", taken.stdout, taken.stderr);
    let analysis = control.cli_with_input(&["analyze", "-f", "-"], &service).await;
    assert_eq!(analysis.code, 0, "the canary: {}{}", analysis.stdout, analysis.stderr);
}

#[test]
fn the_example_uses_the_rules_of_the_demo() {
    let demo = read("deploy/demo/user-service.yaml").replace("istio.io/v1alpha3", "istio.io/v1");
    assert_eq!(read("deploy/examples/user-service/rules.yaml"), demo);
}

/// The switch as its README gives it, on the file instead of a cluster.
#[test]
fn the_switch_of_blue_and_green_does_what_its_readme_says() {
    let Some(tools) = tools() else { return };
    let readme = read("deploy/examples/blue-green/README.md");
    let patch = readme.split('\'').nth(1).unwrap();
    assert!(patch.trim_start().starts_with("[") && readme.contains("patch virtualservice order-service --type json"));
    let rules = read("deploy/examples/blue-green/switch.yaml");
    let rule = rules.split("---\n").next().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rule).unwrap();
    let path = file.path().to_string_lossy();
    let patched = tools.kubectl(&[
        "patch",
        "--local",
        "--filename",
        &path,
        "--type",
        "json",
        "--patch",
        patch,
        "--output",
        "json",
    ]);
    let patched: Value = serde_json::from_str(&patched).unwrap();
    let weights = |route: &Value| {
        let all = route.as_array().unwrap().iter();
        all.map(|one| {
            (
                one["destination"]["subset"].as_str().unwrap().to_owned(),
                one["weight"].as_u64().unwrap(),
            )
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(
        weights(&patched["spec"]["http"][1]["route"]),
        [("blue".to_owned(), 0), ("green".to_owned(), 100)]
    );
    let before = tools.judge(rule).documents;
    assert_eq!(
        weights(&before[0]["spec"]["http"][1]["route"]),
        [("blue".to_owned(), 100), ("green".to_owned(), 0)]
    );
}
