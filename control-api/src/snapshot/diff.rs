//! Which documents are not those of the previous world. Both lists are sorted by key; a document that did not change is
//! the same allocation, so the common case compares pointers only.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::config::Document;

/// Documents that went and documents that came; one that was replaced is in both.
#[derive(Default)]
pub(super) struct Difference {
    pub removed: Vec<Arc<Document>>,
    pub added: Vec<Arc<Document>>,
}

/// Sorted by key. Of two with one key the later stays.
pub(super) fn sorted(mut documents: Vec<Arc<Document>>, previous: &[Arc<Document>]) -> Vec<Arc<Document>> {
    if !is_sorted(&documents, previous) {
        documents.sort_by(|one, other| one.key.cmp(&other.key));
        documents.reverse();
        documents.dedup_by(|one, other| one.key == other.key);
        documents.reverse();
    }
    documents
}

/// Neighbours that were neighbours before need no comparison of their keys.
fn is_sorted(documents: &[Arc<Document>], previous: &[Arc<Document>]) -> bool {
    let mut old = previous.iter().peekable();
    let mut last: Option<&Arc<Document>> = None;
    for document in documents {
        let follows = old.peek().is_some_and(|same| Arc::ptr_eq(same, document));
        if follows {
            old.next();
        } else {
            if last.is_some_and(|last| last.key >= document.key) {
                return false;
            }
            while old.next_if(|old| old.key <= document.key).is_some() {}
        }
        last = Some(document);
    }
    true
}

pub(super) fn between(previous: &[Arc<Document>], next: &[Arc<Document>]) -> Difference {
    let mut difference = Difference::default();
    let (mut old, mut new) = (previous.iter().peekable(), next.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return difference,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) => {
                old.next();
                new.next();
                continue;
            }
            (Some(one), Some(other)) => one.key.cmp(&other.key),
        };
        let same = order == Ordering::Equal
            && old
                .peek()
                .zip(new.peek())
                .is_some_and(|(one, other)| one.means_the_same(other));
        let removed = if order.is_le() { old.next() } else { None };
        let added = if order.is_ge() { new.next() } else { None };
        // A document that means the same is taken over too: what points at the old one stays right.
        if !same {
            difference.removed.extend(removed.cloned());
            difference.added.extend(added.cloned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn service(name: &str, port: u16) -> Arc<Document> {
        let text = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: {port}}}]}}}}"
        );
        Arc::new(parse("", &text, "").unwrap().remove(0))
    }

    fn names(documents: &[Arc<Document>]) -> Vec<&str> {
        documents.iter().map(|document| document.key.name.as_str()).collect()
    }

    #[test]
    fn only_what_changed_its_meaning_differs() {
        let old = vec![service("a", 1), service("b", 1), service("c", 1), service("d", 1)];
        let new = vec![old[0].clone(), service("b", 2), service("c", 1), service("e", 1)];
        let difference = between(&old, &new);
        assert_eq!(names(&difference.removed), ["b", "d"]);
        assert_eq!(names(&difference.added), ["b", "e"]);
    }

    #[test]
    fn documents_in_any_order_are_sorted_and_the_later_of_two_stays() {
        let [a, b, c] = ["a", "b", "c"].map(|name| service(name, 1));
        let again = service("b", 2);
        let documents = sorted(vec![c.clone(), b.clone(), a.clone(), again.clone()], &[]);
        assert_eq!(names(&documents), ["a", "b", "c"]);
        assert!(Arc::ptr_eq(&documents[1], &again));
        let previous = [a.clone(), b.clone(), c.clone()];
        for order in [[&b, &a, &c], [&a, &c, &b], [&c, &a, &b], [&a, &b, &c]] {
            let documents = sorted(order.map(Arc::clone).to_vec(), &previous);
            assert_eq!(names(&documents), ["a", "b", "c"]);
        }
    }
}
