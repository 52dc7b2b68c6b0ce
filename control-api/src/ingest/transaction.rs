//! What a transaction comes to, decided before anything is written: for each document created, configured or unchanged,
//! with the object as it will be stored. Pure but for new uids; called by `ingest`.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use crate::{
    config::{self, Document, DocumentSet, Key, Problem},
    store::metadata::{self, Stamp, Write},
};

use super::{Applied, Change, Operation, Refused, Removal, ownership};

/// What the caller wants.
pub(super) enum Intent {
    Put(Vec<Document>),
    Remove(Vec<Removal>),
    /// All that the config folder holds.
    Folder(Vec<Document>),
}

impl Intent {
    /// The problems of the would-be world with the places where this transaction's author finds them: a document that
    /// did not change remembers where it was read the first time, or after a restart nothing.
    pub(super) fn locate(&self, mut problems: Vec<Problem>) -> Vec<Problem> {
        let (Self::Put(documents) | Self::Folder(documents)) = self else {
            return problems;
        };
        for problem in &mut problems {
            let named =
                |document: &&Document| document.key.kind.as_str() == problem.kind && document.key.name == problem.name;
            // A problem does not say its namespace: where two could be meant, neither is.
            let mut named = documents.iter().filter(named);
            if let (Some(document), None) = (named.next(), named.next()) {
                problem.file.clone_from(&document.origin.file);
                problem.line = document.origin.line;
            }
        }
        problems
    }
}

/// The changes of one transaction, in the order of the request.
pub(super) struct Plan(Vec<Change>);

impl Plan {
    /// Whether nothing would change.
    pub(super) fn is_empty(&self) -> bool {
        self.writes().next().is_none()
    }

    /// Every key of the request.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|change| &change.key)
    }

    /// Each key that changes, with its new document, or `None` where it is removed.
    pub(super) fn writes(&self) -> impl Iterator<Item = (&Key, Option<&Arc<Document>>)> {
        self.0
            .iter()
            .filter(|change| change.operation.writes())
            .map(|change| (&change.key, change.document.as_ref()))
    }

    /// `documents` as they would be.
    pub(super) fn upon(&self, documents: &DocumentSet) -> DocumentSet {
        let mut documents = documents.clone();
        for (key, document) in self.writes() {
            match document {
                Some(document) => documents.insert(Arc::clone(document)),
                None => drop(documents.remove(key)),
            }
        }
        documents
    }

    pub(super) fn applied(self, revision: u64, warnings: Vec<String>) -> Applied {
        Applied {
            revision,
            changes: self.0,
            warnings,
        }
    }
}

/// Decides what `intent` does to `documents`, which stand at revision `base`, beside a config folder.
pub(super) fn plan(
    intent: &Intent,
    documents: &DocumentSet,
    base: u64,
    now: &str,
    folder: Option<&Path>,
) -> Result<Plan, Refused> {
    match intent {
        Intent::Put(new) => {
            ownership::permit(new.iter().map(|document| &document.key), documents, folder)?;
            plan_put(new, documents, base + 1, now)
        }
        Intent::Remove(removals) => {
            ownership::permit(removals.iter().map(|removal| &removal.key), documents, folder)?;
            plan_remove(removals, documents)
        }
        Intent::Folder(new) => {
            let mut plan = plan_put(new, documents, base + 1, now)?;
            let vanished = ownership::vanished(new, documents).into_iter().map(Removal::from);
            let removed = plan_remove(&vanished.collect::<Vec<_>>(), documents)?;
            plan.0.extend(removed.0);
            Ok(plan)
        }
    }
}

fn plan_put(new: &[Document], documents: &DocumentSet, revision: u64, now: &str) -> Result<Plan, Refused> {
    refuse_repeated(new)?;
    let (mut changes, mut problems) = (Vec::with_capacity(new.len()), Vec::new());
    for document in new {
        match plan_document(document, documents.get(&document.key), revision, now)? {
            Ok(change) => changes.push(change),
            Err(problem) => problems.push(*problem),
        }
    }
    if problems.is_empty() {
        Ok(Plan(changes))
    } else {
        Err(Refused::Invalid(problems))
    }
}

