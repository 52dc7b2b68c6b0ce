//! Injection of pods as they are found in clusters.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

mod amounts;
mod credentials;

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "web", "version": "v1"}}, "spec": spec})
}

fn web() -> Value {
    pod(json!({"containers": [{"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}))
}

fn with_annotations(annotations: Value) -> Value {
    let mut pod = web();
    pod["metadata"]["annotations"] = annotations;
    pod
}

fn run(template: &Value, native: bool) -> Result<Outcome, Refusal> {
    let subject = Subject {
        template,
        namespace: "shop",
        namespace_labels: None,
    };
    inject(subject, &Settings::default(), native)
}

fn injected(template: &Value, native: bool) -> Injected {
    match run(template, native).expect("not refused") {
        Outcome::Injected(injected) => *injected,
        Outcome::LeftAlone(reason) => unreachable!("left alone: {reason}"),
    }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["name"].as_str())
        .collect()
}

fn sidecar(pod: &Value) -> &Value {
    let all = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    all.into_iter()
        .flatten()
        .flatten()
        .find(|container| container["name"] == SIDECAR)
        .expect("a sidecar")
}

fn env<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let env = sidecar(pod)["env"].as_array().expect("an environment");
    env.iter().find(|variable| variable["name"] == name)?["value"].as_str()
}

fn probes(pod: &Value) -> Value {
    // As the kubelet hands it over.
    let text = env(pod, "TSUNAGI_APP_PROBES").expect("probes").replace("$$", "$");
    serde_json::from_str(&text).expect("JSON")
}

fn decided(labels: &[(&str, &str)], pod: &Value, namespace: &str) -> bool {
    let labels: BTreeMap<String, String> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings = Settings {
        revision: "mesh-2".to_owned(),
        ..Settings::default()
    };
    let subject = Subject {
        template: pod,
        namespace,
        namespace_labels: Some(&labels),
    };
    matches!(inject(subject, &settings, true), Ok(Outcome::Injected(_)))
}

#[test]
fn the_namespace_and_the_pod_decide_and_ours_counts_before_istios() {
    let plain = web();
    let said = |place: &str, name: &str, value: &str| {
        let mut pod = web();
        pod["metadata"][place][name] = value.into();
        pod
    };
    for (labels, injected) in [
        (vec![], false),
        (vec![("tsunagi.dev/injection", "enabled")], true),
        (
            vec![("tsunagi.dev/injection", "disabled"), ("istio-injection", "enabled")],
            false,
        ),
        (vec![("istio-injection", "enabled")], true),
        (vec![("istio-injection", "disabled")], false),
        (vec![("istio.io/rev", "mesh-2")], true),
        (vec![("istio.io/rev", "default")], false),
    ] {
        assert_eq!(decided(&labels, &plain, "shop"), injected, "{labels:?}");
    }
    let enabled: &[(&str, &str)] = &[("tsunagi.dev/injection", "enabled")];
    for place in ["labels", "annotations"] {
        for name in ["sidecar.tsunagi.dev/inject", "sidecar.istio.io/inject"] {
            assert!(!decided(enabled, &said(place, name, "false"), "shop"), "{place} {name}");
            assert!(decided(&[], &said(place, name, "true"), "shop"), "{place} {name}");
            assert!(!decided(
                &[("tsunagi.dev/injection", "disabled")],
                &said(place, name, "true"),
                "shop"
            ));
        }
    }
    let mut both = said("labels", "sidecar.istio.io/inject", "false");
    both["metadata"]["labels"]["sidecar.tsunagi.dev/inject"] = "true".into();
    assert!(decided(enabled, &both, "shop"));
    let refused = run(&said("labels", "sidecar.istio.io/inject", "maybe"), true).expect_err("refused");
    assert_eq!(refused.field, "metadata.labels[sidecar.istio.io/inject]");
}

#[test]
fn what_must_never_have_a_sidecar_has_none() {
    let enabled: &[(&str, &str)] = &[("tsunagi.dev/injection", "enabled")];
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "tsunagi-system"] {
        assert!(!decided(enabled, &web(), namespace), "{namespace}");
    }
    let containers = json!([{"name": "web"}]);
    for spec in [
        json!({"hostNetwork": true, "containers": containers}),
        json!({"os": {"name": "windows"}, "containers": containers}),
        json!({"nodeSelector": {"kubernetes.io/os": "windows"}, "containers": containers}),
        json!({"containers": [{"name": "web"}, {"name": "istio-proxy"}]}),
        json!({"containers": containers, "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}]}),
    ] {
        let mut asking = pod(spec.clone());
        asking["metadata"]["labels"]["sidecar.tsunagi.dev/inject"] = "true".into();
        assert!(!decided(enabled, &asking, "shop"), "{spec}");
    }
    for native in [true, false] {
        let once = injected(&web(), native).template;
        assert!(
            matches!(run(&once, native), Ok(Outcome::LeftAlone(_))),
            "injected twice"
        );
    }
}

#[test]
fn a_native_sidecar_comes_before_the_applications_init_containers() {
    let mut pod = web();
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "image": "m"}, {"name": "warm", "image": "w"}]);
    let done = injected(&pod, true).template;
    assert_eq!(
        names(&done["spec"]["initContainers"]),
        [INIT, SIDECAR, "migrate", "warm"]
    );
    assert_eq!(done["spec"]["containers"], pod["spec"]["containers"]);
    let sidecar = sidecar(&done);
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/healthz/ready");
    assert_eq!(
        sidecar["lifecycle"],
        json!({"preStop": {"exec": {"command": ["tsunagi-proxy", "drain"]}}})
    );
    assert_eq!(env(&done, "TSUNAGI_AWAIT_APPLICATION"), None);
    assert_eq!(
        done["metadata"]["annotations"].get("kubectl.kubernetes.io/default-container"),
        None
    );
}

#[test]
fn without_native_sidecars_it_is_the_first_container_and_holds_the_others() {
    let mut pod = web();
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "image": "m"}]);
    let done = injected(&pod, false).template;
    assert_eq!(names(&done["spec"]["initContainers"]), ["migrate", INIT]);
    assert_eq!(names(&done["spec"]["containers"]), [SIDECAR, "web"]);
    let sidecar = sidecar(&done);
    assert_eq!(
        sidecar["lifecycle"],
        json!({"postStart": {"exec": {"command": ["tsunagi-proxy", "wait"]}}})
    );
    assert!(sidecar.get("restartPolicy").is_none() && sidecar.get("startupProbe").is_none());
    assert_eq!(env(&done, "TSUNAGI_AWAIT_APPLICATION"), Some("true"));
    assert_eq!(
        done["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"],
        "web"
    );
    assert!(done["spec"].get("shareProcessNamespace").is_none());
}

