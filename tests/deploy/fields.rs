//! The kinds in `deploy/crds` name the fields that the control plane's readers take: none is missing for `kubectl explain`, and none
//! is promised that nobody reads. Also what each kind must serve.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::find;
use crate::tools::{read, tools};

/// Kind and the readers of its `spec`.
const READERS: [(&str, &[&str]); 5] = [
    (
        "VirtualService",
        &[
            "virtual_service.rs",
            "http_rule.rs",
            "http_match.rs",
            "http_route.rs",
            "http_action.rs",
            "fault.rs",
            "share.rs",
            "mirror.rs",
            "cors.rs",
            "connection_rule.rs",
        ],
    ),
    (
        "DestinationRule",
        &[
            "destination_rule.rs",
            "traffic_policy.rs",
            "connection_pool.rs",
            "load_balancer.rs",
            "locality.rs",
            "outlier_detection.rs",
            "client_tls.rs",
        ],
    ),
    ("ServiceEntry", &["service_entry.rs", "workload_entry.rs"]),
    ("WorkloadEntry", &["workload_entry.rs"]),
    ("Sidecar", &["sidecar.rs", "connection_pool.rs"]),
];
/// What the `Fields` of a reader's source name as taken.
fn taken(source: &str) -> BTreeSet<String> {
    let blocks = source.split("supported: &[").skip(1);
    let names = blocks.flat_map(|block| {
        block
            .split(']')
            .next()
            .unwrap_or_default()
            .split('"')
            .skip(1)
            .step_by(2)
    });
    names.map(str::to_owned).collect()
}

fn described(schema: &Value, names: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        names.insert(name.clone());
        described(inner, names);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            described(&schema[inner], names);
        }
    }
}

#[test]
fn the_kinds_describe_exactly_the_fields_that_are_read() {
    let Some(tools) = tools() else { return };
    let objects = tools.judge(&tools.kustomize("deploy/crds")).documents;
    for (kind, readers) in READERS {
        let crd = find(&objects, "CustomResourceDefinition")
            .find(|crd| crd["spec"]["names"]["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}"));
        let folder = "control-api/src/config";
        let fields: BTreeSet<String> = readers
            .iter()
            .flat_map(|file| taken(&read(&format!("{folder}/{file}"))))
            .collect();
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let mut names = BTreeSet::new();
            described(&version["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut names);
            assert_eq!(names, fields, "{kind} {}", version["name"]);
        }
    }
}

/// Nothing that a user writes may be cut off before somebody can refuse it by name.
fn prunes(schema: &Value, path: &str, found: &mut Vec<String>) {
    let free = schema["x-kubernetes-preserve-unknown-fields"] == true || schema["additionalProperties"].is_object();
    if schema["type"] == "object" && !free {
        found.push(path.to_owned());
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        prunes(inner, &format!("{path}.{name}"), found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            prunes(&schema[inner], path, found);
        }
    }
}

#[test]
fn the_kinds_serve_every_version_with_a_status_and_cut_nothing_off() {
    let Some(tools) = tools() else { return };
    let objects = tools.judge(&tools.kustomize("deploy/crds")).documents;
    let short = |crd: &Value| crd["spec"]["names"]["shortNames"][0].as_str().unwrap_or("-").to_owned();
    let mut seen = BTreeSet::new();
    for crd in find(&objects, "CustomResourceDefinition") {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap();
        seen.insert(format!("{kind} {}", short(crd)));
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let names: Vec<&Value> = versions.iter().map(|version| &version["name"]).collect();
        assert_eq!(names, ["v1", "v1beta1", "v1alpha3"], "{kind}");
        assert_eq!(versions[0]["storage"], true, "{kind}");
        for version in versions {
            assert!(
                version["served"] == true && version["subresources"]["status"].is_object(),
                "{kind}"
            );
            let mut cut = Vec::new();
            for part in ["spec", "status"] {
                prunes(
                    &version["schema"]["openAPIV3Schema"]["properties"][part],
                    part,
                    &mut cut,
                );
            }
            assert!(cut.is_empty(), "{kind}: cuts off unknown fields of {cut:?}");
        }
    }
    let expected = [
        "DestinationRule dr",
        "ServiceEntry se",
        "Sidecar -",
        "VirtualService vs",
        "WorkloadEntry we",
    ];
    assert_eq!(seen, expected.map(str::to_owned).into());
}

#[test]
fn a_field_that_nobody_describes_is_found() {
    let reader = "const A: Fields = Fields { supported: &[\"host\", \"new\"], later: &[\"tls\"] };";
    assert_eq!(taken(reader), ["host", "new"].map(str::to_owned).into());
    let schema = serde_json::json!({"properties": {"host": {}, "list": {"items": {"properties": {"inner": {}}}}}});
    let mut names = BTreeSet::new();
    described(&schema, &mut names);
    assert_eq!(names, ["host", "inner", "list"].map(str::to_owned).into());
    let mut found = Vec::new();
    prunes(
        &serde_json::json!({"type": "object", "properties": {}}),
        "spec",
        &mut found,
    );
    assert_eq!(found, ["spec"]);
}
