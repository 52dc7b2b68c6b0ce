//! Secrets that a pod wants its sidecar to have.

use super::*;

#[test]
fn the_sidecar_has_the_secrets_that_the_pod_names_and_only_the_sidecar() {
    let pod = injected(
        &with_annotations(json!({"sidecar.tsunagi.dev/credentials": "shop-tls, bank.example.com,shop-tls"})),
        true,
    )
    .template;
    let mounts: Vec<(&str, &str)> = sidecar(&pod)["volumeMounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mount| Some((mount["name"].as_str()?, mount["mountPath"].as_str()?)))
        .collect();
    assert_eq!(
        mounts[1..],
        [
            ("tsunagi-credential-0", "/etc/tsunagi/credentials/bank.example.com"),
            ("tsunagi-credential-1", "/etc/tsunagi/credentials/shop-tls"),
        ]
    );
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    let secret = |name: &str| json!({"secretName": name, "optional": true});
    assert!(volumes.contains(&json!({"name": "tsunagi-credential-1", "secret": secret("shop-tls")})));
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], Value::Null);
    for wrong in ["../etc", "Shop", "a/b", ".a"] {
        let refused = run(
            &with_annotations(json!({"sidecar.tsunagi.dev/credentials": wrong})),
            true,
        );
        let refusal = refused.expect_err("no name of a Secret");
        assert_eq!(refusal.field, "metadata.annotations[sidecar.tsunagi.dev/credentials]");
    }
}
