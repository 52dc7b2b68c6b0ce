//! Whose a document is: one that came from the config folder says so in an annotation, which is stored with it and so
//! survives a restart. Only the folder gives that annotation; every other writer loses it. Called by `transaction`
//! (who may write what) and `folder` (which claims what it reads).

use std::{collections::HashSet, path::Path};

use serde_json::{Map, Value};

use super::Refused;
use crate::config::{Document, DocumentSet, Key, Origin};

/// Its value is the file's path inside the folder, so that the folder may move.
const ANNOTATION: &str = "tsunagi.dev/config-file";
/// A file that was made from `get -o yaml` holds these; the folder means what it says, whatever it was made from.
const EXPECTATIONS: [&str; 2] = ["resourceVersion", "uid"];

/// The file of the config folder that a document came from.
pub(super) fn owner(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str()
}

/// Makes the document the folder's.
pub(super) fn claim(object: &mut Value, file: &str) {
    let Some(metadata) = metadata(object) else { return };
    metadata.retain(|name, _| !EXPECTATIONS.contains(&name.as_str()));
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if !annotations.is_object() {
        *annotations = Value::Object(Map::new());
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(ANNOTATION.to_owned(), file.into());
    }
}

/// Makes the document anyone's.
pub(super) fn disown(object: &mut Value) {
    let Some(metadata) = metadata(object) else { return };
    let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
    let emptied =
        annotations.is_some_and(|annotations| annotations.remove(ANNOTATION).is_some() && annotations.is_empty());
    if emptied {
        metadata.remove("annotations");
    }
}

fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.as_object_mut()
}

/// Refuses a write by anyone but the folder to what is the folder's. Without a folder (`None`) nothing is.
pub(super) fn permit<'a>(
    keys: impl Iterator<Item = &'a Key>,
    documents: &DocumentSet,
    folder: Option<&Path>,
) -> Result<(), Refused> {
    let Some(folder) = folder else { return Ok(()) };
    for key in keys {
        if let Some(file) = documents.get(key).and_then(|document| owner(&document.object)) {
            let reason = format!(
                "it comes from the config folder; change or remove it in {} instead",
                folder.join(file).display()
            );
            return Err(Refused::Conflict {
                key: key.clone(),
                reason,
                origin: Origin::default(),
            });
        }
    }
    Ok(())
}

/// What is the folder's and not in it any more, in order.
pub(super) fn vanished(folder: &[Document], documents: &DocumentSet) -> Vec<Key> {
    let there: HashSet<&Key> = folder.iter().map(|document| &document.key).collect();
    let owned = documents
        .iter()
        .filter(|(_, document)| owner(&document.object).is_some());
    owned
        .map(|(key, _)| key)
        .filter(|key| !there.contains(key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_names_the_file_and_drops_what_the_file_was_made_from() {
        let mut object =
            json!({"metadata": {"name": "n", "uid": "u", "resourceVersion": "7", "annotations": {"a": "b"}}});
        claim(&mut object, "shop/a.yaml");
        assert_eq!(owner(&object), Some("shop/a.yaml"));
        assert_eq!(
            object["metadata"],
            json!({"name": "n", "annotations": {"a": "b", ANNOTATION: "shop/a.yaml"}})
        );
        let mut odd = json!({"metadata": {"annotations": null}});
        claim(&mut odd, "b.yaml");
        assert_eq!(owner(&odd), Some("b.yaml"));
    }

    #[test]
    fn a_disowned_document_is_as_if_it_had_never_been_claimed() {
        for plain in [
            json!({"metadata": {"name": "n"}}),
            json!({"metadata": {"annotations": {"a": "b"}}}),
        ] {
            let mut object = plain.clone();
            claim(&mut object, "a.yaml");
            disown(&mut object);
            assert_eq!(object, plain);
        }
    }
}
