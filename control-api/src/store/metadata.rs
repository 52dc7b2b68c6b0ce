//! The part of `metadata` that the store owns, kept as Kubernetes keeps it: `uid` and `creationTimestamp` are given once,
//! `generation` counts changes of what is asked for, `resourceVersion` is the revision of the last change. Pure; called
//! by `ingest` for each document of a transaction.

use serde_json::{Map, Value};

/// Fields that a client may send back (they are in what `get` shows) and that never make a difference by themselves.
const OWNED: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "selfLink",
];

/// What a write of one object comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Created(Value),
    Configured(Value),
    Unchanged,
}

/// What a new object or version gets.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    pub revision: u64,
    /// RFC 3339.
    pub now: &'a str,
    pub uid: &'a str,
}

/// The object to store when `new` is written over `old`.
pub fn merge(new: &Value, old: Option<&Value>, stamp: Stamp<'_>) -> Write {
    let Some(old) = old else {
        return Write::Created(with_owned(new, stamp.uid, stamp.now, 1, stamp.revision));
    };
    if same(new, old) {
        return Write::Unchanged;
    }
    let generation = field(old, "generation").and_then(Value::as_u64).unwrap_or(1);
    let generation = if asks_the_same(new, old) {
        generation
    } else {
        generation + 1
    };
    let text = |name| field(old, name).and_then(Value::as_str);
    Write::Configured(with_owned(
        new,
        text("uid").unwrap_or(stamp.uid),
        text("creationTimestamp").unwrap_or(stamp.now),
        generation,
        stamp.revision,
    ))
}

/// Why `new` must not be written over `old`: it was made from another version, or for another object of that name. What
/// is not there conflicts with nothing: a document that another cluster exported says the version that it has there.
pub fn conflict(new: &Value, old: Option<&Value>) -> Option<String> {
    let differs = |name| {
        let expected = field(new, name)?.as_str().filter(|text| !text.is_empty())?;
        let stored = field(old?, name)?.as_str()?;
        (expected != stored).then_some((expected, stored))
    };
    let modified = differs("resourceVersion").map(|(expected, stored)| {
        format!(
            "the object has been modified: resourceVersion is {stored}, not {expected}; apply your changes to the latest version and try again"
        )
    });
    modified.or_else(|| {
        let (expected, stored) = differs("uid")?;
        Some(format!(
            "the object was deleted and made anew: its uid is {stored}, not {expected}"
        ))
    })
}

/// The revision that last changed a stored object; 0 when it does not say.
pub fn changed_at(object: &Value) -> u64 {
    let version = field(object, "resourceVersion").and_then(Value::as_str);
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get("metadata")?.get(name)
}

/// Equal in everything that its author decides. The API version is a way of writing, not a part of the object.
fn same(new: &Value, old: &Value) -> bool {
    let authored = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("apiVersion");
            if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.retain(|name, value| !OWNED.contains(&name.as_str()) && !empty(value));
            }
        }
        object
    };
    authored(new) == authored(old)
}

fn empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Equal but for metadata and status: no new generation.
fn asks_the_same(new: &Value, old: &Value) -> bool {
    let asked = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "metadata" | "status"));
        }
        object
    };
    asked(new) == asked(old)
}

fn with_owned(new: &Value, uid: &str, created: &str, generation: u64, revision: u64) -> Value {
    let mut object = new.clone();
    let Some(fields) = object.as_object_mut() else {
        return object;
    };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|name, _| !OWNED.contains(&name.as_str()));
        metadata.insert("uid".to_owned(), uid.into());
        metadata.insert("creationTimestamp".to_owned(), created.into());
        metadata.insert("generation".to_owned(), generation.into());
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(weight: u32) -> Value {
        json!({"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"weight": weight}})
    }

    fn stamp(revision: u64) -> Stamp<'static> {
        Stamp {
            revision,
            now: "2026-01-02T03:04:05Z",
            uid: "u-1",
        }
    }

    fn stored(write: Write) -> Value {
        match write {
            Write::Created(object) | Write::Configured(object) => object,
            Write::Unchanged => Value::Null,
        }
    }

    #[test]
    fn a_new_object_gets_its_metadata() {
        let object = stored(merge(&rule(1), None, stamp(7)));
        assert_eq!(
            object["metadata"],
            json!({"name": "n", "uid": "u-1", "creationTimestamp": "2026-01-02T03:04:05Z",
                   "generation": 1, "resourceVersion": "7"})
        );
    }

    #[test]
    fn what_another_cluster_exported_is_made_anew() {
        let mut exported = rule(1);
        exported["metadata"]["resourceVersion"] = "48151623".into();
        exported["metadata"]["uid"] = "theirs".into();
        exported["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z".into();
        assert_eq!(conflict(&exported, None), None);
        assert_eq!(merge(&exported, None, stamp(7)), merge(&rule(1), None, stamp(7)));
    }

    #[test]
    fn the_same_again_is_unchanged_even_as_get_showed_it_or_in_another_api_version() {
        let old = stored(merge(&rule(1), None, stamp(7)));
        assert_eq!(merge(&rule(1), Some(&old), stamp(8)), Write::Unchanged);
        assert_eq!(merge(&old, Some(&old), stamp(8)), Write::Unchanged);
        let mut other = rule(1);
        other["apiVersion"] = "v1beta1".into();
        other["metadata"]["labels"] = json!({});
        assert_eq!(merge(&other, Some(&old), stamp(8)), Write::Unchanged);
    }

    #[test]
    fn a_change_of_the_spec_bumps_the_generation_and_keeps_identity() {
        let old = stored(merge(&rule(1), None, stamp(7)));
        let late = Stamp {
            now: "2027-01-01T00:00:00Z",
            uid: "u-2",
            revision: 9,
        };
        let new = stored(merge(&rule(2), Some(&old), late));
        assert_eq!(new["metadata"]["generation"], 2);
        assert_eq!(new["metadata"]["resourceVersion"], "9");
        assert_eq!(new["metadata"]["uid"], "u-1");
        assert_eq!(new["metadata"]["creationTimestamp"], "2026-01-02T03:04:05Z");
        assert_eq!(new["spec"]["weight"], 2);
    }

    #[test]
    fn a_change_of_labels_alone_keeps_the_generation() {
        let old = stored(merge(&rule(1), None, stamp(7)));
        let mut labelled = rule(1);
        labelled["metadata"]["labels"] = json!({"a": "b"});
        let new = stored(merge(&labelled, Some(&old), stamp(8)));
        assert_eq!(new["metadata"]["generation"], 1);
        assert_eq!(new["metadata"]["resourceVersion"], "8");
    }

    #[test]
    fn a_stale_resource_version_or_uid_conflicts_and_the_current_one_does_not() {
        let old = stored(merge(&rule(1), None, stamp(7)));
        let mut new = rule(2);
        assert_eq!(conflict(&new, Some(&old)), None);
        new["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(conflict(&new, Some(&old)), None);
        new["metadata"]["resourceVersion"] = "6".into();
        let reason = conflict(&new, Some(&old)).unwrap_or_default();
        assert!(reason.contains("resourceVersion is 7, not 6"), "{reason}");
        assert_eq!(conflict(&new, None), None);
        new["metadata"]["resourceVersion"] = "7".into();
        new["metadata"]["uid"] = "someone else".into();
        assert!(conflict(&new, Some(&old)).is_some());
    }
}
