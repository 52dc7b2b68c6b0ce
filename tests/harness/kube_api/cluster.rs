//! What the stand-in holds: objects with resource versions and generations, the history that watches are fed from, and
//! who applied which part of a status. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::{Map, Value, json};

pub(super) const REGISTRATION: &str = "admissionregistration.k8s.io";
/// Group, version, plural, kind.
pub(super) const RESOURCES: [(&str, &str, &str, &str); 14] = [
    ("", "v1", "pods", "Pod"),
    ("", "v1", "services", "Service"),
    ("", "v1", "namespaces", "Namespace"),
    ("", "v1", "nodes", "Node"),
    ("", "v1", "secrets", "Secret"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    (
        REGISTRATION,
        "v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
    ),
    (
        REGISTRATION,
        "v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
    ),
    ("networking.istio.io", "v1", "virtualservices", "VirtualService"),
    ("networking.istio.io", "v1", "destinationrules", "DestinationRule"),
    ("networking.istio.io", "v1", "serviceentries", "ServiceEntry"),
    ("networking.istio.io", "v1", "workloadentries", "WorkloadEntry"),
    ("networking.istio.io", "v1", "sidecars", "Sidecar"),
    ("networking.istio.io", "v1", "gateways", "Gateway"),
];

/// A write of a status.
#[derive(Clone, Debug)]
pub struct Patched {
    pub plural: String,
    pub name: String,
    pub manager: String,
    pub content_type: String,
    pub body: Value,
    pub at: Instant,
}

/// Namespace and name.
type Name = (String, String);

pub(super) struct Event {
    pub revision: u64,
    pub plural: String,
    pub kind: &'static str,
    pub object: Value,
}

#[derive(Default)]
struct Stored {
    object: Value,
    /// Manager -> the status that it applied last.
    applied: BTreeMap<String, Value>,
}

#[derive(Default)]
pub(super) struct Cluster {
    pub revision: u64,
    objects: BTreeMap<String, BTreeMap<Name, Stored>>,
    missing: BTreeSet<String>,
    /// Resources, and `RESOURCE/status`, that nobody may touch.
    pub forbidden: BTreeSet<String>,
    pub refusals: usize,
    pub history: Vec<Event>,
    /// The first revision that a watch may start from.
    pub oldest: u64,
    /// How often everything expired.
    pub expiries: u64,
    pub held: bool,
    pub patched: Vec<Patched>,
    pub lists: BTreeMap<String, usize>,
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object["metadata"][name].as_str().unwrap_or_default()
}

impl Cluster {
    pub(super) fn is_installed(&self, plural: &str) -> bool {
        !self.missing.contains(plural)
    }

    pub(super) fn install(&mut self, plural: &str, is_there: bool) {
        if is_there {
            self.missing.remove(plural);
        } else {
            self.missing.insert(plural.to_owned());
        }
    }

    pub(super) fn expire(&mut self) {
        self.revision += 1;
        self.oldest = self.revision;
        self.expiries += 1;
        self.history.clear();
    }

    pub(super) fn put(&mut self, mut object: Value) {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        let resource = RESOURCES.iter().find(|(.., known)| *known == kind);
        let (.., plural, _) = resource.unwrap_or_else(|| panic!("the stand-in knows no kind {kind:?}"));
        let name = (text(&object, "namespace").to_owned(), text(&object, "name").to_owned());
        self.revision += 1;
        let stored = self
            .objects
            .entry((*plural).to_owned())
            .or_default()
            .entry(name)
            .or_default();
        let old = &stored.object;
        let is_new = old.is_null();
        let metadata = &mut object["metadata"];
        if is_new {
            metadata["uid"] = format!("uid-{}", self.revision).into();
            metadata["creationTimestamp"] = "2026-01-02T03:04:05Z".into();
        } else {
            metadata["uid"] = old["metadata"]["uid"].clone();
            metadata["creationTimestamp"] = old["metadata"]["creationTimestamp"].clone();
        }
        let generation = old["metadata"]["generation"].as_u64().unwrap_or_default();
        let is_other = is_new || old["spec"] != object["spec"];
        object["metadata"]["generation"] = (generation + u64::from(is_other)).into();
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        if object.get("status").is_none() && !old["status"].is_null() {
            object["status"] = old["status"].clone();
        }
        stored.object = object.clone();
        self.tell(plural, if is_new { "ADDED" } else { "MODIFIED" }, object);
    }

    pub(super) fn delete(&mut self, plural: &str, namespace: &str, name: &str) {
        let name = (namespace.to_owned(), name.to_owned());
        let stored = self.objects.get_mut(plural).and_then(|all| all.remove(&name));
        let mut object = stored
            .unwrap_or_else(|| panic!("no {plural} {name:?} to delete"))
            .object;
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        self.tell(plural, "DELETED", object);
    }

    fn tell(&mut self, plural: &str, kind: &'static str, object: Value) {
        self.history.push(Event {
            revision: self.revision,
            plural: plural.to_owned(),
            kind,
            object,
        });
    }

    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        let name = (namespace.to_owned(), name.to_owned());
        self.objects.get(plural)?.get(&name).map(|stored| &stored.object)
    }

    /// In a namespace, or in all.
    pub(super) fn all<'a>(&'a self, plural: &str, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Value> {
        let all = self.objects.get(plural).into_iter().flatten();
        let wanted = all.filter(move |((of, _), _)| namespace.is_none_or(|namespace| of == namespace));
        wanted.map(|(_, stored)| &stored.object)
    }

    /// A write of a whole object as a client asks for it: `None` where it is another than the one that was read.
    pub(super) fn write(&mut self, plural: &str, object: Value, is_new: bool) -> Option<Value> {
        let (namespace, name) = (text(&object, "namespace").to_owned(), text(&object, "name").to_owned());
        let stands = self.get(plural, &namespace, &name);
        let version = |object: &Value| text(object, "resourceVersion").to_owned();
        let fits = match stands {
            Some(stands) => !is_new && [version(stands), String::new()].contains(&version(&object)),
            None => is_new,
        };
        if !fits {
            return None;
        }
        self.put(object);
        self.get(plural, &namespace, &name).cloned()
    }

    /// A strategic merge patch, whose lists are merged by `name`. `None`: as with `write`.
    pub(super) fn patch(&mut self, plural: &str, (namespace, name): (&str, &str), patch: &Value) -> Option<Value> {
        let mut object = self.get(plural, namespace, name)?.clone();
        merge_by_name(&mut object, patch);
        self.write(plural, object, false)
    }

    /// A status by server-side apply or by merge. `None`: there is no such object.
    pub(super) fn patch_status(&mut self, namespace: &str, patched: Patched) -> Option<Value> {
        let (plural, name) = (patched.plural.clone(), (namespace.to_owned(), patched.name.clone()));
        self.patched.push(patched.clone());
        let stored = self.objects.get_mut(&plural)?.get_mut(&name)?;
        let mut status = stored.object["status"].take();
        let new = &patched.body["status"];
        if patched.content_type.contains("apply-patch") {
            let old = stored
                .applied
                .insert(patched.manager.clone(), new.clone())
                .unwrap_or_default();
            let others: Vec<&Value> = stored
                .applied
                .iter()
                .filter(|(manager, _)| **manager != patched.manager)
                .map(|(_, status)| status)
                .collect();
            disown(&mut status, &old, new, &others);
        }
        merge(&mut status, new);
        stored.object["status"] = status;
        self.revision += 1;
        stored.object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = stored.object.clone();
        self.tell(&plural, "MODIFIED", object.clone());
        Some(object)
    }
}