#[test]
fn a_jobs_pod_can_end() {
    let mut pod = web();
    pod["spec"]["restartPolicy"] = "OnFailure".into();
    let fallback = injected(&pod, false).template;
    assert_eq!(fallback["spec"]["shareProcessNamespace"], true);
    assert_eq!(env(&fallback, "TSUNAGI_EXIT_WITH_APPLICATION"), Some("true"));
    let native = injected(&pod, true).template;
    assert!(native["spec"].get("shareProcessNamespace").is_none());
    assert_eq!(env(&native, "TSUNAGI_EXIT_WITH_APPLICATION"), None);
    pod["spec"]["shareProcessNamespace"] = false.into();
    let unshared = injected(&pod, false);
    assert_eq!(unshared.template["spec"]["shareProcessNamespace"], false);
    assert!(
        unshared.warnings[0].contains("shareProcessNamespace"),
        "{:?}",
        unshared.warnings
    );
}

#[test]
fn the_added_containers_have_the_least_that_they_need() {
    let done = injected(&web(), true).template;
    let init = &done["spec"]["initContainers"][0];
    assert_eq!(
        init["securityContext"]["capabilities"],
        json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]})
    );
    assert_eq!(init["securityContext"]["runAsUser"], 0);
    assert_eq!(
        init["command"],
        json!(["tsunagi-proxy", "redirect", "install", "--proxy-uid=1337"])
    );
    let sidecar = sidecar(&done);
    let security = &sidecar["securityContext"];
    assert_eq!(
        (&security["runAsUser"], &security["runAsNonRoot"]),
        (&json!(1337), &json!(true))
    );
    for container in [init, sidecar] {
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        let resources = json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
        assert_eq!(container["resources"], resources);
    }
    assert_eq!(names(&done["spec"]["volumes"]), ["tsunagi-state"]);
    assert_eq!(env(&done, "TSUNAGI_LABELS"), Some("app=web,version=v1"));
    assert_eq!(
        env(&done, "TSUNAGI_CONTROL_PLANE"),
        Some("http://tsunagi.tsunagi-system.svc:15010")
    );
}