/// The inner error is a problem to be told together with others', the outer one ends the transaction.
fn plan_document(
    new: &Document,
    stored: Option<&Arc<Document>>,
    revision: u64,
    now: &str,
) -> Result<Result<Change, Box<Problem>>, Refused> {
    let (key, old) = (&new.key, stored.map(|document| &document.object));
    if let Some(reason) = metadata::conflict(&new.object, old) {
        return Err(Refused::Conflict {
            key: key.clone(),
            reason,
            origin: new.origin.clone(),
        });
    }
    let uid = new_uid();
    let stamp = Stamp {
        revision,
        now,
        uid: &uid,
    };
    let (operation, document) = match metadata::merge(&new.object, old, stamp) {
        Write::Unchanged => (Operation::Unchanged, Ok(stored.cloned())),
        Write::Created(object) => (Operation::Created, with_object(new, &object).map(Some)),
        Write::Configured(object) => (Operation::Configured, with_object(new, &object).map(Some)),
    };
    Ok(document.map(|document| Change {
        key: key.clone(),
        operation,
        document,
    }))
}

/// The document as a start from the store would read it, with the place where its author wrote it.
fn with_object(document: &Document, object: &serde_json::Value) -> Result<Arc<Document>, Box<Problem>> {
    let origin = &document.origin;
    let mut stored = config::from_stored(object).map_err(|problem| Problem {
        file: origin.file.clone(),
        line: origin.line,
        ..problem
    })?;
    stored.origin = origin.clone();
    Ok(Arc::new(stored))
}

/// The order of documents in a transaction means nothing, so the same key twice means two things at once.
fn refuse_repeated(new: &[Document]) -> Result<(), Refused> {
    let mut seen: HashMap<&Key, &Document> = HashMap::new();
    let mut problems = Vec::new();
    for document in new {
        if let Some(first) = seen.insert(&document.key, document) {
            problems.push(Problem {
                file: document.origin.file.clone(),
                line: document.origin.line,
                kind: document.key.kind.as_str().to_owned(),
                name: document.key.name.clone(),
                field: "metadata.name".to_owned(),
                reason: format!(
                    "is in this transaction twice (namespace {}), first at {}:{}",
                    document.key.namespace, first.origin.file, first.origin.line
                ),
            });
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refused::Invalid(problems))
    }
}

/// What is not there is not found, whichever version of it was expected.
fn plan_remove(removals: &[Removal], documents: &DocumentSet) -> Result<Plan, Refused> {
    let mut seen = HashSet::new();
    let mut changes = Vec::with_capacity(removals.len());
    for Removal { key, expected, origin } in removals {
        let stored = documents.get(key).filter(|_| seen.insert(key));
        let conflict = stored.and_then(|stored| metadata::conflict(expected, Some(&stored.object)));
        if let Some(reason) = conflict {
            return Err(Refused::Conflict {
                key: key.clone(),
                reason,
                origin: origin.clone(),
            });
        }
        changes.push(Change {
            key: key.clone(),
            operation: stored.map_or(Operation::NotFound, |_| Operation::Deleted),
            document: None,
        });
    }
    Ok(Plan(changes))
}

/// A random (version 4) UUID.
fn new_uid() -> String {
    let random: u128 = rand::random();
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::new_uid;

    #[test]
    fn a_uid_is_a_version_4_uuid() {
        for _ in 0..100 {
            let uid = new_uid();
            assert_eq!(uid.len(), 36, "{uid}");
            assert_eq!(uid.as_bytes().get(14), Some(&b'4'), "{uid}");
            assert!(
                matches!(uid.as_bytes().get(19), Some(b'8' | b'9' | b'a' | b'b')),
                "{uid}"
            );
        }
        assert_ne!(new_uid(), new_uid());
    }
}
