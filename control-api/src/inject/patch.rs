//! The difference of two JSON values as a JSON Patch (RFC 6902): objects field by field, everything else whole. Called by
//! `webhook`, whose answer to the API server is such a patch.

use serde_json::{Map, Value, json};

/// What makes `old` into `new`.
pub fn operations(old: &Value, new: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    compare("", old, new, &mut operations);
    operations
}

fn compare(path: &str, old: &Value, new: &Value, operations: &mut Vec<Value>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => compare_fields(path, old, new, operations),
        (old, new) if old != new => operations.push(json!({"op": "replace", "path": path, "value": new})),
        _ => {}
    }
}

fn compare_fields(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, operations: &mut Vec<Value>) {
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        operations.push(json!({"op": "remove", "path": below(path, key)}));
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) => compare(&below(path, key), before, value, operations),
            None => operations.push(json!({"op": "add", "path": below(path, key), "value": value})),
        }
    }
}

fn below(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_patched_and_keys_are_escaped() {
        let old = json!({"a": {"x/y": 1, "same": [1], "gone": 0}, "list": [1, 2]});
        let new = json!({"a": {"x/y": 2, "same": [1], "n~w": 3}, "list": [0, 1, 2]});
        assert_eq!(
            operations(&old, &new),
            [
                json!({"op": "remove", "path": "/a/gone"}),
                json!({"op": "add", "path": "/a/n~0w", "value": 3}),
                json!({"op": "replace", "path": "/a/x~1y", "value": 2}),
                json!({"op": "replace", "path": "/list", "value": [0, 1, 2]}),
            ]
        );
        assert!(operations(&old, &old).is_empty());
    }
}