#[test]
fn annotations_of_both_meshes_are_understood_and_ours_come_first() {
    let done = injected(
        &with_annotations(json!({
            "sidecar.istio.io/proxyCPU": "200m",
            "sidecar.tsunagi.dev/proxyCPU": "300m",
            "sidecar.istio.io/proxyMemoryLimit": "1Gi",
            "sidecar.istio.io/proxyImage": "example.org/p:9",
            "sidecar.istio.io/logLevel": "warning",
            "sidecar.tsunagi.dev/appPort": "9000",
            "traffic.sidecar.istio.io/excludeInboundPorts": "9100, 9200",
            "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
            "traffic.sidecar.istio.io/includeInboundPorts": "",
            "traffic.sidecar.istio.io/excludeOutboundPorts": "",
            "proxy.istio.io/config": "holdApplicationUntilProxyStarts: false\nterminationDrainDuration: 45s\nconcurrency: 4\n",
        })),
        true,
    );
    let (pod, sidecar) = (&done.template, sidecar(&done.template));
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(
        sidecar["resources"],
        json!({"requests": {"cpu": "300m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}})
    );
    assert_eq!(sidecar["image"], "example.org/p:9");
    assert!(sidecar.get("startupProbe").is_none(), "not held");
    for (name, value) in [
        ("LOG_LEVEL", "warn"),
        ("DRAIN_TIMEOUT", "45s"),
        ("WORKERS", "4"),
        ("APP_ADDR", "127.0.0.1:9000"),
    ] {
        assert_eq!(env(pod, &format!("TSUNAGI_{name}")), Some(value));
    }
    let command = pod["spec"]["initContainers"][0]["command"]
        .as_array()
        .expect("a command");
    let flags: Vec<&str> = command.iter().skip(4).filter_map(Value::as_str).collect();
    assert_eq!(
        flags,
        [
            "--exclude-inbound-ports=9100,9200",
            "--include-inbound-ports=",
            "--include-outbound-cidrs=10.0.0.0/8"
        ]
    );
}

#[test]
fn what_the_operator_excludes_is_added_to_what_the_pod_excludes() {
    let settings = Settings {
        exclude_outbound_ports: vec![5432],
        exclude_outbound_cidrs: vec!["169.254.169.254/32".to_owned()],
        ..Settings::default()
    };
    let template = with_annotations(json!({"traffic.sidecar.istio.io/excludeOutboundPorts": "6379"}));
    let subject = Subject {
        template: &template,
        namespace: "shop",
        namespace_labels: None,
    };
    let Ok(Outcome::Injected(done)) = inject(subject, &settings, true) else {
        unreachable!("injected")
    };
    let command = done.template["spec"]["initContainers"][0]["command"].to_string();
    assert!(command.contains("--exclude-outbound-ports=5432,6379"), "{command}");
    assert!(
        command.contains("--exclude-outbound-cidrs=169.254.169.254/32"),
        "{command}"
    );
}

#[test]
fn a_wrong_value_refuses_the_pod_by_the_annotations_name() {
    for (name, value) in [
        ("sidecar.istio.io/proxyCPU", "lots"),
        ("sidecar.istio.io/proxyImage", "a b"),
        ("sidecar.tsunagi.dev/logLevel", "loud"),
        ("sidecar.istio.io/rewriteAppHTTPProbers", "perhaps"),
        ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "10.0.0.0"),
        ("traffic.sidecar.istio.io/includeInboundPorts", "http"),
        ("sidecar.tsunagi.dev/drainTimeout", "30"),
        ("sidecar.tsunagi.dev/proxyCpus", "1"),
        ("sidecar.tsunagi.dev/excludeOutboundUids", "root"),
        ("proxy.istio.io/config", "concurrency: 1000"),
        ("proxy.istio.io/config", "[1]"),
        ("proxy.istio.io/config", "{"),
    ] {
        let refused = run(&with_annotations(json!({name: value})), true).expect_err(name);
        assert!(refused.field.contains(name), "{refused}");
    }
    let refused = run(&with_annotations(json!({"sidecar.tsunagi.dev/proxyCPUs": "1"})), true).expect_err("unknown");
    assert!(
        refused.reason.contains("did you mean sidecar.tsunagi.dev/proxyCPU?"),
        "{refused}"
    );
    let warned = injected(
        &with_annotations(
            json!({"sidecar.istio.io/statsInclusionPrefixes": "x", "proxy.istio.io/config": "tracing: {}"}),
        ),
        true,
    );
    assert_eq!(warned.warnings.len(), 2, "{:?}", warned.warnings);
}

#[test]
fn probes_of_every_kind_lead_through_the_sidecar() {
    let template = pod(json!({"containers": [
        {
            "name": "web",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "admin", "containerPort": 9000}],
            "livenessProbe": {"httpGet": {"path": "/live?x=$(Y)", "port": "http", "httpHeaders": [{"name": "Host", "value": "web"}]}, "periodSeconds": 7},
            "readinessProbe": {"tcpSocket": {"port": "admin"}, "timeoutSeconds": 3},
            "startupProbe": {"grpc": {"port": 9090, "service": "shop"}},
            "lifecycle": {"postStart": {"httpGet": {"path": "/hook", "port": 8080}}},
        },
        {
            "name": "other",
            "livenessProbe": {"exec": {"command": ["true"]}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 8443, "scheme": "HTTPS"}},
            "startupProbe": {"httpGet": {"path": "/", "port": 80, "host": "10.1.2.3"}},
        },
        {"name": "odd", "livenessProbe": {"httpGet": {"path": "/", "port": "nope"}}, "readinessProbe": {"httpGet": {"path": "/a b", "port": 1}}},
    ]}));
    let done = injected(&template, true);
    let web = &done.template["spec"]["containers"][0];
    let target = |page: &str| json!({"path": format!("/app-health/web/{page}"), "port": 15021, "scheme": "HTTP"});
    assert_eq!(
        web["livenessProbe"],
        json!({"httpGet": target("livez"), "periodSeconds": 7})
    );
    assert_eq!(
        web["readinessProbe"],
        json!({"httpGet": target("readyz"), "timeoutSeconds": 3})
    );
    assert_eq!(web["startupProbe"], json!({"httpGet": target("startupz")}));
    assert_eq!(web["lifecycle"], template["spec"]["containers"][0]["lifecycle"]);
    assert_eq!(
        probes(&done.template),
        json!({
            "/app-health/web/livez": {"httpGet": {"path": "/live?x=$(Y)", "port": 8080, "httpHeaders": [{"name": "Host", "value": "web"}]}, "timeoutSeconds": 1},
            "/app-health/web/readyz": {"tcpSocket": {"port": 9000}, "timeoutSeconds": 3},
            "/app-health/web/startupz": {"grpc": {"port": 9090, "service": "shop"}, "timeoutSeconds": 1},
        })
    );
    assert!(
        env(&done.template, "TSUNAGI_APP_PROBES").is_some_and(|text| text.contains("$$(Y)")),
        "left to the kubelet"
    );
    assert_eq!(
        done.template["spec"]["containers"][1],
        template["spec"]["containers"][1]
    );
    assert_eq!(
        done.template["spec"]["containers"][2],
        template["spec"]["containers"][2]
    );
    assert_eq!(done.warnings.len(), 2, "{:?}", done.warnings);
}