/// Removes what its only owner does not say any more.
fn disown(target: &mut Value, old: &Value, new: &Value, others: &[&Value]) {
    let (Some(fields), Some(old)) = (target.as_object_mut(), old.as_object()) else {
        return;
    };
    for (name, value) in old {
        let of_others: Vec<&Value> = others.iter().filter_map(|other| other.get(name)).collect();
        let next = new.get(name).unwrap_or(&Value::Null);
        match fields.get_mut(name) {
            Some(_) if next.is_null() && of_others.is_empty() => drop(fields.remove(name)),
            Some(inner) => disown(inner, value, next, &of_others),
            None => {}
        }
    }
}

/// As a JSON merge patch: lists are replaced, `null` removes.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(json!(null)), value);
        }
    }
}

fn merge_by_name(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(fields), Value::Object(patch)) => {
            for (name, value) in patch {
                merge_by_name(fields.entry(name.clone()).or_insert(json!(null)), value);
            }
        }
        (Value::Array(items), Value::Array(patch)) => {
            for value in patch {
                match items.iter_mut().find(|item| item["name"] == value["name"]) {
                    Some(item) => merge_by_name(item, value),
                    None => items.push(value.clone()),
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(manager: &str, kind: &str, status: Value) -> Patched {
        Patched {
            plural: "virtualservices".into(),
            name: "a".into(),
            manager: manager.into(),
            content_type: kind.into(),
            body: json!({"status": status}),
            at: Instant::now(),
        }
    }

    #[test]
    fn an_applied_field_goes_with_its_only_owner_and_a_generation_counts_specs() {
        let mut cluster = Cluster::default();
        let object =
            |hosts: &str| json!({"kind": "VirtualService", "metadata": {"namespace": "n", "name": "a"}, "spec": hosts});
        cluster.put(object("x"));
        let apply = "application/apply-patch+yaml";
        cluster.patch_status("n", patch("one", apply, json!({"both": 1, "map": {"one": 1}})));
        cluster.patch_status("n", patch("two", apply, json!({"both": 1, "map": {"two": 2}})));
        let status = cluster.patch_status("n", patch("one", apply, json!({}))).unwrap()["status"].clone();
        assert_eq!(status, json!({"both": 1, "map": {"two": 2}}));
        let merged = patch("", "application/merge-patch+json", json!({"map": {"two": null}}));
        let object_now = cluster.patch_status("n", merged).unwrap();
        assert_eq!(object_now["status"], json!({"both": 1, "map": {}}));
        assert_eq!(object_now["metadata"]["generation"], 1);
        cluster.put(object("y"));
        let object_now = cluster.get("virtualservices", "n", "a").unwrap();
        assert_eq!(
            (&object_now["metadata"]["generation"], &object_now["status"]["both"]),
            (&json!(2), &json!(1))
        );
    }
}
