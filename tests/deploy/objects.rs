//! What a set of rendered objects must say beyond its schema: names that lead somewhere, least privilege, no root. Each rule gives
//! what is wrong, so that a broken sample can prove it.

use serde_json::Value;

pub(crate) fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

pub(crate) fn find<'a>(objects: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    let kind = kind.to_owned();
    objects.iter().filter(move |object| object["kind"] == *kind)
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// Whether `labels` has all of `selector`.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object();
    selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Selectors, ports, volumes and accounts that lead nowhere.
pub(crate) fn loose_ends(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let deployments: Vec<&Value> = find(objects, "Deployment").collect();
    let templates: Vec<&Value> = deployments.iter().map(|one| &one["spec"]["template"]).collect();
    let selected = |selector: &Value| {
        templates
            .iter()
            .any(|template| selects(selector, &template["metadata"]["labels"]))
    };
    for deployment in &deployments {
        let template = &deployment["spec"]["template"];
        if !selects(
            &deployment["spec"]["selector"]["matchLabels"],
            &template["metadata"]["labels"],
        ) {
            found.push(format!("{}: selects other pods than its own", name(deployment)));
        }
        for container in list(template, "/spec/containers") {
            for mount in list(container, "/volumeMounts") {
                if list(template, "/spec/volumes").all(|volume| volume["name"] != mount["name"]) {
                    found.push(format!("{}: no volume {}", name(deployment), mount["name"]));
                }
            }
        }
        for volume in list(template, "/spec/volumes") {
            let map = &volume["configMap"]["name"];
            if !map.is_null() && find(objects, "ConfigMap").all(|one| one["metadata"]["name"] != *map) {
                found.push(format!("{}: no ConfigMap {map}", name(deployment)));
            }
        }
        let account = &template["spec"]["serviceAccountName"];
        if find(objects, "ServiceAccount").all(|one| one["metadata"]["name"] != *account) {
            found.push(format!("{}: no ServiceAccount {account}", name(deployment)));
        }
    }
    for service in find(objects, "Service") {
        let selector = &service["spec"]["selector"];
        if !selected(selector) {
            found.push(format!("{}: selects nobody", name(service)));
        }
        for port in list(service, "/spec/ports") {
            let named = |template: &&Value| {
                list(template, "/spec/containers")
                    .flat_map(|container| list(container, "/ports"))
                    .any(|one| one["name"] == port["targetPort"])
            };
            if !templates.iter().any(named) {
                found.push(format!(
                    "{}: no container has the port {}",
                    name(service),
                    port["targetPort"]
                ));
            }
        }
    }
    for (kind, path) in [
        ("PodDisruptionBudget", "/spec/selector/matchLabels"),
        ("NetworkPolicy", "/spec/podSelector/matchLabels"),
    ] {
        for object in find(objects, kind) {
            if !object.pointer(path).is_some_and(&selected) {
                found.push(format!("{}: selects nobody", name(object)));
            }
        }
    }
    for scaler in find(objects, "HorizontalPodAutoscaler") {
        let target = &scaler["spec"]["scaleTargetRef"]["name"];
        if deployments.iter().all(|one| one["metadata"]["name"] != *target) {
            found.push(format!("{}: no Deployment {target}", name(scaler)));
        }
    }
    for hook in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"].map(|kind| find(objects, kind)) {
        for webhook in hook.flat_map(|object| list(object, "/webhooks")) {
            let to = &webhook["clientConfig"]["service"];
            let leads = find(objects, "Service").any(|service| {
                service["metadata"]["name"] == to["name"]
                    && service["metadata"]["namespace"] == to["namespace"]
                    && list(service, "/spec/ports").any(|port| port["port"] == to["port"])
            });
            if !leads {
                found.push(format!("webhook {}: leads to no service", webhook["name"]));
            }
        }
    }
    found
}

/// Containers that may more than the restricted standard for pods allows.
pub(crate) fn privileges(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for deployment in find(objects, "Deployment") {
        let pod = &deployment["spec"]["template"]["spec"];
        let mut need = |holds: bool, what: &str| {
            if !holds {
                found.push(format!("{}: {what}", name(deployment)));
            }
        };
        need(pod["securityContext"]["runAsNonRoot"] == true, "runAsNonRoot");
        need(
            pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
            "seccompProfile",
        );
        for container in list(pod, "/containers") {
            let context = &container["securityContext"];
            need(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
            need(context["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
            need(
                context["capabilities"]["drop"] == serde_json::json!(["ALL"]),
                "capabilities",
            );
            need(
                container["resources"]["requests"]["memory"].is_string(),
                "memory request",
            );
            need(container["resources"]["limits"]["memory"].is_string(), "memory limit");
        }
    }
    found
}

/// Permissions that reach further than the control plane's work.
pub(crate) fn permissions(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for role in find(objects, "ClusterRole").chain(find(objects, "Role")) {
        for rule in list(role, "/rules") {
            let has = |path: &str, what: &str| list(rule, path).any(|one| one == what);
            let by_name = list(rule, "/resourceNames").next().is_some();
            let writes = ["create", "update", "patch", "delete", "deletecollection"]
                .iter()
                .any(|verb| has("/verbs", verb));
            let status_only =
                list(rule, "/resources").all(|one| one.as_str().is_some_and(|one| one.ends_with("/status")));
            let mut need = |holds: bool, what: &str| {
                if !holds {
                    found.push(format!("{}: {what}: {rule}", name(role)));
                }
            };
            for path in ["/apiGroups", "/resources", "/verbs"] {
                need(!has(path, "*"), "everything");
            }
            if has("/resources", "secrets") {
                need(role["kind"] == "Role", "secrets of every namespace");
                need(
                    by_name || list(rule, "/verbs").all(|verb| verb == "create"),
                    "secrets by any name",
                );
            } else if writes {
                need(by_name || status_only, "writes to any object");
            }
        }
    }
    found
}

/// Webhooks that could stop the cluster, or the control plane itself.
pub(crate) fn admission(objects: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for webhook in find(objects, "MutatingWebhookConfiguration").flat_map(|object| list(object, "/webhooks")) {
        let spared = list(webhook, "/namespaceSelector/matchExpressions")
            .filter(|one| one["key"] == "kubernetes.io/metadata.name" && one["operator"] == "NotIn");
        let spared: Vec<&Value> = spared.flat_map(|one| list(one, "/values")).collect();
        for namespace in ["kube-system", "tsunagi-system"] {
            if !spared.iter().any(|one| **one == *namespace) {
                found.push(format!("{}: does not spare {namespace}", webhook["name"]));
            }
        }
        if list(webhook, "/objectSelector/matchExpressions").next().is_none() {
            found.push(format!("{}: no pod can opt out", webhook["name"]));
        }
    }
    found
}