#[test]
fn probes_stay_where_the_pod_says_so() {
    let mut template = with_annotations(json!({"sidecar.istio.io/rewriteAppHTTPProbers": "false"}));
    template["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"port": 8080}});
    let done = injected(&template, true).template;
    assert_eq!(done["spec"]["containers"], template["spec"]["containers"]);
    assert_eq!(env(&done, "TSUNAGI_APP_PROBES"), None);
}

#[test]
fn prometheus_is_led_to_the_sidecar_unless_the_pod_says_where() {
    let done = injected(&web(), true).template;
    let annotations = &done["metadata"]["annotations"];
    assert_eq!(
        (&annotations["prometheus.io/port"], &annotations["prometheus.io/scrape"]),
        (&json!("15090"), &json!("true"))
    );
    let own = injected(&with_annotations(json!({"prometheus.io/port": "9000"})), true).template;
    assert_eq!(own["metadata"]["annotations"]["prometheus.io/port"], "9000");
    assert!(own["metadata"]["annotations"].get("prometheus.io/scrape").is_none());
    assert!(
        annotations["sidecar.tsunagi.dev/status"]
            .as_str()
            .is_some_and(|status| status.contains(SIDECAR))
    );
}

#[test]
fn clashes_with_the_sidecar_are_told() {
    let clashing = pod(
        json!({"securityContext": {"runAsUser": 1337}, "containers": [{"name": "web", "ports": [{"containerPort": 15090}]}]}),
    );
    assert_eq!(injected(&clashing, true).warnings.len(), 2);
    let volume = pod(json!({"containers": [{"name": "web"}], "volumes": [{"name": "tsunagi-state"}]}));
    assert_eq!(run(&volume, true).expect_err("refused").field, "spec.volumes");
}

#[test]
fn nonsense_is_refused_or_left_and_never_a_panic() {
    for template in [
        json!(null),
        json!([]),
        json!({"spec": 1}),
        json!({"spec": {"containers": {}}}),
        json!({"spec": {"containers": []}}),
        json!({"metadata": [], "spec": {"containers": [1]}}),
        json!({"metadata": {"annotations": 3}, "spec": {"containers": [{}]}}),
        json!({"spec": {"containers": [{"name": 1}], "initContainers": "x"}}),
        json!({"metadata": {"annotations": {"sidecar.tsunagi.dev/proxyCPU": 1}}, "spec": {"containers": [{}]}}),
    ] {
        assert!(run(&template, true).is_err(), "{template}");
    }
}

#[test]
fn every_kind_of_workload_is_injected_at_its_template() {
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "web"}]}});
    for (kind, mut document, pointer) in [
        ("Deployment", json!({"spec": {"template": template}}), "/spec/template"),
        ("StatefulSet", json!({"spec": {"template": template}}), "/spec/template"),
        ("DaemonSet", json!({"spec": {"template": template}}), "/spec/template"),
        ("ReplicaSet", json!({"spec": {"template": template}}), "/spec/template"),
        ("Job", json!({"spec": {"template": template}}), "/spec/template"),
        (
            "CronJob",
            json!({"spec": {"jobTemplate": {"spec": {"template": template}}}}),
            "/spec/jobTemplate/spec/template",
        ),
        ("Pod", template.clone(), ""),
    ] {
        document["kind"] = kind.into();
        let done = inject_workload(&mut document, "shop", &Settings::default(), true).expect("injected");
        assert!(matches!(done, Workload::Injected { .. }), "{kind}: {done:?}");
        let spec = &document.pointer(pointer).expect("still there")["spec"];
        assert_eq!(names(&spec["initContainers"]), [INIT, SIDECAR], "{kind}");
    }
    let mut service = json!({"kind": "Service", "spec": {}});
    assert_eq!(
        inject_workload(&mut service, "shop", &Settings::default(), true),
        Ok(Workload::Other)
    );
    let mut broken = json!({"kind": "Job", "spec": {"template": {"spec": {}}}});
    let refused = inject_workload(&mut broken, "shop", &Settings::default(), true).expect_err("refused");
    assert_eq!(refused.field, "spec.template.spec.containers");
}
