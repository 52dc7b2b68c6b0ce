//! What a sidecar may use, and how Istio's own config of a pod is read.

use super::*;

#[test]
fn a_limit_is_never_below_its_request() {
    let settings =
        Settings::parse("resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: 100m, memory: 128Mi}}")
            .expect("good settings");
    let run = |annotations: Value| {
        let template = with_annotations(annotations);
        let subject = Subject {
            template: &template,
            namespace: "shop",
            namespace_labels: None,
        };
        inject(subject, &settings, true)
    };
    let asking = json!({"sidecar.istio.io/proxyCPU": "0.5", "sidecar.tsunagi.dev/proxyMemory": "1G"});
    let Ok(Outcome::Injected(done)) = run(asking) else {
        unreachable!("injected")
    };
    let resources = json!({"requests": {"cpu": "0.5", "memory": "1G"}, "limits": {"cpu": "0.5", "memory": "1G"}});
    for container in [&done.template["spec"]["initContainers"][0], sidecar(&done.template)] {
        assert_eq!(container["resources"], resources);
    }
    for (name, value) in [
        ("sidecar.istio.io/proxyMemoryLimit", "31Mi"),
        ("sidecar.tsunagi.dev/proxyCPULimit", "9m"),
    ] {
        let refused = run(json!({name: value})).expect_err(name);
        assert!(refused.field.contains(name), "{refused}");
    }
}

#[test]
fn what_istio_writes_in_its_config_is_taken_as_istio_means_it() {
    let config = json!({"proxy.istio.io/config": "concurrency: 0\nterminationDrainDuration: 1.5s\n"});
    let done = injected(&with_annotations(config), true).template;
    assert_eq!(env(&done, "TSUNAGI_WORKERS"), None);
    assert_eq!(env(&done, "TSUNAGI_DRAIN_TIMEOUT"), Some("1500ms"));
    let refused = run(&with_annotations(json!({"sidecar.istio.io/proxyMemory": "1e99"})), true).expect_err("too much");
    assert!(refused.field.contains("proxyMemory"), "{refused}");
}
