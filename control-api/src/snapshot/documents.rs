//! Documents by a name of theirs: what every index of the catalog is made of.

use std::sync::Arc;

use tsunagi_proto::shards::Shards;

use crate::config::Document;

/// In no particular order.
pub(super) type Documents = Shards<Arc<Vec<Arc<Document>>>>;

/// Adds a document to an index, or takes it away.
pub(super) type Act = fn(&mut Documents, &str, &Arc<Document>);

pub(super) fn put(documents: &mut Documents, name: &str, document: &Arc<Document>) {
    if let Some(list) = documents.entry(name) {
        Arc::make_mut(list).push(Arc::clone(document));
    }
}

pub(super) fn take(documents: &mut Documents, name: &str, document: &Arc<Document>) {
    let Some(list) = documents.entry(name) else { return };
    let list = Arc::make_mut(list);
    list.retain(|other| other.key != document.key);
    if list.is_empty() {
        documents.remove(name);
    }
}

pub(super) fn named<'a>(documents: &'a Documents, name: &str) -> &'a [Arc<Document>] {
    documents.get(name).map(|list| list.as_slice()).unwrap_or_default()
}

/// The oldest first.
pub(super) fn by_age(documents: &Documents, name: &str) -> Vec<Arc<Document>> {
    let mut found = named(documents, name).to_vec();
    found.sort_by(|one, other| one.by_age(other));
    found
}
